//! Tending a cache: what every slow path does, and the sweep by age.
//!
//! A sweep, at the first look at the clock after the age limit has passed, retires partial magazines,
//! so that a block in a half-full one does not wait for ever (`partial_batch_age`), and expedites if
//! the oldest waiting magazine is past the limit. A thread with many slow paths looks at each 32nd, one
//! with few at each (`ThreadCache::look_at_clock`). Nothing here blocks.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{drain, shares, shelf};
use crate::class::cause::Cause;
use crate::class::queue::Link;
use crate::class::work::Work;
use crate::class::{backlog, depot, pool};
use crate::constants::WORTH;
use crate::front::{fork, stress, switch};
use crate::os::{bell, clock, home};
use crate::page::{limit, reserve, watermark};
use crate::release::{decay, pressure, publish, stall, surplus, watcher};

impl ThreadCache {
    /// What every slow path begins with: the thread announces a quiescent state (a no-op inside
    /// a section) and now and then looks at the clock.
    #[inline]
    #[unsafe(link_section = ".text_solo")]
    pub fn slow_path(&mut self) {
        self.enter();
        if switch::is_half_switched() {
            switch::go_concurrent();
        }
        self.announce();
        if self.tick() {
            self.tend();
        }
        if bell::wants() != 0 {
            self.heed();
        }
    }

    /// Somebody asks for something.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn heed(&mut self) {
        if bell::wants() & bell::STRESS != 0 {
            stress::slow_path(self);
        }
        if bell::wants() & bell::ROOM != 0 {
            self.make_room();
        }
        if bell::is_wanted() {
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

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    fn tend(&mut self) {
        let now_ns = clock::now_coarse_ns();
        // First: it says when to come next, and whoever asks meanwhile says so, too.
        let due = self.look_at_clock(now_ns);
        let mut work = Work::of_a_call();
        reserve::top_up();
        drain::take_over_one();
        shares::look_at_heap();
        if shares::note_busy(&mut self.looks) {
            self.loan.renew();
        }
        if self.is_asked() {
            self.answer(&mut work);
        }
        if due {
            self.sweep(&mut work);
        }
        decay::look(now_ns, &mut work);
        publish::consider(self.now_ms);
        watcher::consider(self.now_ms);
        pressure::tend(self.now_ms);
    }

    /// Near a limit, what has waited and what is kept for reuse may be what others have no room for.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn make_room(&mut self) {
        if !limit::was_refused() {
            return;
        }
        pool::settle_some();
        if self.shelf.held() + depot::all_bytes() >= WORTH {
            surplus::reclaim(Some(self));
        }
        watermark::purge_excess(0);
    }

    /// Retires partial magazines and expedites for what is past the age limit.
    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    fn sweep(&mut self, work: &mut Work) {
        self.retire_partial();
        let oldest = |shelf: shelf::Open| {
            shelf.waiting.front().map(|oldest| (oldest.peek().closed_ms(), oldest.cookie()))
        };
        if let Some((sealed_ms, cookie)) = self.shelf.open().and_then(oldest)
            // It may have been sealed since this thread looked at the clock.
            && (self.now_ms.wrapping_sub(sealed_ms) as i32).max(0) as u32 >= backlog::age_limit_ms()
        {
            backlog::expedite(cookie, Cause::Age);
        }
        self.sweep_large(work);
        drain::vacant(backlog::age_limit_ms(), work);
        stall::look();
    }
}
