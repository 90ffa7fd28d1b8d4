//! Marking a magazine in: the last look at blocks before others may have them, which finds what was freed
//! twice.

use crate::class::magazine::Magazine;
use crate::class::marks::Map;
use crate::class::size_class::Class;
use crate::class::verdict;

/// Marks every block of `magazine` in. Those that were in already are double frees: reported and,
/// if the program goes on, taken out of the magazine.
#[inline]
#[unsafe(link_section = ".text_solo")]
pub fn check_in(class: Class, magazine: &mut Magazine) {
    // SAFETY: the magazine is ours and holds blocks of slabs of this class only.
    if !unsafe { Map::of(class).retire(magazine.blocks()) } {
        drop_offenders(class, magazine);
    }
}

#[cold]
#[inline(never)]
fn drop_offenders(class: Class, magazine: &mut Magazine) {
    // SAFETY: as in `check_in`.
    while let Some(at) = unsafe { Map::of(class).offender(magazine.blocks()) } {
        let blocks = magazine.blocks();
        let last = blocks.len() - 1;
        verdict::double_free("free", blocks[at], class, verdict::Found::AtTurn);
        blocks.swap(at, last);
        magazine.set_len(last);
    }
}
