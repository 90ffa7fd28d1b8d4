//! The pointers that go into an [`Atomic`](super::Atomic) and come out of it: one's own, and those a guard
//! protects.
//!
//! The low bits of an address that its alignment leaves free are the *tag*: a mark that travels with the
//! pointer, in one compare-and-swap, such as "removed" in a list.

use core::borrow::{Borrow, BorrowMut};
use core::cmp;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::guard::Guard;
use super::{Brand, Global};

/// The bits of an address of a `T` that its alignment leaves free.
const fn low_bits<T>() -> usize {
    align_of::<T>() - 1
}

fn tag_of<T>(pointer: *mut T) -> usize {
    pointer.addr() & low_bits::<T>()
}

fn without_tag<T>(pointer: *mut T) -> *mut T {
    pointer.map_addr(|address| address & !low_bits::<T>())
}

pub(super) fn with_tag<T>(pointer: *mut T, tag: usize) -> *mut T {
    pointer.map_addr(|address| address & !low_bits::<T>() | tag & low_bits::<T>())
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for super::Owned<T> {}
    impl<T, B> Sealed for super::Shared<'_, T, B> {}
}

/// What can be stored in an [`Atomic`](super::Atomic) of brand `B`: an [`Owned`] or a [`Shared`].
pub trait Pointer<T, B = Global>: sealed::Sealed {
    /// The pointer with its tag; ownership goes with it.
    #[doc(hidden)]
    fn into_pointer(self) -> *mut T;
    /// Takes back what [`into_pointer`](Self::into_pointer) gave.
    ///
    /// # Safety
    /// It came from there, from a pointer of the same kind whose lifetime has not ended, and is used once.
    #[doc(hidden)]
    unsafe fn from_pointer(pointer: *mut T) -> Self;
}

/// A value on the heap that nobody else can reach: a `Box` that carries a tag.
pub struct Owned<T> {
    /// With its tag; never null without it.
    pointer: *mut T,
    owns: PhantomData<Box<T>>,
}

// SAFETY: it owns the value, as a `Box` does.
unsafe impl<T: Send> Send for Owned<T> {}
// SAFETY: a shared `Owned` lends `&T` only.
unsafe impl<T: Sync> Sync for Owned<T> {}

impl<T> Owned<T> {
    /// Moves `value` to the heap.
    pub fn new(value: T) -> Owned<T> {
        Box::new(value).into()
    }

    /// Takes ownership of a pointer that `Box::into_raw` or [`Shared::as_raw`] gave.
    ///
    /// # Safety
    /// It points to a `T` that a `Box` allocated, that nobody else owns or can still reach.
    pub unsafe fn from_raw(pointer: *mut T) -> Owned<T> {
        Owned { pointer, owns: PhantomData }
    }

    /// The value in a box; the tag is lost.
    #[must_use]
    pub fn into_box(self) -> Box<T> {
        // SAFETY: it came out of a box, and `into_pointer` gives the ownership up.
        unsafe { Box::from_raw(without_tag(Pointer::<T, ()>::into_pointer(self))) }
    }

    /// Gives the value up: from now on it is protected by `guard`, and somebody must retire it.
    #[must_use]
    pub fn into_shared<'g, B>(self, _guard: &'g Guard<B>) -> Shared<'g, T, B> {
        Shared::new(Pointer::<T, B>::into_pointer(self))
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> usize {
        tag_of(self.pointer)
    }

    /// The same with another tag, cut to the free bits.
    #[must_use]
    pub fn with_tag(mut self, tag: usize) -> Owned<T> {
        self.pointer = with_tag(self.pointer, tag);
        self
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: it came out of a box, and nobody else owns it.
        drop(unsafe { Box::from_raw(without_tag(self.pointer)) });
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: it came out of a box, and nobody else can reach it.
        unsafe { &*without_tag(self.pointer) }
    }
}

impl<T> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *without_tag(self.pointer) }
    }
}

impl<T> From<T> for Owned<T> {
    fn from(value: T) -> Owned<T> {
        Owned::new(value)
    }
}

impl<T> From<Box<T>> for Owned<T> {
    fn from(value: Box<T>) -> Owned<T> {
        // SAFETY: out of a box, given away.
        unsafe { Owned::from_raw(Box::into_raw(value)) }
    }
}

impl<T: Clone> Clone for Owned<T> {
    /// A value of its own, with the same tag.
    fn clone(&self) -> Self {
        Owned::new((**self).clone()).with_tag(self.tag())
    }
}

impl<T> Borrow<T> for Owned<T> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T> BorrowMut<T> for Owned<T> {
    fn borrow_mut(&mut self) -> &mut T {
        self
    }
}

