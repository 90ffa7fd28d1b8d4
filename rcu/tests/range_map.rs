//! The range map beside a `BTreeMap` of the same ranges: random changes and questions, with readers and
//! without; cursors over what changes; want of nodes. In debug builds the map checks its structure after
//! each change.
#![cfg(not(loom))]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Range;

use common::*;
use proptest::prelude::*;
use quiescent::Domain;
use quiescent::range_map::{
    Entry, Fit, Futex, Gaps, Measure, Node, NodeSource, RangeMap, Ranges, Refused, Unmeasured, Writer,
};

/// Nodes from the heap, for ever, and how many more it has.
struct Heap {
    left: usize,
}

impl NodeSource for Heap {
    fn node(&mut self) -> Option<&'static mut Node> {
        self.left = self.left.checked_sub(1)?;
        Some(Box::leak(Box::new(Node::new())))
    }
}

const PLENTY: Heap = Heap { left: usize::MAX };

type Map<M> = RangeMap<NonZeroU64, Heap, M>;
type TestWriter<'a, M> = Writer<'a, NonZeroU64, Heap, M, Futex>;

fn value(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).expect("not zero")
}

/// The reference: start of each range, its end and value.
#[derive(Default)]
struct Model(BTreeMap<usize, (usize, NonZeroU64)>);

impl Model {
    fn find(&self, address: usize) -> Option<Entry<NonZeroU64>> {
        let (&start, &(end, value)) = self.0.range(..=address).next_back()?;
        (address < end).then_some(Entry { start, end, value })
    }

    fn entries(&self) -> Vec<Entry<NonZeroU64>> {
        self.0.iter().map(|(&start, &(end, value))| Entry { start, end, value }).collect()
    }

    fn store(&mut self, range: Range<usize>, value: Option<NonZeroU64>) {
        for address in [range.start, range.end] {
            if let Some(cut) = self.find(address)
                && cut.start < address
            {
                self.0.insert(cut.start, (address, cut.value));
                self.0.insert(address, (cut.end, cut.value));
            }
        }
        self.0.retain(|&start, _| !range.contains(&start));
        if let Some(value) = value {
            self.0.insert(range.start, (range.end, value));
        }
    }

    fn first_in(&self, range: &Range<usize>) -> Option<Entry<NonZeroU64>> {
        self.entries().into_iter().find(|entry| entry.start < range.end && entry.end > range.start)
    }

    fn gaps(&self) -> Vec<(usize, usize)> {
        let mut at = 0;
        let mut gaps = Vec::new();
        for entry in self.entries() {
            if at < entry.start {
                gaps.push((at, entry.start));
            }
            at = entry.end;
        }
        gaps.push((at, usize::MAX));
        gaps
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, usize),
    Store(usize, usize),
    Clear(usize, usize),
    Remove(usize),
    Merge(usize),
    Fit { bytes: usize, align: usize, within: Range<usize> },
    Around(usize),
}

/// Addresses that meet one another often, in a small space and up to the end of the large one.
fn address() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..4096_usize,
        1 => (0..64_usize).prop_map(|below| usize::MAX - below),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let length = || prop_oneof![6 => 1..12_usize, 2 => 12..300_usize, 1 => 0..4000_usize];
    prop_oneof![
        8 => (address(), length()).prop_map(|(start, length)| Step::Insert(start, length)),
        3 => (address(), length()).prop_map(|(start, length)| Step::Store(start, length)),
        1 => (address(), length()).prop_map(|(start, length)| Step::Clear(start, length)),
        3 => address().prop_map(Step::Remove),
        1 => address().prop_map(Step::Merge),
        2 => (0..40_usize, 0..7_u32, address(), length()).prop_map(|(bytes, align, from, length)| Step::Fit {
            bytes, align: 1 << align, within: from..from.saturating_add(length * 8)
        }),
        1 => address().prop_map(Step::Around),
    ]
}

