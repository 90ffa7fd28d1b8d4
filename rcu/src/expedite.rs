//! Ending a period by asking instead of waiting.
//!
//! An expedite executes one heavy barrier for the period and then looks at every reader that lags:
//!
//! - an *implicit* reader (never called `read_lock`) is parked: the period, and those after it, stop
//!   waiting until its next slow path. It holds nothing that this library promised to protect.
//! - an *explicit* reader whose nesting is 0 holds nothing that was unlinked before the period; the
//!   expediter announces for it. Where it was found so before and has opened no section since, it is parked,
//!   too: see below.
//! - an explicit reader in a section has its count of sections remembered. A later pass finds that the
//!   section, or the count, has changed and announces for it, without another barrier. So a
//!   thread that enters section after section holds a period up for one section and not for ever.
//!
//! **How an explicit reader is parked.** Its lock is an increment that looks at nothing, so it has to be
//! told. The expediter (1) writes ASKED over the 0 of its `nest`, which makes its next lock slow, and offers
//! it leave in its word of the block (`block.rs`), (2) executes a heavy barrier, and (3) looks at `nest`
//! again: if it is idle in the cold mode, the expediter (4) parks the reader by a compare-and-swap, which
//! fails if the offer is not there any more. Why that is safe: let P be the point of the reader's program at
//! which it executed the barrier. An increment is one instruction, so none is half done at P. If `nest` is
//! ASKED there, for the reader too, each later lock is slow, looks at the word behind P, finds the offer, and
//! takes it out; or finds that it is parked, and arrives. If an increment that was under way at (1) went over
//! ASKED, `nest` is not idle and cold at (3), unless the reader has made it so itself since, and then the
//! same holds. Without membarrier readers are cold, and the fence at the head of `lock_slow` and that of (2)
//! decide: either (3) sees the section, or the section sees the offer. Only the gate's holder does this: a
//! second ASKED between (2) and (3) would prove nothing. Parked, it is implicit until it locks.
//!
//! Nothing here needs a lock. Parking is a compare-and-swap that a reader who locks defeats (`block.rs`),
//! announcing a maximum, what is remembered one word. A barrier of the period serves everybody who looks
//! after it. The *gate* keeps threads from asking all processors the same question at once; see [`Gate`].

use crate::block::{CELLS_PER_WORD, Parked};
use crate::cell::{ReaderCell, TURN, depth, is_cold};
use crate::cookie::in_flight;
use crate::domain::Domain;
use crate::readers::LaggingWord;
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
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
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
        let mut word = LaggingWord { block, first, these: block.active_in(first) };
        word.these = word.filter(|cell| !cell.has_announced(period));
        let before = word.these;
        self.park(&mut word, before, Parked::Implicit);
        word.these != before
    }

    /// Parks those of `word` that are among `these` and in state `who`. What is left in it is not parked.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    fn park(&self, word: &mut LaggingWord, these: u32, who: Parked) {
        let parked = word.block.park(word.first, these, who);
        if parked == 0 {
            return;
        }
        for (_, cell) in (LaggingWord { these: parked, ..*word }).cells() {
            // Behind the change that parked it: who comes back has something to come back from. Said too
            // late, to a new owner for instance, it costs an announcement.
            cell.others.parked.store(true, Relaxed);
        }
        word.these &= !parked;
        self.recorder.parked(parked.count_ones());
    }

    /// As `expedite`; while another thread is at it, by leaving it to that one.
    fn ask_once(&self, period: u64) -> bool {
        match self.scans.gate.enter() {
            // It may be busy with an older period, and will look for a younger one.
            Entered::Busy => self.try_complete(period),
            Entered::Guest => self.ask(period, None),
            Entered::Holder => {
                let offered = self.offer_leave(period).then(|| self.new_barrier(period));
                let mut ended = self.ask(period, offered);
                if self.scans.gate.leave() {
                    let sequence = self.sequence(Acquire);
                    ended |= in_flight(sequence) && self.ask(sequence, None);
                }
                ended
            }
        }
    }

    /// Offers leave to explicit readers that have been idle since an earlier period was expedited. True if
    /// there are any. By the gate's holder.
    fn offer_leave(&self, period: u64) -> bool {
        let fenced = self.is_fenced();
        let mut any = false;
        let mut lagging = self.lagging(period, self.resume_point(period));
        while let Some(word) = lagging.next_word() {
            let rested = word.filter(|cell| cell.has_rested(period, fenced));
            if rested != 0 {
                word.cells()
                    .filter(|(bit, _)| rested & bit != 0)
                    .for_each(|(_, cell)| cell.ask_for_cold_mode());
                word.block.offer(word.first, rested);
                any = true;
            }
        }
        any
    }

    /// One pass over the readers that lag. `offered`: the caller is the gate's holder and has offered leave,
    /// and executed a heavy barrier since: whether everybody did.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    fn ask(&self, period: u64, offered: Option<bool>) -> bool {
        // No fence here. What is only skipped is looked at again by whoever ends the period, behind its own
        // fence; parking is one compare-and-swap; and whoever is judged, is judged behind a heavy barrier,
        // which contains the fence that pairs with the one in `lock_slow`.
        let mut barrier = offered;
        let mut lagging = self.lagging(period, self.resume_point(period));
        while let Some(mut word) = lagging.next_word() {
            let all = word.these;
            self.park(&mut word, all, Parked::Implicit);
            if let Some(everywhere) = offered {
                let offered = word.block.offered_in(word.first);
                let resting = word.filter(|cell| cell.is_at_rest(everywhere));
                self.park(&mut word, offered & resting, Parked::Offered);
            }
            // Who is implicit and was not parked here has been parked by another, or has left: nobody is to
            // be interrupted for that one. Who was offered leave and does not rest, or not for certain, is
            // judged as others are.
            for (_, cell) in word.cells().filter(|(_, cell)| cell.block().may_read(cell.index())) {
                let everywhere = || *barrier.get_or_insert_with(|| self.barrier_of(period));
                if cell.is_quiet(period, everywhere) {
                    cell.raise(period);
                }
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
        self.new_barrier(period)
    }

    /// As `barrier_of`, executed now.
    fn new_barrier(&self, period: u64) -> bool {
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
        // Who is late with an older period's loses a younger one, and costs a barrier.
        self.others.seen.store(Seen::new(period, turn).0, Release);
        depth(nest) == 0
    }

    /// True if this explicit reader is in no section, and was in the same none when an expediter of an
    /// earlier period looked. A guess, made of words that nothing orders: what follows from it is an offer.
    fn has_rested(&self, period: u64, fenced: bool) -> bool {
        let (nest, seen) = (self.nest.load(Relaxed), Seen(self.others.seen.load(Relaxed)));
        // Where membarrier is lost nobody can tell who was in the fast mode whether he was heard.
        depth(nest) == 0
            && (is_cold(nest) || !fenced)
            && seen.is_of_another(period)
            && seen == seen.with(self.turn.load(Relaxed))
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

    fn is_of_another(self, period: u64) -> bool {
        self.0 != 0 && !self.is_of(period)
    }

    /// The same period with another turn.
    fn with(self, turn: i32) -> Seen {
        Seen(self.0 >> Self::TURN_BITS << Self::TURN_BITS | Seen::new(0, turn).0)
    }
}

const _: () = assert!((TURN as u32) < 1 << Seen::TURN_BITS);

/// Who asks: one at a time, and nobody waits. Who offers leave: one at a time, and nobody else.
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
