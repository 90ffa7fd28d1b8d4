//! The range map's steps that can race, explored by loom on the map's own code.
//!
//! Run by `cargo xtask loom`. Nodes are small here (four slots), so a split and a join are a few ranges away;
//! a pool of few makes each replaced node come back as soon as its grace period has passed. The content of
//! nodes is plain memory that loom watches: a node that is edited or used again under a reader fails the
//! model whatever the values are.
#![cfg(loom)]

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize as Plain, Ordering as PlainOrdering};

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use quiescent::model as thread;
use quiescent::range_map::{
    Futex, Held, Mapped, Mapping, Measure, Node, NodeSource, RangeMap, Stages, Unmeasured,
};
use quiescent::{Domain, Reader, ReaderBlock, ReaderCell, ReaderWord};

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn domain() -> &'static Domain {
    offered(Domain::init)
}

/// With cells for readers.
fn offered(init: impl FnOnce(&Domain)) -> &'static Domain {
    let domain = leak(Domain::new(1));
    let words = vec![ReaderWord::new()].leak();
    let cells = (0..3).map(|_| ReaderCell::new()).collect::<Vec<_>>().leak();
    domain.add_block(leak(ReaderBlock::new(words, cells)));
    init(domain);
    domain
}

fn explicit(domain: &'static Domain) -> Reader {
    let reader = domain.register(1).unwrap();
    drop(reader.read_lock());
    reader
}

/// So many nodes and no more.
struct Few(Vec<&'static mut Node>);

impl NodeSource for Few {
    fn node(&mut self) -> Option<&'static mut Node> {
        self.0.pop()
    }
}

fn few(nodes: usize) -> Few {
    Few((0..nodes).map(|_| Box::leak(Box::new(Node::new()))).collect())
}

type Map = RangeMap<NonZeroU64, Few>;

/// The heap's: writers have no time to expedite.
struct Nodes(Few);

impl NodeSource for Nodes {
    const EXPEDITES: bool = false;

    fn node(&mut self) -> Option<&'static mut Node> {
        self.0.node()
    }
}

type Glanced = RangeMap<NonZeroU64, Nodes>;

fn value(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).unwrap()
}

fn ten(place: usize) -> Range<usize> {
    place * 10..place * 10 + 10
}

/// A map whose ranges are the tens of these places, each holding its number.
fn map(domain: &'static Domain, nodes: usize, places: &[usize]) -> &'static Map {
    let map = leak(Map::new(few(nodes)));
    for &place in places {
        // SAFETY: one domain and nobody reading yet; so everywhere.
        unsafe { map.write_alone(domain) }.insert(ten(place), value(place as u64)).unwrap();
    }
    map
}

fn store(map: &'static Map, domain: &'static Domain, range: Range<usize>, what: Option<u64>) {
    // SAFETY: one domain. Where nodes are few and still waiting, the change is refused, and that is an
    // answer.
    let _ = unsafe { map.write(domain) }.store(range, what.map(value));
}

fn get(map: &'static Map, reader: &Reader, address: usize) -> Option<u64> {
    let section = reader.read_lock();
    // SAFETY: one domain.
    unsafe { map.view(&section) }.get(address).map(NonZeroU64::get)
}

/// Explores `model` up to `most` preemptions, or those in `LOOM_MAX_PREEMPTIONS` if they are fewer.
fn explore(most: usize, name: &str, model: impl Fn() + Sync + Send + 'static) {
    static EXECUTIONS: Plain = Plain::new(0);
    EXECUTIONS.store(0, PlainOrdering::Relaxed);
    let started = std::time::Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(usize::MAX).min(most));
    builder.max_branches = 20_000;
    let bound = builder.preemption_bound.unwrap_or(usize::MAX);
    builder.check(move || {
        EXECUTIONS.fetch_add(1, PlainOrdering::Relaxed);
        thread::begin(usize::MAX);
        model();
    });
    println!(
        "loom: {name}: {} executions, up to {bound} preemptions, {:.1} s",
        EXECUTIONS.load(PlainOrdering::Relaxed),
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn a_walk_and_leaves_that_are_replaced_and_used_again() {
    explore(2, "get/replace", || {
        let domain = domain();
        // A leaf, and the four that a change asks for: the second change can only have what the first
        // replaced.
        let map = map(domain, 5, &[1]);
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            let found = get(map, &reader, 15).unwrap();
            assert!((1..4).contains(&found), "{found}");
            std::mem::forget(reader);
        });
        store(map, domain, ten(1), Some(2));
        store(map, domain, ten(1), Some(3));
        reading.join().unwrap();
    });
}

