//! Which blocks are sampled, under `RCUMALLOC_TRAP` and for a profile, without an instruction on malloc's
//! fast path.
//!
//! Blocks that come to lie where malloc pops have the dice thrown for them, up to the first that is to be a
//! sample: those before it are all that the magazine keeps, and the rest stays behind as the thread's warm
//! one, or on the shelf. So malloc finds its magazine empty when it is the sample's turn, and its slow path
//! knows. For a trap each block has the same chance, for a profile each byte; what was thrown for blocks that
//! leave the magazine unused makes no difference to the others.

use crate::cache::thread_cache::ThreadCache;
use crate::class::check_in::check_in;
use crate::class::magazine::{Magazine, kind_of};
use crate::class::size_class::Class;
use crate::class::{depot, profile, sampled, trap};

/// What a block is a sample for: bits of [`sampled`].
pub type Due = u8;

const TRAP: Due = sampled::TRAP as Due;
const PROFILE: Due = sampled::PROFILE as Due;

/// For nothing.
pub const NOTHING: Due = 0; // (given) as an encoding

/// For a trap.
pub fn is_trapped(due: Due) -> bool {
    due & TRAP != 0
}

/// For the profile.
pub fn is_profiled(due: Due) -> bool {
    due & PROFILE != 0
}

impl ThreadCache {
    /// What the block of `class` that a slow path is asked for is a sample for.
    pub fn take_due(&mut self, class: Class) -> Due {
        // Those in the magazine have had their turn, but for what asks in particular.
        let is_loaded = !self.alloc.slot(class).is_empty();
        let mut due =
            if is_loaded { NOTHING } else { core::mem::replace(&mut self.class(class).due, NOTHING) };
        if sampled::is(sampled::TRAP) && trap::is_sample() {
            due |= TRAP;
        }
        let is_profiled = sampled::is(sampled::PROFILE);
        if is_profiled && !is_loaded && profile::is_sample(class.size()) {
            due |= PROFILE;
        }
        if is_profiled { due } else { due & !PROFILE }
    }

    /// Has the magazine that malloc pops from end where the next block is a sample. `fresh`: how many of the
    /// blocks in it, those on top, have just been loaded.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn end_at_next_sample(&mut self, class: Class, fresh: usize) {
        let len = self.alloc.slot(class).len();
        let fresh = fresh.min(len);
        let never = usize::MAX;
        let of_trap = match sampled::is(sampled::TRAP) {
            true => (0..fresh).find(|_| trap::is_sample()).unwrap_or(never),
            false => never,
        };
        let of_profile = match sampled::is(sampled::PROFILE) {
            true => profile::blocks_before(class.size()),
            false => never,
        };
        let before = of_trap.min(of_profile);
        if before >= fresh {
            return;
        }
        let few = if before == 0 { None } else { self.empty(kind_of(before)) };
        if few.is_none() && before != 0 {
            return;
        }
        let Some(mut rest) = self.alloc.slot(class).remove() else { return };
        if let Some(mut few) = few {
            few.room()[..before].copy_from_slice(&rest.blocks()[len - before..]);
            self.alloc.slot(class).install(few, class, before, usize::MAX);
        }
        rest.set_len(len - before);
        self.class(class).due =
            if of_trap == before { TRAP } else { 0 } | if of_profile == before { PROFILE } else { 0 };
        if self.class(class).warm.as_ref().is_some_and(|warm| !warm.is_empty()) {
            return self.put_back(class, rest);
        }
        let emptied = self.class(class).warm.replace(rest);
        if let Some(emptied) = emptied {
            self.keep_spare(emptied);
        }
    }

    /// Puts a magazine of blocks that are marked out where the next refill looks.
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn put_back(&mut self, class: Class, mut magazine: Magazine) {
        check_in(class, &mut magazine);
        self.retired += magazine.len() as u64;
        match self.shelf.open() {
            Some(mut shelf) => shelf.push_full_whole(magazine),
            None => depot::of(class).put(self.quarter(), magazine),
        }
    }
}
