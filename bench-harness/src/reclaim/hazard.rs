//! haphazard: hazard pointers. A block is announced before it is used, and looked at again.

use super::{Dispose, Local, Scheme};
use core::ffi::c_void;
use core::marker::PhantomData;
use haphazard::HazardPointer;
use haphazard::raw::Pointer;
use std::sync::atomic::{Ordering, fence};

type Domain = haphazard::Domain<haphazard::Global>;

/// haphazard, on its global domain.
pub struct Haphazard;

/// A thread with two hazard pointers: the node it stands on and the one before it.
pub struct Thread {
    pointers: [HazardPointer<'static>; 2],
}

impl Scheme for Haphazard {
    const NAME: &'static str = "haphazard";
    const SETTING: &'static str =
        "two hazard pointers kept by the thread; reclaims at 1000 retired (the crate's constant)";
    type Local<'s> = Thread;

    fn start() -> Result<Self, String> {
        Ok(Haphazard)
    }

    fn join(&self) -> Thread {
        Thread { pointers: [HazardPointer::new(), HazardPointer::new()] }
    }

    fn drain(&self) {
        while Domain::global().eager_reclaim() != 0 {}
    }
}

/// A retired block as its owner: dropping it disposes of it.
struct Retired<D: Dispose>(*mut u64, PhantomData<D>);

impl<D: Dispose> core::ops::Deref for Retired<D> {
    type Target = u64;
    fn deref(&self) -> &u64 {
        // SAFETY: retired blocks are at least 8 bytes and mapped until they are disposed of.
        unsafe { &*self.0 }
    }
}

// SAFETY: a pointer there and back, dropped once.
unsafe impl<D: Dispose> Pointer<u64> for Retired<D> {
    fn into_raw(self) -> *mut u64 {
        core::mem::ManuallyDrop::new(self).0
    }

    unsafe fn from_raw(pointer: *mut u64) -> Self {
        Retired(pointer, PhantomData)
    }
}

impl<D: Dispose> Drop for Retired<D> {
    fn drop(&mut self) {
        // SAFETY: the domain makes this value when no hazard pointer holds the block, once.
        unsafe { D::dispose(self.0.cast()) };
    }
}

impl Local for Thread {
    const SHIELDS: bool = true;

    #[inline(always)]
    fn enter(&mut self) {}

    #[inline(always)]
    fn leave(&mut self) {
        for pointer in &mut self.pointers {
            pointer.reset_protection();
        }
    }

    #[inline(always)]
    fn shield(&mut self, place: usize, block: *mut c_void) {
        self.pointers[place].protect_raw(block.cast::<u64>());
        // Between the announcement and the caller's second look at the link; pairs with the fence
        // between taking the retired list and reading the hazard pointers in the crate.
        fence(Ordering::SeqCst);
    }

    #[inline(always)]
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void) {
        // SAFETY: the caller unlinked the block, and nobody shields what he has not seen linked.
        unsafe { Domain::global().retire_ptr::<u64, Retired<D>>(block.cast()) };
    }
}
