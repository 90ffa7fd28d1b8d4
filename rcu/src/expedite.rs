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
//! Nothing here needs a lock. Parking is a compare-and-swap that an explicit reader defeats (`block.rs`),
//! announcing a maximum, what is remembered one word. A barrier of the period serves everybody who looks
//! after it. The *gate* only keeps threads from asking all processors the same question at once; see
//! [`Gate`].

use crate::block::CELLS_PER_WORD;
use crate::cell::{ReaderCell, TURN, depth, is_cold};
use crate::cookie::in_flight;
use crate::domain::Domain;
use crate::sync::{
    self, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Of whom a pass asks whether they are in a section, at the cost of a barrier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    Nobody,
    Explicit,
}

impl Domain {
    /// Settles for the period in flight whoever can be. True if a period ended.
    pub(crate) fn expedite(&self, period: u64, asks: Asks) -> bool {
        let ended = match asks {
            Asks::Nobody => self.park_laggards(period),
            Asks::Explicit => self.ask_once(period),
        };
        if ended {
            self.recorder.expedited();
            if asks == Asks::Nobody {
                self.recorder.ended_by_parking();
            }
        }
        ended
    }

    /// Parks laggards until one is found that reads: with that one in the way the rest would not help.
    fn park_laggards(&self, period: u64) -> bool {
        while let Some(cell) = self.laggard_of(period) {
            if !self.park_with_neighbours(cell, period) && !cell.settled(period) {
                return false;
            }
        }
        self.try_complete(period)
    }

    /// Parks `cell`'s lagging reader and those of the same word, where they are implicit. True if any was.
    fn park_with_neighbours(&self, cell: &ReaderCell, period: u64) -> bool {
        let (block, first) = (cell.block(), cell.index() / CELLS_PER_WORD * CELLS_PER_WORD);
        let all = block.active_in(first);
        let lagging =
            |bit: &u32| all & 1 << bit != 0 && !block.cell(first + *bit as usize).has_announced(period);
        let these = (0..CELLS_PER_WORD as u32).filter(lagging).fold(0, |these, bit| these | 1 << bit);
        let parked = block.park(first, these);
        for bit in (0..CELLS_PER_WORD as u32).filter(|bit| parked & 1 << bit != 0) {
            // Behind the change that parked it: who comes back has something to come back from. Said too
            // late, to a new owner for instance, it costs an announcement.
            block.cell(first + bit as usize).others.parked.store(true, Relaxed);
        }
        self.recorder.parked(parked.count_ones());
        parked != 0
    }

    /// As `expedite`; while another thread is at it, by leaving it to that one.
    fn ask_once(&self, period: u64) -> bool {
        match self.scans.gate.enter() {
            // It may be busy with an older period, and will look for a younger one.
            Entered::Busy => self.try_complete(period),
            Entered::Guest => self.ask(period),
            Entered::Holder => {
                let mut ended = self.ask(period);
                if self.scans.gate.leave() {
                    let sequence = self.sequence(Acquire);
                    ended |= in_flight(sequence) && self.ask(sequence);
                }
                ended
            }
        }
    }

    /// One pass over the readers that lag.
    fn ask(&self, period: u64) -> bool {
        // No fence here. What is only skipped is looked at again by whoever ends the period, behind its own
        // fence; parking is one compare-and-swap; and whoever is judged, is judged behind a heavy barrier,
        // which contains the fence that pairs with the one in `lock_slow`.
        let mut barrier = None;
        for cell in self.lagging(period, self.resume_point(period)) {
            if !cell.is_explicit() {
                self.park_with_neighbours(cell, period);
                continue;
            }
            let everywhere = || *barrier.get_or_insert_with(|| self.barrier_of(period));
            if cell.is_quiet(period, everywhere) {
                cell.raise(period);
            }
        }
        self.try_complete(period)
    }

