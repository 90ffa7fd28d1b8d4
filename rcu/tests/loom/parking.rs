//! Readers that are parked, and those that have rested and are offered leave.

use super::*;

with_membarrier_and_fenced! {
    park_and_first_read_lock up to ANY, "park/read_lock"
        => park_and_first_read_lock_with_membarrier, park_and_first_read_lock_fenced;
    a_sleeper_beside_a_section up to ANY, "park/section beside it"
        => an_explicit_neighbour_is_not_parked_with_membarrier, an_explicit_neighbour_is_not_parked_fenced;
    park_and_announce up to ANY, "park/announce"
        => park_and_announce_with_membarrier, park_and_announce_fenced;
    a_rested_reader_locks up to 2, "offer/read_lock"
        => a_rested_reader_locks_with_membarrier, a_rested_reader_locks_fenced;
    a_rested_reader_comes_and_goes up to 2, "offer/offline and online"
        => a_rested_reader_comes_and_goes_with_membarrier, a_rested_reader_comes_and_goes_fenced;
    a_handler_of_a_rested_reader up to 2, "offer/handler in read_lock"
        => a_handler_of_a_rested_reader_with_membarrier, a_handler_of_a_rested_reader_fenced;
    a_handler_of_a_parked_reader up to 2, "parked/handler in read_lock"
        => a_handler_of_a_parked_reader_with_membarrier, a_handler_of_a_parked_reader_fenced;
}

fn park_and_first_read_lock(domain: &'static Domain) {
    let (block, reader) = (Block::new(), implicit(domain));
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// Two readers of one word, the one asleep and implicit, which is parked, the other explicit, which is not.
fn a_sleeper_beside_a_section(domain: &'static Domain) {
    let (block, asleep, reader) = (Block::new(), implicit(domain), explicit(domain));
    race(domain, block, &[Demand::Park], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
    std::mem::forget(asleep);
}

fn park_and_announce(domain: &'static Domain) {
    let (block, reader) = (Block::new(), implicit(domain));
    race(domain, block, &[Demand::Expedite], move || {
        reader.quiescent_state();
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// An explicit reader that an expedite has found idle: the next one offers it leave.
fn rested(domain: &'static Domain) -> Reader {
    let reader = explicit(domain);
    assert!(domain.advance(Demand::Expedite));
    reader
}

fn a_rested_reader_locks(domain: &'static Domain) {
    let (block, reader) = (Block::new(), rested(domain));
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// It leaves and comes back while the expediter is at it.
fn a_rested_reader_comes_and_goes(domain: &'static Domain) {
    let (block, mut reader) = (Block::new(), rested(domain));
    race(domain, block, &[Demand::Expedite], move || {
        reader.offline();
        reader.online();
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn a_handler_of_a_rested_reader(domain: &'static Domain) {
    let (block, reader) = (Block::new(), rested(domain));
    let cell = reader.cell();
    race(domain, block, &[Demand::Expedite], move || {
        thread::interrupt(Point::Locking, move || {
            // SAFETY: a handler of the thread that owns the cell.
            let handlers = unsafe { Reader::borrow_cell(cell) };
            visit(&handlers, block);
        });
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// What it interrupted has opened a section and not looked yet whether anybody waits for it.
fn a_handler_of_a_parked_reader(domain: &'static Domain) {
    let (block, reader) = (Block::new(), rested(domain));
    assert!(domain.advance(Demand::Expedite) && reader.is_parked());
    let cell = reader.cell();
    race(domain, block, &[], move || {
        thread::interrupt(Point::Locking, move || {
            // SAFETY: a handler of the thread that owns the cell.
            let handlers = unsafe { Reader::borrow_cell(cell) };
            visit(&handlers, block);
        });
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

#[test]
fn a_rested_reader_is_not_parked_in_its_section() {
    // The lock falls between the look at `nest` and the parking. Its section holds up the period behind.
    explore_up_to(2, "offer/read_lock/next period", || {
        let (domain, block) = (domain(), Block::new());
        let reader = rested(domain);
        let reading = thread::spawn(move || {
            visit(&reader, block);
            std::mem::forget(reader);
        });
        domain.advance(Demand::Expedite);
        block.unlink();
        let cookie = domain.start_poll();
        domain.advance(Demand::Start);
        reuse_if_elapsed(domain, block, cookie);
        reading.join().unwrap();
    });
}

#[test]
fn a_rested_reader_whose_barrier_is_lost() {
    // Leave is offered, and the barrier behind it refused: what the expediter wrote proves nothing to the
    // next one, who goes by its own fence.
    explore_failing(1, 2, "offer/membarrier lost", || {
        let (domain, block) = (domain(), Block::new());
        let reader = rested(domain);
        race(domain, block, &[Demand::Expedite; 2], move || {
            visit(&reader, block);
            std::mem::forget(reader);
        });
    });
}

#[test]
fn an_offer_that_was_not_heard_proves_nothing() {
    // As above, in one pass: the increment may go over what the expediter wrote.
    explore_failing(1, 2, "offer/membarrier lost, one pass", || {
        let (domain, block) = (domain(), Block::new());
        let reader = rested(domain);
        race(domain, block, &[Demand::Expedite], move || {
            visit(&reader, block);
            std::mem::forget(reader);
        });
    });
}
