//! The window: the one range of addresses in which all heap memory lies, and its side tables.
//!
//! "Is this ours?" is then one subtraction and one comparison, and "what is it?" one indexed
//! load. The window grows linearly: everything below the *frontier* has a memdesc word that
//! can be read, everything above does not exist yet. The frontier never moves back.
//!
//! There are two ways to have a window:
//! - *reserved*: 128 GiB (or less, where that is refused) of PROT_NONE, side tables included,
//!   committed in steps that start at 256 KiB and double to 4 MiB;
//! - *lazy*: under a limit on address space, or where every reservation is refused, the
//!   range is only a number. Pieces are mapped at their place as they are needed. If another
//!   mapping is in the way, the rest of that unit is skipped and marked Foreign.
//!
//! ```text
//!   side:  memdesc (8 B a page) | units (a Unit each 4 MiB) | marks 4..=14 | pad | BASE: window
//! ```
//! Each side table is committed from its start to its own high-water mark: marks when a slab needs
//! them or, in a lazy window, with the pages they are for.
//!
//! [`LINE`] and the mark origins are the process's window as everybody reads it; `Window` itself
//! is part of the zone and protected by its lock. Any mapping call may fail: then the state
//! is as before, but for side tables that may have grown, and the call can be made again.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU64, AtomicUsize};

use super::buddy::Unit;
use super::memdesc::Kind;
use super::side::Side;
use crate::constants::{
    FIRST_STEP, LAST_STEP, LAZY_LOW, LAZY_PLACES, LAZY_STEP, LAZY_TRIES, MARK_SHIFTS, PAGE, PAGE_SHIFT, UNIT,
    WINDOW_SIZES,
};
use crate::os::limits;
use crate::os::map::{self, Placed};

/// What the fast path of `free` reads, in one cache line that is written only on growth.
#[repr(C, align(64))]
pub struct Line {
    /// Address of the window. Before there is one, a value that makes every address minus it
    /// huge.
    pub base: AtomicUsize,
    /// Bytes of the window whose memdesc words can be read.
    pub frontier: AtomicUsize,
    /// Address of the memdesc table: the word of window page i is at memdesc + 8 i.
    pub memdesc: AtomicUsize,
}

/// The process's window.
#[unsafe(link_section = ".data")]
pub static LINE: Line =
    Line { base: AtomicUsize::new(1 << 63), frontier: AtomicUsize::new(0), memdesc: AtomicUsize::new(0) };

/// For each k, where mark map k would begin if the window began at address 0.
#[unsafe(link_section = ".data")]
static MARK_ORIGIN: [AtomicUsize; 16] = [const { AtomicUsize::new(0) }; 16];

/// How many places for a lazy window have been tried.
static PLACES_TRIED: AtomicUsize = AtomicUsize::new(0);

/// Address of the window (1 << 63 while there is none).
#[inline(always)]
pub fn base() -> usize {
    // Relaxed: written once, before the first block is given out.
    LINE.base.load(Relaxed)
}

/// Bytes of the window that exist.
#[inline(always)]
pub fn frontier() -> usize {
    // Acquire: pairs with the Release in `Window::publish`; memdesc and base are seen too.
    LINE.frontier.load(Acquire)
}

/// Whether `addr` lies in the part of the window that exists.
#[inline(always)]
pub fn contains(addr: usize) -> bool {
    let frontier = frontier(); // first, so that its Acquire orders the load of the base
    addr.wrapping_sub(base()) < frontier
}

/// The mark byte of the block at p, a block of at least 2^k bytes, is at
/// `mark_origin(k) + (p >> k)`. 0 while there is no window.
#[inline(always)]
pub fn mark_origin(k: u32) -> usize {
    // Relaxed: written once, before the first block is given out.
    MARK_ORIGIN[k as usize].load(Relaxed)
}

/// Makes sure the mark bytes of [addr, addr+len), part of the window, can be written. They
/// are zero at first. False if there is no memory for them.
pub fn ensure_marks(k: u32, addr: usize, len: usize) -> bool {
    super::zone::ensure_marks(k, addr, len)
}

