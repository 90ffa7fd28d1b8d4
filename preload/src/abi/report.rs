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

/// Calls `visit` with the name and the value of each figure. One by one: an array of them is 700 bytes of stack.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn for_each_figure(s: &Stats, visit: &mut dyn FnMut(&str, u64)) {
    visit("mapped_bytes", s.mapped_bytes);
    visit("live_bytes", s.live_bytes);
    visit("live_large_bytes", s.live_large_bytes);
    visit("dirty_bytes", s.dirty_bytes);
    visit("purged_bytes", s.purged_bytes);
    visit("meta_bytes", s.meta_bytes);
    visit("deferred_bytes", s.deferred_bytes);
    visit("deferred_peak_bytes", s.deferred_peak_bytes);
    visit("budget_bytes", s.budget_bytes);
    visit("blocks_loaded", s.blocks_loaded);
    visit("blocks_retired", s.blocks_retired);
    visit("large_allocated", s.large_allocated);
    visit("periods_started", s.periods_started);
    visit("periods_completed", s.periods_completed);
    visit("periods_expedited", s.periods_expedited);
    visit("threads_parked", s.threads_parked);
    visit("membarriers", s.membarriers);
    visit("threads", s.threads);
    visit("threads_peak", s.threads_peak);
    visit("peak_rss_bytes", limits::peak_rss() as u64);
    visit("bad_calls", s.bad_calls);
    visit("period_p50_ns", s.period_p50_ns);
    visit("period_p99_ns", s.period_p99_ns);
    visit("concurrent", s.concurrent);
    visit("reclaimable_bytes", s.reclaimable_bytes);
    visit("refills", s.refills);
    visit("refills_suppressed", s.refills_suppressed);
    visit("last_scan_ns", s.last_scan_ns);
    visit("last_scan_took_ns", s.last_scan_took_ns);
    visit("last_scan_reason", s.last_scan_reason);
    visit("last_scan_bytes", s.last_scan_bytes);
    visit("call_blocks_most", s.call_blocks_most);
    visit("call_purged_most", s.call_purged_most);
    visit("call_purges_most", s.call_purges_most);
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
    for_each_figure(stats, &mut |name, value| Line::new().str(name).str(" ").dec(value).emit_to(fd));
    for (name, values) in by_reason(stats) {
        for (reason, value) in REASON_NAMES.iter().zip(values) {
            Line::new().str(name).str("_").str(reason).str(" ").dec(*value).emit_to(fd);
        }
    }
    text_scans(fd);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn text_scans(fd: i32) {
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
    let mut start = "{\"";
    for_each_figure(stats, &mut |name, value| {
        let start = core::mem::replace(&mut start, " \"");
        Line::plain().str(start).str(name).str("\": ").dec(value).str(",").emit_to(fd);
    });
    for (name, values) in by_reason(stats) {
        // In parts: all of it is longer than a line.
        let mut line = Line::plain();
        line.str(" \"").str(name).str("\": {").emit_part_to(fd);
        for (at, (reason, value)) in REASON_NAMES.iter().zip(values).enumerate() {
            let start = if at == 0 { "\"" } else { ", \"" };
            line.str(start).str(reason).str("\": ").dec(*value).emit_part_to(fd);
        }
        line.str("},").emit_to(fd);
    }
    Line::plain().str(" \"scan_log\": [").emit_to(fd);
    json_scans(fd);
    Line::plain().str(" ]}").emit_to(fd);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn json_scans(fd: i32) {
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
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn prometheus(fd: i32, stats: &Stats) {
    for_each_figure(stats, &mut |name, value| {
        Line::plain().str("rcumalloc_").str(name).str(" ").dec(value).emit_to(fd);
    });
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
