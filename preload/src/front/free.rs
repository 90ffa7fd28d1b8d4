//! The slow paths of free.
//!
//! ```text
//!   free ── fast ──┬─> push
//!                  └─> free_slow ─┬─ null
//!                                 ├─ slab page:  not a block's start ─> verdict
//!                                 │              no cache ─> begin, or the slab itself
//!                                 │              newest of its magazine ─> verdict
//!                                 │              full ─> retire
//!                                 ├─ large page: large::free ─> verdict if not live
//!                                 ├─ trapped:    trapped::free
//!                                 └─ any other:  verdict
//! ```

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{mode, retire, table};
use crate::class::large::{self, LargeRef};
use crate::class::size_class::{Class, SMALL_MAX};
use crate::class::slab::Slab;
use crate::class::trap;
use crate::class::verdict::{self, Found};
use crate::class::{backlog, changed};
use crate::front::entry;
use crate::front::under_way::Frame;
use crate::front::{profiled, trapped};
use crate::os::tls;
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::ranges;
use crate::release::decay;

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
#[unsafe(link_section = ".text_start")]
pub unsafe extern "C" fn free_slow(block: *mut u8) {
    if !block.is_null() {
        let word = memdesc::of(block as usize);
        if word.kind() != Kind::Large && takes_more(word) {
            // SAFETY: as above; it has room now.
            return unsafe { table::free(block, free_slower) };
        }
        let mut frame = Frame::new();
        frame.begin();
        if word.kind() == Kind::Large {
            // As in `free_begun`, which has more registers to save.
            free_large(block as usize, word, "free", defers_large(word), false);
        } else {
            free_begun(block as usize, "free", When::Usual);
        }
    }
}

/// What free has found full has room now, since the thread has credit for more (`cache/round.rs`).
#[inline(always)]
fn takes_more(word: Memdesc) -> bool {
    let Some(class) = Class::of_slot(word.slot().into()) else { return false };
    let cache = tls::alloc_table() as *mut ThreadCache;
    // SAFETY: an address alone.
    if tls::free_table() != unsafe { &raw const (*cache).defer } as usize {
        return false;
    }
    // SAFETY: the deferring table is the thread's, so the other is its cache.
    let cache = unsafe { &mut *cache };
    cache.defer.slot(class).is_full() && !mode::is_excepted(class) && cache.take_credit(class)
}

/// The same, where that was not so.
///
/// # Safety
/// As [`free_slow`].
#[cold]
#[inline(never)]
unsafe extern "C" fn free_slower(block: *mut u8) {
    free_block(block as usize, "free", When::Usual);
}

/// Frees what starts at `addr`, on behalf of `call`.
pub fn free_block(addr: usize, call: &str, when: When) {
    let mut frame = Frame::new();
    frame.begin();
    free_begun(addr, call, when);
}

#[unsafe(link_section = ".text_solo")]
pub fn free_begun(addr: usize, call: &str, when: When) {
    let word = ranges::of(addr);
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
                When::Usual => defers_large(word),
                When::Deferred => mode::is_concurrent(),
                When::Now => false,
            };
            free_large(addr, word, call, defer, false);
        }
        _ if trap::holds(addr) => {
            let defers = match when {
                When::Usual => mode::frees_defer(),
                When::Deferred => mode::is_concurrent(),
                When::Now => false,
            };
            trapped::free(addr, call, defers);
        }
        _ => verdict::bad_address(call, addr),
    }
}

/// Frees the large block at `addr`, which a realloc may have outgrown.
#[inline(always)]
pub fn free_large(addr: usize, word: Memdesc, call: &str, defer: bool, outgrown: bool) {
    let cache = entry::current();
    // What is in the profile is claimed by another way, so that the others need not ask.
    let claimed = large::claim(addr, word, outgrown).or_else(|| profiled::claim(addr, word, outgrown, defer));
    let Some(block) = claimed else { return verdict::bad_address(call, addr) };
    match cache {
        Some(cache) if defer => defer_large(cache, block),
        Some(cache) => {
            cache.slow_path();
            cache.free_large(block);
        }
        None => {
            let _quiet = entry::without_cache();
            crate::cache::large::free_without_cache(block, defer);
        }
    }
    decay::note_work();
}

/// Whether a plain free of the large block that `word` names is deferred.
#[inline(always)]
pub fn defers_large(word: Memdesc) -> bool {
    mode::frees_defer() && !(mode::excepts_any() && is_excepted(word))
}

#[cold]
#[inline(never)]
fn is_excepted(word: Memdesc) -> bool {
    // What was asked for decides: a small block may have pages of its own.
    LargeRef::named_by(word).is_some_and(|block| {
        let asked = block.asked().filter(|&asked| asked <= SMALL_MAX);
        asked.map_or_else(|| mode::excepts(block.bytes()), |asked| mode::is_excepted(Class::of_size(asked)))
    })
}

/// Frees a claimed block behind a grace period. Only what closes a batch is a slow path.
#[inline]
fn defer_large(cache: &mut ThreadCache, block: LargeRef) {
    if cache.keep_freed(block) {
        cache.slow_path();
        cache.close_freed();
    }
}

/// A block has shrunk: readers may be at what it has given up.
#[cold]
#[inline(never)]
pub fn defer_tail(tail: LargeRef) {
    match entry::current() {
        Some(cache) => defer_large(cache, tail),
        None => {
            let _quiet = entry::without_cache();
            crate::cache::large::free_without_cache(tail, true);
        }
    }
    decay::note_work();
}

fn free_small(class: Class, addr: usize, call: &str, when: When) {
    let Some(cache) = entry::current() else {
        let _quiet = entry::without_cache();
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
    if deferred && mode::is_excepted(class) {
        free_excepted(cache, class, addr, call, when);
    } else if deferred {
        push_deferred(cache, class, addr);
    } else {
        push_local(cache, class, addr);
    }
}

/// Frees `block`, whose grace period begins now.
#[inline]
fn push_deferred(cache: &mut ThreadCache, class: Class, block: usize) {
    if cache.defer.slot(class).is_full() {
        cache.enter();
        let is_round_due = cache.is_round_due(class);
        if is_round_due || cache.is_group_full() {
            cache.slow_path();
            if is_round_due && !cache.begin_round() {
                cache.retire_partial();
            }
            if cache.is_group_full() {
                cache.seal();
            }
        }
        if !cache.makes_room(class) && !cache.turn_deferred(class) {
            // There is no memory: what waits is taken up by whoever is left to do it.
            cache.slow_path();
            return cache.defer_at_last(class, block);
        }
    }
    cache.defer.slot(class).push(block);
}

/// Frees a block of a class whose plain frees do not wait: where free pushes others that do, there it lies
/// for malloc; so what is to wait all the same waits in its slab.
#[cold]
#[inline(never)]
fn free_excepted(cache: &mut ThreadCache, class: Class, block: usize, call: &str, when: When) {
    if when == When::Deferred {
        return retire::defer_in_slab(class, block, call);
    }
    if cache.defer.slot(class).is_full() {
        cache.slow_path();
        cache.turn_excepted(class);
    }
    cache.push_excepted(class, block);
}

/// Frees `block` for reuse by this thread at once.
#[inline]
fn push_local(cache: &mut ThreadCache, class: Class, block: usize) {
    if cache.alloc.slot(class).is_full() {
        cache.slow_path();
        cache.turn_local(class);
    }
    cache.push_local(class, block);
}

/// Bytes that wait for a grace period; for tests and statistics.
pub fn deferred_bytes() -> usize {
    backlog::deferred_bytes()
}
