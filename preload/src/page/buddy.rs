//! The buddy allocator's bookkeeping: which pages are free, in blocks of 2^order pages.
//!
//! A free page is never touched, so nothing is threaded through it. Each unit of 1024 pages
//! has a tree of bits, out of line: node 1 is the whole unit (order 10), node n has the
//! halves 2n and 2n+1, nodes 1024..2047 are the pages. *A bit is set if and only if its node
//! is a free block that is not part of a larger one.* The buddy of node n is n^1, the block
//! above is n/2: coalescing is arithmetic. For each 64 units
//! a row of an index has a word for each order, whose bits say which of them hold such a block. A search
//! takes the smallest order that fits and of these the lowest address, which keeps a heap
//! dense and its top empty.
//!
//! Who cuts a whole unit has it until it is whole again, so that neighbours come back together, as Linux
//! groups pages by mobility: a unit is cut for [`Blocks`](Cut::Blocks), which become slabs and stay as long
//! as one of many blocks or a cache holds on to them, or for [`Runs`](Cut::Runs), which are one large block
//! each, come and go, and find no room between slabs that stay. Either is sought first in units cut for it;
//! then in the other's with a half that is free (or a heap that breathes spreads over more units: 39 MiB for
//! 31 in perl's calls, repeated); then in whole ones; then wherever it fits, before the heap grows. Runs
//! also, of the first 64 units that have what fits, in one of the asking [`Quarter`]'s.
//!
//! A free page is *dirty* if it has been given out since the system last zeroed it. Clean
//! pages are worth knowing: purging them is wasted, and calloc need not clear them, page by page.
//!
//! Pages are numbers here, relative to the window. Protected by the zone's lock.

pub(super) mod dirt;
mod unit;

use unit::{Cut, ORDERS, Units};
pub use unit::{Holds, Place, Unit};

use super::idle::Idle;
use super::quarter::Quarter;
use crate::constants::{GROWTH_ORDERS, MAX_ORDER, UNIT_PAGES};
use core::ops::Range;

/// The order of half a unit.
const HALF: u32 = MAX_ORDER - 1;

/// The allocator's state. All zero: no units.
pub struct Buddy {
    units: Units,
    /// Units up to the last of which pages were added.
    used: usize,
    free: usize,
    dirty: usize,
    /// Clean pages given out since somebody reset this.
    pub fetched_clean: usize,
    /// Of the dirty pages, those that nobody came to use.
    pub idle: Idle,
    blocks: [[u32; ORDERS]; Cut::COUNT],
    first: [[u32; ORDERS]; Cut::COUNT],
}

impl Buddy {
    /// One that knows no units.
    pub const fn new() -> Buddy {
        Buddy {
            units: Units::NONE,
            used: 0,
            free: 0,
            dirty: 0,
            fetched_clean: 0,
            idle: Idle::new(),
            blocks: [[0; ORDERS]; Cut::COUNT],
            first: [[0; ORDERS]; Cut::COUNT],
        }
    }

    /// Tells it of the table of units and how many of them can be used.
    ///
    /// # Safety
    /// `known` units at `units` are writable for ever, were zero at first, and belong to
    /// this `Buddy` alone.
    pub unsafe fn know(&mut self, units: *mut Unit, known: usize) {
        // SAFETY: promised by the caller.
        unsafe { self.units.know(units, known) };
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
        // SAFETY: promised by the caller.
        unsafe { self.units.know(units, known) };
        self.used = known;
    }

    /// Learns from the trees alone what is free, and takes it for dirty: a change was left in the middle, and
    /// whoever made it has nothing any more. A page that was between two blocks then is of neither.
    ///
    /// # Safety
    /// As [`know`](Self::know).
    pub unsafe fn recount(&mut self, units: *mut Unit, known: usize) {
        *self = Buddy::new();
        // SAFETY: promised by the caller.
        unsafe { self.units.know(units, known) };
        self.used = known;
        for unit in 0..known {
            self.units.at(unit).forget_counts();
        }
        for unit in 0..known {
            let tree = self.units.at(unit).take_tree();
            unit::topmost(&tree, |page, order| self.free(unit * UNIT_PAGES + page, 1 << order, true));
        }
    }

    /// Has the halves of free blocks as well as these, and counts that say nothing.
    #[cfg(test)]
    pub fn leave_torn(&mut self) {
        for unit in 0..self.used {
            let unit = self.units.at(unit);
            for node in 1..UNIT_PAGES {
                if unit.has(node) {
                    unit.flip(2 * node + 1);
                }
            }
            unit.blocks = [7; ORDERS];
        }
        self.free = 1;
    }

