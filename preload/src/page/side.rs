//! A side table: what is known of the window's pages, indexed like the window itself.
//!
//! It has its range of addresses from the start and grows from its beginning to a high-water
//! mark, as the window does, committed (reserved window) or mapped at its place (lazy one).
//! It is zero at first and never shrinks or moves, so a reader needs no lock to look below
//! the mark. Part of the window, hence protected by the zone's lock. A failed call leaves it
//! as it was.

use crate::constants::{HUGE_PAGE, PAGE, SIDE_STEP};
use crate::os::map::{self, Placed};

/// A table beside the window.
#[derive(Clone, Copy)]
pub(super) struct Side {
    base: usize,
    limit: usize,
    committed: usize,
}

impl Side {
    /// No table.
    pub(super) const NONE: Side = Side { base: 0, limit: 0, committed: 0 };

    /// An empty table at `base` that may grow to `bytes`.
    pub(super) fn new(base: usize, bytes: usize) -> Side {
        Side { base, limit: bytes.next_multiple_of(PAGE), committed: 0 }
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
    pub(super) fn committed(&self) -> usize {
        self.committed
    }

    /// Makes its first `bytes` bytes usable, and some more if that is to be had.
    pub(super) fn ensure(&mut self, bytes: usize, is_lazy: bool) -> bool {
        if bytes <= self.committed {
            return true;
        }
        if bytes > self.limit {
            return false;
        }
        let need = bytes.next_multiple_of(PAGE);
        let wish = need.max(self.committed + SIDE_STEP).min(self.limit);
        self.extend(wish, is_lazy) || (wish > need && self.extend(need, is_lazy))
    }

    fn extend(&mut self, end: usize, is_lazy: bool) -> bool {
        let (at, len) = (self.base + self.committed, end - self.committed);
        let done = match is_lazy {
            true => map::map_at(at, len) == Placed::Done,
            false => map::commit(at, len),
        };
        if done {
            // The kernel makes huge pages only where a mapping holds a whole one, so a small program
            // is spared the call.
            if end >= HUGE_PAGE && is_lazy {
                map::small_pages(self.base, end);
            } else if end >= HUGE_PAGE && self.committed < HUGE_PAGE {
                map::small_pages(self.base, self.limit);
            }
            self.committed = end;
        }
        done
    }
}
