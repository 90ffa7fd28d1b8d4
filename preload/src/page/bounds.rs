//! The window as everybody reads it: where it begins, how far it goes, and where its tables are.
//!
//! Written by `Window::publish` alone, under the zone's lock; [`LINE`] is the one cache line that the fast
//! path of `free` reads.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

/// What the fast path of `free` reads, in one cache line that is written only on growth.
#[repr(C, align(64))]
pub struct Line {
    /// Address of the window. Before there is one, a value that makes every address minus it
    /// huge.
    pub base: AtomicUsize,
    /// Bytes of the window whose memdesc words can be read.
    pub horizon: AtomicUsize,
    /// Address of the memdesc table: the word of window page i is at memdesc + 8 i.
    pub memdesc: AtomicUsize,
}

/// The process's window.
// (given) as an encoding.
#[unsafe(link_section = ".data")]
pub static LINE: Line =
    Line { base: AtomicUsize::new(1 << 63), horizon: AtomicUsize::new(0), memdesc: AtomicUsize::new(0) };

/// For each k, where mark map k would begin if the window began at address 0.
// (given) by MARK_SHIFTS.
#[unsafe(link_section = ".data")]
pub(super) static MARK_ORIGIN: [AtomicUsize; 16] = [const { AtomicUsize::new(0) }; 16];

/// Address of the window (1 << 63 while there is none).
#[inline(always)]
pub fn base() -> usize {
    // Relaxed: written once, before the first block is given out.
    LINE.base.load(Relaxed)
}

/// Bytes of the window whose memdesc words can be read: its greatest extent so far.
#[inline(always)]
pub fn horizon() -> usize {
    // Acquire: pairs with the Release in `Window::publish`; memdesc and base are seen too.
    LINE.horizon.load(Acquire)
}

/// Whether `addr` lies in the part of the window that has words.
#[inline(always)]
pub fn contains(addr: usize) -> bool {
    let horizon = horizon(); // first, so that its Acquire orders the load of the base
    addr.wrapping_sub(base()) < horizon
}

/// The mark byte of the block at p, a block of at least 2^k bytes, is at
/// `mark_origin(k) + (p >> k)`. 0 while there is no window.
#[inline(always)]
pub fn mark_origin(k: u32) -> usize {
    // Relaxed: written once, before the first block is given out.
    MARK_ORIGIN[k as usize].load(Relaxed)
}
