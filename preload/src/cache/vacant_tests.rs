//! Vacant caches: who moves in, what waits in them, who empties them, what a handler or a fork makes of a
//! thread that is on its way.

use super::*;
use crate::cache::{drain, registry, shares};
use crate::class::marks::Map;
use crate::class::slab::{Slab, Whereabouts};
use crate::class::work::Work;
use crate::class::{backlog, pool, verdict};
use crate::constants::DECAY_MS;
use crate::front::free::When;
use crate::front::tests::{give, take};
use crate::front::{entry, free, readers, switch};
use crate::os::clock;
use crate::os::signals::Quiet;
use crate::own_process::in_own_process;
use crate::release::scan_log::Reason;
use crate::release::{decay, shrinker};
use std::sync::Barrier;

/// At each instruction: only where the processor steps for a program.
#[cfg(all(test, target_arch = "x86_64"))]
#[path = "vacant_stepping_tests.rs"]
mod stepping;

const SIZE: usize = 100;

fn class() -> Class {
    Class::of_size(SIZE)
}

fn is_out(block: usize) -> bool {
    // SAFETY: a block of this class, or one that was; its slab may have gone, its marks have not.
    unsafe { Map::of(class()).is_out(block) }
}

/// Runs `life` in a thread that leaves its cache, with room for it, when it ends.
fn in_a_thread<T: Send + 'static>(life: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(life).join().unwrap()
}

/// A thread has freed a block and has ended; its cache is vacant.
fn leave_a_block() -> usize {
    let block = in_a_thread(|| {
        let block = take(SIZE);
        give(block);
        block
    });
    assert!(COUNT.load(Relaxed) > 0 && bytes() >= SIZE, "the cache was emptied");
    assert!(!is_out(block), "it could be freed again unseen");
    block
}

fn own_cache() -> usize {
    entry::current().map_or(0, |cache| core::ptr::from_mut(cache) as usize)
}

#[test]
fn the_next_thread_moves_in() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    let first = in_a_thread(|| {
        give(take(SIZE));
        own_cache()
    });
    let (second, blocks) = in_a_thread(|| {
        let cache = entry::current().expect("a cache");
        (own_cache(), (cache.alloc.slot(class()).len(), cache.defer.slot(class()).len()))
    });
    assert_eq!(first, second);
    assert!(blocks.0 > 0 && blocks.1 == 1, "{blocks:?}");
    assert_eq!(COUNT.load(Relaxed), 1);
}

#[test]
fn what_the_last_owner_freed_waits_for_those_who_read_then() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    readers::lock();
    let block = leave_a_block();
    let seen = in_a_thread(move || {
        // Over the budget several times: whatever may be handed out again is.
        let seen = (0..3000).any(|_| {
            let other = take(SIZE);
            give(other);
            other == block
        });
        give(take(SIZE));
        seen
    });
    assert!(!seen, "a block was handed out that a section may still use");
    let block = leave_a_block();
    drain::vacant(0, &mut Work::asked_for());
    assert!((0..1000).all(|_| take(SIZE) != block), "the same, after its cache was emptied");
    readers::unlock();
}

/// A whole period of the decay passes.
fn age() {
    for tick in 1..=crate::constants::IDLE_TICKS as u64 {
        decay::tick(clock::now_coarse_ns() + tick * 1_000_000_000);
    }
}

#[test]
fn barriers_scans_sweeps_and_age_empty_them() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    give(take(SIZE));
    let whoever: [(&str, fn()); 4] = [
        ("barrier", readers::barrier),
        ("trim", || {
            shrinker::scan(usize::MAX, Reason::Trim);
        }),
        ("sweep", || {
            decay::configure(decay::OFF);
            backlog::configure(None, Some(20), true);
            std::thread::sleep(std::time::Duration::from_millis(50));
            // As many slow paths as it takes to look at the clock twice.
            let until = clock::now_ns() + 5_000_000_000;
            while COUNT.load(Relaxed) != 0 && clock::now_ns() < until {
                give(take(100_000));
            }
            backlog::configure(None, Some(1000), true);
            decay::configure(DECAY_MS);
        }),
        ("age", || {
            std::thread::sleep(std::time::Duration::from_millis(1100));
            age();
        }),
    ];
    for (name, act) in whoever {
        let block = leave_a_block();
        act();
        assert_eq!((COUNT.load(Relaxed), bytes()), (0, 0), "{name}");
        assert!(!is_out(block));
        readers::barrier();
        let slab = Slab::of(block);
        assert!(slab.is_none_or(|slab| slab.whereabouts(block) == Whereabouts::Free), "{name}: it was lost");
    }
    leave_a_block();
    drain::vacant(u32::MAX, &mut Work::asked_for());
    age();
    assert_eq!(COUNT.load(Relaxed), 1, "not before its time");
}

