//! Retire: free found its magazine full.
//!
//! Two ways, by which table free pushes to:
//!
//! - *deferring*, where its array is full and can grow no more (what is less waits in place, `round.rs`):
//!   every block of the filling magazine is marked in (a block that was in already is a double free), and the
//!   magazine joins the thread's open group. A group that is large enough is sealed:
//!   the cookie is taken, behind the last block, and the group joins the thread's waiting queue. Past the
//!   thread's share the oldest group goes to the queue for all threads.
//! - *local* (solo, or `RCUMALLOC_DEFER=api`): the full magazine changes place with the warm one,
//!   so a program that goes to and fro at the edge of a magazine turns none. Only when both are
//!   full is the older marked in and put on the full stack: no grace period is needed.
//!
//! A class that is excepted from deferring takes the first way up to where its magazine would join a group:
//! it is for malloc then, as one that has waited, and malloc takes it out of free's slot, too (`refill.rs`).
//!
//! Free never needs memory it may not get (G4). If there is no empty magazine anywhere, the magazines of the
//! oldest waiting group, if elapsed, are flushed to the slabs and used; else the block's bit is set in its
//! slab's deferred bitmap.

use crate::cache::ladder::{self, Step};
use crate::cache::mode;
use crate::cache::table::Slot;
use crate::cache::thread_cache::ThreadCache;
use crate::class::backlog::Closed;
use crate::class::check_in::check_in;
use crate::class::magazine::{KINDS, Magazine, kind_of, least};
use crate::class::marks::Map;
use crate::class::size_class::Class;
use crate::class::{depot, fingerprints, group, pool, verdict, waiting};
use crate::constants::{LEAST_CHARGE, LOCAL_BYTES};
use crate::os::clock;

impl ThreadCache {
    /// Frees `block` for reuse by this thread at once; where the slot is full, after
    /// [`turn_local`](Self::turn_local).
    #[inline]
    pub fn push_local(&mut self, class: Class, block: usize) {
        push_or_give(self.alloc.slot(class), class, block);
    }

    /// The same for a block of an excepted class, after [`turn_excepted`](Self::turn_excepted).
    pub fn push_excepted(&mut self, class: Class, block: usize) {
        push_or_give(self.defer.slot(class), class, block);
    }

    /// Makes room where free pushes blocks of an excepted class, if there is an array to be had.
    #[cold]
    #[inline(never)]
    pub fn turn_excepted(&mut self, class: Class) {
        let quota = self.quota(class);
        let turned = self.defer.slot(class).len() * class.size();
        if turned != 0 {
            self.note_turn(class, turned);
        }
        self.retire_filling(class);
        if let Some(empty) = self.empty_for_free(kind_of(quota)) {
            self.defer.slot(class).install(empty, class, 0, quota);
        }
    }

    /// Turns the filling magazine. False if there is no empty one to put in its place.
    #[inline]
    pub fn turn_deferred(&mut self, class: Class) -> bool {
        let before = self.defer.slot(class).capacity();
        self.retire_filling(class);
        let empty = match self.empty_for_free(kind_of(before.max(least(class)))) {
            Some(magazine) => magazine,
            None => match self.recycle_waiting() {
                Some(magazine) => magazine,
                None => return false,
            },
        };
        self.install_filling(class, empty);
        true
    }

    /// Whether the open group is large enough to be sealed.
    #[inline]
    pub fn is_group_full(&self) -> bool {
        self.open_charge >= self.loan.seal_bytes()
    }

    /// Takes the filling magazine of `class` out, marks its blocks in, and adds it to the open group; of an
    /// excepted class, to what is for malloc.
    #[inline]
    #[unsafe(link_section = ".text_threads")]
    pub fn retire_filling(&mut self, class: Class) {
        let slot = self.defer.slot(class);
        let marked = slot.marked_in();
        slot.take_in(class);
        let Some(magazine) = slot.remove() else { return };
        let (len, bytes) = (magazine.len(), magazine.len() * class.size());
        if len == 0 {
            return self.keep_spare(magazine);
        }
        self.retired += (len - marked.min(len)) as u64;
        if mode::is_excepted(class) {
            return self.put_ready(magazine, self.loan.stock_bytes() / 2);
        }
        self.leave_round(class, len);
        self.note_waiting(class, len);
        self.open_bytes += bytes;
        self.open_charge += bytes.max(len * LEAST_CHARGE);
        self.open_group.push(magazine);
    }

    /// Closes the open group behind a cookie and queues it. True if what waits is more than the budget.
    #[unsafe(link_section = ".text_solo")]
    pub fn stamp_open(&mut self) -> bool {
        let mut group = core::mem::take(&mut self.open_group);
        if group.is_empty() {
            return false;
        }
        let bytes = core::mem::take(&mut self.open_bytes);
        self.open_charge = 0;
        // Not when the thread last looked: who is told how long a block has waited is to be told the truth.
        group.set_sealed_ms(clock::now_coarse_ms());
        if fingerprints::is_on() {
            group.print();
        }
        let Closed { batch, over_budget } = self.ledger.stamp(group, bytes);
        match self.shelf.open() {
            Some(mut shelf) => shelf.waiting.push(batch, bytes),
            None => group::shared().put(batch, bytes),
        }
        self.shed();
        over_budget
    }

