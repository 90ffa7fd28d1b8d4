//! Slabs: 64 KiB cut into blocks of one class, described out of line.
//!
//! The descriptor is type-stable metadata: `free` on another thread may read the one a stale
//! memdesc word still names, so it stays a descriptor for ever and its identity (class, base) is
//! read again under the class lock before anything is changed. All fields but `base` and `class`
//! belong to the holder of the class lock.
//!
//! A slab's blocks are, each exactly one of: not yet carved (index at or above `fresh`), in (bit
//! set in the free bitmap), waiting in the deferred bitmap, or with a magazine or the program.
//! The deferred bitmap is the end of the line for `free` when there is no memory for a magazine:
//! it was set aside when the slab was created, so it cannot fail (G4).

use crate::class::marks::Map;
use crate::class::size_class::{CLASSES, Class};
use crate::constants::{MOSTLY_QUARTERS, PAGE, SLAB_BYTES};
use crate::os::{listeners, map};
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::quarter::Quarter;
use crate::page::{Page, meta, zone};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// log2 of the pages of a slab.
const SLAB_ORDER: u32 = SLAB_PAGES.ilog2();
/// Pages of a slab.
const SLAB_PAGES: usize = SLAB_BYTES / PAGE;

/// Head of a descriptor; the free bitmap and then the deferred bitmap follow it. Its 48 bytes leave room on
/// its cache line for the free bits of 128 blocks: whoever puts a block back touches one line, not two.
#[repr(C)]
struct Head {
    /// Address of the first block; below [`SLAB_BYTES`], where an address of slabs has zeros, a bit for each
    /// page that went back to the system while all its blocks were in.
    base: AtomicUsize,
    next: Option<Slab>,
    prev: Option<Slab>,
    /// Next on the class's list of slabs with deferred bits.
    next_deferred: Option<Slab>,
    /// Cookie of the youngest deferred bit.
    cookie: u64,
    /// Blocks carved so far, from the start.
    fresh: u16,
    /// Bits set in the free bitmap.
    free: u16,
    /// Bits set in the deferred bitmap.
    deferred: u16,
    /// Bits 0 to 5 its class, 6 and 7 its quarter. Together, to keep the head at 48 bytes.
    class_and_quarter: u8,
    /// On the class's list of slabs with something to give.
    listed: bool,
}

/// Bits of a class's number.
const CLASS_BITS: u32 = CLASSES.next_power_of_two().trailing_zeros();

const _: () = assert!(Quarter::COUNT <= 1 << (8 - CLASS_BITS));

/// A handle on a slab's descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Slab(NonNull<Head>);

/// Words of one bitmap for `class`.
const fn words(class: Class) -> usize {
    class.blocks().div_ceil(64)
}

// SAFETY: a handle is an address of type-stable memory; what it may be used for is said at each
// method.
unsafe impl Send for Slab {}

impl Slab {
    /// A new slab of `class`, or `None` when memory is out. `unused` gives a descriptor of this
    /// class that an earlier slab left behind.
    pub fn create(class: Class, quarter: Quarter, unused: &mut Option<Slab>) -> Option<Slab> {
        let page = zone::alloc_pages(SLAB_ORDER)?;
        let base = page.addr();
        let described = zone::ensure_marks(class.shift(), base, SLAB_BYTES)
            .then(|| Slab::descriptor(class, unused))
            .flatten();
        let Some(mut slab) = described else {
            // SAFETY: allocated above and given to nobody.
            unsafe { zone::free_pages(page, SLAB_ORDER) };
            return None;
        };
        // SAFETY: the descriptor is on no list and no memdesc names it: it is ours.
        let head = unsafe { slab.0.as_mut() };
        head.base.store(base, Relaxed);
        head.class_and_quarter = class.index() as u8 | (quarter.index() as u8) << CLASS_BITS;
        head.next = None;
        head.prev = None;
        head.next_deferred = None;
        head.fresh = 0;
        head.free = 0;
        head.deferred = 0;
        head.listed = false;
        let word = Memdesc::new(Kind::Slab, slab.0.as_ptr() as usize, class.slot() as u16);
        // SAFETY: the sixteen pages were just allocated; the word is published with Release
        // after the descriptor it names.
        unsafe { memdesc::set(page, SLAB_PAGES, word) };
        Some(slab)
    }

