//! The back-off: for a while after a scan, what was just given back is not fetched again.
//!
//! Without it the refills undo the scan at once and the next scan undoes the refills. While it
//! lasts a refill takes one page, or a few pages' worth of blocks that were never used, instead of a batch;
//! magazines start again at their smallest; caches and depots take in as little as they can. It ends by
//! itself when a
//! *quiet* period has passed without a scan. Scans that come before it has ended double the period, up to a
//! bound: who is under pressure all the time gets all the quiet there is.
//!
//! Everything here is relaxed: it steers and orders nothing. Any thread.

use crate::constants::{MS, QUIET_MOST_MS, QUIET_MS};
use crate::os::clock;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// When it ends, in nanoseconds of the coarse clock; 0: it is not on.
static UNTIL: AtomicU64 = AtomicU64::new(0);
/// How long the present one lasts after its last scan, in milliseconds.
static LASTS_MS: AtomicU32 = AtomicU32::new(0);
/// The configured period, in milliseconds; 0: never back off.
static PERIOD_MS: AtomicU32 = AtomicU32::new(QUIET_MS);
/// Refills that fetched less than they would have.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);
/// Refills in all; with the scans they tell the vicious circle.
static REFILLS: AtomicU64 = AtomicU64::new(0);

/// Sets the quiet period in milliseconds; 0 turns the back-off off.
pub fn set_period_ms(ms: u32) {
    PERIOD_MS.store(ms, Relaxed);
}

/// The quiet period in milliseconds.
pub fn period_ms() -> u32 {
    PERIOD_MS.load(Relaxed)
}

/// A scan has ended at `now_ns`, coarse clock.
pub fn begin(now_ns: u64) {
    let period = period_ms();
    if period == 0 {
        return;
    }
    let lasts = if is_on() { LASTS_MS.load(Relaxed).saturating_mul(2) } else { period };
    let lasts = lasts.clamp(period, period.max(QUIET_MOST_MS));
    LASTS_MS.store(lasts, Relaxed);
    UNTIL.store(now_ns + u64::from(lasts) * MS, Relaxed);
}

/// Ends it now. For tests.
pub fn end() {
    UNTIL.store(0, Relaxed);
}

/// Whether it is on. One load while it is not.
#[inline(always)]
pub fn is_on() -> bool {
    let until = UNTIL.load(Relaxed);
    until != 0 && lasts_to(until)
}

#[cold]
#[inline(never)]
fn lasts_to(until: u64) -> bool {
    let lasts = clock::now_coarse_ns() < until;
    if !lasts {
        // A failure means that another scan has begun a new one.
        let _ = UNTIL.compare_exchange(until, 0, Relaxed, Relaxed);
    }
    lasts
}

/// Counts a refill; `suppressed` if it fetched less than it would have.
#[inline]
pub fn note_refill(suppressed: bool) {
    REFILLS.fetch_add(1, Relaxed);
    if suppressed {
        SUPPRESSED.fetch_add(1, Relaxed);
    }
}

/// Refills so far, and how many of them fetched less than they would have.
pub fn refills() -> (u64, u64) {
    (REFILLS.load(Relaxed), SUPPRESSED.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasts_doubles_and_ends() {
        crate::own_process::in_own_process!();
        end();
        assert!(!is_on());
        let now = clock::now_coarse_ns();
        begin(now);
        assert!(is_on());
        assert_eq!(LASTS_MS.load(Relaxed), QUIET_MS);
        for _ in 0..20 {
            begin(now);
        }
        assert_eq!(LASTS_MS.load(Relaxed), QUIET_MOST_MS);
        UNTIL.store(now.max(1), Relaxed);
        assert!(!is_on());
        assert_eq!(UNTIL.load(Relaxed), 0);
        begin(now);
        assert_eq!(LASTS_MS.load(Relaxed), QUIET_MS, "a quiet period starts it anew");
        end();
    }
}
