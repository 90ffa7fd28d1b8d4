//! The shrinker: what could be given back to the system, and giving it back.
//!
//! Everything that gives memory back on request goes through [`scan`], whatever the [`Reason`]: the
//! program's own calls, the kernel's pressure, a limit, a mapping that failed. What gives back
//! without a request are the watermark on the paths of `free` (`page::watermark`) and age
//! (`decay`).
//!
//! A scan goes through the caches in the order of what they cost to fill again, and after each gives
//! the pages that came free to the system; it stops when its target is met:
//!
//! ```text
//!   free pages      already in the zone                     one fault a page
//!   page caches     of all threads, each by one exchange    a lock
//!   empty slabs     kept by the class pools                 a slab to describe
//!   depots          what may be handed out                  blocks to sort and to pick again
//!   shelves         of all threads, large blocks, and vacant caches, the same
//!   waiting         one expedite, then depots and shelves again (what a section holds stays: G1)
//!   partial         the caller's own magazines; all other threads are asked to give theirs
//!   empties         pages of pointers with nothing in them
//! ```
//!
//! Other threads' loaded and filling magazines cannot be taken: a fast path takes no lock and tells
//! nobody, and no barrier or look at the thread proves that it is not between two of its instructions (it may
//! be asleep in a signal handler that interrupted one). So their owner is asked, by a word of
//! its cache that its next slow path finds; the magazines of threads that no longer exist are
//! taken. The reserve for `free` (G4) is in no step, and is filled up before the first.
//!
//! Afterwards refills back off (`page::back_off`), and every thread starts small again.
//!
//! Any thread may call anything here, one without a cache too; not in a signal handler. Nothing blocks on a
//! grace period. No lock is held from one step to the next.

use crate::cache::takers::{self, Whose};
use crate::cache::thread_cache::{ThreadCache, ask};
use crate::cache::{drain, own, registry, shares, vacant};
use crate::class::backlog::{self, DOMAIN};
use crate::class::cause::Cause;
use crate::class::size_class::Class;
use crate::class::work::Work;
use crate::class::{depot, empties, group, large_batch, large_pages, pool, typed};
use crate::constants::PAGE;
use crate::os::clock;
use crate::page::{back_off, purge, reserve, watermark, zone};
use crate::release::scan_log::{self, Record};

pub use crate::release::scan_log::Reason;

/// Bytes that [`scan`] could give back, as far as the counters tell: what waits and what is in partly
/// used slabs may turn out not to free a page.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn count() -> usize {
    let caches: usize = registry::live()
        .map(|cache| {
            // SAFETY: type-stable; two words that anybody may look at.
            unsafe { (*cache).shelf.held() + (*cache).shelf.held_large().0 + (*cache).pages.len() * PAGE }
        })
        .sum();
    let caches = caches + vacant::bytes();
    let slabs: usize = Class::all().map(|class| pool::of(class).kept_bytes()).sum();
    let waiting = large_batch::shared().bytes() + group::shared().bytes();
    zone::dirty_bytes() + caches + slabs + depot::all_bytes() + waiting + empties::bytes()
}

/// Gives back about `target` bytes, the cheapest first. Returns the bytes that the system has got
/// back, for a failed mapping those that came free in the heap.
pub fn scan(target: usize, reason: Reason) -> usize {
    let mut own = own::existing();
    if let Some(own) = &mut own {
        // All of a slow path but what comes back here: tending may have asked for this scan.
        own.announce();
    }
    Scan { own, target, given: 0, reason }.run()
}

/// What the system says of memory: 0 there is enough, 1 it gets tight (half of what could be given
/// back goes), 2 there is none left (everything goes). Returns the bytes given.
pub fn pressure(level: u32, reason: Reason) -> usize {
    match level {
        0 => 0,
        1 => scan(count() / 2, reason),
        _ => scan(usize::MAX, reason),
    }
}

/// A scan under way.
struct Scan<'a> {
    own: Option<&'a mut ThreadCache>,
    target: usize,
    given: usize,
    reason: Reason,
}

/// The steps, the cheapest first. What they free is in the zone then.
#[derive(Clone, Copy)]
enum Step {
    FreePages,
    PageCaches,
    EmptySlabs,
    Depots,
    Shelves,
    Waiting,
    Partial,
    Empties,
}

const STEPS: [Step; 8] = [
    Step::FreePages,
    Step::PageCaches,
    Step::EmptySlabs,
    Step::Depots,
    Step::Shelves,
    Step::Waiting,
    Step::Partial,
    Step::Empties,
];

