//! Vacant caches: what a thread that ends leaves to the next one as it is.
//!
//! A thread's magazines are worth something to the thread after it: loaded ones need not be carved again,
//! filling ones go on being filled, what waits goes on waiting and is refilled from. So a cache that holds no
//! more than it should stays whole when its thread ends, and the next thread moves in. No magazine is opened
//! or stamped for that; blocks that were freed are marked in meanwhile, so that double frees are found. A
//! block that the last owner freed lies in a filling magazine without a cookie: whoever takes that magazine
//! out, the next owner or the one that empties the cache, stamps it behind its last block, so the block waits
//! for a grace period that begins after its free (G1).
//!
//! Bounded in number and in bytes; a thread that finds no room gives its magazines away, as ever. Those that
//! nobody has moved into for the age limit are emptied by sweeps and by decay, all of them by scans
//! (`malloc_trim`, pressure), by `rcumalloc_barrier` and at the end of the process. They leave the stack
//! together for a list of those that are to be emptied, from which each call takes one after the other as far
//! as there is work to be had, and to which it returns one that it has not finished.
//!
//! A stack, so the warmest is taken first and the oldest lie below. Threads push without a lock, since a
//! thread that has given up its tables may not hold the registry's while a handler can come in; whoever
//! removes holds it, so a cache that is on top cannot leave and come back under the hands of somebody who
//! removes it. Those behind the top change for nobody else.

