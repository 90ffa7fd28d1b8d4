//! Readers: the safe handle on a registered cell, and the guard of a section.
//!
//! Everything here is one line over `cell.rs`; what it adds is ownership. A [`Reader`] is one thread's:
//! it can be sent to the thread that will use it and not be shared, and a [`Guard`] borrows it, so it
//! neither outlives its reader nor leaves its thread.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use crate::arch;
use crate::cell::ReaderCell;

/// A registered reader: one thread as the grace-period engine sees it.
///
/// Made by [`Domain::register`](crate::Domain::register), by the thread itself or by its creator; it may be
/// sent to the thread that will use it, but not shared. Dropping it is [`exit`](Reader::exit).
pub struct Reader {
    cell: &'static ReaderCell,
    /// `Send`, not `Sync`: every method is for the one thread that owns the reader.
    owned: PhantomData<core::cell::Cell<()>>,
}

impl Reader {
    /// # Safety
    /// The cell is registered and the caller speaks for the thread that owns it.
    pub(crate) unsafe fn new(cell: &'static ReaderCell) -> Reader {
        Reader { cell, owned: PhantomData }
    }

    /// A handle on a cell that stays registered when the handle is gone, for embedders that keep
    /// the cell and not the `Reader`.
    ///
    /// # Safety
    /// The cell is registered and the calling thread owns it for as long as the handle is used.
    pub unsafe fn borrow_cell(cell: &'static ReaderCell) -> ManuallyDrop<Reader> {
        // SAFETY: the caller's promise.
        ManuallyDrop::new(unsafe { Reader::new(cell) })
    }

    /// The reader's cell.
    #[must_use]
    pub fn cell(&self) -> &'static ReaderCell {
        self.cell
    }

    /// Names the thread in messages and stall reports, where its creator registered the reader
    /// before the thread had a number.
    pub fn set_tid(&self, tid: u32) {
        self.cell.set_tid(tid);
    }

    /// Opens a read-side section that ends when the guard is dropped. Sections nest.
    ///
    /// What a section finds in a shared structure stays valid until the section ends, if writers
    /// wait for a grace period between unlinking and reuse. Costs an increment and a conditional jump.
    /// Async-signal-safe.
    #[inline(always)]
    pub fn read_lock(&self) -> Guard<'_> {
        arch::lock(self.cell);
        Guard { reader: self }
    }

    /// [`read_lock`](Reader::read_lock) without a guard.
    #[inline(always)]
    pub fn lock(&self) {
        arch::lock(self.cell);
    }

    /// Ends the innermost section that [`lock`](Reader::lock) opened. One too many is reported to
    /// the misuse handler and has no other effect. Async-signal-safe.
    ///
    /// # Safety
    /// The section is not one of a [`Guard`]'s that still lives: what the guard lends would dangle.
    #[inline(always)]
    pub unsafe fn unlock(&self) {
        arch::unlock(self.cell);
    }

    /// Announces that the thread holds no protected reference at this point.
    ///
    /// Two loads and a comparison when no period waits for this reader; one fenced store when one
    /// does, and the end of the period if it waited for nobody else. Inside a section, and offline,
    /// it does nothing. Async-signal-safe.
    #[inline]
    pub fn quiescent_state(&self) {
        self.cell.quiescent_state();
    }

    /// Announces that the thread will hold no protected reference until [`online`](Reader::online):
    /// call it before blocking for long. A section opened while offline (by a signal handler, say)
    /// is safe: it comes online and goes back.
    ///
    /// No [`Guard`] of the reader's can live meanwhile. Inside a section that [`lock`](Reader::lock) opened,
    /// of which the compiler knows nothing, this is misuse.
    ///
    /// ```
    /// fn sleeps(reader: &mut quiescent::Reader) {
    ///     drop(reader.read_lock());
    ///     reader.offline();
    /// }
    /// ```
    ///
    /// ```compile_fail,E0502
    /// fn sleeps(reader: &mut quiescent::Reader) {
    ///     let section = reader.read_lock();
    ///     reader.offline(); // what `section` has found could be reused
    ///     drop(section);
    /// }
    /// ```
    pub fn offline(&mut self) {
        self.cell.offline();
    }

    /// Ends [`offline`](Reader::offline). Does nothing if the reader is online.
    pub fn online(&self) {
        self.cell.online();
    }

    /// The depth of the section the thread is in; 0 outside.
    #[must_use]
    pub fn nesting(&self) -> u32 {
        self.cell.depth()
    }

    /// True once the thread has called `read_lock`.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        self.cell.has_locked()
    }

    /// True while grace periods do not wait for this reader because it went offline.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.cell.is_offline()
    }

    /// True while grace periods do not wait for this reader because an expedite found it lagging.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.cell.is_parked()
    }

    /// Ends the registration: goes offline for good, completing the period in flight if it waited
    /// for nobody else. The cell may be registered again. An open section is reported and ended.
    pub fn exit(self) {}
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: a `Reader` exists only for a registered cell and is its owner's only handle.
        unsafe { self.cell.exit_raw() }
    }
}

impl crate::Domain {
    /// One section, of a reader that is registered for it alone: for who looks at what the domain protects
    /// now and then, from any thread, also in a signal handler. Some tens of nanoseconds more than a section.
    /// Its end ends no period: that is for who waits for one, by [`advance`](crate::Domain::advance) for
    /// instance.
    ///
    /// # Errors
    /// [`NoRoom`](crate::NoRoom) if every cell of every block has a reader; `look` was not called.
    pub fn glance<R>(&'static self, look: impl FnOnce(&Guard<'_>) -> R) -> Result<R, crate::NoRoom> {
        // Neither is dropped: the section is not the owner's to end twice.
        let reader = ManuallyDrop::new(self.register_offline(0)?);
        reader.cell.begin_glance();
        let section = ManuallyDrop::new(Guard { reader: &reader });
        let seen = look(&section);
        reader.cell.end_glance();
        Ok(seen)
    }
}

/// A read-side section. Ends when dropped.
#[must_use = "the section ends when the guard is dropped"]
pub struct Guard<'a> {
    reader: &'a Reader,
}

impl Drop for Guard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        arch::unlock(self.reader.cell);
    }
}
