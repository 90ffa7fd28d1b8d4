//! Against crossbeam-epoch: the same schedule of pin, retire and unpin over both. Neither may reclaim
//! an object while somebody is pinned since before it was retired; both reclaim everything in the end.
#![cfg(not(any(loom, rcu_tsan)))]

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::*;
use crossbeam_epoch as epoch;
use proptest::prelude::*;
use quiescent::{Cookie, Demand, Domain, Reader};

/// What a participant does. All take turns in one thread, so that a schedule means the same twice.
#[derive(Clone, Copy, Debug)]
enum Step {
    Pin(usize),
    Unpin(usize),
    Retire(usize),
    Announce(usize),
    Expedite,
    Pause(usize),
}

const PARTICIPANTS: usize = 4;

fn step(with_expedites: bool) -> impl Strategy<Value = Step> {
    let who = || 0..PARTICIPANTS;
    let rare = u32::from(with_expedites);
    prop_oneof![
        4 => who().prop_map(Step::Pin),
        4 => who().prop_map(Step::Unpin),
        4 => who().prop_map(Step::Retire),
        3 => who().prop_map(Step::Announce),
        2 * rare => Just(Step::Expedite),
        rare => who().prop_map(Step::Pause),
    ]
}

/// A scheme under test: participants that pin, and objects (numbered by the caller) that are reclaimed.
trait Scheme {
    fn pin(&mut self, who: usize);
    fn unpin(&mut self, who: usize);
    fn retire(&mut self, who: usize, object: usize);
    fn announce(&mut self, who: usize);
    fn expedite(&mut self) {}
    fn pause(&mut self, _who: usize) {}
    /// The objects reclaimed so far.
    fn reclaimed(&mut self) -> Vec<usize>;
}

struct Crossbeam {
    handles: Vec<epoch::LocalHandle>,
    guards: Vec<Option<epoch::Guard>>,
    reclaimed: Rc<RefCell<Vec<usize>>>,
}

impl Crossbeam {
    fn new() -> Crossbeam {
        let collector = epoch::Collector::new();
        Crossbeam {
            handles: (0..PARTICIPANTS).map(|_| collector.register()).collect(),
            guards: (0..PARTICIPANTS).map(|_| None).collect(),
            reclaimed: Rc::default(),
        }
    }
}

impl Scheme for Crossbeam {
    fn pin(&mut self, who: usize) {
        self.guards[who] = Some(self.handles[who].pin());
    }

    fn unpin(&mut self, who: usize) {
        self.guards[who] = None;
    }

    fn retire(&mut self, who: usize, object: usize) {
        let reclaimed = self.reclaimed.clone();
        let guard = self.handles[who].pin();
        // SAFETY: everything stays in this thread, and the collector goes before the test ends.
        unsafe { guard.defer_unchecked(move || reclaimed.borrow_mut().push(object)) };
        guard.flush();
    }

    fn announce(&mut self, who: usize) {
        self.handles[who].pin().flush();
    }

    fn reclaimed(&mut self) -> Vec<usize> {
        self.reclaimed.borrow().clone()
    }
}

struct Ours {
    domain: &'static Domain,
    readers: Vec<Reader>,
    waiting: Vec<(usize, Cookie)>,
    reclaimed: Vec<usize>,
}

impl Ours {
    fn new(domain: &'static Domain) -> Ours {
        let readers = (0..PARTICIPANTS).map(|_| reader(domain)).collect();
        Ours { domain, readers, waiting: Vec::new(), reclaimed: Vec::new() }
    }
}

impl Scheme for Ours {
    fn pin(&mut self, who: usize) {
        self.readers[who].lock();
    }

    fn unpin(&mut self, who: usize) {
        unlock(&self.readers[who]);
    }

    fn retire(&mut self, _who: usize, object: usize) {
        self.waiting.push((object, self.domain.start_poll()));
    }

    fn announce(&mut self, who: usize) {
        self.readers[who].quiescent_state();
    }

    fn expedite(&mut self) {
        self.domain.advance(Demand::Expedite);
    }

    fn pause(&mut self, who: usize) {
        let reader = &mut self.readers[who];
        if reader.is_offline() {
            reader.online();
        } else if reader.nesting() == 0 {
            reader.offline();
        }
    }

    fn reclaimed(&mut self) -> Vec<usize> {
        let domain = self.domain;
        self.reclaimed.extend(self.waiting.extract_if(.., |(_, cookie)| domain.poll(*cookie)).map(|it| it.0));
        self.reclaimed.clone()
    }
}

/// Runs a schedule; complains of what is reclaimed too early, or never.
fn run(scheme: &mut dyn Scheme, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut pinned_since: [Option<usize>; PARTICIPANTS] = [None; PARTICIPANTS];
    let mut retired_at = Vec::new();
    for (now, &step) in steps.iter().enumerate() {
        match step {
            Step::Pin(who) if pinned_since[who].is_none() => {
                scheme.pin(who);
                pinned_since[who] = Some(now);
            }
            Step::Unpin(who) if pinned_since[who].take().is_some() => scheme.unpin(who),
            Step::Retire(who) => {
                scheme.retire(who, retired_at.len());
                retired_at.push(now);
            }
            Step::Announce(who) => scheme.announce(who),
            Step::Expedite => scheme.expedite(),
            Step::Pause(who) => scheme.pause(who),
            Step::Pin(_) | Step::Unpin(_) => {}
        }
        for object in scheme.reclaimed() {
            let harmed = pinned_since.iter().flatten().any(|&since| since < retired_at[object]);
            prop_assert!(!harmed, "object {object} was reclaimed under a reader at step {now}");
        }
    }
    for (who, _) in pinned_since.iter().enumerate().filter(|(_, since)| since.is_some()) {
        scheme.unpin(who);
    }
    for _ in 0..8 {
        (0..PARTICIPANTS).for_each(|who| scheme.announce(who));
    }
    let mut reclaimed = scheme.reclaimed();
    reclaimed.sort_unstable();
    prop_assert_eq!(reclaimed, (0..retired_at.len()).collect::<Vec<_>>(), "each exactly once, in the end");
    Ok(())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_same_schedule_over_both(steps in prop::collection::vec(step(false), 1..150)) {
        run(&mut Crossbeam::new(), &steps).map_err(|e| TestCaseError::fail(format!("crossbeam: {e}")))?;
        run(&mut Ours::new(fast_domain()), &steps)?;
        run(&mut Ours::new(fenced_domain()), &steps)?;
    }

    #[test]
    fn the_same_with_expedites_parking_and_pauses(steps in prop::collection::vec(step(true), 1..150)) {
        run(&mut Crossbeam::new(), &steps).map_err(|e| TestCaseError::fail(format!("crossbeam: {e}")))?;
        run(&mut Ours::new(fast_domain()), &steps)?;
        run(&mut Ours::new(fenced_domain()), &steps)?;
    }
}

/// The judge can say no: a scheme that reclaims at once is caught.
#[test]
fn a_scheme_that_does_not_wait_is_caught() {
    struct Hasty(Vec<usize>);
    impl Scheme for Hasty {
        fn pin(&mut self, _: usize) {}
        fn unpin(&mut self, _: usize) {}
        fn announce(&mut self, _: usize) {}
        fn retire(&mut self, _: usize, object: usize) {
            self.0.push(object);
        }
        fn reclaimed(&mut self) -> Vec<usize> {
            self.0.clone()
        }
    }
    assert!(run(&mut Hasty(Vec::new()), &[Step::Pin(0), Step::Retire(1)]).is_err());
}
