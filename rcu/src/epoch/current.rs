//! A value that is replaced whole.

use core::marker::PhantomData;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use super::Global;
use super::atomic::Atomic;
use super::guard::{self, Guard};
use super::pointer::{Owned, Shared};

/// The current version of a `T`: read by many without a lock or a copy, replaced whole, and no `unsafe`
/// anywhere.
///
/// Versions that were replaced are dropped when nobody reads them any more. A reader under one guard may see
/// different versions in two calls, and keeps each as long as the guard.
///
/// ```
/// use quiescent::epoch::{self, Current};
///
/// let limits = Current::new(vec![10, 20]);
/// let guard = epoch::pin();
/// let before = limits.get(&guard);
/// limits.update(&guard, |old| old.iter().map(|limit| limit * 2).collect());
/// assert_eq!((before[0], limits.get(&guard)[0]), (10, 20));
/// ```
pub struct Current<T: Send + 'static, B: 'static = Global> {
    /// Never null, and this is the only `Atomic` that leads to what is in it.
    version: Atomic<T, B>,
    owns: PhantomData<T>,
}

impl<T: Send + Sync + 'static, B: 'static> Current<T, B> {
    /// With its first version.
    pub fn new(value: T) -> Self {
        Current { version: Atomic::new(value), owns: PhantomData }
    }

    /// The version of now.
    pub fn get<'g>(&self, guard: &'g Guard<B>) -> &'g T {
        self.version.load(Acquire, guard).deref()
    }

    /// Replaces the version of now, whatever it is.
    pub fn replace(&self, value: T, guard: &Guard<B>) {
        let old = self.version.swap(Owned::new(value), AcqRel, guard);
        // SAFETY: nothing else leads to it, and nobody else can have swapped it out; a `T` may be sent, and
        // borrows nothing.
        unsafe { guard.defer_destroy(old) };
    }

    /// Replaces the version `old`, if it is still the current one.
    ///
    /// # Errors
    /// `value`, if it is not.
    pub fn try_replace<'g>(&self, old: &'g T, value: T, guard: &'g Guard<B>) -> Result<&'g T, Box<T>> {
        // Only to compare: what is destroyed is the pointer that was there, not one made of a reference.
        let old = Shared::new(core::ptr::from_ref(old).cast_mut());
        match self.version.exchange(old, Owned::new(value), AcqRel, Acquire) {
            Ok((old, new)) => {
                // SAFETY: as in `replace`.
                unsafe { guard.defer_destroy(old) };
                Ok(new.deref())
            }
            Err(error) => Err(error.new.into_box()),
        }
    }

    /// Replaces the version of now by what `change` makes of it, which is called again when another thread
    /// was faster.
    pub fn update<'g>(&self, guard: &'g Guard<B>, mut change: impl FnMut(&T) -> T) -> &'g T {
        loop {
            let old = self.get(guard);
            if let Ok(new) = self.try_replace(old, change(old), guard) {
                return new;
            }
        }
    }
}

impl<T: Send + 'static, B: 'static> Drop for Current<T, B> {
    fn drop(&mut self) {
        // SAFETY: nothing else leads to it; those who have read it are waited for.
        if let Some(last) = unsafe { core::mem::take(&mut self.version).try_into_owned() } {
            guard::retire::<T, B>(last);
        }
    }
}
