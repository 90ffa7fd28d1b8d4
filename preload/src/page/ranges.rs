//! Runs in mappings of their own: what is so long that it is not cut out of the window.
//!
//! A run of [`APART_LEAST`] pages and more is a *range* of addresses behind the window, mapped when it is
//! given out. Which range an address belongs to says a range map (`rcu::range_map`), whose values are memdesc
//! words: it is to these addresses what the table beside the window is to the window's. [`of`] asks either;
//! whoever asks the map takes no lock.
//!
//! Addresses cost nothing, so each range is put far behind the last one, and grows where it is
//! ([`extend_run`]): no realloc of such a block has to copy, readers or not. What comes back stays mapped,
//! *free*, for who asks next, the best fitting one first, and grows if it is too short; it is in the zone's
//! account of dirty pages, and is unmapped, piece by piece from its end, when that gives back (`purge.rs`). A
//! range that the program has changed is unmapped at once. Where somebody listens for memory that goes
//! (`os/listeners.rs`), what is to go is put aside, and goes at the end of the call ([`leave`]).
//!
//! One lock for all but look-ups, taken before every other of this floor. Look-ups have a domain of their own
//! whose readers they are, one each: no thread is a reader of it in between, so no grace period waits, and a
//! handler may look anything up, whatever it has interrupted.
//!
//! No call here fails in the middle: the map's nodes are put by first ([`provide`]), and what cannot be said
//! to it when pages come back is left as it was. A word that names a descriptor is believed only if that says
//! so, too.

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use super::idle::Idle;
use super::memdesc::{self, Kind, Memdesc};
use super::zone::{self, Purged};
use super::{Page, bounds, limit, meta, promise};
use crate::constants::{
    APART_FREE, APART_GROWTH, APART_LEAST, APART_LOOKS, APART_MOST, APART_READERS, APART_ROOM, APART_SPAN,
    HUGE_PAGE, PAGE, PURGE_PAGES, RANGE_NODES, RANGE_NODES_LEAST, RANGE_NODES_MOST, WINDOW,
};
use crate::os::listeners;
use crate::os::lock::Lock;
use crate::os::map::{self, Placed};
use rcu::range_map::{Entry, Node, NodeSource, RangeMap, View};
use rcu::{Domain, ReaderBlock, ReaderCell, ReaderWord};

/// Where the map's nodes come from: those that [`provide`] has put by.
struct Nodes;

/// The first of them, which are linked through their first words, and how many there are. Under the lock.
static NODE: AtomicUsize = AtomicUsize::new(0);
static NODE_COUNT: AtomicUsize = AtomicUsize::new(0);
/// Nodes that were ever put by.
static NODES_MADE: AtomicUsize = AtomicUsize::new(0);

impl NodeSource for Nodes {
    const EXPEDITES: bool = false;

    fn node(&mut self) -> Option<&'static mut Node> {
        let node = NODE.load(Relaxed) as *mut Node;
        if node.is_null() {
            return None;
        }
        // SAFETY: memory for a node, for ever, and nobody else's, whose first word is the link; zero bytes
        // are a node.
        unsafe {
            NODE.store(node.cast::<usize>().read(), Relaxed);
            node.cast::<usize>().write(0);
            NODE_COUNT.fetch_sub(1, Relaxed);
            Some(&mut *node)
        }
    }
}

/// Puts nodes by, from the metadata, for all that may be changed until the next time. Not where pages are
/// given back: that never takes memory.
#[inline(never)]
fn provide() {
    while NODE_COUNT.load(Relaxed) < RANGE_NODES_LEAST
        && NODES_MADE.load(Relaxed) < RANGE_NODES_MOST
        && let Some(bytes) = meta::bytes((RANGE_NODES + 1) * size_of::<Node>())
    {
        let first = (bytes.as_ptr() as usize).next_multiple_of(align_of::<Node>());
        for node in (0..RANGE_NODES).map(|at| (first + at * size_of::<Node>()) as *mut usize) {
            // SAFETY: metadata cut for it, zero, aligned, and for ever.
            unsafe { node.write(NODE.load(Relaxed)) };
            NODE.store(node as usize, Relaxed);
            NODE_COUNT.fetch_add(1, Relaxed);
        }
        NODES_MADE.fetch_add(RANGE_NODES, Relaxed);
    }
}

