//! The shelf: those of a thread's magazines that others may take.
//!
//! Waiting and full magazines belong to a thread for speed, not for good: a thread that sleeps
//! for ever must not keep them (`producer_consumer_idle_owner`). So they lie on a shelf that one
//! thread at a time has open, the owner or a taker. Nobody ever waits for it on a path of malloc
//! or free: an owner that finds a taker at its shelf goes to the depot for this once, a taker that
//! finds it open goes on to the next one (`takers.rs`). Opening is one exchange, closing one store, once a
//! turn. How much a thread may keep on it is in `shares.rs`.

use crate::cache::ready::Ready;
use crate::class::backlog;
use crate::class::group::Group;
use crate::class::large_batch::Freed;
use crate::class::lists::Stack;
use crate::class::magazine::Magazine;
use crate::class::queue::Queue;
use crate::class::size_class::{CLASSES, Class};
use crate::os::tls::thread_pointer;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What lies on a shelf.
#[repr(C)]
pub struct Contents {
    /// Bytes of the blocks in full magazines.
    full_bytes: usize,
    /// Sealed groups.
    pub waiting: Queue<Group>,
    /// Magazines whose blocks may be handed out, marked in, by class.
    full: [Stack; CLASSES],
    /// Large blocks; not among the bytes above: those that may be handed out, ...
    pub ready: Ready,
    /// ... and closed batches of them that wait.
    pub large: Queue<Freed>,
}

const CLOSED: usize = 0;
const BY_OWNER: usize = 1;
/// The rest of the word is the taker's thread pointer, a multiple of 8.
const BY_TAKER: usize = 2;
/// Open for somebody whom the child of a fork does not have, or for a frame that is gone.
const LEFT_OPEN: usize = 3;
/// The state is these bits.
const STATE: usize = 7; // (given) as an encoding

fn by_taker() -> usize {
    thread_pointer() | BY_TAKER
}

/// Bytes on a shelf, for statistics.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    /// In small blocks that may be handed out.
    pub full: usize,
    /// In small blocks that wait.
    pub waiting: usize,
    /// In large blocks that may be handed out.
    pub ready: usize,
    /// In large blocks that wait.
    pub large_waiting: usize,
}

/// A thread's shelf. All zero bytes are an empty, closed one.
#[repr(C)]
pub struct Shelf {
    open: AtomicUsize,
    /// The owner's turns when a taker last looked, by whether it came for age. Takers only.
    seen: [AtomicU64; 2],
    contents: UnsafeCell<Contents>,
}

/// An open shelf; closes when dropped.
pub struct Open<'a>(&'a Shelf);

