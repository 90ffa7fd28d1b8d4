//! Solo and concurrent, and the three ways of deferring, as two words of a thread.
//!
//! Where free pushes is TLS word 1, so a mode is a value of that word and no branch:
//!
//! | | solo | concurrent |
//! |---|---|---|
//! | `all` | allocation table | deferring table |
//! | `api` | allocation table | allocation table; `rcumalloc_free` pushes to the deferring one |
//! | `strict` | – | deferring table, from the first call |
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

use crate::cache::registry;
use crate::cache::thread_cache::ThreadCache;
use crate::front::{entry, exit, fork};
use crate::os::{peers, tls};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// What is deferred; `RCUMALLOC_DEFER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Defer {
    /// Every free, once the process is concurrent.
    All = 0,
    /// Only `rcumalloc_free`.
    Api = 1,
    /// Every free from the first, and nobody expedites.
    Strict = 2,
}

#[unsafe(link_section = ".data")]
static DEFER: AtomicU8 = AtomicU8::new(Defer::All as u8);
#[unsafe(link_section = ".data")]
static CONCURRENT: AtomicBool = AtomicBool::new(false);
/// Every thread's word has been set. Under the registry's lock.
#[unsafe(link_section = ".data")]
static RETARGETED: AtomicBool = AtomicBool::new(false);
/// And every free that began before has ended.
#[unsafe(link_section = ".data")]
static ADMITTED: AtomicBool = AtomicBool::new(false);
/// The switch is complete: ends of threads and forks are watched, too.
#[unsafe(link_section = ".data")]
static SWITCHED: AtomicBool = AtomicBool::new(false);

/// What is deferred.
#[inline]
pub fn defer() -> Defer {
    match DEFER.load(Ordering::Relaxed) {
        0 => Defer::All,
        1 => Defer::Api,
        _ => Defer::Strict,
    }
}

/// Sets what is deferred; before the first thread has a cache.
pub fn set_defer(defer: Defer) {
    DEFER.store(defer as u8, Ordering::Relaxed);
}

/// Whether the process has or had more than one thread, or a reader.
#[inline]
pub fn is_concurrent() -> bool {
    CONCURRENT.load(Ordering::Acquire)
}

/// Whether plain `free` is deferred now.
#[inline]
pub fn frees_defer() -> bool {
    is_concurrent() && defer() != Defer::Api
}

/// Turns the process concurrent. Idempotent; any thread, but not in a signal handler.
#[cold]
#[inline(never)]
pub fn go_concurrent() {
    // Two threads may switch at once; neither goes on before the switch is complete.
    if SWITCHED.load(Ordering::Acquire) {
        return;
    }
    fork::install_handlers();
    fork::watch_raw_clones();
    exit::create_key();
    admit_readers();
    SWITCHED.store(true, Ordering::Release);
    entry::watch_own_thread();
}

/// From here on no free in any thread goes unseen by a section. Idempotent; any thread, any time,
/// in a signal handler too.
#[cold]
#[inline(never)]
pub fn admit_readers() {
    if ADMITTED.load(Ordering::Acquire) {
        return;
    }
    // Release: who sees it set in its own word's mode sees what the switcher did before.
    CONCURRENT.store(true, Ordering::Release);
    let own = tls::alloc_table();
    let mut others = false;
    let visit = |cache: &ThreadCache| {
        // Once, by the first who holds the lock: the second of two that admit at once might find a thread
        // whose word is set and which, seeing the switch complete, ends without the lock, and its word with
        // it. (Who has adopted a cache since `CONCURRENT` was set, has the right table.)
        if !RETARGETED.load(Ordering::Relaxed) {
            retarget(cache);
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

/// Whether the process is concurrent for good and no thread's word will be set from outside any more.
#[inline(always)]
pub fn is_switched() -> bool {
    SWITCHED.load(Ordering::Acquire)
}

/// Whether readers were admitted and the rest of the switch is still to be made.
#[inline(always)]
pub fn is_half_switched() -> bool {
    ADMITTED.load(Ordering::Relaxed) && !SWITCHED.load(Ordering::Relaxed)
}

/// Points the frees of `cache`'s thread at the table its mode asks for.
pub fn retarget(cache: &ThreadCache) {
    let word = cache.free_word.load(Ordering::Acquire) as *const AtomicUsize;
    // SAFETY: null before the thread adopts the cache and after it gives it back; the registry's
    // lock is held, under which both happen while words are set from outside. The word is the thread's TLS
    // word.
    if let Some(word) = unsafe { word.as_ref() } {
        word.store(free_table_of(cache), Ordering::Release);
    }
}

/// The table the owner of `cache` is to push its frees to.
pub fn free_table_of(cache: &ThreadCache) -> usize {
    if frees_defer() { &raw const cache.defer as usize } else { &raw const cache.alloc as usize }
}

/// Sets both words of the calling thread for `cache`.
pub fn adopt_tables(cache: &ThreadCache) {
    tls::set_free_table(free_table_of(cache));
    tls::set_alloc_table(&raw const cache.alloc as usize);
}
