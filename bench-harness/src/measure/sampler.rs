//! RSS over time, from /proc, while a child runs. Sampling costs the sampler's processor time, not the
//! child's; on a machine with one processor it would, so it is only done in rounds that are not timed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use procfs::process::Process;
use serde::{Deserialize, Serialize};

/// Resident KiB at a time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub seconds: f64,
    pub kib: u64,
}

/// Samples the process until told to stop or until it is gone.
pub fn watch<'scope>(
    scope: &'scope Scope<'scope, '_>,
    pid: i32,
    every: Duration,
    stop: &'scope AtomicBool,
) -> ScopedJoinHandle<'scope, Vec<Sample>> {
    scope.spawn(move || {
        let began = Instant::now();
        let mut samples = Vec::new();
        // Relaxed: it only ends the loop; the samples are handed over by the join.
        while !stop.load(Ordering::Relaxed) {
            let Some(kib) = resident_kib(pid) else { break };
            samples.push(Sample { seconds: began.elapsed().as_secs_f64(), kib });
            std::thread::sleep(every);
        }
        samples
    })
}

fn resident_kib(pid: i32) -> Option<u64> {
    let pages = Process::new(pid).and_then(|process| process.statm()).ok()?.resident;
    (pages > 0).then_some(pages * procfs::page_size() / 1024)
}

/// At most this many of the samples, evenly, with every peak among them kept.
pub fn thin(samples: &[Sample], most: usize) -> Vec<Sample> {
    let step = samples.len().div_ceil(most.max(1)).max(1);
    samples.chunks(step).filter_map(|few| few.iter().copied().max_by_key(|sample| sample.kib)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_peaks() {
        let samples: Vec<_> = (0..1000)
            .map(|i| Sample { seconds: f64::from(i), kib: if i == 777 { 9999 } else { 10 } })
            .collect();
        let few = thin(&samples, 100);
        assert_eq!(few.len(), 100);
        assert!(few.iter().any(|sample| sample.kib == 9999));
        assert_eq!(thin(&samples[..3], 100).len(), 3);
    }

    #[test]
    fn own_memory_is_seen() {
        assert!(resident_kib(std::process::id() as i32).is_some_and(|kib| kib > 100));
        assert_eq!(resident_kib(i32::MAX), None);
    }
}