/// Calls `visit` with the descriptor and the first page's address of every aligned 64 KiB all of
/// whose pages say that they are one slab of the class with this slot.
pub fn for_each_slab(slot: u16, mut visit: impl FnMut(usize, usize)) {
    const PAGES: usize = 16;
    let (base, pages) = (base(), frontier() >> PAGE_SHIFT);
    let word = |page: usize| super::memdesc::of(base + page * PAGE);
    for first in (0..pages).step_by(PAGES) {
        let found = word(first);
        if found.kind() == Kind::Slab
            && found.slot() == slot
            && (first..first + PAGES).all(|page| word(page) == found)
        {
            visit(found.descriptor(), base + first * PAGE);
        }
    }
}

const MARKS: usize = *MARK_SHIFTS.end() as usize - *MARK_SHIFTS.start() as usize + 1;

/// How a window shall be opened.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Do not reserve.
    pub is_lazy: bool,
    /// Largest window in bytes, a multiple of the unit.
    pub largest: usize,
}

impl Plan {
    /// What suits this process's limits.
    pub fn from_limits() -> Plan {
        // A lazy window is a number and costs nothing, however large.
        Plan { is_lazy: limits::address_space().is_some(), largest: WINDOW_SIZES[0] }
    }
}

/// What came of growing.
pub(super) enum Grown {
    /// These window pages are new: index of the first, and how many.
    Pages(usize, usize),
    /// The frontier has moved over somebody else's mapping; try again.
    Skipped,
    /// No memory, or the window is full.
    Refused,
}

/// A window. All zero is one that is not open.
pub(super) struct Window {
    base: usize,
    size: usize,
    frontier: usize,
    foreign: usize,
    step: usize,
    is_lazy: bool,
    memdesc: Side,
    units: Side,
    marks: [Side; MARKS],
}

