//! Whoever announces last ends the period, and no promise is lost; announcements that come late.

use super::*;

#[test]
fn the_last_of_two_announcers_ends_the_period() {
    explore("announce/announce", || {
        let domain = domain();
        let (one, two) = (implicit(domain), implicit(domain));
        let cookie = domain.start_poll();
        let thread = thread::spawn(move || {
            one.quiescent_state();
            std::mem::forget(one);
        });
        two.quiescent_state();
        std::mem::forget(two);
        thread.join().unwrap();
        assert!(domain.poll(cookie), "both readers announced, the period is still in flight");
    });
}

#[test]
fn a_period_started_while_the_last_reader_goes_offline_ends() {
    explore("start/offline", || {
        let domain = domain();
        let mut reader = implicit(domain);
        let thread = thread::spawn(move || {
            reader.offline();
            std::mem::forget(reader);
        });
        let cookie = domain.start_poll();
        thread.join().unwrap();
        assert!(domain.poll(cookie), "no reader is online, the period is still in flight");
    });
}

#[test]
fn a_period_started_while_the_last_reader_exits_ends() {
    explore("start/exit", || {
        let domain = domain();
        let reader = implicit(domain);
        let thread = thread::spawn(move || reader.exit());
        let cookie = domain.start_poll();
        thread.join().unwrap();
        assert!(domain.poll(cookie), "no reader is left, the period is still in flight");
    });
}

#[test]
fn a_period_begun_while_another_is_being_expedited_ends() {
    // The expediter may still be busy with a period that somebody else has ended meanwhile. Whoever
    // begins the next one then finds the expediter's lock taken.
    explore("expedite/expedite", || {
        let domain = domain();
        let cookie = domain.start_poll(); // no reader: ends at once
        assert!(domain.poll(cookie));
        let thread = thread::spawn(move || domain.advance(Demand::Expedite));
        domain.advance(Demand::Start);
        domain.advance(Demand::Expedite);
        thread.join().unwrap();
        let counters = domain.counters();
        assert_eq!(counters.started, counters.completed, "no reader exists, a period is still in flight");
    });
}

#[test]
fn a_need_that_arrives_while_a_period_ends_is_not_lost() {
    explore("start_poll/complete", || {
        let domain = domain();
        let mut reader = implicit(domain);
        let first = domain.start_poll(); // in flight, waiting for the reader
        let thread = thread::spawn(move || {
            reader.offline();
            std::mem::forget(reader);
        });
        let second = domain.start_poll(); // may need the period after it
        thread.join().unwrap();
        assert!(domain.poll(first));
        assert!(domain.poll(second), "a promised period never started");
    });
}

#[test]
fn two_starters_promise_one_period() {
    explore("start_poll/start_poll", || {
        let domain = domain();
        let thread = thread::spawn(move || domain.start_poll());
        let mine = domain.start_poll();
        let other = thread.join().unwrap();
        assert!(domain.poll(mine) && domain.poll(other));
    });
}

#[test]
fn a_promise_does_not_lean_on_one_half_made() {
    // Two threads ask for the period after the one in flight while the reader ends that one. What the
    // other thread needs may be written down and not acted on yet.
    explore("start_poll/start_poll/complete", || {
        let domain = domain();
        let reader = implicit(domain);
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
        std::mem::forget(reader);
    });
}

#[test]
fn an_announcement_that_was_overtaken_takes_nothing_back() {
    // A handler comes in when the reader has seen one period and not announced it, ends that one, reads, and
    // has the next one announced for the reader.
    explore("late announcement/announced for", || {
        let domain = domain();
        let (late, own) = (explicit(domain), explicit(domain));
        let first = domain.start_poll();
        own.quiescent_state();
        let cell = late.cell();
        thread::interrupt(Point::Announcing, move || {
            assert!(domain.advance(Demand::Expedite) && domain.poll(first));
            // SAFETY: a handler of the thread that owns the cell.
            drop(unsafe { Reader::borrow_cell(cell) }.read_lock());
            own.lock(); // keeps the period in flight
            std::mem::forget(own);
            let _ = domain.start_poll();
            domain.advance(Demand::Expedite);
            assert!(is_settled(domain, 0));
        });
        late.quiescent_state();
        assert!(is_settled(domain, 0), "an announcement took a younger one back");
        std::mem::forget(late);
    });
}

/// Whether nobody waits for the reader of this number.
fn is_settled(domain: &Domain, id: u32) -> bool {
    domain.stalled(u64::MAX, 0).all(|stall| stall.id != id)
}

#[test]
fn an_announcement_that_comes_late_holds_up_no_younger_period() {
    // While the reader is at it, an expediter ends the period, begins the next, and parks the reader. The
    // expediter's own section keeps that one in flight.
    explore_up_to(2, "late announcement/parked", || {
        let domain = domain();
        let (late, own) = (explicit(domain), explicit(domain));
        let first = domain.start_poll();
        own.quiescent_state();
        let announcing = thread::spawn(move || {
            late.quiescent_state();
            std::mem::forget(late);
        });
        domain.advance(Demand::Expedite);
        let section = own.read_lock();
        let second = domain.start_poll();
        domain.advance(Demand::Expedite);
        let was_settled = domain.poll(first) && is_settled(domain, 0);
        announcing.join().unwrap();
        assert!(!was_settled || is_settled(domain, 0), "who was settled holds the period up");
        drop(section);
        own.quiescent_state();
        assert!(!was_settled || domain.poll(second), "both are settled, the period is still in flight");
        std::mem::forget(own);
    });
}
