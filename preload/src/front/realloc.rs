//! realloc, and what a block holds.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{mode, table};
use crate::class::large::LargeRef;
use crate::class::marks::Map;
use crate::class::resize::{self, Resized};
use crate::class::sampled;
use crate::class::size_class::{Class, SMALL_MAX};
use crate::class::slab::Slab;
use crate::class::trap;
use crate::class::verdict::{self};
use crate::front::free::When;
use crate::front::malloc::MALLOC_ALIGN;
use crate::front::under_way::Frame;
use crate::front::{free, malloc};
use crate::front::{profiled, trapped};
use crate::page::memdesc::{self, Kind};
use crate::page::ranges;
use crate::page::zone::Place;
use core::ptr::null_mut;

/// Makes the live large block at `addr` hold `size` bytes where it is; what it gives up is freed. False if
/// that cannot be.
#[unsafe(link_section = ".text_solo")]
pub fn resize_large(addr: usize, size: usize) -> bool {
    match resize::resize(addr, size, free::defers_large(ranges::of(addr))) {
        Resized::Not => return false,
        Resized::Done => {}
        Resized::Shrunk(tail) => free::defer_tail(tail),
    }
    profiled::resized(addr, size);
    true
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
#[unsafe(link_section = ".text_solo")]
fn resize_slow(addr: usize, size: usize) -> *mut u8 {
    let mut frame = Frame::new();
    frame.begin();
    resize_or_move(addr, size)
}

#[inline(never)]
#[unsafe(link_section = ".text_solo")]
fn resize_or_move(addr: usize, size: usize) -> *mut u8 {
    const CALL: &str = "realloc";
    if addr == 0 {
        return malloc::alloc_begun(size);
    }
    if size == 0 {
        free::free_begun(addr, CALL, When::Usual);
        return null_mut();
    }
    let word = ranges::of(addr);
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
        _ if trap::holds(addr) => return resize_trapped(addr, size),
        _ => {
            verdict::bad_address(CALL, addr);
            return null_mut();
        }
    };
    let is_large = word.kind() == Kind::Large;
    let outgrown = is_large && size > held;
    let new = if outgrown {
        malloc::alloc_large_from(size, MALLOC_ALIGN, ThreadCache::alloc_to_grow).0
    } else if size > held.max(SMALL_MAX) {
        // What grew once may well grow on.
        malloc::alloc_large_from(size, MALLOC_ALIGN, |cache, size, align| {
            cache.alloc_large(size, align, Place::Roomy)
        })
        .0
    } else if sampled::any() {
        // What becomes a sample has the very size.
        malloc::alloc_begun(size)
    } else if size > held {
        // SAFETY: the words are this thread's tables, always.
        unsafe { table::malloc(Class::to_grow(size, held).size(), malloc::malloc_begun) }
    } else {
        malloc::alloc_begun(size)
    };
    if new.is_null() {
        return new;
    }
    // SAFETY: both are live blocks of at least so many bytes, and they are distinct.
    unsafe { core::ptr::copy_nonoverlapping(addr as *const u8, new, held.min(size)) };
    if is_large {
        free::free_large(addr, word, CALL, free::defers_large(word), outgrown);
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
#[unsafe(link_section = ".text_solo")]
unsafe extern "C" fn free_moved(block: *mut u8) {
    free::free_begun(block as usize, "realloc", When::Usual);
}

/// realloc of the trapped block at `addr`: it moves, or stays if it has that size.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn resize_trapped(addr: usize, size: usize) -> *mut u8 {
    const CALL: &str = "realloc";
    let Some(slot) = live_trapped(addr) else {
        verdict::bad_address(CALL, addr);
        return null_mut();
    };
    let held = slot.size();
    if size == held {
        return addr as *mut u8;
    }
    let new = malloc::alloc_begun(size);
    if !new.is_null() {
        // SAFETY: both are live blocks of at least so many bytes, and they are distinct.
        unsafe { core::ptr::copy_nonoverlapping(addr as *const u8, new, held.min(size)) };
        trapped::free(addr, CALL, mode::frees_defer());
    }
    new
}

/// The trapped block that starts at `addr`, if the program has it.
fn live_trapped(addr: usize) -> Option<&'static trap::Slot> {
    trap::around(addr).filter(|slot| slot.start() == addr && slot.is_live())
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
    let word = ranges::of(addr);
    if let Some(class) = Slab::class_of(word).filter(|class| class.starts_at(addr as u16)) {
        return class.size();
    }
    if word.kind() == Kind::Large
        && let Some(block) = LargeRef::of(addr).filter(|block| block.base() == addr)
    {
        return block.bytes();
    }
    if let Some(slot) = live_trapped(addr) {
        return slot.size();
    }
    verdict::bad_address(call, addr);
    0
}
