//! The range map under fire: readers walk, look up and go from range to range while two writers insert,
//! remove, cut and merge everywhere. Between what changes lie ranges that never do.
//!
//! - A range that stays is found by every look-up, and by every iteration over it, once.
//! - A number that a section found is not used again before the section ends: its slot still holds it.
//! - What was removed before a step began is not what the step gives. A clock that the writers move on says
//!   what was before what.
//!
//! `RCU_RANGE_LOOKUPS` says how many look-ups; the long form is 100,000,000.
#![cfg(not(loom))]

mod common;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::thread;

use common::*;
use quiescent::range_map::{Entry, Node, RangeMap, View};
use quiescent::{Cookie, Demand, Domain, Guard};

const LOOK_UPS: u64 = 200_000;
/// Changes that there are at least: readers go on until writers that got no processor have made as many.
const CHANGES: u64 = 1000;

/// Ranges that stay, each at the beginning of its stretch.
const FIXED: usize = 96;
const STRETCH: usize = 4096;
const FIXED_BYTES: usize = 64;

/// Slots of numbers for ranges that come and go; the slot of a number is its remainder.
const SLOTS: u64 = 4096;
/// What a fixed range holds: this and its place.
const FIXED_VALUE: u64 = 1 << 40;

struct Slot {
    number: AtomicU64,
    /// The clock when its range had been removed; `u64::MAX`: it is there.
    gone_at: AtomicU64,
}

type Map = RangeMap<NonZeroU64, fn() -> Option<&'static mut Node>>;

struct Fire {
    domain: &'static Domain,
    map: Map,
    slots: Vec<Slot>,
    clock: AtomicU64,
    look_ups: AtomicU64,
    changes: AtomicU64,
    enough: u64,
    stop: AtomicBool,
}

/// A small generator of numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn node() -> Option<&'static mut Node> {
    Some(Box::leak(Box::new(Node::new())))
}

fn value(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).expect("not zero")
}

