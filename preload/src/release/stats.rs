//! Figures. Fast paths count nothing: what is known is counted at the turns of magazines and from what is in
//! them now. Read without stopping anybody or waiting for anybody, in a signal handler, too, so figures that
//! belong together may be a magazine apart while threads run; in a process at rest they are exact.

use crate::cache::ladder::{self, STEPS};
use crate::cache::{mode, registry, shares, vacant};
use crate::class::backlog::{self, DOMAIN};
use crate::class::cause::{self, CAUSES};
use crate::class::large_batch::Freed;
use crate::class::size_class::Class;
use crate::class::{depot, fingerprints, group, large_pages, pool, trap, typed, verdict, work};
use crate::constants::{PAGE, SLAB_BYTES};
use crate::page::{back_off, meta, reserve, zone};
use crate::release::scan_log::{self, REASONS};
use crate::release::{census, shrinker, stall};

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
    /// Its [`Reason`](crate::release::scan_log::Reason).
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
    /// Slabs and large blocks together: what follows, with `live_bytes`, adds up to it.
    pub blocks_bytes: u64,
    /// Of blocks that may be handed out at once, outside slabs.
    pub cached_bytes: u64,
    /// Of freed blocks that may not yet.
    pub waiting_bytes: u64,
    /// In slabs: never given out or back, and what no block has of a slab.
    pub in_slabs_bytes: u64,
    /// Of those that wait, by what holds them; these six add up to `waiting_bytes`. In magazines that free
    /// pushes to, ...
    pub held_filling_bytes: u64,
    /// ... in groups of a thread that have no cookie yet, ...
    pub held_open_bytes: u64,
    /// ... in sealed groups on threads' shelves, ...
    pub held_shelf_bytes: u64,
    /// ... in the queue for all threads, ...
    pub held_shared_bytes: u64,
    /// ... in slabs' own bitmaps, ...
    pub held_slab_bytes: u64,
    /// ... and large blocks, wherever.
    pub held_large_bytes: u64,
    /// Of `periods_expedited`, those that ended by parking readers that did not come by.
    pub periods_parked: u64,
    /// Times somebody hurried, by [`Cause`](crate::class::cause::Cause).
    pub hurried: [u64; CAUSES],
    /// Of `periods_expedited`, those that ended so. The rest ended for whom the program calls.
    pub hurried_periods: [u64; CAUSES],
    /// Periods that were timed, one in eight.
    pub periods_timed: u64,
    /// How long those took together, nanoseconds.
    pub periods_timed_ns: u64,
    /// Batches that were given up rather than reused too early: a fault of the library.
    pub batches_leaked: u64,
    /// How often `free` needed each step of the ladder "never out of memory to free with".
    pub free_steps: [u64; STEPS],
    /// Pages kept for `free`, in bytes, ...
    pub reserve_bytes: u64,
    /// ... and how many there should be.
    pub reserve_target_bytes: u64,
    /// Magazines filled from slabs.
    pub slab_refills: u64,
    /// Magazines flushed to slabs.
    pub slab_flushes: u64,
    /// Stalled readers reported.
    pub stalls: u64,
    /// Caches without a thread that wait for one.
    pub caches_vacant: u64,
    /// Slabs of typed pools, ...
    pub pool_bytes: u64,
    /// ... of their objects those with the program, ...
    pub pool_live_bytes: u64,
    /// ... and those that wait for a grace period.
    pub pool_waiting_bytes: u64,
    /// Freed blocks whose fingerprints were compared.
    pub blocks_checked: u64,
    /// Of those, written to while they waited.
    pub blocks_changed: u64,
    /// Bytes of trapped blocks that the program has.
    pub trapped_bytes: u64,
}

/// The figures as of now. No lock; in a signal handler, too.
pub fn collect() -> Stats {
    let mut stats = Stats::default();
    collect_into(&mut stats);
    stats
}

/// The same, into a structure of zeros: the stack has room for one.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn collect_into(stats: &mut Stats) {
    stats.size = core::mem::size_of::<Stats>() as u64;
    add_pages(stats);
    add_blocks(stats);
    add_large(stats);
    stats.in_slabs_bytes = stats.in_slabs_bytes.saturating_sub(stats.held_slab_bytes);
    stats.live_bytes += stats.live_large_bytes;
    stats.waiting_bytes = stats.held_filling_bytes
        + stats.held_open_bytes
        + stats.held_shelf_bytes
        + stats.held_shared_bytes
        + stats.held_slab_bytes
        + stats.held_large_bytes;
    add_periods(stats);
    add_scans(stats);
    (stats.threads, stats.threads_peak) = words(shares::census());
    stats.caches_vacant = vacant::count() as u64;
    let pools = typed::census();
    (stats.pool_bytes, stats.pool_live_bytes) = words((pools.bytes, pools.live));
    stats.pool_waiting_bytes = pools.waiting as u64;
    (stats.blocks_checked, stats.blocks_changed) = fingerprints::figures();
    stats.trapped_bytes = trap::live_bytes() as u64;
    stats.bad_calls = verdict::reported();
    stats.concurrent = u64::from(mode::is_concurrent());
    stats.free_steps = ladder::taken();
    stats.stalls = stall::reported();
    stats.call_blocks_most = work::most_done() as u64;
    (stats.call_purged_most, stats.call_purges_most) = words(zone::most_purged());
}

