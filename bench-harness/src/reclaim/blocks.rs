//! Blocks from malloc, and the two ways to dispose of one: free it, or count it first.
//!
//! Everything goes through libc's malloc and free, so that LD_PRELOAD decides.

use super::Dispose;
use core::ffi::c_void;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// A block of `bytes`.
///
/// # Panics
/// There is no memory.
#[inline(always)]
#[must_use]
pub fn allocate(bytes: usize) -> *mut c_void {
    // SAFETY: malloc has no preconditions.
    let block = unsafe { libc::malloc(bytes) };
    assert!(!block.is_null(), "malloc({bytes}) gave nothing");
    block
}

/// Frees a block whose `HEAD` bytes from the start are what readers look at.
pub struct Free<const HEAD: usize>;

impl<const HEAD: usize> Dispose for Free<HEAD> {
    const HEAD: usize = HEAD;

    #[inline(always)]
    unsafe fn dispose(block: *mut c_void) {
        // SAFETY: the caller's promise; it came from `allocate`.
        unsafe { libc::free(block) };
    }
}

/// As [`Free`] at 8, and counts; a block whose first word is not 0 was stamped with the time.
pub struct Observe;

static RETIRED: AtomicU64 = AtomicU64::new(0);
static DISPOSED: AtomicU64 = AtomicU64::new(0);
static AGES: Mutex<Vec<u64>> = Mutex::new(Vec::new());

thread_local! {
    /// Collected here, handed to `AGES` when full or when the thread ends.
    static OWN_AGES: RefCell<Ages> = const { RefCell::new(Ages(Vec::new())) };
}

struct Ages(Vec<u64>);

impl Drop for Ages {
    fn drop(&mut self) {
        AGES.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.0);
    }
}

/// Notes that a stamped block came free after `nanoseconds`.
pub fn note_age(nanoseconds: u64) {
    // A thread that is past its destructors has nowhere to put it: one age less.
    let _ = OWN_AGES.try_with(|own| {
        let mut own = own.borrow_mut();
        own.0.push(nanoseconds);
        if own.0.len() >= 1024 {
            AGES.lock().unwrap_or_else(PoisonError::into_inner).append(&mut own.0);
        }
    });
}

/// The ages noted by threads that have ended, and by this one.
#[must_use]
pub fn take_ages() -> Vec<u64> {
    OWN_AGES.with(|own| AGES.lock().unwrap_or_else(PoisonError::into_inner).append(&mut own.borrow_mut().0));
    core::mem::take(&mut *AGES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// One more block is retired: how many wait now.
#[inline]
pub fn note_retired() -> u64 {
    (RETIRED.fetch_add(1, Relaxed) + 1).saturating_sub(DISPOSED.load(Relaxed))
}

impl Dispose for Observe {
    const HEAD: usize = 8;

    unsafe fn dispose(block: *mut c_void) {
        DISPOSED.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise; whoever retires an observed block has written its first word.
        let stamp = unsafe { block.cast::<u64>().read() };
        if stamp != 0 {
            note_age(rcu::now_ns().saturating_sub(stamp));
        }
        // SAFETY: the caller's promise.
        unsafe { libc::free(block) };
    }
}
