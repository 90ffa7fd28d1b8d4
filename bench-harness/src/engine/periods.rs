//! A grace period among two threads that read and announce without a pause.
//!
//! Three shapes, because the answer depends on whether everybody has a processor:
//!
//! - one of the two readers waits, the other runs: two threads;
//! - one of the two readers asks, goes on reading and announcing, and polls: two threads;
//! - a third thread waits for both. On a machine of two processors one of the three is always off
//!   the processor, and a reader that does not run cannot announce.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use rcu::{Domain, Reader};

use super::peers::{self, Flavor};
use super::subject::{Limit, Measure, Plan, Sample, Subject, time_each};
use super::{fenced_note, new_domain, new_reader};

/// ns.
pub const PERIOD_LIMIT_NS: f64 = 5_000.0;

/// What a section reads: the little work.
const WORDS: usize = 16;

struct Running {
    stop: AtomicI32,
    ready: AtomicU32,
    data: [u32; WORDS],
}

/// Runs `body` while `count` threads execute `reader`, which says `ready` and loops until `stop`.
fn while_readers_run(
    count: u32,
    reader: impl Fn(&Running) + Sync,
    body: impl FnOnce(&Running) -> Sample,
) -> Sample {
    let running = Running { stop: AtomicI32::new(0), ready: AtomicU32::new(0), data: [7; WORDS] };
    let (reader, running) = (&reader, &running);
    // Where there is a processor for each, each gets one of its own: two threads that "run" and take
    // turns on one processor are not what is to be measured, and the scheduler does that for whole rounds.
    let processors = Affinity::of_this_thread();
    let spread = processors.count() > count as usize;
    std::thread::scope(|scope| {
        for number in 0..count as usize {
            scope.spawn(move || {
                if spread {
                    processors.nth(number + 1).apply();
                }
                reader(running);
            });
        }
        if spread {
            processors.nth(0).apply();
        }
        while running.ready.load(Ordering::Acquire) < count {
            std::thread::yield_now();
        }
        let sample = body(running);
        running.stop.store(1, Ordering::Relaxed);
        processors.apply();
        sample
    })
}

/// The processors that a thread may run on.
#[derive(Clone, Copy)]
struct Affinity(libc::cpu_set_t);

impl Affinity {
    fn of_this_thread() -> Affinity {
        // SAFETY: all zeros is an empty set; the call fills it.
        unsafe {
            let mut set: libc::cpu_set_t = core::mem::zeroed();
            libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
            Affinity(set)
        }
    }

    fn count(&self) -> usize {
        // SAFETY: reads the set.
        unsafe { libc::CPU_COUNT(&self.0) as usize }
    }

    /// The `n`th of them alone.
    fn nth(&self, n: usize) -> Affinity {
        // SAFETY: all zeros is an empty set; the number is below CPU_SETSIZE.
        unsafe {
            let mut one: libc::cpu_set_t = core::mem::zeroed();
            let found = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &self.0)).nth(n);
            libc::CPU_SET(found.unwrap_or(0), &mut one);
            Affinity(one)
        }
    }

    /// Moves the calling thread there. If that is refused it stays where it may be.
    fn apply(&self) {
        // SAFETY: reads the set.
        unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &raw const self.0) };
    }
}

fn our_reader(domain: &'static Domain, running: &Running) {
    let reader = new_reader(domain);
    section(&reader, running);
    running.ready.fetch_add(1, Ordering::Release);
    while running.stop.load(Ordering::Relaxed) == 0 {
        section(&reader, running);
        reader.quiescent_state();
    }
}

#[inline]
fn section(reader: &Reader, running: &Running) {
    reader.lock();
    for word in &running.data {
        // SAFETY: a reference; volatile only so that the work is done.
        unsafe { core::ptr::read_volatile(word) };
    }
    // SAFETY: opened by hand.
    unsafe { reader.unlock() };
}

fn their_reader(flavor: Flavor, running: &Running) {
    // SAFETY: registers this thread; the loop ends when `stop` is set; the pointers outlive it.
    unsafe {
        (flavor.register)();
        running.ready.fetch_add(1, Ordering::Release);
        (flavor.reader_loop)(running.stop.as_ptr(), running.data.as_ptr(), WORDS as u64);
        (flavor.unregister)();
    }
}

/// How one waits for a period of ours.
type Wait = fn(&Domain, Option<&mut Reader>);

