//! The window: the one range of addresses in which all heap memory lies, and its side tables.
//!
//! "Is this ours?" is then one subtraction and one comparison, and "what is it?" one indexed
//! load. Nothing is reserved: the window and its tables are numbers, a place far from where the kernel or
//! anybody else maps, and pieces are mapped there as they are needed. So limits on address space, data,
//! locked memory and commit count what the heap has, and the kernel is asked anew with each piece.
//!
//! *Ground* is what is mapped. It grows at the *frontier*, in steps that start at 256 KiB and double to 4
//! MiB, and in [holes](super::holes), which is what was given back below it; ground given back at the
//! frontier lets the frontier come down again. If somebody else's mapping is in the way it is stepped over:
//! its words stay Unknown, as for any address that was never the heap's.
//!
//! What readers go by is the *horizon*, the highest that the frontier ever was: everything below has a
//! memdesc word that can be read, whether it is ground now or not, everything above does not exist. It never
//! moves back.
//!
//! ```text
//!   side:  memdesc (8 B a page) | holes, units (a Unit each 4 MiB) | marks 4..=14 | pad | BASE: window
//! ```
//! Each side table is mapped from its start to its own high-water mark; marks when a slab needs them.
//!
//! How everybody reads it is in `bounds.rs`; `Window` itself is part of the zone and protected by its lock.
//! Any mapping call may fail: then the state is as before, but for side tables that may have grown, and the
//! call can be made again.

use core::sync::atomic::Ordering::{Relaxed, Release};
use core::sync::atomic::{AtomicU64, AtomicUsize};

use super::bounds::{self, LINE, MARK_ORIGIN};
use super::buddy::Unit;
use super::holes::{Hole, Holes};
use super::memdesc::Kind;
use super::side::Side;
use crate::constants::{
    FIRST_STEP, GOLDEN, LAST_STEP, MARK_SHIFTS, PAGE, PAGE_SHIFT, PLACE_TRIES, PLACES, PLACES_LOW, UNIT,
};
use crate::os::limits;
use crate::os::map::{self, Placed};

/// How many places for a window have been tried.
static PLACES_TRIED: AtomicUsize = AtomicUsize::new(0);

const MARKS: usize = *MARK_SHIFTS.end() as usize - *MARK_SHIFTS.start() as usize + 1;

/// What came of growing.
pub(super) enum Grown {
    /// These window pages are new: index of the first, and how many.
    Pages(usize, usize),
    /// Somebody else's mapping has been stepped over; try again.
    Skipped,
    /// No memory, or the window is full.
    Refused,
}

/// How far a window goes, in bytes, for figures.
pub(super) struct Extent {
    /// Up to the end of the ground.
    pub frontier: usize,
    /// Of that, somebody else's ...
    pub foreign: usize,
    /// ... and holes.
    pub hole_bytes: usize,
}

/// A window. All zero is one that is not open.
pub(super) struct Window {
    base: usize,
    size: usize,
    frontier: usize,
    horizon: usize,
    foreign: usize,
    step: usize,
    stride: usize,
    /// From where to where ground is being asked for, or was when a handler jumped out of that; else nowhere.
    asked: (usize, usize),
    memdesc: Side,
    units: Side,
    holes: Holes,
    marks: [Side; MARKS],
}

impl Window {
    /// A window that is not open.
    pub const fn new() -> Window {
        Window {
            base: 0,
            size: 0,
            frontier: 0,
            horizon: 0,
            foreign: 0,
            step: 0,
            stride: 0,
            asked: (0, 0),
            memdesc: Side::NONE,
            units: Side::NONE,
            holes: Holes::NONE,
            marks: [Side::NONE; MARKS],
        }
    }

    /// Whether it has been opened.
    pub fn is_open(&self) -> bool {
        self.base != 0
    }

    /// Address of the window.
    pub fn base(&self) -> usize {
        self.base
    }

    /// Bytes it may grow to.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes up to the end of the ground.
    pub fn frontier(&self) -> usize {
        self.frontier
    }

    /// Bytes that have words, and units.
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    /// Bytes below the frontier that are somebody else's.
    #[cfg(test)]
    pub fn foreign(&self) -> usize {
        self.foreign
    }

    /// Bytes of ground.
    pub fn ground(&self) -> usize {
        self.frontier - self.foreign - self.holes.pages() * PAGE
    }

    /// Its extent, as somebody else may be changing it.
    ///
    /// # Safety
    /// `this` stays a window.
    pub unsafe fn peek(this: *const Window) -> Extent {
        // SAFETY: promised by the caller: aligned words.
        unsafe {
            Extent {
                frontier: (&raw const (*this).frontier).read_volatile(),
                foreign: (&raw const (*this).foreign).read_volatile(),
                hole_bytes: Holes::peek_pages(&raw const (*this).holes) * PAGE,
            }
        }
    }

    /// The holes below the frontier, lowest first.
    pub fn holes(&self) -> &[Hole] {
        self.holes.all()
    }

