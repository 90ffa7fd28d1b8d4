//! Structures as one writes them for crossbeam-epoch, over both: the same lines, and only the import differs.
#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

/// Counts those that live.
pub struct Value(u64, &'static AtomicUsize);

impl Value {
    fn new(value: u64, alive: &'static AtomicUsize) -> Value {
        alive.fetch_add(1, SeqCst);
        Value(value, alive)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.1.fetch_sub(1, SeqCst);
    }
}

macro_rules! structures {
    ($name:ident, $($import:tt)*) => {
        // Here it is safe to read what a guard protects.
        #[allow(unused_unsafe, reason = "as crossbeam's users write it")]
        mod $name {
            use super::Value;
            use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
            use $($import)*::{Atomic, Guard, Owned, Shared, pin, unprotected};

            pub struct Node {
                value: Value,
                next: Atomic<Node>,
            }

            fn free(list: &mut Atomic<Node>) {
                // SAFETY: `&mut`: nobody else reads the list, or retires its nodes.
                let guard = unsafe { unprotected() };
                let mut next = list.load(Relaxed, guard);
                while !next.with_tag(0).is_null() {
                    // SAFETY: not null, and the list, our own, leads to each node once.
                    let node = unsafe { next.with_tag(0).into_owned() };
                    next = node.next.load(Relaxed, guard);
                }
            }

            /// Treiber's stack.
            #[derive(Default)]
            pub struct Stack(Atomic<Node>);

            impl Stack {
                pub fn push(&self, value: Value) {
                    let guard = pin();
                    let mut node = Owned::new(Node { value, next: Atomic::null() });
                    loop {
                        let head = self.0.load(Relaxed, &guard);
                        node.next.store(head, Relaxed);
                        match self.0.compare_exchange(head, node, Release, Relaxed, &guard) {
                            Ok(_) => return,
                            Err(error) => node = error.new,
                        }
                    }
                }

                pub fn pop(&self) -> Option<u64> {
                    let guard = pin();
                    loop {
                        let head = self.0.load(Acquire, &guard);
                        // SAFETY: read under the guard: a node is freed behind it, once it is unlinked.
                        let node = unsafe { head.as_ref() }?;
                        let next = node.next.load(Relaxed, &guard);
                        if self.0.compare_exchange(head, next, Relaxed, Relaxed, &guard).is_ok() {
                            let value = node.value.0;
                            // SAFETY: this thread's exchange unlinked it, so nobody else retires it.
                            unsafe { guard.defer_destroy(head) };
                            return Some(value);
                        }
                    }
                }
            }

            impl Drop for Stack {
                fn drop(&mut self) {
                    free(&mut self.0);
                }
            }

            /// Harris and Michael's sorted list: a tag on `next` says that the node is removed.
            #[derive(Default)]
            pub struct Set(Atomic<Node>);

            impl Set {
                /// Where `value` belongs: what leads there, and what is there.
                fn find<'g>(&'g self, value: u64, guard: &'g Guard) -> (&'g Atomic<Node>, Shared<'g, Node>) {
                    'again: loop {
                        let mut before = &self.0;
                        let mut there = before.load(Acquire, guard);
                        // SAFETY: as in `pop`, for every node that is met on the way.
                        while let Some(node) = unsafe { there.as_ref() } {
                            let next = node.next.load(Acquire, guard);
                            if next.tag() == 1 {
                                let next = next.with_tag(0);
                                if before.compare_exchange(there, next, AcqRel, Acquire, guard).is_err() {
                                    continue 'again;
                                }
                                // SAFETY: as in `pop`: the exchange that succeeds unlinks it.
                                unsafe { guard.defer_destroy(there) };
                                there = next;
                            } else if node.value.0 >= value {
                                break;
                            } else {
                                (before, there) = (&node.next, next);
                            }
                        }
                        return (before, there);
                    }
                }

                pub fn contains(&self, value: u64) -> bool {
                    let guard = pin();
                    let (_, there) = self.find(value, &guard);
                    // SAFETY: as in `pop`.
                    unsafe { there.as_ref() }.is_some_and(|node| node.value.0 == value)
                }

                pub fn insert(&self, value: Value) -> bool {
                    let guard = pin();
                    let mut new = Owned::new(Node { value, next: Atomic::null() });
                    loop {
                        let (before, there) = self.find(new.value.0, &guard);
                        // SAFETY: as in `pop`.
                        if unsafe { there.as_ref() }.is_some_and(|node| node.value.0 == new.value.0) {
                            return false;
                        }
                        new.next.store(there, Relaxed);
                        match before.compare_exchange(there, new, AcqRel, Acquire, &guard) {
                            Ok(_) => return true,
                            Err(error) => new = error.new,
                        }
                    }
                }

                pub fn remove(&self, value: u64) -> bool {
                    let guard = pin();
                    loop {
                        let (_, there) = self.find(value, &guard);
                        // SAFETY: as in `pop`.
                        let node = match unsafe { there.as_ref() } {
                            Some(node) if node.value.0 == value => node,
                            _ => return false,
                        };
                        if node.next.fetch_or(1, AcqRel, &guard).tag() == 0 {
                            self.find(value, &guard); // unlinks it
                            return true;
                        }
                    }
                }
            }

            impl Drop for Set {
                fn drop(&mut self) {
                    free(&mut self.0);
                }
            }
        }
    };
}