/// Everybody's calls that wait for a period, `ours` and `theirs` while readers of one's own run.
fn waits(
    announces: &str,
    ours: fn(Duration, Wait) -> Sample,
    theirs: fn(Flavor, Duration) -> Sample,
) -> Vec<Subject<'static>> {
    let note = fenced_note(new_domain());
    let mut subjects = vec![
        Subject::new("rcu synchronize", format!("{announces}{note}"), move |round| {
            ours(round, Domain::synchronize)
        })
        .limited(),
        Subject::new("rcu synchronize_expedited", note, move |round| {
            ours(round, Domain::synchronize_expedited)
        }),
    ];
    for peer in peers::all() {
        subjects.push(match peer.found {
            Ok((_, flavor)) => {
                Subject::new(format!("{} synchronize_rcu", peer.name), "", move |round| theirs(flavor, round))
            }
            Err(reason) => Subject::absent(peer.name, reason),
        });
    }
    subjects.push(crossbeam_absent());
    subjects
}

/// One of two readers waits.
pub fn waited_for_by_a_reader(plan: &Plan) -> Measure {
    fn ours(round: Duration, wait: Wait) -> Sample {
        let domain = new_domain();
        while_readers_run(
            1,
            |running| our_reader(domain, running),
            |running| {
                let me = new_reader(domain);
                // SAFETY: this thread's, and `me` lives as long: two closures have a hold on one reader.
                let mut waiting = unsafe { Reader::borrow_cell(me.cell()) };
                let prepare = || {
                    section(&me, running);
                    me.quiescent_state();
                };
                time_each(round, prepare, || wait(domain, Some(&mut *waiting)))
            },
        )
    }
    fn theirs(flavor: Flavor, round: Duration) -> Sample {
        while_readers_run(
            1,
            |running| their_reader(flavor, running),
            |_| {
                // SAFETY: this thread is registered for as long as it is a reader.
                unsafe {
                    (flavor.register)();
                    let sample = time_each(round, || (flavor.section)(), || (flavor.synchronize)());
                    (flavor.unregister)();
                    sample
                }
            },
        )
    }
    let subjects = waits("the other reader announces", ours, theirs);
    let title = "a period, 2 running readers, one of them waits (2 threads)";
    plan.measure(title, "ns", Limit::Fixed(PERIOD_LIMIT_NS), subjects)
}

/// One of two readers polls and goes on.
pub fn polled_by_a_reader(plan: &Plan) -> Measure {
    let subjects = vec![
        Subject::new("rcu start_poll, then poll", "both readers announce", |round| {
            let domain = new_domain();
            while_readers_run(
                1,
                |running| our_reader(domain, running),
                |running| {
                    let me = new_reader(domain);
                    section(&me, running);
                    time_each(
                        round,
                        || {
                            section(&me, running);
                            me.quiescent_state();
                        },
                        || {
                            let cookie = domain.start_poll();
                            while !domain.poll(cookie) {
                                section(&me, running);
                                me.quiescent_state();
                            }
                        },
                    )
                },
            )
        })
        .limited(),
        Subject::absent(
            "liburcu qsbr, memb, bp",
            "see the table of cookies; their polls need a helper thread",
        ),
        crossbeam_absent(),
    ];
    let title = "a period, 2 running readers, one of them polls (2 threads)";
    plan.measure(title, "ns", Limit::Fixed(PERIOD_LIMIT_NS), subjects)
}

/// A third thread waits for two readers.
pub fn waited_for_by_a_third(plan: &Plan) -> Measure {
    fn ours(round: Duration, wait: Wait) -> Sample {
        let domain = new_domain();
        while_readers_run(
            2,
            |running| our_reader(domain, running),
            |_| time_each(round, || (), || wait(domain, None)),
        )
    }
    fn theirs(flavor: Flavor, round: Duration) -> Sample {
        while_readers_run(
            2,
            |running| their_reader(flavor, running),
            |_| {
                // SAFETY: this thread is not a reader and may wait.
                time_each(round, || (), || unsafe { (flavor.synchronize)() })
            },
        )
    }
    let subjects = waits("both readers announce", ours, theirs);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let title = "a period, 2 running readers, a third thread waits (3 threads)";
    let mut measure = plan.measure(title, "ns", Limit::Fixed(PERIOD_LIMIT_NS), subjects);
    if processors < 3 {
        measure.notes.push(format!(
            "3 threads that never sleep on {processors} processors: this is the scheduler's latency as much \
             as the engine's."
        ));
    }
    measure
}

fn crossbeam_absent() -> Subject<'static> {
    Subject::absent("crossbeam-epoch", "has no synchronize: it runs callbacks when the epoch has advanced")
}
