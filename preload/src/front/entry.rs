//! The slow paths: what a call does when its fast path gives up.
//!
//! ```text
//!   malloc ─ fast ─┬─> pop
//!                  └─> malloc_slow ─┬─ small: medium sizes pop here; empty: refill
//!                                   └─ large
//!   free ── fast ──┬─> push
//!                  └─> free_slow ─┬─ null
//!                                 ├─ slab page:  not a block's start ─> verdict
//!                                 │              no cache ─> begin, or the slab itself
//!                                 │              newest of its magazine ─> verdict
//!                                 │              full ─> retire
//!                                 ├─ large page: large::free ─> verdict if not live
//!                                 └─ any other:  verdict
//! ```
//!
//! Each begins by touching the stack that it may need (`os::stack`): a stack that overflows does so before
//! anything is held. Every entry works as a thread's first call, and as its last. A thread that has given its
//! cache back, or cannot get one, is served from the slabs, block by block.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{mode, own, ready, refill, registry, retire, table};
use crate::class::backlog;
use crate::class::changed;
use crate::class::large::{self, LargeRef, Resized};
use crate::class::large_batch::{self, Freed};
use crate::class::large_pages;
use crate::class::marks::Map;
use crate::class::size_class::{Class, SMALL_MAX};
use crate::class::slab::Slab;
use crate::class::verdict::{self, Found};
use crate::class::work::Work;
use crate::constants::{PAGE, WINDOW};
use crate::front::under_way::Frame;
use crate::front::{fork, start};
use crate::os::signals::Quiet;
use crate::os::{home, tls};
use crate::page::Page;
use crate::page::limit;
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::zone::{self, Holds, Place, Want};
use crate::release::scan_log::Reason;
use crate::release::{decay, pressure, shrinker};
use core::ptr::null_mut;

/// What alignment malloc promises: that of `max_align_t`.
pub const MALLOC_ALIGN: usize = 16;

/// The calling thread's cache, made if this is its first call. `None`: the thread has given it
/// back, or there is no memory for one.
#[inline]
pub fn current() -> Option<&'static mut ThreadCache> {
    if tls::alloc_table() == tls::empty_table() { begin() } else { own::existing() }
}

/// What a slow path without a cache begins with. A handler's first section finds the thread with a
/// cache, or with nothing under way.
fn without_cache() -> Quiet {
    if home::was_cloned() {
        fork::after_raw_clone();
    }
    Quiet::new()
}

/// A thread's first call.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_start")]
fn begin() -> Option<&'static mut ThreadCache> {
    let quiet = without_cache();
    if !start::process() {
        return None;
    }
    let cache = registry::acquire(&quiet)?;
    registry::adopt(cache, &quiet);
    start::thread(cache);
    // The tables are set: what libc allocates from here on finds a heap.
    own::existing()
}

