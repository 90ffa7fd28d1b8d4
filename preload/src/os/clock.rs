//! Time since boot, for ages and quiet periods. Read through the vDSO: no system call, and
//! a success never touches `errno`. Any thread, signal handlers included.

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; cannot fail with a clock that exists.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds on the monotonic clock.
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The same as of the last timer tick (1 to 10 ms old), at about a quarter of the price.
pub fn now_coarse_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
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
