//! The list of families of figures, for every form.

use crate::cache::ladder::STEP_NAMES;
use crate::class::cause::CAUSES;
use crate::class::page_kinds::{self, PageStats};
use crate::class::size_class::Class;
use crate::constants::AGES_MS;
use crate::os::limits;
use crate::release::census::{self, Ages, ClassStats};
use crate::release::scan_log::REASON_NAMES;
use crate::release::stats::{self, Stats};

/// What a figure does as time goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Goes up.
    Counter,
}

/// One or several values of one meaning.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

impl Family {
    pub(super) const fn gauge(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: Kind::Gauge, help }
    }

    pub(super) const fn counter(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: Kind::Counter, help }
    }
}

/// A way to write a list of families.
pub(super) trait Form {
    /// A family of one value.
    fn one(&mut self, family: &Family, value: u64);

    /// A family with a value for each of `names`, which are values of `label`.
    fn labelled(&mut self, family: &Family, label: &str, names: &[&str], values: &[u64]);
}

/// What hurried a grace period, as it is called: see `class::cause`.
const CAUSE_NAMES: [&str; CAUSES] = ["queue", "age", "budget", "pressure"];

/// On whose behalf a period ended: those, those that nobody hurried, and those that the program asked for.
const FOR_NAMES: [&str; CAUSES + 2] = ["demand", "queue", "age", "budget", "pressure", "api"];

const AGE_NAMES: [&str; AGES_MS.len() + 2] = ["10ms", "100ms", "1s", "10s", "more", "unknown"];

const PAGE_NAMES: [&str; 9] =
    ["slab", "large_live", "large_freed", "magazine", "page_cache", "reserve", "meta", "free", "pool"];

