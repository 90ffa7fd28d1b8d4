//! The zone: the window and its buddy allocator under one lock.
//!
//! Everything that hands out or takes back pages is here: blocks of 2^order pages, runs of
//! any number of pages, batches for the page caches, and purging. Any thread; the lock is
//! held for about 100 ns, longer only where the window grows (one `mmap`). Purging is done
//! outside it, on stretches taken out for the purpose, by one thread at a time, whose lock a fork takes,
//! too: the child loses no page.
//!
//! Where somebody listens for memory that goes, each stretch goes with no lock held at all ([`leave`]).
//!
//! Dirty free pages go back to the system in three ways: all at once on request ([`purge_free`]); past a
//! watermark, by whoever frees (`watermark`); and a share of those that a whole period left unused
//! ([`tick`]). What is free in whole units is unmapped, clean or not, so that what the kernel charges
//! for the heap falls with it, and becomes a [hole](super::holes); the rest is purged where it is. What rides
//! on a call of the program's goes in steps ([`purge_step`]), so that no call does work that grows with the
//! heap; and whoever purges looks for dirt under the lock for `PURGE_LOOKS` stretches at a time.
//!
//! Pages that the program has changed are mapped anew as they come back (`changed.rs`).
//!
//! Every mapping call can fail. Growing is all or nothing, so a failed request leaves the
//! zone as it was; a block that could not be purged goes back as dirty as it came.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU64, AtomicUsize};

use super::Page;
use super::buddy::Buddy;
use super::buddy::dirt::{self, Dirt};
pub use super::buddy::{Holds, Place};
use super::changed;
use super::limit;
use super::memdesc::{self, Kind, Memdesc};
use super::most;
use super::quarter::Quarter;
use super::window::{Grown, Window};
use crate::constants::{
    MAX_ORDER, PAGE, PAGE_SHIFT, PURGE_CALLS, PURGE_FAILURES, PURGE_ORDER, PURGE_PAGES, UNIT, UNIT_PAGES,
    WINDOW, WORTH,
};
use crate::os::lock::{Guard, Lock};
use crate::os::{listeners, map};

/// A zone. The process has one, [`ZONE`]; tests make their own.
pub(super) struct Zone {
    state: Lock<State>,
    /// Held over every purge. Taken before the state's.
    purging: Lock<()>,
}

/// A run that somebody asks for.
#[derive(Clone, Copy)]
pub struct Want {
    /// How many pages.
    pub pages: usize,
    /// What the address of the first is a multiple of: a power of two, in bytes.
    pub align: usize,
    /// Where it is put, ...
    pub place: Place,
    /// ... and, as far as that leaves a choice, for whom.
    pub quarter: Option<Quarter>,
}

/// How far purging goes: bytes, and stretches looked for.
struct Bounds {
    bytes: usize,
    stretches: usize,
}

impl Bounds {
    fn all(bytes: usize) -> Bounds {
        Bounds { bytes, stretches: usize::MAX }
    }

    /// See [`purge_step`].
    fn of_step(own: usize) -> Bounds {
        let more = own.saturating_mul(2);
        Bounds {
            bytes: (PURGE_PAGES * PAGE).saturating_add(more),
            stretches: PURGE_CALLS + more / (PAGE << PURGE_ORDER),
        }
    }
}

/// How stretches go to the system.
enum Way<'a> {
    /// By system calls, one thread at a time.
    Alone(#[allow(dead_code, reason = "held")] Guard<'a, ()>),
    /// By libc's names, for somebody listens: any thread that may call libc, with no lock held.
    Told,
}

impl Way<'_> {
    /// # Safety
    /// The stretch is the caller's alone, and nothing will refer to it again.
    unsafe fn unmap(&self, addr: usize, len: usize) -> bool {
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Way::Alone(_) => map::unmap(addr, len),
                Way::Told => listeners::unmap(addr, len),
            }
        }
    }

    /// # Safety
    /// The contents of the stretch are the caller's to lose.
    unsafe fn purge(&self, addr: usize, len: usize) -> bool {
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Way::Alone(_) => map::purge(addr, len),
                Way::Told => listeners::purge(addr, len),
            }
        }
    }
}

/// Pages in mappings outside of the window.
#[derive(Clone, Copy)]
struct Apart {
    mapped: usize,
    free: usize,
}

/// What came of purging.
#[derive(Clone, Copy, Debug)]
pub struct Purged {
    /// Bytes given.
    pub bytes: usize,
    /// Stretches looked for.
    pub stretches: usize,
    /// Stretches that the system refused to take.
    pub refused: usize,
}

impl Purged {
    const NOTHING: Purged = Purged { bytes: 0, stretches: 0, refused: 0 };
}

