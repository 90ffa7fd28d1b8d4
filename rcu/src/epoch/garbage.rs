//! What waits to be destroyed: one call each, in bags that wait behind a cookie as a whole.
//!
//! A thread's bags are in its [`Pot`], behind a lock that nobody else takes but
//! [`barrier`](super::Collector::barrier) and a thread's end, and that is never held while anything is
//! destroyed: who takes a bag out first notes that it is destroying ([`Running`]), so that a barrier can wait
//! for that, too.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::batch::{Batch, Stamped};
use crate::cookie::Cookie;
use crate::domain::Domain;

/// Entries of a bag: a cookie, and perhaps a barrier, are shared by so many.
pub(super) const BAG: usize = 64;
/// Bags that may wait in a thread before it asks for periods to end. What 256 small objects hold is less than
/// a thread's stack does.
pub(super) const PATIENT_BAGS: usize = 4;

/// A call to be made once.
pub(super) struct Deferred {
    call: unsafe fn(*mut ()),
    argument: *mut (),
}

// SAFETY: both constructors ask that the call may be made by any thread.
unsafe impl Send for Deferred {}

impl Deferred {
    /// Runs a closure.
    ///
    /// # Safety
    /// It may run in any thread, and later than what it borrows would say.
    pub(super) unsafe fn call<F: FnOnce()>(closure: F) -> Deferred {
        unsafe fn run<F: FnOnce()>(closure: *mut ()) {
            // SAFETY: out of the box below, once.
            let closure = unsafe { Box::from_raw(closure.cast::<F>()) };
            closure();
        }
        Deferred { call: run::<F>, argument: Box::into_raw(Box::new(closure)).cast() }
    }

    /// Drops a box.
    ///
    /// # Safety
    /// As `call`, for the drop of a `T`; the pointer came out of a box and nobody else frees it.
    pub(super) unsafe fn free<T>(value: *mut T) -> Deferred {
        unsafe fn run<T>(value: *mut ()) {
            // SAFETY: the promise made to `free`.
            drop(unsafe { Box::from_raw(value.cast::<T>()) });
        }
        Deferred { call: run::<T>, argument: value.cast() }
    }

    fn run(self) {
        // SAFETY: the promise made to the constructor; `self` is used up.
        unsafe { (self.call)(self.argument) }
    }
}

/// Up to [`BAG`] calls.
pub(super) struct Bag {
    calls: Vec<Deferred>,
    cookie: Cookie,
}

impl Batch for Bag {
    fn entries(&self) -> u32 {
        self.calls.len() as u32
    }
    fn cookie(&self) -> Cookie {
        self.cookie
    }
    fn set_cookie(&mut self, cookie: Cookie) {
        self.cookie = cookie;
    }
}

/// Makes calls; where one panics, the rest are made all the same.
pub(super) fn run(bags: impl IntoIterator<Item = Bag>) {
    struct Rest<I: Iterator<Item = Deferred>>(I);
    impl<I: Iterator<Item = Deferred>> Drop for Rest<I> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.by_ref().for_each(Deferred::run);
            }
        }
    }
    let mut rest = Rest(bags.into_iter().flat_map(|bag| bag.calls));
    rest.0.by_ref().for_each(Deferred::run);
}

/// What one thread, or nobody any more, has waiting.
#[derive(Default)]
pub(super) struct Pot {
    open: Vec<Deferred>,
    waiting: VecDeque<Stamped<Bag>>,
    /// Who destroys what was taken from here, as far as it is still at it.
    running: Vec<Weak<Running>>,
}

/// Somebody destroys what was taken from a pot, as long as this lives.
pub(super) struct Running;

impl Pot {
    /// Adds a call. True if that filled a bag.
    pub(super) fn add(&mut self, call: Deferred, domain: &Domain) -> bool {
        self.open.push(call);
        self.open.len() >= BAG && self.close(domain)
    }

    /// Lets the open bag wait, behind a period that will come. False if it was empty.
    pub(super) fn close(&mut self, domain: &Domain) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let bag = Bag { calls: core::mem::take(&mut self.open), cookie: domain.get_completed() };
        self.waiting.push_back(Stamped::close_and_start(bag, domain));
        true
    }

    /// What the oldest bag waits for.
    pub(super) fn oldest(&self) -> Option<Cookie> {
        self.waiting.front().map(Stamped::cookie)
    }

    /// Closed bags.
    pub(super) fn bags(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the bags out whose period has passed.
    pub(super) fn take_elapsed(&mut self, domain: &Domain) -> Option<(Vec<Bag>, Arc<Running>)> {
        let ready = self.waiting.iter().take_while(|bag| bag.elapsed(domain)).count();
        if ready == 0 {
            return None;
        }
        // Cookies only become true: none of them is given up.
        let bags = self.waiting.drain(..ready).filter_map(|bag| bag.open(domain).ok()).collect();
        Some((bags, self.note_running()))
    }

    fn note_running(&mut self) -> Arc<Running> {
        let running = Arc::new(Running);
        self.running.retain(|other| other.strong_count() != 0);
        self.running.push(Arc::downgrade(&running));
        running
    }

    /// Moves everything into `other`.
    pub(super) fn pour_into(&mut self, other: &mut Pot, domain: &Domain) {
        self.close(domain);
        other.waiting.append(&mut self.waiting);
        // The oldest first, whoever it was: a bag behind one that waits longer would wait as long.
        other.waiting.make_contiguous().sort_by_key(|bag| bag.cookie().sequence());
        other.running.append(&mut self.running);
    }

    /// Closes the open bag and copies out who is still destroying; what a barrier waits for.
    pub(super) fn seal(&mut self, domain: &Domain, running: &mut Vec<Weak<Running>>) {
        self.close(domain);
        running.extend(self.running.iter().cloned());
    }

    /// Makes all calls, with nobody left who could read.
    pub(super) fn run_all(&mut self) {
        let open = Bag { calls: core::mem::take(&mut self.open), cookie: Cookie::elapsed(1) };
        // SAFETY: there is no reader any more, so there is nothing to wait for.
        let waiting =
            core::mem::take(&mut self.waiting).into_iter().map(|bag| unsafe { bag.into_unopened() });
        run(waiting.chain([open]));
    }
}
