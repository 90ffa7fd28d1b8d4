//! Giving free pages back to the system: free ranges first, which are whole mappings, then the window's.

use super::ranges;
use super::zone::{self, Purged};

/// Gives memory of free pages back, `max_bytes` of it if there is so much, long stretches first. Returns the
/// bytes given, of which pages that were never touched may be a part.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn free(max_bytes: usize) -> usize {
    let given = ranges::purge(max_bytes, false).bytes;
    given + zone::purge_free(max_bytes.saturating_sub(given))
}

/// The same, and the answer is what was resident: the kernel is asked, page by page. Costs one
/// `mincore` a stretch, which a strict filter may not know from a malloc: for explicit requests.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn resident(max_bytes: usize) -> usize {
    let given = ranges::purge(max_bytes, true).bytes;
    given + zone::purge_resident(max_bytes.saturating_sub(given))
}

/// The same as [`free`], but no more than one call of the program's may do on the way, which has freed `own`
/// bytes itself. The next step goes on from there.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn step(max_bytes: usize, own: usize) -> Purged {
    let mut purged = ranges::purge(max_bytes.min(zone::step_bytes(own)), false);
    if purged.bytes == 0 {
        purged = zone::purge_step(max_bytes, own);
    }
    zone::note_step(purged, own);
    purged
}

/// Unmaps whatever is free in stretches worth a call: a mapping was refused, and what one mapping of the heap
/// leaves another may have.
pub fn unmap_free() {
    ranges::purge(usize::MAX, false);
    zone::unmap_free();
}

/// A tick of the decay has passed: how many bytes have been idle for a whole period.
pub fn tick() -> usize {
    ranges::tick() + zone::tick()
}
