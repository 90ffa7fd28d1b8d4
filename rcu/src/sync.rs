//! The atomics and fences of the engine: `core`'s in real builds, loom's under `--cfg loom`.
//!
//! Everything else in the crate takes its atomics from here, so that the code loom explores is the
//! code that ships. The differences are confined to this file: loom's atomics cannot be made in a
//! `const fn`, and they need help to be interleaved fully, see [`model`].

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence,
};
#[cfg(loom)]
pub(crate) use model::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// Declares a constructor that is `const` in real builds and an ordinary function under loom.
macro_rules! const_unless_loom {
    ($(#[$attr:meta])* $vis:vis fn $name:ident($($arg:ident : $ty:ty),*) -> $ret:ty $body:block) => {
        $(#[$attr])*
        #[cfg(not(loom))]
        $vis const fn $name($($arg: $ty),*) -> $ret $body
        $(#[$attr])*
        #[cfg(loom)]
        $vis fn $name($($arg: $ty),*) -> $ret $body
    };
}
pub(crate) use const_unless_loom;

/// Lets another thread run: a scheduling hint in real builds, a scheduling point under loom.
#[inline]
pub(crate) fn relax() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Raises `word` to `value`, if it is less. Always a store, also of what is there already, so that a release
/// passes on what the caller knows. Spelled out, as the processor does it anyway: ThreadSanitizer sees no
/// `fetch_max`.
#[inline]
pub(crate) fn raise(word: &AtomicU64, value: u64, order: Ordering) {
    let mut seen = word.load(Ordering::Relaxed);
    while let Err(now) = word.compare_exchange(seen, seen.max(value), order, Ordering::Relaxed) {
        seen = now;
    }
}

/// Adds to a word that its owner changes by single instructions without a lock prefix, and gives what came
/// out. Another thread's change may fall between the load and the store; a barrier that every thread executes
/// cannot, for the kernel interrupts between instructions. Miri and the sanitizer, whose barriers could, get
/// an instruction into which nothing falls.
#[cfg_attr(not(any(loom, miri, rcu_tsan, rcu_portable)), allow(dead_code, reason = "there is assembly"))]
#[inline]
pub(crate) fn one_instruction_add(word: &AtomicI32, value: i32, order: Ordering) -> i32 {
    #[cfg(any(miri, rcu_tsan))]
    return word.fetch_add(value, order) + value;
    #[cfg(loom)]
    return word.one_instruction_add(value, order);
    #[cfg(not(any(loom, miri, rcu_tsan)))]
    {
        let sum = word.load(Ordering::Relaxed) + value;
        word.store(sum, order);
        sum
    }
}

/// Plain memory that several threads may reach: no operation orders it, so every access must be ordered by
/// something else. loom and the sanitizers see each one, and say where nothing does.
#[cfg(not(loom))]
pub(crate) struct Unordered<T>(core::cell::UnsafeCell<T>);
#[cfg(loom)]
pub(crate) struct Unordered<T>(loom::cell::UnsafeCell<T>);

// SAFETY: both accesses are unsafe, and what they ask for is that they do not race.
unsafe impl<T: Send> Sync for Unordered<T> {}

impl<T: Copy> Unordered<T> {
    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Self {
        Unordered(loom::cell::UnsafeCell::new(value))
    }

    /// # Safety
    /// Nobody writes it at the same time.
    #[inline(always)]
    pub(crate) unsafe fn get(&self) -> T {
        // SAFETY: the caller's promise.
        #[cfg(not(loom))]
        return unsafe { *self.0.get() };
        // SAFETY: as above; loom checks it.
        #[cfg(loom)]
        return self.0.with(|value| unsafe { *value });
    }

    /// # Safety
    /// Nobody reads or writes it at the same time.
    #[inline(always)]
    pub(crate) unsafe fn set(&self, value: T) {
        // SAFETY: the caller's promise.
        #[cfg(not(loom))]
        unsafe {
            *self.0.get() = value;
        }
        // SAFETY: as above; loom checks it.
        #[cfg(loom)]
        self.0.with_mut(|there| unsafe { *there = value });
    }
}

/// loom's atomics, each operation preceded by an access to one shared word.
///
/// loom 0.7 backtracks only to the *last* access that depends on an operation. A thread that loads a
/// word and then compare-and-swaps it hides, with its own load, that another thread loaded the word
/// before, and the order in which the swap comes first is never tried; seen here: a model in which
/// no period ever ended. Nor is a fence a scheduling point. With a relaxed read-modify-write on a common
/// word before every operation, every two operations of different threads depend on each other
/// and every interleaving within the preemption bound is explored. Relaxed, it orders nothing.
#[cfg(loom)]
mod model {
    pub(crate) use loom::sync::atomic::Ordering;

    loom::lazy_static! {
        static ref STEP: loom::sync::atomic::AtomicUsize = loom::sync::atomic::AtomicUsize::new(0);
    }

    fn step() {
        STEP.fetch_add(1, Ordering::Relaxed);
        crate::model::answer();
    }

    pub(crate) fn fence(order: Ordering) {
        step();
        loom::sync::atomic::fence(order);
    }

    macro_rules! stepped {
        ($name:ident, $value:ty $(, $generic:ident)?) => {
            pub(crate) struct $name$(<$generic>)?(loom::sync::atomic::$name$(<$generic>)?);

            #[allow(dead_code, reason = "one set of methods for all types")]
            impl$(<$generic>)? $name$(<$generic>)? {
                pub(crate) fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }
                pub(crate) fn load(&self, order: Ordering) -> $value {
                    step();
                    self.0.load(order)
                }
                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    step();
                    self.0.store(value, order);
                }
                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    step();
                    self.0.swap(value, order)
                }
                pub(crate) fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    step();
                    self.0.compare_exchange(current, new, success, failure)
                }
            }
        };
    }
    stepped!(AtomicBool, bool);
    stepped!(AtomicI32, i32);
    stepped!(AtomicU32, u32);
    stepped!(AtomicU64, u64);
    stepped!(AtomicPtr, *mut T, T);

    impl AtomicI32 {
        pub(crate) fn one_instruction_add(&self, value: i32, order: Ordering) -> i32 {
            // Read-modify-writes, both: loom lets a plain store and another thread's exchange follow each
            // other in either order, also where that exchange has read what the store went over.
            step();
            let sum = self.0.fetch_add(0, Ordering::Relaxed) + value;
            STEP.fetch_add(1, Ordering::Relaxed); // as `step`, but no barrier is answered here
            self.0.swap(sum, order);
            sum
        }
        pub(crate) fn fetch_add(&self, value: i32, order: Ordering) -> i32 {
            step();
            self.0.fetch_add(value, order)
        }
    }
    impl AtomicU32 {
        pub(crate) fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
            step();
            self.0.fetch_add(value, order)
        }
        pub(crate) fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
            step();
            self.0.fetch_sub(value, order)
        }
        pub(crate) fn fetch_or(&self, value: u32, order: Ordering) -> u32 {
            step();
            self.0.fetch_or(value, order)
        }
        pub(crate) fn fetch_and(&self, value: u32, order: Ordering) -> u32 {
            step();
            self.0.fetch_and(value, order)
        }
    }
    impl AtomicU64 {
        pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
            step();
            self.0.fetch_or(value, order)
        }
        pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
            step();
            self.0.fetch_and(value, order)
        }
        pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            step();
            self.0.fetch_add(value, order)
        }
        pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
            step();
            self.0.fetch_sub(value, order)
        }
        pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
            step();
            self.0.fetch_max(value, order)
        }
    }
}