use crate::cache::mode;
use crate::cache::thread_cache::ThreadCache;
use crate::class::backlog;
use crate::class::check_in::check_in;
use crate::class::magazine::{KINDS, Magazine, kind_bytes};
use crate::class::marks::Map;
use crate::class::size_class::{CLASSES, Class};
pub use crate::constants::VACANT_MOST;
use crate::constants::{PAGE, VACANT_PART};
use crate::os::clock;
use core::ptr::null_mut;
use core::sync::atomic::{
    AtomicPtr, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// The one vacated last.
#[unsafe(link_section = ".data")]
static TOP: AtomicPtr<ThreadCache> = AtomicPtr::new(null_mut());
/// Those that nobody is to move into any more, linked as the stack is. Changed under the registry's lock.
#[unsafe(link_section = ".data")]
static TO_EMPTY: AtomicPtr<ThreadCache> = AtomicPtr::new(null_mut());
/// How many, and the bytes of what they hold, with those that are about to be pushed and those that are not
/// empty yet.
#[unsafe(link_section = ".data")]
static COUNT: AtomicUsize = AtomicUsize::new(0);
#[unsafe(link_section = ".data")]
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// How many there are.
pub fn count() -> usize {
    COUNT.load(Relaxed)
}

/// Bytes that vacant caches hold.
pub fn bytes() -> usize {
    BYTES.load(Relaxed)
}

/// Room for one more, of so many bytes.
pub struct Room(usize);

/// Room for `cache`, if it may stay as it is.
pub fn room_for(cache: &mut ThreadCache) -> Option<Room> {
    let (bytes, budget) = (cache.count_held(), backlog::last_budget());
    if bytes > budget >> VACANT_PART {
        return None;
    }
    // Relaxed: bounds, kept by the sums that come back.
    let (others, held) = (COUNT.fetch_add(1, Relaxed), BYTES.fetch_add(bytes, Relaxed));
    if others >= VACANT_MOST || held + bytes > budget {
        leave_room(bytes);
        return None;
    }
    Some(Room(bytes))
}

/// One that took so many bytes is empty, or has an owner again.
pub fn leave_room(bytes: usize) {
    COUNT.fetch_sub(1, Relaxed);
    BYTES.fetch_sub(bytes, Relaxed);
}

impl Room {
    /// Notes in `cache` that it takes this room from now on.
    pub fn note_in(self, cache: &ThreadCache) {
        cache.vacant_bytes.store(self.0, Relaxed);
        cache.vacant_ms.store(clock::now_coarse_ms(), Relaxed);
    }
}

/// Puts `cache` on top: it is whole, marked vacant, and nobody's. Any thread, no lock.
pub fn push(cache: &ThreadCache) {
    let this = core::ptr::from_ref(cache).cast_mut();
    let mut top = TOP.load(Relaxed);
    loop {
        cache.next_vacant.store(top, Relaxed);
        // Release pairs with the Acquire in `pop` and `detach`: what the last owner did is seen.
        match TOP.compare_exchange_weak(top, this, Release, Relaxed) {
            Ok(_) => return,
            Err(now) => top = now,
        }
    }
}

/// Takes the top one. Under the registry's lock.
pub fn pop() -> Option<*mut ThreadCache> {
    let mut top = TOP.load(Acquire);
    loop {
        // SAFETY: type-stable; below a top that only we may remove nothing changes.
        let cache = unsafe { top.as_ref() }?;
        match TOP.compare_exchange_weak(top, cache.next_vacant.load(Relaxed), Acquire, Acquire) {
            Ok(_) => {
                leave_room(cache.vacant_bytes.load(Relaxed));
                return Some(top);
            }
            Err(now) => top = now,
        }
    }
}

/// Has those emptied that have been vacant for `age_ms`, each of which is given to `note`. Under the
/// registry's lock.
pub fn detach(now_ms: u32, age_ms: u32, note: impl Fn(&ThreadCache)) {
    let is_old = |cache: &ThreadCache| {
        // A little negative if it was pushed since the clock was read.
        let age = now_ms.wrapping_sub(cache.vacant_ms.load(Relaxed)) as i32;
        age.max(0) as u32 >= age_ms
    };
    let mut link = &TOP;
    let first = loop {
        // Acquire: pairs with the Release in `push`.
        let here = link.load(Acquire);
        // SAFETY: type-stable, and on the stack, which only we may take from.
        let Some(cache) = (unsafe { here.as_ref() }) else { return };
        if is_old(cache) {
            // Another may have come on top.
            if link.compare_exchange(here, null_mut(), Acquire, Relaxed).is_ok() {
                break here;
            }
            continue;
        }
        link = &cache.next_vacant;
    };
    for cache in linked(first) {
        // SAFETY: taken above, and type-stable.
        let cache = unsafe { &*cache };
        note(cache);
        to_empty(cache);
    }
}

/// Somebody is to go on with emptying `cache`. Under the registry's lock.
pub fn to_empty(cache: &ThreadCache) {
    cache.next_vacant.store(TO_EMPTY.load(Relaxed), Relaxed);
    TO_EMPTY.store(core::ptr::from_ref(cache).cast_mut(), Relaxed);
}

/// Takes one that is to be emptied. Under the registry's lock.
pub fn next_to_empty() -> Option<*mut ThreadCache> {
    let first = TO_EMPTY.load(Relaxed);
    // SAFETY: null or type-stable.
    TO_EMPTY.store(unsafe { first.as_ref() }?.next_vacant.load(Relaxed), Relaxed);
    Some(first)
}

/// Whether some are still to be emptied.
pub fn is_unfinished() -> bool {
    !TO_EMPTY.load(Relaxed).is_null()
}

/// The caches linked behind `first`, each of which may go once it has been given out.
pub fn linked(first: *mut ThreadCache) -> impl Iterator<Item = *mut ThreadCache> {
    let mut next = first;
    core::iter::from_fn(move || {
        let cache = next;
        // SAFETY: null or type-stable.
        next = unsafe { cache.as_ref() }?.next_vacant.load(Relaxed);
        Some(cache)
    })
}

/// In the child of a fork: the stack may have been left between two of its states; `registry` has every
/// vacant cache pushed again.
pub fn forget_all() {
    TOP.store(null_mut(), Relaxed);
    TO_EMPTY.store(null_mut(), Relaxed);
    COUNT.store(0, Relaxed);
    BYTES.store(0, Relaxed);
}

/// In the child of a fork: puts back one that was vacant.
pub fn put_back(cache: &ThreadCache) {
    COUNT.fetch_add(1, Relaxed);
    BYTES.fetch_add(cache.vacant_bytes.load(Relaxed), Relaxed);
    push(cache);
}

impl ThreadCache {
    /// Bytes of everything in it. Its magazines are to grow from small again.
    fn count_held(&mut self) -> usize {
        let (large, _) = self.shelf.held_large();
        let mut bytes = self.shelf.held() + self.open_bytes + large + self.pages.len() * PAGE;
        for kind in 0..KINDS {
            bytes += self.spares[kind].len() * kind_bytes(kind);
        }
        for index in 0..CLASSES {
            let class = Class::new(index);
            let state = &mut self.classes[index];
            state.quota = 0;
            let warm = state.warm.as_ref().map_or(0, Magazine::len);
            let blocks = warm + self.alloc.peek(class).len() + self.defer.peek(class).len();
            bytes += blocks * class.size();
        }
        bytes
    }

    /// Marks the blocks that its last owner freed in, as a turn does: one that it freed twice is found, and
    /// so is whoever frees one of them again. Its thread's words name it no more. Blocks that it did not come
    /// to hand out stay marked out, as they are in a thread that lives.
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    pub fn mark_in(&mut self) {
        for class in Class::all() {
            let filling = self.defer.slot(class);
            filling.take_in(class);
            filling.note_marked_in();
        }
        if !mode::frees_defer() {
            for class in Class::all() {
                self.alloc.slot(class).take_in(class);
                if let Some(warm) = &mut self.class(class).warm {
                    check_in(class, warm);
                }
            }
        }
    }

    /// Somebody moves in, or is going to give away what is in it: marks out again what malloc is to pop. What
    /// is filling stays marked in, and its slot says so.
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    pub fn mark_out(&mut self) {
        if !mode::frees_defer() {
            for class in Class::all() {
                mark_out(class, self.alloc.slot(class).blocks());
                if let Some(warm) = &mut self.class(class).warm {
                    mark_out(class, warm.blocks());
                }
            }
        }
    }
}

#[inline(always)]
fn mark_out(class: Class, blocks: &[usize]) {
    if !blocks.is_empty() {
        // SAFETY: the blocks that `mark_in` marked, in a magazine that is the caller's.
        unsafe { Map::of(class).load(blocks) };
    }
}

#[cfg(test)]
#[path = "vacant_tests.rs"]
mod tests;
