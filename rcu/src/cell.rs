//! Readers' cells: one record a thread, its announcements and its read-side sections.
//!
//! A [`ReaderCell`] lies in a block (`block.rs`) and stays a `ReaderCell` for ever (type-stable): a scanner
//! may look at the cell of a thread that is just exiting. [`Reader`](crate::Reader) is the safe handle on one
//! that has a reader.
//!
//! A cell is two cache lines, a pair that no other cell shares. Who writes what:
//!
//! | line | word | owner | others |
//! |---|---|---|---|
//! | owner's | `nest`, `turn` | plain increments at every section (`arch.rs`) | read them, after a heavy barrier |
//! | | `domain`, `said_offline` | on- and offline | – |
//! | others' | `announced` | raises it: announcements, coming online | an expediter raises it for an explicit reader |
//! | | `parked` | lowers it when it comes back | an expediter raises it, having cleared the active bit |
//! | | `seen`, `looked_at`, `ran_ns` | – | expediters: what they found (`expedite.rs`, `asleep.rs`) |
//! | | `reached` | – | scanners: all cells before this one need not be waited for (`readers.rs`) |
//! | | `block`, `index`, `tid` | – | who registers the reader |
//!
//! A reader is *settled* for period `s`, that is, `s` need not wait for it, if its active bit in the block is
//! clear or it has announced `s` or later. What is announced only grows: `announced` is changed by taking the
//! maximum, so an announcement that a signal handler or an expediter overtook takes nothing back.
//!
//! Everything a reader does outside `lock`/`unlock` is a slow path. It may all be interrupted by a
//! signal handler that opens sections of its own. (A handler must not call `offline` or `online`.)

use crate::arch;
use crate::block::ReaderBlock;
use crate::cookie::in_flight;
use crate::domain::Domain;
use crate::misuse::Misuse;
use crate::sync::{
    self, AtomicBool, AtomicI32, AtomicPtr, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    const_unless_loom, fence,
};
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool as PlainBool, AtomicI32 as PlainI32, AtomicUsize as PlainUsize};
use core::sync::atomic::{AtomicPtr as PlainPtr, AtomicU32 as PlainU32, AtomicU64 as PlainU64};

/// What `nest` idles at in the cold mode.
const BIAS: i32 = i32::MIN / 2;
/// What it idles at where an expediter has asked for the cold mode. The owner takes it for `BIAS`; other
/// expediters take it for no proof that the owner knows.
const ASKED: i32 = i32::MIN / 4 * 3;
/// Sections can nest this deep; a decrement too many lands outside, whatever it began at.
const MAX_NESTING: i32 = 1 << 28;
/// Outermost unlocks between two announcements that a reader makes of its own accord, so that periods
/// end without a membarrier even where a thread does nothing but read. 1024 spread the cost of one
/// announcement (tens of ns) below what a clock can see.
pub(crate) const TURN: i32 = if cfg!(loom) { 2 } else { 1024 };

/// The depth of the section that a value of `nest` stands for.
pub(crate) const fn depth(nest: i32) -> i32 {
    nest.wrapping_sub(base(nest))
}

/// What `nest` idles at, by the mode that its value stands for.
const fn base(nest: i32) -> i32 {
    if nest >= 0 {
        0
    } else if nest >= BIAS - MAX_NESTING {
        BIAS
    } else {
        ASKED
    }
}

/// True where the owner has put `nest` in the cold mode, in which every outermost lock executes a full fence.
pub(crate) const fn is_cold(nest: i32) -> bool {
    base(nest) == BIAS
}

/// The record of one reader. Zero bytes are a valid one without a reader.
#[repr(C, align(128))]
pub struct ReaderCell {
    pub(crate) nest: AtomicI32,
    pub(crate) turn: AtomicI32,
    domain: AtomicPtr<Domain>,
    /// The thread has locked, ever. Owner only.
    has_locked: AtomicBool,
    /// The owner said `offline`, from just before its bit is cleared until `online`: a section opened
    /// meanwhile stays in the cold mode and goes back offline at its end. Owner only.
    said_offline: AtomicBool,
    // What follows says where sections began, for those who look for stalls; it orders nothing and is not
    // loom's.
    /// Somebody found the reader stalling: for a while its sections begin in the cold mode, and say where.
    watched: PlainBool,
    /// The value of `turn` in the section that `began` is of.
    began_turn: PlainI32,
    /// Where the section began, as its caller says; 0: it has not been said.
    began: PlainUsize,
    pub(crate) others: OthersLine,
}

