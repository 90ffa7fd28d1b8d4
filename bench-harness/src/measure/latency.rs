//! Latency as a distribution, with the cost of recording it measured and stated.
//!
//! Times come from the time-stamp counter (x86-64 only, invariant and synchronised on anything this runs on),
//! calibrated against CLOCK_MONOTONIC. A histogram is allocated with its bounds before anything is
//! measured: recording never allocates.

use std::arch::x86_64::{__rdtscp, _mm_lfence, _rdtsc};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Ticks of the counter.
pub type Ticks = u64;

/// Before what is timed.
#[inline(always)]
pub fn before() -> Ticks {
    // SAFETY: every x86-64 processor has them.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

/// After what was timed: waits until it has executed.
#[inline(always)]
pub fn after() -> Ticks {
    let mut processor = 0;
    // SAFETY: as above.
    unsafe { __rdtscp(&raw mut processor) }
}

/// Nanoseconds a tick, found by looking at both clocks for a while.
pub fn nanoseconds_per_tick(look: Duration) -> f64 {
    let (began, first) = (Instant::now(), before());
    while began.elapsed() < look {
        std::hint::spin_loop();
    }
    let (elapsed, last) = (began.elapsed(), after());
    elapsed.as_nanos() as f64 / last.saturating_sub(first).max(1) as f64
}

/// A histogram of ticks.
pub struct Recorder(Histogram<u64>);

impl Recorder {
    /// One tick to 2^42 of them (a quarter of an hour), three digits. Allocates here and never again.
    pub fn new() -> Recorder {
        let mut histogram = Histogram::new_with_bounds(1, 1 << 42, 2).expect("the bounds are constants");
        // Touch all of it, so that no page fault falls into what is measured.
        for power in 0..42 {
            histogram.saturating_record(1 << power);
        }
        histogram.reset();
        Recorder(histogram)
    }

    #[inline(always)]
    pub fn record(&mut self, ticks: Ticks) {
        self.0.saturating_record(ticks);
    }

    pub fn add(&mut self, other: &Recorder) {
        self.0 += &other.0;
    }

    /// The distribution in nanoseconds.
    pub fn summary(&self, nanoseconds_per_tick: f64) -> Latency {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 * nanoseconds_per_tick;
        Latency {
            count: self.0.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: self.0.max() as f64 * nanoseconds_per_tick,
        }
    }
}

/// A distribution, nanoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
    pub max: f64,
}

/// What recording costs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Nanoseconds that a recorded time contains for nothing at all, median.
    pub floor_ns: f64,
    /// Nanoseconds that recording adds to each operation.
    pub each_ns: f64,
}

/// Times nothing, many times.
pub fn cost(nanoseconds_per_tick: f64) -> Cost {
    const TIMES: u32 = 100_000;
    let mut recorder = Recorder::new();
    let began = Instant::now();
    for _ in 0..TIMES {
        let from = before();
        recorder.record(after().saturating_sub(from));
    }
    let each_ns = began.elapsed().as_nanos() as f64 / f64::from(TIMES);
    Cost { floor_ns: recorder.summary(nanoseconds_per_tick).p50, each_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_has_its_length() {
        let scale = nanoseconds_per_tick(Duration::from_millis(20));
        let from = before();
        std::thread::sleep(Duration::from_millis(20));
        let nanoseconds = (after() - from) as f64 * scale;
        assert!((19e6..500e6).contains(&nanoseconds), "{nanoseconds}");
    }

    #[test]
    fn quantiles_are_ordered_and_merge() {
        let (mut one, mut other) = (Recorder::new(), Recorder::new());
        (1..=9000).for_each(|ticks| one.record(ticks));
        (1..=1000).for_each(|_| other.record(1_000_000));
        one.add(&other);
        let seen = one.summary(1.0);
        assert_eq!(seen.count, 10_000);
        assert!((4900.0..5150.0).contains(&seen.p50), "{seen:?}");
        assert!(seen.p50 < seen.p99 && seen.p99 <= seen.p999 && seen.p999 <= seen.max, "{seen:?}");
        assert!((990_000.0..1_020_000.0).contains(&seen.max), "{seen:?}");
    }

    #[test]
    fn recording_costs_something() {
        let cost = cost(nanoseconds_per_tick(Duration::from_millis(5)));
        assert!(cost.floor_ns > 0.0 && cost.each_ns >= cost.floor_ns * 0.5, "{cost:?}");
    }
}
