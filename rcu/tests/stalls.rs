//! Who holds a period up, and since when.
#![cfg(not(loom))]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use common::*;
use quiescent::{Demand, Stall, now_ns};

const SECOND: u64 = 1_000_000_000;

in_both_modes! {
    fn nobody_while_no_period_is_in_flight(domain) {
        let reader = reader(domain);
        let _section = reader.read_lock();
        assert_eq!(domain.stalled(now_ns() + SECOND, 0).count(), 0);
    }

    fn the_one_in_a_section_is_named_with_its_depth(domain) {
        let _idle = explicit_reader(domain);
        let holder = register(domain, 4242);
        holder.lock();
        holder.lock();
        domain.advance(Demand::Expedite);
        let stalls: Vec<Stall> = domain.stalled(now_ns() + SECOND, SECOND).collect();
        assert_eq!(stalls.len(), 1, "the idle one was announced for");
        assert_eq!((stalls[0].id, stalls[0].tid, stalls[0].nesting), (1, 4242, 2));
        assert!((SECOND..20 * SECOND).contains(&stalls[0].age_ns));
        unlock(&holder);
        unlock(&holder);
    }

    fn one_that_has_only_not_announced_shows_no_depth(domain) {
        let _lagging = explicit_reader(domain);
        domain.advance(Demand::Start);
        assert_eq!(domain.stalled(now_ns(), 0).map(|stall| stall.nesting).collect::<Vec<_>>(), [0]);
    }

    fn nobody_before_the_limit(domain) {
        let _lagging = reader(domain);
        domain.advance(Demand::Start);
        assert_eq!(domain.stalled(now_ns(), 3600 * SECOND).count(), 0);
        assert_eq!(domain.stalled(now_ns() + 3601 * SECOND, 3600 * SECOND).count(), 1);
    }

    fn nobody_who_is_offline_parked_announced_or_gone(domain) {
        let (parked, mut away, here) = (reader(domain), reader(domain), explicit_reader(domain));
        let gone = reader(domain);
        let holder = reader(domain);
        let _section = holder.read_lock();
        domain.advance(Demand::Start);
        away.offline();
        gone.exit();
        domain.advance(Demand::Expedite);
        assert!(parked.is_parked());
        here.quiescent_state();
        assert_eq!(domain.stalled(now_ns(), 0).map(|stall| stall.id).collect::<Vec<_>>(), [4]);
    }
}

#[test]
fn a_period_is_not_blamed_for_the_idle_time_before_it() {
    // The watcher looks while the period begins, again and again: it must never see the new period with
    // the age of the one before.
    let domain = fast_domain();
    let asked_at = AtomicU64::new(0); // 0: no period is wanted
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !stop.load(SeqCst) {
                let asked = asked_at.load(SeqCst);
                let stall = domain.stalled(now_ns(), 0).next();
                let now = now_ns();
                if let Some(stall) = stall
                    && asked != 0
                    && asked_at.load(SeqCst) == asked
                {
                    let most = now - asked;
                    assert!(
                        stall.age_ns <= most,
                        "{} ns old, and {most} ns ago nobody had asked",
                        stall.age_ns
                    );
                }
            }
        });
        let lagging = reader(domain);
        for round in 0..20_000 {
            let asked = now_ns();
            asked_at.store(asked, SeqCst);
            (0..round % 64).for_each(|_| std::hint::spin_loop()); // meet it at every point of its own loop
            let _ = domain.start_poll();
            lagging.quiescent_state();
            asked_at.store(0, SeqCst);
            while now_ns() < asked + 20_000 {
                std::hint::spin_loop();
            }
            if watcher.is_finished() {
                break;
            }
        }
        stop.store(true, SeqCst);
    });
}
