//! What the buddy allocator knows of one unit of 4 MiB, and the row of the index that every 64th has.

use crate::constants::{MAX_ORDER, MAX_UNITS, UNIT_PAGES};
use crate::page::quarter::Quarter;

/// Words of a bitmap of a unit's pages.
pub(super) const PAGE_WORDS: usize = UNIT_PAGES.div_ceil(64); // (given) as a unit
/// Words of a tree, which has a node for each block of each order.
pub(super) const TREE_WORDS: usize = (2 * UNIT_PAGES).div_ceil(64); // (given) as a layout

/// How many orders of blocks there are.
pub(super) const ORDERS: usize = MAX_ORDER as usize + 1;

/// What a unit is cut for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Blocks,
    Runs,
}

impl Cut {
    pub(super) const COUNT: usize = 2; // (given) as a count

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
    pub(super) tree: [u64; TREE_WORDS],
    pub(super) dirty: [u64; PAGE_WORDS],
    /// Of pages given out as part of a run, those that were dirty.
    pub(super) came_dirty: [u64; PAGE_WORDS],
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

    /// Whatever follows from the trees.
    pub(super) fn forget_counts(&mut self) {
        self.dirty = [0; PAGE_WORDS];
        self.blocks = [0; ORDERS];
        self.row = [[0; ORDERS]; Cut::COUNT];
        self.soiled = 0;
    }

    /// Its tree, which has nothing any more.
    pub(super) fn take_tree(&mut self) -> [u64; TREE_WORDS] {
        core::mem::take(&mut self.tree)
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

/// Calls `visit` with each block of a tree that is not part of a larger one: its first page and its order.
pub(super) fn topmost(tree: &[u64; TREE_WORDS], mut visit: impl FnMut(usize, u32)) {
    let has = |node: usize| tree[node / 64] >> (node % 64) & 1 != 0;
    for (word, &bits) in tree.iter().enumerate() {
        let mut left = bits;
        while left != 0 {
            let node = word * 64 + left.trailing_zeros() as usize;
            left &= left - 1;
            let Some(depth) = node.checked_ilog2() else { continue };
            if !(1..=depth).any(|up| has(node >> up)) {
                visit((node << (MAX_ORDER - depth)) & (UNIT_PAGES - 1), MAX_ORDER - depth);
            }
        }
    }
}

/// The bits of word `word` of a page bitmap that lie in [from, to).
pub(super) fn bits(word: usize, from: usize, to: usize) -> u64 {
    let low = from.max(word * 64) - word * 64;
    let high = to.min(word * 64 + 64).max(word * 64) - word * 64;
    if high <= low { 0 } else { (u64::MAX >> (64 - (high - low))) << low }
}

/// What the pages of a run hold when it is given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holds {
    /// Zeros.
    Zeros,
    /// Some hold anything, the others zeros: whose run it is can tell them apart.
    Mixed,
    /// Anything.
    Anything,
}

/// Where a run is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the smallest free block that holds it.
    Tight,
    /// Where up to three times as much is free behind it, if there is such a place: it is about to grow.
    /// Nothing is kept for it there, but others that are to grow begin elsewhere.
    Roomy,
}

/// The table of units, and how many of them can be used. All zero: none.
pub(super) struct Units {
    table: *mut Unit,
    known: usize,
}

// SAFETY: the pointer is to the window's table of units, which belongs to this alone.
unsafe impl Send for Units {}

impl Units {
    pub(super) const NONE: Units = Units { table: core::ptr::null_mut(), known: 0 };

    /// # Safety
    /// `known` units at `table` are writable for ever, were zero at first, and belong to this alone.
    pub(super) unsafe fn know(&mut self, table: *mut Unit, known: usize) {
        debug_assert!(known <= MAX_UNITS && (self.table.is_null() || self.table == table));
        self.table = table;
        self.known = self.known.max(known);
    }

    pub(super) fn known(&self) -> usize {
        self.known
    }

    pub(super) fn at(&mut self, unit: usize) -> &mut Unit {
        assert!(unit < self.known, "a page of no unit");
        // SAFETY: promised in `know`; exclusive because self is.
        unsafe { &mut *self.table.add(unit) }
    }

    /// The unit that has the row of the index for `unit`.
    pub(super) fn row_of(&mut self, unit: usize) -> &mut Unit {
        self.at(unit / 64 * 64)
    }

    /// Calls `visit` for each word of the page bitmaps that a range has a part of: with the unit, which word,
    /// and which bits.
    #[inline(always)]
    pub(super) fn words(&mut self, page: usize, pages: usize, mut visit: impl FnMut(&mut Unit, usize, u64)) {
        let (mut at, end) = (page, page + pages);
        while at < end {
            let base = at / UNIT_PAGES * UNIT_PAGES;
            let stop = end.min(base + UNIT_PAGES);
            let unit = self.at(at / UNIT_PAGES);
            for word in (at - base) / 64..(stop - base).div_ceil(64) {
                visit(unit, word, bits(word, at - base, stop - base));
            }
            at = stop;
        }
    }

    /// Makes the pages of a range dirty or clean; returns how many were not so before.
    #[unsafe(link_section = ".text_solo")]
    pub(super) fn set_dirty(&mut self, page: usize, pages: usize, is_dirty: bool) -> usize {
        let mut changed = 0;
        self.words(page, pages, |unit, word, mask| {
            let old = unit.dirty[word];
            let new = if is_dirty { old | mask } else { old & !mask };
            unit.dirty[word] = new;
            changed += (old ^ new).count_ones() as usize;
        });
        if is_dirty {
            for unit in page / UNIT_PAGES..(page + pages).div_ceil(UNIT_PAGES) {
                self.row_of(unit).soiled |= 1 << (unit % 64);
            }
        }
        changed
    }

    /// The pages of a range are given out as part of a run: what was dirty came so. Returns how many were.
    pub(super) fn give_out(&mut self, page: usize, pages: usize) -> usize {
        let mut dirty = 0;
        self.words(page, pages, |unit, word, mask| {
            let old = unit.dirty[word] & mask;
            unit.dirty[word] &= !mask;
            unit.came_dirty[word] = unit.came_dirty[word] & !mask | old;
            dirty += old.count_ones() as usize;
        });
        dirty
    }
}
