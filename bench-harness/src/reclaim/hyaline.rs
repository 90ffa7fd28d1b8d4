//! seize: Hyaline's batches with reference counts, entered with an asymmetric barrier.

use super::{Dispose, Local, Scheme};
use core::ffi::c_void;
use seize::{Collector, Guard, LocalGuard};

/// seize.
pub struct Seize(Collector);

/// A thread; the guard is `Some` inside a section.
pub struct Thread<'s> {
    collector: &'s Collector,
    guard: Option<LocalGuard<'s>>,
    retired: u32,
}

/// Blocks that a thread which only retires retires under one guard: the crate's own batch.
const BATCH: u32 = 32;

impl Scheme for Seize {
    const NAME: &'static str = "seize";
    const SETTING: &'static str = "own collector, local guards, batches of 32 (the default); a thread that \
        only retires refreshes its guard once a batch";
    type Local<'s> = Thread<'s>;

    fn start() -> Result<Self, String> {
        Ok(Seize(Collector::new()))
    }

    fn join(&self) -> Thread<'_> {
        Thread { collector: &self.0, guard: None, retired: 0 }
    }

    fn drain(&self) {
        // SAFETY: `drain` is called when no thread takes part.
        unsafe { self.0.reclaim_all() };
    }
}

unsafe fn dispose<D: Dispose>(block: *mut u64, _collector: &Collector) {
    // SAFETY: seize calls this once, when no guard can see the block.
    unsafe { D::dispose(block.cast()) };
}

impl Local for Thread<'_> {
    #[inline(always)]
    fn enter(&mut self) {
        self.guard = Some(self.collector.enter());
    }

    #[inline(always)]
    fn leave(&mut self) {
        self.guard = None;
    }

    #[inline(always)]
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void) {
        let Some(guard) = &self.guard else { unreachable!("retire is called inside a section") };
        // SAFETY: the caller unlinked the block.
        unsafe { guard.defer_retire(block.cast::<u64>(), dispose::<D>) };
    }

    #[inline(always)]
    unsafe fn retire_outside<D: Dispose>(&mut self, block: *mut c_void) {
        match &mut self.guard {
            None => self.enter(),
            Some(guard) if self.retired.is_multiple_of(BATCH) => guard.refresh(),
            Some(_) => {}
        }
        self.retired = self.retired.wrapping_add(1);
        // SAFETY: the caller's promise; a guard is held.
        unsafe { self.retire::<D>(block) };
    }
}
