//! The `synchronize` family: returns neither too early nor never.
#![cfg(not(loom))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use quiescent::{Cookie, Demand, Domain, PATIENCE_NS, Reader};

type Wait = fn(&Domain, Option<&mut Reader>);

const WAITS: [Wait; 4] = [
    Domain::synchronize,
    Domain::synchronize_expedited,
    |domain, me| domain.cond_synchronize(domain.start_poll(), me),
    |domain, me| domain.cond_synchronize_expedited(domain.start_poll(), me),
];

/// A thread with a reader that does `work` and then sleeps, online, until it is told to end.
fn sleeper(domain: &'static Domain, work: fn(&Reader)) -> impl FnOnce() {
    let (reader, stop) = (reader(domain), Arc::new(AtomicU32::new(0)));
    let told = stop.clone();
    let thread = thread::spawn(move || {
        work(&reader);
        told.store(1, SeqCst);
        while told.load(SeqCst) == 1 {
            thread::park_timeout(Duration::from_millis(50));
        }
    });
    while stop.load(SeqCst) == 0 {
        thread::yield_now();
    }
    move || {
        stop.store(2, SeqCst);
        thread.thread().unpark();
        thread.join().expect("no panic");
    }
}

in_both_modes! {
    fn sleeping_threads_do_not_hold_a_wait_up(domain) {
        let wake_implicit = sleeper(domain, |_| {});
        let wake_explicit = sleeper(domain, |reader| drop(reader.read_lock()));
        let mut me = explicit_reader(domain);
        for wait in WAITS {
            let cookie = domain.snapshot();
            wait(domain, Some(&mut me));
            assert!(domain.poll(cookie));
            assert!(!me.is_offline());
        }
        wake_implicit();
        wake_explicit();
    }

    fn a_wait_outlasts_every_section_that_was_open(domain) {
        for wait in WAITS {
            let ended = Arc::new(AtomicU32::new(0));
            let reader = reader(domain);
            let noted = ended.clone();
            let thread = thread::spawn(move || {
                let section = reader.read_lock();
                noted.store(1, SeqCst);
                thread::sleep(Duration::from_millis(4));
                noted.store(2, SeqCst);
                drop(section);
            });
            while ended.load(SeqCst) == 0 {
                thread::yield_now();
            }
            wait(domain, None);
            assert_eq!(ended.load(SeqCst), 2);
            thread.join().expect("no panic");
        }
    }

    fn the_waiting_thread_is_not_waited_for(domain) {
        let mut me = explicit_reader(domain);
        domain.synchronize(Some(&mut me));
        assert_eq!(domain.counters().expedited, 0, "it went offline instead");
    }

    fn a_wait_while_offline_stays_offline(domain) {
        let mut me = reader(domain);
        me.offline();
        domain.synchronize(Some(&mut me));
        assert!(me.is_offline());
    }

    fn an_elapsed_cookie_returns_at_once_even_in_a_section(domain) {
        let cookie = domain.start_poll();
        let mut me = reader(domain);
        me.lock(); // by hand: no guard may live
        domain.cond_synchronize(cookie, Some(&mut me));
        domain.cond_synchronize_expedited(cookie, Some(&mut me));
        unlock(&me);
    }

    fn a_patient_wait_asks_only_after_its_patience(domain) {
        let _sleeping = explicit_reader(domain); // of a thread that never comes by
        let began = Instant::now();
        domain.synchronize(None);
        assert!(began.elapsed() >= Duration::from_nanos(PATIENCE_NS));
        assert_eq!(domain.counters().expedited, 1);
    }

    fn two_waiters_at_once_both_return(domain) {
        let _sleeping = explicit_reader(domain);
        let threads: Vec<_> = (0..3).map(|number| thread::spawn(move || {
            let mut me = explicit_reader(domain);
            for round in 0..100 {
                WAITS[(number + round) % 2 + 1](domain, Some(&mut me));
            }
        })).collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
    }

    fn a_strange_cookie_is_reported_and_waits_for_a_whole_period(domain) {
        record_misuse(domain);
        domain.advance(Demand::Start);
        let before = domain.counters().completed;
        domain.cond_synchronize(Cookie::from_bits(domain.snapshot().to_bits() + 1000), None);
        assert_eq!(take_misuse().len(), 1);
        assert!(domain.counters().completed > before);
    }
}
