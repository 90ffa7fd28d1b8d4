//! One process, one scheme: threads look up, insert and remove random keys for a given time.

use super::list::Table;
use crate::measure::distance::{Around, round_trip_ns};
use crate::reclaim::sides::Placed;
use crate::reclaim::{Local, Scheme};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One operation in so many is timed: reading the clock twice costs as much as an operation.
const TIMED_EVERY: u64 = 16;

/// What is run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Parameters {
    /// Threads.
    pub threads: usize,
    /// Measured time in milliseconds.
    pub millis: u64,
    /// Keys to choose from; half of them are in the table.
    pub keys: u64,
    /// Keys a bucket: the table has keys / this many lists.
    pub load: u64,
    /// Percentage of operations that insert or remove, half and half.
    pub updates: u64,
    /// Seed of the keys.
    pub seed: u64,
}

/// What one process measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// What was run.
    pub scheme: String,
    /// With these.
    pub parameters: Parameters,
    /// Millions of operations a second, all threads.
    pub mops: f64,
    /// Millions of operations a second of processor time, that of the scheme's own threads included.
    pub mops_cpu: f64,
    /// Latency of an operation in ns.
    pub p50_ns: u64,
    /// At 99.9 %.
    pub p999_ns: u64,
    /// The longest seen.
    pub max_ns: u64,
    /// What two readings of the clock cost, in ns: the part of every latency that is the harness's.
    pub clock_ns: u64,
    /// RSS with the table filled, before the run, in KiB.
    pub rss_start_kib: u64,
    /// Peak RSS, in KiB.
    pub rss_peak_kib: u64,
    /// From the end of the run until everything is free, in ns.
    pub drain_ns: u64,
    /// How far apart the processors were, just before and just after.
    pub around: Around,
}

impl Placed for Measured {
    fn around(&self) -> Around {
        self.around
    }
}

/// A generator of keys: fast, and good in the upper bits.
pub struct Dice(u64);

impl Dice {
    /// Of the thread of that number.
    pub fn new(seed: u64, number: u64) -> Dice {
        Dice(seed.wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    #[inline(always)]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Runs scheme `S`.
///
/// # Errors
/// The scheme cannot run here, or not with readers; or the table came out wrong.
pub fn run<S: Scheme>(parameters: &Parameters) -> Result<Measured, String> {
    if !S::SAFE {
        return Err(format!("{} is not safe with readers", S::NAME));
    }
    let scheme = S::start()?;
    let table = filled::<S, false>(&scheme, parameters);
    let rss_start_kib = crate::workload::status_kib("VmRSS:");
    let stop = AtomicBool::new(false);
    let start = Barrier::new(parameters.threads + 1);
    let (threads, stopped, cpu, around) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parameters.threads)
            .map(|number| {
                let (scheme, table, stop, start) = (&scheme, &table, &stop, &start);
                let dice = Dice::new(parameters.seed, number as u64 + 1);
                scope.spawn(move || {
                    let mut local = scheme.join();
                    let mut latencies =
                        Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 2).expect("bounds");
                    start.wait();
                    let began = (Instant::now(), cpu_seconds());
                    let operations = operate(table, &mut local, parameters, dice, stop, &mut latencies);
                    (operations, latencies, began)
                })
            })
            .collect();
        let before = round_trip_ns();
        scheme.step_aside();
        start.wait();
        std::thread::sleep(Duration::from_millis(parameters.millis));
        stop.store(true, Relaxed);
        let stopped = Instant::now();
        let threads: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        let cpu = cpu_seconds();
        let around = Around(before, round_trip_ns());
        scheme.come_back();
        (threads, stopped, cpu, around)
    });
    // The first thread's start, which says it itself: with more threads than processors, whoever sleeps in
    // the meantime gets one long after they have begun.
    let began = threads.iter().map(|thread| thread.2.0).min().unwrap_or(stopped);
    let busy = threads.iter().map(|thread| thread.2.1).fold(f64::INFINITY, f64::min);
    let seconds = (stopped - began).as_secs_f64();
    let ended = Instant::now();
    scheme.drain();
    let drain_ns = ended.elapsed().as_nanos() as u64;
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 2).expect("bounds");
    let mut operations = 0;
    for (count, histogram, _) in threads {
        operations += count;
        latencies.add(histogram).expect("same bounds");
    }
    Ok(Measured {
        scheme: S::NAME.to_owned(),
        parameters: *parameters,
        mops: operations as f64 / seconds / 1e6,
        mops_cpu: operations as f64 / (cpu - busy) / 1e6,
        p50_ns: latencies.value_at_quantile(0.5),
        p999_ns: latencies.value_at_quantile(0.999),
        max_ns: latencies.max(),
        clock_ns: clock_ns(),
        rss_start_kib,
        rss_peak_kib: crate::workload::status_kib("VmHWM:"),
        drain_ns,
        around,
    })
}

/// A table with every second key in it.
fn filled<S: Scheme, const CHECKED: bool>(scheme: &S, parameters: &Parameters) -> Table<CHECKED> {
    let table = Table::new((parameters.keys / parameters.load.max(1)) as usize, S::HEADER);
    let mut local = scheme.join();
    for key in (0..parameters.keys).step_by(2) {
        table.insert(&mut local, key, key);
    }
    table
}

fn operate<L: Local>(
    table: &Table<false>,
    local: &mut L,
    parameters: &Parameters,
    mut dice: Dice,
    stop: &AtomicBool,
    latencies: &mut Histogram<u64>,
) -> u64 {
    let mut count = 0;
    // In 256ths, so that one draw gives the key and the kind.
    let writes = parameters.updates * 256 / 100;
    while !stop.load(Relaxed) {
        for _ in 0..TIMED_EVERY - 1 {
            one(table, local, parameters.keys, writes, dice.next());
        }
        let began = rcu::now_ns();
        one(table, local, parameters.keys, writes, dice.next());
        latencies.saturating_record(rcu::now_ns() - began);
        count += TIMED_EVERY;
    }
    count
}

#[inline(always)]
fn one<L: Local>(table: &Table<false>, local: &mut L, keys: u64, writes: u64, roll: u64) {
    let key = ((roll >> 32) * keys) >> 32;
    let kind = roll & 0xff;
    if kind >= writes {
        core::hint::black_box(table.get(local, key));
    } else if kind & 1 == 0 {
        table.insert(local, key, key);
    } else {
        table.remove(local, key);
    }
}

/// Processor time of this process.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What two readings of the clock cost, median.
fn clock_ns() -> u64 {
    let mut costs: Vec<u64> = (0..1001)
        .map(|_| {
            let began = rcu::now_ns();
            rcu::now_ns() - began
        })
        .collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}