/// As the heap looks ranges up: no reader stays registered, the domain has no membarrier, and whoever changes
/// the map ends periods that wait for nobody, so that a leaf that was replaced is used again as soon as no
/// look-up can be in it.
#[test]
fn a_glance_and_leaves_that_are_replaced_and_used_again() {
    static MADE: Plain = Plain::new(0);
    explore(2, "glance/replace", || {
        let domain = offered(Domain::init_without_membarrier);
        let map: &'static Glanced = leak(RangeMap::new(Nodes(few(5))));
        // SAFETY: one domain and nobody reading yet.
        unsafe { map.write_alone(domain) }.insert(ten(1), value(1)).unwrap();
        let looking = thread::spawn(move || {
            // SAFETY: one domain.
            let found = domain.glance(|section| unsafe { map.view(section) }.get(15));
            let found = found.expect("there is a cell").expect("it stays").get();
            assert!((1..6).contains(&found), "{found}");
        });
        for next in 2..6 {
            // SAFETY: one domain, here and below.
            let made = unsafe { map.write(domain) }.store(ten(1), Some(value(next)));
            MADE.fetch_add(usize::from(next == 5 && made.is_ok()), PlainOrdering::Relaxed);
        }
        looking.join().unwrap();
    });
    assert!(MADE.load(PlainOrdering::Relaxed) > 0, "no node was ever used again");
}

/// A range that stays is found through whatever `change` does around it.
fn stays(
    name: &str,
    nodes: usize,
    places: &'static [usize],
    which: usize,
    change: impl Fn(&'static Map, &'static Domain) + Send + Sync + 'static,
) {
    explore(2, name, move || {
        let domain = domain();
        let map = map(domain, nodes, places);
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            assert_eq!(get(map, &reader, which * 10 + 5), Some(which as u64), "a range that stays");
            std::mem::forget(reader);
        });
        change(map, domain);
        reading.join().unwrap();
        // SAFETY: one domain.
        unsafe { map.write(domain) }.check();
    });
}

#[test]
fn a_walk_and_a_leaf_that_is_split_under_a_new_root() {
    stays("get/split", 16, &[1, 2, 3], 2, |map, domain| store(map, domain, 33..35, None));
}

#[test]
fn a_walk_and_leaves_that_are_joined_under_no_root() {
    stays("get/join", 16, &[1, 2, 3, 4, 5], 2, |map, domain| store(map, domain, 30..60, None));
}

#[test]
fn a_walk_and_inner_nodes_that_are_replaced() {
    stays("get/rebalance", 40, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 2, |map, domain| {
        store(map, domain, 55..85, Some(20));
    });
}

#[test]
fn a_walk_and_neighbours_that_are_merged() {
    explore(2, "get/merge", || {
        let domain = domain();
        let map = map(domain, 16, &[1, 2, 3]);
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            let section = reader.read_lock();
            // SAFETY: one domain.
            let found = unsafe { map.view(&section) }.find(15).unwrap();
            let whole = (found.range(), found.value.get());
            assert!(whole == (10..20, 1) || whole == (10..30, 9), "{found:?}");
            drop(section);
            std::mem::forget(reader);
        });
        // SAFETY: one domain.
        unsafe { map.write(domain) }.merge(15, value(9)).unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn a_cursor_and_what_was_removed_before_its_step() {
    explore(2, "cursor/remove", || {
        let domain = domain();
        let map = map(domain, 8, &[1, 2]);
        let gone = leak(AtomicBool::new(false));
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            let section = reader.read_lock();
            // SAFETY: one domain.
            let mut cursor = unsafe { map.view(&section) }.cursor(0);
            assert_eq!(cursor.next().unwrap().value, value(1));
            let was_gone = gone.load(Acquire);
            let found = cursor.next();
            assert!(found.is_none() || !was_gone, "found what was removed before");
            drop(section);
            std::mem::forget(reader);
        });
        store(map, domain, ten(2), None);
        gone.store(true, Release);
        reading.join().unwrap();
    });
}

#[test]
fn two_writers() {
    explore(2, "two writers", || {
        let domain = domain();
        let map = map(domain, 24, &[5]);
        let other = thread::spawn(move || store(map, domain, ten(1), Some(1)));
        store(map, domain, ten(2), Some(2));
        other.join().unwrap();
        // SAFETY: one domain.
        let writer = unsafe { map.write(domain) };
        let found: Vec<u64> = writer.view().iter(0..100).map(|entry| entry.value.get()).collect();
        assert_eq!(found, [1, 2, 5]);
        writer.check();
    });
}

