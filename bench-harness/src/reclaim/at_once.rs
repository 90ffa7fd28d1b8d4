//! The two floors: freeing at once, which no reader survives, and never freeing.

use super::{Dispose, Local, Scheme};
use core::ffi::c_void;

/// Frees at once. Only where nobody reads.
pub struct Now;

impl Scheme for Now {
    const NAME: &'static str = "now";
    const SETTING: &'static str = "free() in place; unsafe with readers";
    const SAFE: bool = false;
    type Local<'s> = Now;

    fn start() -> Result<Self, String> {
        Ok(Now)
    }
    fn join(&self) -> Now {
        Now
    }
    fn drain(&self) {}
}

impl Local for Now {
    #[inline(always)]
    fn enter(&mut self) {}
    #[inline(always)]
    fn leave(&mut self) {}
    #[inline(always)]
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void) {
        // SAFETY: the caller has no readers, which is what `SAFE` says.
        unsafe { D::dispose(block) };
    }
}

/// Never frees.
pub struct Leak;

impl Scheme for Leak {
    const NAME: &'static str = "leak";
    const SETTING: &'static str = "nothing is freed";
    type Local<'s> = Leak;

    fn start() -> Result<Self, String> {
        Ok(Leak)
    }
    fn join(&self) -> Leak {
        Leak
    }
    fn drain(&self) {}
}

impl Local for Leak {
    #[inline(always)]
    fn enter(&mut self) {}
    #[inline(always)]
    fn leave(&mut self) {}
    #[inline(always)]
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void) {
        // The caller's stores to the block must not be optimised away for want of a reader.
        core::hint::black_box(block);
    }
}
