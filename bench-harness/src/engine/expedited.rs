//! A grace period among threads that sleep: nobody announces, so it is expedited.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rcu::Domain;

use super::peers::{self, Flavor};
use super::subject::{Limit, Measure, Plan, Sample, Subject, time_each};
use super::{new_domain, new_reader};

/// ns beyond the membarrier's own time.
pub const BEYOND_MEMBARRIER_NS: f64 = 1_000.0;

/// How many threads sleep.
const SLEEPERS: usize = 2;
/// Time for a thread that has answered to be asleep again.
const FALL_ASLEEP: Duration = Duration::from_micros(100);

/// Threads that do what they are told and sleep otherwise.
struct Sleepers {
    orders: Vec<SyncSender<()>>,
    done: Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Sleepers {
    /// `life` registers a thread, and calls `wait` to sleep until the next order, until it says false.
    fn start(life: impl Fn(&mut dyn FnMut() -> bool) + Send + Clone + 'static) -> Sleepers {
        let (report, done) = sync_channel(SLEEPERS);
        let mut orders = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..SLEEPERS {
            let (order, ordered) = sync_channel::<()>(1);
            let (report, life) = (report.clone(), life.clone());
            orders.push(order);
            threads.push(std::thread::spawn(move || {
                life(&mut || {
                    let _ = report.send(());
                    ordered.recv().is_ok()
                });
            }));
        }
        let sleepers = Sleepers { orders, done, threads };
        sleepers.until_asleep();
        sleepers
    }

    fn until_asleep(&self) {
        for _ in 0..SLEEPERS {
            self.done.recv().expect("a sleeper reports");
        }
        std::thread::sleep(FALL_ASLEEP);
    }

    /// Wakes each once.
    fn wake(&self) {
        for order in &self.orders {
            order.send(()).expect("a sleeper listens");
        }
        self.until_asleep();
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        self.orders.clear();
        for thread in self.threads.drain(..) {
            thread.join().expect("a sleeper does not panic");
        }
    }
}

fn our_sleepers(domain: &'static Domain, explicit: bool) -> Sleepers {
    Sleepers::start(move |wait| {
        let reader = new_reader(domain);
        if explicit {
            reader.lock();
            // SAFETY: opened by hand.
            unsafe { reader.unlock() };
        }
        while wait() {
            reader.quiescent_state();
        }
    })
}

fn their_sleepers(flavor: Flavor) -> Sleepers {
    Sleepers::start(move |wait| {
        // SAFETY: each thread registers itself, is in no section and offline while it sleeps.
        unsafe {
            (flavor.register)();
            (flavor.section)();
            (flavor.offline)();
            while wait() {}
            (flavor.online)();
            (flavor.unregister)();
        }
    })
}

fn membarrier() {
    const PRIVATE_EXPEDITED: i32 = 1 << 3;
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, PRIVATE_EXPEDITED, 0, 0) };
}

/// Runs `body` while one more thread computes, if asked to.
fn beside_a_bystander(wanted: bool, body: impl FnOnce() -> Sample) -> Sample {
    let stop = AtomicBool::new(!wanted);
    std::thread::scope(|scope| {
        if wanted {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    core::hint::spin_loop();
                }
            });
            std::thread::sleep(Duration::from_millis(1));
        }
        let sample = body();
        stop.store(true, Ordering::Relaxed);
        sample
    })
}

/// Expedited periods among sleepers; `bystander`: one thread that is no reader runs meanwhile, which
/// the kernel has to interrupt.
pub fn measure(plan: &Plan, bystander: bool) -> Measure {
    let domain = new_domain();
    let fenced = domain.is_fenced();
    let mut subjects = vec![
        Subject::new(
            "rcu synchronize_expedited",
            "explicit readers, announced for each time",
            move |round| {
                let domain = new_domain();
                let _sleepers = our_sleepers(domain, true);
                beside_a_bystander(bystander, || {
                    time_each(round, || (), || domain.synchronize_expedited(None))
                })
            },
        )
        .limited(),
        if fenced {
            Subject::absent("membarrier", "refused here")
        } else {
            Subject::new("membarrier", "the system call alone, beside the same sleepers", move |round| {
                let domain = new_domain();
                let _sleepers = our_sleepers(domain, true);
                beside_a_bystander(bystander, || time_each(round, || (), membarrier))
            })
        },
        Subject::new(
            "rcu synchronize_expedited",
            "implicit readers, first period: parks them",
            move |round| {
                let domain = new_domain();
                let sleepers = our_sleepers(domain, false);
                let sample = beside_a_bystander(bystander, || {
                    time_each(round, || sleepers.wake(), || domain.synchronize_expedited(None))
                });
                let counters = domain.counters();
                assert_eq!(counters.parked, counters.completed * SLEEPERS as u64, "every period parked both");
                assert_eq!(counters.membarriers, 0, "parking needs no membarrier");
                sample
            },
        )
        .limited(),
        Subject::new("rcu synchronize_expedited", "implicit readers, later periods: parked", move |round| {
            let domain = new_domain();
            let _sleepers = our_sleepers(domain, false);
            domain.synchronize_expedited(None);
            let sample = beside_a_bystander(bystander, || {
                time_each(round, || (), || domain.synchronize_expedited(None))
            });
            assert_eq!(domain.counters().parked, SLEEPERS as u64, "parked once");
            sample
        })
        .limited(),
    ];
    for peer in peers::all() {
        let setting = match peer.flavor {
            "qsbr" => "its sleepers went offline; online ones would never let it end",
            _ => "",
        };
        subjects.push(match peer.found {
            Ok((_, flavor)) => {
                Subject::new(format!("{} synchronize_rcu", peer.name), setting, move |round| {
                    let _sleepers = their_sleepers(flavor);
                    beside_a_bystander(bystander, || {
                        // SAFETY: this thread is not a reader and may wait.
                        time_each(round, || (), || unsafe { (flavor.synchronize)() })
                    })
                })
            }
            Err(reason) => Subject::absent(peer.name, reason),
        });
    }
    subjects.push(Subject::absent("crossbeam-epoch", "has no synchronize and nothing to expedite"));
    let limit = if fenced { Limit::None } else { Limit::Above(1, BEYOND_MEMBARRIER_NS) };
    let title = if bystander {
        "an expedited period, 2 sleeping readers, one other thread running"
    } else {
        "an expedited period, 2 sleeping readers, nobody running"
    };
    let mut measure = plan.measure(title, "ns", limit, subjects);
    if fenced {
        measure
            .notes
            .push("No membarrier here, so the limit, which is relative to it, does not apply.".into());
    }
    measure
}
