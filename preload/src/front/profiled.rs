//! Blocks of the profile, on their way out and back: what slow paths do while there is one.
//!
//! A small block that is a sample has pages of its own, as a large one: so `free` and `realloc` come by their
//! slow paths, and all that is promised of freed blocks holds for it as for any.

use crate::cache::own;
use crate::class::large::{self, LargeRef};
use crate::class::{profile, sampled};
use crate::front::{start, switch};
use crate::page::memdesc::Memdesc;
use core::sync::atomic::Ordering::Relaxed;

/// Where the frame of the slow path that the calling thread has under way is; 0: not known.
fn frame() -> usize {
    own::existing().map_or(0, |cache| cache.under_way.load(Relaxed))
}

/// Begins a profile, with `rate` bytes between two samples on average. Not in a signal handler.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn begin(rate: usize) -> bool {
    if !start::process() || !profile::begin(rate) {
        return false;
    }
    // Else free would put blocks back where malloc takes them: who frees at once would be most of the sample.
    switch::go_concurrent();
    true
}

/// A large block of `size` bytes was allocated, or has got this size.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn large(block: usize, size: usize) {
    if profile::is_sample(size) {
        small(block, size, size);
    }
}

/// The block at `block` is a sample of a class whose blocks have `held` bytes.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn small(block: usize, size: usize, held: usize) {
    // Before it is marked: who frees it finds it in the profile.
    profile::note(block, size, held, frame());
    if let Some(large) = LargeRef::of(block) {
        large.set_sampled(true);
    }
}

/// Takes the large block at `addr` from the program if it is in the profile, as [`large::claim`] does.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn claim(addr: usize, word: Memdesc, outgrown: bool, defers: bool) -> Option<LargeRef> {
    let block = large::claim_sampled(addr, word, outgrown)?;
    profile::freed(addr, defers);
    Some(block)
}

/// A trapped block that may be a sample was freed.
pub fn freed(block: usize, defers: bool) {
    if sampled::is(sampled::PROFILED) {
        profile::freed(block, defers);
    }
}

/// A large block has another size, where it was: as if it had been freed and allocated.
#[inline]
pub fn resized(block: usize, size: usize) {
    if sampled::is(sampled::PROFILED) {
        sample_anew(block, size);
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn sample_anew(block: usize, size: usize) {
    if let Some(large) = LargeRef::of(block) {
        large.set_sampled(false);
    }
    profile::freed(block, false);
    if sampled::is(sampled::PROFILE) {
        large(block, size);
    }
}
