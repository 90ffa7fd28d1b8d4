//! Rust's side of the heap: a global allocator, and read-side sections as guards.
//!
//! ```
//! #[global_allocator]
//! static HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;
//!
//! let shared = Box::new(42);
//! let seen = &raw const *shared;
//! let section = rcumalloc::read();
//! drop(shared); // freed, but the section has begun: not reused before it ends
//! # // SAFETY: that is what the section is for.
//! assert_eq!(unsafe { *seen }, 42);
//! drop(section);
//! ```

use crate::abi::owner::{Block, rcumalloc_owner};
use crate::abi::{libc_names, own};
use crate::front::{malloc, readers, realloc};
use crate::release;
use crate::release::check::Freed;
use crate::types::{Check, Owner, Stats};
use core::alloc::{GlobalAlloc, Layout};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::time::Duration;

/// The heap as a `#[global_allocator]`. Every deallocation waits for a grace period once the
/// process has a second thread or a reader, as every free under the preloaded library does.
#[derive(Clone, Copy, Default, Debug)]
pub struct RcuMalloc;

// SAFETY: blocks are disjoint, aligned as asked and live until they are deallocated.
unsafe impl GlobalAlloc for RcuMalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= malloc::MALLOC_ALIGN {
            // SAFETY: any thread, any size.
            unsafe { libc_names::malloc(layout.size()).cast() }
        } else {
            malloc::alloc_aligned(layout.size(), layout.align())
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { libc_names::free(block.cast()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= malloc::MALLOC_ALIGN {
            return malloc::alloc_zeroed(layout.size());
        }
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: a fresh block of this size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= malloc::MALLOC_ALIGN {
            return realloc::resize(block as usize, size);
        }
        // SAFETY: the caller's promise, and a layout of the same alignment.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// A read-side section of the calling thread; ends when dropped.
#[must_use = "the section ends when the guard is dropped"]
pub struct Guard {
    /// A section belongs to its thread.
    here: PhantomData<*const ()>,
}

/// Opens a read-side section: no block freed from now on by any thread is reused before it ends.
#[inline]
pub fn read() -> Guard {
    readers::lock();
    Guard { here: PhantomData }
}

/// Waits until every section that has begun has ended.
///
/// # Panics
/// Inside a section of the calling thread it ends the process with a line: it would never return.
pub fn synchronize() {
    own::rcumalloc_synchronize();
}

/// Waits until everything that has been [retired](crate::retire) so far has been dropped, and until every
/// block deallocated so far may be reused.
///
/// # Panics
/// As [`synchronize`]; and in a destructor that runs because of `retire`.
pub fn barrier() {
    own::rcumalloc_barrier();
}

/// Whether an address lies in a block of this heap: one that has been given out, and has not been given back
/// long ago.
pub fn owns<T: ?Sized>(address: *const T) -> bool {
    // SAFETY: any address, and nothing to write to.
    unsafe { rcumalloc_owner(address.cast(), core::ptr::null_mut(), 0) }
}

/// The block around an address, which may be any: in the middle of a block, in none.
pub fn owner<T: ?Sized>(address: *const T) -> Option<Owner> {
    let mut block = MaybeUninit::<Block>::uninit();
    // SAFETY: any address, and room for the answer.
    if !unsafe { rcumalloc_owner(address.cast(), block.as_mut_ptr(), size_of::<Block>()) } {
        return None;
    }
    // SAFETY: filled.
    let block = unsafe { block.assume_init() };
    Some(Owner {
        start: block.start.cast(),
        size: block.size,
        is_freed: block.state == 2,
        age: u64::try_from(block.age_ms).ok().map(Duration::from_millis),
    })
}

/// Whether the block around an address, which may be any, was deallocated before the section of the calling
/// thread began: a reader that finds such a block has a mistake in it. [`Check::FreedBefore`] is proven, by
/// grace periods that need not wait for the section, so a correct reader never sees it; what was deallocated
/// just before reads as [`Check::Freed`] until such a period has begun. Waits for nobody.
///
/// ```
/// #[global_allocator]
/// static HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;
///
/// let section = rcumalloc::read();
/// let block = Box::new([7; 1000]);
/// let address: *const _ = &raw const *block;
/// assert_eq!(rcumalloc::check(address), rcumalloc::Check::Live);
/// drop(block);
/// // This section has seen it, and may go on reading it.
/// assert_ne!(rcumalloc::check(address), rcumalloc::Check::FreedBefore);
/// # let _ = section;
/// ```
pub fn check<T: ?Sized>(address: *const T) -> Check {
    match release::check::check(address.cast::<u8>() as usize) {
        Freed::Unknown => Check::Unknown,
        Freed::Not => Check::Live,
        Freed::Maybe => Check::Freed,
        Freed::Before => Check::FreedBefore,
    }
}

/// The figures of the heap as of now. Takes no lock and stops nobody; in a process at rest they are exact,
/// and while threads run those that belong together may be some hundred blocks apart.
pub fn stats() -> Stats {
    let stats = release::stats::collect();
    let duration = |ns| (ns != 0).then(|| Duration::from_nanos(ns));
    Stats {
        blocks_bytes: stats.blocks_bytes,
        live_bytes: stats.live_bytes,
        cached_bytes: stats.cached_bytes,
        waiting_bytes: stats.waiting_bytes,
        in_slabs_bytes: stats.in_slabs_bytes,
        mapped_bytes: stats.mapped_bytes,
        dirty_bytes: stats.dirty_bytes,
        purged_bytes: stats.purged_bytes,
        reclaimable_bytes: stats.reclaimable_bytes,
        deferred_bytes: stats.deferred_bytes,
        deferred_peak_bytes: stats.deferred_peak_bytes,
        budget_bytes: stats.budget_bytes,
        periods_completed: stats.periods_completed,
        periods_expedited: stats.periods_expedited,
        period_median: duration(stats.period_p50_ns),
        period_p99: duration(stats.period_p99_ns),
        scans: stats.scans.iter().sum(),
        stalls: stats.stalls,
        bad_calls: stats.bad_calls,
        threads: stats.threads,
        threads_peak: stats.threads_peak,
        is_concurrent: stats.concurrent != 0,
    }
}

/// Whether deallocations wait for sections: true on x86-64 Linux with glibc.
pub const DEFERS: bool = true;

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        readers::unlock();
    }
}
