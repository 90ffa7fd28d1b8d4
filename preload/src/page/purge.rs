//! Giving free pages back to the system: the window's and ranges, which are whole mappings.
//!
//! First those of which there are more: else the ones would pay for the others, and a program whose blocks
//! are partly of this and partly of that kind would fault for each of one.

use super::zone::{self, Purged};
use super::{promise, ranges};
use crate::os::listeners;

/// Whether more of what is free and dirty is in ranges than in the window.
fn ranges_lead() -> bool {
    ranges::free_bytes() > zone::dirty_bytes() / 2
}

/// Gives `max_bytes` by the one way and then, if that was not all, by the other.
#[unsafe(link_section = ".text_solo")]
fn by_both(max_bytes: usize, of_ranges: fn(usize) -> usize, of_window: fn(usize) -> usize) -> usize {
    let [first, second] = if ranges_lead() { [of_ranges, of_window] } else { [of_window, of_ranges] };
    let given = first(max_bytes);
    if given < max_bytes { given + second(max_bytes - given) } else { given }
}

/// Gives memory of free pages back, `max_bytes` of it if there is so much, long stretches first. Returns the
/// bytes given, of which pages that were never touched may be a part. Where somebody listens for what goes it
/// is promised (`promise.rs`), as by all of these.
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
pub fn free(max_bytes: usize) -> usize {
    if listeners::are_there() {
        return promise::make(max_bytes);
    }
    by_both(max_bytes, |most| ranges::purge(most, false).bytes, zone::purge_free)
}

/// The same, and the answer is what was resident: the kernel is asked, page by page. Costs one
/// `mincore` a stretch, which a strict filter may not know from a malloc: for explicit requests.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn resident(max_bytes: usize) -> usize {
    if listeners::are_there() {
        return promise::make(max_bytes);
    }
    by_both(max_bytes, |most| ranges::purge(most, true).bytes, zone::purge_resident)
}

/// The same as [`free`], but no more than one call of the program's may do on the way, which has freed `own`
/// bytes itself. The next step goes on from there.
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
pub fn step(max_bytes: usize, own: usize) -> Purged {
    if listeners::are_there() {
        let bytes = promise::make(max_bytes.min(zone::step_bytes(own)));
        return Purged { bytes, stretches: 0, refused: 0 };
    }
    let of_ranges = || ranges::purge(max_bytes.min(zone::step_bytes(own)), false);
    let lead = ranges_lead();
    let mut purged = if lead { of_ranges() } else { zone::purge_step(max_bytes, own) };
    if purged.bytes == 0 {
        purged = if lead { zone::purge_step(max_bytes, own) } else { of_ranges() };
    }
    zone::note_step(purged, own);
    purged
}

/// Unmaps whatever is free in stretches worth a call: a mapping was refused, and what one mapping of the heap
/// leaves another may have.
pub fn unmap_free() {
    if listeners::are_there() {
        promise::make_all();
        return;
    }
    ranges::purge(usize::MAX, false);
    zone::unmap_free();
}

/// Keeps what was promised. The caller holds no lock, has nothing of the heap in hand, and may call libc:
/// whoever listens is called here.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn keep_promises() {
    let bytes = promise::take();
    by_both(bytes.saturating_sub(ranges::leave_aside()), ranges::leave, zone::leave);
}

/// A tick of the decay has passed: how many bytes have been idle for a whole period.
pub fn tick() -> usize {
    ranges::tick() + zone::tick()
}
