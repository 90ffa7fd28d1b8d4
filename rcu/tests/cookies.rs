//! Cookies: what they wait for, and how periods chain.
#![cfg(not(loom))]

mod common;

use common::*;
use quiescent::{Cookie, Demand, Domain};

#[test]
fn without_readers_a_period_ends_at_once() {
    let domain = fast_domain();
    assert!(domain.poll(domain.start_poll()));
}

in_both_modes! {
    /// Both are promises to whoever polls them: one of the past, one that nobody else need keep.
    fn a_completed_cookie_is_true_at_once_and_an_expedited_one_asks_by_itself(domain) {
        let reader = explicit_reader(domain);
        assert!(domain.poll(domain.get_completed()));
        let section = reader.read_lock();
        let held = domain.start_poll_expedited();
        assert!(!domain.poll(held), "a section is open");
        assert!(domain.poll(domain.get_completed()), "a period in flight changes nothing");
        drop(section);
        let (mut asked, mut cookie) = (0, domain.start_poll_expedited());
        while !domain.poll(cookie) && asked < 4 {
            (asked, cookie) = (asked + 1, domain.start_poll_expedited());
        }
        assert!(domain.poll(held), "asking again ends it, with the reader idle");
    }

    fn a_snapshot_alone_starts_nothing(domain) {
        let reader = reader(domain);
        let cookie = domain.snapshot();
        reader.quiescent_state();
        assert!(!domain.poll(cookie));
        assert_eq!(domain.counters().started, 0);
    }

    fn a_snapshot_elapses_with_a_period_that_somebody_else_starts(domain) {
        let reader = reader(domain);
        let cookie = domain.snapshot();
        let _ = domain.start_poll();
        assert!(!domain.poll(cookie));
        reader.quiescent_state();
        assert!(domain.poll(cookie));
    }

    fn a_cookie_taken_in_flight_does_not_count_that_period(domain) {
        let reader = reader(domain);
        domain.advance(Demand::Start);
        let cookie = domain.snapshot();
        reader.quiescent_state();
        assert_eq!(domain.counters().completed, 1);
        assert!(!domain.poll(cookie));
    }

    fn start_poll_in_flight_chains_the_next_period(domain) {
        let reader = reader(domain);
        domain.advance(Demand::Start);
        let cookie = domain.start_poll();
        reader.quiescent_state();
        assert_eq!(domain.counters().started, 2, "the second began when the first ended");
        reader.quiescent_state();
        assert!(domain.poll(cookie));
    }

    fn any_number_of_start_polls_share_two_periods(domain) {
        let reader = reader(domain);
        let cookies: Vec<Cookie> = (0..100).map(|_| domain.start_poll()).collect();
        reader.quiescent_state();
        reader.quiescent_state();
        assert!(cookies.iter().all(|&cookie| domain.poll(cookie)));
        assert_eq!(domain.counters().started, 2);
    }

    fn an_elapsed_cookie_stays_elapsed(domain) {
        let cookie = domain.start_poll();
        let _lagging = reader(domain);
        domain.advance(Demand::Start);
        assert!(domain.poll(cookie));
    }

    fn a_section_holds_up_the_cookie_taken_inside_it(domain) {
        let reader = reader(domain);
        let section = reader.read_lock();
        let cookie = domain.start_poll();
        expedite(domain);
        assert!(!domain.poll(cookie));
        drop(section);
        assert!(expedites_to_end(domain, cookie));
    }

    fn a_section_does_not_hold_up_a_cookie_that_elapsed_before(domain) {
        let reader = reader(domain);
        let cookie = domain.start_poll();
        reader.quiescent_state();
        let _section = reader.read_lock();
        assert!(domain.poll(cookie));
    }
}

#[test]
fn a_cookie_survives_a_trip_through_a_number_and_a_thread() {
    let domain = fast_domain();
    let reader = reader(domain);
    let bits = domain.start_poll().to_bits();
    let poll = move |domain: &'static Domain| {
        std::thread::spawn(move || domain.poll(Cookie::from_bits(bits))).join().expect("no panic")
    };
    assert!(!poll(domain));
    reader.quiescent_state();
    assert!(poll(domain));
}
