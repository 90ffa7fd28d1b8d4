//! The bell: how any floor, and a signal handler, asks for attention without doing anything itself.
//!
//! Two words. [`wants`] holds what is asked for, a bit each; the next slow path of any thread, or
//! the watcher, takes it and serves it. The bell proper is a counter the watcher sleeps on. Ringing
//! is an addition and, if somebody sleeps, one futex call: the one system call that every program
//! with threads makes itself, so no filter forbids it. Any thread, any time, with any lock held,
//! signal handlers included. Relaxed everywhere: the bits steer, what they are about is looked at
//! again by whoever serves them.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::syscall::{futex_wait_timeout, futex_wake};

/// The heap has passed its soft limit.
pub const LIMIT: u32 = 1;
/// The configured signal has come.
pub const SIGNAL: u32 = 2;
/// Slow paths are to be disturbed, for as long as the process lives (`front/stress.rs`).
pub const STRESS: u32 = 4;
/// Traps wait for their time to spring.
pub const TRAPS: u32 = 8;
/// The system has refused a mapping: slow paths are to make room, until somebody [`withdraw`]s this.
pub const ROOM: u32 = 16;

/// What stays wanted though it was served.
const STAYING: u32 = STRESS | ROOM;

#[unsafe(link_section = ".data")]
static WANTS: AtomicU32 = AtomicU32::new(0);
static RUNG: AtomicU32 = AtomicU32::new(0);
static SLEEPING: AtomicU32 = AtomicU32::new(0);

/// Asks for `bits`.
pub fn want(bits: u32) {
    if WANTS.load(Relaxed) & bits != bits {
        WANTS.fetch_or(bits, Relaxed);
    }
}

/// What is asked for and not taken yet.
#[inline(always)]
pub fn wants() -> u32 {
    WANTS.load(Relaxed)
}

/// Whether there is something to [`take`].
pub fn is_wanted() -> bool {
    wants() & !STAYING != 0
}

/// Takes what is asked for: the caller serves it.
pub fn take() -> u32 {
    WANTS.fetch_and(STAYING, Relaxed) & !STAYING
}

/// Takes back what is asked for: it has just been served.
pub fn withdraw(bits: u32) {
    WANTS.fetch_and(!bits, Relaxed);
}

/// Wakes the sleeper, or keeps it from falling asleep.
pub fn ring() {
    // SeqCst, as in `sleep`: either the sleeper's futex call sees the new count, or we see it sleeping.
    RUNG.fetch_add(1, SeqCst);
    if SLEEPING.load(SeqCst) != 0 {
        futex_wake(&RUNG, 1);
    }
}

/// How often it has rung: take it before looking at what there is to do.
pub fn rung() -> u32 {
    RUNG.load(SeqCst)
}

/// Sleeps until it rings, `ns` nanoseconds at most; not at all if it has rung since `seen`.
pub fn sleep(seen: u32, ns: u64) {
    // SeqCst: see `ring`.
    SLEEPING.store(1, SeqCst);
    futex_wait_timeout(&RUNG, seen, ns);
    SLEEPING.store(0, Relaxed);
}

/// In the child of a fork: nobody sleeps.
pub fn forget_sleeper() {
    SLEEPING.store(0, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_are_taken_once() {
        crate::own_process::in_own_process!();
        want(SIGNAL);
        want(SIGNAL);
        assert_eq!(wants() & SIGNAL, SIGNAL);
        assert_eq!(take() & SIGNAL, SIGNAL);
        assert_eq!(take() & SIGNAL, 0);
    }

    #[test]
    fn a_ring_before_the_sleep_is_not_lost() {
        let start = std::time::Instant::now();
        let seen = rung();
        ring();
        sleep(seen, 10_000_000_000);
        let seen = rung();
        let waker = std::thread::spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            ring();
        });
        sleep(seen, 10_000_000_000);
        assert_ne!(rung(), seen);
        waker.join().unwrap();
        sleep(rung(), 1_000_000);
        assert!(start.elapsed().as_secs() < 8, "slept through a ring");
    }
}
