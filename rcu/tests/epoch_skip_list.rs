//! A skip list over the types for programs: the structure that asks most of a reclamation, for a node hangs
//! in several lists at once and may be taken out of one while it is put into another. It must behave as a
//! `BTreeMap` does, and destroy what was in it once.
//!
//! A node counts the lists that lead to it, and whoever is still putting it in; who takes the last link away
//! retires it. A mark in a node's link says that the node is taken out of that list.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use quiescent::epoch::{self, Atomic, Guard, Owned, Shared};

/// Lists above each other: enough for some hundred keys.
const LISTS: usize = 8;
const REMOVED: usize = 1;

struct Node<V> {
    key: u64,
    value: V,
    /// Lists that lead to it, and one for who puts it in.
    links: AtomicUsize,
    next: [Atomic<Node<V>>; LISTS],
}

type Link<'g, V> = Shared<'g, Node<V>>;

struct SkipList<V: Send + Sync + 'static> {
    heads: [Atomic<Node<V>>; LISTS],
    dice: AtomicUsize,
}

/// Around a key, in each list: the link that leads past those below it, and what it leads to.
struct Place<'g, V> {
    before: [&'g Atomic<Node<V>>; LISTS],
    behind: [Link<'g, V>; LISTS],
}

impl<'g, V> Place<'g, V> {
    fn found(&self, key: u64) -> Option<Link<'g, V>> {
        let node = self.behind[0];
        node.as_ref().is_some_and(|node| node.key == key).then_some(node)
    }
}

impl<V: Send + Sync + 'static> SkipList<V> {
    fn new() -> Self {
        SkipList { heads: std::array::from_fn(|_| Atomic::null()), dice: AtomicUsize::new(1) }
    }

    fn unlinked(node: Link<'_, V>, guard: &Guard) {
        if node.deref().links.fetch_sub(1, SeqCst) == 1 {
            // SAFETY: no list leads to it and nobody puts it into one; it was the last link, so this is once.
            unsafe { guard.defer_destroy(node) };
        }
    }

    /// Finds the place of a key, and takes out of the lists what stands before it and is removed.
    fn place<'g>(&'g self, key: u64, guard: &'g Guard) -> Place<'g, V> {
        'again: loop {
            let mut place = Place { before: self.heads.each_ref(), behind: [Shared::null(); LISTS] };
            let mut last: Option<&'g Node<V>> = None;
            for list in (0..LISTS).rev() {
                let mut before = last.map_or(&self.heads[list], |node| &node.next[list]);
                let mut behind = before.load(SeqCst, guard);
                if behind.tag() == REMOVED {
                    continue 'again; // the one before was removed meanwhile
                }
                while let Some(node) = behind.as_ref() {
                    let next = node.next[list].load(SeqCst, guard);
                    if next.tag() == REMOVED {
                        let taken = before.compare_exchange(behind, next.with_tag(0), SeqCst, SeqCst, guard);
                        let Ok(now) = taken else { continue 'again };
                        Self::unlinked(behind, guard);
                        behind = now;
                    } else if node.key < key {
                        (last, before, behind) = (Some(node), &node.next[list], next);
                    } else {
                        break;
                    }
                }
                (place.before[list], place.behind[list]) = (before, behind);
            }
            return place;
        }
    }

    fn height(&self) -> usize {
        let roll = self.dice.fetch_add(0x9e37_79b9, SeqCst).wrapping_mul(0x2545_f491_4f6c_dd1d);
        (1 + (roll >> 40).trailing_zeros() as usize).min(LISTS)
    }

    /// False, and nothing done, if the key is there.
    fn insert(&self, key: u64, value: V, guard: &Guard) -> bool {
        let height = self.height();
        let next = std::array::from_fn(|_| Atomic::null());
        let mut new = Owned::new(Node { key, value, links: AtomicUsize::new(2), next });
        let (node, mut place) = loop {
            let place = self.place(key, guard);
            if place.found(key).is_some() {
                return false;
            }
            new.next[0].store(place.behind[0], SeqCst);
            match place.before[0].compare_exchange(place.behind[0], new, SeqCst, SeqCst, guard) {
                Ok(node) => break (node, place),
                Err(error) => new = error.new,
            }
        };
        'lists: for list in 1..height {
            loop {
                let (own, behind) = (&node.deref().next[list], place.behind[list]);
                let old = own.load(SeqCst, guard);
                if old.tag() == REMOVED || own.compare_exchange(old, behind, SeqCst, SeqCst, guard).is_err() {
                    break 'lists;
                }
                node.deref().links.fetch_add(1, SeqCst);
                if place.before[list].compare_exchange(behind, node, SeqCst, SeqCst, guard).is_ok() {
                    break;
                }
                node.deref().links.fetch_sub(1, SeqCst); // one is left: ours
                place = self.place(key, guard);
                if place.found(key) != Some(node) {
                    break 'lists;
                }
            }
        }
        if node.deref().next.iter().any(|next| next.load(SeqCst, guard).tag() == REMOVED) {
            self.place(key, guard); // it was removed meanwhile, and a list may have got it behind that
        }
        Self::unlinked(node, guard);
        true
    }

    fn get<'g>(&'g self, key: u64, guard: &'g Guard) -> Option<&'g V> {
        self.place(key, guard).found(key).map(|node| &node.deref().value)
    }

    /// What was there; of several that remove a key at once, one gets it.
    fn remove<'g>(&'g self, key: u64, guard: &'g Guard) -> Option<&'g V> {
        let node = self.place(key, guard).found(key)?;
        for list in (1..LISTS).rev() {
            node.deref().next[list].fetch_or(REMOVED, SeqCst, guard);
        }
        if node.deref().next[0].fetch_or(REMOVED, SeqCst, guard).tag() == REMOVED {
            return None;
        }
        self.place(key, guard); // takes it out
        Some(&node.deref().value)
    }

    /// The first key from `bound` on.
    fn lower_bound(&self, bound: Bound<u64>, guard: &Guard) -> Option<u64> {
        let from = match bound {
            Included(key) => key,
            Excluded(key) => key.checked_add(1)?,
            Unbounded => 0,
        };
        self.place(from, guard).behind[0].as_ref().map(|node| node.key)
    }

    fn keys(&self, guard: &Guard) -> Vec<u64> {
        std::iter::successors(self.lower_bound(Unbounded, guard), |&key| {
            self.lower_bound(Excluded(key), guard)
        })
        .collect()
    }
}

