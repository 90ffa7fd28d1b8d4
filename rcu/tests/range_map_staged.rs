//! The staged look-up, each stage forced to fail in turn, and all of it under fire.
#![cfg(not(loom))]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::thread;

use common::*;
use quiescent::range_map::{Futex, Held, Mapped, Mapping, Node, RangeMap, Sleep, Stages, Walked};
use quiescent::{Domain, Reader};

/// Counts who waits for a mapping's lock: a test that wants a thread there waits for that.
struct Counted;

static WAITS: AtomicU32 = AtomicU32::new(0);

impl Sleep for Counted {
    unsafe fn wait(word: *const u32, seen: u32) {
        WAITS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { Futex::wait(word, seen) };
    }

    unsafe fn wake(word: *const u32) {
        // SAFETY: the caller's promise.
        unsafe { Futex::wake(word) };
    }
}

/// What a test knows of a mapping: two words that are always the same outside of the lock.
struct Descriptor {
    mapping: Mapping<Counted>,
    words: [AtomicU64; 2],
}

// SAFETY: always the same one, and descriptors are leaked.
unsafe impl Mapped for Descriptor {
    type Sleep = Counted;

    fn mapping(&self) -> &Mapping<Counted> {
        &self.mapping
    }
}

fn descriptor(word: u64) -> &'static Descriptor {
    leak(Descriptor { mapping: Mapping::new(), words: [AtomicU64::new(word), AtomicU64::new(word)] })
}

impl Descriptor {
    /// Under its lock.
    fn set(&self, word: u64) {
        self.words[0].store(word, Relaxed);
        std::hint::spin_loop();
        self.words[1].store(word, Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.words[0].load(Relaxed), self.words[1].load(Relaxed))
    }
}

type Map = RangeMap<&'static Descriptor, fn() -> Option<&'static mut Node>>;

fn node() -> Option<&'static mut Node> {
    Some(Box::leak(Box::new(Node::new())))
}

fn map() -> (&'static Domain, &'static Map) {
    (fast_domain(), leak(Map::new(node as fn() -> _)))
}

/// Tests that watch `WAITS` take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs `meanwhile` while `body`, on a thread of its own, waits for a mapping's lock.
fn while_waiting<R: Send>(
    domain: &'static Domain,
    body: impl FnOnce(&Reader) -> R + Send,
    meanwhile: impl FnOnce(),
) -> R {
    let before = WAITS.load(SeqCst);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| body(&reader(domain)));
        while WAITS.load(SeqCst) == before {
            assert!(!waiting.is_finished(), "it did not wait");
            thread::yield_now();
        }
        meanwhile();
        waiting.join().expect("no panic")
    })
}

#[test]
fn a_mapping_that_nobody_holds_is_found_by_the_walk() {
    let (domain, map) = map();
    let (reader, stages) = (reader(domain), Stages::new());
    // SAFETY: one domain, here and in all tests.
    drop(unsafe { map.enter(domain, 10..20, descriptor(7)) }.expect("room"));
    // SAFETY: as above.
    unsafe {
        assert_eq!(map.look(&reader, domain, 15, &stages, Descriptor::read), Some((7, 7)));
        assert_eq!(map.look(&reader, domain, 20, &stages, Descriptor::read), None);
        let held = map.find_and_lock(&reader, domain, 10, &stages).expect("it is there");
        assert_eq!(held.mapping().range(), 10..20);
        let section = reader.read_lock();
        assert_eq!(map.peek(&section, 15, Descriptor::read), Walked::Unsure);
        assert_eq!(map.peek(&section, 25, Descriptor::read), Walked::Nothing);
        drop(held);
        assert_eq!(map.peek(&section, 15, Descriptor::read), Walked::Found((7, 7)));
    }
    assert_eq!(stages.read(), [2, 0, 0]);
}

/// The mapping changes between the two loads of a reader that has taken no lock.
#[test]
fn what_changed_while_it_was_read_is_read_again_under_the_lock() {
    let (domain, map) = map();
    let (reader, stages) = (reader(domain), Stages::new());
    let there = descriptor(7);
    // SAFETY: one domain.
    drop(unsafe { map.enter(domain, 10..20, there) }.expect("room"));
    let mut calls = 0;
    let read = |found: &'static Descriptor| {
        calls += 1;
        let one = found.words[0].load(Relaxed);
        if calls == 1 {
            Held::lock(there).set(8);
        }
        (one, found.words[1].load(Relaxed))
    };
    // SAFETY: as above.
    let seen = unsafe { map.look(&reader, domain, 15, &stages, read) };
    assert_eq!((seen, calls), (Some((8, 8)), 2));
    assert_eq!(stages.read(), [0, 1, 0]);
}

#[test]
fn a_mapping_that_is_held_is_waited_for() {
    let _turn = turn();
    let (domain, map) = map();
    let stages = Stages::new();
    // SAFETY: one domain.
    let held = unsafe { map.enter(domain, 10..20, descriptor(7)) }.expect("room");
    let seen = while_waiting(
        domain,
        // SAFETY: as above.
        |reader| unsafe { map.look(reader, domain, 15, &stages, Descriptor::read) },
        || {
            held.set(8);
            drop(held);
        },
    );
    assert_eq!((seen, stages.read()), (Some((8, 8)), [0, 1, 0]));
}

