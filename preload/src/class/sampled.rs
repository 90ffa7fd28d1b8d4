//! Whether blocks are sampled, and for what: one word that slow paths look at.
//!
//! While it is 0, which it is unless somebody has asked, that look is all that samples cost. Relaxed: the
//! bits steer, and who has set one has prepared what it stands for before, in `Release` order.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Samples are trapped (`trap.rs`).
pub const TRAP: u32 = 1;
/// Samples make a profile (`profile.rs`).
pub const PROFILE: u32 = 2;
/// There was a profile: blocks may be freed that are in it.
pub const PROFILED: u32 = 4;

#[unsafe(link_section = ".data")]
static WHAT: AtomicU32 = AtomicU32::new(0);

/// Whether blocks are sampled, for whatever it may be.
#[inline(always)]
pub fn any() -> bool {
    WHAT.load(Relaxed) & (TRAP | PROFILE) != 0
}

/// Whether they are, or were, for `bits`.
#[inline(always)]
pub fn is(bits: u32) -> bool {
    // Acquire: who sees a bit sees what it stands for.
    WHAT.load(Acquire) & bits != 0
}

/// From now on. False: they are already.
pub fn begin(bits: u32) -> bool {
    WHAT.fetch_or(bits, AcqRel) & bits == 0
}

/// Not any more. False: they were not.
pub fn end(bits: u32) -> bool {
    WHAT.fetch_and(!bits, AcqRel) & bits == bits
}
