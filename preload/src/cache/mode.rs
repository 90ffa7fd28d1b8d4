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
//! A process turns concurrent once and for good (`front::switch`).

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What is deferred; `RCUMALLOC_DEFER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Defer {
    /// Every free, once the process is concurrent.
    All = 0,
    /// Only `rcumalloc_free`.
    Api = 1,
    /// Every free from the first, and nobody expedites.
    Strict = 2,
}

#[unsafe(link_section = ".data")]
static DEFER: AtomicU8 = AtomicU8::new(Defer::All as u8);
#[unsafe(link_section = ".data")]
static CONCURRENT: AtomicBool = AtomicBool::new(false);
/// The switch is complete: ends of threads and forks are watched, too.
#[unsafe(link_section = ".data")]
static SWITCHED: AtomicBool = AtomicBool::new(false);

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
