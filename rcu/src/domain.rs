//! The domain: the sequence, who starts a period and who ends it.
//!
//! Nobody owns the sequence and no thread is needed to drive it. Any thread may start a period (a
//! compare-and-swap of the sequence from even to odd) and any thread may end it (odd to even) once a
//! scan has found every reader settled. Scans are idempotent and race freely; the swap decides.
//!
//! **Why a scan that ends a period cannot miss a reader.** A writer unlinks a block, executes a full
//! fence (in `snapshot`) and reads the sequence; the period that its cookie needs starts later. A
//! scanner of that period reads the sequence, then executes a full fence (head of `laggard_of`), then looks
//! at the readers. A reader that registers, comes online or was parked sets its bit, executes a full fence in
//! its first section's `lock_slow`, then reads. Fences are totally ordered: if the reader's comes first, the
//! scanner sees the reader; if the writer's comes first, the reader does not find the block. The writer's
//! comes before the scanner's, so one of the two holds. It holds for each look by itself, so a scan may go on
//! where another thread's of the same period stopped (`readers.rs`).
//!
//! **Why the last announcement always ends the period.** Every announcer stores its announcement,
//! executes the fence at the head of `laggard_of`, and scans until the first reader that is not
//! settled. Order the announcers by their fences: the last one sees the stores of all the others, so
//! its scan runs to the end. Going offline, exiting, parking and announcing for another follow
//! the same rule: the bit or the announcement first, then the fence, then the scan. Where a scan begins makes
//! no difference to this: it begins late only where those before were settled, and who is settled for a
//! period stays it or arrives anew, and then announces itself once more.
//!
//! The readers are in `readers.rs`, waiting in `wait.rs`.

use core::sync::atomic::AtomicPtr as PlainPtr;
use core::sync::atomic::AtomicU64 as PlainU64;

use crate::block::ReaderBlock;
use crate::cell::ReaderCell;
use crate::clock;
use crate::cookie::{Cookie, in_flight};
use crate::counters::{Recorder, TIMED};
use crate::demand::Demand;
use crate::expedite::{Asks, Gate};
use crate::membarrier::Barrier;
use crate::misuse::Misuse;
use crate::stall::Stalled;
use crate::summary::{SLOTS, Summary};
use crate::sync::{
    AtomicPtr, AtomicU32, AtomicU64, Ordering,
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    const_unless_loom, fence,
};

/// One independent set of readers and grace periods. Make it a `static`.
#[repr(C, align(64))]
pub struct Domain {
    /// See `cookie.rs`. Alone on its cache line: every slow path of every thread reads it.
    sequence: AtomicU64,
    pub(crate) edges: Edges,
    pub(crate) scans: Scans,
    /// Read by every scan, written when a reader comes or goes.
    pub(crate) summary: Summary,
    pub(crate) blocks: [AtomicPtr<ReaderBlock>; SLOTS],
    pub(crate) settings: Settings,
    pub(crate) recorder: Recorder,
}

/// Written about once a period, by those who begin and end it.
#[repr(C, align(64))]
pub(crate) struct Edges {
    /// The largest cookie sequence that `start_poll` promised. At most one period beyond the next.
    pub(crate) needed: AtomicU64,
    /// When the youngest period began, or somebody last tried to begin one: ns of the monotonic clock, to the
    /// tick of the coarse one unless the period is timed.
    started_at: PlainU64,
}

/// Written by scans and expedites that find something new.
#[repr(C, align(64))]
pub(crate) struct Scans {
    /// The reader at which the last scan stopped, or null. Never relied on, so not a loom atomic.
    pub(crate) laggard: PlainPtr<ReaderCell>,
    /// The youngest period in which every thread has executed a heavy barrier.
    pub(crate) barrier_in: AtomicU64,
    pub(crate) gate: Gate,
}

