//! How much of what others have left one call takes upon itself.
//!
//! Blocks whose grace period has passed come in crowds: a reader has held the periods up, or the backlog, an
//! eighth of the heap, has been expedited. Whoever happens to free the next block would give all of them to
//! the slabs and to the zone, in one call, and the time that takes grows with the heap. So a call has
//! [`Work`] for so many blocks; every loop that gives back what has waited counts them and stops when it is
//! done, and the next call goes on ([`backlog::set_unfinished`](super::backlog::set_unfinished)): each adds a
//! magazine or a batch at the most and takes many times as much. What the program asks for (a scan, a
//! barrier) and what the watcher's thread does has no bound.

use crate::constants::{LARGE_BLOCK, LOOK_AT_CACHE, MOST_BLOCKS};
use crate::page::most;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The most that a call has done, in small blocks.
static MOST: AtomicUsize = AtomicUsize::new(0);

/// What a call may still do.
pub struct Work {
    left: usize,
    done: usize,
}

impl Work {
    /// What any call does on the way.
    pub fn of_a_call() -> Work {
        Work { left: MOST_BLOCKS, done: 0 }
    }

    /// What somebody has asked for, all of it.
    pub fn asked_for() -> Work {
        Work { left: usize::MAX, done: 0 }
    }

    /// Whether it is a call that does its part.
    pub fn is_bounded(&self) -> bool {
        self.left != usize::MAX
    }

    /// Whether there is work to be had.
    #[inline]
    pub fn goes_on(&self) -> bool {
        self.done < self.left
    }

    /// So many small blocks went to their slabs.
    #[inline]
    pub fn did(&mut self, blocks: usize) {
        self.done += blocks.max(1);
    }

    /// The cache of another thread was looked into.
    pub fn did_look(&mut self) {
        self.did(LOOK_AT_CACHE);
    }

    /// So many large ones to the zone.
    #[inline]
    pub fn did_large(&mut self, blocks: u32) {
        self.did(blocks as usize * LARGE_BLOCK);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.is_bounded() {
            most::note(&MOST, self.done);
        }
    }
}

/// The most that a call has done, in small blocks.
pub fn most_done() -> usize {
    MOST.load(Relaxed)
}