/// While a thread waits for the mapping it found, that descriptor comes to stand for another range.
#[test]
fn a_descriptor_that_was_used_again_is_not_taken_for_what_it_was() {
    let _turn = turn();
    let (domain, map) = map();
    let stages = Stages::new();
    let (first, second) = (descriptor(7), descriptor(8));
    // SAFETY: one domain.
    let mut held = unsafe { map.enter(domain, 10..20, first) }.expect("room");
    let found = while_waiting(
        domain,
        // SAFETY: as above.
        |reader| unsafe { map.find_and_lock(reader, domain, 15, &stages) }.map(|held| held.get().read()),
        // SAFETY: as above.
        || unsafe {
            map.leave(domain, &mut held).expect("nodes");
            held.identify(map, 50..60);
            map.write(domain).insert(50..60, first).expect("room");
            drop(map.enter(domain, 10..20, second).expect("room"));
            drop(held);
        },
    );
    assert_eq!((found, stages.read()), (Some((8, 8)), [0, 0, 1]));
    // SAFETY: as above. Letting go of the wrong one did it no harm.
    let there = unsafe { map.look(&reader(domain), domain, 55, &stages, Descriptor::read) };
    assert_eq!((there, stages.read()), (Some((7, 7)), [1, 0, 1]));
}

/// As above, and what has come in its place is held, too, by somebody who needs the map's lock.
#[test]
fn under_the_maps_lock_nobody_is_waited_for() {
    let _turn = turn();
    let (domain, map) = map();
    let stages = Stages::new();
    let (first, second) = (descriptor(7), descriptor(8));
    // SAFETY: one domain.
    let mut held = unsafe { map.enter(domain, 10..20, first) }.expect("room");
    let found = while_waiting(
        domain,
        // SAFETY: as above.
        |reader| unsafe { map.find_and_lock(reader, domain, 15, &stages) }.is_some(),
        || {
            // SAFETY: as above.
            let mut other = unsafe {
                map.leave(domain, &mut held).expect("nodes");
                map.enter(domain, 10..20, second).expect("room")
            };
            let before = WAITS.load(SeqCst);
            drop(held);
            while WAITS.load(SeqCst) == before {
                thread::yield_now();
            }
            // It waits for the second mapping; it must not have the map's lock.
            // SAFETY: as above.
            unsafe { map.leave(domain, &mut other) }.expect("nodes");
            drop(other);
        },
    );
    assert_eq!((found, stages.read()), (false, [0, 0, 0]));
}

/// Mappings that move, shrink and change their words under readers and lockers: what was found contains the
/// address, and is whole.
#[test]
fn under_fire_every_answer_is_whole_and_of_the_right_range() {
    const PLACES: usize = 64;
    let look_ups: u64 =
        std::env::var("RCU_RANGE_LOOKUPS").map_or(50_000, |text| text.parse().expect("a number"));
    let (domain, map) = map();
    let stop = AtomicBool::new(false);
    let all: Vec<&'static Descriptor> = (0..PLACES as u64).map(descriptor).collect();
    let counted = thread::scope(|scope| {
        // Joined one by one below: ThreadSanitizer does not see how a scope waits for its threads.
        let writers: Vec<_> = (0..2)
            .map(|rest| {
                let (stop, all) = (&stop, &all);
                scope.spawn(move || {
                    let mut word = rest as u64;
                    while !stop.load(Relaxed) {
                        for (place, &descriptor) in
                            all.iter().enumerate().filter(|(place, _)| place % 2 == rest)
                        {
                            // Where it is: the range says so in its words.
                            word += 5;
                            let start = (word as usize % PLACES) * 100 + 50 * rest;
                            let range = start..start + 1 + place % 49;
                            let mut held = Held::lock(descriptor);
                            // SAFETY: one domain.
                            unsafe {
                                if !held.mapping().range().is_empty() {
                                    map.leave(domain, &mut held).expect("nodes");
                                }
                                drop(held);
                                // Where another one is, it waits for the next round.
                                if let Ok(held) = map.enter(domain, range, descriptor) {
                                    held.set(start as u64);
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|locks| {
                scope.spawn(move || {
                    let (reader, stages) = (explicit_reader(domain), Stages::new());
                    let mut found = 0;
                    for number in 0..look_ups {
                        let address = (number as usize * 37) % (PLACES * 100);
                        // SAFETY: as above.
                        let seen = unsafe {
                            if locks == 1 && number % 4 == 0 {
                                map.find_and_lock(&reader, domain, address, &stages)
                                    .map(|held| held.get().read())
                            } else {
                                map.look(&reader, domain, address, &stages, Descriptor::read)
                            }
                        };
                        if let Some((one, two)) = seen {
                            found += 1;
                            assert_eq!(one, two, "half of a change");
                            let start = one as usize;
                            assert!(start <= address && address < start + 50, "{address} is not at {start}");
                        }
                    }
                    (found, stages.read())
                })
            })
            .collect();
        let counted: Vec<(u64, [u64; 3])> =
            readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
        stop.store(true, Relaxed);
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        counted
    });
    for (found, stages) in counted {
        assert_eq!(found, stages.iter().sum::<u64>());
        println!("{found} found: {stages:?}");
    }
}
