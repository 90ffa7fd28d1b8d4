//! What the engine counts, and the latency of one period in [`TIMED`] in a histogram of fixed size.
//!
//! How many periods were started and ended is what the sequence says: nobody counts them. Two looks at the
//! clock and a place in the histogram cost a short period a third of its time, hence not each.
//!
//! Plain relaxed counters: they order nothing and are exact only when nothing runs. They are
//! `core`'s atomics under loom too, which keeps them out of the state space that loom explores.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets to a power of two. 4 keep the error of a percentile under 19 %.
const STEPS: usize = 4;
/// Powers of two covered: 1 ns to 2^40 ns (18 minutes); longer periods fall into the last bucket.
const POWERS: usize = 40;
/// One period in so many is timed, the first one among them.
pub(crate) const TIMED: u64 = 8;
/// The number of buckets of a domain's histogram of latencies.
pub const BUCKETS: usize = STEPS * POWERS;

/// A snapshot of a domain's counters. Fields are read one after the other, not at one instant.
///
/// A period ends because its readers came by, because those that were missing were parked, or because they
/// were asked: the first are `completed - expedited`, the last `expedited - ended_by_parking`.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Periods started.
    pub started: u64,
    /// Periods ended.
    pub completed: u64,
    /// Of those, periods that an expedite ended.
    pub expedited: u64,
    /// Of those, periods that ended because readers were parked, none asked.
    pub ended_by_parking: u64,
    /// Readers parked, each time counted.
    pub parked: u64,
    /// membarrier system calls to end periods.
    pub membarriers: u64,
    /// Batches that were to be opened before their cookie had elapsed, and were leaked instead.
    pub leaked: u64,
    /// Periods that were timed: one in eight.
    pub timed: u64,
    /// From the start of those to their end, ns in all.
    pub timed_ns: u64,
}

/// The bucket of a latency: the power of two below it and the two bits behind its leading one.
fn bucket_of(ns: u64) -> usize {
    let ns = ns.max(1);
    let power = ns.ilog2() as usize;
    let step = if power >= 2 { (ns >> (power - 2)) as usize & (STEPS - 1) } else { 0 };
    (power * STEPS + step).min(BUCKETS - 1)
}

/// The largest latency that falls into `bucket`.
fn upper_bound(bucket: usize) -> u64 {
    let (power, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    if power < 2 { (2 << power) - 1 } else { ((STEPS as u64 + step + 1) << (power - 2)) - 1 }
}

pub(crate) struct Recorder {
    expedited: AtomicU64,
    ended_by_parking: AtomicU64,
    parked: AtomicU64,
    membarriers: AtomicU64,
    leaked: AtomicU64,
    timed_ns: AtomicU64,
    /// A logarithmic histogram of nanoseconds.
    latencies: [AtomicU64; BUCKETS],
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Recorder {
    pub(crate) const fn new() -> Recorder {
        Recorder {
            expedited: AtomicU64::new(0),
            ended_by_parking: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            membarriers: AtomicU64::new(0),
            leaked: AtomicU64::new(0),
            timed_ns: AtomicU64::new(0),
            latencies: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    /// A period that was timed ended. `started_at` may be that of another thread's vain attempt to begin the
    /// same period, a little later; one latency in millions is then too short.
    pub(crate) fn timed(&self, started_at: u64, now: u64) {
        let latency = now.saturating_sub(started_at);
        count(&self.latencies[bucket_of(latency)]);
        self.timed_ns.fetch_add(latency, Relaxed);
    }

    pub(crate) fn expedited(&self) {
        count(&self.expedited);
    }

    pub(crate) fn ended_by_parking(&self) {
        count(&self.ended_by_parking);
    }

    pub(crate) fn parked(&self, readers: u32) {
        if readers != 0 {
            self.parked.fetch_add(readers.into(), Relaxed);
        }
    }

    pub(crate) fn membarrier(&self) {
        count(&self.membarriers);
    }

    pub(crate) fn leaked(&self) {
        count(&self.leaked);
    }

    /// The latency in ns below or at which `fraction` (0 to 1) of the timed periods lie, rounded up to the
    /// end of its bucket; `None` if there was none.
    pub(crate) fn quantile(&self, fraction: f64) -> Option<u64> {
        let total = self.timed_periods();
        if total == 0 {
            return None;
        }
        let rank = ((total as f64 * fraction) as u64).clamp(1, total);
        let mut seen = 0;
        (0..BUCKETS)
            .find(|&bucket| {
                seen += self.latencies[bucket].load(Relaxed);
                seen >= rank
            })
            .map(upper_bound)
    }

    /// Bucket number `bucket`: the largest latency that falls into it, and how many did.
    pub(crate) fn bucket(&self, bucket: usize) -> Option<(u64, u64)> {
        self.latencies.get(bucket).map(|count| (upper_bound(bucket), count.load(Relaxed)))
    }

    fn timed_periods(&self) -> u64 {
        self.latencies.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// What has been counted, in a domain whose sequence is `sequence`.
    pub(crate) fn read(&self, sequence: u64) -> Counters {
        Counters {
            started: sequence.div_ceil(2),
            completed: sequence / 2,
            expedited: self.expedited.load(Relaxed),
            ended_by_parking: self.ended_by_parking.load(Relaxed),
            parked: self.parked.load(Relaxed),
            membarriers: self.membarriers.load(Relaxed),
            leaked: self.leaked.load(Relaxed),
            timed: self.timed_periods(),
            timed_ns: self.timed_ns.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_in_its_bucket() {
        for ns in (0..5000).chain([1 << 20, (1 << 30) + 12345, (1 << 39) + 7]) {
            let bucket = bucket_of(ns);
            assert!(ns <= upper_bound(bucket), "{ns}");
            assert!(bucket == 0 || ns.max(1) > upper_bound(bucket - 1) || bucket < 2 * STEPS, "{ns}");
        }
    }

    #[test]
    fn bounds_are_within_a_quarter() {
        for ns in [100_u64, 1_000, 12_345, 999_999, 1 << 33] {
            let bound = upper_bound(bucket_of(ns));
            assert!(bound as f64 <= ns as f64 * 1.25, "{ns} -> {bound}");
        }
    }

    #[test]
    fn longer_than_the_last_bucket_is_still_counted() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let recorder = Recorder::new();
        for _ in 0..90 {
            recorder.timed(0, 1000);
        }
        for _ in 0..10 {
            recorder.timed(0, 1_000_000);
        }
        let counters = recorder.read(0);
        assert_eq!((counters.timed, counters.timed_ns), (100, 90 * 1000 + 10 * 1_000_000));
        assert!((1000..1250).contains(&recorder.quantile(0.5).unwrap()));
        assert!((1000..1250).contains(&recorder.quantile(0.9).unwrap()));
        assert!((1_000_000..1_250_000).contains(&recorder.quantile(0.99).unwrap()));
        let buckets: Vec<_> = (0..).map_while(|bucket| recorder.bucket(bucket)).collect();
        assert_eq!(buckets.len(), BUCKETS);
        assert!(buckets.iter().filter(|(_, count)| *count != 0).map(|(_, count)| *count).eq([90, 10]));
    }

    #[test]
    fn no_quantile_of_nothing() {
        assert_eq!(Recorder::new().quantile(0.5), None);
    }
}
