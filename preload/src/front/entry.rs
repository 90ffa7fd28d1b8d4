//! What every call past its fast path begins with: the calling thread's cache.
//!
//! A slow path begins by touching the stack that it may need (`os::stack`): a stack that overflows does so
//! before anything is held. Every entry works as a thread's first call, and as its last. A thread that has
//! given its cache back, or cannot get one, is served from the slabs, block by block.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{own, registry};
use crate::front::{fork, start};
use crate::os::signals::Quiet;
use crate::os::{home, tls};

/// The calling thread's cache, made if this is its first call. `None`: the thread has given it
/// back, or there is no memory for one.
#[inline]
pub fn current() -> Option<&'static mut ThreadCache> {
    if tls::alloc_table() == tls::empty_table() { begin() } else { own::existing() }
}

/// What a slow path without a cache begins with. A handler's first section finds the thread with a
/// cache, or with nothing under way.
#[unsafe(link_section = ".text_threads")]
pub fn without_cache() -> Quiet {
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
    let cache = start::acquire(&quiet)?;
    registry::adopt(cache, &quiet);
    start::thread(cache);
    // The tables are set: what libc allocates from here on finds a heap.
    own::existing()
}
