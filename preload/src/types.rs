//! What the crate answers with, on every target.

use core::time::Duration;

/// What the heap knows of the block around an address.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Where the block starts.
    pub start: *const u8,
    /// Its usable bytes.
    pub size: usize,
    /// Whether it has been given back. One just deallocated may still read as not.
    pub is_freed: bool,
    /// For how long it has been waiting for a grace period, if it is and that is known.
    pub age: Option<Duration>,
}

/// What the block around an address is to the section that asks: see [`check`](crate::check).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// None of this heap, or never given out.
    Unknown,
    /// The program has it.
    Live,
    /// It was deallocated, and that may have been after the section began.
    Freed,
    /// It was deallocated before the section began, or there is no section: whoever asks should not have
    /// found it.
    FreedBefore,
}

/// Figures of the heap: see [`stats`](crate::stats). They are those of `struct rcumalloc_stats` of the C
/// header that a program may want to show or to act on; all are 0 where nothing is deferred
/// ([`DEFERS`](crate::DEFERS)). What is counted is counted since the process started.
#[derive(Clone, Copy, Default, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of slabs and large blocks: the sum of the four that follow.
    pub blocks_bytes: u64,
    /// Bytes of blocks that the program has.
    pub live_bytes: u64,
    /// Bytes of blocks that may be given out at once, outside slabs.
    pub cached_bytes: u64,
    /// Bytes of deallocated blocks that may not yet be given out.
    pub waiting_bytes: u64,
    /// Bytes in slabs: blocks that wait for being given out there, and what no block has of a slab.
    pub in_slabs_bytes: u64,
    /// Bytes of all pages in use: blocks, tables, lists.
    pub mapped_bytes: u64,
    /// Bytes of free pages that still hold memory.
    pub dirty_bytes: u64,
    /// Bytes that were given back to the system.
    pub purged_bytes: u64,
    /// Bytes that could be given back to the system if it asked.
    pub reclaimable_bytes: u64,
    /// Bytes of blocks that wait for a grace period that has been asked for.
    pub deferred_bytes: u64,
    /// The most that `deferred_bytes` was, as far as was looked.
    pub deferred_peak_bytes: u64,
    /// Deferred bytes from which on grace periods are expedited.
    pub budget_bytes: u64,
    /// Grace periods that have ended.
    pub periods_completed: u64,
    /// Of those, expedited.
    pub periods_expedited: u64,
    /// What a grace period takes, in the middle of those that were timed, if any was.
    pub period_median: Option<Duration>,
    /// What ninety-nine of a hundred take at the most, if any was timed.
    pub period_p99: Option<Duration>,
    /// Scans that gave memory back to the system.
    pub scans: u64,
    /// Sections that held a grace period up for so long that they were reported.
    pub stalls: u64,
    /// Bad calls that were reported.
    pub bad_calls: u64,
    /// Threads that have blocks of their own at hand.
    pub threads: u64,
    /// The most that `threads` was.
    pub threads_peak: u64,
    /// Whether the process has, or has had, a second thread or a reader: from then on deallocations wait.
    pub is_concurrent: bool,
}
