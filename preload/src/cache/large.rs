//! A thread's large blocks: those it may hand out again at once, and those it has freed.
//!
//! ```text
//!   free, solo ------------------------------------+
//!   free, deferring -> batch --closed--> queue ----+--> ready --malloc of its size or a little less--> live
//!                       (past its share: everybody's)      \--past its bound, or two sweeps unused--> zone
//! ```
//!
//! The ready ones are in `ready.rs`. An open batch
//! holds a quarter of the share at most before it is closed: half of the budget for all threads together,
//! and with many of them each block is a batch of its own.
//!
//! Blocks that a realloc outgrew do not become ready, nor do its new ones come from here: what grows wants
//! free pages behind it, and finds them in the zone.

use crate::cache::shelf::Contents;
use crate::cache::thread_cache::ThreadCache;
use crate::cache::{ready, shares};
use crate::class::backlog::{self, Closed, DOMAIN, Ledger};
use crate::class::large::{self, LargeRef};
use crate::class::large_batch::{self, Freed};
use crate::class::queue::Queue;
use crate::class::work::Work;
use crate::class::{large_pages, waiting};
use crate::constants::LARGE_BATCH_SHARE;
use crate::page::watermark;
use crate::page::zone::{Holds, Place, Want};
use rcu::Demand;

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
            let Some(mut batch) = own.or_else(|| large_batch::shared().take_elapsed()) else { break None };
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
    #[unsafe(link_section = ".text_solo")]
    pub fn free_large(&mut self, block: LargeRef) {
        let (mut surplus, own) = (Freed::EMPTY, block.bytes());
        put_on(self.shelf.open().as_deref_mut(), block, &mut surplus);
        give_back(surplus, own);
    }

    /// Adds a claimed block to the batch that is to wait. True if that is large enough to be closed.
    #[inline]
    pub fn keep_freed(&mut self, block: LargeRef) -> bool {
        self.freed.push(block);
        self.freed.bytes() >= ready::share() >> LARGE_BATCH_SHARE
    }

    /// Closes the batch of large blocks, however small, if there is one. True if what waits is more than the
    /// budget.
    #[unsafe(link_section = ".text_solo")]
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
                shelf.large.push(batch, bytes);
                while shelf.large.bytes > shares::large_share_bytes()
                    && let Some((oldest, bytes)) = shelf.large.pop()
                {
                    large_batch::shared().put(oldest, bytes);
                }
            }
            None => large_batch::shared().put(batch, bytes),
        }
        watermark::purge_excess(bytes);
        over_budget
    }

    /// What the sweep by age does for large blocks.
    pub fn sweep_large(&mut self, work: &mut Work) {
        let unused = self.shelf.open().map_or(Freed::EMPTY, |mut shelf| shelf.ready.sweep());
        self.reclaim_large(work);
        large_pages::reclaim(work);
        give_back(unused, 0);
        if any_waits(self.shelf.open().as_deref()) {
            DOMAIN.advance(Demand::Start);
        }
    }

    /// Gives the batches on its own shelf whose grace period has passed to the zone, as far as there is
    /// `work` to be had.
    #[unsafe(link_section = ".text_solo")]
    pub fn reclaim_large(&mut self, work: &mut Work) {
        while work.goes_on()
            && let Some(batch) = take_elapsed(self.shelf.open().as_deref_mut(), &mut self.ledger)
        {
            work.did_large(batch.count());
            give_back(batch, 0);
        }
    }

    /// What waits on its own shelf waits for everybody from now on.
    #[unsafe(link_section = ".text_threads")]
    pub fn share_large(&mut self, work: &mut Work) {
        let mut shelf = self.shelf.open_waiting();
        let waiting = core::mem::replace(&mut shelf.large, Queue::EMPTY);
        drop(shelf);
        large_batch::shared().put_all(waiting);
        large_pages::reclaim(work);
    }
}

/// Whether a batch waits, on an open shelf or for everybody; as far as is known, where a taker has the shelf.
#[inline]
fn any_waits(shelf: Option<&Contents>) -> bool {
    large_batch::shared().any() || shelf.is_none_or(|shelf| !shelf.large.is_empty())
}

/// The oldest batch of an open shelf, if its grace period has passed.
#[inline]
#[unsafe(link_section = ".text_solo")]
fn take_elapsed(shelf: Option<&mut Contents>, ledger: &mut Ledger) -> Option<Freed> {
    let (batch, bytes) = shelf?.large.pop_elapsed()?;
    ledger.settle(bytes);
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
#[unsafe(link_section = ".text_solo")]
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
        large_batch::shared().put(backlog::stamp(batch, bytes).batch, bytes);
    } else {
        large_pages::release(batch);
    }
    large_pages::reclaim(&mut Work::of_a_call());
    watermark::purge_excess(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::drain;
    use crate::cache::takers::{Whose, clear_others};
    use crate::class::cause::Cause;
    use crate::front::tests::{give, take};
    use crate::front::{entry, readers, switch};
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
        assert_eq!((waits_here(), large_batch::shared().bytes()), (3 * SIZE, 0));
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
        cache().keep_freed(block);
        cache().close_freed();
        assert_eq!((waits_here(), large_batch::shared().bytes()), (SIZE, 0));
        assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
        assert!(cache().alloc_to_grow(2 * SIZE, 16).is_some());
        assert_eq!((waits_here(), large_pages::census().count), (0, 1));
    }

    #[test]
    fn past_its_share_the_oldest_wait_for_everybody() {
        in_own_process!();
        let count = 3 * shares::large_share_bytes() / SIZE;
        free_in_section(count);
        assert!((shares::large_share_bytes() - SIZE..=shares::large_share_bytes()).contains(&waits_here()));
        assert_eq!(waits_here() + large_batch::shared().bytes(), count * SIZE);
        readers::unlock();
        assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
        assert_eq!(large_pages::reclaim(&mut Work::asked_for()), count * SIZE - waits_here());
    }

    #[test]
    fn takers_find_it_and_a_thread_that_ends_leaves_it() {
        let by_taker = || clear_others(core::ptr::null(), Whose::Everybody, &mut Work::asked_for());
        let by_end = || drain::empty(cache(), drain::Rest::ToDepot, &mut Work::asked_for());
        in_own_process!();
        for clear in [&by_taker as &dyn Fn() -> bool, &by_end] {
            // Before its grace period and after.
            free_in_section(3);
            assert!(clear(), "all of it");
            assert_eq!((waits_here(), large_batch::shared().bytes()), (0, 3 * SIZE));
            readers::unlock();
            assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
            assert_eq!(large_pages::reclaim(&mut Work::asked_for()), 3 * SIZE);
            free_in_section(3);
            readers::unlock();
            assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
            assert!(clear(), "all of it");
            assert_eq!((waits_here(), large_batch::shared().bytes()), (0, 0));
            assert_eq!(large_pages::census().count, 0);
        }
        assert_eq!(backlog::deferred_and(cache().ledger.balance), 0);
    }
}
