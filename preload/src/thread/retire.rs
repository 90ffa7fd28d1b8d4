//! Retire: free found its magazine full.
//!
//! Two ways, by which table free pushes to:
//!
//! - *deferring*: every block of the filling magazine is marked in (a block that was in already is
//!   a double free), then the cookie is taken, behind the last block; the magazine joins the
//!   thread's waiting queue. Past the thread's share the oldest goes to the depot.
//! - *local* (solo, or `RCUMALLOC_DEFER=api`): the full magazine changes place with the warm one,
//!   so a program that goes to and fro at the edge of a magazine turns none. Only when both are
//!   full is the older marked in and put on the full stack: no grace period is needed.
//!
//! Free never needs memory it may not get (G4). If there is no empty magazine anywhere, the oldest
//! waiting one, if elapsed, is flushed to the slabs and used; else the block's bit is set in its
//! slab's deferred bitmap.

use crate::class::backlog::{self, Closed};
use crate::class::depot;
use crate::class::magazine::Magazine;
use crate::class::marks::Map;
use crate::class::size_class::Class;
use crate::class::{pool, verdict, waiting};
use crate::page::quarter::Quarter;
use crate::thread::cache::ThreadCache;
use crate::thread::mode;
use crate::thread::shelf::{Contents, share_bytes};

/// Magazines of one class a thread keeps before the depot gets the oldest (tune): 512 KiB of the larger kinds. With 4 most
/// reuse went through the depot, with 64 almost none (spike.md); but 64 of what one thread frees and another allocates
/// circulate too far from the caches: producer/consumer is 0.7 times as fast, with 32 it takes 0.5 MiB more.
const SHARE: usize = 16;
/// Local: reusable blocks of one class a thread keeps in its full stack, in bytes (tune). What lies
/// there pins its slabs: 512 KiB cost python3 7 % of its RSS and saved no time.
const LOCAL_BYTES: usize = 32 * 1024;

impl ThreadCache {
    /// Frees `block`, whose grace period begins now.
    #[inline]
    pub fn push_deferred(&mut self, class: Class, block: usize) {
        if self.defer.slot(class).is_full() && !self.turn_deferred(class) {
            return self.defer_in_slab(class, block);
        }
        self.defer.slot(class).push(block);
    }

    /// Frees `block` for reuse by this thread at once.
    #[inline]
    pub fn push_local(&mut self, class: Class, block: usize) {
        if self.alloc.slot(class).is_full() {
            self.turn_local(class);
        }
        let slot = self.alloc.slot(class);
        if slot.is_full() {
            // No array at all, not even this slot's own: straight to the slab.
            // SAFETY: the caller frees the block: it is ours.
            if unsafe { Map::of(class).take_in(block) } {
                depot::give_blocks(class, &[block]);
            } else {
                verdict::double_free("free", block, class, verdict::Found::AtTurn);
            }
            return;
        }
        slot.push(block);
    }

    /// Turns the filling magazine. False if there is no empty one to put in its place.
    #[inline]
    fn turn_deferred(&mut self, class: Class) -> bool {
        self.slow_path();
        self.retire_filling(class);
        let kind = self.kind(class);
        let empty = match self.empty_for_free(kind) {
            Some(magazine) => magazine,
            None => match self.recycle_waiting(class) {
                Some(magazine) => magazine,
                None => return false,
            },
        };
        self.defer.slot(class).install(empty, class, 0);
        true
    }

    /// Takes the filling magazine of `class` out, marks its blocks in, stamps it and queues it.
    #[inline]
    pub fn retire_filling(&mut self, class: Class) {
        if self.stamp_filling(class) {
            self.reclaim_surplus();
        }
    }

    /// The same; true if what waits is more than the budget.
    #[inline]
    pub fn stamp_filling(&mut self, class: Class) -> bool {
        let slot = self.defer.slot(class);
        let marked = slot.marked_in();
        let Some(mut magazine) = slot.remove() else { return false };
        check_in_past(class, &mut magazine, marked);
        let len = magazine.len();
        let bytes = len * class.size();
        self.retired += len as u64;
        magazine.set_stamped_ms(self.now_ms);
        let Closed { batch, over_budget } = self.ledger.stamp(magazine, bytes);
        let quarter = self.quarter();
        match self.shelf.open() {
            Some(mut shelf) => {
                shelf.held += bytes;
                let held = shelf.held;
                let stock = shelf.stock(class);
                stock.waiting.push(batch);
                if stock.magazines() > SHARE || held > share_bytes() {
                    shed(&mut shelf, class, quarter);
                }
            }
            None => depot::of(class).put_waiting(class, quarter, batch),
        }
        over_budget
    }

