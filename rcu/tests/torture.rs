//! Torture in small: rcutorture's scheme over real threads, two seconds in all, and the proof that it
//! can fail.
#![cfg(not(loom))]

mod common;

use std::thread;
use std::time::Duration;

use common::torture::*;
use common::*;
use quiescent::Domain;

fn torture(domain: &'static Domain, wait: fn(&Domain, u64)) -> (u64, u64, u64) {
    let torture = Torture::new(domain);
    let threads = vec![
        torture.tight_reader(),
        torture.sleepy_reader(),
        torture.passing_reader(),
        torture.interrupted_reader(),
        torture.meddler(),
    ];
    torture.update(Duration::from_millis(900), PIPE, wait);
    torture.finish(threads)
}

in_both_modes! {
    fn no_reader_lives_through_a_grace_period(domain) {
        let (reads, updates, errors) = torture(domain, wait_somehow);
        assert_eq!(errors, 0, "of {reads} reads and {updates} updates");
        assert!(reads > 1000 && updates > 20, "{reads} reads, {updates} updates");
    }

    /// One reader that does nothing but read against an updater that does nothing but expedite.
    fn a_duel(domain) {
        let torture = Torture::new(domain);
        let threads = vec![torture.tight_reader()];
        torture.update(Duration::from_millis(400), 1, |domain, _| wait_somehow(domain, 2));
        let (reads, updates, errors) = torture.finish(threads);
        assert_eq!(errors, 0, "of {reads} reads and {updates} updates");
    }

    /// One reader that rests between its sections, and is parked, against an updater that does nothing but
    /// expedite.
    fn a_duel_with_one_that_rests(domain) {
        let torture = Torture::new(domain);
        let threads = vec![torture.resting_reader()];
        torture.update(Duration::from_millis(400), 1, |domain, _| wait_somehow(domain, 2));
        let (reads, updates, errors) = torture.finish(threads);
        assert_eq!(errors, 0, "of {reads} reads and {updates} updates");
        assert!(domain.counters().parked > 0, "it never rested");
    }

    /// Periods end by the readers' announcements alone, and the updater only polls.
    fn the_last_announcer_hands_over_to_whoever_polls(domain) {
        let torture = Torture::new(domain);
        let threads = vec![torture.announcing_reader(), torture.announcing_reader()];
        torture.update(Duration::from_millis(400), 1, |domain, _| {
            let cookie = domain.start_poll();
            while !domain.poll(cookie) {
                thread::yield_now();
            }
        });
        let (reads, updates, errors) = torture.finish(threads);
        assert_eq!(errors, 0, "of {reads} reads and {updates} updates");
        assert_eq!(domain.counters().expedited, 0);
    }

    /// A third party expedites, and the updater only polls.
    fn an_expediter_hands_over_to_whoever_polls(domain) {
        let torture = Torture::new(domain);
        let threads = vec![torture.tight_reader(), torture.expediter()];
        torture.update(Duration::from_millis(400), 1, |domain, _| {
            let cookie = domain.snapshot();
            while !domain.poll(cookie) {
                thread::yield_now();
            }
        });
        let (reads, updates, errors) = torture.finish(threads);
        assert_eq!(errors, 0, "of {reads} reads and {updates} updates");
    }
}

/// A race on purpose: under the sanitizer only `cargo xtask tsan` asks for it, and wants it reported.
#[test]
fn an_updater_that_does_not_wait_is_found_out() {
    if cfg!(rcu_tsan) && std::env::var_os("RCU_RACE").is_none() {
        return;
    }
    let (_, _, errors) = torture(fast_domain(), ignore_the_cookie);
    assert!(errors > 0);
}
