//! `Lock<T>`: a mutex on one 32-bit word, for the slow paths.
//!
//! It never allocates and never calls libc, so it works before libc does, and a forking
//! process can take it in the parent and let go of it in the child. It spins a little,
//! because what it protects takes about 100 ns, then sleeps in the kernel. It is not fair
//! and not recursive. The word: 0 free, 1 held, 2 held and somebody may be asleep.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::syscall::{futex_wait, futex_wake};
use crate::constants::LOCK_SPINS;

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITED: u32 = 2;

/// A value and the lock that guards it.
#[repr(C)]
pub struct Lock<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and one guard exists at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

/// Proof that the lock is held; lets go of it when dropped.
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Lock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Lock<T> {
        Lock { word: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, waiting for it if need be.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        // Acquire: pairs with the Release in `force_unlock`, the last holder's writes are seen.
        if self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            self.lock_slow();
        }
        Guard { lock: self }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        // Acquire: as in `lock`.
        let got = self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok();
        got.then(|| Guard { lock: self }) // lazily: a guard that is dropped unlocks
    }

    #[cold]
    fn lock_slow(&self) {
        for _ in 0..LOCK_SPINS {
            core::hint::spin_loop();
            if self.word.load(Relaxed) == FREE
                && self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
            {
                return;
            }
        }
        // From here on we may have slept beside others, so we take it as WAITED: our unlock
        // makes one wake call too many rather than one too few. Acquire as in `lock`.
        while self.word.swap(WAITED, Acquire) != FREE {
            futex_wait(&self.word, WAITED);
        }
    }

    /// Whether anybody holds it at this moment. For diagnostics.
    pub fn is_locked(&self) -> bool {
        self.word.load(Relaxed) != FREE
    }

    /// Lets go without a guard: after a fork, or for a guard that was forgotten.
    ///
    /// # Safety
    /// The caller holds the lock through a forgotten guard, or is the only thread left in a
    /// forked child whose parent's forking thread held it; and the value is consistent.
    pub unsafe fn force_unlock(&self) {
        // Release: pairs with the Acquire of the next `lock`.
        if self.word.swap(FREE, Release) == WAITED {
            futex_wake(&self.word, 1);
        }
    }

    /// The value, without the lock.
    ///
    /// # Safety
    /// Dereferencing is a data race unless the caller knows otherwise (a fork, a snapshot of
    /// an atomic inside).
    pub unsafe fn peek(&self) -> *mut T {
        self.value.get()
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
        unsafe { self.lock.force_unlock() }
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
    fn try_lock_and_force_unlock() {
        let lock = Lock::new(1);
        let held = lock.lock();
        assert!(lock.try_lock().is_none() && lock.is_locked());
        core::mem::forget(held);
        // SAFETY: the guard was forgotten.
        unsafe { lock.force_unlock() };
        assert!(lock.try_lock().is_some());
    }
}
