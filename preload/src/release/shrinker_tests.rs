//! Each step of a scan by itself, what no scan may touch, and the circle it must not start.

use super::*;
use crate::class::magazine::KINDS;
use crate::class::slab::Slab;
use crate::class::{depot, group, pool};
use crate::constants::AFTER_SCAN;
use crate::front::free::When;
use crate::front::tests::{give, take};
use crate::front::{entry, free, readers, switch};
use crate::os::map;
use crate::own_process::in_own_process;
use crate::page::memdesc::{self, Kind};
use crate::page::quarter::Quarter;
use crate::release::scan_log;
use std::sync::mpsc;

/// A scan by the calling thread, of which single steps can be taken.
fn scan_of(reason: Reason) -> Scan<'static> {
    Scan { own: entry::current(), target: usize::MAX, given: 0, reason }
}

/// Blocks of `size`, of a class that no other test uses.
fn blocks(size: usize, count: usize) -> Vec<usize> {
    (0..count).map(|_| take(size)).collect()
}

fn is_in_slab(block: usize) -> bool {
    use crate::class::slab::Whereabouts::{Free, NeverGiven};
    Slab::of(block).is_none_or(|slab| matches!(slab.whereabouts(block), Free | NeverGiven))
}

#[test]
fn free_pages_go_up_to_the_target() {
    in_own_process!();
    scan(usize::MAX, Reason::Api);
    let block = take(4 << 20);
    // SAFETY: ours.
    unsafe { (block as *mut u8).write_bytes(1, 4 << 20) };
    free::free_block(block, "free", When::Now);
    let given = scan(1 << 20, Reason::Api);
    assert!((1 << 20..2 << 20).contains(&given), "{given}");
    assert!(zone::dirty_bytes() >= 2 << 20, "no more than was asked for");
    // Untouched memory is no gift.
    let block = take(4 << 20);
    free::free_block(block, "free", When::Now);
    let given = scan(usize::MAX, Reason::Api);
    assert!((2 << 20..4 << 20).contains(&given), "{given}");
    back_off::end();
}

#[test]
fn page_caches_go_by_exchange() {
    in_own_process!();
    back_off::end();
    let cache = entry::current().unwrap();
    cache.pages.restock();
    assert!(!cache.pages.is_empty());
    scan_of(Reason::Api).page_caches();
    assert!(cache.pages.is_empty());
}

#[test]
fn empty_slabs_go() {
    in_own_process!();
    const SIZE: usize = 13_000;
    let class = Class::of_size(SIZE);
    let mut block = [0];
    assert_eq!(pool::of(class).take(class, Quarter::of(0), &mut block, 1), 1);
    assert_eq!(pool::of(class).put(class, &block), None);
    assert!(pool::of(class).kept_bytes() > 0 && pool::of(class).census().slabs == 1);
    scan_of(Reason::Api).empty_slabs();
    assert_eq!(pool::of(class).census().slabs, 0);
    assert_eq!(memdesc::of(block[0]).kind(), Kind::Free);
}

#[test]
fn depots_shelves_and_what_waits_go_but_not_past_a_section() {
    in_own_process!();
    switch::go_concurrent();
    const SIZE: usize = 15_000;
    let class = Class::of_size(SIZE);
    let live = blocks(SIZE, 40);
    readers::lock();
    for &block in &live {
        give(block);
    }
    let cache = entry::current().unwrap();
    cache.retire_partial();
    let waiting = || cache.shelf.held() + group::shared().bytes();
    assert!(waiting() >= 40 * SIZE);
    // Everything a scan can do, twice: the section has begun before the frees.
    for _ in 0..2 {
        assert!(scan(usize::MAX, Reason::Psi) < usize::MAX);
        assert!(live.iter().all(|&block| !is_in_slab(block)), "a block that a section holds was given away");
    }
    readers::unlock();
    let mut scan = scan_of(Reason::Psi);
    scan.depots();
    assert!(live.iter().any(|&block| !is_in_slab(block)), "no period has been ended for it yet");
    scan.waiting();
    assert!(live.iter().all(|&block| is_in_slab(block)));
    assert_eq!(depot::of(class).census(), (0, 0));
    back_off::end();
}

#[test]
fn other_threads_shelves_go_and_their_magazines_are_asked_for() {
    in_own_process!();
    switch::go_concurrent();
    const SIZE: usize = 11_000;
    let class = Class::of_size(SIZE);
    let (wake, asleep) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let other = std::thread::spawn(move || {
        let live = blocks(SIZE, 30);
        live.iter().for_each(|&block| give(block));
        let cache = entry::current().unwrap();
        tell.send((core::ptr::from_ref(cache) as usize, live)).unwrap();
        asleep.recv().unwrap();
        // Not a slow path yet: what it has loaded is still its own.
        let had = cache.alloc.slot(class).len() + cache.defer.slot(class).len();
        cache.slow_path();
        let has = cache.alloc.slot(class).len() + cache.defer.slot(class).len();
        let turns = cache.class(class).quota;
        tell.send((
            had,
            vec![has, usize::from(turns), cache.asked.load(core::sync::atomic::Ordering::Relaxed) as usize],
        ))
        .unwrap();
    });
    let (cache, live) = told.recv().unwrap();
    // SAFETY: type-stable; what is looked at is atomic or volatile.
    let cache = unsafe { &*(cache as *const ThreadCache) };
    assert!(cache.shelf.held() > 0);
    scan(usize::MAX, Reason::Psi);
    assert_eq!(cache.shelf.held(), 0);
    assert!(live.iter().any(|&block| is_in_slab(block)));
    assert!(cache.is_asked());
    wake.send(()).unwrap();
    let (had, after) = told.recv().unwrap();
    assert!(had > 0, "a sleeper's own magazines were taken");
    assert_eq!(after, [0, 0, 0], "blocks left, turns, requests");
    other.join().unwrap();
    back_off::end();
}

