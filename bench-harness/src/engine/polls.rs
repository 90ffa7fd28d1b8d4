//! Cookies: taking one, asking for one, polling one.

use std::hint::black_box;

use core::sync::atomic::{Ordering::SeqCst, fence};

use super::peers::{self, Registered};
use super::subject::{Limit, Measure, Plan, Subject, time_loop};
use super::{new_domain, new_reader};

/// ns.
pub const POLL_LIMIT_NS: f64 = 10.0;

/// Time of `start_poll` and `poll`, and of the fence that they are made of.
pub fn measure(plan: &Plan) -> Measure {
    let _registered = Registered::in_all();
    let idle = new_domain();
    let mut idle_reader = new_reader(idle);
    idle_reader.offline();
    let finished = idle.start_poll();
    assert!(idle.poll(finished), "nobody is in the way of this period");

    let busy = new_domain();
    let busy_reader = new_reader(busy);
    busy_reader.lock();
    let unfinished = busy.start_poll();
    assert!(!busy.poll(unfinished), "a section is open");

    let online = new_domain();
    let online_reader = new_reader(online);
    online_reader.lock();
    // SAFETY: opened by hand.
    unsafe { online_reader.unlock() };

    let mut subjects = vec![
        Subject::new("rcu poll", "of a finished cookie", |round| {
            time_loop(round, |n| {
                for _ in 0..n {
                    black_box(idle.poll(black_box(finished)));
                }
            })
        })
        .limited(),
        Subject::new("rcu poll", "of an unfinished cookie", |round| {
            time_loop(round, |n| {
                for _ in 0..n {
                    black_box(busy.poll(black_box(unfinished)));
                }
            })
        }),
        Subject::new("rcu start_poll", "a period in flight", |round| {
            time_loop(round, |n| {
                for _ in 0..n {
                    black_box(busy.start_poll());
                }
            })
        })
        .limited(),
        Subject::new("rcu start_poll", "idle, nobody in the way: a whole period", |round| {
            time_loop(round, |n| {
                for _ in 0..n {
                    black_box(idle.start_poll());
                }
            })
        })
        .limited(),
        Subject::new("rcu snapshot", "the cookie alone", |round| {
            time_loop(round, |n| {
                for _ in 0..n {
                    black_box(busy.snapshot());
                }
            })
        }),
        Subject::new("rcu quiescent_state", "nothing to say", |round| {
            time_loop(round, |n| {
                for _ in 0..n {
                    black_box(&idle_reader).quiescent_state();
                }
            })
        }),
        Subject::new(
            "rcu start_poll + quiescent_state",
            "a whole period, ended by the announcement",
            |round| {
                time_loop(round, |n| {
                    for _ in 0..n {
                        black_box(online.start_poll());
                        online_reader.quiescent_state();
                    }
                })
            },
        ),
        Subject::new("fence(SeqCst)", "as rustc compiles it", |round| {
            time_loop(round, |n| {
                // Something to order, or LLVM leaves out fence and loop.
                for _ in 0..n {
                    fence(SeqCst);
                    black_box(());
                }
            })
        }),
        Subject::new("lock or", "the other full fence of x86", |round| {
            time_loop(round, |n| {
                for _ in 0..n {
                    // SAFETY: changes nothing below the stack pointer but the flags.
                    unsafe { core::arch::asm!("lock or dword ptr [rsp], 0", options(nostack)) };
                }
            })
        }),
        Subject::new("clock_gettime", "rcu::now_ns", |round| {
            time_loop(round, |n| {
                for _ in 0..n {
                    black_box(rcu::now_ns());
                }
            })
        }),
    ];
    for peer in peers::all() {
        match peer.found {
            // SAFETY: no arguments.
            Ok((_, flavor)) if unsafe { (flavor.has_poll)() } != 0 => {
                subjects.push(Subject::new(
                    format!("{} poll", peer.name),
                    "of a finished state",
                    move |round| {
                        // SAFETY: no pointers; the thread is registered.
                        time_loop(round, |n| unsafe { (flavor.polls_of_finished)(n) })
                    },
                ));
                subjects.push(Subject::new(format!("{} start_poll", peer.name), "", move |round| {
                    // SAFETY: as above.
                    time_loop(round, |n| unsafe { (flavor.start_polls)(n) })
                }));
            }
            Ok((version, _)) => subjects.push(Subject::absent(
                peer.name,
                format!("version {version} has no start_poll_synchronize_rcu (it came with 0.14)"),
            )),
            Err(reason) => subjects.push(Subject::absent(peer.name, reason)),
        }
    }
    subjects.push(Subject::absent("crossbeam-epoch", "has no cookies: it runs callbacks"));
    let mut measure = plan.measure("cookies", "ns", Limit::Fixed(POLL_LIMIT_NS), subjects);
    // SAFETY: opened by hand.
    unsafe { busy_reader.unlock() };
    measure.notes.push(
        "The limit is applied to start_poll and to poll of a finished cookie alike. A full fence is \
         part of any cookie; `idle` is not a cookie but a whole period: started, scanned, ended, timed and \
         counted."
            .into(),
    );
    measure
}
