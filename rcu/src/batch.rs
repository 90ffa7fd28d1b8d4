//! Pages of pointers: what is freed together waits together, behind one cookie.
//!
//! Three types for three lives, so that the two mistakes that caused real premature frees in the
//! kernel do not compile:
//!
//! ```text
//!   PageOfPointers --close--> Stamped --open (polls again)--> PageOfPointers
//!     push, pop                no push                          its content is reusable
//! ```
//!
//! - The cookie is taken by `close`, after the last entry: a batch under the cookie of its first entry
//!   would be freed too early.
//! - A `Stamped` batch has no `push`: an entry attached to a batch whose period has begun would be
//!   freed too early.
//!
//! `open` polls the cookie once more, whatever the caller believes. If the answer is no, the batch is
//! given up: counted in [`Counters::leaked`](crate::Counters::leaked) and never released. A leak is a
//! defect; a premature free is somebody else's corrupted memory.
//!
//! The memory of the page is the caller's, one page or part of one. None of this allocates.

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::cookie::Cookie;
use crate::domain::Domain;

/// An open page of pointers to `T`: a stack of bounded size in memory that the caller gave.
pub struct PageOfPointers<T> {
    base: NonNull<*mut T>,
    capacity: u32,
    len: u32,
    owns: PhantomData<*mut T>,
}

/// A closed batch waiting for its grace period.
///
/// It cannot be appended to: this compiles only without its last line.
///
/// ```
/// # fn main() {}
/// fn retire(mut page: rcu::PageOfPointers<u64>, domain: &rcu::Domain, block: *mut u64) {
///     page.push(block).expect("room");
///     let mut batch = page.close(domain);
/// }
/// ```
/// ```compile_fail,E0599
/// # fn main() {}
/// fn retire(mut page: rcu::PageOfPointers<u64>, domain: &rcu::Domain, block: *mut u64) {
///     page.push(block).expect("room");
///     let mut batch = page.close(domain);
///     batch.push(block); // would be reused too early
/// }
/// ```
pub struct Stamped<T> {
    page: PageOfPointers<T>,
    cookie: Cookie,
}

/// A batch was opened before its cookie had elapsed. It was leaked: its entries are never released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaked {
    /// How many entries were given up.
    pub entries: u32,
}

impl core::fmt::Display for Leaked {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a batch of {} blocks was opened before its grace period had passed; leaked", self.entries)
    }
}

impl core::error::Error for Leaked {}

impl<T> PageOfPointers<T> {
    /// A page over `capacity` pointers at `base`, of which the first `len` are in use.
    ///
    /// # Safety
    /// `base` is valid for reads and writes of `capacity` pointers, for this value alone, for as long
    /// as it and the batch made from it exist; the first `len` are initialised; `len <= capacity`.
    #[must_use]
    pub const unsafe fn from_raw(base: NonNull<*mut T>, capacity: u32, len: u32) -> Self {
        PageOfPointers { base, capacity, len, owns: PhantomData }
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

    /// Closes the page behind a cookie taken now, after its last entry. Starts no period; see
    /// [`Domain::snapshot`].
    #[must_use = "a stamped batch that is dropped is lost"]
    pub fn close(self, domain: &Domain) -> Stamped<T> {
        let cookie = domain.snapshot();
        Stamped { page: self, cookie }
    }

    /// As [`close`](Self::close), and sees to it that the period will come.
    #[must_use = "a stamped batch that is dropped is lost"]
    pub fn close_and_start(self, domain: &Domain) -> Stamped<T> {
        let cookie = domain.start_poll();
        Stamped { page: self, cookie }
    }
}

impl<T> Stamped<T> {
    /// Puts a batch together again that [`into_raw`](Self::into_raw) took apart.
    ///
    /// # Safety
    /// All four values come from one `into_raw`, and are used once.
    #[must_use]
    pub const unsafe fn from_raw(base: NonNull<*mut T>, capacity: u32, len: u32, cookie: Cookie) -> Self {
        // SAFETY: the caller's promise.
        Stamped { page: unsafe { PageOfPointers::from_raw(base, capacity, len) }, cookie }
    }

    /// Takes the batch apart, for keeping in a structure of the caller's.
    #[must_use]
    pub const fn into_raw(self) -> (NonNull<*mut T>, u32, u32, Cookie) {
        (self.page.base, self.page.capacity, self.page.len, self.cookie)
    }

    /// What the batch waits for.
    #[must_use]
    pub const fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// Entries waiting.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.page.len()
    }

    /// True if nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.page.is_empty()
    }

    /// True if the grace period has passed, so that [`open`](Self::open) will succeed.
    #[must_use]
    pub fn elapsed(&self, domain: &Domain) -> bool {
        domain.poll(self.cookie)
    }

    /// Gives the content out. Polls the cookie first.
    ///
    /// # Errors
    /// [`Leaked`] if the grace period has not passed: the batch is given up and counted.
    pub fn open(self, domain: &Domain) -> Result<PageOfPointers<T>, Leaked> {
        if domain.poll(self.cookie) {
            return Ok(self.page);
        }
        domain.recorder.leaked();
        Err(Leaked { entries: self.page.len })
    }
}
