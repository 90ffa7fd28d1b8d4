//! The ladder "never out of memory to free with" (G4), counted: what `free` came to when it found no empty
//! magazine where it looks first.
//!
//! A process with memory to spare never leaves the ground. Each step is taken only if those before it gave
//! nothing, so the figures say how near a process came to the last one. Relaxed counters: any thread, no
//! order.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A step, from the first to the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Step {
    /// A spare magazine of the thread's, of another kind than is wanted.
    OtherKind = 0,
    /// Any empty magazine of the store.
    Store = 1,
    /// A page of the reserve.
    Reserve = 2,
    /// The magazines of the thread's oldest group, which has waited: its blocks went to the slabs.
    Elapsed = 3,
    /// Where nothing is deferred: the thread's own full magazine, whose blocks went to the slabs.
    OwnBlocks = 4,
    /// A bit in the slab itself.
    Slab = 5,
}

/// How many steps there are.
pub const STEPS: usize = 6; // (given) as a count

/// Their names in reports, in order.
pub const STEP_NAMES: [&str; STEPS] = ["other_kind", "store", "reserve", "elapsed", "own_blocks", "slab"];

static TAKEN: [AtomicU64; STEPS] = [const { AtomicU64::new(0) }; STEPS];

/// `free` got what it needed from this step.
pub fn note(step: Step) {
    TAKEN[step as usize].fetch_add(1, Relaxed);
}

/// How often each was.
pub fn taken() -> [u64; STEPS] {
    TAKEN.each_ref().map(|taken| taken.load(Relaxed))
}
