//! Large blocks: page runs of their own, past the largest class.
//!
//! A large block is a run of pages from the zone. The memdesc word of the first names its out-of-line
//! descriptor; the others' say, as in the zone, that they are nobody's. So what a block costs does not grow
//! with it, and an interior pointer is refused like any other that is no block's; whose it is, is found by a
//! search ([`LargeRef::around`]). `free` swaps the descriptor's state from live to freed: whoever finds it
//! freed already is a double free, caught at once. The descriptor carries the links of whatever the block
//! lies in while it is freed, so freeing a large block needs no memory (G4).
//!
//! ```text
//!   zone --create--> live --free, solo-----------------------------+
//!                     ^  \--free, deferring--> batch ~~~ cookie ~~~+--> ready --past its bound--> zone
//!                     +-------------- same size, or a little more <----'
//! ```
//!
//! Where pages come from and go to is in `large_pages.rs`, batches and the queues they wait in are in
//! `large_batch.rs`. The ready ones are each thread's (`cache/ready.rs`): whole, with descriptor and memdesc
//! word, so that they become live by one store. What goes back to the zone loses both; the zone's excess of
//! dirty pages goes back to the system.

use crate::class::large_pages;
use crate::class::size_class::SMALL_MAX;
use crate::constants::{PAGE, WORTH};
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::meta::MetaObject;
use crate::page::{Page, changed, watermark, window, zone};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use rcu::Cookie;

const NOTHING: u32 = 0;
const LIVE: u32 = 1;
const FREED: u32 = 2;
/// Freed by a realloc that moved, or the tail of one that shrank.
const OUTGROWN: u32 = 3;

/// Descriptor of a large block. Type-stable.
#[repr(C, align(64))]
pub(super) struct Descriptor {
    /// Link of the descriptors' free list, and of the batch a freed block is in.
    link: AtomicUsize,
    base: AtomicUsize,
    pages: AtomicUsize,
    /// The size the program asked for; of a freed block that begins a closed batch, when that was closed, in
    /// milliseconds of the coarse clock.
    asked: AtomicUsize,
    /// Of the batch that begins here: what it waits for, ...
    cookie: AtomicU64,
    /// ... its bytes, ...
    batch_bytes: AtomicUsize,
    /// ... the batch queued behind it, ...
    next_batch: AtomicUsize,
    /// ... and its blocks.
    batch_count: AtomicU32,
    state: AtomicU32,
}

const _: () = assert!(core::mem::size_of::<Descriptor>() == 64);

// SAFETY: `link` is used by the pool only while the descriptor is on its free list; zero bytes
// are a valid descriptor of nothing.
unsafe impl MetaObject for Descriptor {
    fn free_link(&self) -> &AtomicUsize {
        &self.link
    }
}

/// A handle on a large block's descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct LargeRef(NonNull<Descriptor>);

// SAFETY: a handle is an address; what it may be used for is said at each method.
unsafe impl Send for LargeRef {}

impl LargeRef {
    /// The large block whose first page holds `addr`.
    #[inline]
    pub fn of(addr: usize) -> Option<LargeRef> {
        LargeRef::named_by(memdesc::of(addr))
    }

    /// The large block any of whose pages holds `addr`. For diagnosis: goes back page by page to one that
    /// says what it is. Stale, and then wrong, if that changes meanwhile.
    pub fn around(addr: usize) -> Option<LargeRef> {
        let pages = (0..=addr / PAGE * PAGE).rev().step_by(PAGE).take_while(|&page| window::contains(page));
        let mut words = pages.map(memdesc::of);
        let told = words.find(|word| !matches!(word.kind(), Kind::Unknown | Kind::Free))?;
        LargeRef::named_by(told).filter(|block| addr.wrapping_sub(block.base()) < block.bytes())
    }

    /// The large block that a page's word names.
    #[inline]
    pub fn named_by(word: Memdesc) -> Option<LargeRef> {
        if word.kind() == Kind::Large { LargeRef::from_bits(word.descriptor()) } else { None }
    }

    fn get<'a>(self) -> &'a Descriptor {
        // SAFETY: descriptors are type-stable and all their fields atomic.
        unsafe { self.0.as_ref() }
    }

    fn from_bits(bits: usize) -> Option<LargeRef> {
        NonNull::new(bits as *mut Descriptor).map(LargeRef)
    }