structures!(ours, quiescent::epoch);
structures!(crossbeam, crossbeam_epoch);

#[test]
fn a_stack_of_crossbeams_users_gives_back_what_was_pushed() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    let stack = ours::Stack::default();
    let push = |from: u64| (from..20_000).step_by(2).for_each(|n| stack.push(Value::new(n, &ALIVE)));
    let pop = || std::iter::repeat_with(|| stack.pop()).take(20_000).flatten().collect::<Vec<_>>();
    let mut popped = thread::scope(|scope| {
        let pushers = [scope.spawn(|| push(0)), scope.spawn(|| push(1))];
        let mut popped = scope.spawn(pop).join().expect("pops");
        pushers.into_iter().for_each(|pusher| pusher.join().expect("pushes"));
        popped.extend(std::iter::from_fn(|| stack.pop()));
        popped
    });
    popped.sort_unstable();
    assert_eq!(popped, (0..20_000).collect::<Vec<_>>());
    quiescent::epoch::barrier();
    assert_eq!(ALIVE.load(SeqCst), 0, "each was destroyed, and once");
}

#[test]
fn a_stack_of_crossbeams_users_answers_as_over_crossbeam() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    let (ours, theirs) = (ours::Stack::default(), crossbeam::Stack::default());
    for n in 0..10_000_u64 {
        if n.is_multiple_of(3) {
            assert_eq!(ours.pop(), theirs.pop());
        } else {
            ours.push(Value::new(n, &ALIVE));
            theirs.push(Value::new(n, &ALIVE));
        }
    }
}

#[test]
fn a_sorted_list_of_crossbeams_users_answers_as_over_crossbeam() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static THEIRS: AtomicUsize = AtomicUsize::new(0);
    let (set, theirs, mut truth) = (ours::Set::default(), crossbeam::Set::default(), BTreeSet::new());
    let mut random = 1_u64;
    for _ in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let value = random >> 33 & 63;
        match random >> 40 & 3 {
            0 | 1 => {
                let new = truth.insert(value);
                assert_eq!(set.insert(Value::new(value, &ALIVE)), new);
                assert_eq!(theirs.insert(Value::new(value, &THEIRS)), new);
            }
            2 => {
                let gone = truth.remove(&value);
                assert_eq!((set.remove(value), theirs.remove(value)), (gone, gone));
            }
            _ => {
                let found = truth.contains(&value);
                assert_eq!((set.contains(value), theirs.contains(value)), (found, found));
            }
        }
    }
    quiescent::epoch::barrier();
    assert_eq!(ALIVE.load(SeqCst), truth.len());
}

#[test]
fn a_sorted_list_survives_threads_that_insert_and_remove_the_same_values() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    let set = ours::Set::default();
    // How often each value went in, less how often it went out.
    let balance: [AtomicUsize; 16] = std::array::from_fn(|_| AtomicUsize::new(0));
    thread::scope(|scope| {
        for seed in 0..4_u64 {
            let (set, balance) = (&set, &balance);
            scope.spawn(move || {
                let mut random = seed;
                for _ in 0..10_000 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
                    let value = random >> 33 & 15;
                    if random >> 40 & 1 == 0 {
                        if set.insert(Value::new(value, &ALIVE)) {
                            balance[value as usize].fetch_add(1, SeqCst);
                        }
                    } else if set.remove(value) {
                        balance[value as usize].fetch_sub(1, SeqCst);
                    }
                }
            });
        }
    });
    for value in 0..16 {
        assert_eq!(balance[value as usize].load(SeqCst), usize::from(set.contains(value)), "value {value}");
    }
    drop(set);
    quiescent::epoch::barrier();
    assert_eq!(ALIVE.load(SeqCst), 0);
}
