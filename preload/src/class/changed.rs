//! Small blocks whose pages the program has changed: stacks of coroutines with a guard page, locked keys.
//!
//! `free` of a small block sees the page that the block starts in, or rather its slot in the memdesc word. So
//! the word of a page that the program changes loses its slot, and so does that of the page where a block
//! begins that reaches into it: free finds slot 0 there, as for a large block, takes its slow path and comes
//! here ([`undo`]). This costs the fast path nothing.
//!
//! There the changes are undone at once, without loss of what a reader may still read: the protection of
//! every page of the block; advice, locks and policy of the pages that are all of it the block's. A page that
//! it shares with neighbours keeps those, for they may be the neighbours' (a locked key), and stays marked,
//! as does one with advice for huge pages, which no call undoes. What is marked still is mapped anew when the
//! slab goes back to the zone.

use crate::class::large::LargeRef;
use crate::class::size_class::Class;
use crate::class::slab::Slab;
use crate::constants::PAGE;
use crate::os::map::{self, Attribute};
use crate::page::memdesc::{self, Kind};
use crate::page::{Page, changed, ranges};
use core::sync::atomic::{Ordering::SeqCst, fence};

/// The program is about to change pages of [addr, addr + len). Any thread, signal handlers too.
pub fn note(addr: usize, len: usize, kind: Attribute) {
    note_ranges(addr, addr.saturating_add(len), kind);
    changed::mark(addr, len, kind, |page| {
        if memdesc::of(page.addr()).kind() == Kind::Slab {
            // Pairs with the fence in `show`: whoever shows a slot sees the mark, or we hide the slot again.
            fence(SeqCst);
            hide(page);
        }
    });
}

/// Ranges outside of the window are marked whole.
fn note_ranges(mut addr: usize, end: usize, kind: Attribute) {
    if !ranges::holds(addr) && !ranges::holds(end.wrapping_sub(1)) {
        return;
    }
    while let Some((start, bytes, word)) = ranges::next_from(addr).filter(|range| range.0 < end) {
        if let Some(block) = LargeRef::named_by(word).filter(|block| block.base() == start) {
            changed::note(kind);
            block.note_changed();
        }
        addr = start + bytes;
    }
}

/// Frees of blocks that reach into `page` take the slow path from now on.
fn hide(page: Page) {
    let Some(slab) = Slab::of(page.addr()) else { return };
    let class = slab.class();
    let start = slab.base() + class.block_of((page.addr() - slab.base()) as u16) * class.size();
    for page in [Some(page), Page::containing(start)].into_iter().flatten() {
        // SAFETY: pages of a slab, of which the caller has a block.
        unsafe { memdesc::hide_slot(page) };
    }
}

/// The block of `class` at `addr` is being freed, and its page's slot is hidden.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn undo(class: Class, addr: usize) {
    let (end, kinds) = (addr + class.size(), changed::kinds());
    let pages = || (addr & !(PAGE - 1)..end).step_by(PAGE).filter_map(Page::new);
    for page in pages().filter(|page| memdesc::of(page.addr()).is_changed()) {
        if page.addr() < addr || page.addr() + PAGE > end {
            map::undo(page.addr(), PAGE, kinds & Attribute::Access.bit());
        } else if map::undo(page.addr(), PAGE, kinds) {
            // SAFETY: a page of the caller's block.
            unsafe { memdesc::unmark_changed(page) };
        }
    }
    pages().for_each(|page| show(class, page));
}

/// Blocks that begin in `page` are freed as ever if no page they reach into is marked.
fn show(class: Class, page: Page) {
    let Some(slab) = Slab::of(page.addr()) else { return };
    let end = (page.addr() + PAGE + class.size()).min(slab.base() + class.blocks() * class.size());
    let any = || (page.addr()..end).step_by(PAGE).any(|at| memdesc::of(at).is_changed());
    if !any() {
        // SAFETY: a page of the slab of a block that the caller frees.
        unsafe { memdesc::show_slot(page, class.slot() as u16) };
        // As in `note`.
        fence(SeqCst);
        if any() {
            // SAFETY: as above.
            unsafe { memdesc::hide_slot(page) };
        }
    }
}
