//! Passive completion: whoever announces last, goes offline or exits ends the period.
#![cfg(not(loom))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use common::*;
use proptest::prelude::*;
use quiescent::{Demand, Reader};

in_both_modes! {
    fn the_last_announcement_ends_the_period(domain) {
        let readers: Vec<Reader> = (0..3).map(|_| explicit_reader(domain)).collect();
        let cookie = domain.start_poll();
        for reader in &readers {
            assert!(!domain.poll(cookie));
            reader.quiescent_state();
        }
        assert!(domain.poll(cookie));
    }

    fn announcing_twice_counts_once(domain) {
        let (chatty, _silent) = (reader(domain), reader(domain));
        let cookie = domain.start_poll();
        chatty.quiescent_state();
        chatty.quiescent_state();
        assert!(!domain.poll(cookie));
    }

    fn an_announcement_inside_a_section_is_none(domain) {
        let reader = reader(domain);
        let section = reader.read_lock();
        let cookie = domain.start_poll();
        reader.quiescent_state();
        assert!(!domain.poll(cookie));
        drop(section);
        reader.quiescent_state();
        assert!(domain.poll(cookie));
    }

    fn an_announcement_before_the_period_does_not_count(domain) {
        let reader = reader(domain);
        reader.quiescent_state();
        let cookie = domain.start_poll();
        assert!(!domain.poll(cookie));
    }

    fn going_offline_ends_the_period(domain) {
        let mut reader = reader(domain);
        let cookie = domain.start_poll();
        reader.offline();
        assert!(domain.poll(cookie));
    }

    fn exit_ends_the_period(domain) {
        let reader = reader(domain);
        let cookie = domain.start_poll();
        reader.exit();
        assert!(domain.poll(cookie));
    }

    fn the_end_of_a_section_is_not_an_announcement_but_the_1024th_is(domain) {
        let reader = explicit_reader(domain);
        let cookie = domain.start_poll();
        for _ in 1..1023 {
            drop(reader.read_lock());
        }
        assert!(!domain.poll(cookie));
        drop(reader.read_lock());
        assert!(domain.poll(cookie));
    }

    fn a_reader_that_never_pauses_holds_no_period_up(domain) {
        let reader = explicit_reader(domain);
        for _ in 0..10 {
            let cookie = domain.start_poll();
            let sections = (0..3000)
                .take_while(|_| {
                    drop(reader.read_lock());
                    !domain.poll(cookie)
                })
                .count();
            assert!(sections < 3000);
        }
    }

    /// Settled by its first lock, without a scan, it would leave nobody to end the period.
    fn a_first_lock_in_flight_does_not_swallow_the_end(domain) {
        let reader = reader(domain);
        let cookie = domain.start_poll();
        drop(reader.read_lock());
        reader.quiescent_state();
        assert!(domain.poll(cookie));
    }

    fn coming_online_in_flight_does_not_swallow_the_end(domain) {
        let (mut away, mut here) = (explicit_reader(domain), reader(domain));
        away.offline();
        let cookie = domain.start_poll();
        away.online();
        here.offline();
        assert!(domain.poll(cookie));
    }

    fn sections_opened_offline_do_not_upset_the_count(domain) {
        let mut reader = reader(domain);
        reader.offline();
        for _ in 0..2500 {
            drop(reader.read_lock());
        }
        reader.online();
        let cookie = domain.start_poll();
        for _ in 0..1024 {
            drop(reader.read_lock());
        }
        assert!(domain.poll(cookie));
    }

    /// The laggard hint names a reader that is gone, and its cell's next owner.
    fn the_hint_may_be_stale(domain) {
        let (hinted, other) = (reader(domain), reader(domain));
        domain.advance(Demand::Start);
        other.quiescent_state(); // the scan stops at `hinted`
        hinted.exit(); // ends it
        let _heir = reader(domain); // in the same cell, the lowest
        let cookie = domain.start_poll();
        other.quiescent_state();
        assert!(!domain.poll(cookie), "the heir lags");
    }

    /// Two readers that announce at the same moment: one of them ends the period.
    fn no_announcement_is_lost_between_two(domain) {
        const ROUNDS: u32 = 20_000;
        let arrivals = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..2).map(|number| {
            let (mut reader, arrivals) = (explicit_reader(domain), arrivals.clone());
            std::thread::spawn(move || {
                for round in 0..ROUNDS {
                    if number == 0 {
                        domain.advance(Demand::Start);
                    }
                    meet(&arrivals, 4 * round + 2);
                    match (number + round) % 3 {
                        0 => { reader.offline(); reader.online(); }
                        _ => reader.quiescent_state(),
                    }
                    meet(&arrivals, 4 * round + 4);
                    assert!(domain.counters().completed > u64::from(round), "round {round}: nobody ended it");
                    if number == 0 {
                        // Both looked before the next period begins.
                        while arrivals.load(SeqCst) < 4 * round + 4 { std::hint::spin_loop(); }
                    }
                }
            })
        }).collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
    }
}

/// Waits until `target` arrivals have been counted, this one included.
fn meet(arrivals: &AtomicU32, target: u32) {
    arrivals.fetch_add(1, SeqCst);
    let mut spins = 0_u32;
    while arrivals.load(SeqCst) < target {
        spins += 1;
        if spins.is_multiple_of(200) { std::thread::yield_now() } else { std::hint::spin_loop() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    /// In whatever order, with whatever scans in between: the last of `n` ends it, no other does.
    #[test]
    fn any_order_of_announcements(order in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle(),
                                  how in prop::collection::vec(0..3_u8, 9), scan in any::<bool>()) {
        let domain = fast_domain();
        let mut readers: Vec<Option<Reader>> = (0..9).map(|_| Some(reader(domain))).collect();
        let cookie = domain.start_poll();
        for (&who, how) in order.iter().zip(how) {
            prop_assert!(!domain.poll(cookie));
            if scan { domain.advance(Demand::Start); }
            match how {
                0 => readers[who].as_ref().unwrap().quiescent_state(),
                1 => readers[who].as_mut().unwrap().offline(),
                _ => drop(readers[who].take()),
            }
        }
        prop_assert!(domain.poll(cookie));
    }
}