    fn to_bits(large: Option<LargeRef>) -> usize {
        large.map_or(0, |large| large.0.as_ptr() as usize)
    }

    /// Its first byte.
    #[inline]
    pub fn base(self) -> usize {
        self.get().base.load(Ordering::Relaxed)
    }

    /// Its pages.
    #[inline]
    pub fn pages(self) -> usize {
        self.get().pages.load(Ordering::Relaxed)
    }

    /// Its usable bytes.
    #[inline]
    pub fn bytes(self) -> usize {
        self.pages() * PAGE
    }

    /// The size the program asked for; `None` if it has not got the block any more.
    pub fn asked(self) -> Option<usize> {
        self.is_live().then(|| self.get().asked.load(Ordering::Relaxed))
    }

    /// Whether the program has it.
    pub fn is_live(self) -> bool {
        self.get().state.load(Ordering::Relaxed) == LIVE
    }

    /// Whether it was freed by a realloc that moved: whoever outgrew this size will not soon ask for it
    /// again, and its pages are room for the next one to grow into.
    #[inline]
    pub fn is_outgrown(self) -> bool {
        self.get().state.load(Ordering::Relaxed) == OUTGROWN
    }

    /// Whether the program has changed what some of its pages are: they are mapped anew on their way through
    /// the zone.
    #[inline]
    pub fn is_changed(self) -> bool {
        changed::kinds() != 0 && Page::new(self.base()).is_some_and(|page| changed::any(page, self.pages()))
    }

    /// Gives a freed block out again, for `size` bytes. The caller took it from a thread's ready ones.
    #[inline]
    pub fn revive(self, size: usize) {
        let d = self.get();
        d.asked.store(size, Ordering::Relaxed);
        d.state.store(LIVE, Ordering::Relaxed);
    }

    /// A block of `size` bytes begins, described by `descriptor`.
    ///
    /// # Safety
    /// The descriptor is one of nothing and the caller's, as the run is.
    pub(super) unsafe fn begin(descriptor: NonNull<Descriptor>, page: Page, pages: usize, size: usize) {
        let block = LargeRef(descriptor);
        let d = block.get();
        d.base.store(page.addr(), Ordering::Relaxed);
        d.pages.store(pages, Ordering::Relaxed);
        block.revive(size);
        // SAFETY: promised by the caller; `set` publishes the descriptor with Release.
        unsafe { memdesc::set(page, 1, Memdesc::new(Kind::Large, descriptor.as_ptr() as usize, 0)) };
    }

    /// The pages of a live block past its first `keep` become a block of their own, described by
    /// `descriptor`, that is freed already: room for what grows, like what was outgrown.
    ///
    /// # Safety
    /// The descriptor is one of nothing and the caller's; the block is longer, and its owner is in this call.
    pub(super) unsafe fn split(self, descriptor: NonNull<Descriptor>, keep: usize) -> Option<LargeRef> {
        let start = Page::new(self.base() + keep * PAGE)?;
        let (tail, pages) = (LargeRef(descriptor), self.pages() - keep);
        let d = tail.get();
        d.base.store(start.addr(), Ordering::Relaxed);
        d.pages.store(pages, Ordering::Relaxed);
        d.asked.store(pages * PAGE, Ordering::Relaxed);
        d.state.store(OUTGROWN, Ordering::Relaxed);
        self.get().pages.store(keep, Ordering::Relaxed);
        // SAFETY: a page of the block's; `set` publishes the descriptor with Release.
        unsafe { memdesc::set(start, 1, Memdesc::new(Kind::Large, descriptor.as_ptr() as usize, 0)) };
        Some(tail)
    }