/// Writes every family that is not one of classes.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub(super) fn for_each_family(form: &mut dyn Form) {
    let mut stats = Stats::default();
    stats::collect_into(&mut stats);
    of_bytes(&stats, form);
    of_periods(&stats, form);
    of_work(&stats, form);
    of_pages(form);
    of_ages(form);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn of_bytes(s: &Stats, form: &mut dyn Form) {
    let mut gauge = |name, help, value| form.one(&Family::gauge(name, help), value);
    gauge("window_bytes", "Address space of the heap that is mapped.", s.window_bytes);
    gauge("mapped_bytes", "Handed out by the zone: slabs, large blocks, metadata.", s.mapped_bytes);
    gauge("blocks_bytes", "Slabs and large blocks: live, cached, waiting and in slabs.", s.blocks_bytes);
    gauge("live_bytes", "Blocks with the program.", s.live_bytes);
    gauge("live_large_bytes", "Large blocks among them.", s.live_large_bytes);
    gauge("cached_bytes", "Blocks outside slabs that may be handed out at once.", s.cached_bytes);
    gauge("waiting_bytes", "Freed blocks that may not be handed out yet.", s.waiting_bytes);
    gauge("in_slabs_bytes", "In slabs: never given out, back, or of no block.", s.in_slabs_bytes);
    gauge("dirty_bytes", "Free pages that still hold memory.", s.dirty_bytes);
    gauge("meta_bytes", "Descriptors and other metadata.", s.meta_bytes);
    gauge("deferred_bytes", "Freed blocks behind a cookie.", s.deferred_bytes);
    gauge("deferred_peak_bytes", "The most that were, as far as was looked.", s.deferred_peak_bytes);
    gauge("budget_bytes", "Deferred bytes past which periods are expedited.", s.budget_bytes);
    gauge("reclaimable_bytes", "What the shrinker could give back.", s.reclaimable_bytes);
    gauge("reserve_bytes", "Pages kept for free.", s.reserve_bytes);
    gauge("reserve_target_bytes", "Pages that should be.", s.reserve_target_bytes);
    gauge("peak_rss_bytes", "Most memory the process had resident.", limits::peak_rss() as u64);
    const HELD: [&str; 6] = ["filling", "open", "shelf", "shared", "slab", "large"];
    let held = [
        s.held_filling_bytes,
        s.held_open_bytes,
        s.held_shelf_bytes,
        s.held_shared_bytes,
        s.held_slab_bytes,
        s.held_large_bytes,
    ];
    let family = Family::gauge("held_bytes", "Waiting bytes by what holds them.");
    form.labelled(&family, "by", &HELD, &held);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn of_periods(s: &Stats, form: &mut dyn Form) {
    let mut counter = |name, help, value| form.one(&Family::counter(name, help), value);
    counter("periods_started", "Grace periods started.", s.periods_started);
    counter("periods_completed", "Grace periods that have ended.", s.periods_completed);
    counter("periods_expedited", "Of those, ended because somebody hurried.", s.periods_expedited);
    counter("threads_parked", "Times a thread was parked.", s.threads_parked);
    counter("membarriers", "membarrier system calls.", s.membarriers);
    counter("batches_leaked", "Batches given up rather than reused too early.", s.batches_leaked);
    counter("periods_timed", "Periods whose latency was taken.", s.periods_timed);
    counter("periods_timed_ns", "Latency of those together.", s.periods_timed_ns);
    let mut gauge = |name, help, value| form.one(&Family::gauge(name, help), value);
    gauge("period_p50_ns", "Median latency of a grace period.", s.period_p50_ns);
    gauge("period_p99_ns", "Its 99th percentile.", s.period_p99_ns);
    // Read one after the other: less than none is none.
    let by_readers = s.periods_completed.saturating_sub(s.periods_expedited);
    let how = [by_readers, s.periods_parked, s.periods_expedited.saturating_sub(s.periods_parked)];
    let family = Family::counter("periods_ended", "Periods by how they ended.");
    form.labelled(&family, "how", &["readers", "parking", "asking"], &how);
    let [queue, age, budget, pressure] = s.hurried_periods;
    let api = s.periods_expedited.saturating_sub(queue + age + budget + pressure);
    let causes = [by_readers, queue, age, budget, pressure, api];
    let family = Family::counter("periods_ended_for", "Periods by on whose behalf they ended.");
    form.labelled(&family, "cause", &FOR_NAMES, &causes);
    let family = Family::counter("hurried", "Times somebody wanted a period to end at once.");
    form.labelled(&family, "cause", &CAUSE_NAMES, &s.hurried);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn of_work(s: &Stats, form: &mut dyn Form) {
    let mut counter = |name, help, value| form.one(&Family::counter(name, help), value);
    counter("purged_bytes", "Given back to the system.", s.purged_bytes);
    counter("blocks_loaded", "Blocks that a turn has loaded.", s.blocks_loaded);
    counter("blocks_retired", "Blocks that a turn has retired.", s.blocks_retired);
    counter("large_allocated", "Large blocks allocated.", s.large_allocated);
    counter("bad_calls", "Bad calls reported.", s.bad_calls);
    counter("stalls", "Stalled readers reported.", s.stalls);
    counter("refills", "Fetches of a page cache, or of a magazine from slabs.", s.refills);
    counter("refills_suppressed", "Of those, made small by the back-off.", s.refills_suppressed);
    counter("slab_refills", "Magazines filled from slabs.", s.slab_refills);
    counter("slab_flushes", "Magazines flushed to slabs.", s.slab_flushes);
    counter("blocks_checked", "Freed blocks whose fingerprints were compared.", s.blocks_checked);
    counter("blocks_changed", "Of those, written to while they waited.", s.blocks_changed);
    let mut gauge = |name, help, value| form.one(&Family::gauge(name, help), value);
    gauge("threads", "Threads with a cache.", s.threads);
    gauge("threads_peak", "The most there were.", s.threads_peak);
    gauge("caches_vacant", "Caches without a thread that wait for one.", s.caches_vacant);
    gauge("trapped_bytes", "Trapped blocks that the program has.", s.trapped_bytes);
    gauge("pool_bytes", "Slabs of typed pools.", s.pool_bytes);
    gauge("pool_live_bytes", "Their objects that the program has.", s.pool_live_bytes);
    gauge("pool_waiting_bytes", "Those that wait.", s.pool_waiting_bytes);
    gauge("concurrent", "1 once the process has or had several threads.", s.concurrent);
    gauge("last_scan_ns", "When the last scan began, on the monotonic clock; 0: none.", s.last_scan_ns);
    gauge("last_scan_took_ns", "How long it took.", s.last_scan_took_ns);
    gauge("last_scan_reason", "Its reason, as a number.", s.last_scan_reason);
    gauge("last_scan_bytes", "What it gave.", s.last_scan_bytes);
    gauge("call_blocks_most", "Most blocks that one call gave back for others.", s.call_blocks_most);
    gauge("call_purged_most", "Most bytes that one call purged for others.", s.call_purged_most);
    gauge("call_purges_most", "Most stretches that it looked for.", s.call_purges_most);
    let scans = Family::counter("scans", "Scans by reason.");
    form.labelled(&scans, "reason", &REASON_NAMES, &s.scans);
    let bytes = Family::counter("scanned_bytes", "Bytes that scans gave back, by reason.");
    form.labelled(&bytes, "reason", &REASON_NAMES, &s.scanned_bytes);
    let steps = Family::counter("free_steps", "What free came to without an empty magazine at hand.");
    form.labelled(&steps, "step", &STEP_NAMES, &s.free_steps);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn of_pages(form: &mut dyn Form) {
    let PageStats {
        slab,
        large_live,
        large_freed,
        magazine,
        page_cache,
        reserve,
        meta,
        free,
        mapped,
        pool,
        ..
    } = page_kinds::count();
    let pages = [slab, large_live, large_freed, magazine, page_cache, reserve, meta, free, pool];
    let family = Family::gauge("pages", "Pages of 4 KiB by what they are.");
    form.labelled(&family, "kind", &PAGE_NAMES, &pages);
    form.one(&Family::gauge("pages_mapped", "All of them, as the zone knows."), mapped);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn of_ages(form: &mut dyn Form) {
    let Ages { bytes: [ms10, ms100, s1, s10, more], unknown, oldest_ms } = census::ages();
    let family = Family::gauge("deferred_age_bytes", "Deferred bytes by age, up to what is named.");
    form.labelled(&family, "up_to", &AGE_NAMES, &[ms10, ms100, s1, s10, more, unknown]);
    let oldest = oldest_ms.saturating_mul(1_000_000);
    form.one(&Family::gauge("deferred_oldest_ns", "Age of the oldest batch that was looked at."), oldest);
}

/// Calls `visit` with the figures of each class that has slabs.
pub(super) fn for_each_class(mut visit: impl FnMut(&ClassStats)) {
    for class in Class::all() {
        let stats = census::of_class(class);
        if stats.slabs != 0 {
            visit(&stats);
        }
    }
}

/// Where blocks of a class are: how it is called, and how many.
pub(super) fn places(stats: &ClassStats) -> [(&'static str, u64); 4] {
    [
        ("live", stats.live),
        ("cached", stats.cached),
        ("deferred", stats.deferred),
        ("in_slabs", stats.in_slabs),
    ]
}

/// What has been done with blocks of a class: how it is called, and how often.
pub(super) fn work(stats: &ClassStats) -> [(&'static str, u64); 4] {
    [
        ("taken", stats.taken),
        ("refills", stats.refills),
        ("returned", stats.returned),
        ("flushes", stats.flushes),
    ]
}