impl<V: Send + Sync + 'static> Drop for SkipList<V> {
    fn drop(&mut self) {
        let guard = &epoch::pin();
        for key in self.keys(guard) {
            self.remove(key, guard);
        }
        // What hangs in an upper list behind a younger one of the same key.
        self.place(u64::MAX, guard);
    }
}

/// Counts those that were destroyed.
struct Counted(u64, &'static AtomicUsize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
    }
}

#[test]
fn it_does_what_a_map_does() {
    let (list, mut map) = (SkipList::new(), BTreeMap::new());
    let mut dice = 7_u64;
    for round in 0..20_000 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (key, what) = ((dice >> 33) % 512, (dice >> 60) % 4);
        let guard = &epoch::pin();
        match what {
            0 | 1 => assert_eq!(list.insert(key, round, guard), !map.contains_key(&key)),
            2 => assert_eq!(list.remove(key, guard).copied(), map.remove(&key)),
            _ => assert_eq!(list.get(key, guard), map.get(&key)),
        }
        if what < 2 {
            map.entry(key).or_insert(round);
        }
        let next = |bound| map.range((bound, Unbounded)).next().map(|(&key, _)| key);
        assert_eq!(list.lower_bound(Included(key), guard), next(Included(key)));
        assert_eq!(list.lower_bound(Excluded(key), guard), next(Excluded(key)));
    }
    assert!(list.keys(&epoch::pin()).iter().eq(map.keys()));
}

#[test]
fn of_those_who_do_the_same_at_once_one_does_it() {
    const KEYS: u64 = 2000;
    static DESTROYED: AtomicUsize = AtomicUsize::new(0);
    let (list, inserted, removed) = (SkipList::new(), AtomicUsize::new(0), AtomicUsize::new(0));
    let all_at_once = |act: &(dyn Fn(u64) -> bool + Sync), done: &AtomicUsize| {
        thread::scope(|scope| {
            for from in 0..3 {
                scope.spawn(move || {
                    for number in 0..KEYS {
                        done.fetch_add(usize::from(act((number + from * 7) % KEYS)), SeqCst);
                    }
                });
            }
        });
    };
    all_at_once(&|key| list.insert(key, Counted(key, &DESTROYED), &epoch::pin()), &inserted);
    assert_eq!(inserted.load(SeqCst), KEYS as usize);
    assert_eq!(list.keys(&epoch::pin()), (0..KEYS).collect::<Vec<_>>());
    all_at_once(&|key| list.remove(key, &epoch::pin()).is_some_and(|value| value.0 == key), &removed);
    assert_eq!(removed.load(SeqCst), KEYS as usize);
    assert!(list.keys(&epoch::pin()).is_empty());
    epoch::barrier();
    assert_eq!(DESTROYED.load(SeqCst), 3 * KEYS as usize, "each that was made, in the list or refused, once");
}

#[test]
fn keys_that_come_and_go_beside_those_who_read() {
    const KEYS: u64 = 64;
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static DESTROYED: AtomicUsize = AtomicUsize::new(0);
    let list = SkipList::new();
    thread::scope(|scope| {
        for seed in 1..=2_u64 {
            let list = &list;
            scope.spawn(move || {
                for round in 0..20_000_u64 {
                    let key = round.wrapping_mul(2 * seed + 1) % KEYS;
                    let guard = &epoch::pin();
                    if list.remove(key, guard).is_none() {
                        MADE.fetch_add(1, SeqCst);
                        list.insert(key, Counted(key, &DESTROYED), guard);
                    }
                }
            });
        }
        scope.spawn(|| {
            for round in 0..20_000 {
                let guard = &epoch::pin();
                let (low, high) = (list.get(round % KEYS, guard), list.lower_bound(Included(32), guard));
                assert!(low.is_none_or(|value| value.0 == round % KEYS));
                assert!(high.is_none_or(|key| key >= 32));
            }
        });
    });
    drop(list);
    epoch::barrier();
    assert_eq!(DESTROYED.load(SeqCst), MADE.load(SeqCst));
}