    /// The table of units; as many are usable as the horizon has begun.
    pub fn units(&self) -> *mut Unit {
        (self.units.base() + Holes::BYTES) as *mut Unit
    }

    /// Chooses a place for one of `size` bytes, a multiple of the unit. False if there is no memory now.
    pub fn open(&mut self, size: usize) -> bool {
        let seed = limits::random_seed();
        for _ in 0..PLACE_TRIES {
            // The golden ratio's multiples are spread evenly (Knuth, multiplicative hashing),
            // so no try meets an earlier one. Relaxed: any number that is new will do.
            let turn = PLACES_TRIED.fetch_add(1, Relaxed) as u64;
            let place = seed.wrapping_add(turn.wrapping_mul(GOLDEN)) >> 32;
            let at = PLACES_LOW + place as usize % PLACES * UNIT;
            let side = self.lay_out(at, size);
            // The first piece of each table that the first page needs.
            if self.memdesc.ensure(PAGE) {
                if self.units.ensure(Holes::BYTES + PAGE) {
                    // SAFETY: mapped just now, ours, never taken away, and in front of the units.
                    self.holes = unsafe { Holes::at(self.units.base()) };
                    self.base = (at + side).next_multiple_of(UNIT);
                    return true;
                }
                // SAFETY: mapped just now, and nobody knows of it.
                unsafe { map::unmap(self.memdesc.base(), self.memdesc.mapped()) };
            }
        }
        false
    }

    /// Places the side tables from `at` on; returns their bytes in all.
    fn lay_out(&mut self, at: usize, size: usize) -> usize {
        self.size = size;
        let mut end = at;
        let mut side = |bytes: usize| {
            let table = Side::new(end, bytes);
            end = table.end();
            table
        };
        self.memdesc = side((size >> PAGE_SHIFT) * 8);
        self.units = side(Holes::BYTES + size / UNIT * size_of::<Unit>());
        for (k, mark) in MARK_SHIFTS.zip(&mut self.marks) {
            *mark = side(size >> k);
        }
        end - at
    }

    /// Moves the frontier to at least `want` bytes, in one piece or not at all.
    pub fn grow_to(&mut self, want: usize) -> Grown {
        if !self.is_open() || want > self.size || want <= self.frontier {
            return Grown::Refused;
        }
        let step = self.step.max(FIRST_STEP);
        let wish = want.next_multiple_of(FIRST_STEP).max(self.frontier + step).min(self.size);
        let begin = self.frontier;
        match self.map_ground(begin, want, wish) {
            Ok(end) => {
                self.advance(end);
                self.pages(begin, end)
            }
            Err(Placed::Occupied) => {
                let end = self.past(begin, self.size);
                if !self.describe(end) {
                    return Grown::Refused;
                }
                self.disown(begin, end);
                self.advance(end);
                Grown::Skipped
            }
            Err(_) => Grown::Refused,
        }
    }

    /// Makes ground of hole number `hole` up to at least `want` bytes, in one piece or not at all.
    pub fn fill(&mut self, hole: usize, want: usize) -> Grown {
        let Hole { first, end: last } = self.holes.all()[hole];
        let (begin, last) = (first * PAGE, last * PAGE);
        let step = self.step.max(FIRST_STEP);
        let wish = want.next_multiple_of(FIRST_STEP).max(begin + step).min(last);
        match self.map_ground(begin, want, wish) {
            Ok(end) => {
                self.holes.shrink(hole, end >> PAGE_SHIFT);
                self.pages(begin, end)
            }
            Err(Placed::Occupied) => {
                let end = self.past(begin, last);
                self.disown(begin, end);
                self.holes.shrink(hole, end >> PAGE_SHIFT);
                Grown::Skipped
            }
            Err(_) => Grown::Refused,
        }
    }

    /// Maps [begin, wish) or, if that is not to be had, [begin, want) or what is left of the first unit, and
    /// what describes it. Where the new ground ends.
    #[unsafe(link_section = ".text_start")]
    fn map_ground(&mut self, begin: usize, want: usize, wish: usize) -> Result<usize, Placed> {
        let mut placed = Placed::Refused;
        let before = if self.asked.0 == begin { self.asked.1 } else { 0 };
        let unit_end = (begin + 1).next_multiple_of(UNIT);
        for (end, after) in [(wish, placed), (want, Placed::Refused), (unit_end.min(want), Placed::Occupied)]
        {
            if placed == after && self.describe(end) {
                // SAFETY: our own words. Volatile: a handler may jump out of the call.
                unsafe { (&raw mut self.asked).write_volatile((begin, before.max(end))) };
                placed = map::map_at(self.base + begin, end - begin);
            }
            if placed == Placed::Done {
                self.asked = (0, 0);
                (self.step, self.stride) = ((self.step.max(FIRST_STEP) * 2).min(LAST_STEP), 0);
                return Ok(end);
            }
        }
        self.asked = (begin, before);
        if placed == Placed::Refused {
            // Near a limit, what one step takes is what others miss.
            self.step = FIRST_STEP;
        }
        Err(placed)
    }

