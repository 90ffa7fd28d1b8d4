//! Pages of pointers: the batch of the kernel's `kvfree_rcu`, in memory that the caller gives, one page or
//! part of one. Its owner pushes and pops; closed, it waits (`batch.rs`). Nothing here allocates.

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::batch::{Batch, Stamped};
use crate::cookie::Cookie;
use crate::domain::Domain;

/// What a page that was never closed carries: no domain hands this cookie out.
const NONE: Cookie = Cookie::from_bits(0);

/// An open page of pointers to `T`: a stack of bounded size in memory that the caller gave.
pub struct PageOfPointers<T> {
    base: NonNull<*mut T>,
    capacity: u32,
    len: u32,
    cookie: Cookie,
    owns: PhantomData<*mut T>,
}

impl<T> PageOfPointers<T> {
    /// A page over `capacity` pointers at `base`, of which the first `len` are in use.
    ///
    /// # Safety
    /// `base` is valid for reads and writes of `capacity` pointers, for this value alone, for as long
    /// as it and the batch made from it exist; the first `len` are initialised; `len <= capacity`.
    #[must_use]
    pub const unsafe fn from_raw(base: NonNull<*mut T>, capacity: u32, len: u32) -> Self {
        PageOfPointers { base, capacity, len, cookie: NONE, owns: PhantomData }
    }

    /// Adds an entry. O(1).
    ///
    /// # Errors
    /// Gives the entry back if the page is full.
    #[inline]
    pub fn push(&mut self, entry: *mut T) -> Result<(), *mut T> {
        if self.len == self.capacity {
            return Err(entry);
        }
        // SAFETY: `len < capacity`, within what `from_raw` was promised.
        unsafe { *self.base.as_ptr().add(self.len as usize) = entry };
        self.len += 1;
        Ok(())
    }

    /// Takes the youngest entry. O(1).
    #[inline]
    pub fn pop(&mut self) -> Option<*mut T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the entry at the old `len - 1` was written by `push` or promised to `from_raw`.
        Some(unsafe { self.base.as_ptr().add(self.len as usize).read() })
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[*mut T] {
        // SAFETY: the first `len` entries are initialised and ours.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr(), self.len as usize) }
    }

    /// Entries in use.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// True if no entry is in use.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if another `push` would fail.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// The memory and the number of entries in use; the caller has them back.
    #[must_use]
    pub const fn into_raw(self) -> (NonNull<*mut T>, u32, u32) {
        (self.base, self.capacity, self.len)
    }

    /// See [`Stamped::close`].
    #[must_use = "a stamped batch that is dropped is lost"]
    pub fn close(self, domain: &Domain) -> Stamped<Self> {
        Stamped::close(self, domain)
    }

    /// See [`Stamped::close_and_start`].
    #[must_use = "a stamped batch that is dropped is lost"]
    pub fn close_and_start(self, domain: &Domain) -> Stamped<Self> {
        Stamped::close_and_start(self, domain)
    }
}

impl<T> Batch for PageOfPointers<T> {
    fn entries(&self) -> u32 {
        self.len
    }

    fn cookie(&self) -> Cookie {
        self.cookie
    }

    fn set_cookie(&mut self, cookie: Cookie) {
        self.cookie = cookie;
    }
}

impl<T> Stamped<PageOfPointers<T>> {
    /// Puts a batch together again that [`into_raw`](Self::into_raw) took apart.
    ///
    /// # Safety
    /// All four values come from one `into_raw`, and are used once.
    #[must_use]
    pub const unsafe fn from_raw(base: NonNull<*mut T>, capacity: u32, len: u32, cookie: Cookie) -> Self {
        // SAFETY: the caller's promise: it was closed behind this cookie.
        unsafe { Stamped::from_unopened(PageOfPointers { base, capacity, len, cookie, owns: PhantomData }) }
    }

    /// Takes the batch apart, for keeping in a structure of the caller's.
    #[must_use]
    pub fn into_raw(self) -> (NonNull<*mut T>, u32, u32, Cookie) {
        // SAFETY: only its parts leave this call, and putting them together is unsafe.
        let page = unsafe { self.into_unopened() };
        (page.base, page.capacity, page.len, page.cookie)
    }
}