// ---- the staged look-up ----

/// Two words that are the same outside of the lock.
struct Descriptor {
    mapping: Mapping<Futex>,
    words: [AtomicU64; 2],
}

// SAFETY: always the same one, and they are leaked.
unsafe impl Mapped for Descriptor {
    type Sleep = Futex;

    fn mapping(&self) -> &Mapping<Futex> {
        &self.mapping
    }
}

type Mappings = RangeMap<&'static Descriptor, Few>;

fn descriptor(word: u64) -> &'static Descriptor {
    leak(Descriptor { mapping: Mapping::new(), words: [AtomicU64::new(word), AtomicU64::new(word)] })
}

fn read(found: &'static Descriptor) -> [u64; 2] {
    [found.words[0].load(Relaxed), found.words[1].load(Relaxed)]
}

fn write(held: &Held<Descriptor>, word: u64) {
    held.words[0].store(word, Relaxed);
    held.words[1].store(word, Relaxed);
}

fn mappings<M: Measure>(
    domain: &'static Domain,
    map: &'static RangeMap<&'static Descriptor, Few, M>,
    there: &'static Descriptor,
) {
    // SAFETY: one domain.
    drop(unsafe { map.enter(domain, ten(1), there) }.unwrap());
}

#[test]
fn what_is_read_without_a_lock_is_whole() {
    explore(3, "look/change", || {
        let domain = domain();
        let map: &'static Mappings = leak(RangeMap::new(few(8)));
        let there = descriptor(1);
        mappings::<Unmeasured>(domain, map, there);
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            let stages = Stages::new();
            // SAFETY: one domain.
            let [one, two] = unsafe { map.look(&reader, domain, 15, &stages, read) }.unwrap();
            assert_eq!(one, two, "half of a change");
            std::mem::forget(reader);
            let [walk, mapping, in_map] = stages.read();
            assert!(walk + mapping == 1 && in_map == 0);
        });
        write(&Held::lock(there), 2);
        reading.join().unwrap();
    });
}

/// While it is looked up, the descriptor comes to stand for another range, and another one for its own.
fn used_again(
    name: &str,
    look: impl Fn(&'static Mappings, &'static Domain, &Reader) -> Option<u64> + Sync + Send + Copy + 'static,
) {
    explore(2, name, move || {
        let domain = domain();
        let map: &'static Mappings = leak(RangeMap::new(few(24)));
        let (first, second) = (descriptor(1), descriptor(2));
        mappings::<Unmeasured>(domain, map, first);
        Held::lock(second).identify(map, ten(1));
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            let found = look(map, domain, &reader);
            // As it was, or what came in its place; never what it became.
            assert!(matches!(found, Some(1 | 2)), "{found:?}");
            std::mem::forget(reader);
        });
        let mut held = Held::lock(first);
        // SAFETY: one domain.
        unsafe { map.write(domain) }.store(ten(1), Some(second)).unwrap();
        held.identify(map, ten(5));
        write(&held, 9);
        drop(held);
        reading.join().unwrap();
    });
}

#[test]
fn a_look_at_a_descriptor_that_is_used_again() {
    used_again("look/reuse", |map, domain, reader| {
        // SAFETY: one domain.
        let found = unsafe { map.look(reader, domain, 15, &Stages::new(), read) };
        found.map(|[one, two]| {
            assert_eq!(one, two, "half of a change");
            one
        })
    });
}

#[test]
fn a_lock_of_a_descriptor_that_is_used_again() {
    used_again("find_and_lock/reuse", |map, domain, reader| {
        // SAFETY: one domain.
        let held = unsafe { map.find_and_lock(reader, domain, 15, &Stages::new()) }?;
        assert_eq!(held.mapping().range(), ten(1));
        Some(read(held.get())[0])
    });
}

/// How often each stage gave the answer, over all executions of a model: what is to be forced has happened.
struct Answers([Plain; 3]);

impl Answers {
    const fn new() -> Answers {
        Answers([const { Plain::new(0) }; 3])
    }

    fn add(&self, stages: &Stages) {
        for (sum, answers) in self.0.iter().zip(stages.read()) {
            sum.fetch_add(answers as usize, PlainOrdering::Relaxed);
        }
    }

