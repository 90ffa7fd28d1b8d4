//! The registry: every thread cache there ever was, and those nobody uses.
//!
//! Caches are type-stable metadata. A cache is acquired by the creator of a thread, before it
//! runs, or by a thread itself on its first call; it is given back when the thread ends, or found
//! abandoned (a raw clone that ran no destructor) by asking the kernel whether the thread still
//! exists. One lock, held with signals blocked, so that a handler's first `read_lock` can take it, or by a thread
//! that has a cache, whose handlers need none. What an ended thread leaves whole is vacant (`vacant.rs`);
//! the list of all caches only grows and is walked under the lock or, by statistics, without it.

use crate::class::Torn;
use crate::class::backlog::DOMAIN;
use crate::os::lock::{Guard, Lock};
use crate::os::signals::Quiet;
use crate::os::{peers, tid, tls};
use crate::page::{meta, reserve};
use crate::thread::cache::ThreadCache;
use crate::thread::vacant::{self, Room};
use crate::thread::{exit, mode, shelf};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use rcu::{Reader, ReaderCell};

/// Pages the reserve for `free` holds per live thread, up to [`RESERVE_MOST`] in all.
const RESERVE_PER_THREAD: usize = 1;
/// Most pages of the reserve: it must not make small programs big.
const RESERVE_MOST: usize = 16;
/// Live caches from which on a registration looks for abandoned ones; doubles with each search.
const SCAVENGE_FROM: usize = 64;

/// What the lock protects, beside the taking of vacant caches.
pub struct Inner {
    unused: *mut ThreadCache,
    scavenge_at: usize,
}

// SAFETY: an address of type-stable memory.
unsafe impl Send for Inner {}

#[unsafe(link_section = ".data")]
static REGISTRY: Lock<Inner> = Lock::new(Inner { unused: core::ptr::null_mut(), scavenge_at: SCAVENGE_FROM });
/// Every cache, newest first. Release pushes pair with the acquire of [`all`].
#[unsafe(link_section = ".data")]
static ALL: AtomicPtr<ThreadCache> = AtomicPtr::new(core::ptr::null_mut());
#[unsafe(link_section = ".data")]
static MOST_LIVE: AtomicUsize = AtomicUsize::new(0);
/// Live caches. Relaxed: a number that steers.
#[unsafe(link_section = ".data")]
static LIVE_NOW: AtomicUsize = AtomicUsize::new(0);

/// On the list of unused caches, empty, or on its way there.
const UNUSED: u32 = 0;
/// A thread's, or about to be.
const LIVE: u32 = 1;
/// Whole, without a thread (`vacant.rs`).
const VACANT: u32 = 2;
/// Taken by somebody who empties it, from `VACANT` to `UNUSED`. Nobody's, and no thread that counts.
const EMPTYING: u32 = 3;

/// One live cache more.
fn count_in() {
    let live = LIVE_NOW.fetch_add(1, Ordering::Relaxed) + 1;
    MOST_LIVE.fetch_max(live, Ordering::Relaxed);
    adjust(live);
}

/// One less; how many are left.
fn count_out() -> usize {
    LIVE_NOW.fetch_sub(1, Ordering::Relaxed) - 1
}

/// What follows from the number of live caches.
fn adjust(live: usize) {
    reserve::set_target((live * RESERVE_PER_THREAD).min(RESERVE_MOST));
    shelf::set_threads(live);
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
    let (cache, was_vacant) = {
        let mut registry = locked(quiet);
        let vacant = vacant::pop();
        let cache = match vacant {
            Some(cache) => cache,
            None => unused_or_new(&mut registry)?,
        };
        count_in();
        // SAFETY: taken off its list above, ours alone; the lock, or the exchange that took it, makes its
        // last owner's writes visible.
        let cache = unsafe { &mut *cache };
        cache.reset();
        cache.tid.store(0, Ordering::Relaxed);
        cache.live.store(LIVE, Ordering::Release);
        (cache, vacant.is_some())
    };
    if was_vacant {
        cache.mark_out();
    }
    let cell = cache.cell();
    // SAFETY: the cell is used with this domain only. An unused cache's reader has exited, so it cannot be registered.
    match unsafe { DOMAIN.register(cell, 0) } {
        // The cell stays registered; the cache, not a handle, owns it.
        Ok(reader) => core::mem::forget(reader),
        Err(_) => return None,
    }
    Some(cache)
}

