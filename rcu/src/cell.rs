//! Readers' cells: one record a thread, its announcements and its read-side sections.
//!
//! A [`ReaderCell`] is memory that the embedder gives and that stays a `ReaderCell` for ever
//! (type-stable): a scanner may look at the cell of a thread that is just exiting. A thread's cell is
//! registered by its creator before the thread runs, and may be registered again after
//! [`Reader::exit`](crate::Reader::exit). [`Reader`](crate::Reader) is the safe handle on a registered cell.
//!
//! Who writes what:
//!
//! | word | owner | others |
//! |---|---|---|
//! | `nest`, `turn` | plain increments (`arch.rs`) | read them, after a heavy barrier |
//! | `state` | announcements, going on- and offline, first lock | compare-and-swap a lagging value: park an implicit reader, announce for an explicit one |
//! | `seen_*` | – | the expediter, under its lock (`questions.rs`) |
//! | `claimed` | exit | register |
//!
//! `state` is the sequence last announced, shifted up by three, with three flags. A reader is
//! *settled* for period `s`, that is, `s` need not wait for it, if it is offline or parked or has
//! announced `s` or later. Once settled for `s` it may be seen unsettled again only through a signal
//! handler that announced in between; that costs time, never safety.
//!
//! Everything a reader does outside `lock`/`unlock` is a slow path. It may all be interrupted by a
//! signal handler that opens sections of its own.

use crate::arch;
use crate::cookie::in_flight;
use crate::domain::Domain;
use crate::misuse::Misuse;
use crate::sync::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    const_unless_loom, fence,
};

/// The thread has called `read_lock` at least once: it is never parked.
pub(crate) const EXPLICIT: u64 = 1;
/// The reader announced that it holds nothing and will hold nothing until it says so.
pub(crate) const OFFLINE: u64 = 2;
/// An expedite found this implicit reader lagging; nobody waits for it until it announces again.
pub(crate) const PARKED: u64 = 4;
pub(crate) const FLAGS: u64 = 7;
pub(crate) const STATE_SHIFT: u32 = 3;

/// What `nest` idles at in the cold mode. Half of the range lies on either side of it.
const BIAS: i32 = i32::MIN / 2;
/// Sections can nest this deep; a decrement below 0 lands far outside.
const MAX_NESTING: i32 = 1 << 29;
/// Outermost unlocks between two announcements that a reader makes of its own accord, so that periods
/// end without a membarrier even where a thread does nothing but read. 1024 spread the cost of one
/// announcement (tens of ns) below what a clock can see.
const TURN: i32 = if cfg!(loom) { 2 } else { 1024 };

/// `claimed` of a cell without a reader. Otherwise it is the generation of the domain (1 and up, counting
/// forks) that the reader was registered in.
const FREE: u32 = 0;

/// The depth of the section that a value of `nest` stands for.
pub(crate) const fn depth(nest: i32) -> i32 {
    if nest >= 0 { nest } else { nest.wrapping_sub(BIAS) }
}

/// True where `nest` is in the cold mode, in which every outermost lock executes a full fence.
pub(crate) const fn is_cold(nest: i32) -> bool {
    nest < 0
}

/// The record of one reader. The embedder provides the memory, for ever; see [`Domain::register`].
#[repr(C, align(64))]
pub struct ReaderCell {
    pub(crate) nest: AtomicI32,
    pub(crate) turn: AtomicI32,
    pub(crate) state: AtomicU64,
    domain: AtomicPtr<Domain>,
    /// The owner said `offline`, from just before it shows in `state` until `online`: a section opened
    /// meanwhile stays in the cold mode and goes back offline at its end. Owner only.
    said_offline: AtomicBool,
    // What scanners and the expediter write lies on the second cache line.
    pub(crate) second_line: SecondLine,
}

#[repr(C, align(64))]
pub(crate) struct SecondLine {
    next: AtomicPtr<ReaderCell>,
    claimed: AtomicU32,
    linked: AtomicBool,
    id: AtomicU32,
    tid: AtomicU32,
    /// The period for which `seen_turn` was read, after that period's heavy barrier; 0: none.
    pub(crate) seen_period: AtomicU64,
    pub(crate) seen_turn: AtomicI32,
}

const _: () = {
    assert!(core::mem::offset_of!(ReaderCell, nest) == 0);
    assert!(core::mem::offset_of!(ReaderCell, turn) == 4 || cfg!(loom));
    assert!(core::mem::size_of::<ReaderCell>() == 128 || cfg!(loom));
};

