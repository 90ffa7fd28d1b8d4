//! The heap for single collections: `Allocator` of the crate allocator-api2, which the standard library's
//! will be once it is stable.

use crate::RcuMalloc;
use allocator_api2::alloc::{AllocError, Allocator};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, slice_from_raw_parts_mut};

/// A block of no bytes is no block of the heap.
fn block(layout: Layout, give: impl FnOnce() -> *mut u8) -> Result<NonNull<[u8]>, AllocError> {
    let start = if layout.size() == 0 { core::ptr::without_provenance_mut(layout.align()) } else { give() };
    NonNull::new(slice_from_raw_parts_mut(start, layout.size())).ok_or(AllocError)
}

// SAFETY: a block is its owner's until it is deallocated, and all values of the type are the same heap.
unsafe impl Allocator for RcuMalloc {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: `block` asks for no block of no bytes.
        block(layout, || unsafe { self.alloc(layout) })
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: as above.
        block(layout, || unsafe { self.alloc_zeroed(layout) })
    }

    #[inline]
    unsafe fn deallocate(&self, start: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller's promise.
            unsafe { self.dealloc(start.as_ptr(), layout) }
        }
    }

    #[inline]
    unsafe fn grow(&self, start: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise, and that what is larger than something is not empty is seen to by
        // `resized`.
        unsafe { resized(self, start, old, new) }
    }

    #[inline]
    unsafe fn shrink(
        &self,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: as above.
        unsafe { resized(self, start, old, new) }
    }
}

/// The block with its contents in another size, here or elsewhere.
///
/// # Safety
/// A block of `heap` with the layout `old`, which is the caller's.
unsafe fn resized(
    heap: &RcuMalloc,
    start: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    if old.align() == new.align() && old.size() != 0 && new.size() != 0 {
        // SAFETY: the caller's block; a layout of the same alignment, and not empty.
        return block(new, || unsafe { heap.realloc(start.as_ptr(), old, new.size()) });
    }
    let moved = heap.allocate(new)?;
    // SAFETY: two blocks, each with as many bytes at least, and the old one is the caller's.
    unsafe {
        let bytes = old.size().min(new.size());
        core::ptr::copy_nonoverlapping(start.as_ptr(), moved.cast::<u8>().as_ptr(), bytes);
        heap.deallocate(start, old);
    }
    Ok(moved)
}
