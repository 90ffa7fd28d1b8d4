//! `Lock<T>`: a mutex on one word, for the slow paths.
//!
//! It never allocates and never calls libc, so it works before libc does. It spins a little,
//! because what it protects takes about 100 ns, then sleeps in the kernel. It is not fair and not recursive.
//!
//! The word is 0, or who holds it and how: the holder's thread pointer, which no other living thread that
//! shares this
//! memory has, with a state in its lowest bits. So the child of a fork can tell what it was left with:
//!
//! - free, or *at rest*: held for the fork, so that the value is consistent
//!   ([`hold_for_fork`](Lock::hold_for_fork));
//! - held by the very thread that forked, in a signal handler: what was interrupted goes on;
//! - held by a thread that the child does not have: the value is torn.
//!
//! Holding a lock for a fork is a courtesy to the child and not an exclusion for the parent. Behind the
//! handlers libc's fork
//! takes locks of its own (of streams, of name services), and who holds those may want the heap: if such a
//! thread waited for the fork, both would wait for ever. So it waits for [`FORK_PATIENCE_NS`] and then takes
//! the
//! lock away from the fork, whose child finds the value consistent all the same, unless it was made in that
//! very moment.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicUsize};

use super::syscall::{futex_wait_low, futex_wake_low};
use super::tls::thread_pointer;
use crate::constants::{FORK_PATIENCE_NS, LOCK_SPINS};

const FREE: usize = 0;
/// Held.
const HELD: usize = 1;
/// Held, and somebody may be asleep.
const WAITED: usize = 2;
/// Held for a fork.
const AT_REST: usize = 3;
/// The same, and somebody may be asleep.
const REST_WAITED: usize = 4;
/// The state is these bits; a thread pointer is a multiple of 8.
const STATE: usize = 7; // (given) as an encoding

/// Somebody has waited for a fork for long enough: nobody else waits until the next one. Relaxed: it steers.
static IMPATIENT: AtomicBool = AtomicBool::new(false);

/// A fork begins, for which locks will be held.
pub fn fork_begins() {
    IMPATIENT.store(false, Relaxed);
}

/// A value and the lock that guards it.
#[repr(C)]
pub struct Lock<T> {
    word: AtomicUsize,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and one guard exists at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

/// Proof that the lock is held; lets go of it when dropped.
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

/// In what state the only thread of a forked child finds a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    /// Nobody is changing the value.
    Whole,
    /// The calling thread is, in a frame that goes on.
    Own,
    /// A thread was that is not here.
    Torn,
}

impl<T> Lock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Lock<T> {
        Lock { word: AtomicUsize::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, waiting for it if need be.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        let own = thread_pointer();
        // Acquire: pairs with the Release in `unlock`, the last holder's writes are seen.
        if self.word.compare_exchange(FREE, own | HELD, Acquire, Relaxed).is_err() {
            self.lock_slow(own);
        }
        Guard { lock: self }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        // Acquire: as in `lock`.
        let got = self.word.compare_exchange(FREE, thread_pointer() | HELD, Acquire, Relaxed).is_ok();
        got.then(|| Guard { lock: self }) // lazily: a guard that is dropped unlocks
    }

    #[cold]
    #[unsafe(link_section = ".text_threads")]
    fn lock_slow(&self, own: usize) {
        for _ in 0..LOCK_SPINS {
            core::hint::spin_loop();
            if self.word.load(Relaxed) == FREE
                && self.word.compare_exchange(FREE, own | HELD, Acquire, Relaxed).is_ok()
            {
                return;
            }
        }
        // From here on we may have slept beside others, so we take it as WAITED: our unlock
        // makes one wake call too many rather than one too few. Acquire as in `lock`.
        loop {
            let seen = self.word.load(Relaxed);
            let rests = matches!(seen & STATE, AT_REST | REST_WAITED);
            if seen == FREE || rests && IMPATIENT.load(Relaxed) {
                if self.word.compare_exchange(seen, own | WAITED, Acquire, Relaxed).is_ok() {
                    return;
                }
                continue;
            }
            let waited = seen & !STATE | if rests { REST_WAITED } else { WAITED };
            if seen == waited || self.word.compare_exchange(seen, waited, Relaxed, Relaxed).is_ok() {
                let patience = rests.then_some(FORK_PATIENCE_NS);
                if futex_wait_low(&self.word, waited, patience) {
                    IMPATIENT.store(true, Relaxed);
                }
            }
        }
    }

    /// The value where it is, without the lock. For figures: whoever reads single words of it that are
    /// aligned, each with one volatile load, gets old or new ones, and never waits, not even in a handler
    /// that interrupted the lock's holder.
    pub const fn peek(&self) -> *const T {
        self.value.get()
    }

    /// Whether anybody holds it at this moment. For diagnostics.
    pub fn is_locked(&self) -> bool {
        self.word.load(Relaxed) != FREE
    }

    /// Lets go of it.
    ///
    /// # Safety
    /// The caller holds the lock, and the value is consistent.
    #[inline]
    unsafe fn unlock(&self) {
        // Release: pairs with the Acquire of the next `lock`.
        if self.word.swap(FREE, Release) & STATE == WAITED {
            futex_wake_low(&self.word, 1);
        }
    }

    /// Takes the lock for the time of a fork, waiting for whoever is changing the value: with it the child
    /// finds the value
    /// consistent. Not if the caller has it, which has been interrupted and goes on. Who needs it meanwhile
    /// may take it away.
    pub fn hold_for_fork(&self) {
        let own = thread_pointer();
        if self.word.load(Relaxed) & !STATE != own {
            core::mem::forget(self.lock());
            // A sleeper must not be forgotten; nobody but us changes it from WAITED.
            if self.word.compare_exchange(own | HELD, own | AT_REST, Relaxed, Relaxed).is_err() {
                self.word.store(own | REST_WAITED, Relaxed);
                // Whoever sleeps because it was held does not know that it may take it away.
                futex_wake_low(&self.word, i32::MAX);
            }
        }
    }

