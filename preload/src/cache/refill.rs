//! Refill: malloc found its loaded magazine empty.
//!
//! ```text
//!   warm ─┬─> full ─> groups that have waited long enough ─> depot ─> slab, fresh ─> zone
//!         └ no marks: it never left the thread
//! ```
//!
//! Whole magazines first. Of the waiting groups the oldest are polled, up to the first that has to wait; what
//! waits is never scanned. Blocks that come from where they were marked in are marked out here, all at once.

use crate::cache::mode;
use crate::cache::thread_cache::ThreadCache;
use crate::class::group::{self, Group};
use crate::class::magazine::{Magazine, kind_of};
use crate::class::marks::Map;
use crate::class::size_class::Class;
use crate::class::{backlog, depot, pool, sampled, waiting};
use crate::constants::{AFTER_SCAN, SHARED_LOOKS};
use crate::page::back_off;
use crate::page::quarter::Quarter;

impl ThreadCache {
    /// Loads a magazine with blocks of `class` and pops one. `None`: there is none but in the slabs
    /// ([`carve`](Self::carve)).
    pub fn refill(&mut self, class: Class) -> Option<usize> {
        self.class(class).is_used = true;
        // A sweep may have moved things about; a handler may have refilled.
        if let Some(block) = self.alloc.slot(class).pop() {
            return Some(block);
        }
        if mode::is_excepted(class) && self.take_excepted(class) {
            return self.pop_loaded(class);
        }
        if self.end_round()
            && let Some(block) = self.alloc.slot(class).pop()
        {
            return Some(block);
        }
        if let Some(warm) = self.class(class).warm.take_if(|warm| !warm.is_empty()) {
            let emptied = self.load(class, warm);
            self.class(class).warm = emptied;
        } else if let Some(mut magazine) = self.reusable(class) {
            // SAFETY: the magazine was taken from a list: its blocks are ours.
            unsafe { Map::of(class).load(magazine.blocks()) };
            self.loaded += magazine.len() as u64;
            if let Some(emptied) = self.load(class, magazine) {
                self.keep_spare(emptied);
            }
        } else {
            return None;
        }
        self.pop_loaded(class)
    }

    /// A block from a magazine that has just been loaded.
    #[inline(always)]
    fn pop_loaded(&mut self, class: Class) -> Option<usize> {
        let block = self.alloc.slot(class).pop();
        if sampled::any() {
            self.end_at_next_sample(class, usize::MAX);
        }
        block
    }

    /// Loads what free has pushed of an excepted class. False if there is nothing.
    #[cold]
    #[inline(never)]
    fn take_excepted(&mut self, class: Class) -> bool {
        let quota = self.quota(class);
        let slot = self.defer.slot(class);
        let marked = slot.marked_in();
        slot.take_in(class);
        if slot.is_empty() {
            return false;
        }
        let Some(mut magazine) = slot.remove() else { return false };
        let len = magazine.len();
        // SAFETY: marked in a moment ago; the magazine is the thread's alone.
        unsafe { Map::of(class).load(magazine.blocks()) };
        self.retired += (len - marked.min(len)) as u64;
        self.loaded += len as u64;
        if let Some(emptied) = self.load(class, magazine) {
            self.defer.slot(class).install(emptied, class, 0, quota);
        }
        true
    }

    /// Puts `magazine` in the slot and returns the empty one that was there.
    #[inline(always)]
    fn load(&mut self, class: Class, magazine: Magazine) -> Option<Magazine> {
        let slot = self.alloc.slot(class);
        let emptied = slot.remove();
        let len = magazine.len();
        slot.install(magazine, class, len, usize::MAX);
        emptied
    }

    /// A magazine whose blocks may be handed out, marked in.
    #[inline(always)]
    fn reusable(&mut self, class: Class) -> Option<Magazine> {
        let own = self.shelf.open().and_then(|mut shelf| shelf.pop_full(class));
        if own.is_some() {
            return own;
        }
        self.reusable_by_now(class)
    }

    #[inline(never)]
    #[unsafe(link_section = ".text_start")]
    fn reusable_by_now(&mut self, class: Class) -> Option<Magazine> {
        if self.take_up_elapsed() {
            let own = self.shelf.open().and_then(|mut shelf| shelf.pop_full(class));
            if own.is_some() {
                return own;
            }
        }
        let shared = depot::of(class).take(self.quarter());
        if shared.is_some() {
            return shared;
        }
        for _ in 0..SHARED_LOOKS {
            let group = group::shared().take_elapsed()?;
            self.unpack(group);
            let own = self.shelf.open()?.pop_full(class);
            if own.is_some() {
                return own;
            }
        }
        None
    }

    /// Takes up every group on the shelf that has waited long enough. The youngest, which is the warmest,
    /// comes to lie on top. True if there was one.
    #[unsafe(link_section = ".text_start")]
    pub fn take_up_elapsed(&mut self) -> bool {
        let mut any = false;
        while let Some((group, bytes)) = self.shelf.open().and_then(|mut shelf| shelf.waiting.pop_elapsed()) {
            self.ledger.settle(bytes);
            any = true;
            if let Some(group) = waiting::open(group) {
                self.unpack(group);
            }
        }
        if any {
            backlog::relax_mark();
        }
        any
    }

    /// Puts the magazines of a group that has waited where malloc finds them.
    fn unpack(&mut self, mut group: Group) {
        while let Some(magazine) = group.pop() {
            self.note_taken_up(&magazine);
            self.put_ready(magazine, usize::MAX);
        }
        self.shed();
    }

    /// Fills a magazine from the slabs. `None`: memory is out.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_start")]
    pub fn carve(&mut self, class: Class) -> Option<usize> {
        let flow = usize::from(self.class(class).flow);
        let quota = if flow == 0 { self.quota(class) } else { flow };
        let kind = kind_of(quota);
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
        let room = quota.min(magazine.capacity());
        let room = &mut magazine.room()[..room];
        let taken = pool::of(class).take(class, self.quarter(), room, fresh);
        magazine.set_len(taken);
        self.carved += taken * class.size();
        // SAFETY: the blocks were just taken from their slabs for us.
        unsafe { Map::of(class).load(magazine.blocks()) };
        self.loaded += taken as u64;
        if flow == 0 {
            self.note_turn(class, taken * class.size());
        }
        let slot = self.alloc.slot(class);
        slot.install(magazine, class, taken, taken);
        self.pop_loaded(class)
    }
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