/// Does one step in both and compares what they answer.
fn both<M: Measure>(writer: &mut TestWriter<M>, model: &mut Model, step: &Step, number: u64) {
    match *step {
        Step::Insert(start, length) => {
            let range = start..start.saturating_add(length);
            let expected = match model.first_in(&range) {
                _ if range.is_empty() => Err(Refused::Empty),
                Some(there) => Err(Refused::Occupied(there.start, there.end)),
                None => Ok(()),
            };
            assert_eq!(writer.insert(range.clone(), value(number)), expected);
            if expected.is_ok() {
                model.store(range, Some(value(number)));
            }
        }
        Step::Store(start, length) | Step::Clear(start, length) => {
            let range = start..start.saturating_add(length);
            let what = matches!(step, Step::Store(..)).then(|| value(number));
            let expected = if range.is_empty() { Err(Refused::Empty) } else { Ok(()) };
            assert_eq!(writer.store(range.clone(), what), expected);
            if expected.is_ok() {
                model.store(range, what);
            }
        }
        Step::Remove(address) => {
            let expected = model.find(address).ok_or(Refused::Absent);
            assert_eq!(writer.remove(address), expected);
            if let Ok(entry) = expected {
                model.store(entry.range(), None);
            }
        }
        Step::Merge(address) => {
            let low = model.find(address);
            let high = low.and_then(|low| model.find(low.end));
            let range = low.zip(high).map(|(low, high)| low.start..high.end);
            let merged = writer.merge(address, value(number)).map(|entry| entry.range());
            assert_eq!(merged, range.clone().ok_or(Refused::Absent));
            if let Some(range) = range {
                model.store(range, Some(value(number)));
            }
        }
        Step::Fit { .. } => {}
        Step::Around(address) => {
            let view = writer.view();
            assert_eq!(view.get(address), model.find(address).map(|entry| entry.value));
            assert_eq!(view.find(address), model.find(address));
            let entries = model.entries();
            let mut cursor = view.cursor(address);
            let behind = entries.iter().find(|entry| entry.end > address).copied();
            assert_eq!(cursor.next(), behind);
            if behind.is_some() {
                assert_eq!(cursor.previous(), behind);
            }
            cursor.seek(address);
            assert_eq!(cursor.previous(), entries.iter().rfind(|entry| entry.start < address).copied());
        }
    }
}

/// What a search must find among these slots.
fn fit(
    slots: &[(usize, usize)],
    bytes: usize,
    align: usize,
    within: &Range<usize>,
    best: bool,
) -> Option<(usize, usize, usize)> {
    let fitting = slots.iter().filter_map(|&(start, end)| {
        let at = start.max(within.start).checked_next_multiple_of(align)?;
        (at.checked_add(bytes)? <= end.min(within.end)).then_some((at, start, end))
    });
    if best { fitting.min_by_key(|&(_, start, end)| end - start) } else { fitting.into_iter().next() }
}

/// Asks a writer for the first fit, or the best.
type Search<M> = fn(&TestWriter<M>, usize, usize, Range<usize>, bool) -> Option<Fit<NonZeroU64>>;

fn search<M: Measure>(
    writer: &TestWriter<M>,
    bytes: usize,
    align: usize,
    within: Range<usize>,
    best: bool,
) -> Option<Fit<NonZeroU64>> {
    if best { writer.best_fit(bytes, align, within) } else { writer.first_fit(bytes, align, within) }
}

