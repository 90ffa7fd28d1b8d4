//! The types for programs: what is deferred, when and where it runs, and how much of it there may be.
#![cfg(not(loom))]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::SeqCst,
};
use std::sync::{Arc, Barrier};
use std::thread;

use quiescent::epoch::{self, Atomic, Collector, Current, Owned, Shared};

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn counter() -> Arc<AtomicUsize> {
    Arc::default()
}

/// A collector that no other test uses.
macro_rules! collector {
    () => {{
        struct Own;
        Collector::<Own>::new()
    }};
}

#[test]
fn what_is_deferred_waits_for_a_section_of_another_thread() {
    let (collector, freed) = (collector!(), counter());
    let (opened, close) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let guard = collector.pin();
            opened.wait();
            close.wait();
            drop(guard);
        });
        opened.wait();
        for _ in 0..1000 {
            let guard = collector.pin();
            let freed = Arc::clone(&freed);
            guard.defer(move || freed.fetch_add(1, SeqCst));
            guard.flush();
        }
        let early = freed.load(SeqCst);
        close.wait();
        assert_eq!(early, 0, "a section is open that began before");
    });
    collector.barrier();
    assert_eq!(freed.load(SeqCst), 1000);
}

#[test]
fn with_sections_that_end_a_thread_holds_some_hundred_calls() {
    let (collector, freed) = (collector!(), counter());
    // A reader that sleeps: periods end all the same.
    let asleep = collector.register();
    let mut most = 0;
    for made in 1..=20_000 {
        let (guard, own) = (collector.pin(), Arc::clone(&freed));
        guard.defer(move || own.fetch_add(1, SeqCst));
        drop(guard);
        most = most.max(made - freed.load(SeqCst));
    }
    drop(asleep);
    assert!(most <= 6 * 64, "{most} calls waited at once");
}

#[test]
fn calls_are_made_outside_of_sections_and_may_pin_and_defer() {
    let freed = counter();
    let (inner, collector) = (Arc::clone(&freed), collector!());
    let again = collector.clone();
    collector.pin().defer(move || {
        let guard = again.pin();
        assert_eq!(inner.fetch_add(1, SeqCst), 0);
        let last = Arc::clone(&inner);
        guard.defer(move || last.fetch_add(1, SeqCst));
        guard.flush();
    });
    collector.barrier();
    collector.barrier(); // for what the first one deferred
    assert_eq!(freed.load(SeqCst), 2);
}

#[test]
fn a_call_that_panics_takes_no_other_with_it() {
    let (collector, freed) = (collector!(), counter());
    let guard = collector.pin();
    for n in 0..10 {
        let freed = Arc::clone(&freed);
        guard.defer(move || {
            assert_ne!(n, 3, "the fourth fails");
            freed.fetch_add(1, SeqCst);
        });
    }
    drop(guard);
    assert!(catch_unwind(AssertUnwindSafe(|| collector.barrier())).is_err());
    assert_eq!(freed.load(SeqCst), 9);
    drop(collector.pin()); // and the thread goes on
}

#[test]
fn a_barrier_waits_for_what_a_thread_left_and_for_one_that_is_at_it() {
    let (collector, freed) = (collector!(), counter());
    thread::scope(|scope| {
        let gone = scope.spawn(|| {
            let freed = Arc::clone(&freed);
            collector.pin().defer(move || freed.fetch_add(1, SeqCst));
        });
        gone.join().expect("ends");
        let begun = Arc::new(Barrier::new(2));
        let (own_begun, freed, collector) = (Arc::clone(&begun), &freed, &collector);
        scope.spawn(move || {
            let guard = collector.pin();
            let (own, done) = (Arc::clone(freed), Arc::new(AtomicBool::new(false)));
            let own_done = Arc::clone(&done);
            guard.defer(move || {
                own_begun.wait();
                thread::sleep(std::time::Duration::from_millis(30));
                own.fetch_add(1, SeqCst);
                own_done.store(true, SeqCst);
            });
            guard.flush();
            drop(guard);
            // Nothing holds it up: it runs here, now or at the next pin.
            while !done.load(SeqCst) {
                collector.pin().flush();
            }
        });
        begun.wait();
        collector.barrier();
        assert_eq!(freed.load(SeqCst), 2, "the barrier is over before the call that another thread makes");
    });
}

