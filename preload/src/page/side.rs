//! A side table: what is known of the window's pages, indexed like the window itself.
//!
//! It has its range of addresses from the start, as a number, and is mapped at its place from its beginning
//! to a high-water mark, as far as somebody needs it. It is zero at first and never shrinks or moves, so a
//! reader needs no lock to look below the mark. Part of the window, hence protected by the zone's lock. A
//! failed call leaves it as it was.

use crate::constants::{HUGE_PAGE, PAGE, SIDE_SHARE, SIDE_STEP};
use crate::os::map::{self, Placed};

/// A table beside the window.
#[derive(Clone, Copy)]
pub(super) struct Side {
    base: usize,
    limit: usize,
    mapped: usize,
    /// How far the kernel is being asked to map it; else 0.
    asked: usize,
}

impl Side {
    /// No table.
    pub(super) const NONE: Side = Side { base: 0, limit: 0, mapped: 0, asked: 0 };

    /// An empty table at `base` that may grow to `bytes`.
    pub(super) fn new(base: usize, bytes: usize) -> Side {
        Side { base, limit: bytes.next_multiple_of(PAGE), mapped: 0, asked: 0 }
    }

    /// Its address.
    pub(super) fn base(&self) -> usize {
        self.base
    }

    /// Where its range ends.
    pub(super) fn end(&self) -> usize {
        self.base + self.limit
    }

    /// Bytes that can be used.
    pub(super) fn mapped(&self) -> usize {
        self.mapped
    }

    /// Makes its first `bytes` bytes usable, and some more if that is to be had.
    #[unsafe(link_section = ".text_start")]
    pub(super) fn ensure(&mut self, bytes: usize) -> bool {
        if bytes <= self.mapped {
            return true;
        }
        if bytes > self.limit {
            return false;
        }
        let need = bytes.next_multiple_of(PAGE);
        let step = SIDE_STEP.max(self.mapped >> SIDE_SHARE).next_multiple_of(PAGE);
        let wish = need.max(self.mapped + step).min(self.limit);
        self.extend(wish) || (wish > need && self.extend(need))
    }

    fn extend(&mut self, end: usize) -> bool {
        let (at, len) = (self.base + self.mapped, end - self.mapped);
        if self.asked > self.mapped {
            // A handler has jumped out of this: what was mapped would be in the way for ever.
            // SAFETY: in our own range and past what anybody uses.
            unsafe { map::unmap(at, self.asked - self.mapped) };
        }
        // SAFETY: our own word. Volatile: a handler may jump out of the call.
        unsafe { (&raw mut self.asked).write_volatile(end) };
        let done = map::map_at(at, len) == Placed::Done;
        if done {
            // The kernel makes huge pages only where a mapping holds a whole one, so a small program
            // is spared the call.
            if end >= HUGE_PAGE {
                map::small_pages(self.base, end);
            }
            self.mapped = end;
        }
        self.asked = 0;
        done
    }
}
