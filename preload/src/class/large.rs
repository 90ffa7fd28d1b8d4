//! Large blocks: page runs of their own, past the largest class.
//!
//! A large block is a run of pages from the zone. The memdesc word of the first names its out-of-line descriptor; the
//! others' say, as in the zone, that they are nobody's. So what a block costs does not grow with it, and an interior pointer
//! is refused like any other that is no block's; whose it is, is found by a search ([`LargeRef::around`]). `free` swaps the
//! descriptor's state from live to freed: whoever finds it freed already is a double free, caught at
//! once. The descriptor carries the links of whatever the block lies in while it is freed, so
//! freeing a large block needs no memory (G4).
//!
//! ```text
//!   zone --create--> live --free, solo-----------------------------+
//!                     ^  \--free, deferring--> batch ~~~ cookie ~~~+--> ready --past its bound--> zone
//!                     +-------------- same size, or a little more <----'
//! ```
//!
//! Where pages come from and go to is in `large_pages.rs`, batches and the queues they wait in are in `large_batch.rs`.
//! The ready ones are each thread's (`thread/ready.rs`): whole, with descriptor and memdesc word, so that they become live by one store.
//! What goes back to the zone loses both; the zone's excess of dirty pages goes back to the system.

use crate::class::large_pages;
use crate::class::size_class::SMALL_MAX;
use crate::constants::PAGE;
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::meta::MetaObject;
use crate::page::{Page, watermark, window, zone};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use rcu::Cookie;

const NOTHING: u32 = 0;
const LIVE: u32 = 1;
const FREED: u32 = 2;
/// Freed by a realloc that moved.
const OUTGROWN: u32 = 3;

/// Descriptor of a large block. Type-stable.
#[repr(C, align(64))]
pub(super) struct Descriptor {
    /// Link of the descriptors' free list, and of the batch a freed block is in.
    link: AtomicUsize,
    base: AtomicUsize,
    pages: AtomicUsize,
    /// The size the program asked for.
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

    /// The large block any of whose pages holds `addr`. For diagnosis: goes back page by page to one that says what
    /// it is. Stale, and then wrong, if that changes meanwhile.
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

    /// The size the program asked for.
    pub fn asked(self) -> usize {
        self.get().asked.load(Ordering::Relaxed)
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

    /// A freed block ends, and its descriptor is one of nothing, which its page still names. Returns its run. `None`: it has
    /// ended before, or was not freed.
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

/// Makes the live block at `addr` hold `size` bytes without moving it. `may_shrink`: nobody can
/// be reading the tail. True if it does now.
pub fn resize(addr: usize, size: usize, may_shrink: bool) -> bool {
    let Some(large) = LargeRef::of(addr) else { return false };
    let Some(rounded) = size.checked_add(PAGE - 1) else { return false };
    let (old, new) = (large.bytes() / PAGE, rounded / PAGE);
    let Some(page) = Page::new(large.base()) else { return false };
    let d = large.get();
    if size <= SMALL_MAX {
        return false;
    }
    if new < old && may_shrink {
        let Some(tail) = Page::new(page.addr() + new * PAGE) else { return false };
        d.pages.store(new, Ordering::Relaxed);
        large_pages::resized(-((old - new) as isize));
        // SAFETY: the tail belongs to the live block, whose owner gives it up here.
        unsafe { zone::free_run(tail, old - new) };
        watermark::purge_excess((old - new) * PAGE);
    } else if new > old {
        // SAFETY: the run is the live block's, whose owner is in this call.
        if !unsafe { zone::extend_run(page, old, new - old) } {
            return false;
        }
        d.pages.store(new, Ordering::Relaxed);
        large_pages::resized((new - old) as isize);
    } else if new * 2 < old {
        return false;
    }
    d.asked.store(size, Ordering::Relaxed);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::large_batch::Freed;
    use crate::class::large_pages::{create, release};
    use crate::page::zone::{Place, Want};

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
        assert!(resize(start, GROWN * PAGE, true) && around(GROWN - 1) == Some(block));
        assert!(resize(start, 20 * PAGE, true));
        assert!(around(19) == Some(block) && around(20).is_none());
        for anything in [0, 1, PAGE, usize::MAX, 1 << 63, window::base(), window::base() + window::horizon()]
        {
            assert!(LargeRef::around(anything).is_none(), "{anything:#x}");
        }
        end(start, block);
        assert!((0..GROWN).all(|page| around(page).is_none()));
    }
}
