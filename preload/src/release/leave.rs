//! Classes that a thread has left: what it keeps of sizes it does not ask for any more goes back to the
//! slabs.
//!
//! The blocks of a magazine come from anywhere. A hundred that were freed at random keep a hundred slabs
//! from being empty, however few bytes they are, and a program that goes on from size to size would grow by
//! that for each size it leaves behind. Age finds them too late where the heap grows by a hundred megabytes
//! a second. So time is told by growth: where the heap has grown by [`LEAVE_GROWTH`] since anybody looked,
//! or by a [part](LEAVE_SHARE) of itself if that is more, a thread that has carved as much from slabs looks
//! through its classes and gives back what it has of those whose magazine malloc has not found empty since
//! its last look; where the heap does not grow, one that has carved [`LEAVE_STEP`]. A class that is used all
//! the same pays a refill for each look. Then the pages of its slabs all of whose blocks are in go to the
//! system: of blocks of 1 KiB one in ten that survives keeps a third of the pages, but every slab. A program
//! that comes back to a class pays for each page with a fault. So no more of them goes than the heap has
//! grown by since the last look: where what was left serves what comes, nothing does.
//!
//! What such a class is filling joins the open group and waits; what has waited by the next look goes to the
//! slabs. The depot of a class is everybody's: it is drained when nobody has taken from it for so long that
//! every thread might have looked. What is more than one call does is there at the next look.
//!
//! The calling thread's own cache only, from its refill.

use crate::cache::thread_cache::ThreadCache;
use crate::class::check_in::check_in;
use crate::class::magazine::Magazine;
use crate::class::size_class::Class;
use crate::class::work::Work;
use crate::class::{depot, pool};
use crate::constants::{LEAVE_GROWTH, LEAVE_SHARE, LEAVE_STEP};
use crate::page::limit;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of the heap that were in use or dirty when somebody last looked. Relaxed: it steers.
#[unsafe(link_section = ".data")]
static TOUCHED: AtomicUsize = AtomicUsize::new(0);

impl ThreadCache {
    /// Looks through the classes if enough has been carved. Now it is `present` whose slabs are to be asked.
    #[inline]
    pub fn leave_classes_if_due(&mut self, present: Class) {
        let has_grown = || {
            let touched = limit::held();
            let step = LEAVE_GROWTH.max(touched >> LEAVE_SHARE);
            self.carved >= step && touched >= TOUCHED.load(Relaxed).saturating_add(step)
        };
        if self.carved >= LEAVE_GROWTH && (self.carved >= LEAVE_STEP || has_grown()) {
            self.carved = 0;
            self.leave_classes(present);
        }
    }

