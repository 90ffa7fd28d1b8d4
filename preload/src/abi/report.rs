//! The figures as text, JSON or for Prometheus: one table of names, three ways to write it; and the last
//! scans one by one. Written line by line from the stack; nothing is allocated.

use crate::os::limits;
use crate::os::line::Line;
use crate::thread::scan_log::{self, REASON_NAMES};
use crate::thread::stats::{self, Stats};

/// Writes the figures to `fd`. False for a format nobody knows.
pub fn write(fd: i32, format: &[u8]) -> bool {
    let stats = stats::collect();
    match format {
        b"text" => text(fd, &stats),
        b"json" => json(fd, &stats),
        b"prometheus" => prometheus(fd, &stats),
        _ => return false,
    }
    true
}

type Figure = (&'static str, u64);

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn figures(s: &Stats) -> [Figure; 31] {
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
        ("reclaimable_bytes", s.reclaimable_bytes),
        ("refills", s.refills),
        ("refills_suppressed", s.refills_suppressed),
        ("last_scan_ns", s.last_scan_ns),
        ("last_scan_took_ns", s.last_scan_took_ns),
        ("last_scan_reason", s.last_scan_reason),
        ("last_scan_bytes", s.last_scan_bytes),
    ]
}

/// Those that have one value for each reason to give memory back.
fn by_reason(s: &Stats) -> [(&'static str, &[u64]); 2] {
    [("scans", &s.scans), ("scanned_bytes", &s.scanned_bytes)]
}

/// What is said of each of the last scans.
const SCAN_NAMES: [&str; 6] = ["at_ns", "took_ns", "reason", "target", "given", "refills"];
/// The place of the reason among them.
const REASON: usize = 2;

fn reason_name(reason: u64) -> &'static str {
    REASON_NAMES.get(reason as usize).copied().unwrap_or("?")
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn text(fd: i32, stats: &Stats) {
    for (name, value) in figures(stats) {
        Line::new().str(name).str(" ").dec(value).emit_to(fd);
    }
    for (name, values) in by_reason(stats) {
        for (reason, value) in REASON_NAMES.iter().zip(values) {
            Line::new().str(name).str("_").str(reason).str(" ").dec(*value).emit_to(fd);
        }
    }
    scan_log::for_each(|scan| {
        let mut line = Line::new();
        line.str("scan");
        for (at, (name, value)) in SCAN_NAMES.iter().zip(scan).enumerate() {
            line.str(" ").str(name).str("=");
            if at == REASON {
                line.str(reason_name(value))
            } else {
                line.dec(value)
            };
        }
        line.emit_to(fd);
    });
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn json(fd: i32, stats: &Stats) {
    for (at, (name, value)) in figures(stats).iter().enumerate() {
        let mut line = Line::plain();
        line.str(if at == 0 { "{\"" } else { " \"" }).str(name).str("\": ").dec(*value).str(",").emit_to(fd);
    }
    for (name, values) in by_reason(stats) {
        let mut line = Line::plain();
        line.str(" \"").str(name).str("\": {");
        for (at, (reason, value)) in REASON_NAMES.iter().zip(values).enumerate() {
            line.str(if at == 0 { "\"" } else { ", \"" }).str(reason).str("\": ").dec(*value);
        }
        line.str("},").emit_to(fd);
    }
    Line::plain().str(" \"scan_log\": [").emit_to(fd);
    let mut is_first = true;
    scan_log::for_each(|scan| {
        let mut line = Line::plain();
        line.str(if is_first { "  {" } else { "  ,{" });
        is_first = false;
        for (at, (name, value)) in SCAN_NAMES.iter().zip(scan).enumerate() {
            line.str(if at == 0 { "\"" } else { ", \"" }).str(name).str("\": ");
            if at == REASON {
                line.str("\"").str(reason_name(value)).str("\"")
            } else {
                line.dec(value)
            };
        }
        line.str("}").emit_to(fd);
    });
    Line::plain().str(" ]}").emit_to(fd);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn prometheus(fd: i32, stats: &Stats) {
    for (name, value) in figures(stats) {
        Line::plain().str("rcumalloc_").str(name).str(" ").dec(value).emit_to(fd);
    }
    for (name, values) in by_reason(stats) {
        for (reason, value) in REASON_NAMES.iter().zip(values) {
            let mut line = Line::plain();
            line.str("rcumalloc_")
                .str(name)
                .str("{reason=\"")
                .str(reason)
                .str("\"} ")
                .dec(*value)
                .emit_to(fd);
        }
    }
}
