//! What the shrinker has done: counters by reason, and the last few scans one by one.
//!
//! Written by whoever has scanned, read by statistics, both without a lock: a record that is
//! overwritten while it is read may be put together from two scans.

use crate::constants::SCANS_REMEMBERED;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Why memory is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Reason {
    /// `malloc_trim`.
    Trim = 0,
    /// `rcumalloc_shrink_scan`.
    Api = 1,
    /// `rcumalloc_pressure`.
    Pressure = 2,
    /// `RCUMALLOC_LIMIT`.
    Limit = 3,
    /// The kernel's pressure stall information.
    Psi = 4,
    /// The control group's events or pressure level.
    Cgroup = 5,
    /// The configured signal.
    Signal = 6,
    /// A mapping could not be had.
    MapFailed = 7,
    /// Unused for long.
    Age = 8,
}

/// How many reasons there are.
pub const REASONS: usize = 9; // (given) as a count

/// Their names in reports, in order.
pub const REASON_NAMES: [&str; REASONS] =
    ["trim", "api", "pressure", "limit", "psi", "cgroup", "signal", "map_failed", "age"];

/// One scan.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// When it began, monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// How long it took, in nanoseconds.
    pub took_ns: u64,
    /// Why.
    pub reason: Reason,
    /// Bytes asked for; `usize::MAX`: everything.
    pub target: usize,
    /// Bytes given.
    pub given: usize,
    /// Refills there had been when it began.
    pub refills: u64,
}

/// Scans and bytes of one reason.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Scans; for [`Reason::Age`] ticks that gave something.
    pub scans: u64,
    /// Bytes given.
    pub bytes: u64,
}

struct Counter {
    scans: AtomicU64,
    bytes: AtomicU64,
}

static COUNTERS: [Counter; REASONS] =
    [const { Counter { scans: AtomicU64::new(0), bytes: AtomicU64::new(0) } }; REASONS];

/// One record: at, took, reason, target, given, refills.
type Words = [AtomicU64; 6];

// (given) as a count.
static RECORDS: [Words; SCANS_REMEMBERED] = [const { [const { AtomicU64::new(0) }; 6] }; SCANS_REMEMBERED];
/// Scans recorded so far.
static RECORDED: AtomicUsize = AtomicUsize::new(0);

/// Counts `bytes` given for `reason`.
pub fn count(reason: Reason, bytes: usize) {
    let counter = &COUNTERS[reason as usize];
    counter.scans.fetch_add(1, Relaxed);
    counter.bytes.fetch_add(bytes as u64, Relaxed);
}

/// Counts and remembers a scan.
pub fn note(scan: &Record) {
    count(scan.reason, scan.given);
    let place = &RECORDS[RECORDED.fetch_add(1, Relaxed) % SCANS_REMEMBERED];
    let words =
        [scan.at_ns, scan.took_ns, scan.reason as u64, scan.target as u64, scan.given as u64, scan.refills];
    for (word, value) in place.iter().zip(words) {
        word.store(value, Relaxed);
    }
}

/// The figures of each reason.
pub fn tallies() -> [Tally; REASONS] {
    COUNTERS.each_ref().map(|c| Tally { scans: c.scans.load(Relaxed), bytes: c.bytes.load(Relaxed) })
}

/// Calls `visit` for the remembered scans, oldest first, each as when it began, how long it took (both ns),
/// the reason's name, the bytes asked for and given, and the refills there had been.
pub fn for_each(mut visit: impl FnMut([u64; 6])) {
    let recorded = RECORDED.load(Relaxed);
    for at in recorded.saturating_sub(SCANS_REMEMBERED)..recorded {
        visit(RECORDS[at % SCANS_REMEMBERED].each_ref().map(|word| word.load(Relaxed)));
    }
}

/// The last scan, if there was one.
pub fn last() -> Option<[u64; 6]> {
    let mut last = None;
    for_each(|scan| last = Some(scan));
    last
}
