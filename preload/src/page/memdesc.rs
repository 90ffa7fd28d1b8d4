//! The memdesc: one 8-byte word for every page of the window, that says what the page is.
//!
//! ```text
//!   63 ......... 48    47   46 ........................... 4 3 ... 0
//!   slot (Slab only) changed  descriptor's address, 16-aligned  kind
//! ```
//!
//! It is the kernel's memdesc (Wilcox): a 4-bit type and a pointer to a descriptor that lies
//! elsewhere. Ours also carries, for a slab, the byte offset of its class's slot in a
//! thread's table, so that `free` needs one load to know where to push. For every other kind
//! the slot is 0, the dummy that is always full: an unexpected page falls into the slow path
//! without a test of its own. *Every word with a slot other than 0 belongs to a live slab*;
//! the zone overwrites the words of what it takes back, so that this holds.
//!
//! The bit *changed* says that the program has changed what the page is beside its contents (`changed.rs`);
//! while it has, a page of a slab has slot 0.
//!
//! Who writes: the owner of the page, nobody else; while a page is free, the zone under its
//! lock. Who reads: anybody, any time, with any address. A reader that holds a live block of
//! the page sees the right word, because whatever handed it the block ordered it after the
//! owner's store. A reader with a wild pointer may see an older word and acts on it only to
//! print a message. Stores are Release and [`of`] is Acquire, so a descriptor found through
//! a word is seen initialised.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{Page, bounds};
use crate::constants::{PAGE, PAGE_SHIFT, SLAB_BYTES};
use crate::os::arch;

/// What a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Nothing has ever been said about it: never used, inside of a large block, or somebody else's.
    Unknown = 0,
    /// In the zone, after use, or inside of a large block.
    Free = 1,
    /// In a thread's page cache, or just out of one.
    PageCache = 2,
    /// Cut into blocks of one class.
    Slab = 3,
    /// One of those of a large block that name it, the first among them; or once was.
    Large = 4,
    /// A page of pointers.
    Magazine = 5,
    /// Descriptors and other metadata.
    Meta = 6,
    /// Kept for `free`.
    Reserve = 7,
    /// Cut into objects of a typed pool.
    Pool = 8,
}

const KINDS: [Kind; 9] = [
    Kind::Unknown,
    Kind::Free,
    Kind::PageCache,
    Kind::Slab,
    Kind::Large,
    Kind::Magazine,
    Kind::Meta,
    Kind::Reserve,
    Kind::Pool,
];

const KIND_MASK: u64 = 0xf; // (given) as an encoding
const DESCRIPTOR_MASK: u64 = 0x0000_7fff_ffff_fff0; // (given) as an encoding
/// No descriptor has this bit in its address, wherever a process has others: descriptors lie in the window.
const CHANGED: u64 = 1 << 47; // (given) as an encoding
const SLOT_SHIFT: u32 = 48; // (given) as an encoding

/// The word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Memdesc(pub u64);

impl Memdesc {
    /// A word for pages described by what lies at `descriptor`.
    #[inline]
    pub const fn new(kind: Kind, descriptor: usize, slot: u16) -> Memdesc {
        debug_assert!(descriptor as u64 & !DESCRIPTOR_MASK == 0);
        debug_assert!(slot == 0 || matches!(kind, Kind::Slab));
        Memdesc(kind as u64 | descriptor as u64 | (slot as u64) << SLOT_SHIFT)
    }

    /// A word that has no descriptor.
    #[inline]
    pub const fn of_kind(kind: Kind) -> Memdesc {
        Memdesc(kind as u64)
    }

    /// What the page is.
    #[inline]
    pub fn kind(self) -> Kind {
        KINDS.get((self.0 & KIND_MASK) as usize).copied().unwrap_or(Kind::Unknown)
    }

    /// Address of the descriptor; 0 if there is none.
    #[inline]
    pub const fn descriptor(self) -> usize {
        (self.0 & DESCRIPTOR_MASK) as usize
    }