    fn descriptor(class: Class, unused: &mut Option<Slab>) -> Option<Slab> {
        if let Some(slab) = *unused {
            // SAFETY: an unused descriptor belongs to the class pool, whose lock is held.
            *unused = unsafe { slab.0.as_ref() }.next;
            return Some(slab);
        }
        let bytes = core::mem::size_of::<Head>() + 2 * 8 * words(class);
        Some(Slab(meta::bytes(bytes)?.cast()))
    }

    /// Gives the slab's memory to the zone; its descriptor joins `unused`. All its blocks must
    /// be in and it must be on no list.
    pub fn destroy(mut self, unused: &mut Option<Slab>) {
        let page = Page::new(self.base());
        for bits in self.free_bits() {
            *bits = 0;
        }
        // SAFETY: the class lock is held and no block of the slab is out.
        unsafe { self.0.as_mut() }.next = *unused;
        *unused = Some(self);
        if let Some(page) = page {
            // SAFETY: the pages were the slab's and nobody holds a block of them.
            unsafe { zone::free_pages(page, SLAB_ORDER) };
        }
    }

    /// The slab that holds `addr`, if a slab does.
    #[inline]
    pub fn of(addr: usize) -> Option<Slab> {
        let word = memdesc::of(addr);
        if word.kind() != Kind::Slab {
            return None;
        }
        NonNull::new(word.descriptor() as *mut Head).map(Slab)
    }

    /// The slab, of the class with this slot, that a page's word names, if it does. Does not read the
    /// descriptor, unless the page's slot is hidden.
    #[inline(always)]
    pub fn named_by(word: Memdesc, slot: usize) -> Option<Slab> {
        // No other kind of page has a slot.
        if word.slot() as usize != slot {
            return Slab::hidden(word).filter(|slab| slab.class().slot() == slot);
        }
        NonNull::new(word.descriptor() as *mut Head).map(Slab)
    }

    /// The slab that a page's word names which has no slot: see [`changed`](super::changed).
    #[cold]
    #[inline(never)]
    fn hidden(word: Memdesc) -> Option<Slab> {
        if word.kind() != Kind::Slab || word.slot() != 0 {
            return None;
        }
        NonNull::new(word.descriptor() as *mut Head).map(Slab)
    }

    /// The class of the slab that a page's word is of.
    #[inline]
    pub fn class_of(word: Memdesc) -> Option<Class> {
        Class::of_slot(word.slot() as usize).or_else(|| Slab::hidden(word).map(Slab::class))
    }

    /// Its class.
    #[inline]
    pub fn class(self) -> Class {
        Class::new(self.head().class_and_quarter as usize % (1 << CLASS_BITS))
    }

    /// Whose blocks it holds, as far as that can be had.
    #[inline]
    pub fn quarter(self) -> Quarter {
        Quarter::of((self.head().class_and_quarter >> CLASS_BITS) as usize)
    }

    /// From now on another's. It is on no list.
    pub fn set_quarter(mut self, quarter: Quarter) {
        let class = self.class().index() as u8;
        // SAFETY: the class lock is held.
        unsafe { self.0.as_mut() }.class_and_quarter = class | (quarter.index() as u8) << CLASS_BITS;
    }

    /// Address of its first block.
    #[inline]
    pub fn base(self) -> usize {
        self.head().base.load(Relaxed) & !(SLAB_BYTES - 1)
    }

    /// Pages that went back to the system, as bits.
    #[inline(always)]
    fn purged(self) -> usize {
        self.head().base.load(Relaxed) & (SLAB_BYTES - 1)
    }

    /// Gives those of its pages to the system all of whose blocks are in and which have been used since:
    /// survivors of other sizes would keep all of its memory. Returns how many pages, in how many calls. The
    /// class lock is held.
    pub fn purge_pages(self) -> (usize, usize) {
        let (class, fresh, purged) = (self.class(), self.head().fresh as usize, self.purged());
        let bits = self.free_bits();
        let is_in = |block: usize| block >= fresh || bits[block / 64] >> (block % 64) & 1 != 0;
        let is_free = |page: usize| {
            let (from, to) = (page * PAGE, (page + 1) * PAGE - 1);
            let first = class.block_of(from as u16);
            let last = class.block_of(to as u16).min(class.blocks() - 1);
            purged >> page & 1 == 0 && first < fresh && (first..=last).all(is_in)
        };
        let (mut pages, mut calls, mut gone) = (0, 0, purged);
        // Not where somebody is to be told of it: the lock is held.
        let mut page = if listeners::are_there() { SLAB_PAGES } else { 0 };
        while page < SLAB_PAGES {
            let run = (page..SLAB_PAGES).take_while(|&page| is_free(page)).count();
            let addr = self.base() + page * PAGE;
            // SAFETY: no block in these pages is out, and none is taken before the class lock is let go of.
            if run != 0 && unsafe { map::purge(addr, run * PAGE) } {
                gone |= ((1 << run) - 1) << page;
                pages += run;
            }
            calls += usize::from(run != 0);
            page += run + 1;
        }
        // Relaxed: only holders of the class lock look at these bits.
        self.head().base.store(self.base() | gone, Relaxed);
        (pages, calls)
    }