type Map = RangeMap<NonZeroU64, Nodes>;

static MAP: Map = RangeMap::new(Nodes);
static LOOKUPS: Domain = Domain::new(0x6c); // (given) as a name: each domain has another
static CELLS: [ReaderCell; APART_READERS] = [const { ReaderCell::new() }; APART_READERS];
// (given) as a unit.
static WORDS: [ReaderWord; APART_READERS / 32] = [const { ReaderWord::new() }; APART_READERS / 32];
static READERS: ReaderBlock = ReaderBlock::new(&WORDS, &CELLS);

/// Whether there ever was a range.
#[unsafe(link_section = ".data")]
static ANY: AtomicBool = AtomicBool::new(false);

/// A stretch of addresses.
#[derive(Clone, Copy)]
struct Stretch {
    start: usize,
    end: usize,
}

impl Stretch {
    fn pages(self) -> usize {
        (self.end - self.start) / PAGE
    }
}

/// What the lock protects.
pub(super) struct Ranges {
    /// Where the next one is put behind.
    next: usize,
    /// Free ones, whose memory is still there, those that came first first. No two meet.
    free: [Stretch; APART_FREE],
    count: usize,
    /// Pages that are free and not among these: see [`ASIDE`].
    aside: usize,
    /// Mappings that all of them are, as far as is known.
    mappings: usize,
    idle: Idle,
}

static RANGES: Lock<Ranges> = Lock::new(Ranges {
    next: 0,
    free: [Stretch { start: 0, end: 0 }; APART_FREE],
    count: 0,
    aside: 0,
    mappings: 0,
    idle: Idle::new(),
});

/// What is said of a free range that nobody may have, as it is to go where somebody listens for that.
const ASIDE: Memdesc = Memdesc::new(Kind::Free, PAGE, 0);

/// The addresses in which all ranges lie.
fn span() -> Stretch {
    let start = bounds::base().wrapping_add(WINDOW);
    Stretch { start, end: start.wrapping_add(APART_SPAN) }
}

/// Whether a run of so many pages is a range.
#[inline]
pub fn is_apart(pages: usize) -> bool {
    pages >= APART_LEAST
}

/// Whether `addr` lies where ranges do.
#[inline]
pub fn holds(addr: usize) -> bool {
    addr.wrapping_sub(bounds::base()).wrapping_sub(WINDOW) < APART_SPAN && ANY.load(Relaxed)
}

/// The word of the page that `addr` lies in, for any address at all: the window's, or its range's. Where
/// ranges lie and none is it says Free.
#[inline]
pub fn of(addr: usize) -> Memdesc {
    let word = memdesc::of(addr);
    if word.0 == 0 && holds(addr) { of_range(addr) } else { word }
}

#[cold]
#[inline(never)]
fn of_range(addr: usize) -> Memdesc {
    look(|view| view.get(addr)).map_or(Memdesc::of_kind(Kind::Free), |word| Memdesc(word.get()))
}

/// The range that `addr` lies in: its first address, its bytes, and its word.
pub fn find(addr: usize) -> Option<(usize, usize, Memdesc)> {
    if holds(addr) { next_from(addr).filter(|range| range.0 <= addr) } else { None }
}

/// The range that `addr` lies in, or the next one.
#[inline(never)]
pub fn next_from(addr: usize) -> Option<(usize, usize, Memdesc)> {
    if !ANY.load(Relaxed) {
        return None;
    }
    let entry = look(|view| view.cursor(addr).next())?;
    Some((entry.start, entry.len(), Memdesc(entry.value.get())))
}