    /// Gives back what this thread has of classes that it has not refilled since the last call, but for
    /// `present`.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    fn leave_classes(&mut self, present: Class) {
        depot::look();
        let mut left = 0u64;
        let touched = limit::held();
        let mut grown = touched.saturating_sub(TOUCHED.swap(touched, Relaxed));
        for class in Class::all() {
            let state = self.class(class);
            if core::mem::take(&mut state.is_used) || class == present {
                continue;
            }
            left |= 1 << class.index();
            self.empty_slots(class);
        }
        self.seal();
        self.take_up_elapsed();
        let mut work = Work::of_a_call();
        depot::distribute_shared(&mut work);
        if let Some(mut shelf) = self.shelf.open() {
            for class in Class::of_bits(left) {
                while work.goes_on()
                    && let Some(full) = shelf.pop_full(class)
                {
                    work.did(full.len());
                    depot::flush(full);
                }
                depot::of(class).drain_if_left(&mut work);
                if grown != 0 {
                    grown = grown.saturating_sub(pool::of(class).purge_pages(&mut work));
                }
            }
        }
    }

    /// What malloc would pop goes to the slabs, what free has pushed joins what waits.
    fn empty_slots(&mut self, class: Class) {
        let loaded = self.alloc.slot(class).remove();
        let warm = self.class(class).warm.take();
        for magazine in [loaded, warm].into_iter().flatten() {
            self.give_to_slabs(class, magazine);
        }
        if !self.defer.slot(class).is_empty() {
            self.retire_filling(class);
        }
    }

    fn give_to_slabs(&mut self, class: Class, mut magazine: Magazine) {
        if !magazine.is_empty() {
            check_in(class, &mut magazine);
            self.retired += magazine.len() as u64;
            depot::give_blocks(class, magazine.blocks());
            magazine.set_len(0);
        }
        self.keep_spare(magazine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::backlog::{self, DOMAIN};
    use crate::class::cause::Cause;
    use crate::class::depot::look;
    use crate::class::slab::{Slab, Whereabouts};
    use crate::front::tests::{give, take};
    use crate::front::{entry, readers, switch};
    use crate::own_process::in_own_process;
    use crate::page::quarter::Quarter;

    const LEFT: usize = 900;
    const USED: usize = 200;
    const GROWN: usize = 3000;

    /// Carves a little less than so many bytes.
    fn grow_by(bytes: usize) {
        (0..bytes / Class::of_size(GROWN).size() - 1).for_each(|_| {
            take(GROWN);
        });
    }

    /// Carves a little less than what makes a thread look in any case.
    fn grow() {
        grow_by(LEAVE_STEP);
    }

    /// Whether a block of `LEFT` bytes is in its slab, or that has gone.
    fn is_in_slab(block: usize) -> bool {
        use Whereabouts::{Free, NeverGiven};
        let slab = Slab::of(block).filter(|slab| slab.class() == Class::of_size(LEFT));
        slab.is_none_or(|slab| matches!(slab.whereabouts(block), Free | NeverGiven))
    }

    #[test]
    fn what_a_thread_has_left_goes_to_the_slabs_and_what_it_uses_stays() {
        in_own_process!();
        let (left, used) = (Class::of_size(LEFT), Class::of_size(USED));
        let cache = entry::current().expect("a cache");
        let blocks: Vec<usize> = (0..400).map(|_| take(LEFT)).collect();
        blocks.iter().for_each(|&block| give(block));
        give(take(USED));
        assert!(cache.class(left).warm.is_some() && !cache.alloc.slot(left).is_empty());
        assert!(cache.shelf.open().is_some_and(|shelf| !shelf.full(left).is_empty()));
        for _ in 0..5 * LEAVE_STEP / LEAVE_GROWTH {
            take(USED);
            grow_by(LEAVE_GROWTH);
        }
        assert!(blocks.iter().all(|&block| is_in_slab(block)));
        assert_eq!(pool::of(left).census().away, 0);
        assert!(pool::of(left).census().slabs <= 1);
        assert!(!cache.alloc.slot(used).is_empty(), "it was popped from between any two looks");
        assert_eq!(cache.shelf.held(), 0);
        // And serves again, marked as it should be.
        let again = take(LEFT);
        give(again);
        assert_eq!(take(LEFT), again);
    }

    #[test]
    fn where_the_heap_grows_a_look_is_due_sooner() {
        in_own_process!();
        let blocks: Vec<usize> = (0..400).map(|_| take(LEFT)).collect();
        grow();
        blocks.iter().for_each(|&block| give(block));
        assert!(!blocks.iter().all(|&block| is_in_slab(block)));
        grow_by(4 * LEAVE_GROWTH);
        assert!(blocks.iter().all(|&block| is_in_slab(block)));
    }

    #[test]
    fn what_free_has_filled_waits_and_the_depot_is_drained() {
        in_own_process!();
        switch::go_concurrent();
        let left = Class::of_size(LEFT);
        let blocks: Vec<usize> = (0..40).map(|_| take(LEFT)).collect();
        let shared: Vec<usize> = (0..40).map(|_| take(LEFT)).collect();
        shared.iter().for_each(|&block| give(block));
        let cache = entry::current().expect("a cache");
        cache.retire_partial();
        exit_to_depot(left);
        assert_ne!(depot::of(left).census().0, 0);
        readers::lock();
        blocks.iter().for_each(|&block| give(block));
        (0..6).for_each(|_| grow());
        assert!(!blocks.iter().any(|&block| is_in_slab(block)), "a section holds them");
        readers::unlock();
        (0..6).for_each(|_| grow());
        assert!(blocks.iter().chain(&shared).all(|&block| is_in_slab(block)));
        assert_eq!(depot::of(left).census(), (0, 0));
    }

    /// As a thread that ends would.
    fn exit_to_depot(class: Class) {
        let cache = entry::current().expect("a cache");
        assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure) && cache.take_up_elapsed());
        let mut shelf = cache.shelf.open_waiting();
        while let Some(magazine) = shelf.pop_full(class) {
            depot::of(class).put(Quarter::of(0), magazine);
        }
    }

    #[test]
    fn a_depot_that_somebody_takes_from_is_not_left() {
        in_own_process!();
        switch::go_concurrent();
        let class = Class::of_size(LEFT);
        let blocks: Vec<usize> = (0..40).map(|_| take(LEFT)).collect();
        blocks.iter().for_each(|&block| give(block));
        entry::current().expect("a cache").retire_partial();
        exit_to_depot(class);
        assert!(backlog::expedite(DOMAIN.start_poll(), Cause::Pressure));
        for _ in 0..8 {
            look();
            let magazine = depot::of(class).take(Quarter::of(0)).expect("it has waited");
            depot::of(class).put(Quarter::of(0), magazine);
            depot::of(class).drain_if_left(&mut Work::asked_for());
        }
        assert_ne!(depot::of(class).census().0, 0);
        (0..=backlog::threads()).for_each(|_| look());
        depot::of(class).drain_if_left(&mut Work::asked_for());
        assert_eq!(depot::of(class).census(), (0, 0));
    }
}
