//! Pages that the program has changed: their protection, advice, locks, memory policy, or the mapping itself.
//!
//! What it did to a block dies with the block. The names by which it does so (`abi/attributes.rs`) mark each
//! page of the window first, by a bit of the page's memdesc word; when a marked page comes back to the zone,
//! its grace period over, it is
//! *mapped anew*: a new mapping has none of it, and lies beside its neighbours as if nothing had happened, so
//! the kernel makes one mapping of them again (hazard `map_count`). Small blocks need more: see
//! `class/changed.rs`.
//!
//! Nobody looks for marks where none ever were: [`kinds`] is 0 then; nor word by word but in units that had
//! some. Any thread, signal handlers too (programs change protections from handlers): no lock, one atomic bit
//! at a time. A page's marks belong to the page's owner, like the rest of its word.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::{Page, bounds, memdesc};
use crate::constants::{CHANGED_BITS, PAGE, UNIT};
use crate::os::{listeners, map};

/// Kinds of changes that were ever made, a bit each: [`map::Attribute`]'s.
#[unsafe(link_section = ".data")]
static KINDS: AtomicU32 = AtomicU32::new(0);

// (given) as a unit.
static UNITS: [AtomicU64; CHANGED_BITS / 64] = [const { AtomicU64::new(0) }; CHANGED_BITS / 64];

/// The bit of the unit that `addr` lies in.
fn bit_of(addr: usize) -> (&'static AtomicU64, u64) {
    let unit = addr / UNIT % CHANGED_BITS;
    (&UNITS[unit / 64], 1 << (unit % 64))
}

/// The kinds of changes that were ever made, 0: none.
#[inline(always)]
pub fn kinds() -> u32 {
    // Relaxed: whoever frees a block comes after whoever changed its pages.
    KINDS.load(Relaxed)
}

/// There was a change of this kind, of pages that have no words.
pub fn note(kind: map::Attribute) {
    KINDS.fetch_or(kind.bit(), Relaxed);
}

/// Marks the pages of the window that [addr, addr + len) has a part of, before they are changed, and calls
/// `visit` with each.
pub fn mark(addr: usize, len: usize, kind: map::Attribute, mut visit: impl FnMut(Page)) {
    let (low, high) = (bounds::base(), bounds::base().saturating_add(bounds::horizon()));
    let (mut at, end) = (addr.max(low) & !(PAGE - 1), addr.saturating_add(len).min(high));
    while at < end {
        note(kind);
        if let Some(page) = Page::new(at) {
            let (units, bit) = bit_of(at);
            units.fetch_or(bit, Relaxed);
            // SAFETY: below the horizon.
            unsafe { memdesc::mark_changed(page) };
            visit(page);
        }
        at += PAGE;
    }
}

/// Calls `visit` with each stretch of marked pages of a range, its address and its bytes.
fn stretches(first: Page, pages: usize, mut visit: impl FnMut(usize, usize)) {
    let end = first.addr() + pages * PAGE;
    let (mut at, mut start) = (first.addr(), None);
    while at < end {
        let (units, bit) = bit_of(at);
        let unit_end = (at / UNIT + 1) * UNIT;
        if units.load(Relaxed) & bit == 0 && start.is_none() {
            at = unit_end;
            continue;
        }
        let is_marked = memdesc::of(at).is_changed();
        match (is_marked, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                visit(from, at - from);
                start = None;
            }
            _ => {}
        }
        at += PAGE;
    }
    if let Some(from) = start {
        visit(from, end - from);
    }
}

/// Whether any page of a range is marked.
pub fn any(first: Page, pages: usize) -> bool {
    let mut found = false;
    if kinds() != 0 {
        stretches(first, pages, |_, _| found = true);
    }
    found
}

/// Maps the marked pages of a range anew: they are zero then.
///
/// # Safety
/// The pages are the caller's, with their contents.
#[inline]
pub unsafe fn restore(first: Page, pages: usize) {
    if kinds() != 0 {
        // SAFETY: promised by the caller.
        unsafe { restore_marked(first, pages) };
    }
}

#[cold]
#[inline(never)]
unsafe fn restore_marked(first: Page, pages: usize) {
    stretches(first, pages, |addr, len| {
        // Who listens for memory that goes is not told here: it stays, unless it may be a file's.
        let stays = kinds() & map::Attribute::Mapping.bit() == 0 && listeners::are_there();
        // SAFETY: promised by the caller.
        if stays || !unsafe { map::map_anew(addr, len) } {
            // All but what only a new mapping can undo.
            map::undo(addr, len, kinds());
        }
        for page in (addr..addr + len).step_by(PAGE).filter_map(Page::new) {
            // SAFETY: given out once, so below the horizon.
            unsafe { memdesc::unmark_changed(page) };
        }
    });
}