/// Where a search for dirt has got to. Steps of purging go on where the last one stopped, or each would look
/// through the same short stretches again.
#[derive(Clone, Copy)]
struct Pass {
    end: usize,
    least: usize,
}

impl Pass {
    /// First those that are worth a call, from the top, ...
    const LONG: Pass = Pass { end: usize::MAX, least: 1 << PURGE_ORDER };
    /// ... then all.
    const ANY: Pass = Pass { end: usize::MAX, least: 1 };
}

/// What the lock protects. All zero is a zone that has not been opened.
struct State {
    window: Window,
    grow_calls: usize,
    grow_failures: usize,
    purged: usize,
    /// Free pages that those who purge have taken out.
    away: usize,
    /// Stretches that they are about to unmap.
    leaving: usize,
    /// Pages mapped outside of the window, and those of them that are free (`ranges.rs`): in this account,
    /// for limits and the watermark count all that the heap has.
    apart: Apart,
    pass: Pass,
    buddy: Buddy,
}

/// The process's zone. What it knows of units lies beside the window.
#[unsafe(link_section = ".data")]
static ZONE: Zone = Zone::new();

/// Bytes in dirty free pages, to look at without the lock.
#[unsafe(link_section = ".data")]
static DIRTY: AtomicUsize = AtomicUsize::new(0);

static MOST_BYTES: AtomicUsize = AtomicUsize::new(0);
static MOST_STRETCHES: AtomicUsize = AtomicUsize::new(0);

/// A snapshot of the zone's numbers.
#[derive(Clone, Copy, Default, Debug)]
pub struct ZoneStats {
    /// Bytes of the window up to the end of the ground.
    pub frontier_bytes: usize,
    /// The same without holes and what is somebody else's, and with mappings outside of the window.
    pub ground_bytes: usize,
    /// Bytes in free blocks.
    pub free_bytes: usize,
    /// Bytes in free blocks that may still hold memory.
    pub dirty_bytes: usize,
    /// Bytes below the frontier that somebody else mapped.
    pub foreign_bytes: usize,
    /// How often the window was asked to grow.
    pub grow_calls: usize,
    /// How often it could not.
    pub grow_failures: usize,
    /// Bytes given back to the system so far.
    pub purged_bytes: usize,
}

impl State {
    fn open(&mut self, zone: &Zone, size: usize) -> bool {
        if self.window.is_open() {
            return true;
        }
        let opened = self.window.open(size);
        if opened {
            zone.publish(&self.window);
        }
        opened
    }

    /// Makes ground up to window page `end`, at the frontier or in hole number `hole`, and learns what came
    /// of it. False: no memory.
    #[unsafe(link_section = ".text_start")]
    fn grow(&mut self, zone: &Zone, hole: Option<usize>, end: usize) -> bool {
        self.grow_calls += 1;
        let grown = end.checked_mul(PAGE).map_or(Grown::Refused, |want| match hole {
            Some(hole) => self.window.fill(hole, want),
            None => self.window.grow_to(want),
        });
        if let Grown::Refused = grown {
            self.grow_failures += 1;
            return false;
        }
        let known = self.window.horizon().div_ceil(UNIT);
        // SAFETY: the window has mapped as many units as the horizon has begun, zero at first
        // and never taken away; they are used through this zone's Buddy alone.
        unsafe { self.buddy.know(self.window.units(), known) };
        zone.publish(&self.window);
        if let Grown::Pages(page, pages) = grown {
            self.buddy.add(page, pages);
        }
        true
    }

    /// After a change that nobody will finish: publishes the window as it is, without holes, and says how
    /// many units it has known. `None`: the window is not open, and begins anew.
    fn known_units(&mut self, zone: &Zone) -> Option<usize> {
        if !self.window.is_open() {
            self.window = Window::new();
            return None;
        }
        zone.publish(&self.window);
        self.window.forget_holes();
        Some(self.window.horizon().div_ceil(UNIT))
    }

    /// # Safety
    /// Only after a change that nobody will finish.
    unsafe fn forget_free(&mut self, zone: &Zone) {
        let Some(known) = self.known_units(zone) else { return };
        // SAFETY: units are mapped before the horizon moves, and used by this zone alone.
        unsafe { self.buddy.forget_free(self.window.units(), known) };
    }

    /// The same where the calling thread is who will not finish it: what it had in hands is free or nobody's,
    /// so nothing that is free can be somebody's.
    ///
    /// # Safety
    /// The calling thread held the lock, in frames that are gone.
    unsafe fn recount(&mut self, zone: &Zone) {
        let Some(known) = self.known_units(zone) else { return };
        // SAFETY: units are mapped before the horizon moves, and used by this zone alone.
        unsafe { self.buddy.recount(self.window.units(), known) };
    }

