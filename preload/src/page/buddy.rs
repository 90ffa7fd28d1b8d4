//! The buddy allocator's bookkeeping: which pages are free, in blocks of 2^order pages.
//!
//! A free page is never touched, so nothing is threaded through it. Each unit of 1024 pages
//! has a tree of bits, out of line: node 1 is the whole unit (order 10), node n has the
//! halves 2n and 2n+1, nodes 1024..2047 are the pages. *A bit is set if and only if its node
//! is a free block that is not part of a larger one.* The buddy of node n is n^1, the block
//! above is n/2: coalescing is arithmetic. For each 64 units
//! a row of an index has a word for each order, whose bits say which of them hold such a block. A search
//! takes the smallest order that fits and of these the lowest address, which keeps a heap
//! dense and its top empty; but before that, of the first 64 units with such a block, one of the asking
//! [`Quarter`]'s: who cut a whole unit has it until it is whole again.
//!
//! A free page is *dirty* if it has been given out since the system last zeroed it. Clean
//! pages are worth knowing: purging them is wasted, and calloc need not clear them.
//!
//! Pages are numbers here, relative to the window. Protected by the zone's lock.

use super::idle::Idle;
use super::quarter::Quarter;
use crate::constants::{MAX_ORDER, MAX_UNITS, UNIT_PAGES};

const ORDERS: usize = MAX_ORDER as usize + 1;

/// Orders a block may be larger than a run that is to grow (tune): with two, what doubles in turn with others grows
/// in place four times in five and is 1.8 times as fast, with one and with three 1.1 and 1.4 times.
const ROOM: u32 = 2;

/// Where a run is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the smallest free block that holds it.
    Tight,
    /// Where up to three times as much is free behind it, if there is such a place: it is about to grow. Nothing is kept
    /// for it there, but others that are to grow begin elsewhere.
    Roomy,
}

/// What is known of one unit. All zero: no page of it is free.
#[repr(C, align(64))]
pub struct Unit {
    tree: [u64; 32],
    dirty: [u64; 16],
    blocks: [u16; ORDERS],
    /// In each 64th unit: the row of the index for it and the next 63.
    row: [u64; ORDERS],
    /// Beside it: which of them may hold dirt. A clear bit is certain, a set one may be old.
    soiled: u64,
    /// And which of them each quarter has cut.
    cut_by: [u64; Quarter::COUNT],
}

impl Unit {
    fn has(&self, node: usize) -> bool {
        self.tree[node / 64] >> (node % 64) & 1 != 0
    }

    fn flip(&mut self, node: usize) {
        self.tree[node / 64] ^= 1 << (node % 64);
    }

