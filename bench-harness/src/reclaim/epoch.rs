//! crossbeam-epoch: bags of 64 closures, three epochs, a collection every 128 pins.

use super::{Dispose, Local, Scheme};
use core::ffi::c_void;
use crossbeam_epoch::{Collector, Guard, LocalHandle};

/// crossbeam-epoch.
pub struct Crossbeam(Collector);

/// A registered thread. The guard is `Some` inside a section.
pub struct Thread {
    handle: LocalHandle,
    guard: Option<Guard>,
}

impl Scheme for Crossbeam {
    const NAME: &'static str = "crossbeam";
    const SETTING: &'static str = "own collector and handle; a closure of one word, stored in place; pinned \
        for each operation, for it collects every 128 pins and nowhere else";
    type Local<'s> = Thread;

    fn start() -> Result<Self, String> {
        Ok(Crossbeam(Collector::new()))
    }

    fn join(&self) -> Thread {
        Thread { handle: self.0.register(), guard: None }
    }

    fn drain(&self) {
        // A bag is freed two epochs after it was sealed, a few bags a collection, so ask until a
        // sentinel that was deferred last has run and nothing can be behind it.
        use std::sync::Arc;
        use std::sync::atomic::{AtomicU32, Ordering};
        let handle = self.0.register();
        let done = Arc::new(AtomicU32::new(0));
        for round in 1..=2 {
            let sentinel = Arc::clone(&done);
            let guard = handle.pin();
            guard.defer(move || sentinel.fetch_add(1, Ordering::Relaxed));
            drop(guard);
            while done.load(Ordering::Relaxed) < round {
                handle.pin().flush();
            }
        }
    }
}

impl Local for Thread {
    #[inline(always)]
    fn enter(&mut self) {
        self.guard = Some(self.handle.pin());
    }

    #[inline(always)]
    fn leave(&mut self) {
        self.guard = None;
    }

    #[inline(always)]
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void) {
        let Some(guard) = &self.guard else { unreachable!("retire is called inside a section") };
        let block = block as usize;
        // SAFETY: the caller unlinked the block; the closure is called once, by whatever thread.
        unsafe { guard.defer_unchecked(move || D::dispose(block as *mut c_void)) };
    }
}