impl Default for ReaderCell {
    fn default() -> Self {
        Self::new()
    }
}

impl ReaderCell {
    const_unless_loom! {
        /// A cell that belongs to no thread yet.
        #[must_use]
        pub fn new() -> ReaderCell {
            ReaderCell {
                nest: AtomicI32::new(BIAS),
                turn: AtomicI32::new(-TURN),
                state: AtomicU64::new(OFFLINE),
                domain: AtomicPtr::new(core::ptr::null_mut()),
                said_offline: AtomicBool::new(false),
                second_line: SecondLine {
                    next: AtomicPtr::new(core::ptr::null_mut()),
                    claimed: AtomicU32::new(FREE),
                    linked: AtomicBool::new(false),
                    id: AtomicU32::new(0),
                    tid: AtomicU32::new(0),
                    seen_period: AtomicU64::new(0),
                    seen_turn: AtomicI32::new(0),
                },
            }
        }
    }

    fn domain(&self) -> &'static Domain {
        // SAFETY: set by `claim` from a `&'static Domain` before the cell is handed to its owner;
        // the methods that come here are reachable only through a registered cell.
        unsafe { &*self.domain.load(Relaxed) }
    }

    /// The light half of the heavy barrier where it has to be spelled out; see `arch.rs`.
    #[cfg(any(loom, miri, rcu_tsan))]
    pub(crate) fn light_barrier(&self) {
        if !self.domain().is_fenced() {
            fence(SeqCst);
        }
    }

    // ---- registration ----

    /// Takes the cell for a new reader; false if it has one. The rest is the domain's business.
    pub(crate) fn claim(&self, domain: &'static Domain, tid: u32, generation: u32) -> bool {
        let claimed = &self.second_line.claimed;
        let seen = claimed.load(Relaxed);
        // Acquire pairs with the release store in `release_claim`: the previous owner's last
        // writes are behind us.
        if seen == generation || claimed.compare_exchange(seen, generation, Acquire, Relaxed).is_err() {
            return false;
        }
        if seen != FREE {
            // A fork cut the registration off before the cell was in the list, where
            // `after_fork_in_child` would have found it.
            self.second_line.linked.store(false, Relaxed);
        }
        self.domain.store(core::ptr::from_ref(domain).cast_mut(), Relaxed);
        self.nest.store(BIAS, Relaxed);
        self.turn.store(-TURN, Relaxed);
        // Still offline, but no longer explicit: that was the previous owner.
        self.state.store(OFFLINE, Relaxed);
        self.said_offline.store(false, Relaxed);
        self.second_line.tid.store(tid, Relaxed);
        true
    }

    fn release_claim(&self) {
        self.second_line.claimed.store(FREE, Release); // pairs with `claim`
    }

    /// The first call links the cell into its domain's list; later ones return false.
    pub(crate) fn link_once(&self, id: impl FnOnce() -> u32) -> bool {
        // Only the claimer comes here, and `claim`/`release_claim` order one claimer after the other.
        if self.second_line.linked.load(Relaxed) {
            return false;
        }
        self.second_line.linked.store(true, Relaxed);
        self.second_line.id.store(id(), Relaxed);
        true
    }

    pub(crate) fn next(&self) -> &AtomicPtr<ReaderCell> {
        &self.second_line.next
    }

    pub(crate) fn id(&self) -> u32 {
        self.second_line.id.load(Relaxed)
    }

    pub(crate) fn tid(&self) -> u32 {
        self.second_line.tid.load(Relaxed)
    }

    /// In the only thread of a forked child: forgets the thread that owned this cell.
    pub(crate) fn forget_owner(&self) {
        self.nest.store(BIAS, Relaxed);
        self.state.store(OFFLINE, Relaxed);
        self.release_claim();
    }

    /// In the only thread of a forked child: this reader is the one that lives on.
    pub(crate) fn survive(&self, generation: u32, tid: u32) {
        self.second_line.claimed.store(generation, Relaxed);
        self.set_tid(tid);
    }

    pub(crate) fn set_tid(&self, tid: u32) {
        self.second_line.tid.store(tid, Relaxed);
    }

    // ---- what scanners ask ----

    /// True if period `period` need not wait for this reader.
    pub(crate) fn settled(&self, period: u64) -> bool {
        // Acquire pairs with the release stores of `announce`, `go_offline` and `announce_for`:
        // whatever the reader did in sections before that announcement happened before.
        is_settled(self.state.load(Acquire), period)
    }

    pub(crate) fn depth(&self) -> u32 {
        depth(self.nest.load(Relaxed)).max(0) as u32
    }

    // ---- the owner's slow paths ----

    /// Behind an increment of `nest` that did not come out positive: the cold mode.
    #[cold]
    #[inline(never)]
    pub(crate) fn lock_slow(&self) {
        let domain = self.domain();
        let state = self.state.load(Relaxed);
        if state & EXPLICIT == 0 {
            domain.on_first_lock();
        }
        if state & (EXPLICIT | OFFLINE) != EXPLICIT {
            self.come_online(EXPLICIT);
        }
        // The cold mode's own fence, between the stores to `nest` and `state` and the section's
        // accesses. Pairs with the fences of scanners, at the head of `try_complete` and `expedite`:
        // either the scan sees this reader, or the section sees what was unlinked before the period.
        fence(SeqCst);
        if domain.is_fenced() || self.said_offline.load(Relaxed) {
            return;
        }
        // Leave the cold mode. A signal handler may come in between and do it for us.
        loop {
            let nest = self.nest.load(Relaxed);
            if !is_cold(nest) || self.nest.compare_exchange(nest, nest - BIAS, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Behind a decrement of `nest` that did not come out as 0.
    #[cold]
    #[inline(never)]
    pub(crate) fn unlock_inner(&self) {
        let nest = self.nest.load(Relaxed);
        // 0: it came out as BIAS, but a signal handler's section has left the cold mode since, and has
        // counted in our place.
        if nest >= 0 {
            return;
        }
        match nest.wrapping_sub(BIAS) {
            0 => {
                let turn = self.turn.load(Relaxed) + 1;
                self.turn.store(turn, Release); // as the increment in `arch::unlock`
                if self.said_offline.load(Relaxed) {
                    if turn >= 0 {
                        // Nothing to announce, but the fast path looks for 0 only.
                        self.turn.store(-TURN, Release);
                    }
                    self.go_offline();
                } else if turn >= 0 {
                    self.take_turn();
                }
            }
            1..=MAX_NESTING => {}
            _ => {
                self.nest.fetch_add(1, Relaxed);
                self.domain().misuse(Misuse::UnbalancedUnlock { tid: self.tid() });
            }
        }
    }

    /// Behind the last of `TURN` outermost unlocks: announce.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_turn(&self) {
        // Release as the increments: an expediter that sees this value takes it for the end of a section.
        self.turn.store(-TURN, Release);
        self.quiescent_state();
    }

    /// See [`Reader::quiescent_state`](crate::Reader::quiescent_state).
    ///
    /// The calling thread owns the cell, here and in what follows.
    #[inline]
    pub(crate) fn quiescent_state(&self) {
        // That later sections see what was unlinked before the period began is the work of the fence
        // behind the announcement, in `try_complete`.
        let sequence = self.domain().sequence(Acquire);
        let state = self.state.load(Relaxed);
        let nothing_to_say = !in_flight(sequence) || is_settled(state, sequence);
        if nothing_to_say && state & PARKED == 0 {
            return;
        }
        self.announce(sequence, state);
    }

    #[cold]
    #[inline(never)]
    fn announce(&self, sequence: u64, state: u64) {
        if state & OFFLINE != 0 || self.depth() != 0 {
            return;
        }
        if self.domain().is_fenced() {
            self.enter_cold_mode();
        }
        self.set_state(sequence << STATE_SHIFT);
        // `try_complete` begins with a full fence. It stands between this store and its scan, so of
        // two readers announcing at once one sees the other's store; and between the load of the
        // sequence and later sections, which therefore see what was unlinked before that period.
        if in_flight(sequence) {
            self.domain().try_complete(sequence);
        }
    }

    /// An idle reader begins to execute a fence at every lock.
    fn enter_cold_mode(&self) {
        // A handler that locks in between leaves `nest` as it was; this fails only if it is cold.
        let _ = self.nest.compare_exchange(0, BIAS, Release, Relaxed);
    }

    /// Says that the reader may hold references from now on.
    pub(crate) fn come_online(&self, flags: u64) {
        let sequence = self.domain().sequence(Acquire);
        let _ = self.state.fetch_update(AcqRel, Relaxed, |seen| {
            // A thread's first lock finds it online: what it has not announced it must still announce,
            // for an announcement without a scan may be the last one, and nobody would end the period.
            let announced =
                if seen & (OFFLINE | PARKED) != 0 { sequence << STATE_SHIFT } else { seen & !FLAGS };
            Some(announced | seen & EXPLICIT | flags)
        });
        // No fence: a reader that was not waited for is in the cold mode, and the fence of its first
        // section, in `lock_slow`, stands between this store and what that section reads.
    }

    /// The owner's change of its own `state`. EXPLICIT is taken over from the word itself: a copy read
    /// earlier may be older than a signal handler's first lock, and a reader that has left the cold mode
    /// without EXPLICIT would be parked inside its sections.
    fn set_state(&self, state: u64) {
        // Release: the sections that ended happened before; pairs with `settled`. A swap and not a
        // store also because `park` and `announce_for` may be under way.
        let _ = self.state.fetch_update(AcqRel, Relaxed, |seen| Some(state | seen & EXPLICIT));
    }

    fn go_offline(&self) {
        // First: a handler's section between the next two lines would leave the cold mode, and
        // sections in the fast mode do not come online. The release in `enter_cold_mode` keeps the order.
        self.said_offline.store(true, Relaxed);
        self.enter_cold_mode();
        self.set_state(OFFLINE);
        // Pairs with the fence in `try_complete` of whoever starts a period: either that scan sees
        // us offline, or we see its period and complete it.
        fence(SeqCst);
        let domain = self.domain();
        let sequence = domain.sequence(Acquire);
        if in_flight(sequence) {
            domain.try_complete(sequence);
        }
    }

    /// See [`Reader::offline`](crate::Reader::offline).
    pub(crate) fn offline(&self) {
        if self.depth() != 0 {
            self.domain().misuse(Misuse::OfflineInSection { tid: self.tid() });
            return;
        }
        self.go_offline();
    }

    /// See [`Reader::online`](crate::Reader::online).
    pub(crate) fn online(&self) {
        // First, and also inside a section that was opened while offline: it stays online then.
        self.said_offline.store(false, Relaxed);
        if self.state.load(Relaxed) & (OFFLINE | PARKED) != 0 {
            self.come_online(0);
        }
    }

    pub(crate) fn is_explicit(&self) -> bool {
        self.state.load(Relaxed) & EXPLICIT != 0
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.state.load(Relaxed) & OFFLINE != 0
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.state.load(Relaxed) & PARKED != 0
    }

    /// `read_lock` for callers that cannot hold a guard, such as a C interface.
    ///
    /// # Safety
    /// The cell is registered and the calling thread owns it.
    #[inline(always)]
    pub unsafe fn lock_raw(&self) {
        arch::lock(self);
    }

    /// `read_unlock` for callers that cannot hold a guard.
    ///
    /// # Safety
    /// The cell is registered, the calling thread owns it, and a [`lock_raw`](Self::lock_raw) of
    /// the same thread is open. (One that is not is reported as misuse.)
    #[inline(always)]
    pub unsafe fn unlock_raw(&self) {
        arch::unlock(self);
    }

    /// The rest of [`lock_raw`](Self::lock_raw) for callers that have spelled its increment themselves (`arch.rs`),
    /// where it did not come out positive.
    ///
    /// # Safety
    /// As `lock_raw`.
    pub unsafe fn lock_rare_raw(&self) {
        self.lock_slow();
    }

    /// The rest of [`unlock_raw`](Self::unlock_raw), likewise: of an outermost unlock, whose turn came out as 0, or
    /// of one whose decrement did not.
    ///
    /// # Safety
    /// As `unlock_raw`.
    pub unsafe fn unlock_rare_raw(&self, outermost: bool) {
        if outermost {
            self.take_turn();
        } else {
            self.unlock_inner();
        }
    }

    /// See [`Reader::exit`](crate::Reader::exit).
    ///
    /// # Safety
    /// The cell is registered, the calling thread owns it (or stands in for a thread that has
    /// ended), and nobody uses it as a reader afterwards.
    pub unsafe fn exit_raw(&self) {
        if self.depth() != 0 {
            self.domain().misuse(Misuse::ExitInSection { tid: self.tid() });
            self.nest.store(BIAS, Release);
        }
        self.go_offline();
        self.release_claim();
    }
}

fn is_settled(state: u64, period: u64) -> bool {
    state & (OFFLINE | PARKED) != 0 || state >> STATE_SHIFT >= period
}
