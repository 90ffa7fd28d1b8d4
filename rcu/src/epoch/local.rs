//! One thread as a collector's reader, and what it has waiting.
//!
//! A [`Local`] is held by the thread-local table, by handles, and by each guard, so that it outlives the
//! table where a guard does. It never leaves its thread. Everything is destroyed by [`Local::tend`], outside
//! of any section and with no lock held.

use core::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::collector::State;
use super::garbage::{self, Deferred, PATIENT_BAGS, Pot};
use crate::cookie::Cookie;
use crate::demand::Demand;
use crate::reader::Reader;

pub(super) struct Local {
    /// Ends before `state`, in which its cell lies.
    reader: Reader,
    pot: Arc<Mutex<Pot>>,
    /// What the oldest bag of the pot waits for, as far as this thread knows: a barrier may have taken it.
    oldest: Cell<Option<Cookie>>,
    /// It is destroying: what it destroys may pin and defer, and must not begin again.
    tending: Cell<bool>,
    state: Arc<State>,
}

/// A lock whose holder may have panicked only between whole changes.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Local {
    pub(super) fn register(state: &Arc<State>) -> Local {
        let pot = Arc::new(Mutex::new(Pot::default()));
        lock(&state.pots).push(Arc::clone(&pot));
        Local {
            reader: state.register(),
            pot,
            oldest: Cell::new(None),
            tending: Cell::new(false),
            state: Arc::clone(state),
        }
    }

    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }

    #[inline]
    pub(super) fn enter(&self) {
        self.reader.lock();
    }

    /// Ends the innermost section.
    ///
    /// # Safety
    /// It is one that [`enter`](Self::enter) opened, and nothing that was found in it is used any more.
    #[inline]
    pub(super) unsafe fn leave(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.reader.unlock() };
        if self.oldest.get().is_some() {
            self.tend();
        }
    }

    pub(super) fn depth(&self) -> u32 {
        self.reader.nesting()
    }

    pub(super) fn defer(&self, call: Deferred) {
        let mut pot = lock(&self.pot);
        if !pot.add(call, &self.state.domain) {
            return;
        }
        self.oldest.set(pot.oldest());
        let demand = if pot.bags() >= PATIENT_BAGS { Demand::Expedite } else { Demand::Start };
        drop(pot);
        self.state.domain.advance(demand);
    }

    /// Lets what is there wait by itself, and destroys what has waited long enough, if it is outside of any
    /// section.
    pub(super) fn flush(&self) {
        let mut pot = lock(&self.pot);
        pot.close(&self.state.domain);
        self.oldest.set(pot.oldest());
        drop(pot);
        self.state.domain.advance(Demand::Expedite);
        self.tend();
    }

    /// Destroys what has waited long enough.
    #[cold]
    pub(super) fn tend(&self) {
        if self.depth() != 0 || self.tending.get() {
            return;
        }
        let domain = &self.state.domain;
        self.reader.quiescent_state();
        if self.oldest.get().is_some_and(|cookie| !domain.poll(cookie)) {
            return;
        }
        let _done = self.begin_to_tend();
        loop {
            let mut pot = lock(&self.pot);
            let elapsed = pot.take_elapsed(domain);
            self.oldest.set(pot.oldest());
            drop(pot);
            let Some((bags, _running)) = elapsed else { break };
            garbage::run(bags);
        }
        self.state.tend_orphans();
    }

    fn begin_to_tend(&self) -> Tending<'_> {
        self.tending.set(true);
        Tending(&self.tending)
    }

    /// Waits until everything that was deferred so far has been destroyed.
    pub(super) fn barrier(&self) {
        assert!(!self.tending.get(), "a barrier in something that is being destroyed would wait for itself");
        let _done = self.begin_to_tend();
        self.state.barrier(self);
    }

    /// Waits for a whole period.
    pub(super) fn synchronize(&self) {
        assert!(
            self.depth() == 0,
            "waiting for a grace period under a guard of the same thread would never end"
        );
        self.state.domain.synchronize_outside(&self.reader);
    }

    /// Ends and begins the section, if it is the only one of the thread, so that periods go on.
    ///
    /// # Safety
    /// As [`leave`](Self::leave).
    pub(super) unsafe fn renew(&self, between: impl FnOnce()) {
        // Made first: what is destroyed as the section ends may panic.
        struct Again<'a>(&'a Local);
        impl Drop for Again<'_> {
            fn drop(&mut self) {
                self.0.enter();
            }
        }
        let _again = Again(self);
        // SAFETY: the caller's promise.
        unsafe { self.leave() };
        if self.depth() == 0 {
            self.reader.quiescent_state();
        }
        between();
    }
}

struct Tending<'a>(&'a Cell<bool>);

impl Drop for Tending<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.state.adopt(&self.pot);
    }
}