    /// A freed block ends, and its descriptor is one of nothing, which its page still names. Returns its run.
    /// `None`: it has ended before, or was not freed.
    pub(super) fn end(self) -> Option<(Page, usize)> {
        let state = &self.get().state;
        let freed = state.load(Ordering::Relaxed);
        let is_freed = matches!(freed, FREED | OUTGROWN);
        let ended =
            is_freed && state.compare_exchange(freed, NOTHING, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if ended { Some((Page::new(self.base())?, self.pages())) } else { None }
    }

    /// What describes it.
    pub(super) fn descriptor(self) -> NonNull<Descriptor> {
        self.0
    }

    // ---- what a batch is made of: see `large_batch.rs` ----

    pub(super) fn link(self) -> Option<LargeRef> {
        LargeRef::from_bits(self.get().link.load(Ordering::Relaxed))
    }

    pub(super) fn next_batch(self) -> Option<LargeRef> {
        LargeRef::from_bits(self.get().next_batch.load(Ordering::Relaxed))
    }

    pub(super) fn set_next_batch(self, next: Option<LargeRef>) {
        self.get().next_batch.store(LargeRef::to_bits(next), Ordering::Relaxed);
    }

    pub(super) fn cookie(self) -> Cookie {
        Cookie::from_bits(self.get().cookie.load(Ordering::Relaxed))
    }

    pub(super) fn set_cookie(self, cookie: Cookie) {
        self.get().cookie.store(cookie.to_bits(), Ordering::Relaxed);
    }

    /// When the batch that begins here was closed, in milliseconds of the coarse clock.
    pub(super) fn closed_ms(self) -> u32 {
        self.get().asked.load(Ordering::Relaxed) as u32
    }

    pub(super) fn set_closed_ms(self, now_ms: u32) {
        self.get().asked.store(now_ms as usize, Ordering::Relaxed);
    }

    /// Blocks and bytes of the batch that begins here.
    pub(super) fn account(self) -> (u32, usize) {
        let d = self.get();
        (d.batch_count.load(Ordering::Relaxed), d.batch_bytes.load(Ordering::Relaxed))
    }

    /// Makes this block the first of the batch that began with `first`.
    pub(super) fn precede(self, first: Option<LargeRef>) {
        let d = self.get();
        let (count, bytes) = first.map_or((0, 0), LargeRef::account);
        d.link.store(LargeRef::to_bits(first), Ordering::Relaxed);
        d.batch_count.store(count + 1, Ordering::Relaxed);
        d.batch_bytes.store(bytes + self.bytes(), Ordering::Relaxed);
    }
}

/// Pages that `size` bytes take. `None` past the end of the address space.
#[inline]
pub fn pages_for(size: usize) -> Option<usize> {
    Some((size.checked_add(PAGE - 1)? / PAGE).max(1))
}

/// Takes the live block at `addr` from the program: it is freed from here on, and the caller's. `None`:
/// `addr` is not where a live large block starts. `word` is its page's.
#[inline]
pub fn claim(addr: usize, word: Memdesc, outgrown: bool) -> Option<LargeRef> {
    let large = LargeRef::named_by(word)?;
    if large.base() != addr {
        return None;
    }
    // Two threads that free the same block meet here; one of them loses.
    let state = &large.get().state;
    let freed = if outgrown { OUTGROWN } else { FREED };
    state.compare_exchange(LIVE, freed, Ordering::AcqRel, Ordering::Relaxed).is_ok().then_some(large)
}

/// What came of resizing a block where it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Resized {
    /// Nothing: it has to move.
    Not,
    /// It holds the size now.
    Done,
    /// It does, and this, its tail, has become a block of its own, freed, that is to wait for a grace period.
    Shrunk(LargeRef),
}

/// A tail waits as a block of its own if it is more than this part of what is left of the block, as a shift,
/// or so many pages: else the block keeps it, as malloc may give as much too much, and a block that grows
/// again finds it there.
const KEPT_TAIL: (u32, usize) = (3, WORTH / PAGE);

/// Makes the live block at `addr` hold `size` bytes without moving it. `defers`: somebody may be reading the
/// tail that it gives up.
pub fn resize(addr: usize, size: usize, defers: bool) -> Resized {
    resize_in_place(addr, size, defers).unwrap_or(Resized::Not)
}

