//! Solo to concurrent.
//!
//! A process turns concurrent once and for good: in `pthread_create` before the new thread runs,
//! at the first `read_lock`, or when a second thread makes its first call (a raw `clone`, or
//! threads that were there before the library). The thread that does it stores the new table into
//! every other thread's word; a free that is just under way may still push to the old one. That
//! free began before any read-side section the switch is made for, so it owes it nothing (G1).
//!
//! The first `read_lock` may be a signal handler's that interrupted malloc, or libc. It does only
//! what its section needs, [`admit_readers`]: the words, under a lock that nobody holds with
//! signals let through. What goes through libc, the thread's next slow path makes up for.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{mode, own, registry};
use crate::front::{exit, fork};
use crate::os::{home, peers, tls};
use core::sync::atomic::{AtomicBool, Ordering};

/// Every thread's word has been set. Under the registry's lock.
#[unsafe(link_section = ".data")]
static RETARGETED: AtomicBool = AtomicBool::new(false);
/// And every free that began before has ended.
#[unsafe(link_section = ".data")]
static ADMITTED: AtomicBool = AtomicBool::new(false);

/// Turns the process concurrent. Idempotent; any thread, but not in a signal handler.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
pub fn go_concurrent() {
    // Two threads may switch at once; neither goes on before the switch is complete.
    if mode::is_switched() {
        return;
    }
    fork::install_handlers();
    home::watch_raw_clones();
    admit_readers();
    mode::set_switched();
}

/// There is a second thread, or will be at once: whoever ends gives his cache back. A process of one thread
/// has all of libc's keys for itself. Idempotent; any thread, but not in a signal handler.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
pub fn expect_threads() {
    if exit::create_key()
        && let Some(cache) = own::existing()
    {
        exit::watch_thread(cache);
    }
}

/// From here on no free in any thread goes unseen by a section. Idempotent; any thread, any time,
/// in a signal handler too.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
pub fn admit_readers() {
    if !ADMITTED.load(Ordering::Acquire) {
        admit();
    }
}

/// As `admit_readers`, by one of those who come before the first is done.
#[inline(always)]
pub(super) fn admit() {
    mode::set_concurrent();
    let own = tls::alloc_table();
    let mut others = false;
    let visit = |cache: &ThreadCache| {
        // Once, by the first who holds the lock: the second of two that admit at once might find a thread
        // whose word is set and which, seeing the switch complete, ends without the lock, and its word with
        // it. (Who has adopted a cache since the process turned concurrent, has the right table.)
        if !RETARGETED.load(Ordering::Relaxed) {
            registry::retarget(cache);
        }
        others |= core::ptr::from_ref(cache) as usize != own;
    };
    registry::for_each_live(visit, || RETARGETED.store(true, Ordering::Relaxed));
    // Frees that began before are behind this barrier or saw the new table. The solo thread's own
    // switch needs none, and makes no call that a filter might forbid (`seccomp_strict`).
    if others {
        peers::barrier_everywhere();
    }
    ADMITTED.store(true, Ordering::Release);
}

/// Whether readers were admitted and the rest of the switch is still to be made.
#[inline(always)]
pub fn is_half_switched() -> bool {
    ADMITTED.load(Ordering::Relaxed) && !mode::is_switched()
}
