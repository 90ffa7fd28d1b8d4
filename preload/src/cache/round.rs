//! A round: what a thread has freed waits where free has put it.
//!
//! A thread that frees blocks of many classes frees few of each between two grace periods. To take a magazine
//! out for each class and period would cost more than all else. So free goes on filling the same magazine,
//! and the thread keeps one cookie for all of them:
//!
//! ```text
//!   a filling magazine   | wait for the round's cookie, marked in | freed since | room |
//!                         low                                 noted           top    high
//! ```
//!
//! A *round* begins when the thread has freed a round's bytes: what its magazines hold is marked in, and the
//! cookie is taken behind the last block. When it has elapsed, which is asked when malloc finds a magazine
//! empty and when the next round is due, what has waited is marked out and moved to where malloc pops, and
//! what is more than malloc needs of the class to the shelf.
//!
//! free counts nothing. Its magazines have no room when a round begins; what finds one full takes as many
//! blocks as the class had in the last round from the *credit* of the thread, which is a round's bytes. When
//! that is used up, the next round is due.
//!
//! Where the last one still waits by then, half the credit is given once more, and again; then who does not
//! come by is parked, and at last everything joins a group, which is in the account of deferred bytes and
//! which others may take. A magazine whose array is full joins a group by itself, so a class that is much of
//! what a thread frees is served by whole magazines. These bytes count, too: a round that has elapsed says
//! that the groups before it have.

use crate::cache::thread_cache::ThreadCache;
use crate::class::backlog::{self, DOMAIN};
use crate::class::depot;
use crate::class::in_place::Round;
use crate::class::magazine::{Magazine, kind_of, most, most_filling};
use crate::class::marks::Map;
use crate::class::size_class::Class;
use crate::class::{sampled, waiting};
use crate::constants::{CLASS_PART, GROUP_AFTER, LEAST_CHARGE, PARK_AFTER};
use crate::os::arch;
use rcu::{Batch, Cookie, Stamped};

/// What `blocks` of `class` take from the credit.
#[inline(always)]
fn charge(class: Class, blocks: usize) -> usize {
    blocks * class.size().max(LEAST_CHARGE)
}

impl ThreadCache {
    /// What one takes that is freed by itself: no more than there may be, so that a round has one at least.
    #[inline(always)]
    fn charge_of_one(&self, class: Class) -> usize {
        charge(class, 1).min(self.loan.fill_bytes())
    }

    /// free has found the filling magazine of `class` full: it may take more, if there is credit and room in
    /// its array. Nothing else is touched, so a handler may come in between.
    #[inline(always)]
    pub fn take_credit(&mut self, class: Class) -> bool {
        let flow = self.flow(class);
        let (more, cost) = match charge(class, flow) {
            cost if cost <= self.credit => (flow, cost),
            _ => match self.credit / charge(class, 1) {
                0 => (1, self.charge_of_one(class)),
                left => (left, charge(class, left)),
            },
        };
        if cost > self.credit || !self.defer.slot(class).raise(more) {
            return false;
        }
        self.credit -= cost;
        self.filling |= 1 << class.index();
        true
    }

    /// Puts an empty magazine where free fills those of `class`.
    #[inline]
    pub fn install_filling(&mut self, class: Class, empty: Magazine) {
        self.defer.slot(class).install(empty, class, 0, 0);
        if !self.take_credit(class) {
            // The round is due, but the block is there.
            self.defer.slot(class).raise(1);
            self.filling |= 1 << class.index();
        }
    }

    /// A filling magazine of `len` blocks joins a group. What it took of the credit stays taken: it has been
    /// freed, and has not come back.
    #[inline(always)]
    pub fn leave_round(&mut self, class: Class, len: usize) {
        self.joined |= 1 << class.index();
        let state = self.class(class);
        state.flow = state.flow.max(len as u16);
    }

    /// Blocks of `class` that the thread freed in its last rounds, about; at least one.
    #[inline(always)]
    fn flow(&mut self, class: Class) -> usize {
        usize::from(self.class(class).flow).max(1)
    }

    /// Whether free has found the filling magazine of `class` full because the thread's credit is used up.
    #[inline]
    pub fn is_round_due(&self, class: Class) -> bool {
        self.defer.peek(class).magic != 0 && self.credit < self.charge_of_one(class)
    }

