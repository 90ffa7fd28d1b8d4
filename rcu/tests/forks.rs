//! fork: in the child the other threads' readers are gone, whatever they held.
#![cfg(not(any(loom, rcu_tsan)))] // the sanitizer does not support threads in a forked child

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use common::*;
use quiescent::{Demand, Domain, Reader, now_ns};

fn forked(domain: &'static Domain, survivor: Option<&Reader>, body: impl FnOnce()) {
    in_forked_child(|| {
        // SAFETY: first thing in the child, whose only thread this is.
        unsafe { domain.after_fork_in_child(survivor) };
        body();
    });
}

in_both_modes! {
    fn a_survivor_in_a_section_stays_in_it(domain) {
        let me = explicit_reader(domain);
        let section = me.read_lock();
        forked(domain, Some(&me), || {
            assert_eq!(me.nesting(), 1);
            assert!(held_up(domain));
            unlock(&me);
            assert!(!held_up(domain));
        });
        assert!(held_up(domain), "the parent did not notice");
        drop(section);
        assert!(!held_up(domain));
    }

    fn a_survivor_outside_a_section_goes_on(domain) {
        let me = reader(domain);
        let cookie = domain.start_poll();
        forked(domain, Some(&me), || {
            assert!(!domain.poll(cookie));
            me.quiescent_state();
            assert!(domain.poll(cookie));
            let _section = me.read_lock();
            assert!(held_up(domain));
        });
    }

    fn the_others_claims_are_cleared(domain) {
        let (me, other) = (explicit_reader(domain), explicit_reader(domain));
        let _section = other.read_lock();
        let cookie = domain.start_poll();
        me.quiescent_state();
        forked(domain, Some(&me), || {
            assert!(domain.poll(cookie), "the period in flight waited for the other only");
            let heir = reader(domain);
            assert!(std::ptr::eq(heir.cell(), other.cell()), "the lowest free cell");
            assert!(!heir.is_explicit());
            assert_eq!(heir.nesting(), 0);
            let _section = heir.read_lock();
            assert!(held_up(domain));
        });
        assert!(!domain.poll(cookie), "in the parent the other is alive");
    }

    fn a_child_without_a_survivor_finishes_periods(domain) {
        let other = explicit_reader(domain);
        let _section = other.read_lock();
        let cookie = domain.start_poll();
        forked(domain, None, || {
            assert!(domain.poll(cookie));
            assert!(domain.poll(domain.start_poll()));
            domain.synchronize(None);
            let mine = reader(domain);
            let _section = mine.read_lock();
            assert!(held_up(domain));
        });
    }

    fn a_promised_period_starts_in_the_child(domain) {
        let me = reader(domain);
        domain.advance(Demand::Start);
        let cookie = domain.start_poll(); // the one behind the period in flight
        forked(domain, None, || assert!(domain.poll(cookie)));
        me.quiescent_state();
        assert!(!domain.poll(cookie));
    }

    fn the_survivor_is_known_by_its_new_thread_id(domain) {
        let me = explicit_reader(domain);
        let _section = me.read_lock();
        forked(domain, Some(&me), || {
            expedite(domain);
            let stall = domain.stalled(now_ns(), 0).next().expect("it holds the period up");
            assert_eq!(stall.tid, std::process::id());
        });
    }

    fn an_offline_survivor_stays_offline(domain) {
        let mut me = explicit_reader(domain);
        me.offline();
        forked(domain, Some(&me), || {
            assert!(me.is_offline());
            let _section = me.read_lock();
            assert!(held_up(domain));
        });
    }

    fn children_of_a_storm_can_end_periods(domain) {
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..2).map(|_| {
            let (reader, stop) = (explicit_reader(domain), stop.clone());
            thread::spawn(move || while !stop.load(Relaxed) {
                let _section = reader.read_lock();
                let _ = domain.start_poll();
                domain.advance(Demand::Expedite);
            })
        }).collect();
        let me = explicit_reader(domain);
        for _ in 0..25 {
            forked(domain, Some(&me), || {
                // SAFETY: `me` is this thread's, and lives as long as this.
                let mut own = unsafe { Reader::borrow_cell(me.cell()) };
                domain.synchronize_expedited(Some(&mut *own));
                let section = me.read_lock();
                assert!(held_up(domain));
                forked(domain, Some(&me), || assert!(held_up(domain)));
                drop(section);
                assert!(domain.advance(Demand::Expedite));
            });
        }
        stop.store(true, Relaxed);
        for thread in threads {
            thread.join().expect("no panic");
        }
    }
}
