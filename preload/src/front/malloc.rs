//! The slow paths of malloc and of what else hands out blocks.
//!
//! ```text
//!   malloc ─ fast ─┬─> pop
//!                  └─> malloc_slow ─┬─ small: medium sizes pop here; empty: refill
//!                                   └─ large
//! ```

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{drain, own, refill, sample, table};
use crate::class::large::{self};
use crate::class::large_batch::Freed;
use crate::class::large_pages;
use crate::class::sampled;
use crate::class::size_class::{Class, SMALL_MAX};
use crate::class::work::Work;
use crate::constants::{PAGE, PAGES_FROM, WINDOW};
use crate::front::under_way::{self, Frame};
use crate::front::{entry, start};
use crate::front::{profiled, trapped};
use crate::page::zone::{Holds, Place, Want};
use crate::page::{Page, limit, promise};
use crate::release::scan_log::Reason;
use crate::release::{pressure, shrinker};
use core::ptr::null_mut;

/// What alignment malloc promises: that of `max_align_t`.
pub const MALLOC_ALIGN: usize = 16; // (given) by the ABI

/// malloc past its fast path.
///
/// # Safety
/// None beyond malloc's own; unsafe to fit the fast path's pointer type.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_start")]
pub unsafe extern "C" fn malloc_slow(size: usize) -> *mut u8 {
    if size <= SMALL_MAX {
        // SAFETY: the words are this thread's tables, always.
        if let Some(block) = unsafe { table::pop(Class::of_size(size)) } {
            return block as *mut u8;
        }
    }
    let mut frame = Frame::new();
    frame.begin();
    alloc_slow(size)
}

#[inline(always)]
fn alloc_slow(size: usize) -> *mut u8 {
    if size > SMALL_MAX {
        return alloc_large(size, MALLOC_ALIGN).0;
    }
    alloc_small(Class::of_size(size), size, MALLOC_ALIGN)
}

/// malloc past its fast path, for who has begun already.
///
/// # Safety
/// As [`malloc_slow`].
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
pub unsafe extern "C" fn malloc_begun(size: usize) -> *mut u8 {
    if size <= SMALL_MAX {
        // SAFETY: the words are this thread's tables, always.
        if let Some(block) = unsafe { table::pop(Class::of_size(size)) } {
            return block as *mut u8;
        }
    }
    alloc_slow(size)
}

/// malloc for callers inside who have begun already: the fast path, then the slow one.
#[inline(always)]
pub fn alloc_begun(size: usize) -> *mut u8 {
    // SAFETY: the words are this thread's tables, always.
    unsafe { table::malloc(size, malloc_begun) }
}

/// malloc for callers inside: the fast path, then the slow one.
#[inline(always)]
fn alloc(size: usize) -> *mut u8 {
    // SAFETY: the words are this thread's tables, always.
    unsafe { table::malloc(size, malloc_slow) }
}

/// A block of `class` that lies in a slab, and is no sample. `None`: no memory for it.
pub fn alloc_in_slab(class: Class) -> Option<usize> {
    // SAFETY: the words are this thread's tables, always.
    if let Some(block) = unsafe { table::pop(class) } {
        return Some(block);
    }
    let mut frame = Frame::new();
    frame.begin();
    small_block(class)
}

/// A block of `class` for a request of `size` bytes aligned to `align`.
#[inline(never)]
#[unsafe(link_section = ".text_start")]
fn alloc_small(class: Class, size: usize, align: usize) -> *mut u8 {
    if sampled::any()
        && let Some(block) = alloc_sample(class, size, align)
    {
        return block;
    }
    match small_block(class) {
        Some(block) => block as *mut u8,
        None => alloc_pages(class, size, align),
    }
}

/// A block that lies apart, if it is a sample.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn alloc_sample(class: Class, size: usize, align: usize) -> Option<*mut u8> {
    let cache = entry::current()?;
    let due = cache.take_due(class);
    if due == sample::NOTHING {
        return None;
    }
    cache.slow_path();
    let trapped = if sample::is_trapped(due) { trapped::alloc(size, align) } else { None };
    if !sample::is_profiled(due) {
        return trapped.map(|block| block as *mut u8);
    }
    // Pages, as a large block has them.
    let block = match trapped {
        Some(block) => block,
        None => cache.alloc_large(size, align, Place::Tight)?.0,
    };
    profiled::small(block, size, class.size());
    Some(block as *mut u8)
}

/// By itself, for its part of the stack is not there while there is a look for pages.
#[inline(never)]
#[unsafe(link_section = ".text_start")]
fn small_block(class: Class) -> Option<usize> {
    match entry::current() {
        Some(cache) => match cache.alloc.slot(class).pop() {
            Some(block) => Some(block),
            None => refill(cache, class),
        },
        None => {
            let _quiet = entry::without_cache();
            refill::take_one(class)
        }
    }
}

#[inline(always)]
fn refill(cache: &mut ThreadCache, class: Class) -> Option<usize> {
    cache.slow_path();
    match cache.refill(class) {
        Some(block) => Some(block),
        None => carve(cache, class),
    }
}

