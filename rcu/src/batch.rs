//! Batches: what is freed together waits together, behind one cookie.
//!
//! Two types for two lives, so that the mistakes that caused real premature frees in the kernel do not
//! compile:
//!
//! ```text
//!   a Batch, open --close--> Stamped<Batch> --open (polls again)--> the Batch, open
//!     push, pop                no push                                its content is reusable
//! ```
//!
//! - The cookie is taken by `close`, after the last entry: a batch under the cookie of its first entry
//!   would be freed too early.
//! - A `Stamped` batch has no `push`: an entry attached to a batch whose period has begun would be
//!   freed too early.
//! - An open batch has no `open`: what was never stamped cannot be given out.
//!
//! `open` polls the cookie once more, whatever the caller believes. If the answer is no, the batch is
//! given up: counted in [`Counters::leaked`](crate::Counters::leaked) and never released. A leak is a
//! defect; a premature free is somebody else's corrupted memory.
//!
//! A batch keeps its cookie in its own memory, so a stamped one is no larger than an open one and can lie
//! in an intrusive list. [`PageOfPointers`](crate::PageOfPointers) is one kind; an embedder may have others.

use crate::cookie::Cookie;
use crate::domain::Domain;

/// Something that entries are added to and that waits for a grace period as a whole. It is one owner's:
/// not `Copy`, not `Clone`. What `&self` allows must be harmless while it waits: adding an entry, or
/// getting at the entries to use them, must need `&mut self` or the value.
pub trait Batch: Sized {
    /// How many entries there are.
    fn entries(&self) -> u32;
    /// The cookie that was kept last.
    fn cookie(&self) -> Cookie;
    /// Keeps `cookie`.
    fn set_cookie(&mut self, cookie: Cookie);
}

/// A closed batch waiting for its grace period.
///
/// It cannot be appended to: this compiles only without its last line.
///
/// ```
/// # fn main() {}
/// fn retire(mut page: quiescent::PageOfPointers<u64>, domain: &quiescent::Domain, block: *mut u64) {
///     page.push(block).expect("room");
///     let mut batch = page.close(domain);
/// }
/// ```
/// ```compile_fail,E0599
/// # fn main() {}
/// fn retire(mut page: quiescent::PageOfPointers<u64>, domain: &quiescent::Domain, block: *mut u64) {
///     page.push(block).expect("room");
///     let mut batch = page.close(domain);
///     batch.push(block); // would be reused too early
/// }
/// ```
///
/// Nor can the open page be kept beside it:
///
/// ```compile_fail,E0382
/// # fn main() {}
/// fn retire(mut page: quiescent::PageOfPointers<u64>, domain: &quiescent::Domain, block: *mut u64) {
///     let mut batch = page.close(domain);
///     page.push(block).expect("room"); // moved into the batch
/// }
/// ```
///
/// And what was not closed cannot be opened:
///
/// ```compile_fail,E0599
/// # fn main() {}
/// fn reuse(page: quiescent::PageOfPointers<u64>, domain: &quiescent::Domain) {
///     page.open(domain);
/// }
/// ```
#[repr(transparent)]
pub struct Stamped<B: Batch>(B);

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

impl<B: Batch> Stamped<B> {
    /// Closes `batch` behind a cookie taken now, after its last entry. Starts no period; see
    /// [`Domain::snapshot`].
    #[must_use = "a stamped batch that is dropped is lost"]
    #[inline]
    pub fn close(mut batch: B, domain: &Domain) -> Self {
        batch.set_cookie(domain.snapshot());
        Stamped(batch)
    }

    /// As [`close`](Self::close), and sees to it that the period will come.
    #[must_use = "a stamped batch that is dropped is lost"]
    #[inline]
    pub fn close_and_start(mut batch: B, domain: &Domain) -> Self {
        batch.set_cookie(domain.start_poll());
        Stamped(batch)
    }

    /// What the batch waits for.
    #[must_use]
    #[inline]
    pub fn cookie(&self) -> Cookie {
        self.0.cookie()
    }

    /// Entries waiting.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.0.entries() as usize
    }

    /// True if nothing waits.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.entries() == 0
    }

    /// The batch, to look at.
    #[must_use]
    #[inline]
    pub fn peek(&self) -> &B {
        &self.0
    }

    /// True if the grace period has passed, so that [`open`](Self::open) will succeed.
    #[must_use]
    #[inline]
    pub fn elapsed(&self, domain: &Domain) -> bool {
        domain.poll(self.cookie())
    }

    /// Gives the content out. Polls the cookie first.
    ///
    /// # Errors
    /// [`Leaked`] if the grace period has not passed: the batch is given up and counted.
    #[inline]
    pub fn open(self, domain: &Domain) -> Result<B, Leaked> {
        if domain.poll(self.cookie()) { Ok(self.0) } else { Err(self.give_up(domain)) }
    }

    /// As [`open`](Self::open), by who closed it for this very domain: gives it back if it is too early.
    pub(crate) fn open_if_passed(self, domain: &Domain) -> Result<B, Self> {
        if domain.has_passed(self.cookie()) { Ok(self.0) } else { Err(self) }
    }

    #[cold]
    fn give_up(self, domain: &Domain) -> Leaked {
        domain.recorder.leaked();
        Leaked { entries: self.0.entries() }
    }

    /// Takes the batch out of the type, as it is, to be kept in a structure of the caller's.
    ///
    /// # Safety
    /// Nothing is added to it and none of its entries is used before it went through
    /// [`from_unopened`](Self::from_unopened) and [`open`](Self::open).
    #[must_use]
    #[inline]
    pub unsafe fn into_unopened(self) -> B {
        self.0
    }

    /// Takes a batch back that [`into_unopened`](Self::into_unopened) gave.
    ///
    /// # Safety
    /// It came from there, and kept its promise.
    #[must_use]
    #[inline]
    pub const unsafe fn from_unopened(batch: B) -> Self {
        Stamped(batch)
    }

    /// A look at a batch that [`into_unopened`](Self::into_unopened) gave, where it lies.
    ///
    /// # Safety
    /// As [`from_unopened`](Self::from_unopened).
    #[must_use]
    #[inline]
    pub const unsafe fn of_unopened(batch: &B) -> &Self {
        // SAFETY: `Stamped` is transparent.
        unsafe { &*core::ptr::from_ref(batch).cast() }
    }
}