#[test]
fn a_call_empties_as_much_as_it_may_and_others_go_on() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    const LEFT: usize = 8;
    // Who ends last but one does not give all of it away.
    decay::configure(decay::OFF);
    let barrier = std::sync::Arc::new(Barrier::new(LEFT));
    let live = |_| {
        let barrier = barrier.clone();
        std::thread::spawn(move || {
            let held: Vec<usize> = (0..1500).map(|at| take(16 + at % 4 * 16)).collect();
            barrier.wait();
            held.into_iter().for_each(give);
        })
    };
    let threads: Vec<_> = (0..LEFT).map(live).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(COUNT.load(Relaxed), LEFT);
    drain::vacant(0, &mut Work::of_a_call());
    assert!(is_unfinished() && COUNT.load(Relaxed) > 1, "{COUNT:?}");
    let mut calls = 0;
    while is_unfinished() && calls < 1000 {
        calls += 1;
        // Its next slow path is to look.
        entry::current().expect("a cache").ask(0);
        give(take(100_000));
    }
    assert!(calls > 1 && !is_unfinished(), "{calls}");
    assert_eq!((COUNT.load(Relaxed), bytes()), (0, 0));
}

#[test]
fn they_are_bounded_in_number_and_in_bytes() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    // Whoever leaves one thread behind empties them all.
    let (stays, ends) = (std::sync::Arc::new(Barrier::new(2)), std::sync::Arc::new(Barrier::new(2)));
    let (there, until) = (stays.clone(), ends.clone());
    let other = std::thread::spawn(move || {
        give(take(16));
        there.wait();
        until.wait();
    });
    stays.wait();
    give(take(16));
    let many = |threads: usize, size: usize, blocks: usize| {
        let barrier = std::sync::Arc::new(Barrier::new(threads));
        let live = |_| {
            let barrier = barrier.clone();
            std::thread::spawn(move || {
                let held: Vec<usize> = (0..blocks).map(|_| take(size)).collect();
                barrier.wait();
                held.into_iter().for_each(give);
            })
        };
        let threads: Vec<_> = (0..threads).map(live).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    };
    many(VACANT_MOST + 40, 16, 1);
    assert_eq!(COUNT.load(Relaxed), VACANT_MOST);
    drain::vacant(0, &mut Work::asked_for());
    many(VACANT_MOST, 8000, 20);
    assert!(COUNT.load(Relaxed) > 2 && bytes() <= backlog::last_budget(), "{}", bytes());
    // One that holds too much for one, but not for all. Nothing is to be over the budget.
    readers::barrier();
    in_a_thread(|| {
        free::free_block(take(700_000), "free", When::Now);
        let held: Vec<usize> = (0..120).map(|_| take(8000)).collect();
        held.into_iter().for_each(give);
    });
    assert_eq!(COUNT.load(Relaxed), 0);
    // There were more than stay, of late.
    many(VACANT_MOST + 1, 16, 1);
    assert_ne!(COUNT.load(Relaxed), 0);
    ends.wait();
    other.join().expect("a thread");
    assert_eq!(COUNT.load(Relaxed), 0, "one is left");
}