    /// Bytes that may be in memory.
    fn held(&self) -> usize {
        let without = self.buddy.free_pages() - self.buddy.dirty_pages();
        self.window.ground() + self.apart.mapped * PAGE - without * PAGE
    }

    /// Bytes in dirty free pages.
    fn dirty(&self) -> usize {
        (self.buddy.dirty_pages() + self.apart.free) * PAGE
    }

    /// Whether the hard limit lets `pages` more be given out.
    #[inline]
    fn admits(&self, pages: usize) -> bool {
        let ground = self.window.ground() - (self.buddy.free_pages() + self.away) * PAGE;
        let used = ground + (self.apart.mapped - self.apart.free) * PAGE;
        limit::admits(used, pages.saturating_mul(PAGE))
    }

    fn frontier_page(&self) -> usize {
        self.window.frontier() >> PAGE_SHIFT
    }

    fn page(&self, page: usize) -> Option<Page> {
        Page::new(self.window.base() + page * PAGE)
    }

    fn index(&self, page: Page) -> usize {
        debug_assert!(page.addr() - self.window.base() < self.window.frontier());
        (page.addr() - self.window.base()) >> PAGE_SHIFT
    }

    #[unsafe(link_section = ".text_start")]
    fn alloc_pages(&mut self, zone: &Zone, order: u32) -> Option<Page> {
        if !self.admits(1 << order) {
            return None;
        }
        loop {
            if let Some(page) = self.buddy.alloc(order) {
                return self.page(page);
            }
            if !self.grow_for(zone, 1 << order, 1) {
                return None;
            }
        }
    }

    #[unsafe(link_section = ".text_start")]
    fn alloc_run(&mut self, zone: &Zone, want: Want) -> Option<(Page, Holds)> {
        let Want { pages, place, quarter, .. } = want;
        let align = (want.align >> PAGE_SHIFT).max(1);
        if pages == 0 || pages.max(align) > self.window.size() >> PAGE_SHIFT || !self.admits(pages) {
            return None;
        }
        let phase = self.window.base() >> PAGE_SHIFT;
        loop {
            if let Some((page, contents)) = self.buddy.alloc_run(pages, align, phase, place, quarter) {
                return Some((self.page(page)?, contents));
            }
            if !self.grow_for(zone, pages, align) {
                return None;
            }
        }
    }

    /// Makes ground for a run of which there is none: in the lowest hole where that is enough, else at the
    /// top.
    fn grow_for(&mut self, zone: &Zone, pages: usize, align: usize) -> bool {
        for number in 0..self.window.holes().len() {
            let hole = self.window.holes()[number];
            if let Some(end) = self.reach(hole.first, pages, align).filter(|&end| end <= hole.end) {
                if self.grow(zone, Some(number), end) {
                    return true;
                }
                break;
            }
        }
        let end = self.reach(self.frontier_page(), pages, align);
        end.is_some_and(|end| self.grow(zone, None, end))
    }

    /// How far new ground that begins at page `begin` must reach for the run to fit in it and what is free
    /// before it.
    #[unsafe(link_section = ".text_start")]
    fn reach(&mut self, begin: usize, pages: usize, align: usize) -> Option<usize> {
        let order = pages.max(align).next_power_of_two().trailing_zeros();
        if order <= MAX_ORDER {
            return Some(self.buddy.tail_block(begin, order) + (1 << order));
        }
        let phase = self.window.base() >> PAGE_SHIFT;
        let start = self.buddy.tail_units(begin);
        Some((phase + start).checked_next_multiple_of(align)? - phase + pages)
    }

    /// Makes ground of the holes in [begin, end) if all the rest of it is free.
    fn close_holes(&mut self, zone: &Zone, begin: usize, end: usize) {
        let holes = self.window.holes();
        let number = holes.partition_point(|hole| hole.end <= begin);
        let mut at = begin;
        for hole in holes[number..].iter().take_while(|hole| hole.first < end) {
            if hole.first > at && !self.buddy.is_free(at, hole.first - at) {
                return;
            }
            at = hole.end;
        }
        if at == begin || at < end && !self.buddy.is_free(at, end - at) {
            return;
        }
        // Each goes, as it is filled; the last may be longer than what is wanted of it.
        while let Some(hole) = self.window.holes().get(number).filter(|hole| hole.first < end) {
            let stop = hole.end.min(end);
            if !self.grow(zone, Some(number), stop) {
                return;
            }
        }
    }
}

