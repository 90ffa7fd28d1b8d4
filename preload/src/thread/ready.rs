//! A thread's large blocks: those it may hand out again at once, and those it has freed.
//!
//! ```text
//!   free, solo ------------------------------------+
//!   free, deferring -> batch --closed--> queue ----+--> ready --malloc of the same size or a little less--> live
//!                      (this thread's)  (everybody's)      \--past its bound, or two sweeps unused--> zone
//! ```
//!
//! Ready blocks are whole: descriptor, memdesc words and warm pages stay, so a pair of malloc and free
//! costs no zone, no lock and no page fault. There are few of them, of the sizes freed last, and their
//! bytes are bounded by the thread's share; they lie on its shelf, where takers find them. An open batch
//! holds a quarter of the share at most before it is closed: half of the budget for all threads together,
//! and with many of them each block is a batch of its own.
//!
//! Blocks that a realloc outgrew do not become ready, nor do its new ones come from here: what grows wants
//! free pages behind it, and finds them in the zone.

use crate::class::backlog::{self, Closed, DOMAIN};
use crate::class::large::{self, LargeRef};
use crate::class::large_batch::{self, Freed};
use crate::constants::PAGE;
use crate::page::watermark;
use crate::page::zone::Place;
use crate::thread::cache::ThreadCache;
use crate::thread::mode;
use crate::thread::shelf::{Contents, share_bytes};
use rcu::Demand;

/// Most blocks that are ready (tune): a program that works with more sizes at a time than this
/// gets the others from the zone, which is no slower than without.
const MOST: usize = 8;
/// A block serves requests down to 1/9 less than its pages (as a shift of the request): the size
/// classes' bound on waste, 12.5 %.
const WASTE: u32 = 3;
/// In a solo process ready blocks hold at most this part of the thread's share, as a shift (tune), but for one
/// larger block of a size that is freed again and again: with all of the share python3 kept 2 MiB more,
/// `git log -p` 0.6. Where frees are deferred a batch or two circulate: the whole share.
const SOLO_SHARE: u32 = 2;
/// A batch is closed when it has reached this part of the thread's share, as a shift.
const BATCH_SHARE: u32 = 2;

/// Blocks that may be handed out, oldest first. Zero bytes are an empty one.
#[repr(C)]
pub struct Ready {
    blocks: [Option<(LargeRef, usize)>; MOST],
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

/// Most bytes of the thread's share that are for large blocks (tune): with 2 MiB a batch of the smallest held more blocks
/// than may be ready.
const SHARE_MOST: usize = 1 << 20;

/// The thread's share, as far as it is for large blocks, in bytes.
#[inline(always)]
fn share() -> usize {
    share_bytes().min(SHARE_MOST)
}

/// Bytes that several ready blocks of a thread may have.
#[inline(always)]
fn most_bytes() -> usize {
    if mode::is_concurrent() { share() } else { share() >> SOLO_SHARE }
}

impl Ready {
    /// Without a block.
    pub const EMPTY: Ready =
        Ready { blocks: [None; MOST], count: 0, aged: 0, last_big: 0, bytes: 0, reused: 0 };

    /// A block of at least `pages` pages, and not many more, that begins at a multiple of `align`.
    #[inline]
    fn take(&mut self, pages: usize, align: usize) -> Option<LargeRef> {
        let most = pages.saturating_add(pages >> WASTE);
        let fits = |at: &usize| {
            let Some((block, has)) = self.blocks[*at] else { return false };
            has >= pages && has <= most && block.base() & (align - 1) == 0
        };
        let at = (0..self.count.min(MOST)).rev().find(fits)?;
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
    fn close_gap(&mut self, at: usize, last: usize) {
        self.aged -= usize::from(at < self.aged);
        if at < last && last < MOST {
            self.blocks.copy_within(at + 1..=last, at);
        }
    }

    /// Keeps `block`, whose grace period, if it needed one, has passed; the oldest make room for it.
    /// True if one went back to the zone.
    #[inline]
    fn put(&mut self, block: LargeRef) -> bool {
        let pages = block.pages();
        let released = self.is_too_much(pages * PAGE);
        if released && !self.make_room(pages) {
            block.release();
            return true;
        }
        if let Some(place) = self.blocks.get_mut(self.count) {
            *place = Some((block, pages));
            self.count += 1;
            self.bytes += pages * PAGE;
        }
        released
    }

    /// Whether others have to make room for `bytes`.
    #[inline(always)]
    fn is_too_much(&self, bytes: usize) -> bool {
        self.count >= MOST || self.bytes + bytes > most_bytes()
    }

    /// Gives the oldest to the zone until there is room for a block of `pages`. False if there is not to be any.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, pages: usize) -> bool {
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
            oldest.release();
        }
        true
    }

