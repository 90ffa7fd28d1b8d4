//! Emptying a cache: the only place that takes everything out of one.
//!
//! Three kinds of caches are emptied here: one that a thread gives away, at its end or because a scan asks
//! ([`empty`]); one that a thread is gone from in whatever it was doing, in the child of a fork or by a
//! handler that jumped out ([`abandon`]); and those that nobody has moved into ([`vacant`](fn@vacant)).

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{registry, retire, stock, vacant};
use crate::class::check_in::check_in;
use crate::class::lists::Stack;
use crate::class::magazine::{KINDS, Magazine};
use crate::class::marks::Map;
use crate::class::queue::Link;
use crate::class::queue::Queue;
use crate::class::size_class::{CLASSES, Class};
use crate::class::work::Work;
use crate::class::{depot, empties, group, large_batch};
use crate::os::clock;
use crate::os::signals::Quiet;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::Ordering::Relaxed;

/// Empties `cache`, whose thread will not use it again, and gives it back.
pub fn release(cache: &mut ThreadCache, quiet: &Quiet) {
    empty_all(cache, Rest::ToDepot);
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
/// something is left. What then waits may be more than the budget: a scan or a sweep goes on to reclaim it.
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
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
            check_in(class, &mut magazine);
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
    cache.forget_round();
    cache.stamp_open();
    while work.goes_on()
        && let Some((group, bytes)) = cache.shelf.open_waiting().waiting.pop()
    {
        work.did(1);
        group::shared().put(group, bytes);
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
#[unsafe(link_section = ".text_threads")]
pub fn empty_all(cache: &mut ThreadCache, rest: Rest) {
    empty(cache, rest, &mut Work::asked_for());
}

/// As [`empty`] for the cache of a thread that a fork left behind in whatever it was doing: a
/// block that is already in is not a double free but was on its way, and is left where it is.
pub fn abandon(cache: &mut ThreadCache) {
    cache.shelf.close_abandoned();
    large_batch::shared().put_torn(core::mem::replace(&mut cache.shelf.open_waiting().large, Queue::EMPTY));
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

/// Empties the caches that nobody has moved into for `age_ms` milliseconds; with 0, all; as far as there is
/// `work` to be had. Whoever looks next goes on. Any thread; not in a signal handler, and with no lock held.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
pub fn vacant(age_ms: u32, work: &mut Work) {
    if vacant::count() == 0 {
        return;
    }
    let quiet = Quiet::new();
    while work.goes_on()
        && let Some(cache) = registry::evict(clock::now_coarse_ms(), age_ms, &quiet)
    {
        // SAFETY: taken off its list for us.
        let cache = unsafe { &mut *cache };
        // What an earlier call has left of it is marked as it was then.
        cache.mark_out();
        if empty(cache, Rest::ToSlabs, work) {
            vacant::leave_room(cache.vacant_bytes.load(Relaxed));
            registry::give_back(cache, &quiet);
        } else {
            registry::put_off(cache, &quiet);
        }
    }
}

/// Goes on with emptying those that an earlier call has not finished with.
pub fn go_on(work: &mut Work) {
    if vacant::is_unfinished() {
        vacant(u32::MAX, work);
    }
}

/// Gives the stock of `cache` back, whose thread ends or is gone.
pub fn stock(cache: &ThreadCache) {
    // First: a handler finds none from here on.
    let Some(stock) = NonNull::new(cache.stock.swap(null_mut(), Relaxed)) else { return };
    for class in Class::all() {
        // SAFETY: type-stable, and nobody else's any more.
        while let Some(block) = unsafe { stock.as_ref() }.take(class) {
            retire::defer_in_slab(class, block, "rcumalloc_prefill");
        }
    }
    // SAFETY: empty, and named by nothing.
    unsafe { stock::unmake(stock) };
}

/// Takes over what one of the threads held that a fork has left behind, if there is one: what may be handed
/// out goes to the slabs, the rest waits. A child comes here when it needs fresh blocks and when it looks at
/// the clock. False: there is none.
pub fn take_over_one() -> bool {
    registry::has_orphans() && take_over(&Quiet::new())
}

#[inline(never)]
#[unsafe(link_section = ".text_start")]
fn take_over(quiet: &Quiet) -> bool {
    let Some(cache) = registry::take_orphan(quiet) else { return false };
    stock(cache);
    abandon(cache);
    registry::give_back(cache, quiet);
    true
}

/// Before there is one cache more: one that is left behind is emptied, and where threads come and go without
/// running destructors, theirs are found.
#[unsafe(link_section = ".text_start")]
pub fn make_room(quiet: &Quiet) {
    take_over(quiet);
    if registry::is_crowded(quiet) && search(quiet) {
        registry::note_scavenged(quiet);
    }
}

/// Takes back the caches of threads that no longer exist.
pub fn scavenge() {
    search(&Quiet::new());
}

/// The same; whether there was one.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn search(quiet: &Quiet) -> bool {
    let mut found = false;
    for cache in registry::deserted() {
        release(cache, quiet);
        found = true;
    }
    found
}
