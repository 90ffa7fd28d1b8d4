//! Which free pages are dirty, and where the next to be purged are. Of pages given out as part of a run,
//! which were: whoever wants zeros clears these and no others.

use super::Buddy;
use super::unit::{PAGE_WORDS, bits};
use crate::constants::{PURGE_LOOKS, UNIT_PAGES};

/// Calls `visit` with each stretch of set bits, its first page and its length, of pages [from, to) of a
/// unit's page bitmap. A stretch ends where a word does.
pub fn stretches(map: &[u64], from: usize, to: usize, mut visit: impl FnMut(usize, usize)) {
    for (word, set) in map.iter().enumerate() {
        let mut left = set & bits(word, from, to);
        while left != 0 {
            let first = left.trailing_zeros();
            let length = (left >> first).trailing_ones();
            visit(word * 64 + first as usize, length as usize);
            left &= u64::MAX.checked_shl(first + length).unwrap_or(0);
        }
    }
}

/// What a search for dirt has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dirt {
    /// A stretch: its first page, its length and how many of its pages were dirty.
    Stretch {
        /// Its first page.
        page: usize,
        /// Its length.
        pages: usize,
        /// How many of them were dirty.
        dirty: usize,
    },
    /// Short ones only, so far. It is to go on below this page, once the lock has been let go of.
    Further(usize),
    /// None.
    Nothing,
}

impl Buddy {
    /// Of the pages of a unit that were given out as part of a run, those that were dirty.
    pub fn came_dirty(&mut self, unit: usize) -> [u64; PAGE_WORDS] {
        self.units.at(unit).came_dirty
    }

    /// Takes the highest free stretch below page `end` that holds dirt, of at least `least` pages
    /// and about `most` at the most; it counts as clean from now on: give it back with `free`, dirty if
    /// it could not be purged. The highest, for the lowest are the next to be given out.
    #[unsafe(link_section = ".text_solo")]
    pub fn take_dirty(&mut self, end: usize, least: usize, most: usize) -> Dirt {
        let mut end = end.min(self.units.known() * UNIT_PAGES);
        for _ in 0..PURGE_LOOKS {
            let Some(last) = self.last_dirty(0, end) else { return Dirt::Nothing };
            let (stop, floor) = (last + 1, (last + 1).saturating_sub(most));
            let mut start = last;
            while start > floor
                && let Some((block, _)) = self.block_at(start - 1)
                && self.last_dirty(block, start).is_some()
            {
                start = block.max(floor);
            }
            if stop - start >= least {
                self.claim(start, stop - start);
                let dirty = self.units.set_dirty(start, stop - start, false);
                self.dirty -= dirty;
                return Dirt::Stretch { page: start, pages: stop - start, dirty };
            }
            end = start;
        }
        Dirt::Further(end)
    }

    /// Takes the highest stretch below page `end` of free blocks of at least 2^order pages, so much of it
    /// that no more than `most` pages are dirty, of [`PURGE_LOOKS`] blocks at the most. Its pages are clean
    /// from now on, and nobody has cut their units.
    #[unsafe(link_section = ".text_solo")]
    pub fn take_blocks(&mut self, end: usize, order: u32, most: usize) -> Dirt {
        let mut end = end.min(self.units.known() * UNIT_PAGES);
        let mut looks = PURGE_LOOKS;
        while looks > 0 {
            let Some((stop, mut start)) = self.highest_block(end, order) else { return Dirt::Nothing };
            let (mut below, mut dirty) = (start, 0);
            start = stop;
            loop {
                looks = looks.saturating_sub(1);
                let more = self.count_dirty(below, start - below);
                if dirty + more > most {
                    break;
                }
                (dirty, start) = (dirty + more, below);
                match start.checked_sub(1).and_then(|last| self.block_at(last)) {
                    Some((block, o)) if o >= order && looks > 0 => below = block,
                    _ => break,
                }
            }
            if start < stop {
                self.claim(start, stop - start);
                self.dirty -= self.units.set_dirty(start, stop - start, false);
                for unit in start.div_ceil(UNIT_PAGES)..stop / UNIT_PAGES {
                    self.uncut(unit);
                }
                return Dirt::Stretch { page: start, pages: stop - start, dirty };
            }
            end = below;
        }
        Dirt::Further(end)
    }

    /// The highest free block of at least 2^order pages that ends at or below page `end`: its end and its
    /// first page.
    fn highest_block(&mut self, end: usize, order: u32) -> Option<(usize, usize)> {
        let last = end.checked_sub(1)? / UNIT_PAGES;
        let mut mask = u64::MAX >> (63 - last % 64);
        for row in (0..=last / 64).rev() {
            let words = &self.units.at(row * 64).row;
            let of_order = words.iter().flat_map(|orders| &orders[order as usize..]);
            let mut units = of_order.fold(0, |all, units| all | units) & mask;
            while units != 0 {
                let unit = row * 64 + 63 - units.leading_zeros() as usize;
                let mut stop = end.min((unit + 1) * UNIT_PAGES);
                while stop > unit * UNIT_PAGES {
                    match self.block_at(stop - 1) {
                        Some((block, o)) if o >= order => return Some((stop, block)),
                        Some((block, _)) => stop = block,
                        None => stop = (stop - 1) >> order << order,
                    }
                }
                units &= !(1 << (unit % 64));
            }
            mask = u64::MAX;
        }
        None
    }

    /// Dirty pages in [page, page + pages), which lie in one unit.
    fn count_dirty(&mut self, page: usize, pages: usize) -> usize {
        let base = page / UNIT_PAGES * UNIT_PAGES;
        let dirty = &self.units.at(page / UNIT_PAGES).dirty;
        let (from, to) = (page - base, page - base + pages);
        let words = from / 64..to.div_ceil(64);
        words.map(|word| (dirty[word] & bits(word, from, to)).count_ones() as usize).sum()
    }

    /// The highest dirty page in [from, end).
    #[unsafe(link_section = ".text_solo")]
    fn last_dirty(&mut self, from: usize, mut end: usize) -> Option<usize> {
        while end > from {
            let unit = self.last_soiled((end - 1) / UNIT_PAGES)?;
            let base = unit * UNIT_PAGES;
            let is_whole = end >= base + UNIT_PAGES;
            end = end.min(base + UNIT_PAGES);
            let dirty = &self.units.at(unit).dirty;
            for word in (0..(end - base).div_ceil(64)).rev() {
                let left = dirty[word] & bits(word, 0, end - base);
                if left != 0 {
                    let page = base + word * 64 + 63 - left.leading_zeros() as usize;
                    return (page >= from).then_some(page);
                }
            }
            if is_whole {
                self.units.row_of(unit).soiled &= !(1 << (unit % 64));
            }
            end = base;
        }
        None
    }

    /// The highest unit up to `unit` that may hold dirt.
    fn last_soiled(&mut self, unit: usize) -> Option<usize> {
        let mut mask = u64::MAX >> (63 - unit % 64);
        for row in (0..=unit / 64).rev() {
            let left = self.units.at(row * 64).soiled & mask;
            if left != 0 {
                return Some(row * 64 + 63 - left.leading_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }
}