    /// The lowest free block of this order.
    fn lowest(&self, order: u32) -> Option<usize> {
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

/// The bits of word `word` of a page bitmap that lie in [from, to).
fn bits(word: usize, from: usize, to: usize) -> u64 {
    let low = from.max(word * 64) - word * 64;
    let high = to.min(word * 64 + 64) - word * 64;
    if high <= low { 0 } else { (u64::MAX >> (64 - (high - low))) << low }
}

/// The allocator's state. All zero: no units.
pub struct Buddy {
    units: *mut Unit,
    known: usize,
    free: usize,
    dirty: usize,
    /// Clean pages given out since somebody reset this.
    pub fetched_clean: usize,
    /// Of the dirty pages, those that nobody came to use.
    pub idle: Idle,
    blocks: [u32; ORDERS],
    first: [u32; ORDERS],
}

// SAFETY: the pointer is to the window's table of units, which belongs to this alone.
unsafe impl Send for Buddy {}

impl Buddy {
    /// One that knows no units.
    pub const fn new() -> Buddy {
        Buddy {
            units: core::ptr::null_mut(),
            known: 0,
            free: 0,
            dirty: 0,
            fetched_clean: 0,
            idle: Idle::new(),
            blocks: [0; ORDERS],
            first: [0; ORDERS],
        }
    }

    /// Tells it of the table of units and how many of them can be used.
    ///
    /// # Safety
    /// `known` units at `units` are writable for ever, were zero at first, and belong to
    /// this `Buddy` alone.
    pub unsafe fn know(&mut self, units: *mut Unit, known: usize) {
        debug_assert!(known <= MAX_UNITS && (self.units.is_null() || self.units == units));
        self.units = units;
        while self.known < known {
            // Written before it is read: a page that is read first faults twice.
            // SAFETY: promised above; zero is what is there.
            unsafe { (&raw mut (*units.add(self.known)).tree[0]).write_volatile(0) };
            self.known += 1;
        }
    }

    /// Makes every page of the `known` units at `units` one that is not free.
    ///
    /// # Safety
    /// As [`know`](Self::know).
    pub unsafe fn forget_free(&mut self, units: *mut Unit, known: usize) {
        *self = Buddy::new();
        if known > 0 {
            // SAFETY: promised by the caller; zero bytes are a unit without free pages.
            unsafe { units.write_bytes(0, known) };
        }
        (self.units, self.known) = (units, known);
    }

    fn row(&mut self, row: usize) -> &mut [u64; ORDERS] {
        &mut self.unit(row * 64).row
    }

    /// Pages that are free.
    pub fn free_pages(&self) -> usize {
        self.free
    }

    /// Free pages that are dirty.
    pub fn dirty_pages(&self) -> usize {
        self.dirty
    }

    fn unit(&mut self, unit: usize) -> &mut Unit {
        assert!(unit < self.known, "a page of no unit");
        // SAFETY: promised in `know`; exclusive because self is.
        unsafe { &mut *self.units.add(unit) }
    }

    fn insert(&mut self, unit: usize, node: usize, order: u32) {
        let o = order as usize;
        let it = self.unit(unit);
        it.flip(node);
        it.blocks[o] += 1;
        self.row(unit / 64)[o] |= 1 << (unit % 64);
        self.first[o] = self.first[o].min((unit / 64) as u32);
        self.blocks[o] += 1;
        self.free += 1 << order;
    }

    fn remove(&mut self, unit: usize, node: usize, order: u32) {
        let o = order as usize;
        let it = self.unit(unit);
        it.flip(node);
        it.blocks[o] -= 1;
        if it.blocks[o] == 0 {
            self.row(unit / 64)[o] &= !(1 << (unit % 64));
        }
        self.blocks[o] -= 1;
        self.free -= 1 << order;
    }

    /// Takes the best block of this order for `quarter`, dirt as it is.
    fn take(&mut self, order: u32, quarter: Option<Quarter>) -> Option<usize> {
        let fit = (order..=MAX_ORDER).find(|&o| self.blocks[o as usize] > 0)?;
        let o = fit as usize;
        // `first` is a lower bound; make it exact.
        while self.row(self.first[o] as usize)[o] == 0 {
            self.first[o] += 1;
        }
        let row = self.first[o] as usize;
        let unit = row * 64 + self.choose(row, o, quarter);
        let mut node = self.unit(unit).lowest(fit)?;
        self.remove(unit, node, fit);
        for half in (order..fit).rev() {
            node *= 2;
            self.insert(unit, node + 1, half);
        }
        Some(unit * UNIT_PAGES + ((node << order) & (UNIT_PAGES - 1)))
    }

    /// Which of the units of a row, some of which hold a block of order `o`, is to give one.
    fn choose(&mut self, row: usize, o: usize, quarter: Option<Quarter>) -> usize {
        let Unit { row, cut_by, .. } = self.unit(row * 64);
        let own = quarter.map_or(0, |quarter| row[o] & cut_by[quarter.index()]);
        let unit = if own != 0 { own } else { row[o] }.trailing_zeros() as usize;
        if o == MAX_ORDER as usize {
            cut_by.iter_mut().for_each(|units| *units &= !(1 << unit));
            if let Some(quarter) = quarter {
                cut_by[quarter.index()] |= 1 << unit;
            }
        }
        unit
    }

    /// Gives back a block, aligned to its order, dirt as it is.
    fn put(&mut self, page: usize, order: u32) {
        debug_assert!(page.is_multiple_of(1 << order) && self.block_at(page).is_none());
        let unit = page / UNIT_PAGES;
        let mut node = (UNIT_PAGES + page % UNIT_PAGES) >> order;
        let mut order = order;
        while order < MAX_ORDER && self.unit(unit).has(node ^ 1) {
            self.remove(unit, node ^ 1, order);
            node /= 2;
            order += 1;
        }
        self.insert(unit, node, order);
    }

    /// Gives back any range, as the fewest blocks.
    fn put_range(&mut self, mut page: usize, mut pages: usize) {
        while pages > 0 {
            let order = page.trailing_zeros().min(pages.ilog2()).min(MAX_ORDER);
            self.put(page, order);
            page += 1 << order;
            pages -= 1 << order;
        }
    }

    /// The free block that a page is part of: its first page and order.
    fn block_at(&mut self, page: usize) -> Option<(usize, u32)> {
        if page / UNIT_PAGES >= self.known {
            return None;
        }
        let leaf = UNIT_PAGES + page % UNIT_PAGES;
        let unit = self.unit(page / UNIT_PAGES);
        let order = (0..=MAX_ORDER).find(|&o| unit.has(leaf >> o))?;
        Some((page >> order << order, order))
    }

    /// Whether all of a range is free.
    pub fn is_free(&mut self, mut page: usize, pages: usize) -> bool {
        let end = page + pages;
        while page < end {
            match self.block_at(page) {
                Some((start, order)) => page = start + (1 << order),
                None => return false,
            }
        }
        true
    }

    /// Takes exactly a range that is all free.
    fn claim(&mut self, page: usize, pages: usize) {
        let (mut at, end) = (page, page + pages);
        while at < end {
            let Some((start, order)) = self.block_at(at) else {
                debug_assert!(false, "claimed a page that is not free");
                return;
            };
            let stop = start + (1 << order);
            let node = (UNIT_PAGES + start % UNIT_PAGES) >> order;
            self.remove(start / UNIT_PAGES, node, order);
            self.put_range(start, at - start);
            self.put_range(end.min(stop), stop - end.min(stop));
            at = stop;
        }
    }

    /// Makes the pages of a range dirty or clean; returns how many were not so before.
    fn dirt(&mut self, page: usize, pages: usize, is_dirty: bool) -> usize {
        let (mut at, end) = (page, page + pages);
        let mut changed = 0;
        while at < end {
            let base = at / UNIT_PAGES * UNIT_PAGES;
            let stop = end.min(base + UNIT_PAGES);
            let unit = self.unit(at / UNIT_PAGES);
            for word in (at - base) / 64..(stop - base).div_ceil(64) {
                let mask = bits(word, at - base, stop - base);
                let old = unit.dirty[word];
                let new = if is_dirty { old | mask } else { old & !mask };
                unit.dirty[word] = new;
                changed += (old ^ new).count_ones() as usize;
            }
            at = stop;
        }
        if is_dirty {
            for unit in page / UNIT_PAGES..end.div_ceil(UNIT_PAGES) {
                self.unit(unit / 64 * 64).soiled |= 1 << (unit % 64);
            }
            self.dirty += changed;
        } else {
            self.dirty -= changed;
        }
        changed
    }

    /// New pages: free and clean.
    pub fn add(&mut self, page: usize, pages: usize) {
        self.put_range(page, pages);
    }

    /// Gives back pages that were given out; `is_dirty` false only if they are known zero.
    pub fn free(&mut self, page: usize, pages: usize, is_dirty: bool) {
        if is_dirty {
            self.dirt(page, pages, true);
        }
        self.put_range(page, pages);
    }

    /// Takes a block of 2^order pages.
    pub fn alloc(&mut self, order: u32) -> Option<usize> {
        let page = self.take(order, None)?;
        self.used(page, 1 << order);
        Some(page)
    }

    /// Pages are given out: the dirt is theirs. Returns how many were dirty.
    fn used(&mut self, page: usize, pages: usize) -> usize {
        let dirty = self.dirt(page, pages, false);
        self.idle.fell_to(self.dirty);
        self.fetched_clean += pages - dirty;
        dirty
    }

    /// Takes `pages` pages for `quarter`, the first of which is a multiple of `align` pages counted from
    /// `phase` pages below the window; and whether all were clean.
    pub fn alloc_run(
        &mut self,
        pages: usize,
        align: usize,
        phase: usize,
        place: Place,
        quarter: Option<Quarter>,
    ) -> Option<(usize, bool)> {
        let order = pages.max(align).next_power_of_two().trailing_zeros();
        let page = if order <= MAX_ORDER {
            let largest = if place == Place::Roomy { (order + ROOM).min(MAX_ORDER) } else { order };
            // What is to grow goes where there is room, whoever's unit that is.
            let quarter = quarter.filter(|_| place == Place::Tight);
            let fit = |order| Some((self.take(order, quarter)?, order));
            let (page, order) = (order..=largest).rev().find_map(fit)?;
            self.put_range(page + pages, (1 << order) - pages);
            page
        } else {
            let page = self.find(pages, align, phase)?;
            self.claim(page, pages);
            page
        };
        Some((page, self.used(page, pages) == 0))
    }

    /// The lowest unit from which on `pages` pages are free.
    fn find(&mut self, pages: usize, align: usize, phase: usize) -> Option<usize> {
        let mut start = 0;
        'next: while start + pages <= self.known * UNIT_PAGES {
            // A large heap has thousands of units, most of them in use.
            if pages >= UNIT_PAGES {
                let free = self.next_free_unit(start / UNIT_PAGES)? * UNIT_PAGES;
                if free != start {
                    start = free;
                    continue;
                }
            }
            if !(phase + start).is_multiple_of(align) {
                start += UNIT_PAGES;
                continue;
            }
            let last = start + pages / UNIT_PAGES * UNIT_PAGES;
            for unit in start / UNIT_PAGES..last / UNIT_PAGES {
                if self.row(unit / 64)[MAX_ORDER as usize] >> (unit % 64) & 1 == 0 {
                    start = (unit + 1) * UNIT_PAGES;
                    continue 'next;
                }
            }
            if self.is_free(last, pages % UNIT_PAGES) {
                return Some(start);
            }
            start = last + UNIT_PAGES; // no run can contain that unit
        }
        None
    }

    /// The first unit from `unit` on that is free as a whole.
    fn next_free_unit(&mut self, unit: usize) -> Option<usize> {
        let mut from = unit % 64;
        for row in unit / 64..self.known.div_ceil(64) {
            let left = self.row(row)[MAX_ORDER as usize] >> from << from;
            if left != 0 {
                return Some(row * 64 + left.trailing_zeros() as usize);
            }
            from = 0;
        }
        None
    }

    /// Takes exactly these pages if all are free.
    pub fn alloc_at(&mut self, page: usize, pages: usize) -> bool {
        let is_free = self.is_free(page, pages);
        if is_free {
            self.claim(page, pages);
            self.used(page, pages);
        }
        is_free
    }

    /// Where a block of this order should begin if the window grows from `end`: at the last
    /// boundary below it if all from there on is free, else at the next.
    pub fn tail_block(&mut self, end: usize, order: u32) -> usize {
        let start = end >> order << order;
        if self.is_free(start, end - start) { start } else { start + (1 << order) }
    }

    /// The same for a run that begins on a unit: as far down as all units are free.
    pub fn tail_units(&mut self, end: usize) -> usize {
        let mut start = self.tail_block(end, MAX_ORDER);
        while start > 0 && start <= end && self.is_free(start - UNIT_PAGES, UNIT_PAGES) {
            start -= UNIT_PAGES;
        }
        start
    }

    /// Takes the highest free stretch below page `end` that holds dirt, of at least `least` pages
    /// and about `most` at the most; it counts as clean from now on: give it back with `free`, dirty if
    /// it could not be purged. Returns its first page, its length and how many of its pages were
    /// dirty. The highest, for the lowest are the next to be given out.
    pub fn take_dirty(&mut self, end: usize, least: usize, most: usize) -> Option<(usize, usize, usize)> {
        let mut end = end.min(self.known * UNIT_PAGES);
        while let Some(last) = self.last_dirty(0, end) {
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
                let dirty = self.dirt(start, stop - start, false);
                return Some((start, stop - start, dirty));
            }
            end = start;
        }
        None
    }

    /// The highest dirty page in [from, end).
    fn last_dirty(&mut self, from: usize, mut end: usize) -> Option<usize> {
        while end > from {
            let unit = self.last_soiled((end - 1) / UNIT_PAGES)?;
            let base = unit * UNIT_PAGES;
            let is_whole = end >= base + UNIT_PAGES;
            end = end.min(base + UNIT_PAGES);
            let dirty = &self.unit(unit).dirty;
            for word in (0..(end - base).div_ceil(64)).rev() {
                let left = dirty[word] & bits(word, 0, end - base);
                if left != 0 {
                    let page = base + word * 64 + 63 - left.leading_zeros() as usize;
                    return (page >= from).then_some(page);
                }
            }
            if is_whole {
                self.unit(unit / 64 * 64).soiled &= !(1 << (unit % 64));
            }
            end = base;
        }
        None
    }

    /// The highest unit up to `unit` that may hold dirt.
    fn last_soiled(&mut self, unit: usize) -> Option<usize> {
        let mut mask = u64::MAX >> (63 - unit % 64);
        for row in (0..=unit / 64).rev() {
            let left = self.unit(row * 64).soiled & mask;
            if left != 0 {
                return Some(row * 64 + 63 - left.leading_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }
}
