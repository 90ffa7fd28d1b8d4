//! The floor as a whole: frees without memory, ages, exits, marks.

use crate::abi::libc_names::{free, malloc};
use crate::cache::{drain, own, shares};
use crate::class::backlog::{self, DOMAIN};
use crate::class::cause::Cause;
use crate::class::group::Group;
use crate::class::magazine::KINDS;
use crate::class::marks::Map;
use crate::class::size_class::Class;
use crate::class::slab::{Slab, Whereabouts};
use crate::class::work::Work;
use crate::class::{depot, empties, pool, waiting};
use crate::front::free::When;
use crate::front::{entry, exit, readers, realloc, switch};
use crate::os::map;
use crate::own_process::in_own_process;
use crate::release::decay;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(crate) fn take(size: usize) -> usize {
    // SAFETY: any size.
    unsafe { malloc(size) as usize }
}

pub(crate) fn give(block: usize) {
    // SAFETY: a block that `take` gave and that is given back once.
    unsafe { free(block as *mut c_void) }
}

#[test]
fn free_needs_no_memory() {
    in_own_process!();
    switch::go_concurrent();
    const SIZE: usize = 10_240;
    let class = Class::of_size(SIZE);
    // The class has its marks, and the zone some pages: what fails is the growing.
    let first = take(SIZE);
    crate::front::free::free_block(take(2 << 20), "free", When::Now);
    // A section that began before the frees: nothing can be taken up again meanwhile.
    readers::lock();
    map::fail_after(0);
    let blocks: Vec<usize> = std::iter::from_fn(|| Some(take(SIZE)).filter(|&block| block != 0)).collect();
    // Not one page is left, not even for a page of pointers.
    let cache = entry::current().expect("a cache");
    cache.pages.take_all();
    (0..KINDS).for_each(|kind| cache.shed_spares(kind, 0));
    let hoard: Vec<_> = std::iter::from_fn(|| crate::page::zone::alloc_pages(0)).collect();
    let reserve: Vec<_> = std::iter::from_fn(crate::page::reserve::take).collect();
    let empties: Vec<_> = std::iter::from_fn(empties::take_any).collect();
    assert!(blocks.len() > 10);
    for &block in &blocks {
        give(block);
        assert!(Slab::of(block).is_none_or(|slab| slab.whereabouts(block) != Whereabouts::Free));
    }
    assert!(pool::of(class).census().waiting > 0, "the last resort was not needed");
    map::fail_never();
    readers::unlock();
    empties.into_iter().for_each(empties::put);
    for page in hoard.into_iter().chain(reserve) {
        // SAFETY: allocated above.
        unsafe { crate::page::zone::free_pages(page, 0) };
    }
    readers::barrier();
    pool::of(class).settle();
    assert_eq!(pool::of(class).census().waiting, 0);
    give(first);
    let again = take(SIZE);
    assert_ne!(again, 0);
    give(again);
}

/// Whoever believes that a magazine has waited long enough is asked once more.
#[test]
fn what_is_opened_too_early_is_leaked_not_reused() {
    in_own_process!();
    switch::go_concurrent();
    const SIZE: usize = 7_000;
    let class = Class::of_size(SIZE);
    readers::lock();
    let block = take(SIZE);
    give(block);
    let cache = entry::current().expect("a cache");
    let mut filling = cache.defer.slot(class).remove().expect("the block's magazine");
    assert_eq!(filling.blocks(), [block]);
    let mut group = Group::EMPTY;
    group.push(filling);
    let waiting = backlog::stamp(group, class.size()).batch;
    assert!(!waiting::elapsed(&waiting), "a section is open");
    let leaked = DOMAIN.counters().leaked;
    backlog::settle(class.size());
    assert!(waiting::open(waiting).is_none());
    assert_eq!(DOMAIN.counters().leaked, leaked + 1);
    readers::unlock();
    readers::barrier();
    let again: Vec<usize> = (0..100).map(|_| take(SIZE)).collect();
    assert!(!again.contains(&block));
    again.into_iter().for_each(give);
}

