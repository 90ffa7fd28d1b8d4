//! The stall detector: explicit sections that hold a grace period up for too long (G3).
//!
//! Nothing may override a read-side section, so all that can be done about one that lasts is to
//! say whose it is. Looked for when a cache is swept, about once a second while anybody allocates;
//! a stall is reported at most once per limit.

use crate::class::backlog::{self, DOMAIN};
use crate::os::clock;
use crate::os::line::Line;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// `RCUMALLOC_STALL_MS`, in milliseconds; 0: never.
static LIMIT_MS: AtomicU64 = AtomicU64::new(10_000);
/// When the last report was made, in nanoseconds.
static REPORTED_NS: AtomicU64 = AtomicU64::new(0);

/// Stalled readers that were reported.
static REPORTED: AtomicU64 = AtomicU64::new(0);

/// How many stalled readers were reported.
pub fn reported() -> u64 {
    REPORTED.load(Relaxed)
}

/// Sets how old a section may become, in milliseconds; 0: however old.
pub fn set_limit_ms(ms: u64) {
    LIMIT_MS.store(ms, Relaxed);
}

/// How old a section may become, in milliseconds.
pub fn limit_ms() -> u64 {
    LIMIT_MS.load(Relaxed)
}

/// Looks for readers that hold the period in flight up, and reports them.
pub fn look() {
    let limit = limit_ms().saturating_mul(1_000_000);
    if limit == 0 {
        return;
    }
    let now = clock::now_ns();
    let last = REPORTED_NS.load(Relaxed);
    if last != 0 && now.saturating_sub(last) < limit {
        return;
    }
    for stall in DOMAIN.stalled(now, limit).filter(|stall| stall.nesting != 0) {
        // One of several threads that look at once reports.
        if REPORTED_NS.load(Relaxed) == last {
            REPORTED_NS.store(now, Relaxed);
        }
        report(stall.tid, stall.age_ns);
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn report(tid: u32, age_ns: u64) {
    REPORTED.fetch_add(1, Relaxed);
    let mut line = Line::new();
    line.str("stall: thread ").dec(u64::from(tid)).str(" is in a read-side section that has held ");
    line.str("a grace period up for ").dec(age_ns / 1_000_000).str(" ms; ");
    line.dec(backlog::deferred_bytes() as u64).str(" bytes wait").emit();
}