/// Runs the steps; `alone` says which of them find nobody reading.
fn run<M: Measure>(
    steps: &[Step],
    alone: impl Fn(usize) -> bool,
    search: Option<Search<M>>,
    slots: impl Fn(&Model) -> Vec<(usize, usize)>,
) {
    let domain = fast_domain();
    let map: &'static Map<M> = leak(RangeMap::new(PLENTY));
    let mut model = Model::default();
    for (number, step) in steps.iter().enumerate() {
        // SAFETY: one domain; no reader exists.
        let mut writer = unsafe { if alone(number) { map.write_alone(domain) } else { map.write(domain) } };
        both(&mut writer, &mut model, step, number as u64 + 1);
        if let Step::Fit { bytes, align, within } = step
            && let Some(search) = search
        {
            for best in [false, true] {
                let found = search(&writer, *bytes, *align, within.clone(), best);
                if let Some(found) = found {
                    assert_eq!(found.value, model.find(found.start).map(|entry| entry.value));
                }
                let found = found.map(|found| (found.at, found.start, found.end));
                assert_eq!(found, fit(&slots(&model), (*bytes).max(1), *align, within, best), "best: {best}");
            }
        }
        if number.is_multiple_of(16) {
            assert_eq!(writer.view().iter(0..usize::MAX).collect::<Vec<_>>(), model.entries());
            assert_eq!(writer.check().ranges, model.0.len());
        }
    }
    // SAFETY: as above.
    let writer = unsafe { map.write(domain) };
    assert_eq!(writer.view().iter(0..usize::MAX).collect::<Vec<_>>(), model.entries());
}

fn ranges(model: &Model) -> Vec<(usize, usize)> {
    model.entries().iter().map(|entry| (entry.start, entry.end)).collect()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..1200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn replaced_nodes_answer_as_a_btreemap(steps in steps()) {
        run::<Unmeasured>(&steps, |_| false, None, ranges);
    }

    #[test]
    fn edited_nodes_answer_as_a_btreemap(steps in steps()) {
        run::<Unmeasured>(&steps, |_| true, None, ranges);
    }

    #[test]
    fn gaps_are_found_as_in_a_btreemap(steps in steps()) {
        run::<Gaps>(&steps, |number| number % 3 == 0, Some(search), Model::gaps);
    }

    #[test]
    fn large_ranges_are_found_as_in_a_btreemap(steps in steps()) {
        run::<Ranges>(&steps, |number| number % 5 == 0, Some(search), ranges);
    }
}

fn map() -> (&'static Domain, &'static Map<Unmeasured>) {
    (fast_domain(), leak(RangeMap::new(PLENTY)))
}

/// A map of the ranges 0x10 bytes long at every 0x20, the n-th with the value n + 1.
fn full(domain: &'static Domain, map: &'static Map<Unmeasured>, ranges: usize) {
    for number in 0..ranges {
        // SAFETY: one domain, here and below.
        let mut writer = unsafe { map.write(domain) };
        writer.insert(number * 0x20..number * 0x20 + 0x10, value(number as u64 + 1)).expect("room");
    }
}

#[test]
fn ten_thousand_ranges_come_and_go() {
    let (domain, map) = map();
    full(domain, map, 10_000);
    // SAFETY: one domain.
    let mut writer = unsafe { map.write(domain) };
    let shape = writer.check();
    assert_eq!(shape.ranges, 10_000);
    // 20,001 slots, at least 5 a node: 4000 leaves, a fifth as many above them, and so on.
    assert!(shape.height <= 5 && shape.nodes < 5200, "{shape:?}");
    assert_eq!(writer.view().get(0x20 * 7777 + 0xf), Some(value(7778)));
    assert_eq!(writer.view().get(0x20 * 7777 + 0x10), None);
    // One change over nearly all of it.
    writer.store(0x25..0x20 * 9999 + 5, Some(value(7))).expect("nodes");
    assert_eq!(writer.check().ranges, 4);
    assert_eq!(writer.check().height, 0);
}

/// A cursor stands in a leaf while a range of that leaf goes: it must not be found any more.
#[test]
fn a_cursor_does_not_find_what_was_removed_before_its_step() {
    let (domain, map) = map();
    full(domain, map, 300);
    let reader = explicit_reader(domain);
    let section = reader.read_lock();
    // SAFETY: one domain.
    let mut cursor = unsafe { map.view(&section) }.cursor(0);
    for number in 0..299 {
        assert_eq!(cursor.next().map(|entry| entry.start), Some(number * 0x20));
        // The one that comes next, and is in the same leaf most of the time.
        // SAFETY: one domain.
        let removed = unsafe { map.write(domain) }.remove((number + 1) * 0x20).expect("it is there");
        let next = cursor.next();
        assert!(next.is_none_or(|entry| entry.start > removed.start), "{next:?} was removed before");
        // SAFETY: as above.
        let again = unsafe { map.write(domain) }.insert(removed.range(), value(1));
        again.expect("nodes");
        cursor.seek(removed.start);
    }
}

