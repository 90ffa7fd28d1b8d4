//! Why a grace period is wanted sooner than readers come by, counted: who reads the figures can tell a
//! program that frees more than its budget from one whose readers stay away.
//!
//! The engine counts how periods ended; here is on whose behalf. Most end by themselves and were asked for by
//! nobody but whoever sealed a group. Relaxed counters: any thread, no order.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why somebody hurries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cause {
    /// A thread's last round waits still, though the next has been due several times.
    Queue = 0,
    /// Something has waited longer than the age limit.
    Age = 1,
    /// More waits than the budget allows.
    Budget = 2,
    /// Memory is to be given back: a scan.
    Pressure = 3,
}

/// How many causes are counted here.
pub const CAUSES: usize = 4; // (given) as a count

/// What came of hurrying for one cause.
#[derive(Clone, Copy, Default, Debug)]
pub struct Hurry {
    /// Times somebody hurried.
    pub asked: u64,
    /// Periods that ended then.
    pub ended: u64,
}

struct Counter {
    asked: AtomicU64,
    ended: AtomicU64,
}

static COUNTERS: [Counter; CAUSES] =
    [const { Counter { asked: AtomicU64::new(0), ended: AtomicU64::new(0) } }; CAUSES];

/// Somebody hurries because of `cause`, and so many periods `ended`.
pub fn note(cause: Cause, ended: u64) {
    let counter = &COUNTERS[cause as usize];
    counter.asked.fetch_add(1, Relaxed);
    if ended != 0 {
        counter.ended.fetch_add(ended, Relaxed);
    }
}

/// What has been counted, by cause.
pub fn tallies() -> [Hurry; CAUSES] {
    COUNTERS.each_ref().map(|c| Hurry { asked: c.asked.load(Relaxed), ended: c.ended.load(Relaxed) })
}
