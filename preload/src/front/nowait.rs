//! Blocks where nothing may lock, wait or ask for memory: `rcumalloc_prefill` puts them aside,
//! `rcumalloc_alloc_nowait` takes them.

use crate::cache::own;
use crate::cache::stock::MOST;
use crate::cache::thread_cache::ThreadCache;
use crate::class::size_class::{Class, SMALL_MAX};
use crate::front::{entry, malloc, under_way};
use crate::os::tls;
use core::ptr::null_mut;

/// Sees to it that the calling thread has `count` blocks aside for requests of `size` bytes; says how many it
/// has.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn prefill(size: usize, count: usize) -> usize {
    if size > SMALL_MAX {
        return 0;
    }
    let class = Class::of_size(size);
    under_way::look_behind();
    let Some(stock) = entry::current().and_then(|cache| cache.stock()) else { return 0 };
    while stock.count(class) < count.min(MOST) {
        // Of a slab alone: what is left goes back to the slabs. A sample lies elsewhere.
        let Some(block) = malloc::alloc_in_slab(class) else { break };
        // SAFETY: just given to us; there is room.
        unsafe { stock.put(class, block) };
    }
    stock.count(class)
}

/// A block of at least `size` bytes from what the calling thread has aside, or null. Async-signal-safe.
pub fn alloc(size: usize) -> *mut u8 {
    let table = tls::alloc_table();
    if size > SMALL_MAX || table == tls::empty_table() || own::has_exited() {
        return null_mut();
    }
    // SAFETY: neither of the static tables, so the word is the address of the thread's cache.
    let stock = unsafe { ThreadCache::existing_stock(table as *const ThreadCache) };
    stock.and_then(|stock| stock.take(Class::of_size(size))).map_or(null_mut(), |block| block as *mut u8)
}
