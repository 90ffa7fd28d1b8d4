//! The summary, scans that go on where another stopped, and demands that are taken over.

use super::*;

#[test]
fn going_away_and_coming_back_while_another_announces() {
    explore("offline and online/announce", || {
        let domain = domain();
        let (mut one, two) = (implicit(domain), implicit(domain));
        let cookie = domain.start_poll();
        let thread = thread::spawn(move || {
            one.offline();
            one.online();
            std::mem::forget(one);
        });
        two.quiescent_state();
        std::mem::forget(two);
        thread.join().unwrap();
        assert!(domain.poll(cookie), "one was away, the other announced, the period is still in flight");
    });
}

#[test]
fn coming_back_while_another_announces() {
    explore("online/announce", || {
        let domain = domain();
        let (last, mut back) = (implicit(domain), implicit(domain));
        let cookie = domain.start_poll();
        back.offline();
        let thread = thread::spawn(move || {
            back.online();
            std::mem::forget(back);
        });
        last.quiescent_state();
        std::mem::forget(last);
        thread.join().unwrap();
        assert!(domain.poll(cookie), "one was away, the other announced, the period is still in flight");
    });
}

#[test]
fn a_scan_goes_on_behind_a_newcomer() {
    // The newcomer takes the lowest cell, which the scan has passed already.
    explore_up_to(2, "register/resumed scan", || {
        let (domain, block) = (domain(), Block::new());
        domain.add_block(block_of(1));
        let (gone, one, two, three) =
            (implicit(domain), implicit(domain), implicit(domain), implicit(domain));
        gone.exit();
        block.unlink();
        let cookie = domain.start_poll(); // stops at `one`
        let reading = thread::spawn(move || {
            let reader = implicit(domain);
            visit(&reader, block);
            std::mem::forget(reader);
        });
        for reader in [one, two, three] {
            reader.quiescent_state();
            std::mem::forget(reader);
        }
        assert!(domain.poll(cookie) || reading_in_the_way(domain));
        reuse_if_elapsed(domain, block, cookie);
        reading.join().unwrap();
    });
}

/// The newcomer may be waited for, if it read the sequence before the period began.
fn reading_in_the_way(domain: &Domain) -> bool {
    domain.stalled(u64::MAX, 0).next().is_some()
}

#[test]
fn a_scan_does_not_go_on_where_one_of_an_older_period_stopped() {
    explore_up_to(2, "old resume point", || {
        let (domain, block) = (domain(), Block::new());
        let (low, high) = (explicit(domain), explicit(domain));
        let first = domain.start_poll();
        low.quiescent_state(); // the scan stops at `high`
        high.quiescent_state();
        assert!(domain.poll(first));
        let reading = thread::spawn(move || {
            visit(&low, block);
            std::mem::forget(low);
        });
        block.unlink();
        let cookie = domain.start_poll();
        high.quiescent_state();
        reuse_if_elapsed(domain, block, cookie);
        std::mem::forget(high);
        reading.join().unwrap();
    });
}

#[test]
fn three_announcers_resume_each_other() {
    explore_up_to(2, "announce/announce/announce", || {
        let domain = domain();
        let readers = [implicit(domain), implicit(domain), implicit(domain)];
        let cookie = domain.start_poll();
        let [one, two, three] = readers;
        let threads = [two, three].map(|reader| {
            thread::spawn(move || {
                reader.quiescent_state();
                std::mem::forget(reader);
            })
        });
        one.quiescent_state();
        std::mem::forget(one);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(domain.poll(cookie), "all announced, the period is still in flight");
    });
}

#[test]
fn a_younger_demand_is_taken_over() {
    explore_up_to(2, "expedite/younger expedite", || {
        let domain = domain();
        let reader = explicit(domain);
        let thread = thread::spawn(move || domain.advance(Demand::Expedite));
        domain.advance(Demand::Expedite);
        thread.join().unwrap();
        let counters = domain.counters();
        assert_eq!(counters.started, counters.completed, "a period was left to nobody");
        std::mem::forget(reader);
    });
}