impl Fire {
    fn new(domain: &'static Domain) -> &'static Fire {
        let enough =
            std::env::var("RCU_RANGE_LOOKUPS").map_or(LOOK_UPS, |text| text.parse().expect("a number"));
        let fire = leak(Fire {
            domain,
            map: RangeMap::new(node),
            slots: (0..SLOTS)
                .map(|_| Slot { number: AtomicU64::new(0), gone_at: AtomicU64::new(0) })
                .collect(),
            clock: AtomicU64::new(1),
            look_ups: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            enough,
            stop: AtomicBool::new(false),
        });
        for place in 0..FIXED {
            let start = place * STRETCH;
            // SAFETY: one domain, here and below.
            let mut writer = unsafe { fire.map.write(domain) };
            writer.insert(start..start + FIXED_BYTES, value(FIXED_VALUE + place as u64)).expect("room");
        }
        fire
    }

    fn view<'a>(
        &'static self,
        section: &'a Guard<'_>,
    ) -> View<'a, NonZeroU64, quiescent::range_map::Unmeasured> {
        // SAFETY: one domain.
        unsafe { self.map.view(section) }
    }

    // ---- readers ----

    /// What was found in a section that is still open, by a step that began at `began`.
    fn judge(&self, found: Entry<NonZeroU64>, began: u64) {
        let number = found.value.get();
        if number >= FIXED_VALUE {
            let start = (number - FIXED_VALUE) as usize * STRETCH;
            assert_eq!(found.range(), start..start + FIXED_BYTES, "a range that stays");
            return;
        }
        let slot = &self.slots[(number % SLOTS) as usize];
        assert_eq!(slot.number.load(Acquire), number, "a number was used again under a reader");
        let gone_at = slot.gone_at.load(Acquire);
        assert!(gone_at > began, "{number} was removed at {gone_at}, and found from {began} on");
    }

    fn read(&'static self, seed: u64) {
        let reader = explicit_reader(self.domain);
        let mut dice = Dice(seed);
        let mut look_ups = 0;
        while !self.stop.load(Relaxed) {
            let section = reader.read_lock();
            for _ in 0..16 {
                look_ups += self.some_look_ups(&section, &mut dice);
            }
            drop(section);
            if dice.roll(8) == 0 {
                reader.quiescent_state();
            }
            if look_ups >= 1000 {
                let before = self.look_ups.fetch_add(look_ups, Relaxed);
                look_ups = 0;
                if before >= self.enough && self.changes.load(Relaxed) >= CHANGES {
                    self.stop.store(true, Relaxed);
                }
            }
        }
    }

    /// Gives how many they were.
    fn some_look_ups(&'static self, section: &Guard<'_>, dice: &mut Dice) -> u64 {
        let view = self.view(section);
        let place = dice.roll(FIXED);
        let (fixed, expected) = (place * STRETCH, value(FIXED_VALUE + place as u64));
        match dice.roll(8) {
            0..4 => {
                assert_eq!(view.get(fixed + dice.roll(FIXED_BYTES)), Some(expected), "a range that stays");
                1
            }
            4..7 => {
                let began = self.clock.load(Acquire);
                if let Some(found) = view.find(fixed + dice.roll(STRETCH)) {
                    self.judge(found, began);
                }
                1
            }
            _ => {
                // From here to the second range that stays behind, and back: each once, in order.
                let mut cursor = view.cursor(fixed);
                let (mut steps, mut seen) = (0, 0);
                let last = (place + 2).min(FIXED - 1);
                loop {
                    let began = self.clock.load(Acquire);
                    let found = cursor.next().expect("a range that stays lies behind");
                    self.judge(found, began);
                    steps += 1;
                    seen += u64::from(found.value.get() >= FIXED_VALUE);
                    if found.value.get() == FIXED_VALUE + last as u64 {
                        break;
                    }
                }
                assert_eq!(seen, (last - place) as u64 + 1, "ranges that stay, forwards");
                loop {
                    let began = self.clock.load(Acquire);
                    let found = cursor.previous().expect("a range that stays lies before");
                    self.judge(found, began);
                    steps += 1;
                    if found.value.get() == FIXED_VALUE + place as u64 {
                        return steps;
                    }
                }
            }
        }
    }

    // ---- writers ----

    /// Changes the stretches whose number leaves this rest, so that two writers share leaves and not ranges.
    fn write(&'static self, rest: usize) {
        let mut dice = Dice(rest as u64 + 99);
        // Numbers of this writer alone, and those that wait for their readers.
        let mut free: Vec<u64> = (1..SLOTS).filter(|number| number % 2 == rest as u64).collect();
        let mut waiting: std::collections::VecDeque<(Cookie, u64)> = std::collections::VecDeque::new();
        while !self.stop.load(Relaxed) {
            while let Some(&(cookie, number)) = waiting.front()
                && self.domain.poll(cookie)
            {
                waiting.pop_front();
                // Nobody can have it any more: from now on its slot means the next one.
                self.slots[(number % SLOTS) as usize].number.store(0, Release);
                free.push(number + SLOTS);
            }
            if free.len() < 8 {
                self.domain.advance(Demand::Expedite);
                thread::yield_now();
                continue;
            }
            for number in self.change(rest, &mut dice, &mut free) {
                let gone_at = self.clock.fetch_add(1, AcqRel);
                self.slots[(number % SLOTS) as usize].gone_at.store(gone_at, Release);
                waiting.push_back((self.domain.start_poll(), number));
            }
            self.changes.fetch_add(1, Relaxed);
        }
    }

    fn fresh(&self, free: &mut Vec<u64>) -> NonZeroU64 {
        let number = free.pop().expect("enough were counted");
        let slot = &self.slots[(number % SLOTS) as usize];
        slot.gone_at.store(u64::MAX, Release);
        slot.number.store(number, Release);
        value(number)
    }

    /// One change. Gives the numbers that are gone by it.
    fn change(&'static self, rest: usize, dice: &mut Dice, free: &mut Vec<u64>) -> Vec<u64> {
        let stretch = (dice.roll(FIXED / 2) * 2 + rest) * STRETCH;
        let (low, high) = (stretch + FIXED_BYTES, stretch + STRETCH);
        let start = low + dice.roll(high - low - 256);
        let end = start + 1 + dice.roll(255);
        // SAFETY: one domain.
        let mut writer = unsafe { self.map.write(self.domain) };
        let there: Vec<Entry<NonZeroU64>> = writer.view().iter(start..end).collect();
        let whole = || there.iter().filter(|entry| start <= entry.start && entry.end <= end);
        match dice.roll(8) {
            // Something new in a gap.
            0..3 if there.is_empty() => {
                writer.insert(start..end, self.fresh(free)).expect("it is a gap");
                vec![]
            }
            // Over whatever is there; what sticks out stays, with its number.
            3 | 4 => {
                // A range that is cut in the middle would be there twice: the upper part gets a number of
                // its own.
                let split = there.iter().find(|entry| entry.start < start && entry.end > end);
                if let Some(split) = split {
                    writer.store(start..split.end, Some(self.fresh(free))).expect("nodes");
                }
                writer.store(start..end, Some(self.fresh(free))).expect("nodes");
                drop(writer);
                whole().map(|entry| entry.value.get()).collect()
            }
            // The whole stretch at once: many leaves.
            5 if dice.roll(16) == 0 => {
                let there: Vec<u64> = writer.view().iter(low..high).map(|entry| entry.value.get()).collect();
                writer.store(low..high, None).expect("nodes");
                drop(writer);
                there
            }
            6 => match there[..] {
                [one, two, ..] if one.end == two.start => {
                    writer.merge(one.start, self.fresh(free)).expect("they are neighbours");
                    drop(writer);
                    vec![one.value.get(), two.value.get()]
                }
                _ => vec![],
            },
            _ => match there.first() {
                Some(entry) => {
                    writer.remove(entry.start).expect("it is there");
                    drop(writer);
                    vec![entry.value.get()]
                }
                None => vec![],
            },
        }
    }
}

fn fire(domain: &'static Domain) {
    // A thread that fails ends the others, or they would go on for ever.
    struct Last(&'static Fire);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.stop.store(true, Relaxed);
        }
    }
    let fire = Fire::new(domain);
    thread::scope(|scope| {
        // Joined one by one: ThreadSanitizer does not see how a scope waits for its threads.
        let writers = (0..2).map(|rest| {
            scope.spawn(move || {
                let _last = Last(fire);
                fire.write(rest);
            })
        });
        let mut threads: Vec<_> = writers.collect();
        let readers = [3, 5].map(|seed| {
            scope.spawn(move || {
                let _last = Last(fire);
                fire.read(seed);
            })
        });
        threads.extend(readers);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
    // SAFETY: one domain.
    let shape = unsafe { fire.map.write(domain) }.check();
    assert!(shape.ranges >= FIXED && fire.changes.load(Relaxed) >= CHANGES, "{shape:?}");
    println!(
        "{} look-ups, {} changes, {} ranges at the end",
        fire.look_ups.load(Relaxed),
        fire.changes.load(Relaxed),
        shape.ranges
    );
}

#[test]
fn what_stays_is_found_and_what_is_gone_is_not_with_membarrier() {
    fire(fast_domain());
}

#[test]
fn what_stays_is_found_and_what_is_gone_is_not_fenced() {
    fire(fenced_domain());
}
