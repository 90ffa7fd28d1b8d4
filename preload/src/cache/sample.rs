//! Which blocks are sampled, under `RCUMALLOC_TRAP`, without an instruction on malloc's fast path.
//!
//! Each block is one with the same chance. When a magazine is loaded the dice are thrown for its blocks, up
//! to the first that is to be a sample: those before it are all that the magazine gets, and the rest stays
//! behind as the thread's warm one. So malloc finds its magazine empty when it is the sample's turn, and its
//! slow path knows.

use crate::cache::thread_cache::ThreadCache;
use crate::class::magazine::kind_of;
use crate::class::size_class::Class;
use crate::class::trap;

impl ThreadCache {
    /// Whether the block of `class` that a slow path is asked for is a sample.
    pub fn is_sample(&mut self, class: Class) -> bool {
        core::mem::take(&mut self.class(class).is_due) || trap::is_sample()
    }

    /// Has the magazine that has just been loaded end where the next block is a sample.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn end_at_next_sample(&mut self, class: Class) {
        if self.class(class).warm.as_ref().is_some_and(|warm| !warm.is_empty()) {
            return;
        }
        let len = self.alloc.slot(class).len();
        let Some(before) = (0..len).find(|_| trap::is_sample()) else { return };
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
        let emptied = self.class(class).warm.replace(rest);
        if let Some(emptied) = emptied {
            self.keep_spare(emptied);
        }
        self.class(class).is_due = true;
    }
}
