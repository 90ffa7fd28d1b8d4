//! The guard of a section.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::collector::{Collector, local_of, state_of};
use super::garbage::Deferred;
use super::local::Local;
use super::pointer::{Owned, Pointer, Shared};
use super::{Brand, Global};

/// An open section of brand `B`: what is read under it stays valid until it is dropped. Sections nest.
#[must_use = "the section ends when the guard is dropped"]
#[repr(transparent)]
pub struct Guard<B = Global> {
    /// `None`: the guard of somebody who is alone; see [`unprotected`].
    local: Option<Rc<Local>>,
    brand: Brand<B>,
}

impl<B> Guard<B> {
    #[inline]
    pub(super) fn enter(local: &Rc<Local>) -> Self {
        local.enter();
        Guard { local: Some(Rc::clone(local)), brand: PhantomData }
    }

    /// Calls `closure` when every section that is open now has ended: in some thread, outside of any section
    /// and with no lock held. It may itself pin and defer.
    pub fn defer<F: FnOnce() -> R + Send + 'static, R>(&self, closure: F) {
        // SAFETY: it may be called by any thread, and borrows nothing.
        unsafe { self.defer_unchecked(closure) }
    }

    /// As [`defer`](Self::defer), for closures that the compiler would refuse.
    ///
    /// # Safety
    /// It may be called in any thread, and what it borrows lives until then.
    pub unsafe fn defer_unchecked<F: FnOnce() -> R, R>(&self, closure: F) {
        match &self.local {
            // SAFETY: the caller's promise.
            Some(local) => local.defer(unsafe { Deferred::call(move || drop(closure())) }),
            None => drop(closure()),
        }
    }

    /// Drops and frees the value of `pointer` when every section that is open now has ended.
    ///
    /// # Safety
    /// It is not null; no `Atomic` leads to it any more, and none will; it is retired once; and a `T` may be
    /// dropped in any thread, as long after this as it takes.
    pub unsafe fn defer_destroy<T>(&self, pointer: Shared<'_, T, B>) {
        let value = pointer.as_raw().cast_mut();
        match &self.local {
            // SAFETY: the caller's promise; every `Shared` came out of a box.
            Some(local) => local.defer(unsafe { Deferred::free(value) }),
            // SAFETY: the promise made to `unprotected`: there is nobody to wait for.
            None => drop(unsafe { pointer.into_owned() }),
        }
    }

    /// Lets what this thread has deferred wait by itself, instead of for more, and asks for its period to end
    /// now.
    pub fn flush(&self) {
        if let Some(local) = &self.local {
            local.flush();
        }
    }

    /// The collector whose section this is; `None` of [`unprotected`]'s.
    #[must_use]
    pub fn collector(&self) -> Option<&Collector<B>> {
        self.local.as_ref().map(|local| Collector::of(local.state()))
    }

    /// Ends the section and begins another, if this guard is the thread's only one, so that periods go on.
    /// What was read under it cannot be used any more.
    pub fn repin(&mut self) {
        self.repin_after(|| ());
    }

    /// As [`repin`](Self::repin), with a call in between, outside of the section: for what takes long.
    pub fn repin_after<R>(&mut self, between: impl FnOnce() -> R) -> R {
        let Some(local) = &self.local else { return between() };
        let mut result = None;
        // SAFETY: `&mut self`: nothing that was lent from this guard is used any more.
        unsafe { local.renew(|| result = Some(between())) };
        result.expect("it was called")
    }
}

impl<B> Drop for Guard<B> {
    #[inline]
    fn drop(&mut self) {
        if let Some(local) = &self.local {
            // SAFETY: `enter` opened it, and what was lent from the guard ends with it.
            unsafe { local.leave() };
        }
    }
}

impl<B> fmt::Debug for Guard<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// The guard of a section that a [`LocalHandle`](super::LocalHandle) opened, which it lends: as long as it
/// lives the handle cannot be told to wait.
#[derive(Debug)]
#[must_use = "the section ends when the guard is dropped"]
pub struct HandleGuard<'h, B = Global> {
    guard: Guard<B>,
    handle: PhantomData<&'h ()>,
}

impl<B> HandleGuard<'_, B> {
    #[inline]
    pub(super) fn enter(local: &Rc<Local>) -> Self {
        HandleGuard { guard: Guard::enter(local), handle: PhantomData }
    }
}

impl<B> Deref for HandleGuard<'_, B> {
    type Target = Guard<B>;
    fn deref(&self) -> &Guard<B> {
        &self.guard
    }
}

impl<B> DerefMut for HandleGuard<'_, B> {
    fn deref_mut(&mut self) -> &mut Guard<B> {
        &mut self.guard
    }
}

/// A guard that protects nothing and under which everything deferred is done at once: for building a
/// structure, and for its `Drop`.
///
/// # Safety
/// What is read under it is not retired by anybody else as long as it is used, and what is deferred under it
/// can be read by nobody else.
pub unsafe fn unprotected<B>() -> &'static Guard<B> {
    struct Nobody(Guard);
    // SAFETY: it contains nothing that is a thread's.
    unsafe impl Sync for Nobody {}
    static NOBODY: Nobody = Nobody(Guard { local: None, brand: PhantomData });
    // SAFETY: guards are transparent around the same type, whatever their brand.
    unsafe { &*(&raw const NOBODY.0).cast() }
}

/// Destroys `value` when every section of brand `B` that is open now has ended, from outside of any.
pub(super) fn retire<T: Send + 'static, B: 'static>(value: Owned<T>) {
    // No collector: nobody has pinned, or everybody has gone.
    let Some(state) = state_of::<B>() else { return };
    // SAFETY: `T` is `Send` and borrows nothing; out of a box, owned.
    let call = unsafe { Deferred::free(Pointer::<T, B>::into_pointer(value.with_tag(0))) };
    local_of(&state).defer(call);
}
