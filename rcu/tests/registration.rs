//! Readers come and go: registered by their creator, cells reused, thousands of them.
#![cfg(not(loom))]

mod common;

use std::thread;

use common::*;
use quiescent::{Demand, NoRoom, Reader};

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
        for _ in 0..1000 {
            let reader = reader(domain);
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

    fn a_block_holds_as_many_readers_as_it_has_cells(domain) {
        assert_eq!(domain.register(0).err(), Some(NoRoom), "a domain begins without room");
        for cells in [1, 33] {
            let block = block(cells);
            assert!(domain.add_block(block));
            assert!(!domain.add_block(block), "one block in two places");
        }
        let mut readers: Vec<Reader> = (0..34).map(|_| domain.register(0).expect("room for 34")).collect();
        assert_eq!(domain.register(0).err(), Some(NoRoom));
        for holder in [0, 1, 32, 33] {
            let _section = readers[holder].read_lock();
            assert!(held_up(domain));
        }
        let freed = readers.remove(7);
        let cell = freed.cell();
        drop(freed);
        readers.pop();
        assert!(std::ptr::eq(domain.register(0).expect("two are free").cell(), cell), "the lowest");
    }

    fn a_block_is_one_domains(domain) {
        let block = block(1);
        assert!(domain.add_block(block));
        assert!(!fast_domain().add_block(block));
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
            for _ in 0..500 {
                let reader = reader(domain);
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

#[test]
fn a_reader_far_behind_the_others_is_waited_for() {
    let domain = fast_domain();
    for _ in 0..2 {
        assert!(domain.add_block(block(200)));
    }
    let first = explicit_reader(domain);
    let mut readers: Vec<_> = (0..399).map(|_| reader(domain)).collect();
    let last = readers.pop().expect("399");
    let in_first_block = readers.swap_remove(190);
    drop(readers);
    for far in [&in_first_block, &last] {
        // Who has just read is not parked: a scan has somebody to look at in the first word, who is settled.
        drop(first.read_lock());
        let section = far.read_lock();
        assert!(held_up(domain), "nobody looks at a word that was used long after the first");
        drop(section);
        let cookie = domain.start_poll();
        assert!(expedites_to_end(domain, cookie));
    }
}