impl Zone {
    pub(super) const fn new() -> Zone {
        Zone {
            state: Lock::new(State {
                window: Window::new(),
                grow_calls: 0,
                grow_failures: 0,
                purged: 0,
                away: 0,
                leaving: 0,
                apart: Apart { mapped: 0, free: 0 },
                pass: Pass::LONG,
                buddy: Buddy::new(),
            }),
            purging: Lock::new(()),
        }
    }

    /// Lets go of the state, after its dirty pages were made more or fewer.
    fn close(&self, state: Guard<'_, State>) {
        if core::ptr::eq(self, &ZONE) {
            // Relaxed: a figure to steer by.
            let dirty = state.dirty();
            DIRTY.store(dirty, Relaxed);
            limit::note(state.held(), dirty);
        }
    }

    /// Lets go of the state, after pages were given out. False: what is held is past the hard limit for it,
    /// and the system refuses free memory; they are to come back.
    #[inline]
    fn close_given(&self, state: Guard<'_, State>) -> bool {
        let over = limit::over_hard(state.held());
        self.close(state);
        over == 0 || self.make_room(over)
    }

    /// Whoever comes to the limit gives back what is worth a look; then the next ones do not come to it.
    #[cold]
    #[inline(never)]
    fn make_room(&self, over: usize) -> bool {
        if listeners::are_there() {
            // Not under whoever asks here; he comes again when it has gone.
            return false;
        }
        let bounds = Bounds::all(over.max(WORTH));
        let refused = self.purge(&self.alone(), bounds, |_, _, dirty| dirty).refused;
        refused == 0 || limit::over_hard(self.state.lock().held()) == 0
    }

