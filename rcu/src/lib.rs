//! Userspace RCU grace periods that a malloc can stand on.
//!
//! Readers bracket what they read with [`read_lock`](Reader::read_lock) and its guard. Writers unlink,
//! take a [`Cookie`], and reuse what they unlinked when [`poll`](Domain::poll) says that every section
//! that could have found it has ended. Nothing in this crate allocates, and only the `synchronize`
//! family blocks: it is made for callers who *are* the allocator.
//!
//! ```
//! use rcu::{Domain, ReaderBlock, ReaderCell, ReaderWord};
//!
//! static DOMAIN: Domain = Domain::new(1);
//! static CELLS: [ReaderCell; 32] = [const { ReaderCell::new() }; 32];
//! static WORDS: [ReaderWord; 1] = [const { ReaderWord::new() }; 1];
//! static BLOCK: ReaderBlock = ReaderBlock::new(&WORDS, &CELLS);
//!
//! DOMAIN.init();
//! assert!(DOMAIN.add_block(&BLOCK));
//! let reader = DOMAIN.register(0).expect("there is room for 32");
//!
//! let section = reader.read_lock();
//! let cookie = DOMAIN.start_poll(); // somebody unlinks something
//! assert!(!DOMAIN.poll(cookie)); // our section may have found it
//! drop(section);
//! reader.quiescent_state(); // nobody else is reading: this ends the period
//! assert!(DOMAIN.poll(cookie));
//! ```
//!
//! # How a period ends
//!
//! - *Passively.* A reader announces a quiescent state with one fenced store, at points its embedder
//!   chooses (an allocator: its slow paths), when it goes offline, when it exits, and every 1024th
//!   section. Whoever announces last ends the period. No thread is needed, nobody is woken.
//! - *Expedited.* One `membarrier` makes every reader's nesting visible. Readers outside a section are
//!   announced for; those inside are remembered and cost no second barrier.
//! - *Parked.* A thread that never called `read_lock` holds nothing this crate protects. An expedite
//!   that finds it lagging stops waiting for it until its next announcement, so a thread that sleeps
//!   for hours costs one expedite. [`Demand::Park`] does this alone and pays no barrier.
//!
//! The proofs are loom models (`tests/loom.rs`, `scripts/loom`) of every pair that can race, and a
//! Promela model (`rcu/model`, `scripts/spin`) of the algorithm under total store order.
//!
//! # Reading order
//!
//! `cookie` (arithmetic), `cell` with `arch` (one thread's side), `reader` (its handle), `domain` (periods)
//! with `readers` (their list), `expedite` with `questions` (what it asks of a cell), `membarrier`; then, leaves all: `wait`, `batch`, `page`, `hooks`, `demand`, `stall`, `counters`, `misuse`, `clock`,
//! `sync`. Beside them [`range_map`], which stands on them.
//!
//! Borrowed ideas: grace-period sequences and cookies from the kernel's RCU (`rcu_seq_snap`,
//! `start_poll_synchronize_rcu`); quiescent-state-based readers and membarrier from liburcu; pages of
//! pointers from the kernel's `kvfree_rcu`.

#![cfg_attr(not(any(test, loom)), no_std)]

mod arch;
mod asleep;
mod batch;
mod block;
mod cell;
mod clock;
mod cookie;
mod counters;
mod demand;
mod domain;
mod expedite;
mod membarrier;
mod misuse;
#[cfg(loom)]
#[doc(hidden)]
pub mod model;
mod page;
pub mod range_map;
mod reader;
mod readers;
mod stall;
mod sync;
mod wait;

pub use batch::{Batch, Leaked, Stamped};
pub use block::{CELLS_PER_BLOCK, CELLS_PER_WORD, ReaderBlock, ReaderWord};
pub use cell::ReaderCell;
pub use clock::now_ns;
pub use cookie::{ACTIVE_COOKIES, Cookie};
pub use counters::{BUCKETS, Counters, Latencies};
pub use demand::{Demand, Marks};
pub use domain::Domain;
pub use misuse::{Misuse, MisuseHandler};
pub use page::PageOfPointers;
pub use reader::{Guard, Reader};
pub use readers::NoRoom;
pub use stall::{Stall, Stalled};
pub use wait::{BarrierHooks, PATIENCE_NS};