#[repr(C, align(64))]
pub(crate) struct OthersLine {
    pub(crate) announced: AtomicU64,
    pub(crate) parked: AtomicBool,
    /// How far the reader's sections had come when an expediter looked, and in which period.
    pub(crate) seen: AtomicU64,
    /// The period in which every cell before this one was found settled.
    pub(crate) reached: AtomicU64,
    // What follows orders nothing by itself and is not loom's.
    pub(crate) ran_ns: PlainU64,
    pub(crate) looked_at: PlainU64,
    block: PlainPtr<ReaderBlock>,
    index: PlainU32,
    tid: PlainU32,
}

const _: () = {
    assert!(core::mem::offset_of!(ReaderCell, nest) == 0);
    assert!(core::mem::offset_of!(ReaderCell, turn) == 4 || cfg!(loom));
    assert!(core::mem::offset_of!(ReaderCell, others) == 64 || cfg!(loom));
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
                nest: AtomicI32::new(0),
                turn: AtomicI32::new(0),
                domain: AtomicPtr::new(core::ptr::null_mut()),
                has_locked: AtomicBool::new(false),
                said_offline: AtomicBool::new(false),
                watched: PlainBool::new(false),
                began_turn: PlainI32::new(0),
                began: PlainUsize::new(0),
                others: OthersLine {
                    announced: AtomicU64::new(0),
                    parked: AtomicBool::new(false),
                    seen: AtomicU64::new(0),
                    reached: AtomicU64::new(0),
                    ran_ns: PlainU64::new(0),
                    looked_at: PlainU64::new(0),
                    block: PlainPtr::new(core::ptr::null_mut()),
                    index: PlainU32::new(0),
                    tid: PlainU32::new(0),
                },
            }
        }
    }

    fn domain(&self) -> &'static Domain {
        // SAFETY: set by `claim` from a `&'static Domain` before the cell is handed to its owner;
        // the methods that come here are reachable only through a registered cell.
        unsafe { &*self.domain.load(Relaxed) }
    }

    /// The block it lies in.
    pub(crate) fn block(&self) -> &'static ReaderBlock {
        // SAFETY: as `domain`; the value never changes once it is set.
        unsafe { &*self.others.block.load(Relaxed) }
    }

    /// Its number in the block.
    pub(crate) fn index(&self) -> usize {
        self.others.index.load(Relaxed) as usize
    }

    /// The light half of the heavy barrier where it has to be spelled out; see `arch.rs`.
    #[cfg(any(miri, rcu_tsan))]
    pub(crate) fn light_barrier(&self) {
        if !self.domain().is_fenced() {
            fence(SeqCst);
        }
    }

    // ---- registration ----

    /// Makes the cell ready for a new reader. By whoever has taken it from its block.
    pub(crate) fn claim(&self, domain: &'static Domain, block: &'static ReaderBlock, index: usize, tid: u32) {
        self.domain.store(core::ptr::from_ref(domain).cast_mut(), Relaxed);
        self.others.block.store(core::ptr::from_ref(block).cast_mut(), Relaxed);
        self.others.index.store(index as u32, Relaxed);
        self.nest.store(BIAS, Relaxed);
        self.turn.store(-TURN, Relaxed);
        self.has_locked.store(false, Relaxed);
        self.said_offline.store(false, Relaxed);
        self.watched.store(false, Relaxed);
        self.began.store(0, Relaxed);
        self.others.parked.store(false, Relaxed);
        self.others.looked_at.store(0, Relaxed);
        self.set_tid(tid);
    }

    pub(crate) fn id(&self) -> u32 {
        self.block().first() + self.others.index.load(Relaxed)
    }

    /// The thread, as given to [`register`](Domain::register) or set later. Anybody, at any time: stale if it
    /// has ended.
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.others.tid.load(Relaxed)
    }

    pub(crate) fn set_tid(&self, tid: u32) {
        self.others.tid.store(tid, Relaxed);
    }

    // ---- what scanners ask ----

    /// True if the reader has announced `period` or a later one.
    pub(crate) fn has_announced(&self, period: u64) -> bool {
        // Acquire pairs with the releases of `raise`: whatever the reader did in sections before
        // that announcement happened before.
        self.others.announced.load(Acquire) >= period
    }

    /// True if period `period` need not wait for this reader.
    ///
    /// The bit is read first. A reader that goes offline and comes back clears its bit, raises its
    /// announcement and sets its bit; read the other way round, with that in between, it would look as if it
    /// lagged, to a scan that is perhaps the last one.
    pub(crate) fn settled(&self, period: u64) -> bool {
        !self.is_active() || self.has_announced(period)
    }

    pub(crate) fn is_active(&self) -> bool {
        self.block().is_active(self.index())
    }

    /// The reader was found stalling: its next sections, up to a turn of them, are to say where they begin.
    pub(crate) fn watch(&self) {
        self.watched.store(true, Relaxed);
    }

    /// Where the section that the reader is in began, if that is known.
    pub(crate) fn began(&self) -> Option<NonZeroUsize> {
        let began = NonZeroUsize::new(self.began.load(Relaxed))?;
        let is_same = self.began_turn.load(Relaxed) == self.turn.load(Relaxed);
        (is_same && self.depth() != 0).then_some(began)
    }

    pub(crate) fn depth(&self) -> u32 {
        depth(self.nest.load(Relaxed)).max(0) as u32
    }

    /// Announces `period`, by the owner or for it. A maximum: what was announced is not taken back.
    pub(crate) fn raise(&self, period: u64) {
        // Release: the sections that ended happened before, and those of which an expediter knows by the
        // acquire loads in `is_quiet`; pairs with `has_announced`.
        sync::raise(&self.others.announced, period, AcqRel);
    }

    // ---- the owner's slow paths ----

    /// Behind an increment of `nest` that did not come out positive: the cold mode.
    #[cold]
    #[inline(never)]
    pub(crate) fn lock_slow(&self) {
        let (domain, block, index) = (self.domain(), self.block(), self.index());
        // The cold mode's own fence, between the store to `nest`, and the look at the state and the section's
        // accesses. Pairs with the fences of expediters, in `Barrier::heavy`: either who would park this
        // reader, or announce for it, sees the section, or the section sees the offer and what was unlinked
        // before the period.
        fence(SeqCst);
        if !block.is_explicit(index) {
            if !self.has_locked.load(Relaxed) {
                domain.on_first_lock();
                self.has_locked.store(true, Relaxed);
            }
            self.come_online(true);
            // Between the state and the section's accesses. Pairs with the fence of scanners, in
            // `laggard_of`: either the scan sees this reader, or the section sees what was unlinked.
            fence(SeqCst);
        }
        if domain.is_fenced() || self.said_offline.load(Relaxed) || self.watched.load(Relaxed) {
            self.rebase(BIAS);
            return;
        }
        self.rebase(0);
        // Between the swap and what this section and those of the fast mode behind it read. Where membarrier
        // is lost at this moment, an expediter goes by its own fence and judges cold readers. Either it
        // sees that this one is not cold any more, or its fence came first, and we see what was unlinked. (A
        // handler's section between the swap and this fence leans on the swap being a locked instruction,
        // which on x86 is a full fence itself.)
        fence(SeqCst);
    }

    /// Within a section, leaves the cold mode (`to`: 0), or makes it the owner's own, if an expediter has
    /// asked for it. A signal handler may come in between and do it for us.
    fn rebase(&self, to: i32) {
        loop {
            let nest = self.nest.load(Relaxed);
            if nest >= 0 || base(nest) == to {
                return;
            }
            if self.nest.compare_exchange(nest, depth(nest) + to, Relaxed, Relaxed).is_ok() {
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
        match depth(nest) {
            0 => {
                // A handler's sections between the two lines are not counted. That makes an expediter ask
                // once more, and never take an open section for one that has ended: none is open here.
                let turn = self.turn.load(Relaxed) + 1;
                #[cfg(loom)]
                crate::model::at(crate::model::Point::Counting);
                self.turn.store(turn, Release); // as the increment in `arch::unlock`
                self.began.store(0, Relaxed);
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
        // From here on counts of sections come again.
        self.began.store(0, Relaxed);
        self.watched.store(false, Relaxed);
        self.quiescent_state();
    }

    /// See [`Reader::quiescent_state`](crate::Reader::quiescent_state).
    ///
    /// The calling thread owns the cell, here and in what follows.
    #[inline]
    pub(crate) fn quiescent_state(&self) {
        // That later sections see what was unlinked before the period began is the work of the fence
        // behind the announcement, in `laggard_of`.
        let sequence = self.domain().sequence(Acquire);
        let nothing_to_say = !in_flight(sequence) || self.others.announced.load(Relaxed) >= sequence;
        if nothing_to_say && !self.others.parked.load(Relaxed) {
            return;
        }
        self.announce(sequence);
    }

    #[cold]
    #[inline(never)]
    fn announce(&self, sequence: u64) {
        if self.said_offline.load(Relaxed) || self.depth() != 0 {
            return;
        }
        if self.domain().is_fenced() || self.watched.load(Relaxed) {
            self.enter_cold_mode();
        }
        self.raise(sequence);
        if self.others.parked.load(Relaxed) {
            // First: an expediter parks and then says so. One that does both in between is heard next time.
            self.others.parked.store(false, Relaxed);
            self.block().arrive(self.index(), false);
        }
        // `laggard_of` begins with a full fence. It stands between this store and its scan, so of
        // two readers announcing at once one sees the other's store; and between the load of the
        // sequence and later sections, which therefore see what was unlinked before that period.
        if in_flight(sequence) {
            self.domain().try_complete(sequence);
        }
    }

    /// An idle reader begins to execute a fence at every lock.
    fn enter_cold_mode(&self) {
        // A handler that locks in between leaves `nest` as it was; both fail only if it is cold, by the
        // owner's own doing.
        let _ = self.nest.compare_exchange(0, BIAS, Release, Relaxed);
        let _ = self.nest.compare_exchange(ASKED, BIAS, Release, Relaxed);
    }

    /// Asks an idle reader for the cold mode: its next lock will be slow. By one expediter at a time, who
    /// does not know whether it was heard until the owner has executed a fence behind it: the owner's
    /// increment may be under way, and goes over this.
    pub(crate) fn ask_for_cold_mode(&self) {
        let _ = self.nest.compare_exchange(0, ASKED, Release, Relaxed);
    }

    /// True if the reader is in no section and its next lock will be slow. Behind a fence that the owner has
    /// executed, where `everywhere`, or else the caller alone.
    pub(crate) fn is_at_rest(&self, everywhere: bool) -> bool {
        // Acquire pairs with the release store that ends a section (`arch::unlock`).
        let nest = self.nest.load(Acquire);
        nest == BIAS || everywhere && nest == ASKED
    }

    /// Says that the reader may hold references from now on; `locks`: and that it is explicit.
    // Among what every process of librcumalloc.so runs as it starts (preload/src/lib.rs); elsewhere a section
    // like others.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_start"))]
    pub(crate) fn come_online(&self, locks: bool) {
        // A thread's first lock finds it online: what it has not announced it must still announce,
        // for an announcement without a scan may be the last one, and nobody would end the period.
        if !self.is_active() {
            // Before the bit: who sees it waits for no period that did not wait so far.
            self.raise(self.domain().sequence(Acquire));
        }
        self.block().arrive(self.index(), locks);
        // No fence: a reader that was not waited for is in the cold mode, and the fence of its first
        // section, in `lock_slow`, stands between the bit and what that section reads.
    }

    fn go_offline(&self) {
        // First: a handler's section between the next two lines would leave the cold mode, and
        // sections in the fast mode do not come online. The release in `enter_cold_mode` keeps the order.
        self.said_offline.store(true, Relaxed);
        self.enter_cold_mode();
        self.block().depart(self.index());
        // Pairs with the fence in `laggard_of` of whoever starts a period: either that scan sees
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
        if !self.is_active() {
            self.come_online(false);
        }
    }

    pub(crate) fn has_locked(&self) -> bool {
        self.has_locked.load(Relaxed)
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.said_offline.load(Relaxed) && !self.is_active()
    }

    pub(crate) fn is_parked(&self) -> bool {
        !self.said_offline.load(Relaxed) && !self.is_active()
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

    /// The rest of [`lock_raw`](Self::lock_raw) for callers that have spelled its increment themselves
    /// (`arch.rs`), where it did not come out positive.
    ///
    /// # Safety
    /// As `lock_raw`.
    pub unsafe fn lock_rare_raw(&self) {
        self.lock_slow();
    }

    /// Notes where the section that the calling thread has just opened began, if it is the outermost one: an
    /// address in its program. For [`Stall::began`](crate::Stall::began).
    ///
    /// # Safety
    /// As `lock_raw`.
    pub unsafe fn note_began_raw(&self, place: usize) {
        if self.depth() == 1 {
            self.began_turn.store(self.turn.load(Relaxed), Relaxed);
            self.began.store(place, Relaxed);
        }
    }

    /// The rest of [`unlock_raw`](Self::unlock_raw), likewise: of an outermost unlock, whose turn came out as
    /// 0, or of one whose decrement did not.
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
        self.block().free(self.index());
    }
}
