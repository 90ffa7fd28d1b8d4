//! What an expediter asks of a cell, and what it does to one: park it, announce for it, remember how far its
//! sections had come.
//!
//! Only the holder of the domain's expedite lock comes here (`expedite.rs`); the owner of the cell may be
//! doing anything meanwhile. `state` is therefore changed by compare-and-swap from the value that was
//! judged; the `seen_*` words are the expediters' own, ordered by their lock.

use crate::cell::{FLAGS, PARKED, ReaderCell, STATE_SHIFT, depth, is_cold};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};

impl ReaderCell {
    /// Parks a lagging implicit reader whose state was `seen`; false if the state has changed.
    pub(crate) fn park(&self, seen: u64) -> bool {
        // A compare-and-swap on the word that holds EXPLICIT: if the thread's first lock came
        // first, this fails; if it comes later, its swap in `lock_slow` undoes this, and its fence
        // there orders its section behind the period's beginning.
        self.state.compare_exchange(seen, seen | PARKED, AcqRel, Relaxed).is_ok()
    }

    /// Announces `period` for a lagging explicit reader whose state was `seen`.
    pub(crate) fn announce_for(&self, seen: u64, period: u64) -> bool {
        let announced = period << STATE_SHIFT | seen & FLAGS;
        // Release: passes on, to whoever completes the period, what the acquire loads in
        // `quiet_since_barrier` made ours.
        self.state.compare_exchange(seen, announced, AcqRel, Relaxed).is_ok()
    }

    /// True if a snapshot was taken after a heavy barrier of this very period.
    pub(crate) fn has_snapshot(&self, period: u64) -> bool {
        self.second_line.seen_period.load(Relaxed) == period
    }

    /// After a heavy barrier of `period`: true if no section that began before that barrier is still
    /// open. If one may be, remembers the count of sections, and a later call needs no barrier.
    ///
    /// Why a later call needs none: the barrier was executed by the reader at some point P of its
    /// program. The snapshot was read after the barrier, so an unlock that changes it lies behind P,
    /// and what the reader reads after that unlock lies behind P too: it sees what was unlinked
    /// before the period began.
    ///
    /// `everywhere`: the barrier was a membarrier. Otherwise it was the expediter's own fence, and only
    /// cold readers, who execute a fence at each outermost lock, can be judged by their `nest`.
    pub(crate) fn quiet_since_barrier(&self, period: u64, everywhere: bool) -> bool {
        // `torture --break section`: takes a reader in a section for a quiet one.
        if cfg!(rcumalloc_break = "section") {
            return true;
        }
        // Acquire pairs with the release store that ends a section (`arch::unlock`).
        let nest = self.nest.load(Acquire);
        let turn = self.turn.load(Acquire);
        if self.has_snapshot(period) {
            return depth(nest) == 0 || turn != self.second_line.seen_turn.load(Relaxed);
        }
        if !everywhere && !is_cold(nest) {
            return false;
        }
        if depth(nest) == 0 {
            return true;
        }
        self.second_line.seen_turn.store(turn, Relaxed);
        self.second_line.seen_period.store(period, Relaxed);
        false
    }
}
