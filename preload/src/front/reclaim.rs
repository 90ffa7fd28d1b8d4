//! Tending a cache: what every slow path does, the sweep by age, and the backlog's surplus.
//!
//! A sweep, at the first look at the clock after the age limit has passed, retires partial magazines,
//! so that a block in a half-full one does not wait for ever (`partial_batch_age`), and expedites if
//! the oldest waiting magazine is past the limit. A thread with many slow paths looks at each 32nd, one
//! with few at each (`ThreadCache::look_at_clock`). Nothing here blocks but [`barrier`].

use crate::cache::shelf::{self, Whose};
use crate::cache::thread_cache::ThreadCache;
use crate::cache::{own, registry, vacant};
use crate::class::backlog::{self, DOMAIN};
use crate::class::cause::Cause;
use crate::class::depot;
use crate::class::group;
use crate::class::large_batch;
use crate::class::pool;
use crate::class::size_class::{CLASSES, Class};
use crate::class::work::Work;
use crate::constants::KEPT_GROUPS;
use crate::front::{fork, readers, switch};
use crate::os::{bell, clock, home};
use crate::page::reserve;
use crate::release::{decay, pressure, publish, stall};
use rcu::{BarrierHooks, Reader};

impl ThreadCache {
    /// What every slow path begins with: the thread announces a quiescent state (a no-op inside
    /// a section) and now and then looks at the clock.
    #[inline]
    pub fn slow_path(&mut self) {
        self.enter();
        self.announce();
        if self.tick() {
            self.tend();
        }
        if bell::wants() != 0 {
            pressure::serve();
        }
    }

    /// What even the shortest slow path begins with: the process may be the child of a fork.
    #[inline(always)]
    pub fn enter(&mut self) {
        if home::was_cloned() {
            fork::after_raw_clone();
        }
    }

    /// What nothing comes of but the announcement.
    #[inline]
    pub fn announce(&mut self) {
        if switch::is_half_switched() {
            switch::go_concurrent();
        }
        // SAFETY: the cell was registered with the cache, which is the calling thread's.
        unsafe { Reader::borrow_cell(self.cell()) }.quiescent_state();
    }

    #[cold]
    #[inline(never)]
    fn tend(&mut self) {
        let now_ns = clock::now_coarse_ns();
        // First: it says when to come next, and whoever asks meanwhile says so, too.
        let due = self.look_at_clock(now_ns);
        let mut work = Work::of_a_call();
        reserve::top_up();
        registry::take_over_one();
        shelf::note_busy(&mut self.looks);
        shelf::look_at_heap();
        if self.is_asked() {
            self.answer(&mut work);
        }
        if due {
            self.sweep(&mut work);
        }
        decay::look(now_ns, &mut work);
        publish::consider(self.now_ms);
        pressure::tend(self.now_ms);
    }

    /// Retires partial magazines and expedites for what is past the age limit.
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn sweep(&mut self, work: &mut Work) {
        self.retire_partial();
        let oldest = |shelf: shelf::Open| {
            shelf.waiting.front().map(|oldest| (oldest.peek().sealed_ms(), oldest.cookie()))
        };
        if let Some((sealed_ms, cookie)) = self.shelf.open().and_then(oldest)
            // It may have been sealed since this thread looked at the clock.
            && (self.now_ms.wrapping_sub(sealed_ms) as i32).max(0) as u32 >= backlog::age_limit_ms()
        {
            backlog::expedite(cookie, Cause::Age);
        }
        self.sweep_large(work);
        vacant::empty(backlog::age_limit_ms(), work);
        stall::look();
    }

    /// Seals what is in filling magazines and in the open group, however little.
    pub fn retire_partial(&mut self) {
        for class in Class::all() {
            if !self.defer.slot(class).is_empty() {
                self.retire_filling(class);
            }
        }
        self.seal();
        self.close_freed();
    }

    /// The backlog was over its budget and has been expedited: what has elapsed goes back to the
    /// slabs, where every thread and, slab by slab, every class can use it; as far as one call goes.
    #[cold]
    #[inline(never)]
    pub fn reclaim_surplus(&mut self) {
        let mut work = Work::of_a_call();
        self.flush_reusable(KEPT_GROUPS, &mut work);
        group::distribute_shared(&mut work);
        depot::drain_all(&mut work);
        large_batch::reclaim(&mut work);
        if work.goes_on() && backlog::is_over_budget() {
            // Threads that sleep may have it.
            shelf::clear_others(self, Whose::Idle, &mut work);
            group::distribute_shared(&mut work);
            depot::drain_all(&mut work);
        }
        if backlog::is_over_budget() {
            // What is left may be in the way of a section.
            stall::book();
        }
        backlog::set_unfinished(!work.goes_on());
        if work.goes_on() {
            backlog::settle_mark();
        }
    }

    /// Takes up what has elapsed of this cache and gives its reusable blocks to the slabs, as far as there is
    /// `work` to be had, but for `keep` waiting groups and, unless that is 0, its ready large blocks.
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn flush_reusable(&mut self, keep: usize, work: &mut Work) {
        // A taker that is at the shelf does the same.
        if let Some(mut shelf) = self.shelf.open() {
            if keep == 0 {
                shelf.ready.empty();
            }
            while shelf.waiting.len() > keep
                && work.goes_on()
                && let Some((group, bytes)) = shelf.waiting.pop_elapsed()
            {
                depot::flush_group(group, bytes, work);
            }
            let classes = if shelf.held() == 0 { 0 } else { CLASSES };
            for class in Class::all().take(classes) {
                while work.goes_on()
                    && let Some(full) = shelf.pop_full(class)
                {
                    work.did(full.len());
                    depot::flush(full);
                }
            }
        }
        self.reclaim_large(work);
        backlog::relax_mark();
    }
}

/// Drains the depots into the slabs and releases empty slabs and elapsed large blocks.
fn reclaim_shared(work: &mut Work) {
    group::distribute_shared(work);
    depot::drain_all(work);
    for class in Class::all() {
        pool::of(class).release_empty();
    }
    large_batch::reclaim(work);
}

/// Waits until every block freed so far, by a thread whose magazine of it has been stamped, and
/// by the calling thread in any case, may be handed out.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn barrier() {
    struct Hooks;
    impl BarrierHooks for Hooks {
        fn seal(&mut self) {
            if let Some(cache) = own::existing() {
                cache.retire_partial();
            }
            vacant::empty(0, &mut Work::asked_for());
            while registry::take_over_one() {}
        }

        fn reclaim(&mut self) {
            let mut work = Work::asked_for();
            if let Some(cache) = own::existing() {
                cache.flush_reusable(0, &mut work);
            }
            reclaim_shared(&mut work);
        }
    }
    let reader = readers::own_to_wait("rcumalloc_barrier");
    DOMAIN.barrier(reader.as_deref(), &mut Hooks);
}
