//! Time and thread ids, from the kernel. Nothing in the engine depends on time but what is reported.

use crate::kernel::Clock;

/// Nanoseconds of `CLOCK_MONOTONIC`. Async-signal-safe; leaves errno alone.
#[must_use]
pub fn now_ns() -> u64 {
    read(Clock::Monotonic)
}

/// Longest time between two ticks of the kernel, in ns: 100 a second.
pub(crate) const LONGEST_TICK_NS: u64 = 10_000_000;

/// The same clock as of the kernel's last tick: a fifth of the cost.
#[must_use]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
pub fn coarse_ns() -> u64 {
    read(Clock::MonotonicCoarse)
}

#[cfg_attr(any(loom, miri), allow(unused_variables, reason = "time stands still in a model"))]
fn read(clock: Clock) -> u64 {
    #[cfg(any(loom, miri))]
    return 1;
    #[cfg(not(any(loom, miri)))]
    crate::kernel::clock(clock)
}

/// The kernel's id of the calling thread.
pub(crate) fn thread_id() -> u32 {
    #[cfg(any(loom, miri))]
    return 1;
    #[cfg(not(any(loom, miri)))]
    crate::kernel::thread_id()
}
