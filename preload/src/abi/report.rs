//! The figures as text, JSON or for Prometheus: one table of names, three ways to write it.
//! Written line by line from the stack; nothing is allocated.

use crate::os::limits;
use crate::os::line::Line;
use crate::thread::stats::{self, Stats};

/// Writes the figures to `fd`. False for a format nobody knows.
pub fn write(fd: i32, format: &[u8]) -> bool {
    let figures = figures(&stats::collect());
    match format {
        b"text" => text(fd, &figures),
        b"json" => json(fd, &figures),
        b"prometheus" => prometheus(fd, &figures),
        _ => return false,
    }
    true
}

type Figure = (&'static str, u64);

fn figures(s: &Stats) -> [Figure; 24] {
    [
        ("mapped_bytes", s.mapped_bytes),
        ("live_bytes", s.live_bytes),
        ("live_large_bytes", s.live_large_bytes),
        ("dirty_bytes", s.dirty_bytes),
        ("purged_bytes", s.purged_bytes),
        ("meta_bytes", s.meta_bytes),
        ("deferred_bytes", s.deferred_bytes),
        ("deferred_peak_bytes", s.deferred_peak_bytes),
        ("budget_bytes", s.budget_bytes),
        ("blocks_loaded", s.blocks_loaded),
        ("blocks_retired", s.blocks_retired),
        ("large_allocated", s.large_allocated),
        ("periods_started", s.periods_started),
        ("periods_completed", s.periods_completed),
        ("periods_expedited", s.periods_expedited),
        ("threads_parked", s.threads_parked),
        ("membarriers", s.membarriers),
        ("threads", s.threads),
        ("threads_peak", s.threads_peak),
        ("peak_rss_bytes", limits::peak_rss() as u64),
        ("bad_calls", s.bad_calls),
        ("period_p50_ns", s.period_p50_ns),
        ("period_p99_ns", s.period_p99_ns),
        ("concurrent", s.concurrent),
    ]
}

fn text(fd: i32, figures: &[Figure]) {
    for (name, value) in figures {
        Line::new().str(name).str(" ").dec(*value).emit_to(fd);
    }
}

fn json(fd: i32, figures: &[Figure]) {
    for (at, (name, value)) in figures.iter().enumerate() {
        let mut line = Line::plain();
        line.str(if at == 0 { "{\"" } else { " \"" }).str(name).str("\": ").dec(*value);
        line.str(if at + 1 == figures.len() { "}" } else { "," }).emit_to(fd);
    }
}

fn prometheus(fd: i32, figures: &[Figure]) {
    for (name, value) in figures {
        Line::plain().str("rcumalloc_").str(name).str(" ").dec(*value).emit_to(fd);
    }
}