/// What piled up while somebody kept periods waiting would else go round for ever.
#[test]
fn what_has_elapsed_is_taken_up_together_and_the_newest_first() {
    in_own_process!();
    switch::go_concurrent();
    const SIZE: usize = 7_000;
    let class = Class::of_size(SIZE);
    let blocks: Vec<usize> = (0..4).map(|_| take(SIZE)).collect();
    let cache = entry::current().expect("a cache");
    cache.alloc.slot(class).remove();
    for &block in &blocks {
        give(block);
        cache.retire_partial();
    }
    let deferred =
        |cache: &crate::cache::thread_cache::ThreadCache| backlog::deferred_and(cache.ledger.balance);
    assert_eq!(deferred(cache), 4 * class.size());
    readers::synchronize("test", true);
    assert_eq!(take(SIZE), blocks[3]);
    assert_eq!(deferred(cache), 0);
    assert_eq!(cache.shelf.held(), 0, "they are one magazine now");
    assert!([take(SIZE), take(SIZE), take(SIZE)].iter().eq(blocks[..3].iter().rev()));
    assert_eq!(cache.shelf.held(), 0);
}

/// In 255 steps of 16 bytes to 4 KiB a string moves 7 times up to 128 bytes, and then each time it is half
/// longer.
#[test]
fn what_grows_in_small_steps_moves_seldom() {
    let (mut block, mut moves) = (take(16), 0);
    for size in (32..=4096).step_by(16) {
        let grown = realloc::resize(block, size);
        assert!(!grown.is_null() && realloc::usable_size(grown as usize) >= size);
        moves += usize::from(grown as usize != block);
        block = grown as usize;
        // SAFETY: the last sixteen bytes that were asked for, and the byte before.
        unsafe {
            assert!(
                size == 32 || *grown.add(size - 17) == (size - 16) as u8,
                "{size}: what was there is lost"
            );
            grown.add(size - 16).write_bytes(size as u8, 16);
        }
    }
    assert_eq!(moves, 15);
    // It shrinks in place to 9/16 of its block, no further.
    let least = realloc::usable_size(block) * 9 / 16;
    assert_eq!(realloc::resize(block, least) as usize, block);
    let moved = realloc::resize(block, least - 1) as usize;
    assert_ne!(moved, block);
    assert_eq!(realloc::usable_size(moved), Class::of_size(least - 1).size());
    give(moved);
}

/// Two threads that each reuse what they free, in many classes: their blocks lie in slabs of their own,
/// nearly all of them. Where they carve the same ones in turn, three slabs in four are shared.
#[test]
fn threads_that_keep_to_themselves_share_few_slabs() {
    in_own_process!();
    const TURNS: usize = 400_000;
    let start = std::sync::Barrier::new(2);
    let work = |mut random: u64| {
        let (mut ring, mut slabs) = ([0; 1024], std::collections::BTreeSet::new());
        start.wait();
        for turn in 0..TURNS {
            let slot = &mut ring[turn % 1024];
            if *slot != 0 {
                give(*slot);
            }
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *slot = take(16 + (random >> 33) as usize % 497);
            if turn >= TURNS / 2 {
                slabs.insert(*slot / crate::constants::SLAB_BYTES);
            }
        }
        ring.into_iter().for_each(give);
        slabs
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| work(2));
        (work(1), other.join().unwrap())
    });
    let (shared, all) = (one.intersection(&other).count(), one.union(&other).count());
    assert!(shared * 2 < all, "{shared} of {all} slabs are shared");
}

#[test]
fn the_slab_defers_a_block_until_its_period_has_passed() {
    in_own_process!();
    switch::go_concurrent();
    let class = Class::of_size(3000);
    let block = take(3000);
    readers::lock();
    crate::cache::retire::defer_in_slab(class, block, "free");
    pool::of(class).settle();
    let slab = Slab::of(block).expect("a slab");
    assert_eq!(slab.whereabouts(block), Whereabouts::Deferred);
    readers::unlock();
    readers::synchronize("test", true);
    pool::of(class).settle();
    assert!(Slab::of(block).is_none_or(|slab| slab.whereabouts(block) != Whereabouts::Deferred));
}

#[test]
fn partial_magazines_are_retired_by_a_barrier_and_settle() {
    in_own_process!();
    switch::go_concurrent();
    let before = backlog::deferred_bytes();
    give(take(100));
    readers::barrier();
    assert!(backlog::deferred_bytes() <= before.max(1 << 20));
}

#[test]
fn what_many_threads_leave_is_poured_together() {
    in_own_process!();
    switch::go_concurrent();
    const SIZE: usize = 620;
    let class = Class::of_size(SIZE);
    // Else each would take up what the one before it has left.
    readers::lock();
    for _ in 0..400 {
        std::thread::spawn(|| give(take(SIZE))).join().unwrap();
        // As where there is no room for its cache.
        drain::vacant(0, &mut Work::asked_for());
    }
    readers::unlock();
    // Each left the block it freed in a group of its own, and the depot gets few magazines of them.
    assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
    depot::distribute_shared(&mut Work::asked_for());
    let (magazines, bytes) = depot::of(class).census();
    assert!((1..=40).contains(&magazines) && bytes >= 300 * SIZE, "{magazines} magazines of {bytes} bytes");
    readers::barrier();
}