    /// Pages that are free.
    pub fn free_pages(&self) -> usize {
        self.free
    }

    /// Free pages that are dirty.
    pub fn dirty_pages(&self) -> usize {
        self.dirty
    }

    /// Free pages and dirty ones, as somebody else may be changing them.
    ///
    /// # Safety
    /// `this` stays what it is.
    pub unsafe fn peek(this: *const Buddy) -> (usize, usize) {
        // SAFETY: promised by the caller: aligned words.
        unsafe { ((&raw const (*this).free).read_volatile(), (&raw const (*this).dirty).read_volatile()) }
    }

    /// Where the index has a block of this order in this unit.
    fn cut(&mut self, unit: usize, order: u32) -> Cut {
        let for_runs = order < MAX_ORDER && self.units.row_of(unit).for_runs >> (unit % 64) & 1 != 0;
        if for_runs { Cut::Runs } else { Cut::Blocks }
    }

    #[unsafe(link_section = ".text_start")]
    fn insert(&mut self, unit: usize, node: usize, order: u32) {
        let (cut, o) = (self.cut(unit, order) as usize, order as usize);
        let it = self.units.at(unit);
        it.flip(node);
        it.blocks[o] += 1;
        self.units.row_of(unit).row[cut][o] |= 1 << (unit % 64);
        self.first[cut][o] = self.first[cut][o].min((unit / 64) as u32);
        self.blocks[cut][o] += 1;
        self.free += 1 << order;
    }

    #[unsafe(link_section = ".text_start")]
    fn remove(&mut self, unit: usize, node: usize, order: u32) {
        let (cut, o) = (self.cut(unit, order) as usize, order as usize);
        let it = self.units.at(unit);
        it.flip(node);
        it.blocks[o] -= 1;
        if it.blocks[o] == 0 {
            self.units.row_of(unit).row[cut][o] &= !(1 << (unit % 64));
        }
        self.blocks[cut][o] -= 1;
        self.free -= 1 << order;
    }

    /// Takes the best block of this order for `cut` and `quarter`, dirt as it is.
    #[unsafe(link_section = ".text_start")]
    fn take(&mut self, order: u32, cut: Cut, quarter: Option<Quarter>) -> Option<usize> {
        let (unit, fit) = self
            .choose(order..MAX_ORDER, cut, quarter)
            .or_else(|| self.choose(HALF.max(order)..MAX_ORDER, cut.other(), None))
            .or_else(|| self.choose_whole(cut, quarter))
            .or_else(|| self.choose(order..MAX_ORDER, cut.other(), None))?;
        let mut node = self.units.at(unit).lowest(fit)?;
        self.remove(unit, node, fit);
        for half in (order..fit).rev() {
            node *= 2;
            self.insert(unit, node + 1, half);
        }
        Some(unit * UNIT_PAGES + ((node << order) & (UNIT_PAGES - 1)))
    }

    /// A unit with a block of one of these orders, of those cut for `cut`; and the order, the smallest there
    /// is.
    fn choose(&mut self, orders: Range<u32>, cut: Cut, quarter: Option<Quarter>) -> Option<(usize, u32)> {
        let blocks = &self.blocks[cut as usize];
        let order = { orders }.find(|&o| blocks[o as usize] > 0)?;
        let o = order as usize;
        // `first` is a lower bound; make it exact.
        let mut first = self.first[cut as usize][o] as usize;
        while self.units.at(first * 64).row[cut as usize][o] == 0 {
            first += 1;
        }
        self.first[cut as usize][o] = first as u32;
        let Unit { row, cut_by, .. } = self.units.at(first * 64);
        let all = row[cut as usize][o];
        let own = quarter.map_or(0, |quarter| all & cut_by[quarter.index()]);
        Some((first * 64 + if own != 0 { own } else { all }.trailing_zeros() as usize, order))
    }

    /// A whole unit; `cut` and `quarter` have it now.
    fn choose_whole(&mut self, cut: Cut, quarter: Option<Quarter>) -> Option<(usize, u32)> {
        let (unit, order) = self.choose(MAX_ORDER..MAX_ORDER + 1, Cut::Blocks, None)?;
        self.uncut(unit);
        let bit = 1 << (unit % 64);
        let Unit { for_runs, cut_by, .. } = self.units.row_of(unit);
        if cut == Cut::Runs {
            *for_runs |= bit;
        }
        if let Some(quarter) = quarter {
            cut_by[quarter.index()] |= bit;
        }
        Some((unit, order))
    }

    /// A unit is as if nobody had ever had it.
    fn uncut(&mut self, unit: usize) {
        let bit = 1 << (unit % 64);
        let Unit { for_runs, cut_by, .. } = self.units.row_of(unit);
        *for_runs &= !bit;
        cut_by.iter_mut().for_each(|units| *units &= !bit);
    }

