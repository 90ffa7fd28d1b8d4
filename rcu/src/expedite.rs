//! Ending a period by asking instead of waiting.
//!
//! An expedite executes one heavy barrier for the period and then looks at every reader that lags:
//!
//! - an *implicit* reader (never called `read_lock`) is parked: the period, and those after it, stop
//!   waiting until its next slow path. It holds nothing that this library promised to protect.
//! - an *explicit* reader whose nesting is 0 holds nothing that was unlinked before the period; the
//!   expediter announces for it.
//! - an explicit reader in a section has its count of sections remembered. A later pass finds that the
//!   section, or the count, has changed and announces for it, without another barrier. So a
//!   thread that enters section after section holds a period up for one section and not for ever.
//!
//! One expediter at a time. The lock is tried, never waited for; whoever does not get it scans all the same,
//! for it may have just begun a period that the holder, busy with an older one, knows nothing of.

use crate::cell::{EXPLICIT, ReaderCell};
use crate::domain::Domain;
use crate::sync::{
    Ordering::{Acquire, Release, SeqCst},
    fence,
};

impl Domain {
    /// One pass over the readers for the period in flight. True if a period ended.
    pub(crate) fn expedite(&self, period: u64, asks: Asks) -> bool {
        // Acquire and release order one holder's `seen_*` words after the other's.
        if self.expediting.swap(true, Acquire) {
            return self.try_complete(period);
        }
        // Behind the load that found `period` in flight, before any reader's record is read.
        // Pairs with the fence in `lock_slow`.
        fence(SeqCst);
        let mut pass = Pass { domain: self, period, asks, barrier: None };
        for cell in self.readers() {
            pass.settle(cell);
        }
        self.expediting.store(false, Release);
        let ended = self.try_complete(period);
        if ended {
            self.recorder.expedited();
        }
        ended
    }
}

/// Of whom a pass asks whether they are in a section, at the cost of a barrier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    Nobody,
    Explicit,
}

struct Pass<'a> {
    domain: &'a Domain,
    period: u64,
    asks: Asks,
    /// The heavy barrier, paid for by the first explicit reader that needs it: did every thread
    /// execute it?
    barrier: Option<bool>,
}

impl Pass<'_> {
    fn settle(&mut self, cell: &ReaderCell) {
        // Each turn of the loop either settles the reader, gives up on it, or follows a change that
        // the reader made itself. It makes few: it is announcing.
        while !cell.settled(self.period) {
            let state = cell.state.load(Acquire);
            if state & EXPLICIT == 0 {
                if cell.park(state) {
                    self.domain.recorder.parked();
                }
            } else if self.asks == Asks::Nobody {
                return;
            } else if !cell.has_snapshot(self.period) && self.barrier.is_none() {
                self.barrier = Some(self.domain.barrier.heavy(&self.domain.recorder));
            } else if !cell.quiet_since_barrier(self.period, self.barrier == Some(true)) {
                return;
            } else {
                cell.announce_for(state, self.period);
            }
        }
    }
}
