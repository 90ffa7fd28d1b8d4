//! The engine against a tiny model of what it promises, in one thread: which readers are in a section
//! since when, and for each cookie which readers must still come by twice.
//!
//! Safety: a cookie has not elapsed while a section is open that began before it was taken.
//! Liveness: a cookie that was asked for has elapsed once every reader has come by in two rounds, the
//! first for the period that may have been in flight and the second for the one that counts; an
//! expedite with no section open ends the period in flight.
#![cfg(not(any(loom, rcu_tsan)))]

mod common;

use std::collections::HashSet;

use common::*;
use proptest::prelude::*;
use quiescent::{ACTIVE_COOKIES, Cookie, Demand, Domain, Reader};

const READERS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    Lock(usize),
    Unlock(usize),
    Announce(usize),
    Offline(usize),
    Online(usize),
    Exit(usize),
    Register(usize),
    Snapshot,
    StartPoll,
    Start,
    Expedite,
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..READERS;
    prop_oneof![
        6 => who().prop_map(Step::Lock),
        6 => who().prop_map(Step::Unlock),
        8 => who().prop_map(Step::Announce),
        2 => who().prop_map(Step::Offline),
        3 => who().prop_map(Step::Online),
        1 => who().prop_map(Step::Exit),
        2 => who().prop_map(Step::Register),
        2 => Just(Step::Snapshot),
        4 => Just(Step::StartPoll),
        1 => Just(Step::Start),
        2 => Just(Step::Expedite),
    ]
}

/// A cookie, and what the model knows of it.
struct Promise {
    cookie: Cookie,
    taken_at: usize,
    asked_for: bool,
    rounds: u32,
    /// Those who have not come by in this round.
    missing: HashSet<usize>,
}

struct Model {
    domain: &'static Domain,
    readers: [Option<Reader>; READERS],
    /// When the outermost section of each reader began, and how deep it is.
    sections: [Option<(usize, u32)>; READERS],
    offline: [bool; READERS],
    promises: Vec<Promise>,
}

impl Model {
    fn new(domain: &'static Domain) -> Model {
        let readers = std::array::from_fn(|_| Some(reader(domain)));
        Model { domain, readers, sections: [None; READERS], offline: [false; READERS], promises: vec![] }
    }

    fn present(&self) -> HashSet<usize> {
        (0..READERS)
            .filter(|&who| {
                self.readers[who].is_some() && (!self.offline[who] || self.sections[who].is_some())
            })
            .collect()
    }

    /// `who` announced, or is gone: nobody needs to wait for it in the present round.
    fn came_by(&mut self, who: usize) {
        let present = self.present();
        for promise in self.promises.iter_mut().filter(|promise| promise.asked_for) {
            promise.missing.remove(&who);
            if promise.missing.is_empty() {
                promise.rounds += 1;
                promise.missing.clone_from(&present);
                if promise.missing.is_empty() {
                    promise.rounds = 2;
                }
            }
        }
    }

    fn take_cookie(&mut self, now: usize, asked_for: bool) {
        let cookie = if asked_for { self.domain.start_poll() } else { self.domain.snapshot() };
        let missing = self.present();
        let rounds = if asked_for && missing.is_empty() { 2 } else { 0 };
        self.promises.push(Promise { cookie, taken_at: now, asked_for, rounds, missing });
    }

    fn apply(&mut self, now: usize, step: Step) -> Result<(), TestCaseError> {
        let nobody_reads = self.sections.iter().all(Option::is_none);
        match step {
            Step::Lock(who) => {
                if let Some(reader) = &self.readers[who] {
                    reader.lock();
                    let (since, depth) = self.sections[who].unwrap_or((now, 0));
                    self.sections[who] = Some((since, depth + 1));
                }
            }
            Step::Unlock(who) => {
                if let (Some(reader), Some((since, depth))) = (&self.readers[who], self.sections[who]) {
                    unlock(reader);
                    self.sections[who] = (depth > 1).then_some((since, depth - 1));
                    if depth == 1 && self.offline[who] {
                        self.came_by(who);
                    }
                }
            }
            Step::Announce(who) => {
                if let Some(reader) = &self.readers[who] {
                    reader.quiescent_state();
                    if self.sections[who].is_none() {
                        self.came_by(who);
                    }
                }
            }
            Step::Offline(who) => {
                if let (Some(reader), None) = (&mut self.readers[who], self.sections[who]) {
                    reader.offline();
                    self.offline[who] = true;
                    self.came_by(who);
                }
            }
            Step::Online(who) => {
                if let Some(reader) = &self.readers[who] {
                    reader.online();
                    self.offline[who] = false;
                }
            }
            Step::Exit(who) => {
                if self.sections[who].is_none() && self.readers[who].take().is_some() {
                    self.came_by(who);
                }
            }
            Step::Register(who) => {
                if self.readers[who].is_none() {
                    self.readers[who] = Some(reader(self.domain));
                    self.offline[who] = false;
                }
            }
            Step::Snapshot => self.take_cookie(now, false),
            Step::StartPoll => self.take_cookie(now, true),
            Step::Start => drop(self.domain.advance(Demand::Start)),
            Step::Expedite => {
                let ended = self.domain.advance(Demand::Expedite);
                prop_assert!(ended || !nobody_reads, "nobody reads, and the period does not end");
            }
        }
        self.check(now)
    }

    fn check(&mut self, now: usize) -> Result<(), TestCaseError> {
        for (who, reader) in self.readers.iter().enumerate() {
            let depth = self.sections[who].map_or(0, |(_, depth)| depth);
            prop_assert_eq!(reader.as_ref().map_or(0, Reader::nesting), depth);
        }
        let mut unfinished = HashSet::new();
        for promise in &self.promises {
            let elapsed = self.domain.poll(promise.cookie);
            let harmed = self.sections.iter().flatten().any(|&(since, _)| since < promise.taken_at);
            prop_assert!(!(elapsed && harmed), "step {now}: ended under a section that began before");
            prop_assert!(elapsed || promise.rounds < 2, "step {now}: everybody came by twice");
            if !elapsed {
                unfinished.insert(promise.cookie);
            }
        }
        prop_assert!(unfinished.len() <= ACTIVE_COOKIES);
        let counters = self.domain.counters();
        prop_assert!(counters.started - counters.completed <= 1);
        Ok(())
    }
}

fn obeys(domain: &'static Domain, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model = Model::new(domain);
    for (now, &step) in steps.iter().enumerate() {
        if let Err(error) = model.apply(now, step) {
            std::mem::forget(model); // its readers may be in sections
            return Err(error);
        }
    }
    for who in 0..READERS {
        while model.sections[who].is_some() {
            model.apply(steps.len(), Step::Unlock(who))?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_engine_obeys(steps in prop::collection::vec(step(), 1..120)) {
        obeys(fast_domain(), &steps)?;
        obeys(fenced_domain(), &steps)?;
    }
}