    /// In the parent, behind the fork: lets go of what [`hold_for_fork`](Self::hold_for_fork) took and
    /// nobody has taken away.
    pub fn let_go_after_fork(&self) {
        let own = thread_pointer();
        // Release: nothing was written, but who had it before did; pairs as in `unlock`.
        if self.word.compare_exchange(own | AT_REST, FREE, Release, Relaxed).is_err()
            && self.word.compare_exchange(own | REST_WAITED, FREE, Release, Relaxed).is_ok()
        {
            futex_wake_low(&self.word, i32::MAX);
        }
    }

    /// In the only thread of a child that shares no memory with its parent, however it was made: the lock is
    /// free
    /// again, unless that thread holds it. A value that is torn is given to `mend` first.
    pub fn settle_in_child(&self, mend: impl FnOnce(&mut T)) {
        match self.left() {
            Left::Own => return,
            Left::Whole => {}
            // SAFETY: whoever held the lock is not here, and nobody else is.
            Left::Torn => mend(unsafe { &mut *self.value.get() }),
        }
        if self.is_locked() {
            self.word.store(FREE, Relaxed);
        }
    }

    /// Lets go of the lock if the calling thread holds it, in frames that are gone. The value is torn, and is
    /// given to `mend` first. Those frames may as well have let go of it and not have come to waking who
    /// sleeps: then nobody else would.
    pub fn let_go_of_own(&self, mend: impl FnOnce(&mut T)) {
        let word = self.word.load(Relaxed);
        if word & !STATE != thread_pointer() || word == FREE {
            return futex_wake_low(&self.word, 1);
        }
        if matches!(word & STATE, HELD | WAITED) {
            // SAFETY: we hold it, and nobody of us uses it.
            mend(unsafe { &mut *self.value.get() });
            // SAFETY: we hold it, and the value has been mended.
            unsafe { self.unlock() };
        } else {
            self.let_go_after_fork();
        }
    }

    fn left(&self) -> Left {
        let word = self.word.load(Relaxed);
        match word & STATE {
            FREE | AT_REST | REST_WAITED => Left::Whole,
            _ if word & !STATE == thread_pointer() => Left::Own,
            _ => Left::Torn,
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard is the only way in while it lives.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the only way in while it lives, and it is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: we hold it.
        unsafe { self.lock.unlock() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_under_contention() {
        static COUNT: Lock<u64> = Lock::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let mut held = COUNT.lock();
                        let seen = *held;
                        if seen.is_multiple_of(512) {
                            std::thread::yield_now();
                        }
                        *held = seen + 1;
                    }
                });
            }
        });
        assert_eq!(*COUNT.lock(), 80_000);
    }

    #[test]
    fn who_waits_for_a_fork_takes_it_away() {
        static VALUE: Lock<u32> = Lock::new(1);
        VALUE.hold_for_fork();
        assert!(VALUE.try_lock().is_none() && VALUE.is_locked());
        let thief = std::thread::spawn(|| {
            *VALUE.lock() += 1;
            VALUE.lock()
        });
        let theirs = thief.join().unwrap();
        VALUE.let_go_after_fork();
        assert_eq!((VALUE.is_locked(), *theirs), (true, 2));
        drop(theirs);
        // And who sleeps for it to be let go gets it.
        VALUE.hold_for_fork();
        let waiter = std::thread::spawn(|| *VALUE.lock());
        std::thread::yield_now();
        VALUE.let_go_after_fork();
        assert_eq!(waiter.join().unwrap(), 2);
        assert!(!VALUE.is_locked());
    }

    #[test]
    fn who_was_not_woken_is_woken_by_whoever_jumped_away() {
        static VALUE: Lock<u32> = Lock::new(1);
        core::mem::forget(VALUE.lock());
        let waiter = std::thread::spawn(|| *VALUE.lock());
        while VALUE.word.load(Relaxed) & STATE != WAITED {
            std::thread::yield_now();
        }
        // It is about to sleep, if it does not yet.
        std::thread::sleep(core::time::Duration::from_millis(20));
        // As `unlock` does, and then a handler jumps.
        VALUE.word.store(FREE, Release);
        std::thread::sleep(core::time::Duration::from_millis(20));
        assert!(!waiter.is_finished(), "it did not sleep");
        VALUE.let_go_of_own(|_| unreachable!("nothing is torn"));
        let is_awake = (0..500).any(|_| {
            std::thread::sleep(core::time::Duration::from_millis(10));
            waiter.is_finished()
        });
        assert!(is_awake, "it sleeps on");
        assert_eq!(waiter.join().unwrap(), 1);
    }

    #[test]
    fn a_child_tells_what_it_was_left_with() {
        static VALUE: Lock<u32> = Lock::new(1);
        let mended = |lock: &Lock<u32>| {
            let mut was_torn = false;
            lock.settle_in_child(|_| was_torn = true);
            (was_torn, lock.is_locked())
        };
        assert_eq!(mended(&VALUE), (false, false));
        VALUE.hold_for_fork();
        assert_eq!(mended(&VALUE), (false, false));
        let own = VALUE.lock();
        // As in a handler.
        VALUE.hold_for_fork();
        assert_eq!(mended(&VALUE), (false, true));
        VALUE.let_go_after_fork();
        assert!(VALUE.is_locked());
        drop(own);
        std::thread::spawn(|| core::mem::forget(VALUE.lock())).join().unwrap();
        assert_eq!(mended(&VALUE), (true, false));
    }
}
