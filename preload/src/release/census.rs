//! Where the blocks of a class are, and how long what waits has waited: for figures.
//!
//! Nothing here takes a lock that it would have to wait for, so all of it may be asked in a signal handler.
//! Fast paths count nothing: what is in a slot is what stands between its pointers, and what is in groups is
//! counted as magazines come and go (`ThreadCache::waiting`). What is with the program is what is away from
//! the slabs and in none of these places. Exact in a process at rest; while threads run, figures that belong
//! together may be a magazine apart.

use crate::cache::registry;
use crate::cache::thread_cache::ThreadCache;
use crate::class::magazine::{KINDS, array_len};
use crate::class::size_class::Class;
use crate::class::{depot, group, large_batch, pool};
use crate::constants::{AGES_MS, BATCHES_LOOKED_AT, SLAB_BYTES};
use crate::os::clock;

/// Blocks of one size class; `struct rcumalloc_class_stats` of the header.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct ClassStats {
    /// Bytes of this structure as the library knows it.
    pub size: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// Slabs.
    pub slabs: u64,
    /// With the program.
    pub live: u64,
    /// Ready to be handed out: in threads' magazines, on their shelves, in the depot.
    pub cached: u64,
    /// Freed, and not yet to be handed out.
    pub deferred: u64,
    /// In slabs: never given out, or back.
    pub in_slabs: u64,
    /// Ever taken from slabs, ...
    pub taken: u64,
    /// ... in so many magazines.
    pub refills: u64,
    /// Ever given back to slabs, ...
    pub returned: u64,
    /// ... in so many magazines.
    pub flushes: u64,
}

/// What is in the slots of one thread's cache, in blocks of one class.
#[derive(Clone, Copy, Default)]
pub struct InSlots {
    /// malloc pops them, or a magazine beside.
    pub loaded: usize,
    /// free has pushed them, and no group has them yet.
    pub filling: usize,
}

/// What is in the slots of `cache`.
///
/// # Safety
/// It is one of the registry's, or was.
pub unsafe fn in_slots(cache: *const ThreadCache, class: Class) -> InSlots {
    // The bound is for a slot that changes under our eyes.
    let most = array_len(KINDS - 1);
    // SAFETY: type-stable. The owner may be writing: single words, read with volatile loads and allowed to be
    // stale.
    unsafe {
        let warm = (&raw const (*cache).classes[class.index()].warm).read_volatile();
        // A page of pointers that has gone meanwhile holds anything.
        let warm = warm.map_or(0, |warm| warm.len().min(most));
        InSlots {
            loaded: (*cache).alloc.peek(class).len().min(most) + warm,
            filling: (*cache).defer.peek(class).len().min(most),
        }
    }
}

/// The blocks of `class` as of now.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn of_class(class: Class) -> ClassStats {
    let pool = pool::of(class).census();
    let (mut cached, mut filling) = (depot::of(class).blocks(), 0);
    let mut in_groups = 0u32.wrapping_sub(group::taken_up(class));
    for cache in registry::all() {
        // SAFETY: the registry's, and type-stable. The owner may be writing: single words, allowed to be
        // stale.
        let (slots, waiting, full) = unsafe {
            let waiting = (&raw const (*cache).waiting[class.index()]).read_volatile();
            (in_slots(cache, class), waiting, (*cache).shelf.full_blocks(class))
        };
        cached += slots.loaded + full;
        filling += slots.filling;
        in_groups = in_groups.wrapping_add(waiting);
    }
    // Less than none: taken up since the first cache was looked at.
    let outside = filling + (in_groups as i32).max(0) as usize;
    ClassStats {
        size: size_of::<ClassStats>() as u64,
        block_bytes: class.size() as u64,
        slabs: pool.slabs as u64,
        live: pool.away.saturating_sub(cached + outside) as u64,
        cached: cached as u64,
        deferred: (outside + pool.waiting) as u64,
        in_slabs: (pool.slabs * class.blocks()).saturating_sub(pool.away + pool.waiting) as u64,
        taken: pool.taken.blocks,
        refills: pool.taken.calls,
        returned: pool.returned.blocks,
        flushes: pool.returned.calls,
    }
}

/// Bytes of a slab that no block has.
pub fn tail_bytes(class: Class) -> usize {
    SLAB_BYTES - class.blocks() * class.size()
}

/// Bytes that wait behind a cookie, by how long they have.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ages {
    /// Less than each of [`AGES_MS`], and more.
    pub bytes: [u64; AGES_MS.len() + 1],
    /// Of queues that somebody was changing, of batches that were not looked at, and of threads that have
    /// never looked at the clock.
    pub unknown: u64,
    /// Age of the oldest that was looked at, in milliseconds.
    pub oldest_ms: u64,
}

impl Ages {
    fn add(&mut self, now_ms: u32, since_ms: u32, bytes: usize) {
        if since_ms == 0 {
            self.unknown += bytes as u64;
            return;
        }
        // A thread's clock may be ahead of the one that was read before.
        let age = (now_ms.wrapping_sub(since_ms) as i32).max(0) as u32;
        self.oldest_ms = self.oldest_ms.max(age.into());
        self.bytes[AGES_MS.iter().take_while(|&&bound| age >= bound).count()] += bytes as u64;
    }
}

/// The ages as of now. Threads keep the time of their last look at the clock, some slow paths ago.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn ages() -> Ages {
    let now_ms = clock::now_coarse_ms();
    let (mut ages, mut all) = (Ages::default(), 0);
    let mut add = |since_ms, bytes| ages.add(now_ms, since_ms, bytes);
    group::shared().look(|queue| queue.for_each(BATCHES_LOOKED_AT, &mut add));
    large_batch::shared().look(|queue| queue.for_each(BATCHES_LOOKED_AT, &mut add));
    for cache in registry::all() {
        // SAFETY: type-stable; a shelf may be opened by anybody.
        let shelf = unsafe { &(*cache).shelf };
        let figures = shelf.figures();
        all += figures.waiting + figures.large_waiting;
        if figures.waiting + figures.large_waiting != 0
            && let Some(open) = shelf.open_to_look()
        {
            open.waiting.for_each(BATCHES_LOOKED_AT, &mut add);
            open.large.for_each(BATCHES_LOOKED_AT, &mut add);
        }
    }
    all += group::shared().bytes() + large_batch::shared().bytes();
    let known: u64 = ages.bytes.iter().sum();
    ages.unknown = (all as u64).saturating_sub(known);
    ages
}
