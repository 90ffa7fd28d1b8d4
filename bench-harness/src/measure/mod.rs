//! How anything is measured here: children started by a tiny launcher, in alternating rounds.

pub mod child;
pub mod counters;
pub mod distance;
pub mod latency;
pub mod launcher;
pub mod pages;
pub mod pipes;
pub mod rounds;
pub mod sampler;

/// Processor time of the calling thread, ns.
pub fn processor_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