    /// Sees to it that the filling magazine of `class` has room. False if it has to be taken out.
    #[inline]
    pub fn makes_room(&mut self, class: Class) -> bool {
        let slot = self.defer.slot(class);
        if slot.magic == 0 {
            return false;
        }
        if !slot.is_full() {
            return true;
        }
        let wanted = slot.len() + 1;
        if self.take_credit(class) {
            return true;
        }
        // No credit, or no room in the array.
        self.credit >= self.charge_of_one(class)
            && wanted <= most_filling(class)
            && self.widen_filling(class, wanted)
            && self.take_credit(class)
    }

    /// Moves what `class` is filling to an array for `wanted` blocks or more.
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    fn widen_filling(&mut self, class: Class, wanted: usize) -> bool {
        let Some(mut wide) = self.empty(kind_of(wanted)) else { return false };
        let slot = self.defer.slot(class);
        let marked = slot.marked_in();
        let Some(mut narrow) = slot.remove() else { return false };
        wide.set_len(0);
        wide.pour(&mut narrow);
        let len = wide.len();
        slot.install(wide, class, len, len);
        slot.set_marked_in(marked);
        self.keep_spare(narrow);
        true
    }

    /// A round is due. The thread has just announced a quiescent state. False if the last one has waited for
    /// so long that all that waits is to join a group.
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    pub fn begin_round(&mut self) -> bool {
        if !self.end_round() {
            self.round.late += 1;
            let late = self.round.late;
            if late >= GROUP_AFTER {
                return false;
            }
            if late < PARK_AFTER || !backlog::park(self.round.cookie()) || !self.end_round() {
                self.credit += self.loan.fill_bytes() / 2;
                return true;
            }
        }
        let size = self.loan.fill_bytes();
        let mut credit = size;
        // Magazines of these have joined groups as a whole, and so will those that are filling.
        let joined = core::mem::take(&mut self.joined);
        let (mut blocks, mut waiting) = (0, if joined == 0 { 0 } else { Round::GROUPS });
        for class in Class::of_bits(self.filling & !joined) {
            let slot = self.defer.slot(class);
            let len = slot.len();
            if len == 0 {
                self.class(class).flow /= 2;
                if self.class(class).flow == 0 {
                    self.filling &= !(1 << class.index());
                }
                self.defer.slot(class).close_room();
                continue;
            }
            slot.take_in(class);
            // No round is under way: until the cookie is taken, nothing that is noted is handed out.
            self.defer.slot(class).note_marked_in();
            blocks += len;
            waiting |= 1 << class.index();
            let state = self.class(class);
            let flow = (usize::from(state.flow) + len).div_ceil(2);
            state.flow = flow as u16;
            let slot = self.defer.slot(class);
            slot.close_room();
            // Not more than half of it in advance, and never what is not there: the class may have had more
            // in a round that was late, or when there were fewer threads.
            let cost = charge(class, flow);
            if credit > size / 2 && cost <= credit && slot.raise(flow) {
                credit -= cost;
            }
        }
        self.credit = credit;
        self.retired += blocks as u64;
        if waiting != 0 {
            let round =
                Round { cookie: Cookie::from_bits(0), classes: waiting, blocks: blocks as u32, late: 0 };
            // What has joined groups alone has its period started by these.
            let stamped = match waiting {
                Round::GROUPS => Stamped::close(round, &DOMAIN),
                _ => Stamped::close_and_start(round, &DOMAIN),
            };
            // SAFETY: what waits stays where it is until `end_round` makes a stamped one of it again.
            self.round = unsafe { stamped.into_unopened() };
        }
        true
    }

