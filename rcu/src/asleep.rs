//! Whether a reader's thread has slept since somebody looked, where membarrier was lost.
//!
//! An explicit reader in the fast mode executes no fence. While membarrier works, an expediter makes it
//! execute one; when that is refused from some moment on, readers become cold at their next announcement. But
//! one that sleeps outside any section announces nothing, and its `nest` proves nothing to a processor that
//! has not been told of its last stores. What does prove something is that the thread *has not run*: the
//! kernel took it off its processor, which is a full barrier, and will put it on one again, which is another.
//! Its CPU time tells: read twice with [`WINDOW_NS`] between, and the same, the thread ran at no moment of
//! that, and a `nest` read in between is what it is. What it reads when it wakes lies behind our look, and
//! what was unlinked is seen.
//!
//! The clock of another thread of the process is readable without a descriptor and without a permission. A
//! filter that refuses that, too, leaves such a reader unjudged, and
//! [`Domain::stalled`](crate::Domain::stalled) names it.

use crate::cell::ReaderCell;
use crate::clock;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Between two readings of a thread's CPU time that are to prove something, in ns. Kernels that count it by
/// ticks tick a hundred times a second; five of them.
const WINDOW_NS: u64 = 50_000_000;

impl ReaderCell {
    /// True if the reader's thread has not run since a call of this function more than the window ago.
    /// `nest` was read just now.
    pub(crate) fn is_asleep(&self) -> bool {
        let now = clock::now_ns();
        // Acquire pairs with the release below: not older than `looked_at` says.
        let before = self.others.ran_ns.load(Acquire);
        let since = self.others.looked_at.load(Relaxed);
        let Some(ran) = cpu_time_ns(self.tid()) else { return false };
        if since != 0 && ran == before {
            return now.saturating_sub(since) >= WINDOW_NS;
        }
        // The time first, and a maximum: of two that note at once, no older reading gets the younger one's
        // time taken for older than it is.
        self.others.looked_at.fetch_max(clock::now_ns(), Relaxed);
        self.others.ran_ns.store(ran, Release);
        false
    }
}

#[cfg(not(any(loom, miri)))]
use crate::kernel::cpu_time_ns;

/// In a model nobody can tell.
#[cfg(any(loom, miri))]
fn cpu_time_ns(_tid: u32) -> Option<u64> {
    None
}

#[cfg(all(test, not(any(loom, miri, rcu_portable)), target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn ones_own_time_passes_and_strangers_have_none() {
        let own = clock::thread_id();
        let before = cpu_time_ns(own).expect("a thread of ours");
        while cpu_time_ns(own).expect("still there") == before {
            std::hint::spin_loop();
        }
        assert_eq!(cpu_time_ns(0), None);
        assert_eq!(cpu_time_ns(1), None, "init is not ours");
    }
}
