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
//! | owner's | `nest`, `turn` | increments at every section (`arch.rs`) | read them, after a heavy barrier |
//! | | `domain`, `said_offline` | on- and offline | – |
//! | others' | `announced` | raises it: announcements, coming online | an expediter: for an explicit reader |
//! | | `parked` | lowers it when it comes back | an expediter raises it, having cleared the active bit |
//! | | `seen`, `looked_at`, `ran_ns` | – | expediters: what they found (`expedite.rs`, `asleep.rs`) |
//! | | `reached` | – | scanners: all cells before this one need not be waited for (`readers.rs`) |
//! | | `block`, `index`, `tid` | – | who registers the reader |
//!
//! A reader is *settled* for period `s`, that is, `s` need not wait for it, if its active bit in the block is
//! clear or it has announced `s` or later. What is announced only grows: `announced` is changed by taking the
//! maximum, so an announcement that a signal handler or an expediter overtook takes nothing back.
//!
//! What the owner does, but for the two fast paths, is in `owner.rs`; here is what others ask and do.

use crate::block::ReaderBlock;
use crate::cookie::Cookie;
use crate::domain::Domain;
use crate::sync::{
    self, AtomicBool, AtomicI32, AtomicPtr, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    const_unless_loom,
};
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool as PlainBool, AtomicI32 as PlainI32, AtomicUsize as PlainUsize};
use core::sync::atomic::{AtomicPtr as PlainPtr, AtomicU32 as PlainU32, AtomicU64 as PlainU64};

/// What `nest` idles at in the cold mode.
pub(crate) const BIAS: i32 = i32::MIN / 2;
/// What it idles at where an expediter has asked for the cold mode. The owner takes it for `BIAS`; other
/// expediters take it for no proof that the owner knows.
pub(crate) const ASKED: i32 = i32::MIN / 4 * 3;
/// Sections can nest this deep; a decrement too many lands outside, whatever it began at.
pub(crate) const MAX_NESTING: i32 = 1 << 28;
/// Outermost unlocks between two announcements that a reader makes of its own accord, so that periods
/// end without a membarrier even where a thread does nothing but read. 1024 spread the cost of one
/// announcement (tens of ns) below what a clock can see.
pub(crate) const TURN: i32 = if cfg!(loom) { 2 } else { 1024 };

/// The depth of the section that a value of `nest` stands for.
pub(crate) const fn depth(nest: i32) -> i32 {
    nest.wrapping_sub(base(nest))
}

/// What `nest` idles at, by the mode that its value stands for.
pub(crate) const fn base(nest: i32) -> i32 {
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
    pub(crate) has_locked: AtomicBool,
    /// The owner said `offline`, from just before its bit is cleared until `online`: a section opened
    /// meanwhile stays in the cold mode and goes back offline at its end. Owner only.
    pub(crate) said_offline: AtomicBool,
    // What follows says where sections began, for those who look for stalls; it orders nothing and is not
    // loom's.
    /// Somebody found the reader stalling: for a while its sections begin in the cold mode, and say where.
    pub(crate) watched: PlainBool,
    /// The value of `turn` in the section that `began` is of.
    pub(crate) began_turn: PlainI32,
    /// Where the section began, as its caller says; 0: it has not been said.
    pub(crate) began: PlainUsize,
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

    pub(crate) fn domain(&self) -> &'static Domain {
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
            sync::fence(sync::Ordering::SeqCst);
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

    /// Whether the section that the reader is in is known to have begun after `cookie` was taken: what was
    /// unlinked before that it must not have found. False proves nothing. By the reader's thread.
    ///
    /// Whatever raises `announced` to a period does so because the reader was in no section at a moment since
    /// that period began; the period that ends at the cookie began after it was taken.
    #[must_use]
    pub fn began_after(&self, cookie: Cookie) -> bool {
        // A cookie is an even number, the end of its period.
        self.has_announced(cookie.sequence().saturating_sub(1))
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

    // ---- what expediters do ----

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

    pub(crate) fn has_locked(&self) -> bool {
        self.has_locked.load(Relaxed)
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.said_offline.load(Relaxed) && !self.is_active()
    }

    pub(crate) fn is_parked(&self) -> bool {
        !self.said_offline.load(Relaxed) && !self.is_active()
    }
}
