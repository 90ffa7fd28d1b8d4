//! The registry: every thread cache there ever was, and those nobody uses.
//!
//! Caches are type-stable metadata. A cache is acquired by the creator of a thread, before it
//! runs, or by a thread itself on its first call; it is given back when the thread ends, or found
//! abandoned (a raw clone that ran no destructor) by asking the kernel whether the thread still
//! exists. One lock, held with signals blocked, so that a handler's first `read_lock` can take it;
//! the list of all caches only grows and is walked under the lock or, by statistics, without it.

use crate::class::Torn;
use crate::class::backlog::DOMAIN;
use crate::os::lock::{Guard, Lock};
use crate::os::signals::Quiet;
use crate::os::{peers, tid, tls};
use crate::page::{meta, reserve};
use crate::thread::cache::ThreadCache;
use crate::thread::{exit, mode, shelf};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use rcu::{Reader, ReaderCell};

/// Pages the reserve for `free` holds per live thread, up to [`RESERVE_MOST`] in all.
const RESERVE_PER_THREAD: usize = 1;
/// Most pages of the reserve: it must not make small programs big.
const RESERVE_MOST: usize = 16;
/// Live caches from which on a registration looks for abandoned ones; doubles with each search.
const SCAVENGE_FROM: usize = 64;

/// What the lock protects.
pub struct Inner {
    unused: *mut ThreadCache,
    live: usize,
    scavenge_at: usize,
}

// SAFETY: an address of type-stable memory.
unsafe impl Send for Inner {}

#[unsafe(link_section = ".data")]
static REGISTRY: Lock<Inner> =
    Lock::new(Inner { unused: core::ptr::null_mut(), live: 0, scavenge_at: SCAVENGE_FROM });
/// Every cache, newest first. Release pushes pair with the acquire of [`all`].
#[unsafe(link_section = ".data")]
static ALL: AtomicPtr<ThreadCache> = AtomicPtr::new(core::ptr::null_mut());
#[unsafe(link_section = ".data")]
static MOST_LIVE: AtomicUsize = AtomicUsize::new(0);
/// `live`, to look at without the lock.
#[unsafe(link_section = ".data")]
static LIVE_NOW: AtomicUsize = AtomicUsize::new(0);

const UNUSED: u32 = 0;
const LIVE: u32 = 1;

impl Inner {
    /// Sets the number of live caches, and what follows from it.
    fn set_live(&mut self, live: usize) {
        self.live = live;
        LIVE_NOW.store(live, Ordering::Relaxed);
        MOST_LIVE.fetch_max(live, Ordering::Relaxed);
        reserve::set_target((live * RESERVE_PER_THREAD).min(RESERVE_MOST));
        shelf::set_threads(live);
    }
}

/// The registry, for somebody whom no handler interrupts.
fn locked(_quiet: &Quiet) -> Guard<'_, Inner> {
    REGISTRY.lock()
}

