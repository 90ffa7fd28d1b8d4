//! Solo and concurrent, and the three ways of deferring, as two words of a thread.
//!
//! Where free pushes is TLS word 1, so a mode is a value of that word and no branch:
//!
//! | | solo | concurrent |
//! |---|---|---|
//! | `all` | allocation table | deferring table |
//! | `api` | allocation table | allocation table; `rcumalloc_free` pushes to the deferring one |
//! | `strict` | – | deferring table, from the first call |
//!
//! `all` and `strict` may except sizes: blocks of those are for reuse at once, as in `api`. free pushes them
//! where it pushes all others, so it has no branch for them either; but what it has pushed there malloc takes
//! as soon as it finds its own magazine empty (`retire.rs`, `refill.rs`). What is to wait by
//! `rcumalloc_free` waits in its slab.
//!
//! A process turns concurrent once and for good (`front::switch`).

use crate::class::size_class::Class;
use crate::constants::EXCEPTIONS;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// What is deferred; `RCUMALLOC_DEFER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Defer {
    /// Every free, once the process is concurrent.
    All = 0,
    /// Only `rcumalloc_free`.
    Api = 1,
    /// Every free from the first, and the heap expedites for memory alone.
    Strict = 2,
}

#[unsafe(link_section = ".data")]
static DEFER: AtomicU8 = AtomicU8::new(Defer::All as u8);
#[unsafe(link_section = ".data")]
static CONCURRENT: AtomicBool = AtomicBool::new(false);
/// The switch is complete: ends of threads and forks are watched, too.
#[unsafe(link_section = ".data")]
static SWITCHED: AtomicBool = AtomicBool::new(false);

/// Sizes of blocks, in bytes, that are excepted from what is deferred: from the first of a pair to the
/// second. A pair of zeros is no range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Except(pub [(usize, usize); EXCEPTIONS]);

/// The same, for good.
#[unsafe(link_section = ".data")]
static EXCEPT: [(AtomicUsize, AtomicUsize); EXCEPTIONS] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; EXCEPTIONS];
/// Classes whose blocks have such a size, a bit each.
#[unsafe(link_section = ".data")]
static EXCEPTED: AtomicU64 = AtomicU64::new(0);

/// There are any.
#[unsafe(link_section = ".data")]
static EXCEPTS: AtomicBool = AtomicBool::new(false);

/// Excepts these sizes; before the first thread has a cache.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn set_except(except: &Except) {
    for ((from, to), range) in EXCEPT.iter().zip(except.0) {
        from.store(range.0, Ordering::Relaxed);
        to.store(range.1, Ordering::Relaxed);
    }
    EXCEPTS.store(true, Ordering::Relaxed);
    let bits = Class::all().filter(|class| excepts(class.size())).map(|class| 1 << class.index());
    EXCEPTED.store(bits.fold(0, |all, bit: u64| all | bit), Ordering::Relaxed);
}

/// The excepted sizes.
pub fn except() -> impl Iterator<Item = (usize, usize)> {
    let ranges = EXCEPT.iter().map(|(from, to)| (from.load(Ordering::Relaxed), to.load(Ordering::Relaxed)));
    ranges.filter(|&range| range != (0, 0))
}

/// Whether any size is excepted.
#[inline(always)]
pub fn excepts_any() -> bool {
    EXCEPTS.load(Ordering::Relaxed)
}

/// Whether blocks of so many bytes are excepted from what is deferred.
pub fn excepts(bytes: usize) -> bool {
    except().any(|(from, to)| from <= bytes && bytes <= to)
}

/// Whether blocks of `class` are.
#[inline(always)]
pub fn is_excepted(class: Class) -> bool {
    EXCEPTED.load(Ordering::Relaxed) >> class.index() & 1 != 0
}

/// What is deferred.
#[inline]
pub fn defer() -> Defer {
    match DEFER.load(Ordering::Relaxed) {
        0 => Defer::All,
        1 => Defer::Api,
        _ => Defer::Strict,
    }
}

/// Sets what is deferred; before the first thread has a cache.
pub fn set_defer(defer: Defer) {
    DEFER.store(defer as u8, Ordering::Relaxed);
}

/// Whether the process has or had more than one thread, or a reader.
#[inline]
pub fn is_concurrent() -> bool {
    CONCURRENT.load(Ordering::Acquire)
}

/// Whether plain `free` is deferred now.
#[inline]
pub fn frees_defer() -> bool {
    is_concurrent() && defer() != Defer::Api
}

/// The process is concurrent from here on.
pub fn set_concurrent() {
    // Release: who sees it set in its own word's mode sees what the switcher did before.
    CONCURRENT.store(true, Ordering::Release);
}

/// Whether the process is concurrent for good and no thread's word will be set from outside any more.
#[inline(always)]
pub fn is_switched() -> bool {
    SWITCHED.load(Ordering::Acquire)
}

/// The switch is complete.
pub fn set_switched() {
    // Release: pairs with the Acquire in `is_switched`.
    SWITCHED.store(true, Ordering::Release);
}
