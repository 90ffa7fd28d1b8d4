//! How far apart the host keeps this machine's processors. A virtual machine's are moved between core complexes while it
//! runs, for minutes or for a second: a cache line there and back takes 57 ns or 340 here, and whatever threads share costs
//! six times as much (docs/bench.md). Two measurements can be compared where it was the same for both.

use serde::Serialize;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

/// Times the line goes there and back in one reading: a millisecond, or a few.
const TRIPS: u32 = 10_000;
/// So many times the shortest of all round trips is far.
const FAR: f64 = 2.5;

/// Of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    Near,
    Far,
    /// It changed in between.
    Mixed,
}

/// The round trips before and after a measurement, in ns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Around(pub f64, pub f64);

impl Around {
    /// With `least` the shortest round trip of all.
    pub fn distance(self, least: f64) -> Distance {
        match (self.0 > FAR * least, self.1 > FAR * least) {
            (false, false) => Distance::Near,
            (true, true) => Distance::Far,
            _ => Distance::Mixed,
        }
    }
}

/// What a line takes between the first and the last processor that this process may use and back, in ns; 0 if there is but one.
pub fn round_trip_ns() -> f64 {
    let allowed = allowed();
    let (Some(&first), Some(&last)) = (allowed.first(), allowed.last()) else { return 0.0 };
    if first == last {
        return 0.0;
    }
    let line = AtomicU32::new(0);
    // Each waits for its turn, an even or an odd number, and gives the other the next one.
    let play = |processor: usize, parity: u32| {
        stay_on(processor);
        let began = Instant::now();
        for trip in 0..TRIPS {
            while line.load(Relaxed) != 2 * trip + parity {
                std::hint::spin_loop();
            }
            line.store(2 * trip + parity + 1, Relaxed);
        }
        began.elapsed().as_nanos() as f64 / f64::from(TRIPS)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| play(last, 1));
        // In a thread of its own: this one is not to stay on a processor. The later starter has not waited for the other.
        let first = scope.spawn(|| play(first, 0));
        let times = [first, other].map(|thread| thread.join().expect("it does not panic"));
        times[0].min(times[1])
    })
}

fn allowed() -> Vec<usize> {
    // SAFETY: a zeroed set is an empty one, and the kernel writes no more than its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        set
    };
    // SAFETY: below the size of a set.
    (0..libc::CPU_SETSIZE as usize).filter(|&processor| unsafe { libc::CPU_ISSET(processor, &set) }).collect()
}

/// Keeps the calling thread on a processor.
fn stay_on(processor: usize) {
    // SAFETY: a set of our own with one processor of `allowed`.
    unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_a_while_there_and_back() {
        let trip = round_trip_ns();
        assert!(trip == 0.0 && allowed().len() < 2 || trip > 10.0, "{trip}");
    }

    #[test]
    fn far_is_far_beyond_the_shortest_on_both_sides() {
        assert_eq!(Around(60.0, 80.0).distance(57.0), Distance::Near);
        assert_eq!(Around(340.0, 290.0).distance(57.0), Distance::Far);
        assert_eq!(Around(340.0, 60.0).distance(57.0), Distance::Mixed);
        assert_eq!(Around(340.0, 330.0).distance(330.0), Distance::Near, "nothing nearer was seen");
        assert_eq!(Around(0.0, 0.0).distance(0.0), Distance::Near);
    }
}
