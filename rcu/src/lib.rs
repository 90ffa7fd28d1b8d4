//! Userspace RCU grace periods that a malloc can stand on, and the types of [`epoch`] for programs that are
//! none.
//!
//! Readers bracket what they read with [`read_lock`](Reader::read_lock) and its guard. Writers unlink,
//! take a [`Cookie`], and reuse what they unlinked when [`poll`](Domain::poll) says that every section
//! that could have found it has ended. Nothing in this crate allocates, and only the `synchronize`
//! family blocks: it is made for callers who *are* the allocator.
//!
//! ```
//! use quiescent::{Domain, ReaderBlock, ReaderCell, ReaderWord};
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
//! # The concepts, one by one
//!
//! A *section* is what lies between `read_lock` and the drop of its guard: what it finds stays valid until it
//! ends. A section belongs to its thread; a handler that switches fibres must not leave one open across the
//! switch (`arch.rs`).
//!
//! A *reader* is a thread as the engine sees it, with a *cell* in a *block* that the embedder gave. It is
//! *implicit* until its first `read_lock`, *explicit* from then on, until it is parked.
//!
//! A *period* is an odd value of the domain's *sequence*. It ends when every reader is *settled* for it: has
//! announced it or a later one, or is not *active*: offline, parked, or gone.
//!
//! An *announcement* is a reader's statement that it holds nothing at this point: one fenced store, at points
//! its embedder chooses (an allocator: its slow paths), and every 1024th section. Whoever announces last ends
//! the period. No thread is needed, nobody is woken.
//!
//! A *scan* is a look at the active readers. It stops at the first that is not settled, and the next one goes
//! on there.
//!
//! A *cookie* is the value that the sequence must reach until what was unlinked before may be reused.
//!
//! An *expedite* ends a period by asking: one *heavy barrier* (`membarrier`) makes every reader's nesting
//! visible, readers outside a section are announced for, those inside are remembered and cost no second
//! barrier. An implicit reader is *parked*: nobody waits for it until its next announcement, so a thread that
//! sleeps for hours costs one expedite. [`Demand::Park`] does this alone and pays no barrier. An explicit
//! reader that rests, that is, has opened no section since an expedite looked, is *offered leave* by the next
//! one and parked likewise, and is implicit until it locks.
//!
//! The *cold mode* is how a reader locks with a fence of its own: where membarrier is not to be had, before
//! its first section, parked, and offline.
//!
//! # One cookie, from free to reuse
//!
//! 1. A writer unlinks a block and calls [`Domain::start_poll`]: a fence, the sequence, `Cookie::after`.
//! 2. `ensure` notes in `needed` what was promised; where no period is in flight, `start` calls `begin`.
//! 3. `begin` swaps the sequence from even to odd: readers that come by see a period in flight.
//! 4. `try_complete` calls `laggard_of`, which begins with a fence and walks `lagging`.
//! 5. The first reader that has not announced is kept as the laggard; the writer goes on.
//! 6. A reader passes `quiescent_state`, finds the period, and `announce`s it with `raise`.
//! 7. Its own `try_complete` looks at the laggard, and goes on behind it where `reached` names the period.
//! 8. One that sleeps is parked or announced for, if somebody calls [`Domain::advance`] and so `expedite`.
//! 9. When `laggard_of` finds nobody, `complete` swaps the sequence from odd to even.
//! 10. If `needed` asks for more, the same thread begins the next period at once.
//! 11. [`Domain::poll`] compares the sequence with the cookie and says true.
//! 12. [`Stamped::open`] asks once more and gives the batch out.
//!
//! The proofs are loom models (`tests/loom`, `cargo xtask loom`) of every pair that can race, and a
//! Promela model (`rcu/model`, `cargo xtask spin`) of the algorithm under total store order.
//!
//! # Reading order
//!
//! `cookie` (arithmetic), `cell` with `owner` and `arch` (one thread's side), `block` with `summary` (where
//! cells lie, and who is waited for), `reader` (its handle), `domain` (periods) with `readers` (scans),
//! `expedite` with `asleep`, `membarrier`; then, leaves all: `wait`, `batch`, `page`, `demand`, `stall`,
//! `counters`, `misuse`, `clock` with `kernel`, `sync`. The [`range_map`] of large mappings stands beside
//! them, and [`epoch`], with the feature `std`, above them.
//!
//! Borrowed ideas: grace-period sequences and cookies from the kernel's RCU (`rcu_seq_snap`,
//! `start_poll_synchronize_rcu`); quiescent-state-based readers and membarrier from liburcu; pages of
//! pointers from the kernel's `kvfree_rcu`.

#![cfg_attr(not(any(test, loom, feature = "std")), no_std)]

// The README's program is a doctest.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;

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
#[cfg(feature = "std")]
pub mod epoch;
mod expedite;
#[cfg_attr(
    any(
        not(all(
            any(target_arch = "x86_64", target_arch = "aarch64"),
            target_os = "linux",
            target_pointer_width = "64"
        )),
        rcu_portable
    ),
    path = "portable.rs"
)]
#[cfg_attr(any(loom, miri), allow(dead_code, reason = "a model has a membarrier and a time of its own"))]
mod kernel;
mod membarrier;
mod misuse;
#[cfg(loom)]
#[doc(hidden)]
pub mod model;
mod owner;
mod page;
pub mod range_map;
mod reader;
mod readers;
mod stall;
mod summary;
mod sync;
mod wait;

pub use batch::{Batch, Leaked, Stamped};
pub use block::{CELLS_PER_BLOCK, CELLS_PER_WORD, ReaderBlock, ReaderWord};
pub use cell::ReaderCell;
pub use clock::{coarse_ns, now_ns};
pub use cookie::{ACTIVE_COOKIES, Cookie};
pub use counters::{BUCKETS, Counters};
pub use demand::{Demand, Marks};
pub use domain::Domain;
pub use misuse::{Misuse, MisuseHandler};
pub use page::PageOfPointers;
pub use reader::{Guard, Reader};
pub use readers::NoRoom;
pub use stall::{Stall, Stalled};
pub use wait::{BarrierHooks, PATIENCE_NS};