    /// Whether the program has changed what the page is.
    #[inline]
    pub const fn is_changed(self) -> bool {
        self.0 & CHANGED != 0
    }

    /// Whether both say the same of their pages, whatever the program has made of these.
    pub fn agrees(self, other: Memdesc) -> bool {
        self.kind() == other.kind() && self.descriptor() == other.descriptor()
    }

    /// Byte offset of the class's slot; 0 unless the page is part of a slab.
    #[inline]
    pub const fn slot(self) -> u16 {
        (self.0 >> SLOT_SHIFT) as u16
    }
}

/// The process's words as of a moment: the window's line is read once for many addresses.
pub struct Words {
    base: usize,
    horizon: usize,
    table: usize,
}

impl Words {
    /// As of now. Whatever the caller holds lies below the horizon that this sees.
    #[inline(always)]
    pub fn now() -> Words {
        let horizon = bounds::horizon(); // first, so that its Acquire orders the others
        Words { base: bounds::base(), horizon, table: bounds::LINE.memdesc.load(Relaxed) }
    }

    /// The word of the page that `addr` lies in, for any address at all.
    #[inline(always)]
    pub fn of(&self, addr: usize) -> Memdesc {
        let offset = addr.wrapping_sub(self.base);
        if offset >= self.horizon {
            return Memdesc::of_kind(Kind::Unknown);
        }
        // SAFETY: below the horizon the table is mapped and never goes away; all access is atomic.
        // Acquire: pairs with the Release in `set`, what the descriptor held then is seen.
        Memdesc(unsafe { &*(self.table as *const AtomicU64).add(offset >> PAGE_SHIFT) }.load(Acquire))
    }
}

/// The word of the page that `addr` lies in, for any address at all.
#[inline]
pub fn of(addr: usize) -> Memdesc {
    Words::now().of(addr)
}

/// The slot offset in the word of the page that `addr` lies in: not 0 only in a slab.
#[inline(always)]
pub fn slot_of(addr: usize) -> usize {
    of(addr).0 as usize >> SLOT_SHIFT
}

/// Calls `visit` with the descriptor and the first page's address of every aligned 64 KiB all of
/// whose pages say that they are one slab of the class with this slot.
pub fn for_each_slab(slot: u16, mut visit: impl FnMut(usize, usize)) {
    const PAGES: usize = SLAB_BYTES / PAGE;
    let (base, pages) = (bounds::base(), bounds::horizon() >> PAGE_SHIFT);
    let word = |page: usize| of(base + page * PAGE);
    for first in (0..pages).step_by(PAGES) {
        let found = word(first);
        if found.kind() == Kind::Slab
            && (first..first + PAGES).all(|page| word(page).agrees(found))
            && (first..first + PAGES).any(|page| word(page).slot() == slot)
        {
            visit(found.descriptor(), base + first * PAGE);
        }
    }
}

/// The word of a page.
///
/// # Safety
/// The page lies below the horizon.
#[inline]
pub unsafe fn word(page: Page) -> &'static AtomicU64 {
    // SAFETY: promised by the caller.
    unsafe { at(bounds::LINE.memdesc.load(Relaxed), page.addr()) }
}

/// # Safety
/// `table` is the process's table and `addr` lies below the horizon.
#[inline]
unsafe fn at(table: usize, addr: usize) -> &'static AtomicU64 {
    let index = (addr - bounds::base()) >> PAGE_SHIFT;
    // SAFETY: below the horizon the table is mapped and never goes away; all access is
    // atomic.
    unsafe { &*(table as *const AtomicU64).add(index) }
}

/// Describes `pages` pages from `page` on.
///
/// # Safety
/// The caller owns the pages, and what the word's descriptor names stays for as long as the
/// word does.
#[inline]
pub unsafe fn set(page: Page, pages: usize, memdesc: Memdesc) {
    debug_assert!(bounds::contains(page.addr() + (pages - 1) * PAGE));
    // SAFETY: pages that have been given out lie below the horizon; the caller owns all of them.
    unsafe { fill(word(page), pages, memdesc) };
}

