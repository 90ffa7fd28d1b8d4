//! The readers of a domain: how a cell joins the list, how the list is walked, and what a fork leaves of it.
//!
//! The list only grows (cells are reused, not removed), so it is walked without protection. A cell is
//! whole when it is pushed; why a scan cannot miss one is said at the head of `domain.rs`.

use crate::cell::ReaderCell;
use crate::clock;
use crate::cookie::in_flight;
use crate::domain::Domain;
use crate::misuse::Misuse;
use crate::reader::Reader;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

/// [`Domain::register`] was given a cell that has a reader. Also reported to the misuse handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyRegistered;

impl core::fmt::Display for AlreadyRegistered {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("this reader record is registered already")
    }
}

impl core::error::Error for AlreadyRegistered {}

impl Domain {
    /// Makes `cell` a reader of this domain, online, not in a section. By the thread itself or,
    /// better, by its creator before it runs. A cell whose reader has exited may be given again.
    ///
    /// `tid` names the thread in messages and stall reports; 0 where it is not known yet.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] if the cell has a reader; also reported to the misuse handler.
    ///
    /// # Safety
    /// A cell that has once been registered here is never given to another domain.
    pub unsafe fn register(
        &'static self,
        cell: &'static ReaderCell,
        tid: u32,
    ) -> Result<Reader, AlreadyRegistered> {
        if !cell.claim(self, tid, self.generation.load(Relaxed)) {
            self.misuse(Misuse::RegisteredTwice { tid: cell.tid() });
            return Err(AlreadyRegistered);
        }
        if cell.link_once(|| self.next_id.fetch_add(1, Relaxed)) {
            let mut head = self.readers.load(Relaxed);
            loop {
                cell.next().store(head, Relaxed);
                // Release pairs with the acquire in `readers`: the cell is whole when it is seen.
                match self.readers.compare_exchange(
                    head,
                    core::ptr::from_ref(cell).cast_mut(),
                    Release,
                    Relaxed,
                ) {
                    Ok(_) => break,
                    Err(now) => head = now,
                }
            }
        }
        // The fence of the reader's first section also stands between the push and what it reads.
        cell.come_online(0);
        // SAFETY: just registered, and the caller is its owner until it hands it on.
        Ok(unsafe { Reader::new(cell) })
    }

    /// The cells registered so far, in no particular order; unused ones too.
    pub(crate) fn readers(&self) -> Readers<'_> {
        Readers { next: self.readers.load(Acquire), domain: core::marker::PhantomData }
    }

    /// Call it first thing in the child of a fork, in its only thread: the other threads' readers are
    /// gone, whatever they held. `survivor` is the forking thread's own reader; its section, if it is
    /// in one, stays open.
    ///
    /// # Safety
    /// No other thread of this process uses the domain yet, and the child neither uses nor drops a copy of
    /// any other `Reader`: its cell may soon be somebody else's.
    pub unsafe fn after_fork_in_child(&self, survivor: Option<&Reader>) {
        let survivor = survivor.map(Reader::cell);
        let generation = self.generation.load(Relaxed) + 1;
        self.generation.store(generation, Relaxed);
        for cell in self.readers() {
            if !survivor.is_some_and(|own| core::ptr::eq(own, cell)) {
                cell.forget_owner();
            }
        }
        if let Some(own) = survivor {
            own.survive(generation, clock::thread_id());
        }
        self.expediting.store(false, Relaxed);
        let sequence = self.sequence(Relaxed);
        if in_flight(sequence) {
            self.try_complete(sequence);
        } else if self.needed.load(Relaxed) > sequence {
            // Whoever was about to begin what somebody was promised is gone.
            self.start(sequence);
        }
    }
}

/// Walks the list of readers.
pub(crate) struct Readers<'a> {
    next: *mut ReaderCell,
    domain: core::marker::PhantomData<&'a Domain>,
}

impl<'a> Iterator for Readers<'a> {
    type Item = &'a ReaderCell;

    fn next(&mut self) -> Option<&'a ReaderCell> {
        // SAFETY: null or a `&'static ReaderCell` that `register` pushed.
        let cell = unsafe { self.next.as_ref() }?;
        // A cell's link is written before the push that publishes it, and never after.
        self.next = cell.next().load(Relaxed);
        Some(cell)
    }
}
