//! Thousands of registered readers: what a period costs because they exist, or did.
//!
//! The cells belong to one thread, for a scan does not ask who owns them; so the figures are those of the
//! work, and neither of the scheduler nor of the way between two processors. `flushed`: every line of
//! every cell was flushed from the caches before the period, as if other processors had written it.

use core::arch::x86_64::{_mm_clflush, _mm_mfence};

use rcu::{Domain, Reader, ReaderCell};

use super::subject::{Limit, Measure, Plan, Subject, time_each, time_loop};
use super::{new_domain, new_readers};

/// Readers registered.
const CROWD: usize = 4096;
const CACHE_LINE: usize = 64;

/// Periods among two running readers may cost so many times what they cost without a crowd.
const BESIDE_A_CROWD: f64 = 1.2;
/// ns for a period of a crowd that announces in the worst order.
const WORST_ORDER_NS: f64 = 2_000_000.0;

struct Crowd {
    domain: &'static Domain,
    readers: Vec<Reader>,
}

impl Crowd {
    fn new() -> Crowd {
        let domain = new_domain();
        Crowd { domain, readers: new_readers(domain, CROWD) }
    }

    fn explicit() -> Crowd {
        let crowd = Crowd::new();
        for reader in &crowd.readers {
            reader.lock();
            // SAFETY: opened by hand.
            unsafe { reader.unlock() };
        }
        crowd
    }

    fn offline() -> Crowd {
        let mut crowd = Crowd::new();
        crowd.readers.iter_mut().for_each(Reader::offline);
        crowd
    }

    fn announce(&self) {
        self.readers.iter().for_each(Reader::quiescent_state);
    }

    fn flush(&self) {
        for reader in &self.readers {
            let cell = core::ptr::from_ref(reader.cell()).cast::<u8>();
            for offset in (0..size_of::<ReaderCell>()).step_by(CACHE_LINE) {
                // SAFETY: within the cell; flushing changes no value.
                unsafe { _mm_clflush(cell.add(offset)) };
            }
        }
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_mfence() };
    }
}

/// A passive period among two readers that run, beside others that have ended or sleep.
pub fn beside_a_crowd(plan: &Plan) -> Measure {
    let two_among = |ended: usize, idle: usize, have_read: bool| {
        let domain = new_domain();
        let crowd = new_readers(domain, ended);
        crowd.iter().for_each(|reader| drop(reader.read_lock()));
        drop(crowd);
        let sleeping = new_readers(domain, idle);
        if have_read {
            sleeping.iter().for_each(|reader| drop(reader.read_lock()));
        }
        (0..2).for_each(|_| domain.synchronize_expedited(None)); // parks them
        let running = new_readers(domain, 2);
        running.iter().for_each(|reader| drop(reader.read_lock()));
        move |round| {
            let _ = &sleeping;
            time_loop(round, |count| {
                for _ in 0..count {
                    let cookie = domain.start_poll();
                    for reader in &running {
                        drop(reader.read_lock());
                        reader.quiescent_state();
                    }
                    assert!(domain.poll(cookie), "both have announced");
                }
            })
        }
    };
    let beside = |what: &str, ended, idle, have_read| {
        let setting = format!("beside {} {what}", ended + idle);
        Subject::new("rcu start_poll, two announcements", setting, two_among(ended, idle, have_read))
            .limited()
    };
    let subjects = vec![
        beside("others", 0, 0, false),
        beside("that have ended", 1000, 0, false),
        beside("that have ended", 10_000, 0, false),
        beside("idle threads", 0, 1000, false),
        beside("idle threads", 0, CROWD, false),
        beside("idle threads that have read", 0, CROWD, true),
    ];
    let limit = Limit::Times(BESIDE_A_CROWD);
    // What else the machine does disturbs few of many short rounds.
    let plan = Plan { rounds: plan.rounds * 10, round: plan.round / 10 };
    plan.measure("a period of two running readers beside a crowd", "ns", limit, subjects)
}

/// A passive period of readers that all announce, in orders that are good and bad for a scan.
pub fn everybody_announces(plan: &Plan) -> Measure {
    let crowd = Crowd::explicit();
    let announce = |order: Vec<usize>| {
        let crowd = &crowd;
        move |round| {
            time_each(
                round,
                || (),
                || {
                    let cookie = crowd.domain.start_poll();
                    order.iter().for_each(|&who| crowd.readers[who].quiescent_state());
                    assert!(crowd.domain.poll(cookie), "all have announced");
                },
            )
        }
    };
    // A full cycle with a stride that has no factor in common with their number.
    let scattered = (0..CROWD).map(|n| n * 1237 % CROWD).collect();
    let subjects = vec![
        Subject::new("rcu", "oldest first", announce((0..CROWD).collect())).limited(),
        Subject::new("rcu", "newest first", announce((0..CROWD).rev().collect())).limited(),
        Subject::new("rcu", "scattered", announce(scattered)).limited(),
    ];
    plan.measure("a period of 4096 readers that all announce", "ns", Limit::Fixed(WORST_ORDER_NS), subjects)
}

/// The cost of a scan.
pub fn measure(plan: &Plan) -> Measure {
    let (parked, rested, explicit, offline) =
        (Crowd::new(), Crowd::explicit(), Crowd::explicit(), Crowd::offline());
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
    (0..2).for_each(|_| expedite(&rested));
    let read = |crowd: &Crowd| crowd.readers.iter().for_each(|reader| drop(reader.read_lock()));
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
        Subject::new("rcu synchronize_expedited", "explicit, all have just read: announced for", |round| {
            time_each(round, || read(&explicit), || expedite(&explicit))
        }),
        Subject::new(
            "rcu synchronize_expedited",
            "explicit, all have just read: announced for; flushed",
            |round| {
                time_each(
                    round,
                    || {
                        read(&explicit);
                        explicit.flush();
                    },
                    || expedite(&explicit),
                )
            },
        ),
        Subject::new("rcu synchronize_expedited", "explicit, resting: parked", |round| {
            time_each(round, || (), || expedite(&rested))
        }),
        Subject::new("rcu synchronize_expedited", "explicit, resting: parked; flushed", |round| {
            time_each(round, || rested.flush(), || expedite(&rested))
        }),
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
    assert_eq!(rested.domain.counters().parked, CROWD as u64, "as above");
    let each: Vec<String> = measure
        .rows
        .iter()
        .filter(|row| row.absent.is_none())
        .map(|row| format!("{} ({}) {:.2} ns", row.name, row.setting, row.median() / CROWD as f64))
        .collect();
    measure.notes.push(format!("For each reader: {}.", each.join("; ")));
    measure.notes.push(
        "A scan of settled readers costs 1 to 3 ns each from one run to the next, the same within a run: it \
         depends on \
         where the cells lie, and which row is the cheap one changes with it."
            .into(),
    );
    measure.notes.push(format!(
        "A cell is {} bytes; {CROWD} are {} KiB.",
        size_of::<ReaderCell>(),
        (CROWD * size_of::<ReaderCell>()) >> 10
    ));
    measure
}
