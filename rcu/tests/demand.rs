//! `advance`: no backlog, no hurry; and `Marks`, which turn a backlog into a demand.
#![cfg(not(loom))]

mod common;

use common::*;
use proptest::prelude::*;
use quiescent::{Demand, Marks};

in_both_modes! {
    fn no_demand_does_nothing(domain) {
        let _reader = reader(domain);
        assert!(!domain.advance(Demand::None));
        assert_eq!(domain.counters().started, 0);
    }

    fn no_demand_leaves_a_period_in_flight_alone(domain) {
        let _reader = reader(domain);
        domain.advance(Demand::Start);
        assert!(!domain.advance(Demand::None));
        assert_eq!(domain.counters().completed, 0);
    }

    fn start_has_one_period_in_flight(domain) {
        let reader = reader(domain);
        for _ in 0..10 {
            assert!(!domain.advance(Demand::Start));
        }
        assert_eq!(domain.counters().started, 1);
        assert!(!reader.is_parked());
        reader.quiescent_state();
        let counters = domain.counters();
        assert_eq!((counters.started, counters.completed, counters.expedited), (1, 1, 0));
    }

    fn start_ends_a_period_that_nobody_holds_up(domain) {
        assert!(domain.advance(Demand::Start));
        assert_eq!(domain.counters().completed, 1);
    }

    fn expedite_starts_and_ends_a_period(domain) {
        let cookie = domain.snapshot();
        let _sleeper = explicit_reader(domain);
        assert!(domain.advance(Demand::Expedite));
        assert!(domain.poll(cookie));
    }

    fn park_ends_a_period_that_only_implicit_readers_hold_up(domain) {
        let (cookie, reader) = (domain.snapshot(), reader(domain));
        assert!(domain.advance(Demand::Park));
        assert!(domain.poll(cookie) && reader.is_parked());
        assert_eq!(domain.counters().membarriers, 0);
    }

    fn park_asks_no_explicit_reader(domain) {
        let (cookie, idle) = (domain.snapshot(), explicit_reader(domain));
        assert!(!domain.advance(Demand::Park) && !domain.poll(cookie));
        assert!(!idle.is_parked());
        assert_eq!(domain.counters().membarriers, 0);
        assert!(domain.advance(Demand::Expedite) && domain.poll(cookie));
    }

    fn advancing_in_ones_own_section_returns(domain) {
        let reader = reader(domain);
        let section = reader.read_lock();
        for demand in [Demand::Start, Demand::Park, Demand::Expedite, Demand::None] {
            assert!(!domain.advance(demand));
        }
        drop(section);
        assert!(domain.advance(Demand::Expedite));
    }

    fn every_period_is_counted_and_one_in_eight_timed(domain) {
        let _reader = explicit_reader(domain);
        for _ in 0..20 {
            domain.advance(Demand::Expedite);
        }
        let counters = domain.counters();
        assert_eq!((counters.started, counters.completed, counters.expedited), (20, 20, 20));
        assert_eq!(counters.timed, 3, "the first, the ninth and the seventeenth");
        let median = domain.latency(0.5).expect("three were timed");
        assert!((1..1_000_000_000).contains(&median), "{median} ns");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_larger_or_older_backlog_is_never_less_urgent(bytes in 0..3000_u64, more in 0..3000_u64,
                                                       age in 0..3000_u64, older in 0..3000_u64) {
        let marks = Marks { start_bytes: 500, expedite_bytes: 2000, expedite_age_ns: 2000 };
        prop_assert!(marks.judge(bytes, age) <= marks.judge(bytes + more, age + older));
    }
}
