//! Time since boot, for ages and quiet periods: the engine's clock, which is read through the vDSO without
//! libc, whose function of that name may be somebody else's (`clock_interposed`). No system call, and `errno`
//! is never touched. Any thread, signal handlers included.

use crate::constants::MS;

/// Nanoseconds on the monotonic clock.
pub fn now_ns() -> u64 {
    rcu::now_ns()
}

/// The same as of the last timer tick (1 to 10 ms old), at about a quarter of the price.
pub fn now_coarse_ns() -> u64 {
    rcu::coarse_ns()
}

/// The same in milliseconds; wraps after 49 days.
#[inline]
pub fn now_coarse_ms() -> u32 {
    (now_coarse_ns() / MS) as u32
}

#[cfg(test)]
mod tests {
    #[test]
    fn moves_forward() {
        let before = super::now_coarse_ns();
        let now = super::now_ns();
        assert!(now >= before && now - before < 1_000_000_000);
    }
}