    fn alone(&self) -> Way<'_> {
        Way::Alone(self.purging.lock())
    }

    fn publish(&self, window: &Window) {
        if core::ptr::eq(self, &ZONE) {
            window.publish();
        }
    }

    /// The state, open; None if no window is to be had now.
    #[unsafe(link_section = ".text_start")]
    fn state(&self) -> Option<Guard<'_, State>> {
        let mut state = self.state.lock();
        state.open(self, WINDOW).then_some(state)
    }

    pub(super) fn alloc_pages(&self, order: u32) -> Option<Page> {
        if order > MAX_ORDER {
            return None;
        }
        let mut state = self.state()?;
        let page = state.alloc_pages(self, order);
        if !self.close_given(state) {
            // SAFETY: given to us just now.
            unsafe { self.free(page?, 1 << order) };
            return None;
        }
        page
    }

    #[unsafe(link_section = ".text_start")]
    pub(super) fn alloc_run(&self, pages: usize, align: usize, place: Place) -> Option<(Page, Holds)> {
        // SAFETY: no run is given back.
        unsafe { self.exchange(core::iter::empty(), Some(Want { pages, align, place, quarter: None })) }
    }

    /// # Safety
    /// The caller owns the runs and gives them up.
    unsafe fn exchange(
        &self,
        runs: impl Iterator<Item = (Page, usize)>,
        want: Option<Want>,
    ) -> Option<(Page, Holds)> {
        let mut state = self.state()?;
        for (page, pages) in runs {
            if core::ptr::eq(self, &ZONE) {
                // SAFETY: promised by the caller.
                unsafe { changed::restore(page, pages) };
            }
            let index = state.index(page);
            // SAFETY: promised by the caller. As in `undescribe`.
            unsafe { memdesc::fill(state.window.word(index), 1, Memdesc::of_kind(Kind::Free)) };
            state.buddy.free(index, pages, true);
        }
        let run = want.and_then(|want| state.alloc_run(self, want));
        if !self.close_given(state) {
            let ((page, _), want) = (run?, want?);
            // SAFETY: given to us just now.
            unsafe { self.free(page, want.pages) };
            return None;
        }
        run
    }

    /// See [`for_each_soiled`].
    fn for_each_soiled(&self, page: Page, pages: usize, mut visit: impl FnMut(Page, usize)) {
        let first = self.state.lock().index(page);
        let end = first + pages;
        for unit in first / UNIT_PAGES..end.div_ceil(UNIT_PAGES) {
            let came_dirty = self.state.lock().buddy.came_dirty(unit);
            let base = unit * UNIT_PAGES;
            let (from, to) = (first.max(base) - base, end.min(base + UNIT_PAGES) - base);
            dirt::stretches(&came_dirty, from, to, |at, length| {
                if let Some(start) = Page::new(page.addr() + (base + at - first) * PAGE) {
                    visit(start, length);
                }
            });
        }
    }

    /// # Safety
    /// The caller owns the pages and gives them up.
    #[unsafe(link_section = ".text_solo")]
    pub(super) unsafe fn free(&self, page: Page, pages: usize) {
        if core::ptr::eq(self, &ZONE) {
            // SAFETY: promised by the caller.
            unsafe { changed::restore(page, pages) };
        }
        // SAFETY: promised by the caller.
        unsafe { self.undescribe(page, pages) };
        let mut state = self.state.lock();
        let index = state.index(page);
        state.buddy.free(index, pages, true);
        self.close(state);
    }

    /// The words of pages that come back say Free from now on, unless they never said anything, which the
    /// first one tells for all of a run. Not under the lock, which others wait for: the pages are still the
    /// caller's.
    ///
    /// # Safety
    /// The caller owns the pages.
    unsafe fn undescribe(&self, page: Page, pages: usize) {
        let first: *const AtomicU64 = if core::ptr::eq(self, &ZONE) {
            // SAFETY: what was given out lies below the horizon.
            unsafe { memdesc::word(page) }
        } else {
            let state = self.state.lock();
            state.window.word(state.index(page))
        };
        // SAFETY: words are never taken away, and all access is atomic.
        // Relaxed: only the owner writes.
        if unsafe { &*first }.load(Relaxed) != Kind::Unknown as u64 {
            // SAFETY: promised by the caller. Whoever reads Free sees what the last owner did before.
            unsafe { memdesc::fill(first, pages, Memdesc::of_kind(Kind::Free)) };
        }
    }

    /// # Safety
    /// The caller owns the run.
    pub(super) unsafe fn extend_run(&self, page: Page, pages: usize, more: usize) -> bool {
        let mut state = self.state.lock();
        let Some(end) = (state.index(page) + pages).checked_add(more).filter(|_| state.admits(more)) else {
            return false;
        };
        // Only the top of the heap can grow into new ground, and it needs to get there whole. Not while
        // there is room for it further down: runs that come to the top, grow and go again would carry
        // the top away from a heap that is all but empty.
        let begin = end - more;
        let frontier = state.frontier_page();
        if end > frontier {
            let all_free = begin == frontier || state.buddy.is_free(begin, frontier - begin);
            let has_room = all_free && state.buddy.free_pages() - (frontier - begin) >= pages + more;
            if !all_free || has_room || !state.grow(self, None, end) {
                return false;
            }
        } else {
            state.close_holes(self, begin, end);
        }
        let got = end <= state.frontier_page() && state.buddy.alloc_at(begin, more);
        let stays = self.close_given(state);
        if got && !stays {
            // Nobody has touched them.
            self.state.lock().buddy.free(begin, more, true);
        }
        got && stays
    }

    /// Unmaps free blocks of at least 2^order pages, the highest first, up to `bounds`. As
    /// [`purge`](Self::purge).
    fn unmap(
        &self,
        way: &Way<'_>,
        order: u32,
        bounds: &Bounds,
        count: impl Fn(usize, usize, usize) -> usize,
    ) -> Purged {
        let (mut all, mut end) = (Purged::NOTHING, usize::MAX);
        while all.stretches < bounds.stretches {
            all.stretches += 1;
            let most = ((bounds.bytes - all.bytes) / PAGE).min(PURGE_PAGES);
            let mut state = self.state.lock();
            if !state.window.can_leave(state.leaving) {
                break;
            }
            let (page, pages, dirty) = match state.buddy.take_blocks(end, order, most) {
                Dirt::Stretch { page, pages, dirty } => (page, pages, dirty),
                Dirt::Further(below) => {
                    end = below;
                    continue;
                }
                Dirt::Nothing => break,
            };
            let addr = state.window.base() + page * PAGE;
            state.away += pages;
            state.leaving += 1;
            drop(state);
            let bytes = if dirty == 0 { 0 } else { count(addr, pages, dirty).min(most) * PAGE };
            // SAFETY: the stretch is out of the zone, so it is ours alone. Nobody looks into a free page.
            let unmapped = unsafe { way.unmap(addr, pages * PAGE) };
            let mut state = self.state.lock();
            state.away = state.away.saturating_sub(pages);
            state.leaving = state.leaving.saturating_sub(1);
            if unmapped {
                state.window.leave(page, pages);
                state.buddy.idle.gave(dirty);
                state.purged += bytes;
                all.bytes += bytes;
            } else {
                state.buddy.free(page, pages, dirty != 0);
            }
            self.close(state);
            if !unmapped {
                break;
            }
            end = page;
        }
        all
    }

    /// Purges up to `bounds`, whole units and then the highest and the longest stretches first. `count` says
    /// how many of the pages of a stretch it gives, from how many of them are dirty.
    fn purge(&self, way: &Way<'_>, bounds: Bounds, count: impl Fn(usize, usize, usize) -> usize) -> Purged {
        let order = if limit::was_refused() { PURGE_ORDER } else { MAX_ORDER };
        let mut all = self.unmap(way, order, &bounds, &count);
        let is_step = bounds.stretches != usize::MAX;
        let mut pass = if is_step { self.state.lock().pass } else { Pass::LONG };
        while all.bytes < bounds.bytes && all.stretches < bounds.stretches {
            all.stretches += 1;
            let most = (bounds.bytes - all.bytes).div_ceil(PAGE).clamp(pass.least, PURGE_PAGES);
            let mut state = self.state.lock();
            let (page, pages, dirty) = match state.buddy.take_dirty(pass.end, pass.least, most) {
                Dirt::Stretch { page, pages, dirty } => (page, pages, dirty),
                Dirt::Further(end) => {
                    pass.end = end;
                    continue;
                }
                Dirt::Nothing if pass.least > 1 => {
                    pass = Pass::ANY;
                    continue;
                }
                Dirt::Nothing => {
                    pass = Pass::LONG;
                    break;
                }
            };
            let addr = state.window.base() + page * PAGE;
            state.away += pages;
            drop(state);
            let bytes = count(addr, pages, dirty) * PAGE;
            // SAFETY: the stretch is out of the zone, so it is ours alone.
            let purged = unsafe { way.purge(addr, pages * PAGE) };
            let mut state = self.state.lock();
            state.away = state.away.saturating_sub(pages);
            state.buddy.free(page, pages, !purged);
            if purged {
                state.buddy.idle.gave(dirty);
                state.purged += bytes;
                all.bytes += bytes;
            }
            self.close(state);
            all.refused += usize::from(!purged);
            pass.end = page;
            if all.refused == PURGE_FAILURES {
                break;
            }
        }
        if is_step {
            self.state.lock().pass = pass;
        }
        all
    }

    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    pub(super) fn purge_free(&self, max_bytes: usize) -> usize {
        self.purge(&self.alone(), Bounds::all(max_bytes), |_, _, dirty| dirty).bytes
    }

    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    pub(super) fn purge_step(&self, max_bytes: usize, own: usize) -> Purged {
        let bounds = Bounds::of_step(own);
        let bounds = Bounds { bytes: bounds.bytes.min(max_bytes), ..bounds };
        self.purge(&self.alone(), bounds, |_, _, dirty| dirty)
    }

    /// No lock.
    pub(super) fn stats(&self) -> ZoneStats {
        let state = self.state.peek();
        // SAFETY: a zone is never gone while somebody asks it; what is read are aligned words.
        unsafe {
            let window = Window::peek(&raw const (*state).window);
            let (free, dirty) = Buddy::peek(&raw const (*state).buddy);
            let apart = (&raw const (*state).apart).read_volatile();
            let ground = window.frontier.saturating_sub(window.foreign + window.hole_bytes);
            ZoneStats {
                frontier_bytes: window.frontier,
                ground_bytes: ground + apart.mapped * PAGE,
                free_bytes: (free + apart.free) * PAGE,
                dirty_bytes: (dirty + apart.free) * PAGE,
                foreign_bytes: window.foreign,
                grow_calls: (&raw const (*state).grow_calls).read_volatile(),
                grow_failures: (&raw const (*state).grow_failures).read_volatile(),
                purged_bytes: (&raw const (*state).purged).read_volatile(),
            }
        }
    }
}