impl Window {
    /// A window that is not open.
    pub const fn new() -> Window {
        Window {
            base: 0,
            size: 0,
            frontier: 0,
            foreign: 0,
            step: 0,
            is_lazy: false,
            memdesc: Side::NONE,
            units: Side::NONE,
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

    /// Bytes that exist.
    pub fn frontier(&self) -> usize {
        self.frontier
    }

    /// Bytes below the frontier that are somebody else's.
    pub fn foreign(&self) -> usize {
        self.foreign
    }

    /// Whether it is only a number.
    pub fn is_lazy(&self) -> bool {
        self.is_lazy
    }

    /// The table of units; as many are usable as the frontier has begun.
    pub fn units(&self) -> *mut Unit {
        self.units.base() as *mut Unit
    }

    /// Opens it. False if neither way works now.
    pub fn open(&mut self, plan: Plan) -> bool {
        if !plan.is_lazy {
            for size in WINDOW_SIZES.map(|size| size.min(plan.largest)) {
                let side = self.lay_out(0, size);
                if let Some(at) = map::reserve(side + size + UNIT) {
                    self.lay_out(at, size);
                    self.base = (at + side).next_multiple_of(UNIT);
                    self.is_lazy = false;
                    return true;
                }
            }
        }
        self.open_lazy(plan.largest)
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn open_lazy(&mut self, size: usize) -> bool {
        let seed = limits::random_seed();
        for _ in 0..LAZY_TRIES {
            // The golden ratio's multiples are spread evenly (Knuth, multiplicative hashing),
            // so no try meets an earlier one. Relaxed: any number that is new will do.
            let turn = PLACES_TRIED.fetch_add(1, Relaxed) as u64;
            let place = seed.wrapping_add(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32;
            let at = LAZY_LOW + place as usize % LAZY_PLACES * UNIT;
            let side = self.lay_out(at, size);
            let base = (at + side).next_multiple_of(UNIT);
            // The first piece of each table that the first page needs.
            if self.memdesc.ensure(PAGE, true) {
                if self.units.ensure(PAGE, true) {
                    (self.base, self.is_lazy) = (base, true);
                    return true;
                }
                // SAFETY: mapped just now, and nobody knows of it.
                unsafe { map::unmap(self.memdesc.base(), self.memdesc.committed()) };
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
        self.units = side(size / UNIT * size_of::<Unit>());
        for (k, mark) in MARK_SHIFTS.zip(&mut self.marks) {
            *mark = side(size >> k);
        }
        end - at
    }

    /// Grows to at least `want` bytes, in one piece or not at all.
    pub fn grow_to(&mut self, want: usize) -> Grown {
        if !self.is_open() || want > self.size || want <= self.frontier {
            return Grown::Refused;
        }
        let step = self.step.max(FIRST_STEP);
        let wish = want.next_multiple_of(FIRST_STEP).max(self.frontier + step).min(self.size);
        let unit_end = (self.frontier + 1).next_multiple_of(UNIT);
        let mut end = wish;
        let mut placed = self.extend(end);
        if placed == Placed::Refused && end > want {
            end = want;
            placed = self.extend(end);
        }
        if placed == Placed::Occupied && end > unit_end {
            end = unit_end;
            placed = self.extend(end);
        }
        match placed {
            Placed::Refused => Grown::Refused,
            Placed::Occupied => self.skip(unit_end),
            Placed::Done => {
                let most = if self.is_lazy { LAZY_STEP } else { LAST_STEP };
                self.step = (step * 2).min(most);
                let first = self.frontier;
                self.frontier = end;
                Grown::Pages(first >> PAGE_SHIFT, (end - first) >> PAGE_SHIFT)
            }
        }
    }

    /// Moves the frontier over what is left of its unit.
    #[cold]
    fn skip(&mut self, unit_end: usize) -> Grown {
        if !self.describe(unit_end) {
            return Grown::Refused;
        }
        for page in self.frontier >> PAGE_SHIFT..unit_end >> PAGE_SHIFT {
            // Relaxed: nobody looks before the frontier is published.
            self.word(page).store(Kind::Foreign as u64, Relaxed);
        }
        self.foreign += unit_end - self.frontier;
        self.frontier = unit_end;
        Grown::Skipped
    }

    /// The word of window page `page`, which must be described.
    pub fn word(&self, page: usize) -> &AtomicU64 {
        debug_assert!((page + 1) * 8 <= self.memdesc.committed());
        // SAFETY: committed, never taken away, and all access is atomic.
        unsafe { &*(self.memdesc.base() as *const AtomicU64).add(page) }
    }

    /// Makes the mark bytes for [addr, addr+len) writable.
    pub fn ensure_marks(&mut self, k: u32, addr: usize, len: usize) -> bool {
        let is_lazy = self.is_lazy;
        let map = k.checked_sub(*MARK_SHIFTS.start()).map(|i| i as usize);
        let Some(mark) = map.and_then(|i| self.marks.get_mut(i)) else {
            return false;
        };
        mark.ensure((addr + len - self.base).div_ceil(1 << k), is_lazy)
    }

    /// Makes this the process's window, and its frontier everybody's.
    pub fn publish(&self) {
        if base() != self.base {
            for (k, mark) in MARK_SHIFTS.zip(&self.marks) {
                let origin = mark.base().wrapping_sub(self.base >> k);
                MARK_ORIGIN[k as usize].store(origin, Relaxed);
            }
            LINE.memdesc.store(self.memdesc.base(), Relaxed);
            // Release: the table's address before the base.
            LINE.base.store(self.base, Release);
        }
        // Release: pairs with the Acquire in `frontier`; base, table and Foreign words first.
        LINE.frontier.store(self.frontier, Release);
    }

    /// Commits [frontier, end) and what describes it. Does not move the frontier.
    fn extend(&mut self, end: usize) -> Placed {
        if !self.describe(end) {
            return Placed::Refused;
        }
        let (at, len) = (self.base + self.frontier, end - self.frontier);
        match self.is_lazy {
            true => map::map_at(at, len),
            false if map::commit(at, len) => Placed::Done,
            false => Placed::Refused,
        }
    }

    fn describe(&mut self, end: usize) -> bool {
        let units = end.div_ceil(UNIT) * size_of::<Unit>();
        self.memdesc.ensure(end >> PAGE_SHIFT << 3, self.is_lazy)
            && self.units.ensure(units, self.is_lazy)
            && (!self.is_lazy || self.all_marks(end))
    }

    /// Under a limit a page that has no room for its marks could never be a slab's, once the heap
    /// has used the limit up: they are mapped with it, an eighth of its size for all classes.
    fn all_marks(&mut self, end: usize) -> bool {
        MARK_SHIFTS.zip(&mut self.marks).all(|(k, mark)| mark.ensure(end.div_ceil(1 << k), true))
    }
}