    /// Ends the round if its cookie has elapsed: what has waited may be handed out. True if nothing waits in
    /// filling magazines any more.
    #[inline]
    pub fn end_round(&mut self) -> bool {
        if self.round.classes == 0 {
            return true;
        }
        // SAFETY: it came from `begin_round`.
        if !waiting::elapsed(unsafe { Stamped::of_unopened(&self.round) }) {
            return false;
        }
        self.take_round_up();
        true
    }

    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    fn take_round_up(&mut self) {
        // SAFETY: it came from `begin_round`.
        let round = unsafe { Stamped::from_unopened(core::mem::replace(&mut self.round, Round::NONE)) };
        let waiting = round.peek().classes & !Round::GROUPS;
        let is_open = waiting::open(round).is_some();
        if waiting == 0 {
            return;
        }
        // What malloc pops and what lies on the shelf may be so much together.
        let stock = |class: Class| self.alloc.peek(class).len() * class.size();
        let held = self.shelf.held() + Class::of_bits(self.filling).map(stock).sum::<usize>();
        let mut left = self.loan.stock_bytes().saturating_sub(held);
        let most = self.loan.fill_bytes() / CLASS_PART;
        for class in Class::of_bits(waiting) {
            if self.defer.slot(class).marked_in() != 0 {
                let had = self.alloc.slot(class).len();
                self.take_waited(class, is_open, most.min(left + had * class.size()));
                // None at all, where what malloc pops now ends at a sample.
                let more = self.alloc.slot(class).len().saturating_sub(had);
                left = left.saturating_sub(more * class.size());
            }
        }
    }

    /// Whether `block` of `class` is in a filling magazine.
    pub fn is_filling(&self, class: Class, block: usize) -> bool {
        self.defer.peek(class).blocks().contains(&block)
    }

    /// What waits in filling magazines has no cookie of its own any more: it gets the next.
    pub fn forget_round(&mut self) {
        self.round = Round::NONE;
        // All of them have joined a group, not because they were full.
        self.joined = 0;
        self.credit = self.loan.fill_bytes();
    }

    /// Moves what has waited in the filling magazine of `class` to where malloc pops; what is more than may
    /// lie there, to the shelf.
    #[inline(always)]
    fn take_waited(&mut self, class: Class, is_open: bool, stock: usize) {
        let waited = self.defer.slot(class).marked_in();
        // Until they are where they belong, they are nowhere: whoever jumps out of here loses them.
        self.defer.slot(class).set_marked_in(0);
        arch::stores_in_order();
        if !is_open {
            return self.defer.slot(class).drop_first(waited);
        }
        let have = self.alloc.slot(class).len();
        let mut capacity = self.alloc.slot(class).capacity();
        let wanted = have + waited;
        if wanted * class.size() > stock {
            capacity = capacity.min(stock / class.size());
        } else if wanted > capacity && capacity < most(class) {
            self.widen_loaded(class, wanted.min(most(class)));
            capacity = self.alloc.slot(class).capacity();
        }
        let kept = waited.min(capacity.saturating_sub(have));
        let spilled = if kept < waited { self.spilled(class, waited - kept) } else { None };
        // The youngest, which are the warmest, stay.
        let slot = self.alloc.slot(class);
        let to = slot.top;
        let from = self.defer.slot(class).low.wrapping_add(waited - kept);
        // SAFETY: both arrays are the thread's and hold so many; blocks of a filling magazine of the class,
        // which nobody else holds.
        unsafe { Map::of(class).load_few(from, to, kept) };
        self.defer.slot(class).drop_first(waited);
        self.alloc.slot(class).add(kept);
        self.loaded += kept as u64;
        if let Some(magazine) = spilled {
            self.put_ready(magazine, self.loan.stock_bytes() / 2);
        }
        if sampled::any() {
            self.end_at_next_sample(class, kept);
        }
    }

    /// The loaded magazine of `class` gets an array for `wanted` blocks, if there is one.
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    fn widen_loaded(&mut self, class: Class, wanted: usize) {
        let Some(mut wide) = self.empty(kind_of(wanted)) else { return };
        wide.set_len(0);
        if let Some(mut narrow) = self.alloc.slot(class).remove() {
            wide.pour(&mut narrow);
            self.keep_spare(narrow);
        }
        let len = wide.len();
        self.alloc.slot(class).install(wide, class, len, usize::MAX);
    }

    /// The first `count` blocks of what has waited, in a magazine of their own, marked in as they are.
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    fn spilled(&mut self, class: Class, count: usize) -> Option<Magazine> {
        let low = self.defer.slot(class).low;
        // SAFETY: the slot holds so many.
        let blocks = unsafe { core::slice::from_raw_parts_mut(low, count) };
        let Some(mut magazine) = self.empty(kind_of(count)) else {
            depot::give_blocks(class, blocks);
            return None;
        };
        magazine.set_class(class);
        magazine.room()[..count].copy_from_slice(blocks);
        magazine.set_len(count);
        Some(magazine)
    }

