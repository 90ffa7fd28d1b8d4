//! The kernel's `kfree_rcu_test` inside one process: the measured half of `rcuscale`.
//!
//! Each thread allocates `blocks` blocks and retires each at once, `loops` times over. As in the kernel the
//! time runs from the first thread's first block to the last thread's last and excludes draining. Two passes:
//! the *timed* one measures time, drain and peak RSS and does nothing else; the *observed* one does the same
//! work again with blocks that are counted when they are disposed of, and every 64th with a time stamp. What
//! observing costs is the ratio of the two times, which is reported.

use crate::measure::distance::{Around, round_trip_ns};
use crate::reclaim::blocks::{self, Free, Observe};
use crate::reclaim::ours::{Api, Stats};
use crate::reclaim::sides::Placed;
use crate::reclaim::{Local, Scheme};
use core::ffi::c_void;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Blocks between two with a time stamp.
const STAMP_EVERY: u64 = 64;

/// The kernel's module parameters.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, clap::Args)]
pub struct Parameters {
    /// Freeing threads (kfree_nthreads; the kernel's default is the number of processors).
    #[arg(long, default_value_t = crate::rcuscale::processors())]
    pub threads: usize,
    /// Blocks a loop (kfree_alloc_num).
    #[arg(long, default_value_t = 8000)]
    pub blocks: u64,
    /// Loops (kfree_loops).
    #[arg(long, default_value_t = 10)]
    pub loops: u64,
    /// Bytes of a block: a pointer and an rcu_head, 24, is the least.
    #[arg(long, default_value_t = 24)]
    pub size: usize,
    /// Times that size (kfree_mult).
    #[arg(long, default_value_t = 1)]
    pub mult: usize,
}

impl Parameters {
    /// Bytes of a block.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.size * self.mult).max(24)
    }

    /// Blocks of all threads and loops.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.threads as u64 * self.blocks * self.loops
    }
}

/// From when a block is freed until it may be reused, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Ages {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// What one process measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// What was run.
    pub scheme: String,
    /// With these.
    pub parameters: Parameters,
    /// From the first block to the last, in ns.
    pub total_ns: u64,
    /// Millions of blocks a second.
    pub mblocks_s: f64,
    /// Grace periods meanwhile, where the scheme says.
    pub batches: Option<u64>,
    /// From the end of the timed pass until everything is free, in ns.
    pub drain_ns: u64,
    /// RSS before the threads start, in KiB.
    pub rss_start_kib: u64,
    /// Peak RSS (VmHWM) behind the timed pass, in KiB.
    pub rss_peak_kib: u64,
    /// Most bytes retired and not yet disposed of, in the observed pass (ours: the heap's own counter).
    pub deferred_peak_bytes: u64,
    /// How long blocks wait, in the observed pass.
    pub ages: Ages,
    /// Latency of grace periods by the heap's own counters, p50 and p99 in ns (ours only).
    pub period_ns: Option<(u64, u64)>,
    /// Time of the observed pass over that of the timed one.
    pub observed_ratio: f64,
    /// How far apart the processors were around the timed pass.
    pub around: Around,
}

impl Placed for Measured {
    fn around(&self) -> Around {
        self.around
    }
}

impl Measured {
    /// The line that the kernel prints.
    #[must_use]
    pub fn kernel_line(&self) -> String {
        format!(
            "Total time taken by all kfree'ers: {} ns, loops: {}, batches: {}, memory footprint: {}MB",
            self.total_ns,
            self.parameters.loops,
            self.batches.map_or("n/a".to_owned(), |batches| batches.to_string()),
            (self.rss_peak_kib - self.rss_start_kib) / 1024
        )
    }
}

/// Runs both passes of scheme `S`.
///
/// # Errors
/// The scheme cannot run here.
pub fn run<S: Scheme>(parameters: &Parameters) -> Result<Measured, String> {
    let scheme = S::start()?;
    let api = if S::NAME == "ours" { Some(Api::find()?) } else { None };
    let rss_start_kib = crate::workload::status_kib("VmRSS:");
    let before = scheme.periods();
    let trip_before = round_trip_ns();
    let total_ns = pass(&scheme, parameters, timed_loop::<S>);
    let around = Around(trip_before, round_trip_ns());
    let batches = scheme.periods().zip(before).map(|(after, before)| after - before);
    let drain_began = Instant::now();
    scheme.drain();
    let drain_ns = drain_began.elapsed().as_nanos() as u64;
    let rss_peak_kib = crate::workload::status_kib("VmHWM:");
    let stats = api.map(|api| api.stats());

    let peak = AtomicU64::new(0);
    let observed_ns = match api {
        Some(_) => {
            let began = rcu::now_ns();
            pass(&scheme, parameters, |local: &mut S::Local<'_>, parameters| {
                reuse_loop::<S>(began, local, parameters);
            })
        }
        None => pass(&scheme, parameters, |local: &mut S::Local<'_>, parameters| {
            peak.fetch_max(observed_loop::<S>(local, parameters), Relaxed);
        }),
    };
    scheme.drain();
    Ok(Measured {
        scheme: S::NAME.to_owned(),
        parameters: *parameters,
        total_ns,
        mblocks_s: parameters.total() as f64 * 1e3 / total_ns as f64,
        batches,
        drain_ns,
        rss_start_kib,
        rss_peak_kib,
        deferred_peak_bytes: stats
            .map_or(peak.into_inner() * parameters.bytes() as u64, |stats: Stats| stats.deferred_peak_bytes),
        ages: summarise(&blocks::take_ages()),
        period_ns: stats.map(|stats| (stats.period_p50_ns, stats.period_p99_ns)),
        observed_ratio: observed_ns as f64 / total_ns as f64,
        around,
    })
}