impl<T> AsRef<T> for Owned<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T> AsMut<T> for Owned<T> {
    fn as_mut(&mut self) -> &mut T {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T, B> Pointer<T, B> for Owned<T> {
    fn into_pointer(self) -> *mut T {
        core::mem::ManuallyDrop::new(self).pointer
    }
    unsafe fn from_pointer(pointer: *mut T) -> Owned<T> {
        Owned { pointer, owns: PhantomData }
    }
}

/// A pointer that was read under a guard of brand `B` and is valid as long as the guard, or null.
///
/// It cannot leave the section:
///
/// ```compile_fail,E0505
/// use quiescent::epoch::{self, Atomic};
/// use std::sync::atomic::Ordering::Acquire;
///
/// let shared = Atomic::new(5);
/// let guard = epoch::pin();
/// let five = shared.load(Acquire, &guard);
/// drop(guard);
/// println!("{:?}", five.as_ref()); // might be freed by now
/// ```
pub struct Shared<'g, T, B = Global> {
    pointer: *mut T,
    lent: PhantomData<&'g T>,
    brand: Brand<B>,
}

impl<T, B> Clone for Shared<'_, T, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, B> Copy for Shared<'_, T, B> {}

impl<T, B> PartialEq for Shared<'_, T, B> {
    /// The same address and the same tag.
    fn eq(&self, other: &Self) -> bool {
        self.pointer == other.pointer
    }
}

impl<T, B> Eq for Shared<'_, T, B> {}

impl<T, B> PartialOrd for Shared<'_, T, B> {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T, B> Ord for Shared<'_, T, B> {
    /// By address and tag.
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.pointer.cmp(&other.pointer)
    }
}

impl<T, B> fmt::Pointer for Shared<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&self.as_raw(), f)
    }
}

impl<T, B> Default for Shared<'_, T, B> {
    fn default() -> Self {
        Shared::null()
    }
}

impl<T, B> fmt::Debug for Shared<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("pointer", &self.as_raw()).field("tag", &self.tag()).finish()
    }
}

impl<'g, T, B> Shared<'g, T, B> {
    pub(super) const fn new(pointer: *mut T) -> Self {
        Shared { pointer, lent: PhantomData, brand: PhantomData }
    }

    /// Null, without a tag.
    #[must_use]
    pub const fn null() -> Self {
        Shared::new(core::ptr::null_mut())
    }

    /// A pointer that was kept as an address. Where crossbeam-epoch has `Shared::from` this is unsafe, for to
    /// read a `Shared` is not.
    ///
    /// # Safety
    /// It is null, or [`as_raw`](Self::as_raw) or `Box::into_raw` gave it, perhaps with a tag in its free
    /// bits; and for `'g` nobody destroys the value.
    #[must_use]
    pub const unsafe fn from_raw(pointer: *const T) -> Self {
        Shared::new(pointer.cast_mut())
    }

    /// True if it is null, whatever its tag.
    #[must_use]
    pub fn is_null(&self) -> bool {
        without_tag(self.pointer).is_null()
    }

    /// The value, or `None` if it is null.
    #[must_use]
    pub fn as_ref(&self) -> Option<&'g T> {
        // SAFETY: null, or read with acquire from an `Atomic` of brand `B` under a guard of the one collector
        // of that brand (or given up by an `Owned` under one): what was in it is retired, if at all, by
        // `defer_destroy`, whose caller promised that no `Atomic` leads to it any more, and freed when this
        // section has ended.
        unsafe { without_tag(self.pointer).as_ref() }
    }

    /// The value.
    ///
    /// # Panics
    /// If it is null.
    #[must_use]
    #[track_caller]
    #[expect(
        clippy::should_implement_trait,
        reason = "what the trait's method lends ends with the pointer, not with the guard"
    )]
    pub fn deref(&self) -> &'g T {
        self.as_ref().expect("a null pointer has no value")
    }

    /// The value, to be changed.
    ///
    /// # Safety
    /// It is not null, and for `'g` nobody else has a reference to it.
    #[must_use]
    pub unsafe fn deref_mut(&mut self) -> &'g mut T {
        // SAFETY: as in `as_ref`, and the caller's promise.
        unsafe { &mut *without_tag(self.pointer) }
    }

    /// The address, without the tag.
    #[must_use]
    pub fn as_raw(&self) -> *const T {
        without_tag(self.pointer)
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> usize {
        tag_of(self.pointer)
    }

    /// The same with another tag, cut to the free bits.
    #[must_use]
    pub fn with_tag(&self, tag: usize) -> Self {
        Shared::new(with_tag(self.pointer, tag))
    }

    /// Takes ownership of the value.
    ///
    /// # Safety
    /// It is not null, no `Atomic` leads to it, and no other thread can still have a reference to it.
    #[must_use]
    pub unsafe fn into_owned(self) -> Owned<T> {
        // SAFETY: the caller's promise; every pointer came out of a box.
        unsafe { Owned::from_raw(self.pointer) }
    }

    /// As [`into_owned`](Self::into_owned); `None` if it is null.
    ///
    /// # Safety
    /// As there, if it is not null.
    #[must_use]
    pub unsafe fn try_into_owned(self) -> Option<Owned<T>> {
        // SAFETY: the caller's promise.
        (!self.is_null()).then(|| unsafe { self.into_owned() })
    }
}

impl<T, B> Pointer<T, B> for Shared<'_, T, B> {
    fn into_pointer(self) -> *mut T {
        self.pointer
    }
    unsafe fn from_pointer(pointer: *mut T) -> Self {
        Shared::new(pointer)
    }
}
