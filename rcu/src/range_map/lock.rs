//! The lock that is also a sequence count: of a map's structure, and of each mapping.
//!
//! One word: bit 0, held; bit 1, somebody may be asleep; above them, how often it has been let go. A reader
//! who takes no lock looks at the word before and after: held, or not the same, and what was read in
//! between may be half of a change. A holder who changed nothing lets go with a new count all the same: a
//! reader may find a lock held, or changed, that was not (and takes the next stage), never the reverse. 62
//! bits are left for the count: it does not come round.
//!
//! It spins a little, then sleeps as [`Sleep`] does it. Neither fair nor recursive.

use core::marker::PhantomData;

use crate::kernel;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU64, const_unless_loom, fence, relax};

const HELD: u64 = 1;
const WAITED: u64 = 2;
const ONCE: u64 = 4;

/// Tries before sleeping: what most locks of this kind protect takes 100 ns.
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };

/// How a thread waits for a word of memory to change.
pub trait Sleep {
    /// Sleeps while the word holds `seen`. May return early.
    ///
    /// # Safety
    /// `word` is an atomic word that stays mapped.
    unsafe fn wait(word: *const u32, seen: u32);
    /// Wakes one who sleeps on the word.
    ///
    /// # Safety
    /// As [`wait`](Sleep::wait).
    unsafe fn wake(word: *const u32);
}

/// [`Sleep`] by the system call `futex`, where there is one; elsewhere by looking again from time to time.
pub struct Futex;

impl Sleep for Futex {
    unsafe fn wait(word: *const u32, seen: u32) {
        // SAFETY: the caller keeps the word mapped.
        unsafe { kernel::wait(word, seen) };
    }

    unsafe fn wake(word: *const u32) {
        kernel::wake(word);
    }
}

/// A lock and a sequence count in one word.
pub struct SequenceLock<S = Futex> {
    word: AtomicU64,
    sleep: PhantomData<fn() -> S>,
}

impl<S: Sleep> SequenceLock<S> {
    const_unless_loom! {
        /// Not held.
        #[must_use]
        pub fn new() -> Self {
            SequenceLock { word: AtomicU64::new(0), sleep: PhantomData }
        }
    }

    /// The count, if nobody holds the lock: what is read from now on is whole if it is still
    /// [`unchanged`](Self::unchanged) afterwards.
    #[inline]
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        // Acquire: pairs with the release in `unlock`; the last holder's changes are seen.
        let word = self.word.load(Acquire);
        (word & HELD == 0).then_some(word)
    }

    /// True if nobody has taken the lock since it gave this count.
    #[inline]
    #[must_use]
    pub fn unchanged(&self, count: u64) -> bool {
        // Pairs with the fence of a taker: if a load before it saw a change, the load behind sees it held.
        fence(Acquire);
        self.word.load(Relaxed) == count
    }

    /// Takes the lock, waiting for it if need be.
    #[inline]
    pub fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    /// Takes the lock if nobody holds it.
    #[inline]
    #[must_use]
    pub fn try_lock(&self) -> bool {
        self.count().is_some_and(|count| self.take(count, HELD))
    }

    /// Takes the lock if its count is still this one.
    #[inline]
    #[must_use]
    pub(crate) fn lock_at(&self, count: u64) -> bool {
        self.take(count, HELD)
    }

    #[inline]
    fn take(&self, seen: u64, as_what: u64) -> bool {
        // Acquire: pairs with the release in `unlock`.
        let taken = self.word.compare_exchange(seen, seen | as_what, Acquire, Relaxed).is_ok();
        // No change of ours becomes visible before the word: pairs with the fence in `unchanged`.
        fence(Release);
        taken
    }

    #[cold]
    fn lock_slow(&self) {
        for _ in 0..SPINS {
            relax();
            if self.try_lock() {
                return;
            }
        }
        loop {
            let word = self.word.load(Relaxed);
            if word & HELD == 0 {
                // We may have slept beside others: one call to wake too many rather than one too few.
                if self.take(word, HELD | WAITED) {
                    return;
                }
            } else if word & WAITED != 0
                || self.word.compare_exchange(word, word | WAITED, Relaxed, Relaxed).is_ok()
            {
                self.sleep(word | WAITED);
            }
        }
    }

    /// Lets go.
    ///
    /// # Safety
    /// The caller holds the lock, or is the only thread of a forked child in whose parent the forking thread
    /// held it.
    #[inline]
    pub unsafe fn unlock(&self) {
        // Others change only the mark of who waits, which goes with the lock.
        let count = self.word.load(Relaxed) & !(HELD | WAITED);
        // Release: pairs with whoever takes the lock or its count next.
        if self.word.swap(count.wrapping_add(ONCE), Release) & WAITED != 0 {
            self.wake();
        }
    }

    #[cfg(not(loom))]
    fn sleep(&self, word: u64) {
        // SAFETY: the low half of the word, which comes first on this processor and lives as long as we.
        unsafe { S::wait(self.word.as_ptr().cast(), word as u32) }
    }

    #[cfg(not(loom))]
    #[cold]
    fn wake(&self) {
        // SAFETY: as above. Whoever took the lock meanwhile may have ended its life: what remains is an
        // address that the kernel looks up among sleepers.
        unsafe { S::wake(self.word.as_ptr().cast()) }
    }

    #[cfg(loom)]
    fn sleep(&self, _word: u64) {
        relax();
    }

    #[cfg(loom)]
    fn wake(&self) {}
}

impl<S: Sleep> Default for SequenceLock<S> {
    fn default() -> Self {
        Self::new()
    }
}