    fn seen(&self) -> [bool; 3] {
        [0, 1, 2].map(|stage| self.0[stage].load(PlainOrdering::Relaxed) != 0)
    }
}

/// The mapping is held and changed: the walk fails until its holder lets go, the second stage answers.
#[test]
fn the_walk_fails_and_the_mapping_answers() {
    static ANSWERS: Answers = Answers::new();
    explore(2, "look/held", || {
        let domain = domain();
        let map: &'static Mappings = leak(RangeMap::new(few(8)));
        // SAFETY: one domain, here and below.
        let held = unsafe { map.enter(domain, ten(1), descriptor(1)) }.unwrap();
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            let stages = Stages::new();
            // SAFETY: as above.
            let read = unsafe { map.look(&reader, domain, 15, &stages, read) };
            assert_eq!(read, Some([2, 2]), "what its holder had not finished");
            ANSWERS.add(&stages);
            std::mem::forget(reader);
        });
        write(&held, 2);
        drop(held);
        reading.join().unwrap();
    });
    assert_eq!(ANSWERS.seen(), [true, true, false]);
}

/// The mapping is held and comes to stand for another range before its holder lets go, so that the second
/// stage locks the wrong one; the right one is free when the map is asked, or held by somebody who replaces
/// it in his turn.
fn the_mapping_fails(name: &str, answers: &'static Answers, holds_second: bool) {
    explore(if holds_second { 1 } else { 2 }, name, move || {
        let domain = domain();
        let map: &'static Mappings = leak(RangeMap::new(few(24)));
        let (first, second, third) = (descriptor(1), descriptor(2), descriptor(4));
        // SAFETY: one domain, here and below.
        let mut held = unsafe { map.enter(domain, ten(1), first) }.unwrap();
        let mut other = Held::lock(second);
        let reader = explicit(domain);
        let locking = thread::spawn(move || {
            let stages = Stages::new();
            // SAFETY: as above.
            let found = unsafe { map.find_and_lock(&reader, domain, 15, &stages) }.expect("it is there");
            assert_eq!((found.mapping().range(), read(found.get())), (ten(1), [3, 3]));
            answers.add(&stages);
            drop(found);
            std::mem::forget(reader);
        });
        other.identify(map, ten(1));
        // SAFETY: as above.
        unsafe { map.write(domain) }.store(ten(1), Some(second)).unwrap();
        held.identify(map, ten(5));
        let other = if holds_second {
            Some(other)
        } else {
            write(&other, 3);
            drop(other);
            None
        };
        write(&held, 9);
        drop(held);
        if let Some(mut other) = other {
            // This one goes, too, while it is waited for.
            let mut last = Held::lock(third);
            last.identify(map, ten(1));
            // SAFETY: as above.
            unsafe { map.write(domain) }.store(ten(1), Some(third)).unwrap();
            other.identify(map, ten(6));
            write(&other, 9);
            write(&last, 3);
        }
        locking.join().unwrap();
    });
    assert!(answers.seen()[2], "{:?}", answers.seen());
}

#[test]
fn the_mapping_fails_and_the_map_answers() {
    static ANSWERS: Answers = Answers::new();
    the_mapping_fails("find_and_lock/map", &ANSWERS, false);
}

#[test]
fn the_mapping_fails_and_what_the_map_says_is_held() {
    static ANSWERS: Answers = Answers::new();
    the_mapping_fails("find_and_lock/map/held", &ANSWERS, true);
}

/// The mapping is held from the beginning, so the walk alone never answers; its holder takes it out.
#[test]
fn a_mapping_that_is_held_and_taken_out() {
    explore(2, "find_and_lock/leave", || {
        let domain = domain();
        let map: &'static Mappings = leak(RangeMap::new(few(16)));
        // SAFETY: one domain, here and below.
        let mut held = unsafe { map.enter(domain, ten(1), descriptor(1)) }.unwrap();
        let reader = explicit(domain);
        let locking = thread::spawn(move || {
            let stages = Stages::new();
            // SAFETY: as above.
            let found = unsafe { map.find_and_lock(&reader, domain, 15, &stages) };
            assert!(found.is_none(), "it was held until it was gone");
            assert_eq!(stages.read(), [0, 0, 0]);
            std::mem::forget(reader);
        });
        // SAFETY: as above.
        unsafe { map.leave(domain, &mut held) }.unwrap();
        drop(held);
        locking.join().unwrap();
    });
}