/// malloc past its fast path.
///
/// # Safety
/// None beyond malloc's own; unsafe to fit the fast path's pointer type.
#[cold]
#[inline(never)]
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
unsafe extern "C" fn malloc_begun(size: usize) -> *mut u8 {
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
fn alloc_begun(size: usize) -> *mut u8 {
    // SAFETY: the words are this thread's tables, always.
    unsafe { table::malloc(size, malloc_begun) }
}

/// malloc for callers inside: the fast path, then the slow one.
#[inline(always)]
fn alloc(size: usize) -> *mut u8 {
    // SAFETY: the words are this thread's tables, always.
    unsafe { table::malloc(size, malloc_slow) }
}

/// A block of `class` for a request of `size` bytes aligned to `align`.
#[inline(never)]
fn alloc_small(class: Class, size: usize, align: usize) -> *mut u8 {
    match small_block(class) {
        Some(block) => block as *mut u8,
        None => alloc_pages(class, size, align),
    }
}

/// By itself, for its part of the stack is not there while there is a look for pages.
#[inline(never)]
fn small_block(class: Class) -> Option<usize> {
    match current() {
        Some(cache) => match cache.alloc.slot(class).pop() {
            Some(block) => Some(block),
            None => cache.refill(class),
        },
        None => {
            let _quiet = without_cache();
            refill::take_one(class)
        }
    }
}

/// No slab of `class` is to be had: a large block may be, where there are pages but not sixteen
/// in a row, or nothing to keep the new slab's marks in. Not for small sizes: each would take a page.
#[cold]
#[inline(never)]
fn alloc_pages(class: Class, size: usize, align: usize) -> *mut u8 {
    const LEAST: usize = 1024;
    if class.size() < LEAST { out_of_memory() } else { alloc_large(size, align).0 }
}

/// A large block, and what it holds.
#[inline(always)]
fn alloc_large(size: usize, align: usize) -> (*mut u8, Holds) {
    alloc_large_from(size, align, |cache, size, align| cache.alloc_large(size, align, Place::Tight))
}

#[inline(always)]
fn alloc_large_from(
    size: usize,
    align: usize,
    from: impl FnOnce(&mut ThreadCache, usize, usize) -> Option<(usize, Holds)>,
) -> (*mut u8, Holds) {
    // No window is so large: nothing that could be given back would help.
    if size.max(align) > isize::MAX as usize {
        return (out_of_memory(), Holds::Anything);
    }
    let cache = current();
    let block = match cache {
        Some(cache) => {
            cache.slow_path();
            pressure::throttle();
            from(cache, size, align).or_else(|| retry_large(size, align))
        }
        None if start::process() => {
            let _quiet = without_cache();
            large_batch::reclaim(&mut Work::of_a_call());
            create(size, align).or_else(|| retry_large(size, align))
        }
        None => None,
    };
    match block {
        Some((block, contents)) => (block as *mut u8, contents),
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
    create(size, align)
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
fn clear(block: *mut u8, size: usize, contents: Holds) {
    match (contents, Page::new(block as usize)) {
        (Holds::Mixed, Some(page)) => {
            zone::for_each_soiled(page, size.div_ceil(PAGE), |soiled, pages| {
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

/// When a freed block may be handed out again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// As the mode says.
    Usual,
    /// After a grace period.
    Deferred,
    /// At once: the caller vouches that no reader can see it.
    Now,
}

/// free past its fast path.
///
/// # Safety
/// As `free`: what is freed is not used any more. Wrong addresses are refused, not followed.
#[cold]
#[inline(never)]
pub unsafe extern "C" fn free_slow(block: *mut u8) {
    if !block.is_null() {
        let mut frame = Frame::new();
        frame.begin();
        let word = memdesc::of(block as usize);
        if word.kind() == Kind::Large {
            // As in `free_begun`, which has more registers to save.
            free_large(block as usize, word, "free", mode::frees_defer(), false);
        } else {
            free_begun(block as usize, "free", When::Usual);
        }
    }
}

/// Frees what starts at `addr`, on behalf of `call`.
pub fn free_block(addr: usize, call: &str, when: When) {
    let mut frame = Frame::new();
    frame.begin();
    free_begun(addr, call, when);
}

fn free_begun(addr: usize, call: &str, when: When) {
    let word = memdesc::of(addr);
    match word.kind() {
        Kind::Slab => {
            let Some(class) = Slab::class_of(word) else { return };
            if !class.starts_at(addr as u16) {
                return verdict::bad_address(call, addr);
            }
            if word.slot() == 0 {
                changed::undo(class, addr);
            }
            free_small(class, addr, call, when);
        }
        Kind::Large => {
            let defer = match when {
                When::Usual => mode::frees_defer(),
                When::Deferred => mode::is_concurrent(),
                When::Now => false,
            };
            free_large(addr, word, call, defer, false);
        }
        _ => verdict::bad_address(call, addr),
    }
}

/// Frees the large block at `addr`, which a realloc may have outgrown.
#[inline(always)]
fn free_large(addr: usize, word: Memdesc, call: &str, defer: bool, outgrown: bool) {
    let cache = current();
    let Some(block) = large::claim(addr, word, outgrown) else { return verdict::bad_address(call, addr) };
    match cache {
        Some(cache) if defer => cache.defer_large(block),
        Some(cache) => {
            cache.slow_path();
            cache.free_large(block);
        }
        None => {
            let _quiet = without_cache();
            ready::free_without_cache(block, defer);
        }
    }
    decay::note_work();
}

/// Makes the live large block at `addr` hold `size` bytes where it is; what it gives up is freed. False if
/// that cannot be.
pub fn resize_large(addr: usize, size: usize) -> bool {
    match large::resize(addr, size, mode::frees_defer()) {
        Resized::Not => return false,
        Resized::Done => {}
        Resized::Shrunk(tail) => defer_tail(tail),
    }
    true
}

/// A block has shrunk: readers may be at what it has given up.
#[cold]
#[inline(never)]
fn defer_tail(tail: LargeRef) {
    match current() {
        Some(cache) => cache.defer_large(tail),
        None => {
            let _quiet = without_cache();
            ready::free_without_cache(tail, true);
        }
    }
    decay::note_work();
}

fn free_small(class: Class, addr: usize, call: &str, when: When) {
    let Some(cache) = current() else {
        let _quiet = without_cache();
        return retire::defer_in_slab(class, addr, call);
    };
    let deferred = match when {
        When::Usual => cache.is_deferring(),
        When::Deferred => mode::is_concurrent(),
        When::Now => false,
    };
    let slot = if deferred { cache.defer.slot(class) } else { cache.alloc.slot(class) };
    if slot.newest() == Some(addr) {
        return verdict::double_free(call, addr, class, Found::AtOnce);
    }
    if deferred {
        cache.push_deferred(class, addr);
    } else {
        cache.push_local(class, addr);
    }
}

/// What realloc does: null is a malloc, size 0 a free. Most calls leave a small block where it is: one look
/// at its page's word and one at its class. Whether the program has the block is asked only where it moves:
/// the mark is a cache line of its own.
#[inline(always)]
pub fn resize(addr: usize, size: usize) -> *mut u8 {
    if table::stays(addr, size) {
        return addr as *mut u8;
    }
    resize_slow(addr, size)
}

/// What realloc does where a small block does not stay.
#[cold]
#[inline(never)]
fn resize_slow(addr: usize, size: usize) -> *mut u8 {
    let mut frame = Frame::new();
    frame.begin();
    resize_or_move(addr, size)
}

#[inline(never)]
fn resize_or_move(addr: usize, size: usize) -> *mut u8 {
    const CALL: &str = "realloc";
    if addr == 0 {
        return alloc_begun(size);
    }
    if size == 0 {
        free_begun(addr, CALL, When::Usual);
        return null_mut();
    }
    let word = memdesc::of(addr);
    let held = match word.kind() {
        Kind::Slab => {
            let Some(class) = Slab::class_of(word) else { return null_mut() };
            if !class.starts_at(addr as u16) || !is_out(class, addr) {
                verdict::bad_address(CALL, addr);
                return null_mut();
            }
            if word.slot() == 0 && class.serves(size) {
                return addr as *mut u8;
            }
            class.size()
        }
        Kind::Large => match LargeRef::of(addr) {
            Some(block) if block.base() == addr && block.is_live() => {
                if resize_large(addr, size) {
                    return addr as *mut u8;
                }
                block.bytes()
            }
            _ => {
                verdict::bad_address(CALL, addr);
                return null_mut();
            }
        },
        _ => {
            verdict::bad_address(CALL, addr);
            return null_mut();
        }
    };
    let is_large = word.kind() == Kind::Large;
    let outgrown = is_large && size > held;
    let new = if outgrown {
        alloc_large_from(size, MALLOC_ALIGN, ThreadCache::alloc_to_grow).0
    } else if size > held.max(SMALL_MAX) {
        // What grew once may well grow on.
        alloc_large_from(size, MALLOC_ALIGN, |cache, size, align| {
            cache.alloc_large(size, align, Place::Roomy)
        })
        .0
    } else if size > held {
        // SAFETY: the words are this thread's tables, always.
        unsafe { table::malloc(Class::to_grow(size, held).size(), malloc_begun) }
    } else {
        alloc_begun(size)
    };
    if new.is_null() {
        return new;
    }
    // SAFETY: both are live blocks of at least so many bytes, and they are distinct.
    unsafe { core::ptr::copy_nonoverlapping(addr as *const u8, new, held.min(size)) };
    if is_large {
        free_large(addr, word, CALL, mode::frees_defer(), outgrown);
    } else {
        // SAFETY: the old block is the caller's to free, the words are this thread's tables.
        unsafe { table::free(addr as *mut u8, free_moved) };
    }
    new
}

/// The slow path of realloc's free.
///
/// # Safety
/// As [`free_slow`].
#[cold]
#[inline(never)]
unsafe extern "C" fn free_moved(block: *mut u8) {
    free_begun(block as usize, "realloc", When::Usual);
}

fn is_out(class: Class, addr: usize) -> bool {
    // SAFETY: the page is a slab's of this class, whose marks are committed.
    unsafe { Map::of(class).is_out(addr) }
}

/// The bytes a program may use of the block at `addr`: constant for the block's life.
#[inline]
pub fn usable_size(addr: usize) -> usize {
    usable_size_for(addr, "malloc_usable_size")
}

/// The same, on behalf of `call`.
#[inline]
pub fn usable_size_for(addr: usize, call: &str) -> usize {
    match Class::of_slot(memdesc::slot_of(addr)) {
        Some(class) if class.starts_at(addr as u16) => class.size(),
        _ => usable_size_slow(addr, call),
    }
}

#[cold]
#[inline(never)]
fn usable_size_slow(addr: usize, call: &str) -> usize {
    let word = memdesc::of(addr);
    if let Some(class) = Slab::class_of(word).filter(|class| class.starts_at(addr as u16)) {
        return class.size();
    }
    if word.kind() == Kind::Large
        && let Some(block) = LargeRef::of(addr).filter(|block| block.base() == addr)
    {
        return block.bytes();
    }
    verdict::bad_address(call, addr);
    0
}

/// Bytes that wait for a grace period; for tests and statistics.
pub fn deferred_bytes() -> usize {
    backlog::deferred_bytes()
}
