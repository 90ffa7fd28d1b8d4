//! Large blocks: page runs of their own, past the largest class.
//!
//! A large block is a run of pages from the zone, described out of line. The memdesc words of few of its
//! pages name the descriptor: of the first, and for each power of two of the first that is a multiple of it
//! ([`ascent`]). So a block of 2^n pages writes at most n + 1 words, and whose an address is, is found by
//! clearing the lowest bit of its page's number again and again ([`LargeRef::around`]): no walk, however
//! long the block. Words of the others stay what they were, and so do those of a block that has gone, but for
//! the first; so a word that names a descriptor is believed only if that says that the block holds the page.
//! `free` swaps the descriptor's state from live to freed: whoever finds it
//! freed already is a double free, caught at once. The descriptor carries the links of whatever the block
//! lies in while it is freed, so freeing a large block needs no memory (G4).
//!
//! ```text
//!   zone --create--> live --free, solo-----------------------------+
//!                     ^  \--free, deferring--> batch ~~~ cookie ~~~+--> ready --past its bound--> zone
//!                     +-------------- same size, or a little more <----'
//! ```
//!
//! Where pages come from and go to is in `large_pages.rs`, batches are in `large_batch.rs`, and blocks that
//! change their size in `resize.rs`. The ready ones are each thread's (`cache/ready.rs`): whole, with
//! descriptor and memdesc word, so that they become live by one store. What goes back to the zone loses both;
//! the zone's excess of dirty pages goes back to the system.
//!
//! A block that is very long is a range of addresses outside of the window (`page/ranges.rs`), all of which
//! is named at once, so each of its pages says whose it is.

use crate::constants::PAGE;
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::meta::MetaObject;
use crate::page::{Page, bounds, changed, ranges};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use rcu::Cookie;

const NOTHING: u16 = 0;
/// With the program: of every such state this bit is set.
const LIVE: u16 = 1;
const FREED: u16 = 2;
/// Live, and in the profile.
const SAMPLED: u16 = LIVE | 2; // (given) as an encoding
/// Freed by a realloc that moved, or the tail of one that shrank.
const OUTGROWN: u16 = 4; // (given) as an encoding