#[test]
#[should_panic = "would never end"]
fn waiting_under_ones_own_guard_is_refused() {
    let _guard = epoch::pin();
    epoch::synchronize();
}

#[test]
#[should_panic = "would wait for itself"]
fn a_barrier_in_what_is_destroyed_is_refused() {
    let collector = collector!();
    let own = collector.clone();
    collector.pin().defer(move || own.barrier());
    collector.barrier();
}

#[test]
fn a_collector_that_everybody_has_left_destroys_what_it_has() {
    let freed = counter();
    {
        let collector = collector!();
        let handle = collector.register();
        let guard = handle.pin();
        for _ in 0..200 {
            let counted = Owned::new(Counted(Arc::clone(&freed))).into_shared(&guard);
            // SAFETY: no `Atomic` leads to it.
            unsafe { guard.defer_destroy(counted) };
        }
        assert_eq!(freed.load(SeqCst), 0);
    }
    assert_eq!(freed.load(SeqCst), 200);
}

#[test]
fn more_threads_than_the_first_block_has_cells() {
    let (collector, freed) = (collector!(), counter());
    let handles: Vec<_> = (0..300).map(|_| collector.register()).collect();
    let guards: Vec<_> = handles.iter().map(|handle| handle.pin()).collect();
    let last = Arc::clone(&freed);
    guards[0].defer(move || last.fetch_add(1, SeqCst));
    guards[0].flush();
    let mut guards = guards.into_iter();
    guards.nth(298);
    collector.pin().flush();
    assert_eq!(freed.load(SeqCst), 0, "the last of 300 is in a section");
    drop(guards);
    collector.barrier();
    assert_eq!(freed.load(SeqCst), 1);
}

#[test]
fn domains_wait_for_their_own_sections_only() {
    let (slow, quick, freed) = (collector!(), collector!(), counter());
    let _slow = slow.pin();
    let own = Arc::clone(&freed);
    quick.pin().defer(move || own.fetch_add(1, SeqCst));
    quick.barrier();
    assert_eq!(freed.load(SeqCst), 1);
}

#[test]
fn repinning_lets_periods_go_on_and_a_guard_below_does_not() {
    let (collector, freed) = (collector!(), counter());
    let mut guard = collector.pin();
    let waits = |freed: &Arc<AtomicUsize>| {
        let freed = Arc::clone(freed);
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                collector.pin().defer(move || freed.fetch_add(1, SeqCst));
                collector.pin().flush();
            });
            other.join().expect("ends");
        });
    };
    waits(&freed);
    {
        let mut inner = collector.pin();
        inner.repin_after(|| {
            (0..4).for_each(|_| thread::scope(|s| drop(s.spawn(|| collector.pin().flush()))))
        });
        assert_eq!(freed.load(SeqCst), 0, "the outer guard's section goes on");
    }
    guard.repin_after(|| collector.barrier());
    assert_eq!(freed.load(SeqCst), 1);
}

#[test]
fn a_destructor_of_thread_local_storage_may_pin() {
    struct Late(Arc<AtomicUsize>);
    impl Drop for Late {
        fn drop(&mut self) {
            let own = Arc::clone(&self.0);
            epoch::pin().defer(move || own.fetch_add(1, SeqCst));
        }
    }
    thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
    let freed = counter();
    let own = Arc::clone(&freed);
    thread::spawn(move || {
        LATE.with(|late| *late.borrow_mut() = Some(Late(own)));
        drop(epoch::pin());
    })
    .join()
    .expect("ends");
    epoch::barrier();
    assert_eq!(freed.load(SeqCst), 1);
}