#[test]
fn own_magazines_go() {
    in_own_process!();
    const SIZE: usize = 9_000;
    let class = Class::of_size(SIZE);
    give(take(SIZE));
    let cache = entry::current().unwrap();
    assert!(cache.alloc.slot(class).len() + cache.defer.slot(class).len() > 0);
    scan_of(Reason::Api).partial();
    assert_eq!(cache.alloc.slot(class).len() + cache.defer.slot(class).len(), 0);
    assert_eq!((0..KINDS).map(|kind| cache.spares[kind].len()).sum::<usize>(), 0);
}

#[test]
fn the_reserve_stays() {
    in_own_process!();
    entry::current().unwrap();
    reserve::set_target(3);
    reserve::top_up();
    let bound = reserve::target();
    assert!(bound > 0 && reserve::len() >= bound);
    for reason in [Reason::Trim, Reason::Psi, Reason::MapFailed] {
        scan(usize::MAX, reason);
        assert!(reserve::len() >= bound, "{reason:?}: {} of {bound} pages", reserve::len());
    }
    // And a scan that finds it used fills it up before it gives anything.
    let taken = reserve::take().unwrap();
    scan(usize::MAX, Reason::Psi);
    assert!(reserve::len() >= bound);
    // SAFETY: taken above, unused.
    unsafe { reserve::put(taken) };
    back_off::end();
}

#[test]
fn a_refusal_loses_nothing() {
    in_own_process!();
    let block = take(6 << 20);
    // SAFETY: ours.
    unsafe { (block as *mut u8).write_bytes(1, 6 << 20) };
    free::free_block(block, "free", When::Now);
    let dirty = zone::dirty_bytes();
    map::fail_after(0);
    let given = scan(usize::MAX, Reason::Psi);
    map::fail_never();
    assert_eq!(given, 0);
    assert!(zone::dirty_bytes() >= dirty);
    assert!(scan(usize::MAX, Reason::Psi) >= 6 << 20);
    back_off::end();
}

#[test]
fn after_a_scan_refills_are_small_until_it_is_quiet() {
    in_own_process!();
    const SIZE: usize = 300;
    let class = Class::of_size(SIZE);
    // Past the slow start a refill is a whole magazine.
    let live = blocks(SIZE, 5000);
    let refills = |count: usize| {
        let before = back_off::refills();
        let live = blocks(SIZE, count);
        let after = back_off::refills();
        (after.0 - before.0, after.1 - before.1, live)
    };
    let (all, suppressed, more) = refills(500);
    assert_eq!(suppressed, 0);
    assert!(all <= 10, "{all}");
    // A small one, which leaves this thread's magazines alone.
    let block = take(1 << 20);
    // SAFETY: ours.
    unsafe { (block as *mut u8).write_bytes(1, 1 << 20) };
    free::free_block(block, "free", When::Now);
    scan(PAGE, Reason::Psi);
    assert_eq!(entry::current().unwrap().class(class).quota, 0, "magazines start small");
    let (all, suppressed, most) = refills(5000);
    assert!(all == suppressed && all as usize >= 5000 / (AFTER_SCAN / SIZE + 4), "{suppressed} of {all}");
    assert_eq!(entry::current().unwrap().loan.share_bytes(), crate::constants::SHARE_LEAST);
    back_off::end();
    let (all, suppressed, last) = refills(5000);
    assert_eq!(suppressed, 0);
    assert!(all < 200, "{all}");
    [live, more, most, last].concat().into_iter().for_each(give);
}

#[test]
fn what_was_done_is_told() {
    in_own_process!();
    let before = scan_log::tallies()[Reason::Signal as usize];
    let block = take(3 << 20);
    // SAFETY: ours.
    unsafe { (block as *mut u8).write_bytes(1, 3 << 20) };
    free::free_block(block, "free", When::Now);
    let given = pressure(2, Reason::Signal);
    let after = scan_log::tallies()[Reason::Signal as usize];
    assert_eq!((after.scans, after.bytes), (before.scans + 1, before.bytes + given as u64));
    let last = scan_log::last().unwrap();
    assert_eq!(last[2..5], [Reason::Signal as u64, u64::MAX, given as u64]);
    assert!(last[0] > 0 && last[1] > 0);
    assert_eq!(pressure(0, Reason::Signal), 0);
    back_off::end();
}
