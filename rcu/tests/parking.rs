//! Parking: a thread that sleeps is asked once, or twice if it has read, and not once a period.
#![cfg(not(loom))]

mod common;

use common::*;
use quiescent::Demand;

in_both_modes! {
    fn a_sleeping_implicit_reader_is_parked_once(domain) {
        let sleeper = reader(domain);
        for _ in 0..10 {
            assert!(domain.advance(Demand::Expedite));
        }
        assert!(sleeper.is_parked());
        let counters = domain.counters();
        assert_eq!((counters.completed, counters.parked, counters.membarriers), (10, 1, 0));
    }

    fn a_parked_reader_does_not_hold_up_passive_periods(domain) {
        let (_sleeper, awake) = (reader(domain), reader(domain));
        domain.advance(Demand::Expedite);
        awake.quiescent_state();
        let cookie = domain.start_poll();
        awake.quiescent_state();
        assert!(domain.poll(cookie));
    }

    fn its_next_announcement_unparks_it(domain) {
        let reader = reader(domain);
        domain.advance(Demand::Expedite);
        reader.quiescent_state();
        assert!(!reader.is_parked());
        let cookie = domain.start_poll();
        assert!(!domain.poll(cookie), "it is waited for again");
    }

    fn an_announcement_in_flight_unparks_and_counts(domain) {
        let (sleeper, other) = (reader(domain), reader(domain));
        domain.advance(Demand::Expedite);
        other.quiescent_state();
        let cookie = domain.start_poll();
        sleeper.quiescent_state();
        other.quiescent_state();
        assert!(!sleeper.is_parked());
        assert!(domain.poll(cookie));
    }

    fn coming_online_unparks(domain) {
        let reader = reader(domain);
        domain.advance(Demand::Expedite);
        reader.online();
        assert!(!reader.is_parked());
    }

    fn the_first_lock_unparks(domain) {
        let reader = reader(domain);
        domain.advance(Demand::Expedite);
        let section = reader.read_lock();
        assert!(!reader.is_parked() && reader.is_explicit());
        assert!(held_up(domain));
        drop(section);
        domain.advance(Demand::Expedite);
        assert!(!reader.is_parked(), "it has just been in a section");
    }

    fn an_explicit_reader_that_rests_is_parked_once(domain) {
        let reader = explicit_reader(domain);
        for _ in 0..10 {
            assert!(domain.advance(Demand::Expedite));
        }
        assert!(reader.is_parked() && reader.is_explicit());
        let counters = domain.counters();
        let barriers = if domain.is_fenced() { 0 } else { 2 }; // to judge it, and to park it
        assert_eq!((counters.completed, counters.parked, counters.membarriers), (10, 1, barriers));
    }

    fn an_explicit_reader_that_reads_is_not_parked(domain) {
        let reader = explicit_reader(domain);
        for _ in 0..10 {
            drop(reader.read_lock());
            assert!(domain.advance(Demand::Expedite));
            assert!(!reader.is_parked());
        }
        assert_eq!(domain.counters().parked, 0);
    }

    fn the_lock_of_a_parked_reader_is_waited_for(domain) {
        let (reader, other) = (explicit_reader(domain), explicit_reader(domain));
        for round in 0..10 {
            (0..2).for_each(|_| assert!(domain.advance(Demand::Expedite)));
            assert!(reader.is_parked(), "round {round}");
            let section = reader.read_lock();
            let inner = reader.read_lock();
            assert!(!reader.is_parked() && reader.nesting() == 2);
            assert!(held_up(domain), "round {round}");
            drop(inner);
            assert!(held_up(domain) && reader.nesting() == 1, "round {round}");
            drop(section);
            assert!(domain.advance(Demand::Expedite), "round {round}");
            reader.quiescent_state();
            other.quiescent_state();
        }
    }

    fn a_resting_crowd_costs_two_periods_and_later_ones_nothing(domain) {
        let crowd: Vec<_> = (0..4096).map(|_| explicit_reader(domain)).collect();
        (0..2).for_each(|_| assert!(domain.advance(Demand::Expedite)));
        assert!(crowd.iter().all(|reader| reader.is_parked()));
        let before = domain.counters();
        let cookie = domain.start_poll();
        assert!(domain.poll(cookie), "nobody is waited for");
        assert!(domain.advance(Demand::Expedite));
        let after = domain.counters();
        assert_eq!((after.parked, after.membarriers), (before.parked, before.membarriers));
    }

    fn an_explicit_reader_stays_explicit_offline_and_back(domain) {
        let mut reader = explicit_reader(domain);
        reader.offline();
        assert!(reader.is_explicit());
        reader.online();
        reader.quiescent_state();
        assert!(reader.is_explicit());
    }

    fn a_sleeping_crowd_is_parked_in_one_pass(domain) {
        let crowd: Vec<_> = (0..4096).map(|_| reader(domain)).collect();
        assert!(domain.advance(Demand::Expedite));
        assert_eq!(domain.counters().parked, 4096);
        assert!(crowd.iter().all(|reader| reader.is_parked()));
    }
}
