//! Readers come and go: registered by their creator, cells reused, thousands of them.
#![cfg(not(loom))]

mod common;

use std::thread;

use common::*;
use rcu::{AlreadyRegistered, Demand, Reader, ReaderCell};

in_both_modes! {
    fn a_reader_counts_from_its_registration_not_from_its_first_step(domain) {
        let reader = reader(domain); // for a thread that does not run yet
        let cookie = domain.start_poll();
        assert!(!domain.poll(cookie));
        thread::spawn(move || reader.quiescent_state()).join().expect("no panic");
        assert!(domain.poll(cookie));
    }

    fn a_reader_registered_in_flight_is_not_waited_for(domain) {
        let first = reader(domain);
        let cookie = domain.start_poll();
        let late = reader(domain);
        let _section = late.read_lock();
        first.quiescent_state();
        assert!(domain.poll(cookie));
        assert!(held_up(domain), "but by the next one it is");
    }

    fn a_cell_serves_one_reader_after_the_other(domain) {
        let cell = leak(ReaderCell::new());
        for _ in 0..1000 {
            let reader = register(domain, cell);
            assert!(!reader.is_explicit() && !reader.is_offline() && !reader.is_parked());
            assert_eq!(reader.nesting(), 0);
            let section = reader.read_lock();
            let cookie = domain.start_poll();
            assert!(!domain.poll(cookie));
            drop(section);
            reader.exit();
            assert!(domain.poll(cookie));
        }
    }

    fn a_cell_with_a_reader_is_refused(domain) {
        record_misuse(domain);
        let reader = reader(domain);
        // SAFETY: the cell is this domain's.
        assert_eq!(unsafe { domain.register(reader.cell(), 0) }.err(), Some(AlreadyRegistered));
        assert_eq!(take_misuse().len(), 1);
        let _section = reader.read_lock();
        assert!(held_up(domain), "the owner did not notice");
    }

    fn readers_without_an_owner_are_never_waited_for(domain) {
        let crowd: Vec<Reader> = (0..100).map(|_| explicit_reader(domain)).collect();
        drop(crowd);
        assert!(domain.poll(domain.start_poll()));
    }

    fn four_thousand_readers_each_count(domain) {
        let readers: Vec<Reader> = (0..4096).map(|_| explicit_reader(domain)).collect();
        let cookie = domain.start_poll();
        for reader in &readers[1..] {
            reader.quiescent_state();
        }
        assert!(!domain.poll(cookie));
        readers[0].quiescent_state();
        assert!(domain.poll(cookie));
        for holder in [0, 2048, 4095] {
            let _section = readers[holder].read_lock();
            assert!(held_up(domain));
        }
    }

    fn threads_register_and_exit_at_the_same_time(domain) {
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(move || {
            let cells: Vec<&'static ReaderCell> = (0..4).map(|_| leak(ReaderCell::new())).collect();
            for round in 0..500 {
                let reader = register(domain, cells[round % 4]);
                let section = reader.read_lock();
                let cookie = domain.start_poll();
                domain.advance(Demand::Expedite);
                assert!(!domain.poll(cookie));
                drop(section);
            }
        })).collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        let cookie = domain.start_poll();
        assert!(expedites_to_end(domain, cookie));
    }
}

#[test]
fn two_domains_do_not_wait_for_each_other() {
    let (one, other) = (fast_domain(), fast_domain());
    let reader = reader(one);
    let _section = reader.read_lock();
    assert!(other.poll(other.start_poll()));
    assert!(held_up(one));
}