#[test]
fn the_child_of_a_fork_has_them_all_once() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    // The forking thread is to have a cache of its own before.
    give(take(SIZE));
    let barrier = std::sync::Arc::new(Barrier::new(3));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let barrier = barrier.clone();
            std::thread::spawn(move || {
                give(take(SIZE));
                barrier.wait();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (count, held) = (COUNT.load(Relaxed), bytes());
    assert_eq!(count, 3);
    // Two are on their way while the fork happens, to the stack or from it, and to be emptied. Nobody else
    // needs the lock.
    let (torn, emptied) = (pop().expect("one"), registry::evict(clock::now_coarse_ms(), 0, &Quiet::new()));
    let left = usize::from(emptied.is_some()) + linked(TO_EMPTY.load(Relaxed)).count();
    assert_eq!(left, 2);
    // SAFETY: the child makes no use of the test's threads and ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let taken_over = std::iter::from_fn(|| drain::take_over_one().then_some(())).count();
        let all: std::collections::HashSet<_> = linked(TOP.load(Relaxed)).collect();
        let wrong = [
            all.len() != 1 || !all.contains(&torn),
            COUNT.load(Relaxed) != 1 || bytes() == 0 || bytes() >= held,
            taken_over != left,
            shares::census().0 != 1,
        ];
        let bits = wrong.iter().fold(0, |bits, &wrong| bits << 1 | i32::from(wrong));
        // SAFETY: ends the child.
        unsafe { libc::_exit(bits) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
}

#[test]
fn what_was_freed_twice_is_found() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    verdict::set_report_only(true);
    in_a_thread(|| {
        let (block, other) = (take(SIZE), take(SIZE));
        [block, other, block].into_iter().for_each(give);
    });
    assert_eq!((verdict::reported(), COUNT.load(Relaxed)), (1, 1));
    // One that ended, and one that comes after it.
    let block = leave_a_block();
    in_a_thread(|| assert_ne!(own_cache(), 0));
    let other = std::thread::spawn(move || {
        // Its own cache, not the vacant one.
        give(block);
        let cache = entry::current().expect("a cache");
        (0..100).for_each(|_| give(take(SIZE)));
        cache.retire_partial();
    });
    other.join().unwrap();
    assert!(verdict::reported() >= 1);
}

/// What an earlier owner freed is marked in and stays so: the next owner's turn marks its own blocks only,
/// and finds one
/// that both freed.
#[test]
fn what_an_earlier_owner_freed_is_marked_in_once() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    verdict::set_report_only(true);
    let theirs = in_a_thread(|| {
        let blocks = [take(SIZE), take(SIZE), take(SIZE)];
        blocks.into_iter().for_each(give);
        blocks
    });
    let ours = in_a_thread(move || {
        let cache = entry::current().expect("a cache");
        assert_eq!(cache.defer.slot(class()).marked_in(), 3, "it did not move in");
        let blocks = [take(SIZE), take(SIZE)];
        blocks.into_iter().for_each(give);
        assert!(theirs.iter().all(|&block| !is_out(block)) && blocks.iter().all(|&block| is_out(block)));
        cache.retire_partial();
        assert!(blocks.iter().all(|&block| !is_out(block)));
        assert_eq!(cache.defer.slot(class()).marked_in(), 0);
        blocks
    });
    assert_eq!(verdict::reported(), 0);
    // All five come back, once each.
    drain::vacant(0, &mut Work::asked_for());
    readers::barrier();
    for block in theirs.into_iter().chain(ours) {
        let slab = Slab::of(block);
        assert!(slab.is_none_or(|slab| slab.whereabouts(block) == Whereabouts::Free), "{block:#x} was lost");
    }
    assert_eq!(pool::of(class()).census().away, 0);
    let block = leave_a_block();
    in_a_thread(move || {
        give(take(SIZE));
        give(block);
        entry::current().expect("a cache").retire_partial();
    });
    assert_eq!(verdict::reported(), 1);
}

/// In the child of a fork, what a thread had that moved into a vacant cache comes back with what was in
/// there.
#[test]
fn the_child_of_a_fork_keeps_what_an_earlier_owner_freed() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    // The forking thread is to have a cache of its own before.
    give(take(200));
    let theirs = leave_a_block();
    let (ready, done) = (std::sync::Arc::new(Barrier::new(2)), std::sync::Arc::new(Barrier::new(2)));
    let next = std::thread::spawn({
        let (ready, done) = (ready.clone(), done.clone());
        move || {
            give(take(SIZE));
            let marked = entry::current().expect("a cache").defer.slot(class()).marked_in();
            ready.wait();
            done.wait();
            marked
        }
    });
    ready.wait();
    // SAFETY: the child makes no use of the test's threads and ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        readers::barrier();
        let is_back = Slab::of(theirs).is_none_or(|slab| slab.whereabouts(theirs) == Whereabouts::Free);
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!is_back || pool::of(class()).census().away != 0)) };
    }
    let mut status = 0;
    // SAFETY: our child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    done.wait();
    assert_eq!(next.join().unwrap(), 1, "it did not move in");
    assert_eq!(status, 0, "something was lost");
}