    fn advance(&mut self, end: usize) {
        self.frontier = end;
        self.horizon = self.horizon.max(end);
    }

    fn pages(&self, begin: usize, end: usize) -> Grown {
        Grown::Pages(begin >> PAGE_SHIFT, (end - begin) >> PAGE_SHIFT)
    }

    /// Where to try next, up to `last`, if something is mapped behind `begin`: each time in a row twice as
    /// far, so that a large mapping costs few tries. What we have mapped there ourselves, before a handler
    /// jumped out, ends where it was to end: handlers that jump out again and again must not use the window
    /// up.
    fn past(&mut self, begin: usize, last: usize) -> usize {
        if self.asked.1 > begin {
            return self.asked.1.min(last);
        }
        let end = ((begin + 1).next_multiple_of(UNIT) + self.stride).min(last);
        self.stride = (self.stride * 2).max(UNIT);
        end
    }

    /// [begin, end) is somebody else's. What was said of it when it was ground is not true any more.
    #[cold]
    fn disown(&mut self, begin: usize, end: usize) {
        self.foreign += end - begin;
        for page in begin >> PAGE_SHIFT..end.min(self.horizon) >> PAGE_SHIFT {
            let word = self.word(page);
            // Relaxed: the zone's lock is held. What was never written to stays so, and without memory.
            if word.load(Relaxed) != Kind::Unknown as u64 {
                word.store(Kind::Unknown as u64, Relaxed);
            }
        }
    }

    /// Whether one stretch of ground more can be left than those `others` that are on their way.
    pub fn can_leave(&self, others: usize) -> bool {
        self.holes.have_room(others + 1)
    }

    /// `pages` pages from `page` on, which were ground, are nobody's mapping any more. Only after
    /// [`can_leave`](Self::can_leave).
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn leave(&mut self, page: usize, pages: usize) {
        if (page + pages) * PAGE == self.frontier {
            self.frontier = self.holes.pop_at(page).unwrap_or(page) * PAGE;
        } else {
            self.holes.insert(page, page + pages);
        }
    }

    /// Holes belong to nobody from now on.
    pub fn forget_holes(&mut self) {
        self.foreign += self.holes.pages() * PAGE;
        self.holes.forget();
    }

    /// The word of window page `page`, which must be described.
    pub fn word(&self, page: usize) -> &AtomicU64 {
        debug_assert!((page + 1) * 8 <= self.memdesc.mapped());
        // SAFETY: mapped, never taken away, and all access is atomic.
        unsafe { &*(self.memdesc.base() as *const AtomicU64).add(page) }
    }

    /// Makes the mark bytes for [addr, addr+len) writable.
    pub fn ensure_marks(&mut self, k: u32, addr: usize, len: usize) -> bool {
        let map = k.checked_sub(*MARK_SHIFTS.start()).map(|i| i as usize);
        let Some(mark) = map.and_then(|i| self.marks.get_mut(i)) else {
            return false;
        };
        mark.ensure((addr + len - self.base).div_ceil(1 << k))
    }

    /// Makes this the process's window, and its extent everybody's.
    pub fn publish(&self) {
        if bounds::base() != self.base {
            for (k, mark) in MARK_SHIFTS.zip(&self.marks) {
                let origin = mark.base().wrapping_sub(self.base >> k);
                MARK_ORIGIN[k as usize].store(origin, Relaxed);
            }
            LINE.memdesc.store(self.memdesc.base(), Relaxed);
            // Release: the table's address before the base.
            LINE.base.store(self.base, Release);
        }
        // Release: pairs with the Acquire in `bounds::horizon`; base and table first.
        LINE.horizon.store(self.horizon, Release);
    }

    /// Maps what describes the window up to `end`.
    fn describe(&mut self, end: usize) -> bool {
        let units = Holes::BYTES + end.div_ceil(UNIT) * size_of::<Unit>();
        self.memdesc.ensure(end >> PAGE_SHIFT << 3) && self.units.ensure(units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_that_jump_out_do_not_use_it_up() {
        crate::own_process::in_own_process!();
        const PIECE: usize = 1 << 20;
        let mut window = Window::new();
        assert!(window.open(4 << 30));
        for _ in 0..30 {
            // As a handler leaves it that jumps out when the kernel has mapped a piece.
            let begin = window.frontier();
            window.asked = (begin, begin + PIECE);
            assert_eq!(map::map_at(window.base() + begin, PIECE), Placed::Done);
            assert!(matches!(window.grow_to(begin + PAGE), Grown::Skipped));
            assert_eq!(window.frontier(), begin + PIECE);
        }
        let begin = window.frontier();
        assert!(matches!(window.grow_to(begin + PAGE), Grown::Pages(page, _) if page == begin >> PAGE_SHIFT));
        assert_eq!(window.foreign(), 30 * PIECE);
    }
}
