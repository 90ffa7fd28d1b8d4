//! Where a freed block is, who freed it and how long ago: what a message about a second free, or about a use
//! after the first, adds in brackets (docs/messages.md).
//!
//! The way from its free back to malloc is searched, as far as it can be looked at without waiting for
//! anybody: the calling thread's open group, every thread's shelf, the queues for all threads, the depots.
//! What other threads are filling cannot be: it is theirs alone. Where nothing is found nothing is said. As
//! slow as there are freed blocks; whoever comes here has made a mistake.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{mode, registry};
use crate::class::queue::{Behind, Link};
use crate::class::size_class::Class;
use crate::class::slab::Slab;
use crate::class::{depot, group, large_batch};
use crate::os::line::Line;
use crate::os::{clock, tls};
use crate::page::memdesc;
use core::sync::atomic::Ordering;

/// Where a freed block is.
#[derive(Clone, Copy)]
pub enum Place {
    /// With the calling thread, behind no cookie yet.
    Open,
    /// Behind a cookie, and with which thread, if with one.
    Waits(Behind, Option<u32>),
    /// Where malloc finds it: of which thread, or of all.
    Ready(Option<u32>),
}

/// Adds to `line` what can be found out about the freed block at `addr`.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn tell(addr: usize, line: &mut Line) {
    match find(addr) {
        None => {}
        Some(Place::Open) => {
            let is_excepted = Slab::class_of(memdesc::of(addr)).is_some_and(mode::is_excepted);
            line.str(" [this thread freed it not long ago; ");
            line.str(if is_excepted {
                "this size is for reuse at once]"
            } else {
                "it waits for a grace period]"
            });
        }
        Some(Place::Waits(behind, tid)) => {
            line.str(" [");
            match tid {
                Some(tid) => line.str("thread ").dec(tid.into()).str(" freed it"),
                None => line.str("it was freed"),
            };
            if let Some(since_ms) = since_ms(addr, behind) {
                line.str(" at least ").dec(age_ms(since_ms)).str(" ms ago");
            }
            line.str("; it waits for a grace period]");
        }
        Some(Place::Ready(Some(tid))) => {
            line.str(" [its grace period has passed; thread ")
                .dec(tid.into())
                .str(" may be given it any time]");
        }
        Some(Place::Ready(None)) => {
            line.str(" [its grace period has passed; any thread may be given it any time]");
        }
    }
}

/// Where the freed block at `addr` is, if it is found.
pub fn find(addr: usize) -> Option<Place> {
    match Slab::class_of(memdesc::of(addr)) {
        Some(class) => find_small(addr, class),
        None => find_large(addr),
    }
}

/// Since when it has waited, in milliseconds of the coarse clock. When a batch of large blocks was closed is
/// known to its owner's last look at the clock only.
pub fn since_ms(addr: usize, behind: Behind) -> Option<u32> {
    Slab::class_of(memdesc::of(addr)).map(|_| behind.closed_ms)
}

/// How many milliseconds have passed since that time of the coarse clock.
pub fn age_ms(since_ms: u32) -> u64 {
    let now_ms = clock::now_coarse_ms();
    (now_ms.wrapping_sub(since_ms) as i32).max(0) as u64
}

/// The thread whose cache it is, if it has one.
fn tid(cache: *const ThreadCache) -> Option<u32> {
    // SAFETY: caches are type-stable; cells, too.
    unsafe { (*cache).reader.load(Ordering::Relaxed).as_ref() }.map(|cell| cell.tid())
}

/// The calling thread's cache, if it has one.
fn own() -> Option<*const ThreadCache> {
    let table = tls::alloc_table();
    registry::all().map(<*mut ThreadCache>::cast_const).find(|&cache| cache as usize == table)
}

fn find_small(addr: usize, class: Class) -> Option<Place> {
    // SAFETY: the calling thread's own: it is in this call, and its group is whole.
    if own().is_some_and(|own| unsafe { (*own).open_group.holds(addr) || (*own).is_filling(class, addr) }) {
        return Some(Place::Open);
    }
    for cache in registry::all() {
        // SAFETY: type-stable; a shelf may be opened by anybody.
        let Some(shelf) = (unsafe { (*cache).shelf.open_to_look() }) else { continue };
        if let Some(behind) = shelf.waiting.find(addr) {
            return Some(Place::Waits(behind, tid(cache)));
        }
        if shelf.full(class).holds(addr) {
            return Some(Place::Ready(tid(cache)));
        }
    }
    let mut found = None;
    group::shared().look(|queue| found = queue.find(addr));
    match found {
        Some(behind) => Some(Place::Waits(behind, None)),
        None => depot::of(class).holds(addr).then_some(Place::Ready(None)),
    }
}

fn find_large(addr: usize) -> Option<Place> {
    // SAFETY: as in `find_small`.
    if own().is_some_and(|own| unsafe { (*own).freed.holds(addr) }) {
        return Some(Place::Open);
    }
    for cache in registry::all() {
        // SAFETY: type-stable; a shelf may be opened by anybody.
        let Some(shelf) = (unsafe { (*cache).shelf.open_to_look() }) else { continue };
        if let Some(behind) = shelf.large.find(addr) {
            return Some(Place::Waits(behind, tid(cache)));
        }
        if shelf.ready.holds(addr) {
            return Some(Place::Ready(tid(cache)));
        }
    }
    let mut found = None;
    large_batch::shared().look(|queue| found = queue.find(addr));
    found.map(|behind| Place::Waits(behind, None))
}
