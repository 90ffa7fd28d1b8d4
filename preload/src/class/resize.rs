//! Large blocks that change their size where they are.

use crate::class::large::LargeRef;
use crate::class::large_pages;
use crate::class::size_class::SMALL_MAX;
use crate::constants::{PAGE, TAIL_PAGES, TAIL_SHARE};
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::{Page, ranges, watermark, zone};

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

/// Makes the live block at `addr` hold `size` bytes without moving it. `defers`: somebody may be reading the
/// tail that it gives up.
#[unsafe(link_section = ".text_solo")]
pub fn resize(addr: usize, size: usize, defers: bool) -> Resized {
    resize_in_place(addr, size, defers).unwrap_or(Resized::Not)
}

fn resize_in_place(addr: usize, size: usize, defers: bool) -> Option<Resized> {
    let large = LargeRef::of(addr)?;
    let (old, new) = (large.pages(), size.checked_add(PAGE - 1)? / PAGE);
    let page = Page::new(large.base())?;
    if size <= SMALL_MAX {
        return None;
    }
    let mut resized = Resized::Done;
    if new < old {
        let tail = old - new;
        if !defers {
            let start = Page::new(page.addr() + new * PAGE)?;
            large.set_pages(new);
            large_pages::resized(-(tail as isize));
            if large.is_apart() {
                // SAFETY: the tail belongs to the live block, whose owner gives it up here.
                unsafe { ranges::give(start, tail, large.is_changed()) };
                watermark::purge_excess(tail * PAGE);
                large.set_asked(size);
                return Some(resized);
            }
            // It may have named the block: then the zone would write to every word of the tail.
            // SAFETY: a page of the live block's, whose owner gives it up here.
            unsafe { memdesc::set_in_block(start, Memdesc::of_kind(Kind::Unknown)) };
            // SAFETY: the tail belongs to the live block, whose owner gives it up here.
            unsafe { zone::free_run(start, tail) };
            watermark::purge_excess(tail * PAGE);
        } else if (tail > new >> TAIL_SHARE || tail >= TAIL_PAGES)
            && let Some(tail) = large_pages::split(large, new)
        {
            resized = Resized::Shrunk(tail);
        }
    } else if new > old {
        if large.is_apart() {
            if !ranges::extend_run(page, old, new - old, LargeRef::word(large.descriptor())) {
                return None;
            }
            large.set_pages(new);
        } else if ranges::is_apart(new) && !ranges::is_apart(old) {
            // What grows so long goes on better in a range.
            return None;
        } else {
            // SAFETY: the run is the live block's, whose owner is in this call.
            if !unsafe { zone::extend_run(page, old, new - old) } {
                return None;
            }
            large.set_pages(new);
            // SAFETY: the block's, and its owner is in this call.
            unsafe { large.name_pages(old) };
        }
        large_pages::resized((new - old) as isize);
    }
    large.set_asked(size);
    Some(resized)
}