fn words((first, second): (usize, usize)) -> (u64, u64) {
    (first as u64, second as u64)
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn add_pages(stats: &mut Stats) {
    let zone = zone::stats();
    stats.window_bytes = zone.ground_bytes as u64;
    stats.mapped_bytes = zone.ground_bytes.saturating_sub(zone.free_bytes) as u64;
    stats.dirty_bytes = zone.dirty_bytes as u64;
    stats.purged_bytes = zone.purged_bytes as u64;
    stats.meta_bytes = meta::stats().bytes as u64;
    stats.reserve_bytes = (reserve::len() * PAGE) as u64;
    stats.reserve_target_bytes = (reserve::target() * PAGE) as u64;
    (stats.refills, stats.refills_suppressed) = back_off::refills();
}

/// Small blocks.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn add_blocks(stats: &mut Stats) {
    let (mut away, mut cached, mut unposted) = (0, 0, 0);
    for class in Class::all() {
        let census = pool::of(class).census();
        let all = census.slabs * SLAB_BYTES;
        away += census.away * class.size();
        cached += depot::of(class).census().1;
        stats.blocks_bytes += all as u64;
        stats.in_slabs_bytes += all.saturating_sub(census.away * class.size()) as u64;
        stats.held_slab_bytes += (census.waiting * class.size()) as u64;
        stats.slab_refills += census.taken.calls;
        stats.slab_flushes += census.returned.calls;
    }
    stats.held_shared_bytes = group::shared().bytes() as u64;
    [stats.blocks_retired, stats.blocks_loaded, _] = registry::gone();
    for cache in registry::all() {
        // SAFETY: type-stable. The owner may be writing: the figures are read with volatile loads
        // of single words and are allowed to be stale.
        unsafe {
            stats.blocks_loaded += (&raw const (*cache).loaded).read_volatile();
            stats.blocks_retired += (&raw const (*cache).retired).read_volatile();
            unposted += (&raw const (*cache).ledger.balance).read_volatile();
            stats.held_open_bytes += (&raw const (*cache).open_bytes).read_volatile() as u64;
            let shelf = (*cache).shelf.figures();
            cached += shelf.full;
            stats.held_shelf_bytes += shelf.waiting as u64;
            for class in Class::all() {
                let slots = census::in_slots(cache, class);
                cached += slots.loaded * class.size();
                stats.held_filling_bytes += (slots.filling * class.size()) as u64;
            }
        }
    }
    let waiting = stats.held_open_bytes + stats.held_shelf_bytes + stats.held_shared_bytes;
    let elsewhere = cached as u64 + waiting + stats.held_filling_bytes;
    stats.cached_bytes = cached as u64;
    stats.live_bytes = (away as u64).saturating_sub(elsewhere);
    stats.deferred_bytes = backlog::deferred_and(unposted) as u64;
    // The peak is noted of the account, without what ledgers hold back.
    stats.deferred_peak_bytes = stats.deferred_bytes.max(backlog::peak_bytes() as u64);
    stats.budget_bytes = backlog::budget_bytes() as u64;
    stats.reclaimable_bytes = shrinker::count() as u64;
}

/// Large blocks.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn add_large(stats: &mut Stats) {
    let large = large_pages::census();
    let [_, _, mut reused] = registry::gone();
    let (mut waiting, mut ready) = (large.waiting_bytes, 0);
    for cache in registry::all() {
        // SAFETY: type-stable. The owner may be writing: single words, allowed to be stale; what the batch
        // begins with is a descriptor for ever.
        unsafe {
            waiting += (&raw const (*cache).freed).cast::<Freed>().read_volatile().bytes();
            let shelf = (*cache).shelf.figures();
            waiting += shelf.large_waiting;
            ready += shelf.ready;
            reused += (*cache).shelf.held_large().1;
        }
    }
    stats.blocks_bytes += large.bytes as u64;
    stats.cached_bytes += ready as u64;
    stats.held_large_bytes = waiting as u64;
    stats.live_large_bytes = large.bytes.saturating_sub(waiting + ready) as u64;
    stats.large_allocated = large.created + reused;
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn add_periods(stats: &mut Stats) {
    let counters = DOMAIN.counters();
    let quantile = |fraction| DOMAIN.latency(fraction).unwrap_or(0);
    stats.periods_started = counters.started;
    stats.periods_completed = counters.completed;
    stats.periods_expedited = counters.expedited;
    stats.periods_parked = counters.ended_by_parking;
    stats.threads_parked = counters.parked;
    stats.membarriers = counters.membarriers;
    stats.batches_leaked = counters.leaked;
    stats.periods_timed = counters.timed;
    stats.periods_timed_ns = counters.timed_ns;
    stats.period_p50_ns = quantile(0.5);
    stats.period_p99_ns = quantile(0.99);
    let hurries = cause::tallies();
    stats.hurried = hurries.map(|hurry| hurry.asked);
    stats.hurried_periods = hurries.map(|hurry| hurry.ended);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn add_scans(stats: &mut Stats) {
    let tallies = scan_log::tallies();
    stats.scans = tallies.map(|tally| tally.scans);
    stats.scanned_bytes = tallies.map(|tally| tally.bytes);
    let last = scan_log::last().unwrap_or_default();
    [stats.last_scan_ns, stats.last_scan_took_ns, stats.last_scan_reason, _, stats.last_scan_bytes, _] = last;
}
