//! rcutorture's scheme in user space.
//!
//! A pool of elements; a writer replaces the current one, and counts in each element that it has removed the
//! grace periods since (`pipe_count`). Readers record the largest count that they see at the end of a
//! section: one above 1 has been in that section for a whole grace period, which is the error that is looked
//! for. The words and the printed lines are those of the kernel's rcutorture.
//!
//! ```text
//!   parameters   what is asked for: seconds, seed
//!   phase        the seed's choice of who takes part, a phase after the other
//!   pool         the elements, one section of a reader, the writer's round
//!   cast         the threads: readers of six kinds, fake writers, comers and goers, forks, stalls
//!   flood        callbacks that post themselves again
//!   flavor       what is tortured: the engine (`rcu`), or the preloaded library through its C interface
//!   report       what was seen, and the lines
//! ```
//!
//! Beside pipe counts: the payload of an element must not change inside a section; one read in 4096 takes a
//! cookie of its own, which must not elapse inside it; in the preloaded flavor sections also hold on to a
//! block of malloc that the writer has freed, whose content must stay.
//!
//! `rcu/tests/common/torture.rs` is this scheme in small for the engine's own tests, which also run under
//! ThreadSanitizer and therefore keep to atomics and volatile words.
//!
//! Source of the scheme: kernel/rcu/rcutorture.c; the code is ours.

pub mod cast;
pub mod dice;
pub mod flavor;
pub mod flood;
pub mod parameters;
pub mod phase;
pub mod pool;
pub mod report;
mod run;

pub use parameters::Parameters;
pub use report::Report;
pub use run::run;
