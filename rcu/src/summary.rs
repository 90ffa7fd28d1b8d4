//! How many readers of each block of a domain are waited for: the one cache line that a scan always reads.
//!
//! Why these are counts, and in which order they change with the bits below, is said at the head of
//! `block.rs`.

use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
    const_unless_loom,
};

/// How many readers are waited for in each block of a domain.
#[repr(C, align(64))]
pub(crate) struct Summary {
    /// Two slots to a word. The last one is for all the blocks that the others do not take.
    in_slots: [AtomicU64; SLOTS / 2],
}

/// Blocks with a count of their own.
pub(crate) const SLOTS: usize = if cfg!(loom) { 2 } else { 16 };

impl Summary {
    const_unless_loom! {
        pub(crate) fn new() -> Summary {
            Summary { in_slots: zeros() }
        }
    }

    pub(crate) fn add(&self, slot: usize, readers: u32) {
        self.in_slots[slot / 2].fetch_add(u64::from(readers) << (slot % 2 * 32), AcqRel);
    }

    pub(crate) fn take(&self, slot: usize, readers: u32) {
        // Release pairs with the acquire in `next_slot`, as in `ReaderBlock::count_out`.
        self.in_slots[slot / 2].fetch_sub(u64::from(readers) << (slot % 2 * 32), AcqRel);
    }

    /// The first slot from `slot` on in which somebody is waited for, or [`SLOTS`].
    pub(crate) fn next_slot(&self, slot: usize) -> usize {
        let mut slot = slot;
        while slot < SLOTS {
            let both = self.in_slots[slot / 2].load(Acquire) >> (slot % 2 * 32);
            if both as u32 != 0 {
                return slot;
            }
            if both != 0 {
                return slot + 1;
            }
            slot = (slot | 1) + 1;
        }
        SLOTS
    }

    /// In the only thread of a forked child, which is nobody's reader.
    pub(crate) fn clear(&self) {
        self.in_slots.iter().for_each(|both| both.store(0, Relaxed));
    }
}

#[cfg(not(loom))]
const fn zeros() -> [AtomicU64; SLOTS / 2] {
    [const { AtomicU64::new(0) }; SLOTS / 2]
}

#[cfg(loom)]
fn zeros() -> [AtomicU64; SLOTS / 2] {
    core::array::from_fn(|_| AtomicU64::new(0))
}
