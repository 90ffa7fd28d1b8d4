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

use rcu::{Domain, Reader, ReaderCell};

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

/// Registers a reader with a cell of its own.
#[must_use]
pub fn new_reader(domain: &'static Domain) -> Reader {
    let cell = Box::leak(Box::new(ReaderCell::new()));
    // SAFETY: the cell is new, so no other domain has seen it.
    unsafe { domain.register(cell, 0) }.expect("a new cell has no reader")
}

/// `, fenced` where the domain could not have membarrier, to be said next to its figures.
#[must_use]
pub fn fenced_note(domain: &Domain) -> &'static str {
    if domain.is_fenced() { " (no membarrier here: fenced)" } else { "" }
}