/// Read by slow paths, hardly ever written.
#[repr(C, align(64))]
pub(crate) struct Settings {
    pub(crate) barrier: Barrier,
    tag: u8,
    pub(crate) misuse_handler: PlainPtr<()>,
    pub(crate) first_lock_hook: PlainPtr<()>,
    pub(crate) unlock_hook: PlainPtr<()>,
}

const _: () = {
    assert!(core::mem::offset_of!(Domain, sequence) == 0);
    assert!(core::mem::offset_of!(Domain, edges) == 64 || cfg!(loom));
    assert!(core::mem::offset_of!(Domain, scans) == 128 || cfg!(loom));
    assert!(core::mem::offset_of!(Domain, summary) == 192 || cfg!(loom));
    assert!(core::mem::offset_of!(Domain, blocks) == 256 || cfg!(loom));
};

impl Domain {
    const_unless_loom! {
        /// A domain without readers, idle. `tag` tells its cookies from those of other domains of the
        /// process: choose it unique, and not 0.
        #[must_use]
        pub fn new(tag: u8) -> Domain {
            assert!(tag != 0, "tag 0 is what a cookie that nobody handed out would carry");
            Domain {
                sequence: AtomicU64::new(0),
                edges: Edges { needed: AtomicU64::new(0), started_at: PlainU64::new(0) },
                scans: Scans {
                    laggard: PlainPtr::new(core::ptr::null_mut()),
                    barrier_in: AtomicU64::new(0),
                    gate: Gate(AtomicU32::new(0)),
                },
                summary: Summary::new(),
                blocks: nothing(),
                settings: Settings {
                    barrier: Barrier::new(),
                    tag,
                    misuse_handler: PlainPtr::new(core::ptr::null_mut()),
                    first_lock_hook: PlainPtr::new(core::ptr::null_mut()),
                    unlock_hook: PlainPtr::new(core::ptr::null_mut()),
                },
                recorder: Recorder::new(),
            }
        }
    }

    /// Tests whether membarrier can be trusted and registers for it. Until then, and where it
    /// cannot, readers execute a fence at every outermost lock. Idempotent; any thread, any time.
    pub fn init(&self) {
        self.settings.barrier.probe();
    }

    /// As [`init`](Domain::init), for a process that must not use membarrier.
    pub fn init_without_membarrier(&self) {
        self.settings.barrier.give_up();
    }