impl Shelf {
    #[inline(always)]
    fn open_by(&self, who: usize) -> Option<Open<'_>> {
        // Acquire: pairs with the Release in `drop`: what the last one did is seen.
        let got = self.open.compare_exchange(CLOSED, who, Ordering::Acquire, Ordering::Relaxed).is_ok();
        got.then(|| Open(self))
    }

    /// Opens it for its owner; `None` while a taker is at it.
    #[inline(always)]
    pub fn open(&self) -> Option<Open<'_>> {
        self.open_by(BY_OWNER)
    }

    /// Opens it for its owner, waiting for a taker to be done (some 100 ns, unless preempted).
    pub fn open_waiting(&self) -> Open<'_> {
        loop {
            if let Some(open) = self.open() {
                return open;
            }
            // SAFETY: gives the processor away, nothing else.
            let _ = unsafe { crate::os::syscall::syscall(libc::SYS_sched_yield, [0; 6]) };
        }
    }

    /// In the child of a fork, where no taker is left: the forking thread's own shelf, which that
    /// thread itself may have open (it may have been interrupted by the handler that forks).
    pub fn close_after_taker(&self) {
        if self.open.load(Ordering::Relaxed) & STATE == BY_TAKER {
            self.open.store(CLOSED, Ordering::Release);
        }
    }

    /// The calling thread was at it, in a frame that is gone, as a taker: what lies on it may be torn and
    /// belongs to nobody.
    pub fn let_go_of_own(&self) {
        if self.open.load(Ordering::Relaxed) == by_taker() {
            let mut open = Open(self);
            backlog::settle(open.waiting.bytes.saturating_add(open.large.bytes));
            open.forget();
        }
    }

    /// In the only thread of a forked child: the shelf of a thread that is gone. If it was open, what lies on
    /// it may be torn, and nobody touches it but who takes the cache over.
    pub fn leave_behind(&self) {
        if self.open.load(Ordering::Relaxed) != CLOSED {
            self.open.store(LEFT_OPEN, Ordering::Relaxed);
        }
    }

    /// Its owner had it open in a frame that is gone: as [`leave_behind`](Self::leave_behind), but a taker
    /// may be at it, which will close it.
    pub fn leave_own_behind(&self) {
        // Relaxed: nobody but the calling thread stores or clears this.
        let _ = self.open.compare_exchange(BY_OWNER, LEFT_OPEN, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whoever has taken over a cache that was left behind closes its shelf.
    pub fn close_abandoned(&self) {
        if self.open.load(Ordering::Relaxed) == LEFT_OPEN {
            self.open.store(CLOSED, Ordering::Release);
        }
    }

    /// Bytes of large blocks on it that are ready or wait, and how many it has handed out; stale figures for
    /// statistics.
    pub fn held_large(&self) -> (usize, u64) {
        // SAFETY: aligned words of type-stable memory; the owner may be writing them.
        unsafe {
            let ready = &raw const (*self.contents.get()).ready;
            let waiting = (&raw const (*self.contents.get()).large.bytes).read_volatile();
            let bytes = (&raw const (*ready).bytes).read_volatile().wrapping_add(waiting);
            (bytes, (&raw const (*ready).reused).read_volatile())
        }
    }

    /// Bytes of small blocks on it; a stale figure for statistics.
    pub fn held(&self) -> usize {
        let figures = self.figures();
        figures.full.wrapping_add(figures.waiting)
    }

    /// What lies on it, by kind.
    pub fn figures(&self) -> Figures {
        let contents = self.contents.get();
        // SAFETY: aligned words of type-stable memory; the owner may be writing them.
        unsafe {
            Figures {
                full: (&raw const (*contents).full_bytes).read_volatile(),
                waiting: (&raw const (*contents).waiting.bytes).read_volatile(),
                ready: (&raw const (*contents).ready.bytes).read_volatile(),
                large_waiting: (&raw const (*contents).large.bytes).read_volatile(),
            }
        }
    }

    /// Blocks of `class` in full magazines on it; a stale figure for statistics.
    pub fn full_blocks(&self, class: Class) -> usize {
        // SAFETY: a list in type-stable memory; the owner may be changing it.
        unsafe { Stack::peek_blocks(&raw const (*self.contents.get()).full[class.index()]) }
    }

    /// Opens it for a taker; `None` while somebody has it open.
    pub fn open_by_taker(&self) -> Option<Open<'_>> {
        self.open_by(by_taker())
    }

    /// The owner's turns when a taker last came, for age or for memory; now it has been seen with so many.
    pub fn note_seen(&self, for_age: bool, turns: u64) -> u64 {
        self.seen[usize::from(for_age)].swap(turns, Ordering::Relaxed)
    }

    /// Opens it for somebody who looks, as a taker does; `None` while somebody has it open.
    pub fn open_to_look(&self) -> Option<Open<'_>> {
        self.open_by(BY_TAKER)
    }
}

impl Deref for Open<'_> {
    type Target = Contents;
    #[inline(always)]
    fn deref(&self) -> &Contents {
        // SAFETY: one thread at a time has it open.
        unsafe { &*self.0.contents.get() }
    }
}

impl DerefMut for Open<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Contents {
        // SAFETY: one thread at a time has it open, and the guard is borrowed mutably.
        unsafe { &mut *self.0.contents.get() }
    }
}

impl Drop for Open<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next to open it.
        self.0.open.store(CLOSED, Ordering::Release);
    }
}

impl Contents {
    /// Bytes of all small blocks on it.
    #[inline(always)]
    pub fn held(&self) -> usize {
        self.full_bytes + self.waiting.bytes
    }

    /// The full magazines of `class`.
    #[inline(always)]
    pub fn full(&self, class: Class) -> &Stack {
        &self.full[class.index()]
    }

    /// Takes a full magazine of `class`.
    #[inline(always)]
    pub fn pop_full(&mut self, class: Class) -> Option<Magazine> {
        let magazine = self.full[class.index()].pop()?;
        // Wrapping: as in `Queue::pop`.
        self.full_bytes = self.full_bytes.wrapping_sub(magazine.bytes());
        Some(magazine)
    }

    /// Adds a magazine whose blocks may be handed out, marked in. One with few blocks may be poured into the
    /// one on top; then it comes back, empty.
    #[inline]
    pub fn push_full(&mut self, magazine: Magazine) -> Option<Magazine> {
        self.full_bytes += magazine.bytes();
        self.full[magazine.class().index()].pour(magazine)
    }

    /// As [`push_full`](Self::push_full), as it is.
    #[inline]
    pub fn push_full_whole(&mut self, magazine: Magazine) {
        self.full_bytes += magazine.bytes();
        self.full[magazine.class().index()].push(magazine);
    }

    /// In the child of a fork: lists that a thread which is gone may have been changing are forgotten.
    pub fn forget(&mut self) {
        self.full_bytes = 0;
        self.waiting = Queue::EMPTY;
        self.full = [const { Stack::new() }; CLASSES];
        let reused = self.ready.reused;
        self.ready = Ready::EMPTY;
        self.ready.reused = reused;
        self.large = Queue::EMPTY;
    }
}
