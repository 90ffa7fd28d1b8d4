//! What the buddy allocator knows of one unit of 1024 pages, and the row of the index that every 64th has.

use crate::constants::{MAX_ORDER, UNIT_PAGES};
use crate::page::quarter::Quarter;

/// How many orders of blocks there are.
pub(super) const ORDERS: usize = MAX_ORDER as usize + 1;

/// What a unit is cut for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Blocks,
    Runs,
}

impl Cut {
    pub(super) const COUNT: usize = 2;

    pub(super) fn other(self) -> Cut {
        match self {
            Cut::Blocks => Cut::Runs,
            Cut::Runs => Cut::Blocks,
        }
    }
}

/// What is known of one unit. All zero: no page of it is free.
#[repr(C, align(64))]
pub struct Unit {
    pub(super) tree: [u64; 32],
    pub(super) dirty: [u64; 16],
    /// Of pages given out as part of a run, those that were dirty.
    pub(super) came_dirty: [u64; 16],
    pub(super) blocks: [u16; ORDERS],
    /// In each 64th unit: the row of the index for it and the next 63, by what they are cut for; whole ones
    /// count as cut for blocks.
    pub(super) row: [[u64; ORDERS]; Cut::COUNT],
    /// Beside it: which of them were last cut for runs.
    pub(super) for_runs: u64,
    /// Which of them may hold dirt. A clear bit is certain, a set one may be old.
    pub(super) soiled: u64,
    /// And which of them each quarter was the last to cut.
    pub(super) cut_by: [u64; Quarter::COUNT],
}

impl Unit {
    pub(super) fn has(&self, node: usize) -> bool {
        self.tree[node / 64] >> (node % 64) & 1 != 0
    }

    pub(super) fn flip(&mut self, node: usize) {
        self.tree[node / 64] ^= 1 << (node % 64);
    }

    /// The lowest free block of this order.
    pub(super) fn lowest(&self, order: u32) -> Option<usize> {
        let width = UNIT_PAGES >> order; // nodes of this order: width..2*width
        if width < 64 {
            let level = self.tree[0] & (((1u128 << (2 * width)) - (1 << width)) as u64);
            return (level != 0).then(|| level.trailing_zeros() as usize);
        }
        let words = width / 64..2 * width / 64;
        words.into_iter().find_map(|w| {
            let word = self.tree[w];
            (word != 0).then(|| w * 64 + word.trailing_zeros() as usize)
        })
    }
}
