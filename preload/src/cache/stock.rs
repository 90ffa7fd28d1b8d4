//! The stock of a thread: blocks put aside for where nothing may lock, wait or ask for memory, such as a
//! signal handler, at any instruction of whatever it interrupts.
//!
//! The magazines are not for that: their fast paths are several instructions without an atomic one, so a
//! handler in between may take the very block that the interrupted malloc has read. A stock is a list for
//! each class, in the blocks' own first words, behind a head that holds the address of the top block and how
//! many there are:
//! ```text
//!   63..48: blocks   47..0: address of the top one, 0: none
//! ```
//! Only its thread and that thread's handlers use it, so Relaxed is enough. Taking reads the head and the top
//! block's link, and exchanges one for the other. In between a handler can only have taken blocks, for it may
//! not put any, and what it has taken does not come back before it has returned and the exchange has failed:
//! if the head is as it was, so is the link.
//!
//! The blocks are with the program, as far as the heap can tell. They go back when the thread ends.

use crate::class::size_class::{CLASSES, Class};
use crate::page::meta::{MetaObject, MetaPool};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release, compiler_fence};

const COUNT_SHIFT: u32 = 48; // (given) as an encoding
/// Most blocks of one class.
pub const MOST: usize = (1 << (64 - COUNT_SHIFT)) - 1; // (given) as an encoding

/// The blocks that a thread has put aside. Zeros are an empty one.
#[repr(C, align(64))]
pub struct Stock {
    heads: [AtomicU64; CLASSES],
    link: AtomicUsize,
}

// SAFETY: zeros are valid, and the link is for the pool alone.
unsafe impl MetaObject for Stock {
    fn free_link(&self) -> &AtomicUsize {
        &self.link
    }
}

static STOCKS: MetaPool<Stock> = MetaPool::new();

fn top_of(head: u64) -> usize {
    (head & ((1 << COUNT_SHIFT) - 1)) as usize
}

fn count_of(head: u64) -> usize {
    (head >> COUNT_SHIFT) as usize
}

impl Stock {
    /// Blocks of `class` in it.
    pub fn count(&self, class: Class) -> usize {
        count_of(self.heads[class.index()].load(Relaxed))
    }

    /// Takes a block of `class`. Async-signal-safe.
    pub fn take(&self, class: Class) -> Option<usize> {
        let place = &self.heads[class.index()];
        loop {
            let head = place.load(Relaxed);
            let top = top_of(head);
            if top == 0 {
                return None;
            }
            // SAFETY: in the stock, or a handler has taken it since, whose memory it still is; then the
            // exchange fails. Volatile: what is read may be another's.
            let below = unsafe { (top as *const usize).read_volatile() } as u64 & ((1 << COUNT_SHIFT) - 1);
            let rest = below | (count_of(head) as u64 - 1) << COUNT_SHIFT;
            if place.compare_exchange(head, rest, Relaxed, Relaxed).is_ok() {
                return Some(top);
            }
        }
    }

    /// Puts a block of `class` in, unless it is full. Not in a handler.
    ///
    /// # Safety
    /// The block is the caller's.
    pub unsafe fn put(&self, class: Class, block: usize) -> bool {
        let place = &self.heads[class.index()];
        loop {
            let head = place.load(Relaxed);
            let count = count_of(head) as u64;
            if count as usize == MOST {
                return false;
            }
            // SAFETY: the caller's promise; every block holds a word.
            unsafe { (block as *mut usize).write_volatile(top_of(head)) };
            // A handler sees the link before the head that leads to it.
            compiler_fence(Release);
            let with = block as u64 | (count + 1) << COUNT_SHIFT;
            if place.compare_exchange(head, with, Relaxed, Relaxed).is_ok() {
                return true;
            }
        }
    }
}

/// An empty one. `None`: out of memory.
pub fn make() -> Option<NonNull<Stock>> {
    STOCKS.alloc()
}

/// Gives an empty one back.
///
/// # Safety
/// Nothing names it.
pub unsafe fn unmake(stock: NonNull<Stock>) {
    // SAFETY: promised by the caller.
    unsafe { STOCKS.free(stock) };
}
