//! Size classes, magazines, depots, slabs and large blocks: what a block is and where it waits.
//!
//! [`size_class`] says which of 36 rounded sizes serves a request; [`slab`]s are cut into blocks of one class
//! and gathered in a [`pool`]; blocks move in [`magazine`]s, which lie in [`lists`], wait in [`group`]s in
//! [`queue`]s, change hands in the [`depot`] and are kept in [`empties`] while nothing is in them; [`marks`]
//! knows of every block whether it is out; [`backlog`] keeps the account of what waits for a grace period,
//! [`waiting`] takes it up again; [`large`] blocks are page runs of their own, freed in
//! [batches](large_batch), with [pages](large_pages) of the zone, which [change their size](resize) in place;
//! [`fingerprints`] tells what was written to meanwhile; [`trap`] is a sample of blocks that lie apart,
//! [`profile`] one of who asks for them, [`sampled`] says whether there are any; [`typed`] pools have slabs
//! of their own; [`verdict`] speaks when a call is wrong.

pub mod backlog;
pub mod cause;
pub mod changed;
pub mod check_in;
pub mod depot;
pub mod dice;
pub mod empties;
pub mod fingerprints;
pub mod group;
pub mod in_place;
pub mod large;
pub mod large_batch;
pub mod large_pages;
pub mod lists;
pub mod magazine;
pub mod marks;
pub mod page_kinds;
pub mod pool;
pub mod profile;
pub mod queue;
pub mod resize;
pub mod sampled;
pub mod size_class;
pub mod slab;
pub mod trap;
pub mod typed;
pub mod verdict;
pub mod waiting;
pub mod work;

/// What a lock protects, left behind torn by a thread that a fork did not copy.
pub trait Torn {
    /// Makes it consistent by forgetting what was on its lists.
    fn abandon(&mut self);
}