    /// Gives back a block, aligned to its order, dirt as it is.
    fn put(&mut self, page: usize, order: u32) {
        debug_assert!(page.is_multiple_of(1 << order) && self.block_at(page).is_none());
        let unit = page / UNIT_PAGES;
        let mut node = (UNIT_PAGES + page % UNIT_PAGES) >> order;
        let mut order = order;
        while order < MAX_ORDER && self.units.at(unit).has(node ^ 1) {
            self.remove(unit, node ^ 1, order);
            node /= 2;
            order += 1;
        }
        self.insert(unit, node, order);
    }

    /// Gives back any range, as the fewest blocks.
    #[unsafe(link_section = ".text_start")]
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
        if page / UNIT_PAGES >= self.units.known() {
            return None;
        }
        let leaf = UNIT_PAGES + page % UNIT_PAGES;
        let unit = self.units.at(page / UNIT_PAGES);
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
    #[unsafe(link_section = ".text_solo")]
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

    /// New pages: free and clean.
    pub fn add(&mut self, page: usize, pages: usize) {
        let end = (page + pages).div_ceil(UNIT_PAGES);
        for unit in self.used.max(page / UNIT_PAGES)..end {
            // Written before it is read: a page that is read first faults twice.
            // SAFETY: a known unit, in which zero is what is there.
            unsafe { (&raw mut self.units.at(unit).tree[0]).write_volatile(0) };
        }
        self.used = self.used.max(end);
        self.put_range(page, pages);
    }

    /// Gives back pages that were given out; `is_dirty` false only if they are known zero.
    pub fn free(&mut self, page: usize, pages: usize, is_dirty: bool) {
        if is_dirty {
            self.dirty += self.units.set_dirty(page, pages, true);
        }
        self.put_range(page, pages);
    }

    /// Takes a block of 2^order pages.
    pub fn alloc(&mut self, order: u32) -> Option<usize> {
        let page = self.take(order, Cut::Blocks, None)?;
        self.used(page, 1 << order);
        Some(page)
    }

    /// Pages are given out: the dirt is theirs. Returns how many were dirty.
    #[unsafe(link_section = ".text_start")]
    fn used(&mut self, page: usize, pages: usize) -> usize {
        let dirty = self.units.give_out(page, pages);
        self.dirty -= dirty;
        self.idle.fell_to(self.dirty);
        self.fetched_clean += pages - dirty;
        dirty
    }

    /// Takes `pages` pages for `quarter`, the first of which is a multiple of `align` pages counted from
    /// `phase` pages below the window; and what they hold.
    pub fn alloc_run(
        &mut self,
        pages: usize,
        align: usize,
        phase: usize,
        place: Place,
        quarter: Option<Quarter>,
    ) -> Option<(usize, Holds)> {
        let order = pages.max(align).next_power_of_two().trailing_zeros();
        let page = if order <= MAX_ORDER {
            let largest = if place == Place::Roomy { (order + GROWTH_ORDERS).min(MAX_ORDER) } else { order };
            // What is to grow goes where there is room, whichever quarter's unit that is.
            let quarter = quarter.filter(|_| place == Place::Tight);
            let fit = |order| Some((self.take(order, Cut::Runs, quarter)?, order));
            let (page, order) = (order..=largest).rev().find_map(fit)?;
            self.put_range(page + pages, (1 << order) - pages);
            page
        } else {
            let page = self.find(pages, align, phase)?;
            self.claim(page, pages);
            page
        };
        let contents = match self.used(page, pages) {
            0 => Holds::Zeros,
            dirty if dirty < pages => Holds::Mixed,
            _ => Holds::Anything,
        };
        Some((page, contents))
    }

    /// The lowest unit from which on `pages` pages are free.
    fn find(&mut self, pages: usize, align: usize, phase: usize) -> Option<usize> {
        let mut start = 0;
        'next: while start + pages <= self.units.known() * UNIT_PAGES {
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
                if self.whole(unit / 64) >> (unit % 64) & 1 == 0 {
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

    /// Which units of a row are free as a whole.
    fn whole(&mut self, row: usize) -> u64 {
        self.units.at(row * 64).row[Cut::Blocks as usize][MAX_ORDER as usize]
    }

    /// The first unit from `unit` on that is free as a whole.
    fn next_free_unit(&mut self, unit: usize) -> Option<usize> {
        let mut from = unit % 64;
        for row in unit / 64..self.units.known().div_ceil(64) {
            let left = self.whole(row) >> from << from;
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
}