// Each step by itself: together they would need the stack of all of them.
impl Scan<'_> {
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn run(mut self) -> usize {
        let started = clock::now_ns();
        let (_, refills) = (reserve::top_up(), back_off::refills().0);
        let free = zone::free_bytes();
        for step in STEPS {
            self.make(step);
            if self.purge() {
                break;
            }
        }
        if self.reason == Reason::MapFailed {
            self.given = zone::free_bytes().saturating_sub(free);
            watermark::note_refusal();
            purge::unmap_free();
        }
        self.start_small();
        let took_ns = clock::now_ns() - started;
        let Scan { target, given, reason, .. } = self;
        scan_log::note(&Record { at_ns: started, took_ns, reason, target, given, refills });
        given
    }

    #[inline(always)]
    fn make(&mut self, step: Step) {
        match step {
            Step::FreePages => {}
            Step::PageCaches => self.page_caches(),
            Step::EmptySlabs => self.empty_slabs(),
            Step::Depots => self.depots(),
            Step::Shelves => self.shelves(),
            Step::Waiting => self.waiting(),
            Step::Partial => self.partial(),
            Step::Empties => self.empties(),
        }
    }

    /// Gives what is free to the system; true when the target is met. Where a mapping failed, the heap
    /// itself can use it; what is left is unmapped at the end.
    #[inline(never)]
    fn purge(&mut self) -> bool {
        let left = self.target - self.given;
        self.given += match self.reason {
            Reason::MapFailed => 0,
            Reason::Api | Reason::Pressure => purge::resident(left),
            // Programs that filter system calls know malloc_trim: no call that glibc does not make.
            _ => purge::free(left),
        };
        self.given >= self.target
    }

    fn own(&self) -> *const ThreadCache {
        self.own.as_deref().map_or(core::ptr::null(), core::ptr::from_ref)
    }

    #[inline(never)]
    fn page_caches(&mut self) {
        for cache in registry::all() {
            // SAFETY: type-stable; anybody may take the stock.
            unsafe { (*cache).pages.take_all() };
        }
    }

    #[inline(never)]
    fn empty_slabs(&mut self) {
        // Where a mapping failed, pages of slabs that the system gets are no room for what is asked for.
        match self.reason {
            Reason::MapFailed => pool::release_empty_all(),
            _ => pool::release_all(),
        }
        typed::release_all();
    }

    #[inline(never)]
    fn depots(&mut self) {
        depot::distribute_shared(&mut Work::asked_for());
        depot::drain_all(&mut Work::asked_for());
        self.empty_slabs();
    }

    #[inline(never)]
    fn shelves(&mut self) {
        if let Some(own) = &mut self.own {
            own.flush_reusable(0, &mut Work::asked_for());
        }
        takers::clear_others(self.own(), Whose::Everybody, &mut Work::asked_for());
        drain::vacant(0, &mut Work::asked_for());
        large_pages::reclaim(&mut Work::asked_for());
        self.empty_slabs();
    }

    #[inline(never)]
    fn waiting(&mut self) {
        if let Some(own) = &mut self.own {
            own.retire_partial();
        }
        let cookie = DOMAIN.start_poll();
        use Reason::*;
        match self.reason {
            MapFailed | Trim | Api | Pressure | Signal => backlog::expedite_for_memory(cookie),
            Limit | Psi | Cgroup | Age => backlog::expedite(cookie, Cause::Pressure),
        };
        self.shelves();
        self.depots();
    }

    #[inline(never)]
    fn partial(&mut self) {
        while drain::take_over_one() {}
        let own = self.own();
        if let Some(own) = &mut self.own {
            drain::empty_all(own, drain::Rest::ToSlabs);
        }
        registry::ask_others(own, ask::EMPTY);
        if !matches!(self.reason, Reason::Trim | Reason::MapFailed) {
            drain::scavenge();
        }
        self.depots();
    }

    #[inline(never)]
    fn empties(&mut self) {
        empties::release(usize::MAX, &mut Work::asked_for());
    }

    /// Nobody is to take straight back what has just been given.
    #[inline(never)]
    fn start_small(&mut self) {
        back_off::begin(clock::now_coarse_ns());
        shares::set_threads(shares::census().0);
        registry::ask_others(self.own(), ask::SMALL);
        if let Some(own) = &mut self.own {
            own.start_small();
        }
    }
}

impl ThreadCache {
    /// Does what a scan in another thread has asked for, as far as there is `work` to be had; its next slow
    /// path goes on.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    pub fn answer(&mut self, work: &mut Work) {
        let asked = self.take_asked();
        if asked & ask::EMPTY != 0 {
            if !drain::empty(self, drain::Rest::ToSlabs, work) {
                self.ask(ask::EMPTY);
            }
            self.ledger.post();
        }
        if asked & ask::SMALL != 0 {
            self.start_small();
        }
    }

    /// Memory is out: gives everything that the calling thread can reach to the zone.
    #[cold]
    #[inline(never)]
    pub fn reclaim_everything(&mut self) {
        Scan { own: Some(self), target: usize::MAX, given: 0, reason: Reason::MapFailed }.run();
    }
}

#[cfg(test)]
#[path = "shrinker_tests.rs"]
mod tests;