/// The block is a range outside of the window.
const APART: u16 = 1;
/// The program has changed what some pages of that are. In the window each page is marked.
const CHANGED: u16 = 2;

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
    /// ... its bytes, ... Of a range that was given out anew: its first pages that may hold anything.
    batch_bytes: AtomicUsize,
    /// ... the batch queued behind it, ...
    next_batch: AtomicUsize,
    /// ... and its blocks.
    batch_count: AtomicU32,
    state: AtomicU16,
    /// [`APART`] and [`CHANGED`].
    flags: AtomicU16,
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
        LargeRef::named_by(ranges::of(addr)).filter(|block| block.base() == addr & !(PAGE - 1))
    }

    /// The large block any of whose pages holds `addr`, in as many steps as a page's number has bits. For
    /// diagnosis: stale, and then wrong, if that changes meanwhile.
    ///
    /// Let q be the page's number with its lowest bits cleared for as long as it lies in the block, so that
    /// with one more cleared, 2^k, it would lie in front of it. Then q - 2^k is in front of the block: q is
    /// the first multiple of 2^k in it, whose word names it.
    pub fn around(addr: usize) -> Option<LargeRef> {
        let holds = |block: &LargeRef| block.has_pages() && addr.wrapping_sub(block.base()) < block.bytes();
        if ranges::holds(addr) {
            return LargeRef::named_by(ranges::of(addr)).filter(holds);
        }
        let first = addr & !(PAGE - 1);
        core::iter::successors(Some(first), |&page| Some(page & page.wrapping_sub(PAGE)))
            .take_while(|&page| bounds::contains(page))
            .find_map(|page| LargeRef::named_by(memdesc::of(page)).filter(holds))
    }

    /// Whether it is a block, with the program or freed.
    fn has_pages(self) -> bool {
        self.get().state.load(Ordering::Relaxed) != NOTHING
    }

    /// Has the words of those pages name it that are to ([`ascent`]), from page number `from` of the block
    /// on.
    ///
    /// # Safety
    /// The pages are the block's, whose owner is in this call.
    #[unsafe(link_section = ".text_solo")]
    pub(super) unsafe fn name_pages(self, from: usize) {
        let (base, word) = (self.base(), LargeRef::word(self.0));
        let pages = ascent(base, self.bytes()).filter(|&page| page - base >= from * PAGE);
        for page in pages.filter_map(Page::new) {
            // SAFETY: promised by the caller. The descriptor is published with Release.
            unsafe { memdesc::set_in_block(page, word) };
        }
    }

    /// The word that names the block that `descriptor` describes.
    pub(super) fn word(descriptor: NonNull<Descriptor>) -> Memdesc {
        Memdesc::new(Kind::Large, descriptor.as_ptr() as usize, 0)
    }

    /// Whether it lies outside of the window, in a range.
    #[inline]
    pub fn is_apart(self) -> bool {
        self.get().flags.load(Ordering::Relaxed) & APART != 0
    }

    /// The program changes what some of the pages of this range are.
    pub fn note_changed(self) {
        self.get().flags.fetch_or(CHANGED, Ordering::Relaxed);
    }

    /// How many of the first pages of a range that has just been given out may hold anything.
    pub(super) fn soiled(self) -> usize {
        self.get().batch_bytes.load(Ordering::Relaxed)
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

    /// It has so many from here on.
    pub(super) fn set_pages(self, pages: usize) {
        self.get().pages.store(pages, Ordering::Relaxed);
    }

    /// The program has asked for `size` bytes.
    pub(super) fn set_asked(self, size: usize) {
        self.get().asked.store(size, Ordering::Relaxed);
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
        self.get().state.load(Ordering::Relaxed) & LIVE != 0
    }

    /// The live block, of which the caller is the owner, is in the profile, or is not any more.
    pub fn set_sampled(self, is_sampled: bool) {
        self.get().state.store(if is_sampled { SAMPLED } else { LIVE }, Ordering::Relaxed);
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
        changed::kinds() != 0 && self.has_changes()
    }

    #[cold]
    #[inline(never)]
    fn has_changes(self) -> bool {
        if self.is_apart() {
            return self.get().flags.load(Ordering::Relaxed) & CHANGED != 0;
        }
        Page::new(self.base()).is_some_and(|page| changed::any(page, self.pages()))
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
        d.flags.store(0, Ordering::Relaxed);
        block.revive(size);
        // SAFETY: promised by the caller.
        unsafe { block.name_pages(0) };
    }

    /// The same, of a run that is a range, which names it. Its first `soiled` pages may hold anything.
    ///
    /// # Safety
    /// As [`begin`](Self::begin).
    pub(super) unsafe fn begin_apart(
        descriptor: NonNull<Descriptor>,
        page: Page,
        pages: [usize; 2],
        size: usize,
    ) {
        let (block, [pages, soiled]) = (LargeRef(descriptor), pages);
        let d = block.get();
        d.base.store(page.addr(), Ordering::Relaxed);
        d.pages.store(pages, Ordering::Relaxed);
        d.batch_bytes.store(soiled, Ordering::Relaxed);
        d.flags.store(APART, Ordering::Relaxed);
        block.revive(size);
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
        d.flags.store(self.get().flags.load(Ordering::Relaxed), Ordering::Relaxed);
        d.base.store(start.addr(), Ordering::Relaxed);
        d.pages.store(pages, Ordering::Relaxed);
        d.asked.store(pages * PAGE, Ordering::Relaxed);
        if !self.is_apart() {
            // SAFETY: pages of the block's.
            unsafe { tail.name_pages(0) };
        } else if !ranges::split(start, pages, LargeRef::word(descriptor)) {
            return None;
        }
        d.state.store(OUTGROWN, Ordering::Relaxed);
        self.get().pages.store(keep, Ordering::Relaxed);
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

/// The addresses of those pages of a block of `bytes` at `base` whose words name it: the first page, and for
/// each power of two the first multiple of it. Adding its lowest bit to a number gives the next one.
fn ascent(base: usize, bytes: usize) -> impl Iterator<Item = usize> {
    let next = |&page: &usize| page.checked_add(page & page.wrapping_neg());
    core::iter::successors(Some(base), next).take_while(move |&page| page - base < bytes)
}

/// Pages that `size` bytes take. `None` past the end of the address space.
#[inline]
pub fn pages_for(size: usize) -> Option<usize> {
    Some((size.checked_add(PAGE - 1)? / PAGE).max(1))
}

/// Takes the live block at `addr` from the program: it is freed from here on, and the caller's. `None`:
/// `addr` is not where a live large block starts, or it is in the profile. `word` is its page's.
#[inline]
pub fn claim(addr: usize, word: Memdesc, outgrown: bool) -> Option<LargeRef> {
    claim_from(LIVE, addr, word, outgrown)
}

/// The same of a block that is in the profile.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn claim_sampled(addr: usize, word: Memdesc, outgrown: bool) -> Option<LargeRef> {
    claim_from(SAMPLED, addr, word, outgrown)
}

#[inline(always)]
fn claim_from(live: u16, addr: usize, word: Memdesc, outgrown: bool) -> Option<LargeRef> {
    let large = LargeRef::named_by(word)?;
    if large.base() != addr {
        return None;
    }
    // Two threads that free the same block meet here; one of them loses.
    let state = &large.get().state;
    let freed = if outgrown { OUTGROWN } else { FREED };
    state.compare_exchange(live, freed, Ordering::AcqRel, Ordering::Relaxed).is_ok().then_some(large)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::large_batch::Freed;
    use crate::class::large_pages::{self, create, release};
    use crate::class::resize::{Resized, resize};
    use crate::page::zone::{self, Place, Want};

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

    /// Whatever the place and the length: of each page, some word on the way down from it names the block,
    /// and few words do.
    #[test]
    fn few_words_name_a_block_and_each_page_finds_one() {
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        let mut throw = |sides: usize| {
            dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (dice >> 33) as usize % sides
        };
        for _ in 0..3000 {
            let base = (1 << 40) + throw(1 << 20) * PAGE;
            let most = 1 << throw(16);
            let pages = 1 + throw(most);
            let named: Vec<usize> = ascent(base, pages * PAGE).collect();
            assert!(named[0] == base && named.len() <= pages.ilog2() as usize + 2, "{pages}: {named:x?}");
            for page in (base..base + pages * PAGE).step_by(PAGE) {
                let down = core::iter::successors(Some(page), |&at| Some(at & at.wrapping_sub(PAGE)));
                let mut down = down.take_while(|&at| at >= base);
                assert!(down.any(|at| named.contains(&at)), "{page:x} of {pages} at {base:x}");
            }
        }
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
        for anything in [0, 1, PAGE, usize::MAX, 1 << 63, bounds::base(), bounds::base() + bounds::horizon()]
        {
            assert!(LargeRef::around(anything).is_none(), "{anything:#x}");
        }
        end(start, block);
        assert!((0..GROWN).all(|page| around(page).is_none()));
    }
}