/// While a section is open nothing that it may have found is used again; afterwards everything is.
#[test]
fn replaced_nodes_wait_for_sections_and_are_used_again() {
    let domain = fast_domain();
    let map: &'static Map<Unmeasured> = leak(RangeMap::new(Heap { left: 600 }));
    let reader = explicit_reader(domain);
    let change = || {
        // SAFETY: one domain.
        let mut writer = unsafe { map.write(domain) };
        writer.store(0x10..0x20, Some(value(1)))
    };
    for _ in 0..100_000 {
        change().expect("600 nodes are enough for ever, for periods end");
        reader.quiescent_state();
    }
    let section = reader.read_lock();
    // SAFETY: one domain.
    let view = unsafe { map.view(&section) };
    let mut changes = 0;
    while change().is_ok() {
        changes += 1;
        assert!(changes <= 600, "a node was used again under a reader");
    }
    assert_eq!(change(), Err(Refused::NoNodes));
    assert_eq!(view.get(0x10), Some(value(1)));
    drop(section);
    reader.quiescent_state();
    change().expect("the section has ended");
}

/// Whatever the source refuses, a change is done or is not.
#[test]
fn want_of_nodes_refuses_a_change_before_it_begins() {
    let domain = fast_domain();
    for left in 0..120 {
        let map: &'static Map<Gaps> = leak(RangeMap::new(Heap { left }));
        let mut model = Model::default();
        let reader = explicit_reader(domain);
        let section = reader.read_lock(); // nothing comes back
        for number in 0..200 {
            let range = number * 0x20..number * 0x20 + 0x10;
            // SAFETY: one domain.
            let mut writer = unsafe { map.write(domain) };
            match writer.insert(range.clone(), value(1)) {
                Ok(()) => model.store(range, Some(value(1))),
                Err(refused) => assert_eq!(refused, Refused::NoNodes),
            }
            writer.check();
            assert_eq!(writer.view().iter(0..usize::MAX).collect::<Vec<_>>(), model.entries());
        }
        drop(section);
    }
}

#[test]
fn what_was_provided_for_is_not_refused() {
    let domain = fast_domain();
    let source = leak(RefCell::new(Some(usize::MAX)));
    let node = || source.borrow().map(|_| Box::leak(Box::new(Node::new())));
    let map = leak(RangeMap::<NonZeroU64, _>::new(node));
    let reader = explicit_reader(domain);
    let section = reader.read_lock(); // nothing comes back
    // SAFETY: one domain.
    let mut writer = unsafe { map.write(domain) };
    writer.provide(500).expect("the source is open");
    *source.borrow_mut() = None;
    for number in 0..500 {
        writer.insert(number * 2..number * 2 + 1, value(1)).expect("provided for");
    }
    drop(writer);
    drop(section);
}

#[test]
fn typed_pointers_come_back() {
    static WORDS: [u32; 2] = [7, 8];
    let domain = fast_domain();
    let map = leak(RangeMap::<&'static u32, _>::new(PLENTY));
    // SAFETY: one domain.
    let mut writer = unsafe { map.write(domain) };
    writer.insert(10..20, &WORDS[0]).expect("room");
    writer.insert(20..30, &WORDS[1]).expect("room");
    assert_eq!(writer.view().get(19), Some(&7));
    assert_eq!(writer.view().get(20), Some(&8));
}

#[test]
fn a_forgotten_writer_is_let_go() {
    let (domain, map) = map();
    // SAFETY: one domain.
    std::mem::forget(unsafe { map.write(domain) });
    // SAFETY: forgotten just now.
    unsafe { map.force_unlock() };
    full(domain, map, 10);
}
