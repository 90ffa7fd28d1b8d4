//! Trapped blocks on their way out and back: what malloc's and free's slow paths do under `RCUMALLOC_TRAP`.

use crate::cache::own;
use crate::class::cause::Cause;
use crate::class::{backlog, trap, verdict};
use crate::front::{entry, profiled};
use crate::release::trapped;
use core::sync::atomic::Ordering::Relaxed;

/// Where the frame of the slow path that the calling thread has under way is; 0: not known.
fn frame() -> usize {
    own::existing().map_or(0, |cache| cache.under_way.load(Relaxed))
}

/// A trapped block, if there is a slot.
pub fn alloc(size: usize, align: usize) -> Option<usize> {
    trap::take(size, align, frame())
}

/// Frees the trapped block at `addr`, on behalf of `call`, for readers that `defers` says are to be waited
/// for.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn free(addr: usize, call: &str, defers: bool) {
    if let Some(cache) = entry::current() {
        cache.slow_path();
    }
    let Some(slot) = trap::claim(addr) else { return verdict::bad_address(call, addr) };
    if let Some(place) = slot.written_past() {
        verdict::written_past(call, addr, slot.size(), place);
    }
    profiled::freed(addr, defers);
    slot.wait(defers, frame());
    if let Some(cookie) = slot.waits_for().filter(|_| !own::is_held()) {
        backlog::expedite(cookie, Cause::Age);
    }
    trapped::serve();
}