fn resize_in_place(addr: usize, size: usize, defers: bool) -> Option<Resized> {
    let large = LargeRef::of(addr)?;
    let (old, new) = (large.pages(), size.checked_add(PAGE - 1)? / PAGE);
    let page = Page::new(large.base())?;
    let d = large.get();
    if size <= SMALL_MAX {
        return None;
    }
    let mut resized = Resized::Done;
    if new < old {
        let tail = old - new;
        if !defers {
            let start = Page::new(page.addr() + new * PAGE)?;
            d.pages.store(new, Ordering::Relaxed);
            large_pages::resized(-(tail as isize));
            // SAFETY: the tail belongs to the live block, whose owner gives it up here.
            unsafe { zone::free_run(start, tail) };
            watermark::purge_excess(tail * PAGE);
        } else if (tail > new >> KEPT_TAIL.0 || tail >= KEPT_TAIL.1)
            && let Some(tail) = large_pages::split(large, new)
        {
            resized = Resized::Shrunk(tail);
        }
    } else if new > old {
        // SAFETY: the run is the live block's, whose owner is in this call.
        if !unsafe { zone::extend_run(page, old, new - old) } {
            return None;
        }
        d.pages.store(new, Ordering::Relaxed);
        large_pages::resized((new - old) as isize);
    }
    d.asked.store(size, Ordering::Relaxed);
    Some(resized)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::large_batch::Freed;
    use crate::class::large_pages::{create, release};
    use crate::page::zone::{Place, Want};

    #[test]
    fn a_tail_that_waits_is_a_block_of_its_own() {
        crate::own_process::in_own_process!();
        const PAGES: usize = 300;
        let want = Want { pages: PAGES, align: PAGE, place: Place::Tight, quarter: None };
        let (start, _) = create(Freed::EMPTY, PAGES * PAGE, want).unwrap();
        let before = large_pages::census().bytes;
        assert!(resize(start, 290 * PAGE, true) == Resized::Done, "so little stays");
        assert!(LargeRef::of(start).is_some_and(|block| block.pages() == PAGES));
        let Resized::Shrunk(tail) = resize(start, 100 * PAGE, true) else { panic!("it moves") };
        assert_eq!((tail.base(), tail.pages(), tail.is_live()), (start + 100 * PAGE, 200, false));
        assert!(LargeRef::around(start + 99 * PAGE).is_some_and(LargeRef::is_live));
        assert!(LargeRef::around(start + 299 * PAGE) == Some(tail));
        assert!(claim(tail.base(), memdesc::of(tail.base()), false).is_none(), "nobody can free it");
        assert_eq!(large_pages::census().bytes, before);
        let mut freed = Freed::EMPTY;
        freed.push(tail);
        release(freed);
        assert_eq!((large_pages::census().bytes, large_pages::census().count), (before - 200 * PAGE, 1));
        assert!(resize(start, PAGES * PAGE, true) == Resized::Done, "room to grow into");
    }

    #[test]
    fn an_interior_pointer_is_found_and_nothing_is_left_to_find() {
        crate::own_process::in_own_process!();
        // In a free block of 512.
        const PAGES: usize = 300;
        const GROWN: usize = 400;
        // What a page says from before makes no difference.
        let before = zone::alloc_pages(4).unwrap();
        // SAFETY: ours; nothing reads a descriptor from it.
        unsafe { memdesc::set(before, 16, Memdesc::of_kind(Kind::PageCache)) };
        // SAFETY: ours, unused.
        unsafe { zone::free_pages(before, 4) };
        let begin = || {
            let want = Want { pages: PAGES, align: PAGE, place: Place::Tight, quarter: None };
            let (start, _) = create(Freed::EMPTY, PAGES * PAGE, want).unwrap();
            (start, LargeRef::of(start).unwrap())
        };
        let end = |start: usize, block: LargeRef| {
            assert!(claim(start, memdesc::of(start), false) == Some(block));
            let mut freed = Freed::EMPTY;
            freed.push(block);
            release(freed);
        };
        // The first needs pages for descriptors, too.
        let (start, block) = begin();
        end(start, block);
        let (start, block) = begin();
        let around = |page: usize| LargeRef::around(start + page * PAGE + 77);
        assert!((0..PAGES).all(|page| around(page) == Some(block)));
        assert!(LargeRef::of(start + PAGE).is_none());
        assert!(around(PAGES).is_none() && LargeRef::around(start - 1).is_none());
        assert!(resize(start, GROWN * PAGE, false) == Resized::Done && around(GROWN - 1) == Some(block));
        assert!(resize(start, 20 * PAGE, false) == Resized::Done);
        assert!(around(19) == Some(block) && around(20).is_none());
        for anything in [0, 1, PAGE, usize::MAX, 1 << 63, window::base(), window::base() + window::horizon()]
        {
            assert!(LargeRef::around(anything).is_none(), "{anything:#x}");
        }
        end(start, block);
        assert!((0..GROWN).all(|page| around(page).is_none()));
    }
}
