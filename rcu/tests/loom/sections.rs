//! Sections against writers: what a section may find is not reused before it ends.

use super::*;

with_membarrier_and_fenced! {
    announce_and_advance up to ANY, "announce/advance"
        => announce_and_advance_with_membarrier, announce_and_advance_fenced;
    expedite_and_read_lock up to 2, "expedite/read_lock"
        => expedite_and_read_lock_with_membarrier, expedite_and_read_lock_fenced;
    one_section_beside_one_pass up to 2, "expedite/one section"
        => one_section_beside_one_pass_with_membarrier, one_section_beside_one_pass_fenced;
    one_section_beside_two_passes up to 2, "expedite twice/one section"
        => one_section_beside_two_passes_with_membarrier, one_section_beside_two_passes_fenced;
    one_section_beside_a_second_period up to 2, "expedite, expedite/one section"
        => one_section_beside_a_second_period_with_membarrier, one_section_beside_a_second_period_fenced;
    stamp_and_expedite up to 2, "stamp/expedite/one section"
        => stamp_and_expedite_with_membarrier, stamp_and_expedite_fenced;
    register_and_scan up to ANY, "register/scan"
        => register_and_scan_with_membarrier, register_and_scan_fenced;
    unregister_and_scan up to 2, "unregister/scan"
        => unregister_and_scan_with_membarrier, unregister_and_scan_fenced;
    offline_and_complete up to ANY, "offline/complete"
        => offline_and_complete_with_membarrier, offline_and_complete_fenced;
    section_opened_while_offline up to ANY, "offline section/complete"
        => section_opened_while_offline_with_membarrier, section_opened_while_offline_fenced;
}