/// Looks into the map.
fn look<R>(into: impl Fn(View<'_, NonZeroU64, rcu::range_map::Unmeasured>) -> R) -> R {
    // Acquire: pairs with the Release in `open`.
    if ANY.load(Acquire) {
        // SAFETY: a section of the one domain that all writers are given.
        let seen = LOOKUPS.glance(|section| into(unsafe { MAP.view(section) }));
        if let Ok(seen) = seen {
            return seen;
        }
    }
    let _ranges = RANGES.lock();
    // SAFETY: as above.
    let writer = unsafe { MAP.write(&LOOKUPS) };
    into(writer.view())
}

/// Says `word`, or that nothing is there. By itself, for its part of the stack. False: the map has no node
/// for that, and is as it was.
#[inline(never)]
fn say(range: Stretch, word: Option<Memdesc>) -> bool {
    // SAFETY: all writers are given this domain.
    let mut writer = unsafe { MAP.write(&LOOKUPS) };
    writer.store(range.start..range.end, word.and_then(|word| NonZeroU64::new(word.0))).is_ok()
}

/// The range that begins at `at` or behind, as the lock's holder sees it, or the one that `at` lies in.
fn behind(at: usize) -> Option<Entry<NonZeroU64>> {
    // SAFETY: as in `say`.
    let writer = unsafe { MAP.write(&LOOKUPS) };
    writer.view().cursor(at).next()
}

impl Ranges {
    /// Opens it, if it is not open. False: there is no window yet.
    fn open(&mut self) -> bool {
        if self.next != 0 {
            return true;
        }
        if !zone::init() {
            return false;
        }
        LOOKUPS.init_without_membarrier();
        LOOKUPS.add_block(&READERS);
        self.next = span().start;
        // Release: pairs with the Acquire in `look`.
        ANY.store(true, Release);
        true
    }

    fn free_pages(&self) -> usize {
        self.free[..self.count].iter().map(|free| free.pages()).sum()
    }

    fn remove(&mut self, at: usize) {
        self.free.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }

    /// The first pages of free stretch `at`, up to `end`, are not free any more.
    fn shorten(&mut self, at: usize, end: usize) {
        self.free[at].start = end;
        if self.free[at].start == self.free[at].end {
            self.remove(at);
        }
        let left = self.free_pages();
        self.idle.fell_to(left);
    }

    /// A free stretch for `bytes`: the shortest that is long enough, or else the longest that is nobody's
    /// tail, for what begins there would be in the way of who is in front.
    fn best(&self, bytes: usize, align: usize) -> Option<usize> {
        let length = |at: usize| self.free[at].end - self.free[at].start;
        let all = (0..self.count).filter(|&at| self.free[at].start.is_multiple_of(align));
        let (long, short): (usize, usize) = all.fold((usize::MAX, usize::MAX), |(long, short), at| {
            if length(at) >= bytes {
                (if long == usize::MAX || length(at) < length(long) { at } else { long }, short)
            } else {
                (long, if short == usize::MAX || length(at) > length(short) { at } else { short })
            }
        });
        let is_tail =
            |at: usize| behind(self.free[at].start - 1).is_some_and(|it| it.end == self.free[at].start);
        match (long, short) {
            (usize::MAX, usize::MAX) => None,
            (usize::MAX, short) => Some(short).filter(|&short| !is_tail(short)),
            (long, _) => Some(long),
        }
    }

    /// A run out of free stretch `at`, which may have to grow for it.
    #[inline(never)]
    fn reuse(&mut self, at: usize, pages: usize, word: Memdesc) -> Option<(Page, usize)> {
        let Stretch { start, end } = self.free[at];
        let range = Stretch { start, end: start + pages * PAGE };
        let used = end.min(range.end);
        let free = (used - start) / PAGE;
        if !zone::take_apart(pages, free) {
            return None;
        }
        if !fill(used, range.end) || !say(range, Some(word)) {
            drop_new(used, range.end);
            zone::put_apart(pages, free);
            return None;
        }
        self.shorten(at, used);
        Some((Page::new(start)?, free))
    }

    /// A run at a new place.
    #[inline(never)]
    fn map(&mut self, pages: usize, align: usize, word: Memdesc) -> Option<(Page, usize)> {
        if self.mappings >= APART_MOST || !zone::take_apart(pages, 0) {
            return None;
        }
        let range = self.place(pages * PAGE, align);
        let is_said = range.is_some_and(|range| say(range, Some(word)));
        match range {
            Some(range) if is_said => {
                self.mappings += 1;
                Some((Page::new(range.start)?, 0))
            }
            _ => {
                if let Some(range) = range {
                    drop_new(range.start, range.end);
                }
                zone::put_apart(pages, 0);
                None
            }
        }
    }

    /// Maps `bytes` in the next gap that has room for them: so far behind its beginning that the larger of
    /// this and of what is in front could grow [`APART_GROWTH`] times, or in its middle.
    fn place(&mut self, bytes: usize, align: usize) -> Option<Stretch> {
        let span = span();
        let mut wrapped = false;
        let front =
            behind(self.next - 1).filter(|range| range.end == self.next).map_or(0, |range| range.len());
        let room = front.max(bytes).saturating_mul(APART_GROWTH).min(APART_ROOM);
        for _ in 0..APART_LOOKS {
            let found = behind(self.next);
            let gap_end = found.map_or(span.end, |range| range.start.min(span.end));
            let spare = gap_end.saturating_sub(self.next).checked_sub(bytes);
            let at = spare.map(|spare| self.next + (spare / 2).min(room));
            if let Some(start) = at.and_then(|at| at.checked_next_multiple_of(align))
                && start <= gap_end - bytes
            {
                match map::map_at(start, bytes) {
                    Placed::Done => {
                        self.next = start + bytes;
                        return Some(Stretch { start, end: start + bytes });
                    }
                    Placed::Refused => return None,
                    // Somebody else's mapping.
                    Placed::Occupied => self.next = start + bytes,
                }
            } else if let Some(range) = found.filter(|range| range.end < span.end) {
                self.next = range.end;
            } else if core::mem::replace(&mut wrapped, true) {
                return None;
            } else {
                self.next = span.start;
            }
        }
        None
    }

    /// Makes a stretch that was given out free.
    #[inline(never)]
    fn keep(&mut self, mut stretch: Stretch) {
        say(stretch, Some(Memdesc::of_kind(Kind::Free)));
        zone::put_apart(stretch.pages(), stretch.pages());
        for at in (0..self.count).rev() {
            let Stretch { start, end } = self.free[at];
            if end == stretch.start || start == stretch.end {
                stretch = Stretch { start: stretch.start.min(start), end: stretch.end.max(end) };
                self.remove(at);
            }
        }
        if self.count == APART_FREE && listeners::are_there() {
            self.set_aside(stretch);
            return;
        }
        if self.count == APART_FREE {
            let lengths = self.free.iter().enumerate();
            let (at, &shortest) = lengths.min_by_key(|(_, free)| free.pages()).unwrap_or((0, &stretch));
            // Of this one's length at most, but for the first time.
            self.leave_free(at, shortest);
        }
        if let Some(place) = self.free.get_mut(self.count) {
            *place = stretch;
            self.count += 1;
        }
    }

    /// A free stretch is to go, and nobody may have it before.
    fn set_aside(&mut self, stretch: Stretch) {
        if say(stretch, Some(ASIDE)) {
            self.aside += stretch.pages();
            promise::add(stretch.pages() * PAGE);
        }
    }

    /// A stretch that was set aside, for who unmaps it without the lock.
    #[inline(never)]
    fn take_aside(&mut self) -> Option<Stretch> {
        let mut at = span().start;
        while let Some(Entry { start, end, value }) = behind(at) {
            if value.get() == ASIDE.0 {
                let stretch = Stretch { start, end };
                self.aside = self.aside.saturating_sub(stretch.pages());
                return say(stretch, Some(Memdesc::of_kind(Kind::Free))).then_some(stretch);
            }
            at = end;
        }
        None
    }

    /// Up to `most` bytes of those that are kept, for the same.
    #[inline(never)]
    fn take_to_leave(&mut self, most: usize) -> Option<Stretch> {
        if self.count == 0 {
            return None;
        }
        let (Stretch { start, end }, most) = (self.free[0], most.min(PURGE_PAGES * PAGE));
        let stretch = Stretch { start: start.max(end.saturating_sub(most) & !(HUGE_PAGE - 1)), end };
        self.cut(0, stretch.start);
        Some(stretch)
    }

    /// Free stretch `at` ends at `end`.
    fn cut(&mut self, at: usize, end: usize) {
        self.free[at].end = end;
        if self.free[at].start == end {
            self.remove(at);
        }
    }

    /// A stretch was unmapped.
    fn left(&mut self, stretch: Stretch) {
        let meets_front = behind(stretch.start - 1).is_some_and(|range| range.end == stretch.start);
        let meets_back = behind(stretch.end).is_some_and(|range| range.start == stretch.end);
        match (meets_front, meets_back) {
            (true, true) => self.mappings += 1,
            (false, false) => self.mappings = self.mappings.saturating_sub(1),
            _ => {}
        }
        say(stretch, None);
    }

    /// Unmaps the pages of free stretch `at` from `from.start` on. False: the system refuses.
    fn leave_free(&mut self, at: usize, from: Stretch) -> bool {
        // SAFETY: free pages, which nobody looks at.
        let unmapped = unsafe { map::unmap(from.start, from.end - from.start) };
        if unmapped {
            self.left(from);
            zone::drop_apart(from.pages());
            self.idle.gave(from.pages());
            self.cut(at, from.start);
        }
        unmapped
    }
}

/// Maps [from, to), behind a range, if nothing is there.
fn fill(from: usize, to: usize) -> bool {
    from >= to
        || (to <= span().end
            && behind(from).is_none_or(|range| range.start >= to)
            && map::map_at(from, to - from) == Placed::Done)
}

/// Takes back what [`fill`] mapped, if it did.
fn drop_new(from: usize, to: usize) {
    // Nothing of ours is there but what was mapped just now.
    if from < to && behind(from).is_none_or(|range| range.start >= to) {
        // SAFETY: as said.
        unsafe { map::unmap(from, to - from) };
    }
}

/// Takes a run, to be described by `word`. So many of its first pages may hold anything, the others are zero.
/// None: out of memory, or of addresses.
#[cold]
#[inline(never)]
pub fn take(pages: usize, align: usize, word: Memdesc) -> Option<(Page, usize)> {
    let (mut ranges, align) = (RANGES.lock(), align.max(HUGE_PAGE));
    if pages > APART_SPAN / PAGE || align > APART_SPAN || !ranges.open() {
        return None;
    }
    provide();
    let best = ranges.best(pages * PAGE, align);
    let reused = best.and_then(|at| ranges.reuse(at, pages, word));
    reused.or_else(|| ranges.map(pages, align, word))
}

/// Gives back a run or any part of one. `changed`: the program has made something else of its pages than they
/// were.
///
/// # Safety The caller owns the pages, which [`take`] gave, and nothing refers to them any more but their
/// range's word.
#[cold]
#[inline(never)]
pub unsafe fn give(page: Page, pages: usize, changed: bool) {
    let stretch = Stretch { start: page.addr(), end: page.addr() + pages * PAGE };
    let mut ranges = RANGES.lock();
    if listeners::are_there() {
        if changed {
            zone::put_apart(pages, pages);
            ranges.set_aside(stretch);
        } else {
            ranges.keep(stretch);
            promise::add(if limit::hard() == usize::MAX { 0 } else { pages * PAGE });
        }
        return;
    }
    // SAFETY: promised by the caller.
    if (changed || limit::hard() != usize::MAX) && unsafe { map::unmap(stretch.start, pages * PAGE) } {
        ranges.left(stretch);
        zone::put_apart(pages, 0);
        return;
    }
    if changed {
        // SAFETY: promised by the caller.
        unsafe { map::map_anew(stretch.start, pages * PAGE) };
    }
    ranges.keep(stretch);
}

/// Describes the pages from `page` to the end of their range by `word` from here on. False: no memory.
#[cold]
#[inline(never)]
pub fn split(page: Page, pages: usize, word: Memdesc) -> bool {
    let _ranges = RANGES.lock();
    provide();
    say(Stretch { start: page.addr(), end: page.addr() + pages * PAGE }, Some(word))
}

/// Lengthens a run of `pages` pages, which `word` describes, by `more`, in place: all or nothing.
#[cold]
#[inline(never)]
pub fn extend_run(page: Page, pages: usize, more: usize, word: Memdesc) -> bool {
    let end = page.addr() + pages * PAGE;
    let Some(to) = more.checked_mul(PAGE).and_then(|bytes| end.checked_add(bytes)) else { return false };
    let mut ranges = RANGES.lock();
    provide();
    let all = 0..ranges.count;
    let next = all.into_iter().find(|&at| ranges.free[at].start == end);
    let used = next.map_or(end, |at| ranges.free[at].end.min(to));
    let free = (used - end) / PAGE;
    if !zone::take_apart(more, free) {
        return false;
    }
    if !fill(used, to) || !say(Stretch { start: page.addr(), end: to }, Some(word)) {
        drop_new(used, to);
        zone::put_apart(more, free);
        return false;
    }
    if let Some(at) = next {
        ranges.shorten(at, used);
    }
    true
}

/// Unmaps free ranges, those first that came first, from their ends, until the system has `max_bytes` of them
/// back. `resident`: only what was in memory counts.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
pub(super) fn purge(max_bytes: usize, resident: bool) -> Purged {
    let mut all = Purged { bytes: 0, stretches: 0, refused: 0 };
    while all.bytes < max_bytes {
        let mut ranges = RANGES.lock();
        if ranges.count == 0 {
            break;
        }
        let Stretch { start, end } = ranges.free[0];
        let most = (max_bytes - all.bytes).min(PURGE_PAGES * PAGE);
        // Whole huge pages, where it is so much.
        let whole = if most < HUGE_PAGE { PAGE } else { HUGE_PAGE };
        let from = (end.saturating_sub(most) & !(whole - 1)).max(start);
        let piece = Stretch { start: from, end };
        let counted = if resident { resident_pages(piece) } else { None };
        all.stretches += 1;
        if !ranges.leave_free(0, piece) {
            all.refused += 1;
            break;
        }
        all.bytes += counted.unwrap_or(piece.pages()) * PAGE;
    }
    all
}

/// The same where somebody listens for it: no lock is held while a range is unmapped.
#[cold]
#[inline(never)]
pub(super) fn leave(max_bytes: usize) -> usize {
    leave_all(max_bytes, false)
}

/// Unmaps what has been set aside until now, in the same way.
pub(super) fn leave_aside() -> usize {
    if !ANY.load(Relaxed) {
        return 0;
    }
    let aside = RANGES.lock().aside * PAGE;
    leave_all(aside, true)
}

#[inline(never)]
fn leave_all(max_bytes: usize, aside: bool) -> usize {
    let mut bytes = 0;
    while bytes < max_bytes {
        // Nothing of it is there while somebody is told.
        let taken = match aside {
            true => RANGES.lock().take_aside(),
            false => RANGES.lock().take_to_leave(max_bytes - bytes),
        };
        let Some(stretch) = taken else { break };
        // SAFETY: free pages that nobody finds; the caller's thread may call libc.
        let unmapped = unsafe { listeners::unmap(stretch.start, stretch.end - stretch.start) };
        let mut ranges = RANGES.lock();
        if !unmapped {
            ranges.set_aside(stretch);
            break;
        }
        ranges.left(stretch);
        zone::drop_apart(stretch.pages());
        ranges.idle.gave(stretch.pages());
        bytes += stretch.pages() * PAGE;
    }
    bytes
}

/// Bytes of free ranges, as of a moment ago.
pub(super) fn free_bytes() -> usize {
    if ANY.load(Relaxed) { RANGES.lock().free_pages() * PAGE } else { 0 }
}

/// By itself, for its part of the stack.
#[inline(never)]
fn resident_pages(of: Stretch) -> Option<usize> {
    map::resident_pages(of.start, of.pages())
}

/// A tick of the decay has passed: how many bytes of free ranges have been idle for a whole period.
pub(super) fn tick() -> usize {
    if !ANY.load(Relaxed) {
        return 0;
    }
    let mut ranges = RANGES.lock();
    let free = ranges.free_pages();
    ranges.idle.tick(free) * PAGE
}

/// For fork: the lock.
pub(super) fn lock() -> &'static Lock<Ranges> {
    &RANGES
}

/// In the only thread of a forked child, behind the zone: nobody else looks anything up.
pub(super) fn settle_in_child() {
    RANGES.settle_in_child(Ranges::abandon);
    // SAFETY: no other thread of this process exists, and what this one was looking up in a frame that goes
    // on needs no more than nodes that nobody changes: a handler that forks leaves the lock to its owner.
    unsafe { LOOKUPS.after_fork_in_child(None) };
}

/// See [`super::let_go_of_own`].
pub(super) fn let_go_of_own() {
    RANGES.let_go_of_own(Ranges::abandon);
}

impl Ranges {
    /// A change of somebody's will not be finished: what was free belongs to nobody.
    fn abandon(&mut self) {
        self.count = 0;
        self.aside = 0;
        NODE.store(0, Relaxed);
        NODE_COUNT.store(0, Relaxed);
        zone::forget_apart();
        // SAFETY: writers hold this lock, which is the caller's now.
        unsafe { MAP.abandon_writer() };
    }
}

#[cfg(test)]
#[path = "ranges_tests.rs"]
mod tests;
