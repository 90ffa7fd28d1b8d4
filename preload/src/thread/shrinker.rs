//! The shrinker: what could be given back to the system, and giving it back.
//!
//! Everything that gives memory back on request goes through [`scan`], whatever the reason: the
//! program's own calls, the kernel's pressure, a limit, a mapping that failed. Ageing without a
//! request is [`tick`], which any thread may call; [`deadline`] says when the next one has work.
//!
//! Any thread may call anything here, one without a cache too (it needs libc's thread-local
//! storage, or ours at its initial value, and must not be in a signal handler). Nothing blocks on a grace period.

use crate::os::clock;
use crate::page::zone;
use crate::thread::reclaim;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

/// Bytes that [`scan`] could give back, as far as the counters tell.
pub fn count() -> usize {
    reclaim::reclaimable()
}

/// Gives back about `target` bytes, the cheapest first. Returns the bytes given.
pub fn scan(target: usize, _reason: Reason) -> usize {
    if target == usize::MAX { reclaim::trim() } else { reclaim::shrink(target) }
}

/// What the system says of memory: 0 there is enough, 1 it gets tight (half of what could be given
/// back goes), 2 there is none left (everything goes). Returns the bytes given.
pub fn pressure(level: u32, reason: Reason) -> usize {
    match level {
        0 => 0,
        1 => scan(count() / 2, reason),
        _ => scan(usize::MAX, reason),
    }
}

/// Gives back a share of what has not been used for long. `now_ns`: the monotonic clock (coarse is
/// fine). Cheap when it is called before [`deadline`].
pub fn tick(_now_ns: u64) {
    let excess = zone::excess();
    if excess != 0 {
        zone::purge_free(excess);
    }
}

/// When the next [`tick`] has work, on the monotonic clock; `None` when nothing is left to age.
/// After `None` the hook of [`set_waker`] is called once when there is work again.
pub fn deadline() -> Option<u64> {
    if zone::stats().dirty_bytes != 0 { Some(clock::now_coarse_ns() + 1_000_000_000) } else { None }
}

static WAKER: AtomicUsize = AtomicUsize::new(0);

/// The function that wakes whoever sleeps because [`deadline`] said `None`. Called from slow paths of
/// any thread, at most once for each such answer: it must neither allocate nor block.
pub fn set_waker(wake: fn()) {
    WAKER.store(wake as usize, Relaxed);
}