fn unused_or_new(registry: &mut Inner) -> Option<*mut ThreadCache> {
    let unused = registry.unused;
    if !unused.is_null() {
        // SAFETY: unused caches belong to the registry, whose lock is held.
        registry.unused = unsafe { (*unused).next_unused.load(Ordering::Relaxed) };
        return Some(unused);
    }
    let cache = meta::bytes(core::mem::size_of::<ThreadCache>())?.cast::<ThreadCache>().as_ptr();
    // SAFETY: fresh zeroed metadata; the cell is the one part for which zero is wrong.
    unsafe {
        (&raw mut (*cache).reader).write(ReaderCell::new());
        let last = ALL.load(Ordering::Relaxed);
        (*cache).number = last.as_ref().map_or(0, |last| last.number + 1);
        (*cache).next_all.store(last, Ordering::Relaxed);
    }
    ALL.store(cache, Ordering::Release);
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

/// As [`adopt`], in a process that has been switched, for a thread that has no cache unless a handler comes in
/// and gives it one: then nothing, and false. The switch was the last to want to know where the thread's word lies.
pub fn adopt_unless_handled(cache: &ThreadCache) -> bool {
    debug_assert!(mode::is_switched());
    let tid = tid::tid() as u32;
    cache.tid.store(tid, Ordering::Relaxed);
    // SAFETY: registered with the cache, which is for the calling thread alone.
    unsafe { Reader::borrow_cell(cache.cell()) }.set_tid(tid);
    tls::set_tables_if_empty(&raw const cache.alloc as usize, mode::free_table_of(cache))
}

/// Takes back the cache of a thread that will not use it again; its blocks and its reader are
/// gone from it already.
pub fn give_back(cache: &mut ThreadCache, quiet: &Quiet) {
    cache.ledger.close();
    let mut registry = locked(quiet);
    cache.free_word.store(0, Ordering::Relaxed);
    cache.tid.store(0, Ordering::Relaxed);
    let was = cache.live.swap(UNUSED, Ordering::Release);
    cache.next_unused.store(registry.unused, Ordering::Relaxed);
    registry.unused = cache;
    if was == LIVE {
        adjust(count_out());
    }
}

/// Leaves the cache of a thread that will not use it again to the next one, as it is; its reader is gone from it
/// already. No lock: a handler that comes in may need the registry's.
pub fn vacate(cache: &mut ThreadCache, room: Room) {
    cache.ledger.close();
    cache.free_word.store(0, Ordering::Relaxed);
    cache.tid.store(0, Ordering::Relaxed);
    room.note_in(cache);
    // Release: the child of a fork that sees it vacant sees it whole.
    cache.live.store(VACANT, Ordering::Release);
    vacant::push(cache);
    let live = count_out();
    if live.is_power_of_two() {
        // Often enough: who comes next sets it, too.
        adjust(live);
    }
}

/// Takes the caches that have been vacant for `age_ms`, for the caller to empty and to give back.
pub fn evict(now_ms: u32, age_ms: u32, quiet: &Quiet) -> *mut ThreadCache {
    let _registry = locked(quiet);
    let old = vacant::detach(now_ms, age_ms);
    for cache in vacant::linked(old) {
        // SAFETY: type-stable, and detached by us.
        unsafe { (*cache).live.store(EMPTYING, Ordering::Release) };
    }
    old
}

/// In the child of a fork, once the caches of threads that are gone have been given back: the stack of vacant
/// caches is made again of those that were whole, and the live ones are counted.
pub fn restore() {
    vacant::forget_all();
    let mut live = 0;
    for cache in all() {
        // SAFETY: type-stable; no other thread exists.
        let cache = unsafe { &*cache };
        match cache.live.load(Ordering::Acquire) {
            VACANT => vacant::put_back(cache),
            state => live += usize::from(state == LIVE),
        }
    }
    LIVE_NOW.store(live, Ordering::Relaxed);
    adjust(live);
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

/// In the child of a fork: whether somebody was at `cache` who is gone, its thread or one that was emptying it.
pub fn is_abandoned(cache: &ThreadCache) -> bool {
    matches!(cache.live.load(Ordering::Acquire), LIVE | EMPTYING)
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
        let live = LIVE_NOW.load(Ordering::Relaxed);
        if live < registry.scavenge_at {
            return;
        }
        // Whatever is found, not again before the number has doubled.
        registry.scavenge_at = live * 2;
    }
    if search(quiet) != 0 {
        let mut registry = locked(quiet);
        registry.scavenge_at = (LIVE_NOW.load(Ordering::Relaxed) * 2).max(SCAVENGE_FROM);
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
    }
}