/// Opens the process's window. False if there is none to be had now.
pub fn init() -> bool {
    ZONE.state().is_some()
}

/// Takes 2^order pages, order 0 to 10, aligned to their size. Their contents are anything,
/// their words say nothing: describe them. None: out of memory.
#[unsafe(link_section = ".text_start")]
pub fn alloc_pages(order: u32) -> Option<Page> {
    ZONE.alloc_pages(order)
}

/// Gives them back and resets their words.
///
/// # Safety
/// The caller owns the pages, and nothing refers to them any more.
pub unsafe fn free_pages(page: Page, order: u32) {
    // SAFETY: promised by the caller.
    unsafe { ZONE.free(page, 1 << order) }
}

/// Takes any number of pages, contiguous, aligned to a power of two bytes, and says what they hold. Past 1024
/// pages they begin on a unit (4 MiB).
#[unsafe(link_section = ".text_start")]
pub fn alloc_run(pages: usize, align_bytes: usize, place: Place) -> Option<(Page, Holds)> {
    ZONE.alloc_run(pages, align_bytes, place)
}

/// Calls `visit` with the stretches of a run that were dirty when it was given out as [`Holds::Mixed`]: their
/// first pages and lengths. The run is still the caller's, who holds no lock. The zone's is held to copy the
/// bits of one unit.
pub fn for_each_soiled(page: Page, pages: usize, visit: impl FnMut(Page, usize)) {
    ZONE.for_each_soiled(page, pages, visit);
}

