//! A thread's large blocks: those it may hand out again at once, and those it has freed.
//!
//! ```text
//!   free, solo ------------------------------------+
//!   free, deferring -> batch --closed--> queue ----+--> ready --malloc of the same size or a little less--> live
//!                       (past its share: everybody's)      \--past its bound, or two sweeps unused--> zone
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

use crate::cache::mode;
use crate::cache::shelf::{Contents, budget_share, large_share_bytes};
use crate::cache::thread_cache::ThreadCache;
use crate::class::backlog::{self, Closed, DOMAIN, Ledger};
use crate::class::large::{self, LargeRef};
use crate::class::large_batch::{self, Freed, Queue};
use crate::class::large_pages;
use crate::class::waiting;
use crate::class::work::Work;
use crate::constants::{PAGE, READY_MOST, READY_SHARE_MOST, READY_SOLO_SHARE};
use crate::page::watermark;
use crate::page::zone::{Holds, Place, Want};
use rcu::Demand;

/// A block serves requests down to 1/9 less than its pages (as a shift of the request): the size
/// classes' bound on waste, 12.5 %.
const WASTE: u32 = 3;
/// A batch is closed when it has reached this part of the thread's share, as a shift.
const BATCH_SHARE: u32 = 2;

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
fn share() -> usize {
    budget_share().min(READY_SHARE_MOST)
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
    fn take(&mut self, pages: usize, align: usize) -> Option<LargeRef> {
        let most = pages.saturating_add(pages >> WASTE);
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
    fn close_gap(&mut self, at: usize, last: usize) {
        self.aged -= usize::from(at < self.aged);
        if at < last && last < READY_MOST {
            self.blocks.copy_within(at + 1..=last, at);
        }
    }

    /// Keeps `block`, whose grace period, if it needed one, has passed; the oldest make room for it and are
    /// `surplus`, or it is itself.
    #[inline]
    fn put(&mut self, block: LargeRef, surplus: &mut Freed) {
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

impl ThreadCache {
    /// A large block for `size` bytes aligned to `align`, and what it holds. `place`: where
    /// it is put if none is ready.
    #[inline(always)]
    pub fn alloc_large(&mut self, size: usize, align: usize, place: Place) -> Option<(usize, Holds)> {
        let pages = large::pages_for(size)?;
        let mut surplus = Freed::EMPTY;
        match self.ready(pages, align, &mut surplus) {
            Some(block) => {
                block.revive(size);
                give_back(surplus, 0);
                Some((block.base(), Holds::Anything))
            }
            None => create(surplus, size, Want { pages, align, place, quarter: Some(self.quarter()) }),
        }
    }

    /// A large block for one that has been outgrown.
    pub fn alloc_to_grow(&mut self, size: usize, align: usize) -> Option<(usize, Holds)> {
        let pages = large::pages_for(size)?;
        let mut surplus = Freed::EMPTY;
        if any_waits(self.shelf.open().as_deref()) {
            // Blocks that were outgrown may have waited long enough.
            self.take_up(usize::MAX, align, &mut surplus);
        }
        create(surplus, size, Want { pages, align, place: Place::Roomy, quarter: Some(self.quarter()) })
    }

    #[inline]
    fn ready(&mut self, pages: usize, align: usize, surplus: &mut Freed) -> Option<LargeRef> {
        let mut shelf = self.shelf.open()?;
        let block = shelf.ready.take(pages, align);
        if block.is_some() || !any_waits(Some(&shelf)) {
            return block;
        }
        drop(shelf);
        self.take_up(pages, align, surplus)
    }

    /// Makes the blocks that have waited long enough ready, until one fits. The zone is to have those that
    /// are surplus.
    #[inline(never)]
    fn take_up(&mut self, pages: usize, align: usize, surplus: &mut Freed) -> Option<LargeRef> {
        let mut shelf = self.shelf.open();
        let mut work = Work::of_a_call();
        let block = loop {
            if !work.goes_on() {
                break None;
            }
            let own = take_elapsed(shelf.as_deref_mut(), &mut self.ledger);
            let Some(mut batch) = own.or_else(large_batch::take_elapsed) else { break None };
            work.did_large(batch.count());
            while let Some(block) = batch.pop() {
                put_on(shelf.as_deref_mut(), block, surplus);
            }
            let fits = shelf.as_deref_mut().and_then(|shelf| shelf.ready.take(pages, align));
            if fits.is_some() {
                break fits;
            }
        };
        drop(shelf);
        if block.is_none() {
            // Somebody is short of blocks: make sure a period is under way.
            DOMAIN.advance(Demand::Start);
        }
        backlog::relax_mark();
        block
    }

    /// Frees a claimed block for reuse at once.
    pub fn free_large(&mut self, block: LargeRef) {
        let (mut surplus, own) = (Freed::EMPTY, block.bytes());
        put_on(self.shelf.open().as_deref_mut(), block, &mut surplus);
        give_back(surplus, own);
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
        if self.stamp_freed() {
            self.reclaim_surplus();
        }
    }

    /// The same; true if what waits is more than the budget.
    pub fn stamp_freed(&mut self) -> bool {
        if self.freed.is_empty() {
            return false;
        }
        let batch = core::mem::take(&mut self.freed);
        let bytes = batch.bytes();
        batch.note_closed_ms(self.now_ms);
        let Closed { batch, over_budget } = self.ledger.stamp(batch, bytes);
        match self.shelf.open() {
            Some(mut shelf) => {
                shelf.large.push(batch);
                while shelf.large.bytes > large_share_bytes()
                    && let Some(oldest) = shelf.large.pop()
                {
                    large_batch::put(oldest);
                }
            }
            None => large_batch::put(batch),
        }
        watermark::purge_excess(bytes);
        over_budget
    }

    /// What the sweep by age does for large blocks.
    pub fn sweep_large(&mut self, work: &mut Work) {
        let unused = self.shelf.open().map_or(Freed::EMPTY, |mut shelf| shelf.ready.sweep());
        self.reclaim_large(work);
        large_batch::reclaim(work);
        give_back(unused, 0);
        if any_waits(self.shelf.open().as_deref()) {
            DOMAIN.advance(Demand::Start);
        }
    }

    /// Gives the batches on its own shelf whose grace period has passed to the zone, as far as there is
    /// `work` to be had.
    pub fn reclaim_large(&mut self, work: &mut Work) {
        while work.goes_on()
            && let Some(batch) = take_elapsed(self.shelf.open().as_deref_mut(), &mut self.ledger)
        {
            work.did_large(batch.count());
            give_back(batch, 0);
        }
    }

    /// What waits on its own shelf waits for everybody from now on.
    pub fn share_large(&mut self, work: &mut Work) {
        let mut shelf = self.shelf.open_waiting();
        let waiting = core::mem::replace(&mut shelf.large, Queue::EMPTY);
        drop(shelf);
        large_batch::put_all(waiting);
        large_batch::reclaim(work);
    }
}

/// Whether a batch waits, on an open shelf or for everybody; as far as is known, where a taker has the shelf.
#[inline]
fn any_waits(shelf: Option<&Contents>) -> bool {
    large_batch::any_waiting() || shelf.is_none_or(|shelf| !shelf.large.is_empty())
}

/// The oldest batch of an open shelf, if its grace period has passed.
#[inline]
fn take_elapsed(shelf: Option<&mut Contents>, ledger: &mut Ledger) -> Option<Freed> {
    let batch = shelf?.large.pop_elapsed()?;
    ledger.settle(batch.peek().bytes());
    waiting::open(batch)
}

/// Makes `block` ready on an open shelf. Surplus is this one, where a taker has the shelf or the program has
/// changed what its pages are, or another, to make room.
#[inline]
fn put_on(shelf: Option<&mut Contents>, block: LargeRef, surplus: &mut Freed) {
    match shelf {
        Some(shelf) if !block.is_outgrown() && !block.is_changed() => shelf.ready.put(block, surplus),
        _ => surplus.push(block),
    }
}

/// The zone gets `surplus`, and the system what is too much for the zone; `own`: bytes that the program has
/// just freed.
#[inline]
fn give_back(surplus: Freed, own: usize) {
    if !surplus.is_empty() {
        large_pages::release(surplus);
        watermark::purge_excess(own);
    }
}

/// The same, and a new block comes from there.
#[inline]
fn create(surplus: Freed, size: usize, want: Want) -> Option<(usize, Holds)> {
    let any = !surplus.is_empty();
    let block = large_pages::create(surplus, size, want);
    if any {
        watermark::purge_excess(0);
    }
    block
}

/// Frees a claimed block for a thread without a cache.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn free_without_cache(block: LargeRef, defer: bool) {
    let bytes = block.bytes();
    let mut batch = Freed::EMPTY;
    batch.push(block);
    if defer {
        large_batch::put(backlog::stamp(batch, bytes).batch);
    } else {
        large_pages::release(batch);
    }
    large_batch::reclaim(&mut Work::of_a_call());
    watermark::purge_excess(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::shelf::{Whose, clear_others};
    use crate::class::cause::Cause;
    use crate::front::tests::{give, take};
    use crate::front::{entry, exit, readers, switch};
    use crate::own_process::in_own_process;
    use crate::page::memdesc;

    /// Each a batch of its own.
    const SIZE: usize = 300 << 10;

    fn cache() -> &'static mut ThreadCache {
        entry::current().expect("a cache")
    }

    fn waits_here() -> usize {
        cache().shelf.open().expect("nobody else is here").large.bytes
    }

    /// Frees `count` blocks while a section holds them.
    fn free_in_section(count: usize) -> Vec<usize> {
        switch::go_concurrent();
        let blocks: Vec<usize> = (0..count).map(|_| take(SIZE)).collect();
        readers::lock();
        blocks.iter().for_each(|&block| give(block));
        blocks
    }

    #[test]
    fn what_a_thread_frees_waits_with_it_and_comes_back_to_it() {
        in_own_process!();
        let blocks = free_in_section(3);
        assert_eq!((waits_here(), large_batch::waiting_bytes()), (3 * SIZE, 0));
        assert!(!blocks.contains(&take(SIZE)), "a section holds them");
        readers::unlock();
        assert!(DOMAIN.poll(DOMAIN.start_poll()) || backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
        assert!(blocks.contains(&take(SIZE)));
        // What the first call has not made ready is still here, and goes to the zone when it is asked for.
        cache().reclaim_large(&mut Work::asked_for());
        assert_eq!(waits_here(), 0);
        cache().flush_reusable(0, &mut Work::asked_for());
        assert_eq!(large_pages::census().count, 2, "the two that were taken");
        assert_eq!(backlog::deferred_and(cache().ledger.balance), 0);
    }

    #[test]
    fn what_was_outgrown_is_room_for_what_grows() {
        in_own_process!();
        switch::go_concurrent();
        let outgrown = take(SIZE);
        let block = large::claim(outgrown, memdesc::of(outgrown), true).expect("it is live");
        cache().defer_large(block);
        assert_eq!((waits_here(), large_batch::waiting_bytes()), (SIZE, 0));
        assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
        assert!(cache().alloc_to_grow(2 * SIZE, 16).is_some());
        assert_eq!((waits_here(), large_pages::census().count), (0, 1));
    }

    #[test]
    fn past_its_share_the_oldest_wait_for_everybody() {
        in_own_process!();
        let count = 3 * large_share_bytes() / SIZE;
        free_in_section(count);
        assert!((large_share_bytes() - SIZE..=large_share_bytes()).contains(&waits_here()));
        assert_eq!(waits_here() + large_batch::waiting_bytes(), count * SIZE);
        readers::unlock();
        assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
        assert_eq!(large_batch::reclaim(&mut Work::asked_for()), count * SIZE - waits_here());
    }

    #[test]
    fn takers_find_it_and_a_thread_that_ends_leaves_it() {
        let by_taker = || clear_others(core::ptr::null(), Whose::Everybody, &mut Work::asked_for());
        let by_end = || exit::empty(cache(), exit::Rest::ToDepot, &mut Work::asked_for());
        in_own_process!();
        for clear in [&by_taker as &dyn Fn() -> bool, &by_end] {
            // Before its grace period and after.
            free_in_section(3);
            assert!(clear(), "all of it");
            assert_eq!((waits_here(), large_batch::waiting_bytes()), (0, 3 * SIZE));
            readers::unlock();
            assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
            assert_eq!(large_batch::reclaim(&mut Work::asked_for()), 3 * SIZE);
            free_in_section(3);
            readers::unlock();
            assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
            assert!(clear(), "all of it");
            assert_eq!((waits_here(), large_batch::waiting_bytes()), (0, 0));
            assert_eq!(large_pages::census().count, 0);
        }
        assert_eq!(backlog::deferred_and(cache().ledger.balance), 0);
    }
}
