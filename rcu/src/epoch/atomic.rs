//! The pointer that threads share.
//!
//! Names and arguments are crossbeam-epoch's, but an ordering that is too weak for [`Shared::as_ref`] to be
//! safe is raised: reading is at least an acquire, and storing at least a release, which pair with each
//! other.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release};

use super::guard::Guard;
use super::pointer::{Owned, Pointer, Shared, with_tag};
use super::{Brand, Global};

/// A pointer to a `T` that may be null, may carry a tag, and is read under a guard of brand `B`.
///
/// It does not own what it points to: dropping it frees nothing, as its value may be in other `Atomic`s.
///
/// A guard of another domain does not open it:
///
/// ```compile_fail,E0308
/// use quiescent::epoch::{Atomic, Collector, Guard};
/// use std::sync::atomic::Ordering::Acquire;
///
/// struct Names;
/// struct Prices;
/// let names: Atomic<u64, Names> = Atomic::null();
/// let guard: Guard<Prices> = Collector::<Prices>::new().pin();
/// names.load(Acquire, &guard);
/// ```
pub struct Atomic<T, B = Global> {
    pointer: AtomicPtr<T>,
    brand: Brand<B>,
}

// SAFETY: it hands out `&T` to any thread and lets any thread free the value.
unsafe impl<T: Send + Sync, B> Send for Atomic<T, B> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, B> Sync for Atomic<T, B> {}

/// What a read needs so that the value can be looked at.
fn to_read(order: Ordering) -> Ordering {
    if order == Relaxed { Acquire } else { order }
}

/// What a store needs so that the value can be looked at by others.
fn to_store(order: Ordering) -> Ordering {
    if order == Relaxed { Release } else { order }
}

/// Both.
fn to_change(order: Ordering) -> Ordering {
    if order == Ordering::SeqCst { order } else { AcqRel }
}

/// What was there, and what was stored.
type Exchanged<'g, T, B> = (Shared<'g, T, B>, Shared<'g, T, B>);

/// A compare-and-swap that found another pointer.
pub struct CompareExchangeError<'g, T, P: Pointer<T, B>, B = Global> {
    /// What is there.
    pub current: Shared<'g, T, B>,
    /// What was to be stored, given back.
    pub new: P,
}

impl<T, B, P: Pointer<T, B>> fmt::Debug for CompareExchangeError<'_, T, P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompareExchangeError").field("current", &self.current).finish_non_exhaustive()
    }
}

impl<T, B> Atomic<T, B> {
    /// With `value` on the heap.
    pub fn new(value: T) -> Self {
        Owned::new(value).into()
    }

    /// Null.
    #[must_use]
    pub const fn null() -> Self {
        Atomic { pointer: AtomicPtr::new(core::ptr::null_mut()), brand: PhantomData }
    }