/// Gives back a run or any part of one, and resets the word of its first page. The others were not described.
///
/// # Safety
/// The caller owns the pages, and nothing refers to them any more.
#[unsafe(link_section = ".text_solo")]
pub unsafe fn free_run(page: Page, pages: usize) {
    // SAFETY: promised by the caller.
    unsafe { exchange(core::iter::once((page, pages)), None) };
}

/// Gives back any number of runs, as [`free_run`] does, and then takes the one that is wanted, as
/// [`alloc_run`] does: under one lock, which is held for about 100 ns a run.
///
/// # Safety
/// The caller owns the runs, and nothing refers to them any more but the word of each one's first page.
pub unsafe fn exchange(
    runs: impl Iterator<Item = (Page, usize)>,
    want: Option<Want>,
) -> Option<(Page, Holds)> {
    // SAFETY: promised by the caller.
    unsafe { ZONE.exchange(runs, want) }
}

/// Lengthens a run of `pages` pages by `more`, in place: all or nothing.
///
/// # Safety
/// The caller owns the run.
pub unsafe fn extend_run(page: Page, pages: usize, more: usize) -> bool {
    // SAFETY: promised by the caller.
    unsafe { ZONE.extend_run(page, pages, more) }
}

/// Gives memory of free pages back to the system, `max_bytes` of it if there is so much, long
/// stretches first. Returns the bytes given, of which pages that were never touched may be a part.
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
pub(super) fn purge_free(max_bytes: usize) -> usize {
    ZONE.purge_free(max_bytes)
}

/// The same, and the answer is what was resident: the kernel is asked, page by page. Costs one
/// `mincore` a stretch, which a strict filter may not know from a malloc: for explicit requests.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub(super) fn purge_resident(max_bytes: usize) -> usize {
    let resident = |addr, pages, dirty| map::resident_pages(addr, pages).unwrap_or(dirty);
    ZONE.purge(&ZONE.alone(), Bounds::all(max_bytes), resident).bytes
}

/// The same as [`purge_free`] where somebody listens: no lock is held while a stretch goes.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub(super) fn leave(max_bytes: usize) -> usize {
    ZONE.purge(&Way::Told, Bounds::all(max_bytes), |_, _, dirty| dirty).bytes
}

/// The same as [`purge_free`], but no more than one call of the program's may do on the way
/// ([`step_bytes`], in as many stretches). The next step goes on from there.
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
pub(super) fn purge_step(max_bytes: usize, own: usize) -> Purged {
    ZONE.purge_step(max_bytes, own)
}

/// What a step of purging may give at most: [`PURGE_PAGES`] pages, in [`PURGE_CALLS`] stretches, and twice
/// the `own` bytes that this very call has freed, so that what is freed can always be paid for.
pub(super) fn step_bytes(own: usize) -> usize {
    Bounds::of_step(own).bytes
}

/// What a step has purged, in a call that freed `own` bytes.
pub(super) fn note_step(purged: Purged, own: usize) {
    let own = Bounds::of_step(own);
    most::note(&MOST_BYTES, (purged.bytes + PURGE_PAGES * PAGE).saturating_sub(own.bytes));
    most::note(&MOST_STRETCHES, (purged.stretches + PURGE_CALLS).saturating_sub(own.stretches));
}

/// The most that a step has purged beyond what its call had freed: bytes, and stretches.
pub fn most_purged() -> (usize, usize) {
    (MOST_BYTES.load(Relaxed), MOST_STRETCHES.load(Relaxed))
}

/// Unmaps whatever is free in stretches worth a call: a mapping was refused, and what one mapping of the heap
/// leaves another may have.
pub(super) fn unmap_free() {
    ZONE.unmap(&ZONE.alone(), PURGE_ORDER, &Bounds::all(usize::MAX), |_, _, dirty| dirty);
}

/// Bytes in dirty free pages, as of a moment ago. No lock.
#[inline]
pub fn dirty_bytes() -> usize {
    DIRTY.load(Relaxed)
}

/// Bytes given out, as of a moment ago. No lock.
#[inline]
pub fn used_bytes() -> usize {
    limit::held().saturating_sub(dirty_bytes())
}

/// Clean pages that were given out since this was last asked.
pub(super) fn take_fetched_clean() -> usize {
    core::mem::take(&mut ZONE.state.lock().buddy.fetched_clean)
}

