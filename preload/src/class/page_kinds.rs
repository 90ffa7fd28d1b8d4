//! What the pages of the heap are: a walk over their words, for figures.
//!
//! The tail pages of a large block do not say what they are, so the walk goes from descriptor to descriptor:
//! from a large block it goes on behind the block. What remains is free, a hole, somebody else's or not
//! ground yet, and the zone knows how much is which. So two independent accounts can be compared: what the
//! words say is in use and what the zone says is free make up what is mapped.
//!
//! No lock: a page that changes hands meanwhile may be counted as what it was, or not at all.

use crate::class::large::LargeRef;
use crate::constants::{PAGE, PAGE_SHIFT};
use crate::page::memdesc::{Kind, Words};
use crate::page::{bounds, ranges, zone};

/// Pages of each kind; `struct rcumalloc_page_stats` of the header. In pages of 4 KiB.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct PageStats {
    /// Bytes of this structure as the library knows it.
    pub size: u64,
    /// Cut into small blocks.
    pub slab: u64,
    /// Of large blocks that the program has.
    pub large_live: u64,
    /// Of large blocks that are freed and wait, or are ready to be handed out.
    pub large_freed: u64,
    /// Pages of pointers.
    pub magazine: u64,
    /// In page caches of threads.
    pub page_cache: u64,
    /// Kept for `free`.
    pub reserve: u64,
    /// Descriptors and other metadata.
    pub meta: u64,
    /// In the zone.
    pub free: u64,
    /// Mapped, all of them together.
    pub mapped: u64,
    /// Of typed pools.
    pub pool: u64,
}

impl PageStats {
    /// Those that somebody has, by their words.
    pub fn in_use(&self) -> u64 {
        let large = self.large_live + self.large_freed;
        self.slab + large + self.pool + self.magazine + self.page_cache + self.reserve + self.meta
    }
}

/// The pages as of now: one look at each page of small blocks, one at each large block.
#[inline]
pub fn count() -> PageStats {
    let mut stats = PageStats { size: size_of::<PageStats>() as u64, ..PageStats::default() };
    add_window(&mut stats);
    add_ranges(&mut stats);
    add_zone(&mut stats);
    stats
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn add_zone(stats: &mut PageStats) {
    let zone = zone::stats();
    stats.free = (zone.free_bytes / PAGE) as u64;
    stats.mapped = (zone.ground_bytes / PAGE) as u64;
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn add_window(stats: &mut PageStats) {
    let words = Words::now();
    let (base, pages) = (bounds::base(), bounds::horizon() >> PAGE_SHIFT);
    let mut at = 0;
    while at < pages {
        let addr = base + at * PAGE;
        let word = words.of(addr);
        let mut length = 1;
        let kind = match word.kind() {
            Kind::Slab => Some(&mut stats.slab),
            Kind::Magazine => Some(&mut stats.magazine),
            Kind::PageCache => Some(&mut stats.page_cache),
            Kind::Reserve => Some(&mut stats.reserve),
            Kind::Meta => Some(&mut stats.meta),
            Kind::Pool => Some(&mut stats.pool),
            // A stale word names what may describe something else by now.
            Kind::Large => LargeRef::named_by(word).filter(|large| large.base() == addr).map(|large| {
                length = large.pages().clamp(1, pages - at);
                if large.is_live() { &mut stats.large_live } else { &mut stats.large_freed }
            }),
            Kind::Free | Kind::Unknown => None,
        };
        if let Some(pages) = kind {
            *pages += length as u64;
        }
        at += length;
    }
}

/// Each range is one block, or free.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn add_ranges(stats: &mut PageStats) {
    let mut at = 0;
    while let Some((start, bytes, word)) = ranges::next_from(at) {
        let large = LargeRef::named_by(word).filter(|large| large.base() == start);
        if let Some(large) = large {
            let kind = if large.is_live() { &mut stats.large_live } else { &mut stats.large_freed };
            *kind += large.pages() as u64;
        }
        at = start + bytes;
    }
}