#[test]
fn a_freed_block_is_marked_in_at_the_turn() {
    in_own_process!();
    switch::go_concurrent();
    let class = Class::of_size(700);
    let block = take(700);
    // SAFETY: a block of this class.
    assert!(unsafe { Map::of(class).is_out(block) });
    readers::lock();
    give(block);
    let cache = entry::current().expect("a cache");
    cache.reclaim_everything();
    // SAFETY: as above; its slab cannot have gone, for the block waits for our section.
    assert!(!unsafe { Map::of(class).is_out(block) });
    readers::unlock();
}

#[test]
fn marks_find_each_offender_once() {
    in_own_process!();
    let class = Class::of_size(64);
    let blocks: Vec<usize> = (0..29).map(|_| take(64)).collect();
    let map = Map::of(class);
    let mut twice = blocks.clone();
    twice[5] = twice[20];
    let spared = blocks[5];
    // SAFETY: live blocks of this class, ours.
    unsafe {
        assert!(!map.retire(&twice));
        assert_eq!(map.offender(&twice), Some(20));
        assert_eq!(map.offender(&twice), None);
        assert!(map.is_out(spared));
        map.load(&twice);
        assert!(map.retire(&blocks));
        map.load(&blocks);
    }
    blocks.into_iter().for_each(give);
}

#[test]
fn an_exited_thread_is_served_without_a_cache() {
    in_own_process!();
    switch::go_concurrent();
    std::thread::spawn(|| {
        let block = take(100);
        let cache = entry::current().expect("a cache");
        exit::leave(cache);
        assert!(own::has_exited() && entry::current().is_none());
        give(block);
        let other = take(100);
        assert_ne!(other, 0);
        give(other);
        let large = take(100_000);
        assert_ne!(large, 0);
        give(large);
    })
    .join()
    .unwrap();
}

/// Sleepers do not narrow the shelves of those that work.
#[test]
fn the_share_is_that_of_busy_threads() {
    in_own_process!();
    decay::configure(decay::OFF);
    switch::go_concurrent();
    const THREADS: usize = 40;
    // Each turns its magazine often enough to look at the clock.
    let work = || (0..160_000).for_each(|_| give(take(50)));
    let go = std::sync::Arc::new(std::sync::Barrier::new(THREADS + 1));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let go = go.clone();
            std::thread::spawn(move || {
                give(take(50));
                go.wait();
                go.wait();
                work();
                go.wait();
                go.wait();
            })
        })
        .collect();
    go.wait();
    work();
    let (most, part) = (shares::budget_share(), || 2 * backlog::last_budget() / THREADS);
    assert!(most > 2 * part(), "{most}: forty sleep");
    go.wait();
    go.wait();
    assert!(
        shares::budget_share() <= part().max(crate::constants::SHARE_LEAST),
        "{}: forty work",
        shares::budget_share()
    );
    shares::next_period();
    assert!(shares::budget_share() < most, "they worked a moment ago");
    work();
    shares::next_period();
    assert_eq!(shares::budget_share(), most, "they sleep again");
    go.wait();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn the_backlog_stays_under_its_budget_beside_a_sleeper() {
    in_own_process!();
    switch::go_concurrent();
    let (wake, asleep) = std::sync::mpsc::channel::<()>();
    let sleeper = std::thread::spawn(move || {
        give(take(50));
        let _ = asleep.recv();
    });
    std::thread::spawn(|| {
        for round in 0..400_000 {
            give(take(round % 500));
        }
        let budget = backlog::budget_bytes();
        assert!(backlog::deferred_bytes() <= budget + budget / 4, "{}", backlog::deferred_bytes());
    })
    .join()
    .unwrap();
    drop(wake);
    sleeper.join().unwrap();
    assert!(DOMAIN.counters().completed > 0);
}

#[test]
fn a_second_admission_stores_into_nobodys_word() {
    in_own_process!();
    give(take(100));
    let cache = entry::current().expect("a cache");
    // Stands for the word of a thread that ends between the two, and its storage with it.
    let (word, own) = (AtomicUsize::new(7), cache.free_word.load(Relaxed));
    cache.free_word.store(word.as_ptr() as usize, Relaxed);
    switch::admit();
    assert_eq!(word.load(Relaxed), cache.free_table(), "the first one sets it");
    word.store(7, Relaxed);
    switch::admit();
    cache.free_word.store(own, Relaxed);
    assert_eq!(word.load(Relaxed), 7, "the thread may have gone");
}