    /// Gives away what is past the thread's share: first what others find by its class and can use at once.
    /// What waits is of no use to anybody yet, and comes back by itself as long as it stays here.
    #[inline]
    pub fn shed(&mut self) {
        if self.shelf.held() > self.loan.share_bytes() {
            self.shed_excess();
        }
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    fn shed_excess(&mut self) {
        let quarter = self.quarter();
        let Some(mut shelf) = self.shelf.open() else { return };
        for class in Class::all() {
            while shelf.held() > self.loan.share_bytes()
                && let Some(magazine) = shelf.pop_full(class)
            {
                depot::of(class).put(quarter, magazine);
            }
        }
        while shelf.held() > self.loan.share_bytes()
            && let Some((group, bytes)) = shelf.waiting.pop()
        {
            group::shared().put(group, bytes);
        }
    }

    /// Makes room in the local slot of `class`, if there is an array to be had.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    pub fn turn_local(&mut self, class: Class) {
        let quota = self.quota(class);
        let Some(full) = self.alloc.slot(class).remove() else {
            if let Some(empty) = self.empty_for_free(kind_of(quota)) {
                self.alloc.slot(class).install(empty, class, 0, quota);
            }
            return;
        };
        self.note_turn(class, full.bytes());
        match self.class(class).warm.replace(full) {
            Some(warm) if warm.is_empty() => self.alloc.slot(class).install(warm, class, 0, quota),
            older => match (self.empty_for_free(kind_of(quota)), older) {
                (Some(empty), older) => {
                    self.alloc.slot(class).install(empty, class, 0, quota);
                    if let Some(older) = older {
                        self.keep_local(class, older);
                    }
                }
                (None, older) => {
                    // No memory: empty one of our own into the slabs and use its array.
                    let victim = older.or_else(|| self.class(class).warm.take());
                    if let Some(mut victim) = victim {
                        ladder::note(Step::OwnBlocks);
                        check_in(class, &mut victim);
                        depot::give_blocks(class, victim.blocks());
                        self.alloc.slot(class).install(victim, class, 0, quota);
                    }
                }
            },
        }
    }

    /// Files a full local magazine for reuse: here, or past what the thread may keep ready, in the depot.
    /// Where there is nobody to trade with, the slabs are the better place: other classes may get them.
    fn keep_local(&mut self, class: Class, mut magazine: Magazine) {
        check_in(class, &mut magazine);
        self.retired += magazine.len() as u64;
        let bytes = magazine.bytes();
        if let Some(mut shelf) = self.shelf.open()
            && shelf.full(class).len() * bytes < LOCAL_BYTES
            && shelf.held() + bytes <= self.loan.share_bytes().min(self.loan.stock_bytes())
        {
            shelf.push_full_whole(magazine);
            return;
        }
        if mode::is_concurrent() {
            depot::of(class).put(self.quarter(), magazine);
        } else {
            depot::give_blocks(class, magazine.blocks());
            magazine.set_len(0);
            self.keep_spare(magazine);
        }
    }

    /// An empty magazine from the oldest waiting group, if its grace period has passed: its blocks go to the
    /// slabs.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn recycle_waiting(&mut self) -> Option<Magazine> {
        let (oldest, bytes) = self.shelf.open()?.waiting.pop_elapsed()?;
        ladder::note(Step::Elapsed);
        self.ledger.settle(bytes);
        let mut group = waiting::open(oldest)?;
        while let Some(mut magazine) = group.pop() {
            self.note_taken_up(&magazine);
            depot::give_blocks(magazine.class(), magazine.blocks());
            magazine.set_len(0);
            self.keep_spare(magazine);
        }
        (0..KINDS).find_map(|kind| self.spares[kind].pop())
    }

    /// G4, the last resort: needs no memory and cannot fail.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn defer_at_last(&mut self, class: Class, block: usize) {
        ladder::note(Step::Slab);
        defer_in_slab(class, block, "free");
    }
}

/// Pushes `block`; where the slot is full still there is no array at all, and it goes straight to the slab.
#[inline]
fn push_or_give(slot: &mut Slot, class: Class, block: usize) {
    if slot.is_full() {
        ladder::note(Step::Slab);
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

/// Frees `block` without a cache: its bit in its slab's deferred bitmap.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
pub fn defer_in_slab(class: Class, block: usize, call: &str) {
    // SAFETY: the caller frees the block: it is ours.
    if unsafe { Map::of(class).take_in(block) } {
        pool::of(class).defer(class, block);
    } else {
        verdict::double_free(call, block, class, verdict::Found::AtTurn);
    }
}