/// Fresh blocks; if memory is out, once more after everything that can be has been given back: what waits may
/// be all there is.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_start")]
fn carve(cache: &mut ThreadCache, class: Class) -> Option<usize> {
    pressure::throttle();
    drain::take_over_one();
    cache.leave_classes_if_due(class);
    let block = cache.carve(class);
    if block.is_some() {
        return block;
    }
    cache.reclaim_everything();
    keep_promises();
    cache.carve(class)
}

/// No slab of `class` is to be had: a large block may be, where there are pages but not sixteen
/// in a row, or nothing to keep the new slab's marks in. Not for small sizes: each would take a page.
#[cold]
#[inline(never)]
fn alloc_pages(class: Class, size: usize, align: usize) -> *mut u8 {
    if class.size() < PAGES_FROM { out_of_memory() } else { alloc_large(size, align).0 }
}

/// A large block, and what it holds.
#[inline(always)]
fn alloc_large(size: usize, align: usize) -> (*mut u8, Holds) {
    alloc_large_from(size, align, |cache, size, align| cache.alloc_large(size, align, Place::Tight))
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn sample_large(block: usize, size: usize) {
    if sampled::is(sampled::PROFILE) {
        profiled::large(block, size);
    }
}

/// The same, `from` where the caller says.
#[inline(always)]
pub fn alloc_large_from(
    size: usize,
    align: usize,
    from: impl FnOnce(&mut ThreadCache, usize, usize) -> Option<(usize, Holds)>,
) -> (*mut u8, Holds) {
    let look = |block| {
        if sampled::any() {
            sample_large(block, size);
        }
    };
    // No window is so large: nothing that could be given back would help.
    if size.max(align) > isize::MAX as usize {
        return (out_of_memory(), Holds::Anything);
    }
    let cache = entry::current();
    let block = match cache {
        Some(cache) => {
            cache.slow_path();
            pressure::throttle();
            if let Some((block, contents)) = from(cache, size, align) {
                look(block);
                return (block as *mut u8, contents);
            }
            retry_large(size, align)
        }
        None if start::process() => {
            let _quiet = entry::without_cache();
            large_pages::reclaim(&mut Work::of_a_call());
            create(size, align).or_else(|| retry_large(size, align))
        }
        None => None,
    };
    match block {
        Some((block, contents)) => {
            look(block);
            (block as *mut u8, contents)
        }
        None => (out_of_memory(), Holds::Anything),
    }
}

/// No mapping for a large block, or the hard limit in the way: what is unused, waits, or is in magazines may
/// be enough. Once; not for what there will never be room for.
#[cold]
fn retry_large(size: usize, align: usize) -> Option<(usize, Holds)> {
    if size.max(align) > WINDOW || size > limit::hard() {
        return None;
    }
    shrinker::scan(usize::MAX, Reason::MapFailed);
    keep_promises();
    create(size, align)
}

/// What the scan has promised is to be had before it is asked for again.
fn keep_promises() {
    if promise::is_due()
        && let Some(cache) = own::existing()
    {
        under_way::keep_promises(cache);
    }
}

fn create(size: usize, align: usize) -> Option<(usize, Holds)> {
    let want = Want { pages: large::pages_for(size)?, align, place: Place::Tight, quarter: None };
    large_pages::create(Freed::EMPTY, size, want)
}

/// `size` bytes aligned to `align`, a power of two.
pub fn alloc_aligned(size: usize, align: usize) -> *mut u8 {
    let mut frame = Frame::new();
    frame.begin();
    match Class::of_aligned(size, align) {
        Some(class) => alloc_small(class, size, align),
        None => alloc_large(size, align).0,
    }
}

/// `size` bytes of zeros. Of a large block only what may hold something else is written: one page that did
/// would else make all of it resident.
pub fn alloc_zeroed(size: usize) -> *mut u8 {
    let (block, contents) = if size > SMALL_MAX { large_block(size) } else { (alloc(size), Holds::Anything) };
    if !block.is_null() && contents != Holds::Zeros {
        clear(block, size, contents);
    }
    block
}

/// Apart from where it came from: that stack is free again.
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
fn clear(block: *mut u8, size: usize, contents: Holds) {
    match (contents, Page::new(block as usize)) {
        (Holds::Mixed, Some(page)) => {
            large_pages::for_each_soiled(page, size.div_ceil(PAGE), |soiled, pages| {
                // SAFETY: pages of the fresh block, which is page runs.
                unsafe { soiled.as_ptr().write_bytes(0, pages * PAGE) };
            })
        }
        // SAFETY: a fresh block of at least `size` bytes.
        _ => unsafe { block.write_bytes(0, size) },
    }
}

/// As malloc's slow path; by itself, for its part of the stack is not there while a small block is looked
/// for.
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
fn large_block(size: usize) -> (*mut u8, Holds) {
    let mut frame = Frame::new();
    frame.begin();
    alloc_large(size, MALLOC_ALIGN)
}

#[cold]
fn out_of_memory() -> *mut u8 {
    set_errno(libc::ENOMEM);
    null_mut()
}

/// Sets errno; on failure only.
pub fn set_errno(value: i32) {
    // SAFETY: libc gives the address of the calling thread's errno.
    unsafe { *libc::__errno_location() = value };
}
