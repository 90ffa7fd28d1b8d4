//! Large blocks that a thread may hand out again at once.
//!
//! They are whole: descriptor, memdesc words and warm pages stay, so a pair of malloc and free costs no zone,
//! no lock and no page fault. There are few of them, of the sizes freed last, and their bytes are bounded by
//! the thread's share; they lie on its shelf, where takers find them.

use crate::cache::{mode, shares};
use crate::class::large::LargeRef;
use crate::class::large_batch::Freed;
use crate::class::large_pages;
use crate::constants::{PAGE, READY_MOST, READY_SHARE_MOST, READY_SOLO_SHARE, READY_WASTE};

/// Blocks that may be handed out, oldest first. Zero bytes are an empty one.
#[repr(C)]
pub struct Ready {
    blocks: [Option<(LargeRef, usize)>; READY_MOST],
    count: usize,
    /// Of those, unused since the last sweep: the first ones.
    aged: usize,
    /// Pages of the last block freed that was larger than what may be kept beside others.
    last_big: usize,
    /// Their bytes. Statistics read other threads'.
    pub bytes: usize,
    /// Blocks handed out of it so far. Statistics read other threads'.
    pub reused: u64,
}

/// The thread's share, as far as it is for large blocks, in bytes.
#[inline(always)]
pub fn share() -> usize {
    shares::budget_share().min(READY_SHARE_MOST)
}

/// Bytes that several ready blocks of a thread may have.
#[inline(always)]
fn most_bytes() -> usize {
    if mode::is_concurrent() { share() } else { share() >> READY_SOLO_SHARE }
}

impl Ready {
    /// Without a block.
    pub const EMPTY: Ready =
        Ready { blocks: [None; READY_MOST], count: 0, aged: 0, last_big: 0, bytes: 0, reused: 0 };

    /// Whether the block at `addr` is one of them.
    pub fn holds(&self, addr: usize) -> bool {
        self.blocks.iter().flatten().any(|(block, _)| block.base() == addr)
    }

    /// A block of at least `pages` pages, and not many more, that begins at a multiple of `align`.
    #[inline]
    pub fn take(&mut self, pages: usize, align: usize) -> Option<LargeRef> {
        let most = pages.saturating_add(pages >> READY_WASTE);
        let fits = |at: &usize| {
            let Some((block, has)) = self.blocks[*at] else { return false };
            has >= pages && has <= most && block.base() & (align - 1) == 0
        };
        let at = (0..self.count.min(READY_MOST)).rev().find(fits)?;
        self.reused += 1;
        self.remove(at)
    }

    #[inline]
    fn remove(&mut self, at: usize) -> Option<LargeRef> {
        let last = self.count.wrapping_sub(1);
        let (block, pages) = (*self.blocks.get(at)?)?;
        if at != last {
            self.close_gap(at, last);
        }
        // Nothing stays named that somebody else may have.
        *self.blocks.get_mut(last)? = None;
        self.count = last;
        self.bytes -= pages * PAGE;
        self.aged = self.aged.min(last);
        Some(block)
    }

    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    fn close_gap(&mut self, at: usize, last: usize) {
        self.aged -= usize::from(at < self.aged);
        if at < last && last < READY_MOST {
            self.blocks.copy_within(at + 1..=last, at);
        }
    }

    /// Keeps `block`, whose grace period, if it needed one, has passed; the oldest make room for it and are
    /// `surplus`, or it is itself.
    #[inline]
    pub fn put(&mut self, block: LargeRef, surplus: &mut Freed) {
        let pages = block.pages();
        if self.is_too_much(pages * PAGE) && !self.make_room(pages, surplus) {
            surplus.push(block);
        } else if let Some(place) = self.blocks.get_mut(self.count) {
            *place = Some((block, pages));
            self.count += 1;
            self.bytes += pages * PAGE;
        }
    }

    /// Whether others have to make room for `bytes`.
    #[inline(always)]
    fn is_too_much(&self, bytes: usize) -> bool {
        self.count >= READY_MOST || self.bytes + bytes > most_bytes()
    }

    /// Makes the oldest surplus until there is room for a block of `pages`. False if there is not to be any.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    fn make_room(&mut self, pages: usize, surplus: &mut Freed) -> bool {
        let bytes = pages * PAGE;
        if bytes > most_bytes() {
            // Alone, and only if the program goes on with this size.
            let last = core::mem::replace(&mut self.last_big, pages);
            if last != pages || bytes > share() {
                return false;
            }
        }
        while self.count != 0 && self.is_too_much(bytes) {
            let Some(oldest) = self.remove(0) else { return false };
            surplus.push(oldest);
        }
        true
    }

    /// Gives all of them to the zone. Returns bytes.
    #[unsafe(link_section = ".text_threads")]
    pub fn empty(&mut self) -> usize {
        let bytes = self.bytes;
        let mut all = Freed::EMPTY;
        // Of a thread that is gone the account may be torn, the blocks themselves are not.
        for at in 0..READY_MOST {
            if let Some((block, _)) = self.blocks[at].take() {
                all.push(block);
            }
        }
        large_pages::release(all);
        *self = Ready { reused: self.reused, ..Ready::EMPTY };
        bytes
    }

    /// Takes those out that were not used since the last sweep.
    pub fn sweep(&mut self) -> Freed {
        let mut unused = Freed::EMPTY;
        while self.aged != 0
            && let Some(oldest) = self.remove(0)
        {
            unused.push(oldest);
        }
        self.aged = self.count;
        unused
    }
}
