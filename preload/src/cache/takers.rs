//! Taking from other threads' shelves.
//!
//! A taker, who is over the budget or out of memory, moves everything of an *idle* thread, one that has
//! turned no magazine since a taker last came by, to the depot, or to the slabs if its grace period has
//! passed.

use crate::cache::registry;
use crate::cache::seats::{self, Seat};
use crate::cache::shelf::Shelf;
use crate::cache::thread_cache::{ThreadCache, ask};
use crate::class::queue::Queue;
use crate::class::size_class::Class;
use crate::class::work::Work;
use crate::class::{depot, group, large_batch, large_pages, waiting};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes on all shelves, vacant caches' too. Walks them.
pub fn all_bytes() -> usize {
    let held = |cache: *mut ThreadCache| {
        // SAFETY: type-stable; single words that anybody may look at.
        let shelf = unsafe { &(*cache).shelf };
        shelf.held() + shelf.held_large().0
    };
    registry::all().map(held).sum()
}

/// Lets go of every shelf that the calling thread had open as a taker in a frame that is gone.
pub fn let_go_of_own() {
    for cache in registry::all() {
        // SAFETY: type-stable; only the shelf is borrowed.
        unsafe { &(*cache).shelf }.let_go_of_own();
    }
}

/// Whose shelves are to be cleared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Of threads that turned no magazine since somebody last came for memory.
    Idle,
    /// Of threads that turned none for a decay period. They are asked for the rest, too.
    Aged,
    /// Of every thread.
    Everybody,
}

impl Whose {
    const COUNT: usize = 3; // (given) as a count
}

/// Of each kind of walk, the number of the seat at which the next one begins: where the last one stopped for
/// want of work, else the first.
static NEXT_SEAT: [AtomicUsize; Whose::COUNT] = [const { AtomicUsize::new(0) }; Whose::COUNT];

/// Clears the shelves of other threads: what is on them goes to the slabs if it may be handed
/// out, else to the depots. Their page caches go to the zone. As far as there is `work` to be had: false if
/// there are threads left, with which the next call goes on.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
pub fn clear_others(own: *const ThreadCache, whose: Whose, work: &mut Work) -> bool {
    let first = if work.is_bounded() { NEXT_SEAT[whose as usize].load(Ordering::Relaxed) } else { 0 };
    for seat in seats::taken_from(first) {
        if !work.goes_on() {
            return stop_at(seat, whose);
        }
        let cache = ThreadCache::at(seat);
        if core::ptr::eq(cache, own) {
            continue;
        }
        work.did_look();
        // SAFETY: type-stable. Only the shelf and the page cache are borrowed, and the turns are two single
        // words that the owner may be writing.
        let (shelf, pages, turns) = unsafe {
            let loaded = (&raw const (*cache).loaded).read_volatile();
            let retired = (&raw const (*cache).retired).read_volatile();
            (&(*cache).shelf, &(*cache).pages, loaded.wrapping_add(retired))
        };
        let (large, reused) = shelf.held_large();
        let turns = turns.wrapping_add(reused);
        let seen = shelf.note_seen(whose == Whose::Aged, turns);
        if seen != turns && whose != Whose::Everybody {
            if whose == Whose::Aged {
                // It may turn less often than it did: once a period it looks at the clock.
                // SAFETY: as above.
                unsafe { (*cache).ask(0) };
            }
            continue;
        }
        if shelf.held() + large != 0 {
            clear(shelf, work);
        }
        pages.take_all();
        if whose == Whose::Aged && turns != 0 {
            // SAFETY: as above.
            unsafe { (*cache).ask(ask::EMPTY) };
        }
        if !work.goes_on() && shelf.held() + shelf.held_large().0 != 0 {
            // The next call begins with the rest of it.
            return stop_at(seat, whose);
        }
    }
    NEXT_SEAT[whose as usize].store(0, Ordering::Relaxed);
    true
}

#[inline(never)]
fn stop_at(seat: &Seat, whose: Whose) -> bool {
    NEXT_SEAT[whose as usize].store(seat.number(), Ordering::Relaxed);
    false
}

/// Gives what is on it to the slabs if it may be handed out, else to the queues for all threads. It is open
/// for one operation at a time, so its owner is not kept out for long.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn clear(shelf: &Shelf, work: &mut Work) {
    let large = {
        let Some(mut open) = shelf.open_by_taker() else { return };
        open.ready.empty();
        core::mem::replace(&mut open.large, Queue::EMPTY)
    };
    large_batch::shared().put_all(large);
    large_pages::reclaim(work);
    while work.goes_on()
        && let Some((group, bytes)) = shelf.open_by_taker().and_then(|mut open| open.waiting.pop())
    {
        if waiting::elapsed(&group) {
            depot::flush_group(group, bytes, work);
        } else {
            work.did(0);
            group::shared().put(group, bytes);
        }
    }
    for class in Class::all() {
        while work.goes_on()
            && let Some(magazine) = shelf.open_by_taker().and_then(|mut open| open.pop_full(class))
        {
            work.did(magazine.len());
            depot::flush(magazine);
        }
    }
}