    /// The block numbered `block` is taken: its pages are used from now on.
    #[cold]
    #[unsafe(link_section = ".text_solo")]
    fn use_pages(self, block: usize) {
        let size = self.class().size();
        let (first, last) = (block * size / PAGE, ((block + 1) * size - 1) / PAGE);
        let used = (1 << (last + 1)) - (1 << first);
        // Relaxed: as in `purge_pages`.
        self.head().base.fetch_and(!used, Relaxed);
    }

    /// Whether a block can be taken from it.
    #[inline]
    pub fn has_some(self) -> bool {
        self.head().free != 0 || (self.head().fresh as usize) < self.class().blocks()
    }

    /// Blocks that can be taken from it.
    #[inline]
    pub fn available(self) -> usize {
        self.head().free as usize + self.class().blocks() - self.head().fresh as usize
    }

    /// Whether at least three quarters of its blocks were out and have come back, or all that were.
    #[inline]
    pub fn is_mostly_returned(self) -> bool {
        self.is_empty() || self.head().free as usize * 4 >= self.class().blocks() * MOSTLY_QUARTERS
    }

    /// Whether no block of it is out, in a magazine or deferred.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.head().free == self.head().fresh
    }

    /// Whether it is on its class's list of slabs with something to give.
    #[inline]
    pub fn is_listed(self) -> bool {
        self.head().listed
    }

    /// Blocks carved, blocks in, blocks deferred.
    pub fn census(self) -> (usize, usize, usize) {
        let head = self.head();
        (head.fresh as usize, head.free as usize, head.deferred as usize)
    }

    /// Moves blocks into `out` in address order: returned ones first, then never-used ones, `fresh` at most,
    /// which counts down. Returns how many.
    pub fn take(mut self, out: &mut [usize], fresh: &mut usize) -> usize {
        let (base, size, limit) = (self.base(), self.class().size(), self.class().blocks());
        let purged = self.purged();
        let mut taken = 0;
        if self.head().free != 0 {
            'words: for (word, bits) in self.free_bits().iter_mut().enumerate() {
                while *bits != 0 {
                    if taken == out.len() {
                        break 'words;
                    }
                    let block = word * 64 + bits.trailing_zeros() as usize;
                    *bits &= *bits - 1;
                    out[taken] = base + block * size;
                    taken += 1;
                    if purged != 0 {
                        self.use_pages(block);
                    }
                }
            }
        }
        // SAFETY: the class lock is held.
        let head = unsafe { self.0.as_mut() };
        head.free -= taken as u16;
        let carved = (out.len() - taken).min(limit - head.fresh as usize).min(*fresh);
        for block in &mut out[taken..taken + carved] {
            *block = base + head.fresh as usize * size;
            if purged != 0 {
                self.use_pages(head.fresh as usize);
            }
            head.fresh += 1;
        }
        *fresh -= carved;
        taken + carved
    }

    /// Puts a block back, by its number. False if it was in already or was never carved: the caller's heap is
    /// damaged.
    #[inline(always)]
    pub fn put(mut self, block: usize) -> bool {
        let bit = 1u64 << (block % 64);
        // SAFETY: the class lock is held.
        let head = unsafe { self.0.as_mut() };
        if block >= head.fresh as usize {
            return false;
        }
        // SAFETY: the free bitmap follows the head, with a bit for every block that can be carved.
        let word = unsafe { &mut *self.0.as_ptr().add(1).cast::<u64>().add(block / 64) };
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        head.free += 1;
        true
    }

    /// Marks the block at `addr` deferred until `cookie`. Needs no memory.
    pub fn defer(mut self, addr: usize, cookie: u64) {
        let block = self.class().block_of((addr - self.base()) as u16);
        self.deferred_bits()[block / 64] |= 1u64 << (block % 64);
        // SAFETY: the class lock is held.
        let head = unsafe { self.0.as_mut() };
        head.deferred += 1;
        head.cookie = cookie;
    }

    /// The cookie all its deferred blocks wait for, if it has any.
    pub fn deferred_cookie(self) -> Option<u64> {
        (self.head().deferred != 0).then_some(self.head().cookie)
    }

    /// After the cookie: the deferred blocks become free ones. Returns how many.
    pub fn settle_deferred(mut self) -> usize {
        let count = words(self.class());
        for word in 0..count {
            let bits = core::mem::take(&mut self.deferred_bits()[word]);
            self.free_bits()[word] |= bits;
        }
        // SAFETY: the class lock is held.
        let head = unsafe { self.0.as_mut() };
        head.free += head.deferred;
        core::mem::take(&mut head.deferred) as usize
    }

    /// Whether it is described by what lies at `descriptor` and begins at `addr`.
    pub fn is_at(self, descriptor: usize, addr: usize) -> bool {
        self.0.as_ptr() as usize == descriptor && self.base() == addr
    }

    /// After a change that nobody will finish: counts what its bitmaps say, on no list.
    pub fn recount(mut self) {
        let count = |bits: &[u64]| bits.iter().map(|word| word.count_ones() as u16).sum();
        let free = count(self.free_bits());
        let deferred = count(self.deferred_bits());
        // SAFETY: the class lock is held.
        let head = unsafe { self.0.as_mut() };
        (head.free, head.deferred, head.listed) = (free, deferred, false);
        (head.next, head.prev, head.next_deferred) = (None, None, None);
    }

    /// Whether the block holding `addr` was ever carved, and whether it is in the slab or in
    /// its deferred bitmap. For diagnosis: read without the lock, may be stale.
    pub fn whereabouts(self, addr: usize) -> Whereabouts {
        // Another thread may recycle the descriptor meanwhile: read once, index with care. Whether
        // the answer is about the slab that was meant is the caller's to check again.
        let (class, base) = (self.class(), self.base());
        let block = class.block_of(addr.wrapping_sub(base) as u16);
        let is_set = |bits: &[u64]| bits.get(block / 64).is_some_and(|word| word >> (block % 64) & 1 != 0);
        if block >= class.blocks() || block >= self.head().fresh as usize {
            Whereabouts::NeverGiven
        } else if is_set(self.free_bits()) {
            Whereabouts::Free
        } else if is_set(self.deferred_bits()) {
            Whereabouts::Deferred
        // SAFETY: the block is one of this slab's, whose marks are committed.
        } else if unsafe { Map::of(class).is_out(base + block * class.size()) } {
            Whereabouts::Out
        } else {
            Whereabouts::Magazine
        }
    }

    /// List links for the class pool.
    pub fn links(&mut self) -> (&mut Option<Slab>, &mut Option<Slab>, &mut bool) {
        // SAFETY: the class lock is held.
        let head = unsafe { self.0.as_mut() };
        (&mut head.next, &mut head.prev, &mut head.listed)
    }

    /// Link of the list of slabs with deferred bits.
    pub fn deferred_link(&mut self) -> &mut Option<Slab> {
        // SAFETY: the class lock is held.
        unsafe { &mut self.0.as_mut().next_deferred }
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: descriptors are type-stable.
        unsafe { self.0.as_ref() }
    }

    /// The bitmap that begins with word `first`.
    fn bits<'a>(self, first: usize) -> &'a mut [u64] {
        // SAFETY: two bitmaps of `words` follow the head in the same piece of metadata; the
        // class lock is held (or, for diagnosis, only a stale word is read).
        unsafe {
            let start = self.0.as_ptr().add(1).cast::<u64>().add(first);
            core::slice::from_raw_parts_mut(start, words(self.class()))
        }
    }

    fn free_bits<'a>(self) -> &'a mut [u64] {
        self.bits(0)
    }

    fn deferred_bits<'a>(self) -> &'a mut [u64] {
        self.bits(words(self.class()))
    }
}

/// What the heap knows of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whereabouts {
    /// Not carved yet, or the slab's tail.
    NeverGiven,
    /// In its slab.
    Free,
    /// In its slab's deferred bitmap.
    Deferred,
    /// In a magazine that waits, or is full, or is in the depot.
    Magazine,
    /// With the program, or in a loaded or filling magazine.
    Out,
}