/// Bytes of the heap that may be in memory: all but free pages known to hold none.
pub fn held_bytes() -> usize {
    ZONE.state.lock().held()
}

/// Bytes in free pages, exactly.
pub fn free_bytes() -> usize {
    let state = ZONE.state.lock();
    (state.buddy.free_pages() + state.apart.free) * PAGE
}

/// `pages` pages outside of the window are about to be given out, `free` of which were free; the others are
/// to be mapped. False: the hard limit does not let them.
pub(super) fn take_apart(pages: usize, free: usize) -> bool {
    let mut state = ZONE.state.lock();
    if !state.admits(pages) {
        return false;
    }
    state.apart.mapped += pages - free;
    state.apart.free -= free;
    state.buddy.fetched_clean += pages - free;
    let stays = ZONE.close_given(state);
    if !stays {
        put_apart(pages, free);
    }
    stays
}

/// Takes the last [`take_apart`] back, or gives pages up: `free` of them are free from now on, the others are
/// not mapped any more.
pub(super) fn put_apart(pages: usize, free: usize) {
    let mut state = ZONE.state.lock();
    state.apart.mapped -= pages - free;
    state.apart.free += free;
    ZONE.close(state);
}

/// Of the free pages outside of the window so many were unmapped.
pub(super) fn drop_apart(pages: usize) {
    let mut state = ZONE.state.lock();
    state.apart.mapped -= pages;
    state.apart.free -= pages;
    state.purged += pages * PAGE;
    ZONE.close(state);
}

/// Free pages outside of the window that nobody knows any more.
pub(super) fn forget_apart() {
    let mut state = ZONE.state.lock();
    state.apart.free = 0;
    ZONE.close(state);
}

/// A tick of the decay has passed: how many bytes have been idle for a whole period.
pub(super) fn tick() -> usize {
    let mut state = ZONE.state.lock();
    let dirty = state.buddy.dirty_pages();
    state.buddy.idle.tick(dirty) * PAGE
}

/// The zone's numbers, without its lock: while it is changed they may not belong together.
pub fn stats() -> ZoneStats {
    ZONE.stats()
}

/// Takes up to `out.len()` single pages under one lock; returns how many.
pub(super) fn alloc_batch(out: &mut [Option<Page>]) -> usize {
    let Some(mut state) = ZONE.state() else {
        return 0;
    };
    let mut got = 0;
    for place in &mut *out {
        *place = state.alloc_pages(&ZONE, 0);
        if place.is_none() {
            break;
        }
        got += 1;
    }
    if !ZONE.close_given(state) {
        for page in out[..got].iter_mut().filter_map(Option::take) {
            // SAFETY: given to us just now.
            unsafe { ZONE.free(page, 1) };
        }
        return 0;
    }
    got
}

/// Gives back single pages under one lock.
///
/// # Safety
/// The caller owns the pages and gives them up.
pub(super) unsafe fn free_batch(pages: &[Page]) {
    for &page in pages {
        // SAFETY: promised by the caller.
        unsafe { ZONE.undescribe(page, 1) };
    }
    let mut state = ZONE.state.lock();
    for &page in pages {
        let index = state.index(page);
        state.buddy.free(index, 1, true);
    }
    ZONE.close(state);
}

/// Makes sure the mark bytes of [addr, addr+len), part of the window, can be written. They are zero at
/// first. False if there is no memory for them.
pub fn ensure_marks(k: u32, addr: usize, len: usize) -> bool {
    ZONE.state.lock().window.ensure_marks(k, addr, len)
}

/// Holds the locks for a fork.
pub(super) fn hold_for_fork() {
    ZONE.purging.hold_for_fork();
    ZONE.state.hold_for_fork();
}

/// Lets go of them in the parent.
pub(super) fn let_go_after_fork() {
    ZONE.state.let_go_after_fork();
    ZONE.purging.let_go_after_fork();
}

/// In the only thread of a forked child. If somebody who is not here was changing the zone, no page below the
/// horizon is free any more: what is given back from now on is free again; the rest belongs to nobody. So
/// does a stretch that was being purged, or that somebody was being told of.
pub(super) fn settle_in_child() {
    ZONE.purging.settle_in_child(|()| {});
    // SAFETY: a change that nobody will finish.
    ZONE.state.settle_in_child(|state| unsafe { state.forget_free(&ZONE) });
}

/// See [`super::let_go_of_own`].
pub(super) fn let_go_of_own() {
    ZONE.purging.let_go_of_own(|()| {});
    // SAFETY: our own change, which nobody will finish. What others have out of the zone they give back as
    // they would.
    ZONE.state.let_go_of_own(|state| unsafe { state.recount(&ZONE) });
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