    /// Makes room in the local slot of `class`, if there is an array to be had.
    #[cold]
    #[inline(never)]
    fn turn_local(&mut self, class: Class) {
        self.slow_path();
        let full = self.alloc.slot(class).remove();
        let Some(full) = full else {
            let kind = self.kind(class);
            if let Some(empty) = self.empty_for_free(kind) {
                self.alloc.slot(class).install(empty, class, 0);
            }
            return;
        };
        match self.class(class).warm.replace(full) {
            Some(warm) if warm.is_empty() => self.alloc.slot(class).install(warm, class, 0),
            older => {
                let kind = self.kind(class);
                match (self.empty_for_free(kind), older) {
                    (Some(empty), older) => {
                        self.alloc.slot(class).install(empty, class, 0);
                        if let Some(older) = older {
                            self.keep_local(class, older);
                        }
                    }
                    (None, older) => {
                        // No memory: empty one of our own into the slabs and use its array.
                        let victim = older.or_else(|| self.class(class).warm.take());
                        if let Some(mut victim) = victim {
                            check_in(class, &mut victim);
                            depot::give_blocks(class, victim.blocks());
                            self.alloc.slot(class).install(victim, class, 0);
                        }
                    }
                }
            }
        }
    }

    /// Files a full local magazine for reuse: here, or past this thread's share in the depot. Where
    /// there is nobody to trade with, the slabs are the better place: other classes may get them.
    fn keep_local(&mut self, class: Class, mut magazine: Magazine) {
        check_in(class, &mut magazine);
        self.retired += magazine.len() as u64;
        let bytes = magazine.len() * class.size();
        if let Some(mut shelf) = self.shelf.open() {
            let held = shelf.held + bytes;
            let full = &mut shelf.stock(class).full;
            if full.len() < SHARE && full.len() * bytes < LOCAL_BYTES && held <= share_bytes() {
                full.push(magazine);
                shelf.held = held;
                return;
            }
        }
        if mode::is_concurrent() {
            depot::of(class).put_full(class, self.quarter(), magazine);
        } else {
            depot::give_blocks(class, magazine.blocks());
            magazine.set_len(0);
            self.keep_spare(magazine);
        }
    }

    /// G4: the oldest waiting magazine, if its cookie has elapsed, emptied into the slabs.
    #[cold]
    #[inline(never)]
    fn recycle_waiting(&mut self, class: Class) -> Option<Magazine> {
        let mut shelf = self.shelf.open()?;
        let oldest = shelf.stock(class).waiting.pop_if(|oldest| backlog::expedite(oldest.cookie()))?;
        let bytes = oldest.len() * class.size();
        shelf.held -= bytes;
        drop(shelf);
        self.ledger.settle(bytes);
        let mut magazine = waiting::open(oldest)?;
        depot::give_blocks(class, magazine.blocks());
        magazine.set_len(0);
        Some(magazine)
    }

    /// G4, the last resort: needs no memory and cannot fail.
    #[cold]
    #[inline(never)]
    fn defer_in_slab(&mut self, class: Class, block: usize) {
        defer_in_slab(class, block, "free");
    }
}

/// Gives the depot what is past the thread's share: first what others can use at once, then the oldest waiting ones.
#[cold]
#[inline(never)]
fn shed(shelf: &mut Contents, class: Class, quarter: Quarter) {
    while shelf.stock(class).magazines() > SHARE || shelf.held > share_bytes() {
        let stock = shelf.stock(class);
        let bytes = if let Some(magazine) = stock.full.pop() {
            let bytes = magazine.len() * class.size();
            depot::of(class).put_full(class, quarter, magazine);
            bytes
        } else if let Some(oldest) = stock.waiting.pop() {
            let bytes = oldest.len() * class.size();
            depot::of(class).put_waiting(class, quarter, oldest);
            bytes
        } else {
            break;
        };
        shelf.held -= bytes;
    }
}

/// Frees `block` without a cache: its bit in its slab's deferred bitmap.
#[cold]
#[inline(never)]
pub fn defer_in_slab(class: Class, block: usize, call: &str) {
    // SAFETY: the caller frees the block: it is ours.
    if unsafe { Map::of(class).take_in(block) } {
        pool::of(class).defer(class, block);
    } else {
        verdict::double_free(call, block, class, verdict::Found::AtTurn);
    }
}

/// Marks every block of `magazine` in. Those that were in already are double frees: reported and,
/// if the program goes on, taken out of the magazine.
#[inline]
pub fn check_in(class: Class, magazine: &mut Magazine) {
    check_in_past(class, magazine, 0);
}

/// As [`check_in`], where the first `marked` are marked in already.
#[inline]
fn check_in_past(class: Class, magazine: &mut Magazine, marked: usize) {
    // SAFETY: the magazine is ours and holds blocks of slabs of this class only.
    if !unsafe { Map::of(class).retire(magazine.blocks().get(marked..).unwrap_or_default()) } {
        drop_offenders(class, magazine);
    }
}

#[cold]
#[inline(never)]
pub(super) fn drop_offenders(class: Class, magazine: &mut Magazine) {
    // SAFETY: as in `check_in`.
    while let Some(at) = unsafe { Map::of(class).offender(magazine.blocks()) } {
        let blocks = magazine.blocks();
        let last = blocks.len() - 1;
        verdict::double_free("free", blocks[at], class, verdict::Found::AtTurn);
        blocks.swap(at, last);
        magazine.set_len(last);
    }
}
