//! The holes: stretches of the window that were ground once and are nobody's mapping now.
//!
//! What goes back to the system in large pieces is unmapped, so that address space, data and commit charge
//! fall with the heap. Below the frontier that leaves a hole; at the top the frontier comes down instead.
//! Ground is made in a hole from its beginning on, so holes shrink and vanish but are never divided, and only
//! giving back makes new ones. Each may cost the process one mapping more: there are [`HOLES`] at the most,
//! and what is given back past that keeps its mapping.
//!
//! A sorted array in front of the table of units, mapped from the start: near a limit there would be no
//! memory for it. Pages are numbers, relative to the window. Part of the window, hence protected by the
//! zone's lock.

use crate::constants::HOLES;

/// One hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hole {
    /// Its first page.
    pub first: usize,
    /// The page behind it.
    pub end: usize,
}

/// All holes of a window. All zero: a window without a place.
pub(super) struct Holes {
    array: usize,
    len: usize,
    pages: usize,
}

impl Holes {
    /// Bytes of the array.
    pub const BYTES: usize = HOLES * size_of::<Hole>();

    /// No holes, and no place for any.
    pub const NONE: Holes = Holes { array: 0, len: 0, pages: 0 };

    /// No holes yet.
    ///
    /// # Safety
    /// [`BYTES`](Self::BYTES) at `array` are writable for ever, zero
    /// at first, aligned to a page, and belong to this alone.
    pub unsafe fn at(array: usize) -> Holes {
        Holes { array, ..Holes::NONE }
    }

    /// Forgets all of them: nobody will use those addresses any more.
    pub fn forget(&mut self) {
        (self.len, self.pages) = (0, 0);
    }

    /// Pages in holes.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The same of holes that somebody else may be changing.
    ///
    /// # Safety
    /// `this` stays what it is.
    pub unsafe fn peek_pages(this: *const Holes) -> usize {
        // SAFETY: promised by the caller: an aligned word.
        unsafe { (&raw const (*this).pages).read_volatile() }
    }

    /// Whether there is room for so many more.
    pub fn have_room(&self, more: usize) -> bool {
        self.len + more <= HOLES
    }

    /// All of them, from the lowest to the highest.
    pub fn all(&self) -> &[Hole] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: promised in `at`; `insert` has written so many.
        unsafe { core::slice::from_raw_parts(self.array as *const Hole, self.len) }
    }

    /// The places of `len` holes, of which those that there are have been written.
    fn slots(&mut self, len: usize) -> &mut [Hole] {
        assert!(len <= HOLES && self.array != 0);
        // SAFETY: promised in `at`; exclusive because self is. Zero bytes are a hole, too.
        unsafe { core::slice::from_raw_parts_mut(self.array as *mut Hole, len) }
    }

    /// [first, end) is a hole from now on, one with those that it touches. Only after
    /// [`have_room`](Self::have_room).
    pub fn insert(&mut self, first: usize, end: usize) {
        self.pages += end - first;
        let at = self.all().partition_point(|hole| hole.first < first);
        let joins_below = at > 0 && self.all()[at - 1].end == first;
        let joins_above = self.all().get(at).is_some_and(|hole| hole.first == end);
        let len = self.len;
        match (joins_below, joins_above) {
            (true, true) => {
                let slots = self.slots(len);
                slots[at - 1].end = slots[at].end;
                self.drop_at(at);
            }
            (true, false) => self.slots(len)[at - 1].end = end,
            (false, true) => self.slots(len)[at].first = first,
            (false, false) => {
                let slots = self.slots(len + 1);
                slots.copy_within(at..len, at + 1);
                slots[at] = Hole { first, end };
                self.len += 1;
            }
        }
    }

    /// Hole number `at` begins at page `first` from now on, or is none any more.
    pub fn shrink(&mut self, at: usize, first: usize) {
        let hole = self.all()[at];
        debug_assert!(hole.first <= first && first <= hole.end);
        self.pages -= first - hole.first;
        if first == hole.end {
            self.drop_at(at);
        } else {
            let len = self.len;
            self.slots(len)[at].first = first;
        }
    }

    /// Takes the highest hole out if it ends at page `end`; where it began.
    pub fn pop_at(&mut self, end: usize) -> Option<usize> {
        let hole = *self.all().last().filter(|hole| hole.end == end)?;
        self.pages -= hole.end - hole.first;
        self.len -= 1;
        Some(hole.first)
    }

    fn drop_at(&mut self, at: usize) {
        let len = self.len;
        self.slots(len).copy_within(at + 1.., at);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::map::map;
    use std::collections::BTreeSet;

    fn holes() -> Holes {
        // SAFETY: fresh, and kept.
        unsafe { Holes::at(map(Holes::BYTES).unwrap()) }
    }

    /// Against a set of pages: the holes are its maximal stretches, in order.
    #[test]
    fn holes_are_what_was_left_and_not_filled() {
        let (mut holes, mut pages, mut random) = (holes(), BTreeSet::new(), 7usize);
        for _ in 0..20_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (first, end) = ((random >> 33) % 3000, (random >> 33) % 3000 + 1 + (random >> 50) % 20);
            if random >> 63 == 0 {
                if holes.have_room(1) && pages.range(first..end).next().is_none() {
                    holes.insert(first, end);
                    pages.extend(first..end);
                }
            } else if !holes.all().is_empty() {
                let at = first % holes.all().len();
                let hole = holes.all()[at];
                let filled = (hole.first + end - first).min(hole.end);
                holes.shrink(at, filled);
                (hole.first..filled).for_each(|page| assert!(pages.remove(&page)));
            }
            assert_eq!(holes.pages(), pages.len());
            let all: BTreeSet<_> = holes.all().iter().flat_map(|hole| hole.first..hole.end).collect();
            assert_eq!(all, pages);
            let apart = |pair: &[Hole]| pair[0].first < pair[0].end && pair[0].end < pair[1].first;
            assert!(holes.all().windows(2).all(apart), "{:?}", holes.all());
        }
        let last = *holes.all().last().unwrap();
        assert_eq!(holes.pop_at(last.end + 1), None);
        assert_eq!(holes.pop_at(last.end), Some(last.first));
        assert_eq!(holes.pages(), pages.len() - (last.end - last.first));
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let mut holes = holes();
        for n in 0..HOLES {
            assert!(holes.have_room(1));
            holes.insert(2 * n, 2 * n + 1);
        }
        assert!(!holes.have_room(1));
        holes.shrink(0, 1);
        assert!(holes.have_room(1));
        assert_eq!(holes.all().len(), HOLES - 1);
        holes.forget();
        assert_eq!((holes.pages(), holes.all().len()), (0, 0));
    }
}
