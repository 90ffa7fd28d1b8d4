//! Figures. Fast paths count nothing: what is known is counted at the turns of magazines and from
//! what is in them now. Read without stopping anybody, so figures that belong together may be a
//! magazine apart while threads run; in a process at rest they are exact.

use crate::class::backlog::{self, DOMAIN};
use crate::class::large_batch::Freed;
use crate::class::magazine::{KINDS, array_len};
use crate::class::size_class::{CLASSES, Class};
use crate::class::{depot, group, large_pages, pool, verdict, work};
use crate::page::{back_off, meta, zone};
use crate::thread::scan_log::{self, REASONS};
use crate::thread::{mode, registry, shrinker};

/// What `rcumalloc_stats` gives; the layout is `struct rcumalloc_stats` of the header. Bytes
/// unless the name says otherwise.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Stats {
    /// Bytes of this structure as the library knows it.
    pub size: u64,
    /// Address space of the heap's window that is mapped now.
    pub window_bytes: u64,
    /// Memory the zone has handed out: slabs, large blocks, metadata, pages of pointers.
    pub mapped_bytes: u64,
    /// Of blocks the program has (waiting ones not counted).
    pub live_bytes: u64,
    /// Of large blocks among them.
    pub live_large_bytes: u64,
    /// In free pages that still hold memory.
    pub dirty_bytes: u64,
    /// Given back to the system so far.
    pub purged_bytes: u64,
    /// Of metadata.
    pub meta_bytes: u64,
    /// Stamped, not yet taken up again.
    pub deferred_bytes: u64,
    /// The most that was, as far as was looked.
    pub deferred_peak_bytes: u64,
    /// From which on grace periods are expedited.
    pub budget_bytes: u64,
    /// Blocks that went through a turn on their way to the program (recycled ones in a solo
    /// process's magazine are not counted).
    pub blocks_loaded: u64,
    /// Blocks that went through a turn on their way back.
    pub blocks_retired: u64,
    /// Large blocks allocated.
    pub large_allocated: u64,
    /// Grace periods started.
    pub periods_started: u64,
    /// Grace periods completed.
    pub periods_completed: u64,
    /// Of those, expedited.
    pub periods_expedited: u64,
    /// Times a thread was parked.
    pub threads_parked: u64,
    /// membarrier calls.
    pub membarriers: u64,
    /// Threads with a cache.
    pub threads: u64,
    /// The most threads there were.
    pub threads_peak: u64,
    /// Bad calls reported.
    pub bad_calls: u64,
    /// Grace-period latency, nanoseconds: the median, or 0 if there was none.
    pub period_p50_ns: u64,
    /// And the 99th percentile.
    pub period_p99_ns: u64,
    /// 1 when the process is concurrent.
    pub concurrent: u64,
    /// What the shrinker could give back.
    pub reclaimable_bytes: u64,
    /// Fetches of a page cache, or of a magazine from the slabs.
    pub refills: u64,
    /// Of those, made small by the back-off.
    pub refills_suppressed: u64,
    /// When the last scan began, monotonic clock, nanoseconds; 0: there was none.
    pub last_scan_ns: u64,
    /// How long it took, nanoseconds.
    pub last_scan_took_ns: u64,
    /// Its [`Reason`](crate::thread::scan_log::Reason).
    pub last_scan_reason: u64,
    /// What it gave.
    pub last_scan_bytes: u64,
    /// Scans by reason.
    pub scans: [u64; REASONS],
    /// Bytes given by reason.
    pub scanned_bytes: [u64; REASONS],
    /// The most blocks that one call gave back of what others had left, a large one for four.
    pub call_blocks_most: u64,
    /// The most bytes that one call gave to the system, beyond twice what it freed.
    pub call_purged_most: u64,
    /// The most stretches of pages it looked for to do so.
    pub call_purges_most: u64,
}