/// A cache with a registered, online reader, for the calling thread or one it is about to
/// create. `None`: memory is out.
#[cold]
pub fn acquire(quiet: &Quiet) -> Option<&'static mut ThreadCache> {
    scavenge_if_crowded(quiet);
    let cache = {
        let mut registry = locked(quiet);
        let unused = registry.unused;
        let cache = if unused.is_null() {
            let bytes = core::mem::size_of::<ThreadCache>();
            let cache = meta::bytes(bytes)?.cast::<ThreadCache>().as_ptr();
            // SAFETY: fresh zeroed metadata; the cell is the one part for which zero is wrong.
            unsafe {
                (&raw mut (*cache).reader).write(ReaderCell::new());
                (*cache).next_all.store(ALL.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            ALL.store(cache, Ordering::Release);
            cache
        } else {
            // SAFETY: unused caches belong to the registry, whose lock is held.
            registry.unused = unsafe { (*unused).next_unused.load(Ordering::Relaxed) };
            unused
        };
        let live = registry.live + 1;
        registry.set_live(live);
        // SAFETY: taken off the list above, ours alone; the lock makes its last owner's writes
        // visible.
        let cache = unsafe { &mut *cache };
        cache.reset();
        cache.tid.store(0, Ordering::Relaxed);
        cache.live.store(LIVE, Ordering::Release);
        cache
    };
    let cell = cache.cell();
    // SAFETY: the cell is used with this domain only. An unused cache's reader has exited, so it cannot be registered.
    match unsafe { DOMAIN.register(cell, 0) } {
        // The cell stays registered; the cache, not a handle, owns it.
        Ok(reader) => core::mem::forget(reader),
        Err(_) => return None,
    }
    Some(cache)
}

/// Makes `cache` the calling thread's.
pub fn adopt(cache: &mut ThreadCache, quiet: &Quiet) {
    let tid = tid::tid() as u32;
    cache.tid.store(tid, Ordering::Relaxed);
    // SAFETY: registered with the cache, which is the calling thread's from here on.
    unsafe { Reader::borrow_cell(cache.cell()) }.set_tid(tid);
    let registry = locked(quiet);
    // Under the lock: a switch to concurrent sees the word, or we see the switch.
    cache.free_word.store(tls::free_word(), Ordering::Release);
    mode::adopt_tables(cache);
    drop(registry);
}

/// Takes back the cache of a thread that will not use it again; its blocks and its reader are
/// gone from it already.
pub fn give_back(cache: &mut ThreadCache, quiet: &Quiet) {
    cache.ledger.close();
    let mut registry = locked(quiet);
    cache.free_word.store(0, Ordering::Relaxed);
    cache.tid.store(0, Ordering::Relaxed);
    cache.live.store(UNUSED, Ordering::Release);
    cache.next_unused.store(registry.unused, Ordering::Relaxed);
    registry.unused = cache;
    let live = registry.live.saturating_sub(1);
    registry.set_live(live);
}

/// Forgets a cache's TLS word: its thread is about to lose its thread-local storage.
pub fn forget_word(cache: &ThreadCache, quiet: &Quiet) {
    let _registry = locked(quiet);
    cache.free_word.store(0, Ordering::Relaxed);
}

/// Calls `visit` for each cache that has a thread, under the registry's lock.
pub fn for_each_live(mut visit: impl FnMut(&ThreadCache)) {
    let quiet = Quiet::new();
    let _registry = locked(&quiet);
    for cache in all() {
        // SAFETY: caches are type-stable; visitors read atomics, or know better.
        let cache = unsafe { &*cache };
        if cache.live.load(Ordering::Acquire) == LIVE {
            visit(cache);
        }
    }
}

/// Every cache there is, used or not.
pub fn all() -> impl Iterator<Item = *mut ThreadCache> {
    let mut next = ALL.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        let cache = next;
        if cache.is_null() {
            return None;
        }
        // SAFETY: caches are type-stable and their links never change once published.
        next = unsafe { (*cache).next_all.load(Ordering::Relaxed) };
        Some(cache)
    })
}

/// Whether `cache` has a thread.
pub fn is_live(cache: &ThreadCache) -> bool {
    cache.live.load(Ordering::Acquire) == LIVE
}

/// Threads with a cache, and the most there ever were.
pub fn census() -> (usize, usize) {
    (LIVE_NOW.load(Ordering::Relaxed), MOST_LIVE.load(Ordering::Relaxed))
}

/// Asks every thread but the owner of `own` for something (`shrinker::ask`).
pub fn ask_others(own: *const ThreadCache, what: u32) {
    for cache in all() {
        // SAFETY: type-stable, atomics.
        let seen = unsafe { &*cache };
        if !core::ptr::eq(cache, own) && is_live(seen) {
            seen.ask(what);
        }
    }
}

/// Where threads come and go without running destructors, their caches are found here.
fn scavenge_if_crowded(quiet: &Quiet) {
    {
        let mut registry = locked(quiet);
        if registry.live < registry.scavenge_at {
            return;
        }
        // Whatever is found, not again before the number has doubled.
        registry.scavenge_at = registry.live * 2;
    }
    if search(quiet) != 0 {
        let mut registry = locked(quiet);
        registry.scavenge_at = (registry.live * 2).max(SCAVENGE_FROM);
    }
}

/// Takes back the caches of threads that no longer exist: one question to the kernel for each thread.
pub fn scavenge() {
    search(&Quiet::new());
}

/// Returns how many caches were found.
fn search(quiet: &Quiet) -> usize {
    let own = tls::alloc_table();
    let mut found = 0;
    for cache in all() {
        // SAFETY: type-stable, atomics.
        let seen = unsafe { &*cache };
        let tid = seen.tid.load(Ordering::Relaxed);
        if !is_live(seen) || tid == 0 || cache as usize == own || peers::thread_exists(tid) {
            continue;
        }
        // One searcher wins the right to it.
        if seen.tid.compare_exchange(tid, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            // SAFETY: its thread no longer exists and the exchange made it ours.
            exit::release(unsafe { &mut *cache }, quiet);
            found += 1;
        }
    }
    found
}

/// For fork: the lock.
pub fn lock() -> &'static Lock<Inner> {
    &REGISTRY
}

impl Torn for Inner {
    fn abandon(&mut self) {
        self.unused = core::ptr::null_mut();
        self.live = self.live.max(1);
    }
}
