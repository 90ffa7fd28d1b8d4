//! 4096 registered readers: what a period costs because they exist.
//!
//! The cells belong to one thread, for a scan does not ask who owns them. `flushed`: every line of
//! every cell was flushed from the caches before the period, as if other processors had written it.

use core::arch::x86_64::{_mm_clflush, _mm_mfence};

use rcu::{Domain, Reader, ReaderCell};

use crate::new_domain;
use crate::rounds::{Limit, Measure, Plan, Subject, time_each};

/// Readers registered, from the issue.
const CROWD: usize = 4096;
const CACHE_LINE: usize = 64;

struct Crowd {
    domain: &'static Domain,
    cells: &'static [ReaderCell],
    readers: Vec<Reader>,
}

impl Crowd {
    fn new() -> Crowd {
        let domain = new_domain();
        let cells: &'static [ReaderCell] =
            Box::leak((0..CROWD).map(|_| ReaderCell::new()).collect::<Vec<_>>().into_boxed_slice());
        let register = |cell| {
            // SAFETY: the cell is new, so no other domain has seen it.
            unsafe { domain.register(cell, 0) }.expect("a new cell has no reader")
        };
        Crowd { domain, cells, readers: cells.iter().map(register).collect() }
    }

    fn explicit() -> Crowd {
        let crowd = Crowd::new();
        for reader in &crowd.readers {
            reader.lock();
            reader.unlock();
        }
        crowd
    }

    fn offline() -> Crowd {
        let crowd = Crowd::new();
        crowd.readers.iter().for_each(Reader::offline);
        crowd
    }

    fn announce(&self) {
        self.readers.iter().for_each(Reader::quiescent_state);
    }

    fn flush(&self) {
        let first = self.cells.as_ptr().cast::<u8>();
        for offset in (0..size_of_val(self.cells)).step_by(CACHE_LINE) {
            // SAFETY: within the slice; flushing changes no value.
            unsafe { _mm_clflush(first.add(offset)) };
        }
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_mfence() };
    }
}

/// The cost of a scan.
#[must_use]
pub fn measure(plan: &Plan) -> Measure {
    let (parked, explicit, offline) = (Crowd::new(), Crowd::explicit(), Crowd::offline());
    let expedite = |crowd: &Crowd| crowd.domain.synchronize_expedited(None);
    let start = |crowd: &Crowd| {
        let cookie = crowd.domain.start_poll();
        assert!(crowd.domain.poll(cookie), "nobody is in the way");
    };
    let waking = Crowd::new();
    let handles: Vec<_> = {
        let collector = crossbeam_epoch::Collector::new();
        (0..CROWD).map(|_| collector.register()).collect()
    };
    expedite(&parked);
    let subjects = vec![
        Subject::new("rcu synchronize_expedited", "implicit, first: parks them all", |round| {
            time_each(round, || waking.announce(), || expedite(&waking))
        }),
        Subject::new("rcu synchronize_expedited", "implicit, first: parks them all; flushed", |round| {
            time_each(
                round,
                || {
                    waking.announce();
                    waking.flush();
                },
                || expedite(&waking),
            )
        }),
        Subject::new("rcu synchronize_expedited", "implicit, later: parked", |round| {
            time_each(round, || (), || expedite(&parked))
        }),
        Subject::new("rcu synchronize_expedited", "implicit, later: parked; flushed", |round| {
            time_each(round, || parked.flush(), || expedite(&parked))
        }),
        Subject::new("rcu synchronize_expedited", "explicit, idle: announced for each time", |round| {
            time_each(round, || (), || expedite(&explicit))
        }),
        Subject::new(
            "rcu synchronize_expedited",
            "explicit, idle: announced for each time; flushed",
            |round| time_each(round, || explicit.flush(), || expedite(&explicit)),
        ),
        Subject::new("rcu start_poll", "a whole passive period: all offline", |round| {
            time_each(round, || (), || start(&offline))
        }),
        Subject::new("rcu start_poll", "a whole passive period: all parked", |round| {
            time_each(round, || (), || start(&parked))
        }),
        Subject::new("crossbeam-epoch", "pin, flush: tries once to advance the epoch", |round| {
            time_each(round, || (), || handles[0].pin().flush())
        }),
        Subject::absent("liburcu", "registers threads only; 4096 threads would measure the scheduler"),
    ];
    let mut measure = plan.measure("a period beside 4096 registered readers", "ns", Limit::None, subjects);
    let counters = waking.domain.counters();
    assert_eq!(counters.parked, counters.completed * CROWD as u64, "each first period parked all");
    assert_eq!(parked.domain.counters().parked, CROWD as u64, "later periods parked nobody");
    let each: Vec<String> = measure
        .rows
        .iter()
        .filter(|row| row.absent.is_none())
        .map(|row| format!("{} ({}) {:.2} ns", row.name, row.setting, row.median() / CROWD as f64))
        .collect();
    measure.notes.push(format!("For each reader: {}.", each.join("; ")));
    measure.notes.push(
        "A scan of settled readers costs 1 to 3 ns each from one run to the next, the same within a run: it depends on \
         where the cells lie, and which row is the cheap one changes with it."
            .into(),
    );
    measure.notes.push(format!(
        "A cell is {} bytes; {CROWD} are {} KiB.",
        size_of::<ReaderCell>(),
        size_of_val(parked.cells) >> 10
    ));
    measure
}
