//! `retire`: a drop that waits for a grace period.

use crate::abi::calls::rcumalloc_call;
use alloc::alloc::{Layout, handle_alloc_error};
use alloc::boxed::Box;
use core::ffi::c_void;

/// Drops `value` once every section that has begun by now has ended, in a thread of the library's.
///
/// Values are dropped one at a time in the order in which they were retired, in no section, by a thread that
/// holds no lock. A destructor may do whatever a thread may, retire more, too, but not wait in
/// [`barrier`](crate::barrier), and it must not panic: that ends the process. At most 65536 wait; who retires
/// more, outside sections, waits a moment. What still waits when the program ends is not dropped; call
/// [`barrier`](crate::barrier) first if it must be.
///
/// ```
/// use std::sync::atomic::{AtomicPtr, Ordering};
///
/// let current = AtomicPtr::new(Box::into_raw(Box::new(vec![1])));
/// let section = rcumalloc::read();
/// // SAFETY: what a section has seen is there until it ends.
/// let seen = unsafe { &*current.load(Ordering::Acquire) };
/// let old = current.swap(Box::into_raw(Box::new(vec![2])), Ordering::AcqRel);
/// // SAFETY: it is no longer published, and only this thread retires it.
/// rcumalloc::retire(unsafe { Box::from_raw(old) });
/// assert_eq!(seen[0], 1);
/// drop(section);
/// rcumalloc::barrier(); // now it has been dropped
/// # // SAFETY: nobody reads any more.
/// # drop(unsafe { Box::from_raw(current.into_inner()) });
/// ```
pub fn retire<T: Send + 'static>(value: Box<T>) {
    // SAFETY: what becomes of the pointer is the box again, once, in a thread that it may be sent to.
    if !unsafe { rcumalloc_call(Box::into_raw(value).cast(), dropped::<T>) } {
        // The value leaks: readers may see it.
        handle_alloc_error(Layout::new::<[usize; 4]>());
    }
}

unsafe extern "C" fn dropped<T>(value: *mut c_void) {
    // SAFETY: made of a box by `retire`, and no section can see it any more.
    drop(unsafe { Box::from_raw(value.cast::<T>()) });
}