/// Runs `body` in every thread; the time from the first's start to the last's end, in ns.
fn pass<S: Scheme>(
    scheme: &S,
    parameters: &Parameters,
    body: impl Fn(&mut S::Local<'_>, &Parameters) + Sync,
) -> u64 {
    let start = Barrier::new(parameters.threads);
    let times: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parameters.threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut local = scheme.join();
                    start.wait();
                    let began = Instant::now();
                    body(&mut local, parameters);
                    (began, Instant::now())
                })
            })
            .collect();
        scheme.step_aside();
        let times = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        scheme.come_back();
        times
    });
    let began = times.iter().map(|times| times.0).min().expect("at least one thread");
    let ended = times.iter().map(|times| times.1).max().expect("at least one thread");
    ended.duration_since(began).as_nanos() as u64
}

/// The kernel's loop, and nothing more.
fn timed_loop<S: Scheme>(local: &mut S::Local<'_>, parameters: &Parameters) {
    let bytes = parameters.bytes();
    for _ in 0..parameters.loops {
        for _ in 0..parameters.blocks {
            let block = touched(bytes, 0);
            // SAFETY: nobody else has seen the block, and 16 bytes at 8 are the scheme's.
            unsafe { local.retire_outside::<Free<8>>(block) };
        }
    }
}

/// A block whose first word is `stamp`: the store that any use of a block begins with.
#[inline(always)]
fn touched(bytes: usize, stamp: u64) -> *mut c_void {
    let block = blocks::allocate(bytes);
    // SAFETY: at least 24 bytes, ours.
    unsafe { block.cast::<u64>().write_volatile(stamp) };
    block
}

fn observed_loop<S: Scheme>(local: &mut S::Local<'_>, parameters: &Parameters) -> u64 {
    let bytes = parameters.bytes();
    let mut peak = 0;
    for count in 0..parameters.loops * parameters.blocks {
        let stamp = if count.is_multiple_of(STAMP_EVERY) { rcu::now_ns() } else { 0 };
        let block = touched(bytes, stamp);
        peak = peak.max(blocks::note_retired());
        // SAFETY: as above, and `Observe` leaves the same room.
        unsafe { local.retire_outside::<Observe>(block) };
    }
    peak
}

/// Ours frees nothing one by one, so nothing can be observed when a block becomes reusable; but the heap does
/// not write to blocks, so a stamp is still there when somebody gets the block again. That is later than it
/// might have been: the age of a block here is never flattered.
fn reuse_loop<S: Scheme>(began: u64, local: &mut S::Local<'_>, parameters: &Parameters) {
    let bytes = parameters.bytes();
    for count in 0..parameters.loops * parameters.blocks {
        let block = blocks::allocate(bytes);
        // SAFETY: at least 24 bytes, ours; whatever they hold, a word can be read from them.
        let stamp = unsafe { block.cast::<u64>().read_volatile() };
        if stamp >= began {
            let now = rcu::now_ns();
            // What is later than now was never a stamp.
            if stamp <= now {
                blocks::note_age(now - stamp);
            }
        }
        let stamp = if count.is_multiple_of(STAMP_EVERY) { rcu::now_ns() } else { 0 };
        // SAFETY: as above, and as in `timed_loop`.
        unsafe {
            block.cast::<u64>().write_volatile(stamp);
            local.retire_outside::<Free<8>>(block);
        }
    }
}

fn summarise(ages: &[u64]) -> Ages {
    let mut histogram =
        Histogram::<u64>::new_with_bounds(1, 100_000_000_000, 2).expect("bounds are in order");
    for &age in ages {
        histogram.saturating_record(age);
    }
    Ages {
        count: histogram.len(),
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}
