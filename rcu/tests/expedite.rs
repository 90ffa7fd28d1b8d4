//! Expediting: one membarrier a period, whoever is in a section is remembered, nobody else waited for.
#![cfg(not(loom))]

mod common;

use common::*;
use quiescent::{Demand, Reader};

in_both_modes! {
    fn an_idle_explicit_reader_is_announced_for(domain) {
        let _idle = explicit_reader(domain);
        let cookie = domain.snapshot();
        assert!(domain.advance(Demand::Expedite));
        assert!(domain.poll(cookie));
        assert_eq!(domain.counters().expedited, 1);
    }

    fn a_section_holds_an_expedited_period_up(domain) {
        let reader = explicit_reader(domain);
        let section = reader.read_lock();
        assert!(held_up(domain));
        drop(section);
        assert!(domain.advance(Demand::Expedite));
    }

    fn one_section_among_many_readers_is_enough(domain) {
        let readers: Vec<Reader> = (0..20).map(|_| explicit_reader(domain)).collect();
        for reader in &readers {
            let section = reader.read_lock();
            assert!(held_up(domain));
            drop(section);
        }
    }

    fn a_section_in_a_later_pass_is_not_the_remembered_one(domain) {
        let reader = explicit_reader(domain);
        let cookie = domain.start_poll();
        let first = reader.read_lock();
        assert!(!domain.advance(Demand::Expedite)); // remembers the first section
        drop(first);
        let _second = reader.read_lock();
        assert!(domain.advance(Demand::Expedite), "the second began after the period");
        assert!(domain.poll(cookie));
    }

    fn inner_unlocks_do_not_end_the_remembered_section(domain) {
        let reader = explicit_reader(domain);
        let _outer = reader.read_lock();
        for _ in 0..5 {
            domain.advance(Demand::Expedite);
            drop(reader.read_lock());
        }
        assert_eq!(domain.counters().completed, 0);
    }

    fn the_remembered_count_does_not_outlive_its_period(domain) {
        let reader = explicit_reader(domain);
        for _ in 0..5 {
            let section = reader.read_lock();
            domain.advance(Demand::Expedite);
            drop(section);
            domain.advance(Demand::Expedite);
            let _section = reader.read_lock();
            assert!(held_up(domain));
        }
    }

    fn a_reader_that_never_pauses_does_not_hold_an_expedite_up(domain) {
        let reader = explicit_reader(domain);
        let mut section = Some(reader.read_lock());
        for _ in 0..50 {
            // At every pass it is in a section; never in the same twice.
            domain.advance(Demand::Expedite);
            drop(section.take());
            section = Some(reader.read_lock());
        }
        assert!(domain.counters().completed >= 20);
    }

    fn an_exit_and_a_new_owner_do_not_inherit_the_remembered_section(domain) {
        let reader = explicit_reader(domain);
        let cell = reader.cell();
        let section = reader.read_lock();
        domain.advance(Demand::Expedite);
        drop(section);
        reader.exit();
        let heir = register(domain, 0);
        assert!(std::ptr::eq(heir.cell(), cell), "the lowest free cell");
        let _section = heir.read_lock();
        assert!(held_up(domain));
    }
}

#[test]
fn one_membarrier_a_period_however_many_passes() {
    let domain = fast_domain();
    if domain.is_fenced() {
        return;
    }
    let readers: Vec<Reader> = (0..5).map(|_| explicit_reader(domain)).collect();
    let section = readers[2].read_lock();
    for _ in 0..100 {
        assert!(!domain.advance(Demand::Expedite));
    }
    drop(section);
    assert!(domain.advance(Demand::Expedite));
    let counters = domain.counters();
    assert_eq!((counters.membarriers, counters.completed), (1, 1));
}

#[test]
fn no_membarrier_where_everybody_has_announced() {
    let domain = fast_domain();
    let (one, mut other, _silent) = (explicit_reader(domain), explicit_reader(domain), reader(domain));
    domain.advance(Demand::Start);
    one.quiescent_state();
    other.offline();
    assert!(domain.advance(Demand::Expedite), "an implicit reader is parked without it");
    assert_eq!(domain.counters().membarriers, 0);
}

#[test]
fn a_fenced_domain_never_calls_membarrier() {
    let domain = fenced_domain();
    let reader = explicit_reader(domain);
    let section = reader.read_lock();
    expedite(domain);
    drop(section);
    expedite(domain);
    assert!(domain.counters().completed > 0);
    assert_eq!(domain.counters().membarriers, 0);
}
