//! Torture in small: rcutorture's scheme over real threads, two seconds in all, and the proof that it
//! can fail.
#![cfg(not(loom))]

mod common;

use std::time::Duration;

use common::torture::*;
use common::*;
use rcu::Domain;

fn torture(domain: &'static Domain, wait: fn(&Domain, u64)) -> (u64, u64, u64) {
    let torture = Torture::new(domain);
    let threads = vec![
        torture.tight_reader(),
        torture.sleepy_reader(),
        torture.passing_reader(),
        torture.interrupted_reader(),
        torture.meddler(),
    ];
    torture.update(Duration::from_millis(900), wait);
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
        torture.update(Duration::from_millis(500), |domain, _| wait_somehow(domain, 2));
        let (reads, updates, errors) = torture.finish(threads);
        assert_eq!(errors, 0, "of {reads} reads and {updates} updates");
    }
}

/// A race on purpose: under the sanitizer only `scripts/tsan` asks for it, and wants it reported.
#[test]
fn an_updater_that_does_not_wait_is_found_out() {
    if cfg!(rcu_tsan) && std::env::var_os("RCU_RACE").is_none() {
        return;
    }
    let (_, _, errors) = torture(fast_domain(), ignore_the_cookie);
    assert!(errors > 0);
}
