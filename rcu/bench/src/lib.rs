//! The benchmark of the grace-period engine, beside liburcu and crossbeam-epoch in the same run.
//!
//! Reading order: `rounds` (how anything is measured here), `peers` (liburcu's C loops), then the
//! measurements `pairs`, `polls`, `periods`, `expedited`, `crowd`, `instructions`, and `report`.
//! `disassembly` is also what `tests/instructions.rs` checks the fast path with.

pub mod crowd;
pub mod disassembly;
pub mod expedited;
pub mod instructions;
pub mod machine;
pub mod pairs;
pub mod peers;
pub mod periods;
pub mod polls;
pub mod report;
pub mod rounds;

use rcu::{CELLS_PER_BLOCK, CELLS_PER_WORD, Domain, NoRoom, Reader, ReaderBlock, ReaderCell, ReaderWord};

/// A domain of one measurement's own, with membarrier if the system has it. Leaked: domains are for ever.
#[must_use]
pub fn new_domain() -> &'static Domain {
    let domain = Box::leak(Box::new(Domain::new(1)));
    domain.init();
    domain
}

/// As [`new_domain`], for readers that execute a fence at each outermost lock.
#[must_use]
pub fn new_fenced_domain() -> &'static Domain {
    let domain = Box::leak(Box::new(Domain::new(1)));
    domain.init_without_membarrier();
    domain
}

/// Room for so many readers.
#[must_use]
pub fn new_block(cells: usize) -> &'static ReaderBlock {
    let words = (0..cells.div_ceil(CELLS_PER_WORD)).map(|_| ReaderWord::new()).collect::<Vec<_>>().leak();
    let cells = (0..cells).map(|_| ReaderCell::new()).collect::<Vec<_>>().leak();
    Box::leak(Box::new(ReaderBlock::new(words, cells)))
}

/// Registers a reader, in a new block if there is no room.
#[must_use]
pub fn new_reader(domain: &'static Domain) -> Reader {
    loop {
        match domain.register(0) {
            Ok(reader) => return reader,
            Err(NoRoom) => assert!(domain.add_block(new_block(CELLS_PER_WORD)), "a new block"),
        }
    }
}

/// Registers so many readers, in blocks as an embedder adds them, larger ones behind small ones.
#[must_use]
pub fn new_readers(domain: &'static Domain, many: usize) -> Vec<Reader> {
    let mut readers = Vec::with_capacity(many);
    let mut room = 0_usize;
    while readers.len() < many {
        match domain.register(0) {
            Ok(reader) => readers.push(reader),
            Err(NoRoom) => {
                let cells = (7 * room).clamp(CELLS_PER_WORD, CELLS_PER_BLOCK);
                assert!(domain.add_block(new_block(cells)), "a new block");
                room += cells;
            }
        }
    }
    readers
}

/// `, fenced` where the domain could not have membarrier, to be said next to its figures.
#[must_use]
pub fn fenced_note(domain: &Domain) -> &'static str {
    if domain.is_fenced() { " (no membarrier here: fenced)" } else { "" }
}
