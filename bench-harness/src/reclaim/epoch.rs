//! crossbeam-epoch: bags of 64 closures, three epochs, a collection every 128 pins.

use super::{Dispose, Local, Scheme};
use core::ffi::c_void;
use crossbeam_epoch::{Collector, Guard, LocalHandle};

/// Blocks that a thread which only retires puts into one bag, the crate's own size of it.
const BAG: u32 = 64;

/// crossbeam-epoch.
pub struct Crossbeam(Collector);

/// A registered thread. The guard is `Some` inside a section.
pub struct Thread {
    handle: LocalHandle,
    guard: Option<Guard>,
    /// A thread that only retires stays pinned for a bag at a time.
    retired: u32,
}

impl Scheme for Crossbeam {
    const NAME: &'static str = "crossbeam";
    const SETTING: &'static str = "own collector and handle; closure of one word, stored in place; a thread that only retires repins once a bag of 64";
    type Local<'s> = Thread;

    fn start() -> Result<Self, String> {
        Ok(Crossbeam(Collector::new()))
    }

    fn join(&self) -> Thread {
        Thread { handle: self.0.register(), guard: None, retired: 0 }
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

    #[inline(always)]
    unsafe fn retire_outside<D: Dispose>(&mut self, block: *mut c_void) {
        match &mut self.guard {
            None => self.enter(),
            Some(guard) if self.retired.is_multiple_of(BAG) => guard.repin(),
            Some(_) => {}
        }
        self.retired = self.retired.wrapping_add(1);
        // SAFETY: the caller's promise; pinned.
        unsafe { self.retire::<D>(block) };
    }
}
