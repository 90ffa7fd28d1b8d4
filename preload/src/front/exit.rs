//! A thread's last moments.
//!
//! A key destructor of libc gives the cache back. Other destructors may call malloc after ours,
//! so ours asks to be called once more, and only then lets go: by then all of them have run, but for those
//! that ask for more rounds themselves. What the thread still frees after that (libc frees its own
//! thread-local storage last of all) finds the
//! *exited* table: it is served block by block, without a cache, and creates nothing
//! (`free_after_tls_destroyed`).
//!
//! What the cache holds stays in it for the next thread (`vacant.rs`); where there is no room for that it is
//! emptied. Leaving it makes no system call and takes no lock, which a handler might want: a handler finds
//! the thread with its cache or without one, because both words of the thread change in one instruction.
//!
//! At the end of the process nothing is freed, but what is in the exiting thread's magazines is
//! checked once more for blocks that were freed twice.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{mode, own, registry, retire, stock, vacant};
use crate::class::backlog;
use crate::class::depot;
use crate::class::empties;
use crate::class::group;
use crate::class::large_batch::{self, Queue};
use crate::class::lists::Stack;
use crate::class::magazine::{KINDS, Magazine};
use crate::class::marks::Map;
use crate::class::size_class::{CLASSES, Class};
use crate::class::verdict;
use crate::class::work::Work;
use crate::os::signals::Quiet;
use crate::os::tls;
use crate::release::{decay, watcher};
use core::sync::atomic::{AtomicU32, Ordering};

/// In which of libc's four rounds of key destructors (`PTHREAD_DESTRUCTOR_ITERATIONS`) the cache is given
/// back: every other destructor has run once before that. A round costs some 500 instructions.
const ROUNDS: u32 = 2;

/// The key, plus one; 0 while there is none.
#[unsafe(link_section = ".data")]
static KEY: AtomicU32 = AtomicU32::new(0);

/// Creates the key whose destructor ends a thread's cache. Idempotent. Without a key (libc has
/// none left) caches of ended threads are found by the registry's search.
pub fn create_key() {
    if KEY.load(Ordering::Acquire) != 0 {
        return;
    }
    let mut key = 0;
    // SAFETY: a plain call with a function of the right type; libc does not allocate for it.
    if unsafe { libc::pthread_key_create(&mut key, Some(destroy)) } != 0 {
        return;
    }
    // Without a lock, which would stay taken in the child of a fork that another thread makes meanwhile: of
    // two that come at once, one keeps its key. Release pairs with the Acquire above and in `watch_thread`.
    if KEY.compare_exchange(0, key + 1, Ordering::Release, Ordering::Relaxed).is_err() {
        // SAFETY: nobody knows of it.
        unsafe { libc::pthread_key_delete(key) };
    }
}

/// Asks libc to call us when the calling thread ends. The thread has its tables already: libc
/// allocates for keys past its first 32.
pub fn watch_thread(cache: &mut ThreadCache) {
    let key = KEY.load(Ordering::Acquire);
    if key != 0 {
        // SAFETY: the key exists for the life of the process.
        unsafe { libc::pthread_setspecific(key - 1, (&raw mut *cache).cast()) };
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
unsafe extern "C" fn destroy(cache: *mut libc::c_void) {
    let cache = cache.cast::<ThreadCache>();
    if tls::alloc_table() != cache as usize {
        return;
    }
    // SAFETY: the calling thread's own cache.
    let cache = unsafe { &mut *cache };
    cache.rounds += 1;
    if cache.rounds < ROUNDS {
        return watch_thread(cache);
    }
    leave(cache);
}

/// Lets go of the calling thread's cache, for good.
pub fn leave(cache: &mut ThreadCache) {
    stock::give_back(cache);
    cache.close_freed();
    cache.share_large(&mut Work::of_a_call());
    registry::begin_to_leave(cache);
    // A section that a handler opens finds the cache whole, or gone.
    match vacant::room_for(cache) {
        // Until the switch is complete, the thread's word has to be taken from whoever makes it.
        Some(room) if mode::is_switched() => {
            tls::set_tables(own::exited_table(), own::exited_table());
            cache.leave_domain();
            cache.mark_in();
            registry::vacate(cache, room);
        }
        _ => {
            let quiet = Quiet::new();
            registry::forget_word(cache, &quiet);
            tls::set_tables(own::exited_table(), own::exited_table());
            release(cache, &quiet);
        }
    }
    decay::note_work();
    watcher::after_thread();
}

/// Empties `cache`, whose thread will not use it again, and gives it back.
pub fn release(cache: &mut ThreadCache, quiet: &Quiet) {
    empty_all(cache, Rest::ToDepot);
    if backlog::is_over_budget() {
        cache.reclaim_surplus();
    }
    cache.leave_domain();
    registry::give_back(cache, quiet);
}

/// Where the rest of a thread's own magazines goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// The next thread will take it as it is: one operation a magazine.
    ToDepot,
    /// It is to be given back, block by block.
    ToSlabs,
}

/// Gives away everything `cache` holds: what waits, to the depot; what may be handed out, to where
/// `rest` says; empty magazines and pages, to their stores. As far as there is `work` to be had: false if
/// something is left. What then waits may be more than the budget: a scan or a sweep, which come here, go on
/// to reclaim it, and [`release`] does.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn empty(cache: &mut ThreadCache, rest: Rest, work: &mut Work) -> bool {
    let quarter = cache.quarter();
    for index in 0..CLASSES {
        let class = Class::new(index);
        if !work.goes_on() {
            return false;
        }
        if !cache.defer.slot(class).is_empty() {
            cache.retire_filling(class);
        } else if let Some(empty) = cache.defer.slot(class).remove() {
            empties::put(empty);
        }
        let loaded = cache.alloc.slot(class).remove();
        let warm = cache.class(class).warm.take();
        for mut magazine in [loaded, warm].into_iter().flatten() {
            retire::check_in(class, &mut magazine);
            work.did(magazine.len());
            if rest == Rest::ToDepot && !magazine.is_empty() {
                depot::of(class).put(quarter, magazine);
            } else {
                depot::flush(magazine);
            }
        }
        while work.goes_on()
            && let Some(magazine) = cache.shelf.open_waiting().pop_full(class)
        {
            work.did(magazine.len());
            depot::of(class).put(quarter, magazine);
        }
        cache.class(class).quota = 0;
    }
    cache.stamp_open();
    while work.goes_on()
        && let Some((group, bytes)) = cache.shelf.open_waiting().waiting.pop()
    {
        work.did(1);
        group::share(group, bytes);
    }
    if !work.goes_on() {
        return false;
    }
    cache.stamp_freed();
    cache.share_large(work);
    cache.shelf.open_waiting().ready.empty();
    for kind in 0..KINDS {
        cache.shed_spares(kind, 0);
    }
    cache.pages.drain(0);
    true
}

