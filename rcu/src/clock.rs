//! Time and thread ids, from the kernel. Nothing in the engine depends on time but what is reported.

/// Nanoseconds of `CLOCK_MONOTONIC`. Async-signal-safe; leaves errno alone.
#[must_use]
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Longest time between two ticks of the kernel, in ns: 100 a second.
pub(crate) const LONGEST_TICK_NS: u64 = 10_000_000;

/// The same clock as of the kernel's last tick: a fifth of the cost.
pub(crate) fn coarse_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

#[cfg_attr(any(loom, miri), allow(unused_variables, reason = "time stands still in a model"))]
fn read(clock: libc::clockid_t) -> u64 {
    #[cfg(any(loom, miri))]
    return 1;
    #[cfg(not(any(loom, miri)))]
    {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one timespec. Both clocks exist since Linux 2.6.32, so it cannot fail.
        unsafe { libc::clock_gettime(clock, &raw mut now) };
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }
}

/// The kernel's id of the calling thread.
pub(crate) fn thread_id() -> u32 {
    #[cfg(any(loom, miri))]
    return 1;
    #[cfg(not(any(loom, miri)))]
    // SAFETY: gettid has no arguments and cannot fail.
    unsafe {
        libc::syscall(libc::SYS_gettid) as u32
    }
}