    /// Gives all of them to the zone. Returns bytes.
    pub fn empty(&mut self) -> usize {
        let bytes = self.bytes;
        // Of a thread that is gone the account may be torn, the blocks themselves are not.
        for at in 0..MOST {
            if let Some((block, _)) = self.blocks[at].take() {
                block.release();
            }
        }
        *self = Ready { reused: self.reused, ..Ready::EMPTY };
        bytes
    }

    /// Gives those that were not used since the last sweep to the zone. True if there were any.
    pub fn sweep(&mut self) -> bool {
        let any = self.aged != 0;
        while self.aged != 0
            && let Some(oldest) = self.remove(0)
        {
            oldest.release();
        }
        self.aged = self.count;
        any
    }
}

impl ThreadCache {
    /// A large block for `size` bytes aligned to `align`, and whether every byte is known to be zero. `place`: where
    /// it is put if none is ready.
    #[inline(always)]
    pub fn alloc_large(&mut self, size: usize, align: usize, place: Place) -> Option<(usize, bool)> {
        let pages = large::pages_for(size)?;
        match self.ready(pages, align) {
            Some(block) => {
                block.revive(size);
                Some((block.base(), false))
            }
            None => large::create(size, align, place),
        }
    }

    /// A large block for one that has been outgrown.
    pub fn alloc_to_grow(&mut self, size: usize, align: usize) -> Option<(usize, bool)> {
        if large_batch::any_waiting() {
            // Blocks that were outgrown may have waited long enough.
            self.take_up(usize::MAX, align);
        }
        large::create(size, align, Place::Roomy)
    }

    #[inline]
    fn ready(&mut self, pages: usize, align: usize) -> Option<LargeRef> {
        let block = self.shelf.open()?.ready.take(pages, align);
        if block.is_some() || !large_batch::any_waiting() {
            return block;
        }
        self.take_up(pages, align)
    }

    /// Makes the blocks that have waited long enough ready, until one fits.
    #[inline(never)]
    fn take_up(&mut self, pages: usize, align: usize) -> Option<LargeRef> {
        let mut released = false;
        let block = loop {
            let Some(mut batch) = large_batch::take_elapsed() else {
                // Somebody is short of blocks: make sure a period is under way.
                DOMAIN.advance(Demand::Start);
                break None;
            };
            let mut shelf = self.shelf.open();
            while let Some(block) = batch.pop() {
                released |= put_on(shelf.as_deref_mut(), block);
            }
            let fits = shelf.and_then(|mut shelf| shelf.ready.take(pages, align));
            if fits.is_some() {
                break fits;
            }
        };
        backlog::relax_mark();
        if released {
            watermark::purge_excess();
        }
        block
    }

    /// Frees a claimed block for reuse at once.
    pub fn free_large(&mut self, block: LargeRef) {
        if put_on(self.shelf.open().as_deref_mut(), block) {
            watermark::purge_excess();
        }
    }

    /// Frees a claimed block behind a grace period. Only what closes a batch is a slow path.
    #[inline]
    pub fn defer_large(&mut self, block: LargeRef) {
        self.freed.push(block);
        if self.freed.bytes() >= share() >> BATCH_SHARE {
            self.slow_path();
            self.close_freed();
        }
    }

    /// Closes the batch of large blocks, however small, if there is one.
    #[inline(never)]
    pub fn close_freed(&mut self) {
        if self.freed.is_empty() {
            return;
        }
        let batch = core::mem::take(&mut self.freed);
        let bytes = batch.bytes();
        let Closed { batch, over_budget } = self.ledger.stamp(batch, bytes);
        large_batch::put(batch);
        if over_budget {
            self.reclaim_surplus();
        }
    }

    /// What the sweep by age does for large blocks.
    pub fn sweep_large(&mut self) {
        let released = self.shelf.open().is_some_and(|mut shelf| shelf.ready.sweep());
        large_batch::reclaim();
        if released {
            watermark::purge_excess();
        }
        if large_batch::any_waiting() {
            DOMAIN.advance(Demand::Start);
        }
    }
}

/// Makes `block` ready on an open shelf. True if one went back to the zone: this one, where a taker has
/// the shelf, or another to make room.
#[inline]
fn put_on(shelf: Option<&mut Contents>, block: LargeRef) -> bool {
    match shelf {
        Some(shelf) if !block.is_outgrown() => shelf.ready.put(block),
        _ => {
            block.release();
            true
        }
    }
}

/// Frees a claimed block for a thread without a cache.
pub fn free_without_cache(block: LargeRef, defer: bool) {
    if defer {
        let bytes = block.bytes();
        let mut batch = Freed::EMPTY;
        batch.push(block);
        large_batch::put(backlog::stamp(batch, bytes, &mut 0).batch);
    } else {
        block.release();
    }
    large_batch::reclaim();
}
