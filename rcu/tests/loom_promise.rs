//! loom: the promise of `start_poll` where another thread is about to make it too.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p rcumalloc-rcu --test loom_promise`

#![cfg(loom)]

use loom::thread;
use rcu::{Domain, ReaderCell};

/// Two threads ask for the period after the one in flight while the reader, announcing, ends that
/// one. The cookie of the one elapses by announcements alone, wherever the other was stopped: its need
/// may be written down and not acted on yet.
#[test]
fn a_promise_does_not_lean_on_one_half_made() {
    loom::model(|| {
        let domain: &'static Domain = Box::leak(Box::new(Domain::new(1)));
        domain.init();
        let cell: &'static ReaderCell = Box::leak(Box::new(ReaderCell::new()));
        // SAFETY: a new cell.
        let reader = unsafe { domain.register(cell, 0) }.unwrap();
        let first = domain.start_poll(); // in flight: the reader has not announced
        let asker = thread::spawn(move || {
            let announcer = thread::spawn(move || {
                reader.quiescent_state(); // ends the first period, and may begin the second
                reader
            });
            let cookie = domain.start_poll();
            let reader = announcer.join().unwrap();
            reader.quiescent_state();
            // Only the very next period: one later may wait for the other thread to end the one before it.
            if cookie.to_bits() == first.to_bits() + 2 {
                assert!(domain.poll(cookie), "a promise was not kept");
            }
            (reader, cookie)
        });
        let other = domain.start_poll(); // may be stopped anywhere
        let (reader, cookie) = asker.join().unwrap();
        reader.quiescent_state();
        reader.quiescent_state();
        assert!(domain.poll(cookie) && domain.poll(other), "a promise was forgotten");
    });
}
