//! How far apart the host keeps this machine's processors. A virtual machine's are moved between core
//! complexes while it runs, for minutes or for a moment: a cache line there and back takes 57 ns or 340 here,
//! and whatever threads share costs six times as much (docs/bench.md). Two measurements can be compared where
//! it was the same for both.
//!
//! The host moves a processor that wakes up. So the measured process itself takes the line there and back,
//! just before its threads begin and just after they have ended: what was so before the process started says
//! nothing.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

/// Times the line goes there and back in one reading: a tenth of a millisecond, or one.
const TRIPS: u32 = 2_000;
/// A round trip below this many ns was between two hardware threads of a core; 28 here.
const OF_ONE_CORE: f64 = 40.0;
/// A round trip above this many ns was between core complexes or sockets; 280 to 540 here, within a complex
/// 55 to 110.
const FAR: f64 = 150.0;

/// Of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Two hardware threads of one core, or a single processor.
    Core,
    /// Under one last-level cache.
    Near,
    Far,
    /// It changed in between.
    Mixed,
}

/// The round trips just before and just after a measurement, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Around(pub f64, pub f64);

impl Around {
    pub fn distance(self) -> Distance {
        let of = |trip: f64| match trip {
            ..OF_ONE_CORE => Distance::Core,
            FAR.. => Distance::Far,
            _ => Distance::Near,
        };
        let before = of(self.0);
        if before == of(self.1) { before } else { Distance::Mixed }
    }
}

/// What a line takes between the first and the last processor that this process may use and back, in ns; 0 if
/// there is but one.
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
        // In a thread of its own: this one is not to stay on a processor. The later starter has not waited
        // for the other.
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
    fn a_distance_is_the_same_before_and_after() {
        assert_eq!(Around(60.0, 110.0).distance(), Distance::Near);
        assert_eq!(Around(340.0, 290.0).distance(), Distance::Far);
        assert_eq!(Around(340.0, 60.0).distance(), Distance::Mixed);
        assert_eq!(Around(28.0, 66.0).distance(), Distance::Mixed);
        assert_eq!(Around(28.0, 30.0).distance(), Distance::Core);
        assert_eq!(Around(0.0, 0.0).distance(), Distance::Core, "a single processor");
    }
}
