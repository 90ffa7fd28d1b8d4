//! Quarters: a thread gets slabs and page runs of its quarter of all threads where it can. Threads that carve
//! the same slab in turn share the cache lines of its marks (64 blocks to a line), its bits and its smallest
//! blocks for as long as the blocks live, and pass them to and fro with every magazine. Threads that have the
//! same pages in turn pass on what lies in them, and what is known of the unit: where two processors share no
//! cache, large blocks were 1.2 times as fast without.

use crate::constants::QUARTERS;

/// One of four parts of all threads, or whoever else asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quarter(u8);

impl Quarter {
    /// How many there are.
    pub const COUNT: usize = QUARTERS;

    /// That of the thread with this number.
    #[inline(always)]
    pub const fn of(number: usize) -> Quarter {
        Quarter((number % Quarter::COUNT) as u8)
    }

    /// Its number, below [`COUNT`](Self::COUNT).
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize % Quarter::COUNT
    }

    /// Its own number, then the others'.
    #[inline(always)]
    pub fn first(self) -> impl Iterator<Item = usize> {
        (0..Quarter::COUNT).map(move |after| (self.index() + after) % Quarter::COUNT)
    }
}