    /// A heavy barrier of `period`, executed now or before; false if only the caller has executed a fence.
    fn barrier_of(&self, period: u64) -> bool {
        // Acquire pairs with the release below: what is read from here on is read behind that barrier.
        if self.scans.barrier_in.load(Acquire) == period {
            return true;
        }
        let everywhere = self.settings.barrier.heavy(&self.recorder);
        if everywhere {
            sync::raise(&self.scans.barrier_in, period, Release);
        }
        everywhere
    }
}

impl ReaderCell {
    /// True if no section of this explicit reader that began before a heavy barrier of `period` is still
    /// open. If one may be, remembers the count of sections, and a later call needs no barrier.
    ///
    /// Why a later call needs none: the barrier was executed by the reader at some point P of its
    /// program. What is remembered was read after the barrier, so an unlock that changes it lies behind P,
    /// and what the reader reads after that unlock lies behind P too: it sees what was unlinked
    /// before the period began.
    ///
    /// `everywhere`: whether the barrier was a membarrier. Otherwise it was the expediter's own fence, and
    /// only cold readers, who execute a fence at each outermost lock, can be judged by their `nest`, and
    /// sleepers (`asleep.rs`).
    fn is_quiet(&self, period: u64, everywhere: impl FnOnce() -> bool) -> bool {
        // `torture --break section`: takes a reader in a section for a quiet one.
        if cfg!(rcumalloc_break = "section") {
            return true;
        }
        // Acquire pairs with the release below: the barrier that stands before it, stands before what
        // follows.
        let seen = Seen(self.others.seen.load(Acquire));
        let everywhere = seen.is_of(period) || everywhere();
        // Acquire pairs with the release store that ends a section (`arch::unlock`).
        let nest = self.nest.load(Acquire);
        let turn = self.turn.load(Acquire);
        if seen.is_of(period) {
            return depth(nest) == 0 || seen != Seen::new(period, turn);
        }
        if !everywhere && !is_cold(nest) {
            return depth(nest) == 0 && self.is_asleep();
        }
        if depth(nest) == 0 {
            return true;
        }
        // Who is late with an older period's loses a younger one, and costs a barrier.
        self.others.seen.store(Seen::new(period, turn).0, Release);
        false
    }
}

/// A period, and how far a reader's sections had come behind its barrier, in one word: whoever writes it and
/// however late, the two belong together. The period takes 53 bits, as long-lived as a cookie's.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen(u64);

impl Seen {
    const TURN_BITS: u32 = 11;

    fn new(period: u64, turn: i32) -> Seen {
        // From 0 to TURN.
        let turn = (turn + TURN) as u64 & ((1 << Self::TURN_BITS) - 1);
        Seen((period >> 1) << Self::TURN_BITS | turn)
    }

    fn is_of(self, period: u64) -> bool {
        // Period 1 shares its number with none; a word that nobody wrote is 0.
        debug_assert!(in_flight(period));
        self.0 >> Self::TURN_BITS == period >> 1 && self.0 != 0
    }
}

const _: () = assert!((TURN as u32) < 1 << Seen::TURN_BITS);

/// Who asks: one at a time, and nobody waits.
///
/// Who finds another at work says so and does not ask; the other asks once more, for the period that is in
/// flight then, so no demand is lost. Who comes after that asks beside it: the one at work may have lost its
/// processor.
#[repr(transparent)]
pub(crate) struct Gate(pub(crate) AtomicU32);

const OPEN: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody came by since.
const KNOCKED: u32 = 2;

enum Entered {
    Holder,
    Guest,
    Busy,
}

impl Gate {
    fn enter(&self) -> Entered {
        loop {
            // Changed only where there is something to say. Acquire and release make the holder see, when it
            // leaves, the period of whoever knocked.
            let (seen, next, entered) = match self.0.load(Relaxed) {
                OPEN => (OPEN, HELD, Entered::Holder),
                HELD => (HELD, KNOCKED, Entered::Busy),
                _ => return Entered::Guest,
            };
            if self.0.compare_exchange(seen, next, AcqRel, Relaxed).is_ok() {
                return entered;
            }
        }
    }

    /// True if somebody knocked.
    fn leave(&self) -> bool {
        self.0.swap(OPEN, AcqRel) == KNOCKED
    }
}