    /// What is there now.
    pub fn load<'g>(&self, order: Ordering, _guard: &'g Guard<B>) -> Shared<'g, T, B> {
        Shared::new(self.pointer.load(to_read(order)))
    }

    /// As [`load`](Self::load) with the order of data dependencies: with an acquire, which on x86 costs the
    /// same.
    pub fn load_consume<'g>(&self, guard: &'g Guard<B>) -> Shared<'g, T, B> {
        self.load(Acquire, guard)
    }

    /// Stores `new`. What was there is not freed.
    pub fn store<P: Pointer<T, B>>(&self, new: P, order: Ordering) {
        self.pointer.store(new.into_pointer(), to_store(order));
    }

    /// Stores `new`; what was there.
    pub fn swap<'g, P: Pointer<T, B>>(
        &self,
        new: P,
        order: Ordering,
        _guard: &'g Guard<B>,
    ) -> Shared<'g, T, B> {
        Shared::new(self.pointer.swap(new.into_pointer(), to_change(order)))
    }

    /// Stores `new` if `current` is there, address and tag; what was stored.
    ///
    /// # Errors
    /// What is there instead, with `new` given back.
    pub fn compare_exchange<'g, P: Pointer<T, B>>(
        &self,
        current: Shared<'_, T, B>,
        new: P,
        success: Ordering,
        failure: Ordering,
        _guard: &'g Guard<B>,
    ) -> Result<Shared<'g, T, B>, CompareExchangeError<'g, T, P, B>> {
        self.exchange(current, new, success, failure).map(|(_, new)| new)
    }

    /// As [`compare_exchange`](Self::compare_exchange): what was there, and what was stored.
    pub(super) fn exchange<'g, P: Pointer<T, B>>(
        &self,
        current: Shared<'_, T, B>,
        new: P,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Exchanged<'g, T, B>, CompareExchangeError<'g, T, P, B>> {
        let (current, new) = (current.into_pointer(), new.into_pointer());
        match self.pointer.compare_exchange(current, new, to_change(success), to_read(failure)) {
            Ok(old) => Ok((Shared::new(old), Shared::new(new))),
            Err(there) => {
                // SAFETY: taken from it above, and not stored.
                let new = unsafe { P::from_pointer(new) };
                Err(CompareExchangeError { current: Shared::new(there), new })
            }
        }
    }

    /// As [`compare_exchange`](Self::compare_exchange), on processors that may fail for no reason.
    ///
    /// # Errors
    /// As there; `current` may be what was asked for.
    pub fn compare_exchange_weak<'g, P: Pointer<T, B>>(
        &self,
        current: Shared<'_, T, B>,
        new: P,
        success: Ordering,
        failure: Ordering,
        guard: &'g Guard<B>,
    ) -> Result<Shared<'g, T, B>, CompareExchangeError<'g, T, P, B>> {
        self.compare_exchange(current, new, success, failure, guard)
    }

    /// Stores what `change` makes of what is there, which is called again when another thread was faster;
    /// what was there.
    ///
    /// # Errors
    /// What is there, if `change` wants nothing stored.
    pub fn fetch_update<'g, F>(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        guard: &'g Guard<B>,
        mut change: F,
    ) -> Result<Shared<'g, T, B>, Shared<'g, T, B>>
    where
        F: FnMut(Shared<'g, T, B>) -> Option<Shared<'g, T, B>>,
    {
        let mut there = self.load(fetch_order, guard);
        while let Some(new) = change(there) {
            match self.compare_exchange(there, new, set_order, fetch_order, guard) {
                Ok(_) => return Ok(there),
                Err(error) => there = error.current,
            }
        }
        Err(there)
    }

    /// Leaves in the tag only bits of `tag`; what was there.
    pub fn fetch_and<'g>(&self, tag: usize, order: Ordering, guard: &'g Guard<B>) -> Shared<'g, T, B> {
        self.change_tag(order, guard, |there| there & tag)
    }

    /// Sets the bits of `tag` in the tag; what was there.
    pub fn fetch_or<'g>(&self, tag: usize, order: Ordering, guard: &'g Guard<B>) -> Shared<'g, T, B> {
        self.change_tag(order, guard, |there| there | tag)
    }

    /// Turns the bits of `tag` in the tag over; what was there.
    pub fn fetch_xor<'g>(&self, tag: usize, order: Ordering, guard: &'g Guard<B>) -> Shared<'g, T, B> {
        self.change_tag(order, guard, |there| there ^ tag)
    }

    fn change_tag<'g>(
        &self,
        order: Ordering,
        guard: &'g Guard<B>,
        change: impl Fn(usize) -> usize,
    ) -> Shared<'g, T, B> {
        let mut there = self.load(Acquire, guard);
        loop {
            let changed = Shared::new(with_tag(there.into_pointer(), change(there.tag())));
            match self.compare_exchange(there, changed, order, Acquire, guard) {
                Ok(_) => return there,
                Err(error) => there = error.current,
            }
        }
    }

    /// As [`try_into_owned`](Self::try_into_owned), of one that is not null.
    ///
    /// # Safety
    /// As there, and it is not null.
    pub unsafe fn into_owned(self) -> Owned<T> {
        // SAFETY: the caller's promise.
        unsafe { Shared::<'_, T, B>::new(self.pointer.into_inner()).into_owned() }
    }

    /// With a pointer that was kept as an address. Where crossbeam-epoch has `Atomic::from` this is unsafe,
    /// for to read an `Atomic` is not.
    ///
    /// # Safety
    /// It is null, or [`Shared::as_raw`] or `Box::into_raw` gave it, perhaps with a tag in its free bits; and
    /// nobody destroys the value before this `Atomic` has ceased to lead to it and a period has passed.
    #[must_use]
    pub const unsafe fn from_raw(pointer: *const T) -> Self {
        Atomic { pointer: AtomicPtr::new(pointer.cast_mut()), brand: PhantomData }
    }

    /// Takes ownership of what is there: for a `Drop` of a structure that nobody shares any more.
    ///
    /// # Safety
    /// No other `Atomic` leads to the value and nobody can still have a reference to it.
    pub unsafe fn try_into_owned(self) -> Option<Owned<T>> {
        // SAFETY: the caller's promise.
        unsafe { Shared::<'_, T, B>::new(self.pointer.into_inner()).try_into_owned() }
    }
}

impl<T, B> From<Owned<T>> for Atomic<T, B> {
    fn from(owned: Owned<T>) -> Self {
        Atomic { pointer: AtomicPtr::new(Pointer::<T, B>::into_pointer(owned)), brand: PhantomData }
    }
}

impl<T, B> From<Shared<'_, T, B>> for Atomic<T, B> {
    fn from(shared: Shared<'_, T, B>) -> Self {
        Atomic { pointer: AtomicPtr::new(shared.into_pointer()), brand: PhantomData }
    }
}

impl<T, B> From<Box<T>> for Atomic<T, B> {
    fn from(value: Box<T>) -> Self {
        Owned::<T>::from(value).into()
    }
}

impl<T, B> From<T> for Atomic<T, B> {
    fn from(value: T) -> Self {
        Atomic::new(value)
    }
}

impl<T, B> Clone for Atomic<T, B> {
    /// Another that leads to the same value.
    fn clone(&self) -> Self {
        Atomic { pointer: AtomicPtr::new(self.pointer.load(Acquire)), brand: PhantomData }
    }
}

impl<T, B> fmt::Pointer for Atomic<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = Shared::<'_, T, B>::new(self.pointer.load(Relaxed));
        fmt::Pointer::fmt(&there.as_raw(), f)
    }
}

impl<T, B> Default for Atomic<T, B> {
    fn default() -> Self {
        Atomic::null()
    }
}

impl<T, B> fmt::Debug for Atomic<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Atomic({:p})", self.pointer.load(Relaxed))
    }
}