    /// Puts a magazine whose blocks may be handed out, marked in, on the shelf while less than `most` bytes
    /// lie there; else where others find it.
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    pub fn put_ready(&mut self, magazine: Magazine, most: usize) {
        let is_full = self.shelf.held() >= most;
        let emptied = match self.shelf.open() {
            Some(mut shelf) if !is_full => shelf.push_full(magazine),
            _ => {
                depot::of(magazine.class()).put(self.quarter(), magazine);
                None
            }
        };
        if let Some(emptied) = emptied {
            self.keep_spare(emptied);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::cause::Cause;
    use crate::front::switch::go_concurrent;
    use crate::front::tests::{give, take};
    use crate::front::{entry, readers};
    use crate::own_process::in_own_process;

    const SIZES: [usize; 6] = [40, 200, 600, 1500, 3000, 6000];

    /// Frees blocks of all sizes until a round has begun; which they were.
    fn begin(cache: &mut ThreadCache) -> Vec<usize> {
        let mut freed = Vec::new();
        loop {
            let blocks = SIZES.map(take);
            blocks.iter().for_each(|&block| give(block));
            freed.extend(blocks);
            if cache.round.classes != 0 {
                return freed;
            }
        }
    }

    #[test]
    fn what_a_round_holds_waits_for_its_cookie_and_then_serves() {
        in_own_process!();
        go_concurrent();
        let cache = entry::current().expect("a cache");
        readers::lock();
        let freed = begin(cache);
        assert!(!cache.end_round(), "a section holds it");
        let anew: Vec<usize> = (0..50).flat_map(|_| SIZES.map(take)).collect();
        assert!(!anew.iter().any(|block| freed.contains(block)), "handed out under a reader");
        readers::unlock();
        assert!(backlog::expedite(cache.round.cookie(), Cause::Pressure));
        assert!(cache.end_round());
        assert!(SIZES.map(take).iter().all(|block| freed.contains(block)), "what has waited serves first");
        cache.retire_partial();
    }

    #[test]
    fn what_is_freed_between_two_rounds_is_bounded_over_all_classes() {
        in_own_process!();
        go_concurrent();
        let cache = entry::current().expect("a cache");
        let round = cache.loan.fill_bytes();
        // A late one is given half as much again each time that it is due.
        let bound = round + usize::from(PARK_AFTER) * round / 2;
        // As if there had been fewer threads, and so larger rounds.
        Class::all().for_each(|class| cache.class(class).flow = 500);
        let mut most = 0;
        for turn in 0..20_000 {
            let block = take(SIZES[turn % SIZES.len()] + turn % 7 * 16);
            give(block);
            let freed = |class| {
                let slot = cache.defer.peek(class);
                charge(class, slot.len() - slot.marked_in())
            };
            most = most.max(Class::all().map(freed).sum());
        }
        // One block of each class at most is there on top: who installs a magazine pushes one.
        let beside: usize = Class::all().map(Class::size).sum();
        assert!(round / 4 < most && most <= bound + beside, "{most} bytes, {round} are a round's");
    }

    #[test]
    fn what_joins_a_group_counts_on_the_way_to_a_round() {
        in_own_process!();
        go_concurrent();
        let cache = entry::current().expect("a cache");
        let round = cache.loan.fill_bytes();
        let (mut rounds, mut last, mut groups) = (0, cache.round.cookie(), 0);
        // Of one class, and so many that its magazines are taken out.
        let blocks: Vec<usize> = (0..8 * round / LEAST_CHARGE).map(|_| take(LEAST_CHARGE)).collect();
        for block in blocks {
            give(block);
            if cache.round.classes != 0 && cache.round.cookie() != last {
                last = cache.round.cookie();
                rounds += 1;
            }
            groups = groups.max(cache.open_bytes);
        }
        assert!(groups != 0, "none joined a group");
        assert!((4..=8).contains(&rounds), "{rounds} rounds");
    }
}
