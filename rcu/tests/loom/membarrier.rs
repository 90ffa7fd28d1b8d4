//! A membarrier that fails from some call on, and the change from the fast mode to the cold one.

use super::*;

#[test]
fn expedite_and_membarrier_failing_late() {
    explore_up_to(2, "expedite/membarrier lost", || {
        let (domain, block) = (domain(), Block::new());
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            visit(&reader, block);
            reader.quiescent_state();
            visit(&reader, block);
            std::mem::forget(reader);
        });
        block.unlink();
        let cookie = domain.start_poll();
        domain.init_without_membarrier();
        domain.advance(Demand::Expedite);
        reuse_if_elapsed(domain, block, cookie);
        reading.join().unwrap();
    });
}

/// The expediter is neither the reader, who leaves the cold mode meanwhile, nor the writer.
fn change_over(domain: &'static Domain, passes: usize) {
    let (block, reader) = (Block::new(), implicit(domain));
    let reading = thread::spawn(move || {
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    let expediting = thread::spawn(move || {
        for _ in 0..passes {
            domain.advance(Demand::Expedite);
        }
    });
    reuse_if_elapsed(domain, block, cookie);
    reading.join().unwrap();
    expediting.join().unwrap();
}

#[test]
fn change_over_by_a_third_thread() {
    for working in [0, 1] {
        explore_failing(working, 2, "change-over/third expediter", || change_over(domain(), 2));
    }
    explore_up_to(2, "change-over/third expediter, fenced", || change_over(fenced_domain(), 2));
}

#[test]
fn cold_to_hot_while_membarrier_is_lost() {
    for passes in [1, 2] {
        explore_failing(0, 2, "cold to hot/membarrier lost", move || {
            let (domain, block) = (domain(), Block::new());
            let reader = implicit(domain);
            race(domain, block, &[Demand::Expedite; 2][..passes], move || {
                visit(&reader, block);
                visit(&reader, block);
                std::mem::forget(reader);
            });
        });
    }
}

#[test]
fn behind_the_cold_mode_while_membarrier_is_lost() {
    // As above, and the block is visited in the first section of the fast mode only, by the thread that runs
    // first.
    explore_failing(0, 2, "behind the cold mode/membarrier lost", || {
        let (domain, block) = (domain(), Block::new());
        let reader = implicit(domain);
        let writing = thread::spawn(move || {
            block.unlink();
            let cookie = domain.start_poll();
            for _ in 0..2 {
                domain.advance(Demand::Expedite);
            }
            reuse_if_elapsed(domain, block, cookie);
        });
        drop(reader.read_lock());
        visit(&reader, block);
        std::mem::forget(reader);
        writing.join().unwrap();
    });
}

#[test]
fn what_is_remembered_outlives_membarrier() {
    // The first pass has a barrier and remembers; the second may be another thread's, and has none.
    explore_failing(1, 2, "snapshot/membarrier lost", || {
        let (domain, block) = (domain(), Block::new());
        let reader = explicit(domain);
        race(domain, block, &[Demand::Expedite; 2], move || {
            visit(&reader, block);
            visit(&reader, block);
            std::mem::forget(reader);
        });
    });
}

#[test]
fn two_expediters_of_one_period() {
    explore_up_to(2, "two expediters", || {
        let (domain, block) = (domain(), Block::new());
        let reader = explicit(domain);
        block.unlink();
        let cookie = domain.start_poll();
        let reading = thread::spawn(move || {
            visit(&reader, block);
            visit(&reader, block);
            std::mem::forget(reader);
        });
        let other = thread::spawn(move || domain.advance(Demand::Expedite));
        domain.advance(Demand::Expedite);
        reuse_if_elapsed(domain, block, cookie);
        other.join().unwrap();
        reading.join().unwrap();
    });
}
