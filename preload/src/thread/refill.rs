//! Refill: malloc found its loaded magazine empty.
//!
//! ```text
//!   warm ─┬─> waiting, if its cookie has elapsed ─> full ─> depot ─> slab, fresh ─> zone
//!         └ no marks: it never left the thread
//! ```
//!
//! Whole magazines first: of the waiting ones the oldest are polled, up to the first that has to wait; what
//! waits is never scanned. Blocks that come from where they were marked in are marked out here, all at once.

use crate::class::backlog::{self, DOMAIN, Ledger};
use crate::class::depot;
use crate::class::magazine::Magazine;
use crate::class::marks::Map;
use crate::class::pool;
use crate::class::size_class::Class;
use crate::class::waiting;
use crate::constants::AFTER_SCAN;
use crate::page::back_off;
use crate::page::quarter::Quarter;
use crate::thread::cache::ThreadCache;
use crate::thread::shelf::Open;
use crate::thread::{pressure, registry};
use rcu::{Demand, Stamped};

/// A thread that has so many magazines of a class waiting parks whoever does not come by rather than carve more memory, and
/// tries again with as many more (tune). With threads that run there are 4 to 8. Blocks of 24 bytes, two threads of
/// which one was late: 0.8 MiB in place of 2.3 at the peak, as fast.
const HURRY: usize = 16;

impl ThreadCache {
    /// Loads a magazine with blocks of `class` and pops one. `None`: memory is out.
    pub fn refill(&mut self, class: Class) -> Option<usize> {
        self.slow_path();
        // A sweep may have moved things about; a handler may have refilled.
        if let Some(block) = self.alloc.slot(class).pop() {
            return Some(block);
        }
        if let Some(warm) = self.class(class).warm.take_if(|warm| !warm.is_empty()) {
            let emptied = self.load(class, warm);
            self.class(class).warm = emptied;
        } else if let Some(mut magazine) = self.reusable(class) {
            // SAFETY: the magazine was taken from a list: its blocks are ours.
            unsafe { Map::of(class).load(magazine.blocks()) };
            magazine.fetch_ahead(class);
            self.loaded += magazine.len() as u64;
            if let Some(emptied) = self.load(class, magazine) {
                self.keep_spare(emptied);
            }
        } else {
            return self.carve(class);
        }
        self.alloc.slot(class).pop()
    }

    /// Puts `magazine` in the slot and returns the empty one that was there.
    #[inline(always)]
    fn load(&mut self, class: Class, magazine: Magazine) -> Option<Magazine> {
        let slot = self.alloc.slot(class);
        let emptied = slot.remove();
        let len = magazine.len();
        slot.install(magazine, class, len);
        emptied
    }

    /// A magazine whose blocks may be handed out, marked in.
    #[inline(always)]
    fn reusable(&mut self, class: Class) -> Option<Magazine> {
        let mut waits = 0;
        if let Some(mut shelf) = self.shelf.open() {
            if let Some(oldest) = shelf.stock(class).waiting.pop_if(waiting::elapsed) {
                return take_up(shelf, &mut self.ledger, class, oldest);
            }
            waits = shelf.stock(class).waiting.len();
            if let Some(magazine) = shelf.stock(class).full.pop() {
                shelf.held -= magazine.len() * class.size();
                return Some(magazine);
            }
        }
        if waits > 0 {
            // Somebody is short of blocks: make sure a period is under way.
            DOMAIN.advance(Demand::Start);
        }
        let shared = depot::of(class).take(class, self.quarter());
        if shared.is_none() && waits > 0 && waits.is_multiple_of(HURRY) { self.hurry(class) } else { shared }
    }

    /// Long before the budget: where all that is missing is a thread that sleeps or lost its processor, and has no sections,
    /// ends the grace period of the oldest waiting magazine and takes up what has elapsed.
    #[cold]
    #[inline(never)]
    fn hurry(&mut self, class: Class) -> Option<Magazine> {
        let oldest = self.shelf.open()?.stock(class).waiting.front()?.cookie();
        if !backlog::park(oldest) {
            return None;
        }
        let mut shelf = self.shelf.open()?;
        let oldest = shelf.stock(class).waiting.pop_if(waiting::elapsed)?;
        take_up(shelf, &mut self.ledger, class, oldest)
    }

    /// Fills a magazine from the slabs.
    #[cold]
    #[inline(never)]
    fn carve(&mut self, class: Class) -> Option<usize> {
        pressure::throttle();
        registry::take_over_one();
        let kind = self.kind(class);
        self.leave_classes_if_due(class);
        let emptied = self.alloc.slot(class).remove();
        let mut magazine = match emptied {
            Some(magazine) if magazine.kind() >= kind => magazine,
            _ => match (self.empty(kind), emptied) {
                (Some(magazine), Some(emptied)) => {
                    self.keep_spare(emptied);
                    magazine
                }
                (Some(magazine), None) | (None, Some(magazine)) => magazine,
                (None, None) => return take_one(class),
            },
        };
        let backs_off = back_off::is_on();
        back_off::note_refill(backs_off);
        // After a scan a few pages' worth of what may not be resident; what is may be taken as ever.
        let fresh = if backs_off { (AFTER_SCAN / class.size()).max(1) } else { usize::MAX };
        let taken = match pool::of(class).take(class, self.quarter(), magazine.room(class), fresh) {
            0 => self.carve_after_expedite(class, &mut magazine),
            taken => taken,
        };
        magazine.set_len(taken);
        self.carved += taken * class.size();
        // SAFETY: the blocks were just taken from their slabs for us.
        unsafe { Map::of(class).load(magazine.blocks()) };
        self.loaded += taken as u64;
        let slot = self.alloc.slot(class);
        slot.install(magazine, class, taken);
        slot.pop()
    }

    /// Memory is out: what waits may be all there is. Ends its grace period if nobody holds it,
    /// and tries once more.
    #[cold]
    fn carve_after_expedite(&mut self, class: Class, magazine: &mut Magazine) -> usize {
        self.reclaim_everything();
        pool::of(class).take(class, self.quarter(), magazine.room(class), usize::MAX)
    }
}

/// Takes up every magazine that has waited long enough, of which `oldest` is the first: the newest, which is the
/// warmest, to be loaded. The others join the full ones: what a thread does not come to
/// stays at the bottom, untouched, instead of going round through the processor's caches for ever.
fn take_up(
    mut shelf: Open<'_>,
    ledger: &mut Ledger,
    class: Class,
    oldest: Stamped<Magazine>,
) -> Option<Magazine> {
    let (mut newest, mut settled) = (oldest, 0);
    while let Some(newer) = shelf.stock(class).waiting.pop_if(waiting::elapsed) {
        let older = core::mem::replace(&mut newest, newer);
        let bytes = older.len() * class.size();
        settled += bytes;
        match waiting::open(older) {
            Some(magazine) => shelf.stock(class).full.push(magazine),
            None => shelf.held -= bytes,
        }
    }
    let bytes = newest.len() * class.size();
    shelf.held -= bytes;
    let magazine = waiting::open(newest);
    drop(shelf);
    ledger.settle(settled + bytes);
    backlog::relax_mark();
    magazine
}

/// One block without a magazine: for threads without a cache, and when there is no memory for
/// a page of pointers.
#[cold]
#[inline(never)]
pub fn take_one(class: Class) -> Option<usize> {
    let mut one = [0];
    if pool::of(class).take(class, Quarter::of(0), &mut one, 1) == 0 {
        return None;
    }
    // SAFETY: just taken from its slab for us.
    unsafe { Map::of(class).let_out(one[0]) };
    Some(one[0])
}