    /// True where readers execute a fence at every outermost lock because membarrier is absent,
    /// refused, found lying, or not probed yet.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.settings.barrier.is_fenced()
    }

    // ---- cookies ----

    pub(crate) fn sequence(&self, order: Ordering) -> u64 {
        self.sequence.load(order)
    }

    /// A cookie that elapses when a whole grace period has passed. Does not start one: somebody must
    /// ask for it later ([`start_poll`](Domain::start_poll), [`advance`](Domain::advance)) or it may
    /// never elapse. The kernel's `get_state_synchronize_rcu()`. One full fence and one load; any thread.
    #[must_use]
    pub fn snapshot(&self) -> Cookie {
        // What the caller unlinked before, no section that begins in a period that starts after the
        // load below can find. Pairs with the fences listed at the head of this file.
        fence(SeqCst);
        Cookie::after(self.sequence(Acquire), self.settings.tag)
    }

    /// A cookie that elapses when a whole grace period has passed, and the promise that this
    /// period starts as soon as the one in flight, if any, has ended. Never blocks; any thread.
    #[must_use]
    pub fn start_poll(&self) -> Cookie {
        // Before the fence in `snapshot`, and the sequence behind it: that one fence also stands where
        // `ensure` would need one. A need that is read here and a period still in flight behind the
        // fence mean that whoever ends this period, with a fence between its swap and its look at
        // `needed`, sees the need. (Idle, it would prove nothing: who wrote it may not have looked yet.)
        let promised = self.edges.needed.load(Relaxed);
        fence(SeqCst); // as in `snapshot`
        let sequence = self.sequence(Acquire);
        let cookie = Cookie::after(sequence, self.settings.tag);
        if !in_flight(sequence) || promised < cookie.sequence() {
            self.ensure(cookie);
        }
        cookie
    }

    /// As [`start_poll`](Domain::start_poll), and asks for the period to end now. Never blocks: where readers
    /// are in sections, whoever asks later ends it.
    #[must_use]
    pub fn start_poll_expedited(&self) -> Cookie {
        let cookie = self.start_poll();
        self.advance(Demand::Expedite);
        cookie
    }

    /// A cookie that has elapsed: for what nobody can hold a reference to, so that it needs no case of its
    /// own.
    #[must_use]
    pub const fn get_completed(&self) -> Cookie {
        Cookie::elapsed(self.settings.tag)
    }

    /// True if the grace period of `cookie` has passed. One load and a comparison; any thread, any
    /// context. A cookie of another domain, or one that lies further ahead than any handed out, is misuse
    /// and answers false.
    #[inline]
    #[must_use]
    pub fn poll(&self, cookie: Cookie) -> bool {
        self.has_passed(cookie) || {
            self.check(cookie);
            false
        }
    }

    /// As [`poll`](Domain::poll), of a cookie that is known to be this domain's.
    #[inline]
    pub(crate) fn has_passed(&self, cookie: Cookie) -> bool {
        // Acquire pairs with the release in `complete`: every section that the period waited for
        // happened before the caller reuses the memory.
        cookie.tag() == self.settings.tag && self.sequence(Acquire) >= cookie.sequence()
    }

    /// True if this domain may have handed `cookie` out.
    pub(crate) fn issued(&self, cookie: Cookie) -> bool {
        let newest = Cookie::after(self.sequence(Acquire), self.settings.tag);
        cookie.tag() == self.settings.tag && cookie.sequence() <= newest.sequence() && cookie.is_even()
    }

    #[cold]
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    fn check(&self, cookie: Cookie) {
        if !self.issued(cookie) {
            self.misuse(Misuse::StrangeCookie { cookie, tag: self.settings.tag });
        }
    }

    // ---- starting and ending periods ----

    /// Makes sure that a period that fulfils `cookie` is in flight or will start by itself.
    pub(crate) fn ensure(&self, cookie: Cookie) {
        let target = cookie.sequence();
        if self.edges.needed.load(Relaxed) < target {
            self.edges.needed.fetch_max(target, Relaxed);
        }
        // Between the store to `needed` and the load of the sequence; pairs with the second fence of
        // `try_complete`, between the store to the sequence and the load of `needed`: either whoever
        // ends the period in flight sees our need, or we see that it has ended.
        fence(SeqCst);
        let sequence = self.sequence(Acquire);
        if sequence < target && !in_flight(sequence) {
            self.start(sequence);
        }
    }

    /// Starts the period after the idle `sequence`, and ends it at once if nobody is in the way.
    pub(crate) fn start(&self, sequence: u64) {
        if self.begin(sequence) {
            self.try_complete(sequence + 1);
        }
    }

    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    fn begin(&self, sequence: u64) -> bool {
        // Before the swap, or `stalled` could see the new period with the age of the one before; a
        // maximum, or a thread that is late with an old time could make a young period look stalled.
        let now = if is_timed(sequence) { clock::now_ns() } else { clock::coarse_ns() };
        if self.edges.started_at.load(Relaxed) < now {
            self.edges.started_at.fetch_max(now, Relaxed);
        }
        // Nothing is handed over here: the fences do that. The acquire half keeps what ended the periods
        // so far behind us, the release half passes it and `started_at` on.
        self.sequence.compare_exchange(sequence, sequence + 1, AcqRel, Relaxed).is_ok()
    }

    /// Ends `period`, and those that follow it by demand, if every reader is settled. True if one ended.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    pub(crate) fn try_complete(&self, period: u64) -> bool {
        let mut period = period;
        let mut ended = false;
        loop {
            // Begins with a fence; see the head of this file: behind the caller's announcement and behind the
            // load that found `period` in flight, before the scan.
            if self.laggard_of(period).is_some() || !self.complete(period) {
                return ended;
            }
            ended = true;
            // Pairs with the fence in `ensure`.
            fence(SeqCst);
            if self.edges.needed.load(Relaxed) <= period + 1 || !self.begin(period + 1) {
                return ended;
            }
            period += 2;
        }
    }

    /// Ends the period in flight, if there is one and every reader is settled.
    pub(crate) fn end_if_settled(&self) {
        let sequence = self.sequence(Acquire);
        if in_flight(sequence) {
            self.try_complete(sequence);
        }
    }

    fn complete(&self, period: u64) -> bool {
        let started_at = self.edges.started_at.load(Relaxed);
        // Release pairs with `poll`; acquire is the scan's: each settled reader's sections happened
        // before, through the acquire load of its state.
        if self.sequence.compare_exchange(period, period + 1, AcqRel, Relaxed).is_err() {
            return false;
        }
        if is_timed(period) {
            self.recorder.timed(started_at, clock::now_ns());
        }
        true
    }

    // ---- waiting ----

    /// Moves grace periods along as the caller's backlog demands. Never blocks; safe inside a section
    /// (a period that waits for the caller's own section does not end then). True if a period ended.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    pub fn advance(&self, demand: Demand) -> bool {
        let mut sequence = self.sequence(Acquire);
        if demand == Demand::None {
            return false;
        }
        if !in_flight(sequence) {
            if !self.begin(sequence) {
                return false; // somebody else just did
            }
            sequence += 1;
        }
        match demand {
            Demand::Park => self.expedite(sequence, Asks::Nobody),
            Demand::Expedite => self.expedite(sequence, Asks::Explicit),
            _ => self.try_complete(sequence),
        }
    }

    // ---- looking ----

    /// The readers that have held the period in flight up for at least `limit_ns` at `now_ns` (both ns
    /// of `CLOCK_MONOTONIC`; when it began is known to a tick of the kernel's, so it may be 10 ms older).
    /// Empty while no period is in flight. Does not allocate or block.
    #[must_use]
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_solo"))]
    pub fn stalled(&self, now_ns: u64, limit_ns: u64) -> Stalled<'_> {
        let sequence = self.sequence(Acquire);
        // A lower bound: the coarse clock may have been a tick late.
        let late = if is_timed(sequence) { 0 } else { clock::LONGEST_TICK_NS };
        let age_ns = now_ns.saturating_sub(self.edges.started_at.load(Relaxed) + late);
        let held_up = in_flight(sequence) && age_ns >= limit_ns;
        Stalled::new(held_up.then(|| self.lagging(sequence, None)), age_ns)
    }

    /// What has been counted so far.
    #[must_use]
    pub fn counters(&self) -> crate::Counters {
        self.recorder.read(self.sequence(Relaxed))
    }

    /// The latency in ns, from its start to its end, below or at which `fraction` (0 to 1) of the periods
    /// that were timed (one in eight) lie, rounded up to the end of its bucket; `None` if there was none.
    #[must_use]
    pub fn latency(&self, fraction: f64) -> Option<u64> {
        self.recorder.quantile(fraction)
    }

    /// Of the histogram of latencies, bucket number `bucket` of [`BUCKETS`](crate::BUCKETS): the largest
    /// latency in ns that falls into it, and how many did.
    #[must_use]
    pub fn latency_bucket(&self, bucket: usize) -> Option<(u64, u64)> {
        self.recorder.bucket(bucket)
    }
}

#[cfg(not(loom))]
const fn nothing() -> [AtomicPtr<ReaderBlock>; SLOTS] {
    [const { AtomicPtr::new(core::ptr::null_mut()) }; SLOTS]
}

#[cfg(loom)]
fn nothing() -> [AtomicPtr<ReaderBlock>; SLOTS] {
    core::array::from_fn(|_| AtomicPtr::new(core::ptr::null_mut()))
}

/// Whether the period that begins behind `sequence`, or that `sequence` is, is timed.
fn is_timed(sequence: u64) -> bool {
    (sequence / 2).is_multiple_of(TIMED)
}