/// As [`empty`], all of it.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn empty_all(cache: &mut ThreadCache, rest: Rest) {
    empty(cache, rest, &mut Work::asked_for());
}

/// As [`empty`] for the cache of a thread that a fork left behind in whatever it was doing: a
/// block that is already in is not a double free but was on its way, and is left where it is.
pub fn abandon(cache: &mut ThreadCache) {
    cache.shelf.close_abandoned();
    large_batch::put_torn(core::mem::replace(&mut cache.shelf.open_waiting().large, Queue::EMPTY));
    for index in 0..CLASSES {
        let class = Class::new(index);
        let marked = cache.defer.slot(class).marked_in();
        let filling = cache.defer.slot(class).remove_if_whole();
        let loaded = cache.alloc.slot(class).remove_if_whole();
        // In the middle of a turn it may be in two places.
        let warm = cache.class(class).warm.take().filter(|warm| loaded.as_ref() != Some(warm));
        for (magazine, marked) in [(filling, marked), (loaded, 0), (warm, 0)] {
            if let Some(magazine) = magazine {
                keep_marked_out(cache, class, magazine, marked);
            }
        }
    }
    cache.open_bytes = cache.open_group.bytes();
    // A grace period has passed for what was filling: the readers that could see it are gone,
    // all but this thread's own section, if it is in one; so it waits like the rest.
    empty_all(cache, Rest::ToSlabs);
    // A list that was being changed may not be as empty as it looks.
    let mut shelf = cache.shelf.open_waiting();
    shelf.forget();
    drop(shelf);
    cache.spares = [const { Stack::new() }; KINDS];
}

/// Drops the blocks that are marked in from `magazine`, but for the first `marked`, which are meant to be.
/// What is left waits with the open group.
fn keep_marked_out(cache: &mut ThreadCache, class: Class, mut magazine: Magazine, marked: usize) {
    let mut kept = 0;
    let blocks = magazine.blocks();
    for at in 0..blocks.len() {
        // SAFETY: entries of a magazine of a thread that is gone.
        if at < marked || unsafe { Map::of(class).take_in(blocks[at]) } {
            blocks[kept] = blocks[at];
            kept += 1;
        }
    }
    magazine.set_len(kept);
    if kept == 0 {
        return empties::put(magazine);
    }
    cache.note_waiting(class, kept);
    cache.open_group.push(magazine);
}

/// At the end of the process: double frees that no turn has found yet, in the calling thread's
/// magazines. Changes nothing.
pub fn verify_own() {
    let table = tls::alloc_table();
    if table == tls::empty_table() || own::has_exited() {
        return;
    }
    // SAFETY: neither of the static tables, so the word is the thread's own cache.
    let cache = unsafe { &mut *(table as *mut ThreadCache) };
    for index in 0..CLASSES {
        let class = Class::new(index);
        let warm = cache.classes[index].warm.as_mut().map_or(&[][..], |warm| &*warm.blocks());
        let loaded = blocks_of(cache.alloc.peek(class));
        let filling = cache.defer.peek(class);
        let filling = blocks_of(filling).get(filling.marked_in()..).unwrap_or_default();
        let all = || warm.iter().chain(loaded).chain(filling);
        for &block in all() {
            // SAFETY: blocks in our own magazines; each byte is set back below.
            if !unsafe { Map::of(class).take_in(block) } {
                verdict::double_free("free", block, class, verdict::Found::AtTurn);
            }
        }
        for &block in all() {
            // SAFETY: as above.
            unsafe { Map::of(class).let_out(block) };
        }
    }
}

pub(crate) fn blocks_of(slot: &crate::cache::table::Slot) -> &[usize] {
    if slot.low.is_null() {
        return &[];
    }
    // SAFETY: a slot of the caller's: `low` to `top` are its blocks.
    unsafe { core::slice::from_raw_parts(slot.low, slot.len()) }
}