/// The figures as of now.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn collect() -> Stats {
    let zone = zone::stats();
    let periods = periods();
    let large = large_pages::census();
    let (resting_large, reused_large) = large_blocks();
    let live_large = large.bytes.saturating_sub(large.waiting_bytes + resting_large);
    let (threads, threads_peak) = registry::census();
    let (refills, refills_suppressed) = back_off::refills();
    let tallies = scan_log::tallies();
    let [last_scan_ns, last_scan_took_ns, last_scan_reason, _, last_scan_bytes, _] =
        scan_log::last().unwrap_or_default();
    let (purged_most, purges_most) = zone::most_purged();
    let (away_bytes, in_magazines, loaded, retired) = small();
    Stats {
        size: core::mem::size_of::<Stats>() as u64,
        window_bytes: zone.ground_bytes as u64,
        mapped_bytes: zone.ground_bytes.saturating_sub(zone.free_bytes) as u64,
        live_bytes: (away_bytes.saturating_sub(in_magazines) + live_large) as u64,
        live_large_bytes: live_large as u64,
        dirty_bytes: zone.dirty_bytes as u64,
        purged_bytes: zone.purged_bytes as u64,
        meta_bytes: meta::stats().bytes as u64,
        deferred_bytes: backlog::deferred_and(unposted()) as u64,
        deferred_peak_bytes: backlog::peak_bytes() as u64,
        budget_bytes: backlog::budget_bytes() as u64,
        blocks_loaded: loaded,
        blocks_retired: retired,
        large_allocated: large.created + reused_large,
        periods_started: periods.started,
        periods_completed: periods.completed,
        periods_expedited: periods.expedited,
        threads_parked: periods.parked,
        membarriers: periods.membarriers,
        threads: threads as u64,
        threads_peak: threads_peak as u64,
        bad_calls: verdict::reported(),
        period_p50_ns: periods.p50_ns,
        period_p99_ns: periods.p99_ns,
        concurrent: u64::from(mode::is_concurrent()),
        reclaimable_bytes: shrinker::count() as u64,
        refills,
        refills_suppressed,
        last_scan_ns,
        last_scan_took_ns,
        last_scan_reason,
        last_scan_bytes,
        scans: tallies.map(|tally| tally.scans),
        scanned_bytes: tallies.map(|tally| tally.bytes),
        call_blocks_most: work::most_done() as u64,
        call_purged_most: purged_most as u64,
        call_purges_most: purges_most as u64,
    }
}

/// What is wanted of the engine's counters.
struct Periods {
    started: u64,
    completed: u64,
    expedited: u64,
    parked: u64,
    membarriers: u64,
    p50_ns: u64,
    p99_ns: u64,
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn periods() -> Periods {
    let counters = DOMAIN.counters();
    let quantile = |fraction| DOMAIN.latency(fraction).unwrap_or(0);
    Periods {
        started: counters.started,
        completed: counters.completed,
        expedited: counters.expedited,
        parked: counters.parked,
        membarriers: counters.membarriers,
        p50_ns: quantile(0.5),
        p99_ns: quantile(0.99),
    }
}

/// What the threads' ledgers hold back.
fn unposted() -> isize {
    // SAFETY: type-stable; a single word that its owner may be writing, read with a volatile load and
    // allowed to be stale.
    registry::all().map(|cache| unsafe { (&raw const (*cache).ledger.balance).read_volatile() }).sum()
}

/// Of large blocks: bytes of those that threads have, freed or ready, and how many were handed out again.
fn large_blocks() -> (usize, u64) {
    let [_, _, mut reused] = registry::gone();
    let mut bytes = 0;
    for cache in registry::all() {
        // SAFETY: type-stable. The owner may be writing: single words, allowed to be stale; what the batch
        // begins with is a descriptor for ever.
        unsafe {
            bytes += (&raw const (*cache).freed).cast::<Freed>().read_volatile().bytes();
            let (ready, handed_out) = (*cache).shelf.held_large();
            bytes += ready;
            reused += handed_out;
        }
    }
    (bytes, reused)
}

/// Of small blocks: bytes outside slabs, bytes of those in magazines, blocks loaded, retired.
fn small() -> (usize, usize, u64, u64) {
    let [mut retired, mut loaded, _] = registry::gone();
    let (mut away, mut resting) = (0, 0);
    for index in 0..CLASSES {
        let class = Class::new(index);
        away += pool::of(class).census().away * class.size();
        resting += depot::of(class).census().1;
    }
    resting += group::shared_bytes();
    for cache in registry::all() {
        // SAFETY: type-stable. The owner may be writing: the figures are read with volatile loads
        // of single words and are allowed to be stale.
        unsafe {
            loaded += (&raw const (*cache).loaded).read_volatile();
            retired += (&raw const (*cache).retired).read_volatile();
            resting += (*cache).shelf.held() + (&raw const (*cache).open_bytes).read_volatile();
            for index in 0..CLASSES {
                let class = Class::new(index);
                // The bound is for a slot that changes under our eyes.
                let most = array_len(KINDS - 1);
                resting += (*cache).alloc.peek(class).len().min(most) * class.size();
                resting += (*cache).defer.peek(class).len().min(most) * class.size();
                if let Some(warm) = (&raw const (*cache).classes[index].warm).read_volatile() {
                    // A page of pointers that has gone meanwhile holds anything.
                    resting += warm.len().min(most) * class.size();
                }
            }
        }
    }
    (away, resting, loaded, retired)
}