#[test]
fn versions_are_dropped_once_each_and_none_is_read_afterwards() {
    struct Version(u64, u64, #[allow(dead_code, reason = "for its drop")] Counted);
    let (collector, freed) = (collector!(), counter());
    let version = |n: u64| Version(n, !n, Counted(Arc::clone(&freed)));
    let current = Current::new(version(0));
    let stop = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while stop.load(Relaxed) == 0 {
                    let guard = collector.pin();
                    let version = current.get(&guard);
                    let before = version.0;
                    (0..50).for_each(|_| std::hint::spin_loop());
                    assert_eq!((version.0, version.1), (before, !before), "reused under a reader");
                }
            });
        }
        scope.spawn(|| (0..5000).for_each(|n| current.replace(version(n), &collector.pin())));
        for _ in 0..5000 {
            current.update(&collector.pin(), |old| version(old.0 + 1));
        }
        stop.store(1, Relaxed);
    });
    drop(current);
    collector.barrier();
    // One more for each time that `update` was overtaken.
    assert!(freed.load(SeqCst) > 10_000);
}

#[test]
fn tags_travel_with_pointers() {
    let guard = epoch::pin();
    let number = Atomic::new(7_u64);
    let plain = number.load(Relaxed, &guard);
    assert_eq!((plain.tag(), plain.deref()), (0, &7));
    assert_eq!(number.fetch_or(1, Relaxed, &guard), plain);
    let marked = number.load(Relaxed, &guard);
    assert_eq!((marked.tag(), marked.deref()), (1, &7));
    assert_ne!(marked, plain);
    let error = number.compare_exchange(plain, Shared::null(), Relaxed, Relaxed, &guard).expect_err("marked");
    assert_eq!(error.current, marked);
    let old = number.swap(Owned::new(8).with_tag(9), Relaxed, &guard);
    assert_eq!(number.load(Relaxed, &guard).tag(), 1, "9 is 1001, and three bits are free");
    // SAFETY: nothing leads to it any more.
    unsafe { guard.defer_destroy(old) };
    // SAFETY: as above; nobody shares it.
    drop(unsafe { number.try_into_owned() });
}

#[test]
fn tags_are_changed_bit_by_bit_and_pointers_by_what_a_closure_makes_of_them() {
    let collector = collector!();
    let guard = collector.pin();
    let shared: Atomic<u64, _> = Atomic::from(Owned::new(5).with_tag(0b110));
    assert_eq!(shared.fetch_and(0b011, AcqRel, &guard).tag(), 0b110);
    assert_eq!(shared.fetch_xor(0b111, AcqRel, &guard).tag(), 0b010);
    assert_eq!(shared.fetch_or(0b010, AcqRel, &guard).tag(), 0b101);
    assert_eq!(shared.load_consume(&guard).tag(), 0b111);
    assert_eq!(shared.fetch_update(AcqRel, Acquire, &guard, |_| None), Err(shared.load(Acquire, &guard)));
    let replaced = shared.fetch_update(AcqRel, Acquire, &guard, |there| Some(there.with_tag(1)));
    assert!(replaced.is_ok_and(|there| there.tag() == 0b111));
    // SAFETY: nobody else has a reference to it.
    unsafe { *shared.load(Acquire, &guard).deref_mut() += 1 };
    let other = shared.clone();
    assert_eq!(format!("{shared:p}"), format!("{:p}", other.load(Acquire, &guard)));
    // SAFETY: `shared` is not used any more, and nobody else has a reference.
    let owned = unsafe { other.load(Acquire, &guard).try_into_owned() }.expect("it is not null");
    assert_eq!((*owned, owned.tag(), *owned.clone()), (6, 1, 6));
    // SAFETY: null.
    assert!(unsafe { Shared::<'_, u64>::null().try_into_owned() }.is_none());
}

#[test]
fn a_guard_knows_its_collector() {
    struct Own;
    let collector = Collector::<Own>::new();
    let handle = collector.register();
    assert_eq!(collector.pin().collector(), Some(&collector));
    assert_eq!((handle.collector(), handle.pin().collector()), (&collector, Some(&collector)));
    assert_eq!(epoch::pin().collector(), Some(epoch::default_collector()));
    // SAFETY: nothing is read under it.
    assert_eq!(unsafe { epoch::unprotected::<Own>() }.collector(), None);
}
