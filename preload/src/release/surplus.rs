//! What waits is closed, and what is past the budget goes back.

use crate::cache::takers;
use crate::cache::takers::Whose;
use crate::cache::thread_cache::ThreadCache;
use crate::class::backlog::DOMAIN;
use crate::class::size_class::{CLASSES, Class};
use crate::class::work::Work;
use crate::class::{backlog, depot, large_pages};
use crate::constants::{KEPT_GROUPS, SURPLUS_WALKS};
use crate::page::watermark;
use crate::release::stall;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rcu::Cookie;

/// How many there have been since a period began or ended: that moment, and in the lowest bits their number.
/// Relaxed: a number that steers.
static WALKED: AtomicU64 = AtomicU64::new(0);
const NUMBER: u64 = 3; // (given) as an encoding

/// Another number, with `NUMBER` clear, whenever a period has begun or ended. While a section holds one up,
/// those who sleep have nothing more than when somebody looked last.
fn moment() -> u64 {
    let next = DOMAIN.snapshot().to_bits();
    // What is taken in a period, and what behind its end, is the same cookie; the one before has not elapsed,
    // or has.
    (next + u64::from(DOMAIN.poll(Cookie::from_bits(next - 2)))) << NUMBER.count_ones()
}

impl ThreadCache {
    /// Closes the open group behind a cookie and queues it.
    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    pub fn seal(&mut self) {
        if self.stamp_open() {
            reclaim(Some(self));
        }
    }

    /// Closes the batch of large blocks, however small, if there is one.
    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    pub fn close_freed(&mut self) {
        let bytes = self.freed.bytes();
        if self.stamp_freed() {
            reclaim(Some(self));
            // It may have been most of what there is, from a program that says nothing more.
            watermark::purge_excess(bytes);
        }
    }

    /// Seals what is in filling magazines and in the open group, however little.
    pub fn retire_partial(&mut self) {
        for class in Class::all() {
            if !self.defer.slot(class).is_empty() {
                self.retire_filling(class);
            }
        }
        self.forget_round();
        self.seal();
        self.close_freed();
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

/// The backlog was over its budget and has been expedited: what has elapsed goes back to the
/// slabs, where every thread and, slab by slab, every class can use it; as far as one call goes.
#[cold]
#[inline(never)]
pub fn reclaim(mut own: Option<&mut ThreadCache>) {
    let mut work = Work::of_a_call();
    if let Some(own) = &mut own {
        own.flush_reusable(KEPT_GROUPS, &mut work);
    }
    depot::distribute_shared(&mut work);
    depot::drain_all(&mut work);
    large_pages::reclaim(&mut work);
    if work.goes_on() && backlog::is_over_budget() {
        let (now, walked) = (moment(), WALKED.load(Relaxed));
        let walks = if walked & !NUMBER == now { walked & NUMBER } else { 0 };
        if walks < SURPLUS_WALKS {
            // Threads that sleep may have it.
            let own = own.as_deref().map_or(core::ptr::null(), core::ptr::from_ref);
            if takers::clear_others(own, Whose::Idle, &mut work) {
                WALKED.store(now | (walks + 1), Relaxed);
            }
            depot::distribute_shared(&mut work);
            depot::drain_all(&mut work);
        }
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