/// Describes one page of a block that may be in use: what the program has made of it stays.
///
/// # Safety
/// As [`set`].
#[inline]
pub unsafe fn set_in_block(page: Page, memdesc: Memdesc) {
    // SAFETY: promised by the caller.
    let word = unsafe { word(page) };
    // Relaxed: the caller's own. Release: pairs with the Acquire in `of`.
    word.store(memdesc.0 | word.load(Relaxed) & CHANGED, Release);
}

/// The program is about to change what the page is.
///
/// # Safety
/// The page lies below the horizon.
pub unsafe fn mark_changed(page: Page) {
    // SAFETY: promised by the caller.
    // Relaxed, here and below: the page's owner reads it, or whoever has a fence for it (`class/changed.rs`).
    unsafe { word(page) }.fetch_or(CHANGED, Relaxed);
}

/// What the program changed of the page is undone.
///
/// # Safety
/// The page lies below the horizon.
pub unsafe fn unmark_changed(page: Page) {
    // SAFETY: promised by the caller.
    unsafe { word(page) }.fetch_and(!CHANGED, Relaxed);
}

/// Frees of what is in a slab's page take the slow path.
///
/// # Safety
/// A page of a slab that cannot go meanwhile.
pub unsafe fn hide_slot(page: Page) {
    // SAFETY: promised by the caller.
    unsafe { word(page) }.fetch_and(!(u64::MAX << SLOT_SHIFT), Relaxed);
}

/// They do not.
///
/// # Safety
/// A page of a slab that cannot go meanwhile, whose class has this slot.
pub unsafe fn show_slot(page: Page, slot: u16) {
    // SAFETY: promised by the caller.
    unsafe { word(page) }.fetch_or((slot as u64) << SLOT_SHIFT, Relaxed);
}

/// Writes `memdesc` to `count` words from `first` on.
///
/// # Safety
/// They are words of pages that the caller owns.
#[inline]
pub(super) unsafe fn fill(first: *const AtomicU64, count: usize, memdesc: Memdesc) {
    // SAFETY: the caller's words. Each is written whole, behind all stores before: pairs with the Acquire in
    // `of`.
    unsafe { arch::fill_words(first.cast_mut().cast(), count, memdesc.0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::zone;

    #[test]
    fn packs() {
        let word = Memdesc::new(Kind::Slab, 0x7fff_ffff_ffc0, 32 * 65);
        assert_eq!(word.kind(), Kind::Slab);
        assert_eq!(word.descriptor(), 0x7fff_ffff_ffc0);
        assert_eq!(word.slot(), 32 * 65);
        for (i, &kind) in KINDS.iter().enumerate() {
            assert_eq!(kind as usize, i);
            assert_eq!(Memdesc::of_kind(kind).kind(), kind);
            assert_eq!(Memdesc::of_kind(kind).slot(), 0);
        }
    }

    #[test]
    fn any_address_may_be_asked() {
        let local = 0u8;
        for addr in [0, 1, usize::MAX, 1 << 63, &raw const local as usize] {
            assert_eq!(of(addr).kind(), Kind::Unknown);
        }
    }

    #[test]
    fn set_and_reset_by_the_zone() {
        let page = zone::alloc_pages(4).unwrap();
        // SAFETY: ours; nothing reads a descriptor from it.
        unsafe { set(page, 16, Memdesc::new(Kind::Slab, 0x1000, 64)) };
        assert_eq!(of(page.addr() + 16 * PAGE - 1).slot(), 64);
        // SAFETY: ours, unused.
        unsafe { zone::free_pages(page, 4) };
        // Another test may own the pages by now, but no test owns a slab at this descriptor.
        assert_ne!(of(page.addr()), Memdesc::new(Kind::Slab, 0x1000, 64));
    }
}