fn announce_and_advance(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    race(domain, block, &[Demand::Start], move || {
        visit(&reader, block);
        reader.quiescent_state();
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn expedite_and_read_lock(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    // The second pass works from the first one's snapshot.
    race(domain, block, &[Demand::Expedite, Demand::Expedite], move || {
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn one_section_beside_one_pass(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn one_section_beside_two_passes(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    race(domain, block, &[Demand::Expedite; 2], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// The barrier of an earlier period proves nothing. (The reader has not rested since: no leave is offered,
/// and the barrier behind that does not stand in.)
fn one_section_beside_a_second_period(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    assert!(domain.advance(Demand::Expedite));
    drop(reader.read_lock());
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// The writer only stamps; the period is another's, whose own fence is the one between its begin and the look
/// at a section that was opened before the stamp.
fn stamp_and_expedite(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    let expediting = thread::spawn(move || domain.advance(Demand::Expedite));
    let writing = thread::spawn(move || {
        block.unlink();
        let cookie = domain.snapshot();
        expediting.join().unwrap();
        reuse_if_elapsed(domain, block, cookie);
    });
    visit(&reader, block);
    std::mem::forget(reader);
    writing.join().unwrap();
}

fn register_and_scan(domain: &'static Domain) {
    let block = Block::new();
    race(domain, block, &[Demand::Start], move || {
        let reader = implicit(domain);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn unregister_and_scan(domain: &'static Domain) {
    let (block, reader) = (Block::new(), implicit(domain));
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        reader.exit();
        // The cell's next owner.
        let reader = implicit(domain);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn offline_and_complete(domain: &'static Domain) {
    let (block, mut reader) = (Block::new(), explicit(domain));
    race(domain, block, &[Demand::Start], move || {
        visit(&reader, block);
        reader.offline();
        reader.online();
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn section_opened_while_offline(domain: &'static Domain) {
    let (block, mut reader) = (Block::new(), explicit(domain));
    reader.offline();
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

#[test]
fn stamp_and_announce() {
    // The writer only stamps; another thread starts the period, and the reader's announcement ends it.
    explore("stamp/announce", || {
        let (domain, block) = (domain(), Block::new());
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            reader.quiescent_state();
            visit(&reader, block);
            std::mem::forget(reader);
        });
        let starting = thread::spawn(move || {
            domain.advance(Demand::Start);
        });
        block.unlink();
        let cookie = domain.snapshot();
        reuse_if_elapsed(domain, block, cookie);
        reading.join().unwrap();
        starting.join().unwrap();
    });
}

#[test]
fn announcement_seen_by_a_third_thread() {
    // The reader announces, another thread ends the period, the writer only polls: the end of the
    // reader's section must reach the writer through both.
    explore("announce/complete/poll", || {
        let (domain, block) = (fenced_domain(), Block::new());
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            visit(&reader, block);
            reader.quiescent_state();
            std::mem::forget(reader);
        });
        block.unlink();
        let cookie = domain.snapshot();
        let completing = thread::spawn(move || {
            domain.advance(Demand::Start);
        });
        reuse_if_elapsed(domain, block, cookie);
        reading.join().unwrap();
        completing.join().unwrap();
    });
}

#[test]
fn a_section_that_began_in_the_period_in_flight() {
    // One reader has announced the period and reads; the other ends it.
    explore("section/period in flight ends", || {
        let (domain, block) = (domain(), Block::new());
        let (reader, last) = (explicit(domain), explicit(domain));
        let first = domain.start_poll();
        reader.quiescent_state();
        let reading = thread::spawn(move || {
            visit(&reader, block);
            std::mem::forget(reader);
        });
        block.unlink();
        let cookie = domain.snapshot();
        last.quiescent_state();
        assert!(domain.poll(first), "both have announced");
        reuse_if_elapsed(domain, block, cookie);
        std::mem::forget(last);
        reading.join().unwrap();
    });
}

#[test]
fn two_advancers() {
    explore_up_to(2, "two advancers", || {
        let (domain, one, two) = (domain(), Block::new(), Block::new());
        let reader = explicit(domain);
        let write = move |block: &'static Block| {
            block.unlink();
            let cookie = domain.start_poll();
            domain.advance(Demand::Expedite);
            reuse_if_elapsed(domain, block, cookie);
        };
        let other = thread::spawn(move || write(one));
        let reading = thread::spawn(move || {
            let section = reader.read_lock();
            one.visit();
            two.visit();
            drop(section);
            std::mem::forget(reader);
        });
        write(two);
        other.join().unwrap();
        reading.join().unwrap();
    });
}

/// The reader finds the block, takes the steps of an inner section, at which it may execute a barrier, and
/// reads it then: what it reads behind a barrier is ordered by the end of its section alone. It runs first,
/// and both give way where the other is to go on: that takes no preemption.
fn a_barrier_within_a_section(passes: usize, sections_before: usize) {
    let (domain, block) = (domain(), Block::new());
    let reader = explicit(domain);
    (0..sections_before).for_each(|_| drop(reader.read_lock()));
    let writing = thread::spawn(move || {
        block.unlink();
        let cookie = domain.start_poll();
        for _ in 0..passes {
            domain.advance(Demand::Expedite);
            loom::thread::yield_now();
        }
        reuse_if_elapsed(domain, block, cookie);
    });
    let section = reader.read_lock();
    let is_found = block.is_found();
    loom::thread::yield_now();
    drop(reader.read_lock());
    loom::thread::yield_now();
    if is_found {
        block.read();
    }
    drop(section);
    loom::thread::yield_now(); // before the fence of who waits
    std::mem::forget(reader);
    writing.join().unwrap();
}

#[test]
fn an_inner_section_does_not_count() {
    explore_up_to(2, "inner section/snapshot", || a_barrier_within_a_section(2, 0));
}

#[test]
fn a_section_with_a_barrier_in_it_ends_before_reuse() {
    // Its end announces nothing: that is what the section before is for.
    explore_up_to(2, "inner section/one pass", || a_barrier_within_a_section(1, 1));
}
