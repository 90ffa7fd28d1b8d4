//! The soft limit on what the heap holds: `RCUMALLOC_LIMIT`, or what the control group allows.
//!
//! The zone compares, where it hands pages out or takes them back, under its lock; nothing is given back
//! there. Past the alarm it only asks (`os::bell`), and the next slow path of any thread gives back. What
//! the program itself holds cannot be given back, so a limit never refuses: after a scan that did not
//! get below it, the alarm moves up by a sixteenth of the limit, lest every slow path scan.
//!
//! What counts is usable memory less free pages that hold none. Relaxed: it steers.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::os::bell;

/// The limit in bytes; `usize::MAX`: none.
#[unsafe(link_section = ".data")]
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Bytes held past which attention is asked for.
#[unsafe(link_section = ".data")]
static ALARM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Part of the limit, as a shift, that a scan frees beyond it, and that the alarm moves up by where a
/// scan did not help (tune).
const SLACK: u32 = 4;

/// Sets the limit in bytes.
pub fn set(bytes: usize) {
    LIMIT.store(bytes, Relaxed);
    ALARM.store(bytes, Relaxed);
}

/// The limit in bytes; `usize::MAX`: none.
pub fn bytes() -> usize {
    LIMIT.load(Relaxed)
}

/// The heap holds `held` bytes.
#[inline]
pub(super) fn note(held: usize) {
    if held > ALARM.load(Relaxed) {
        bell::want(bell::LIMIT);
    }
}

/// How much must go for the heap, which holds `held` bytes, to be a little below its limit.
pub fn excess(held: usize) -> usize {
    let limit = bytes();
    if held > limit { held - limit + (limit >> SLACK) } else { 0 }
}

/// A scan has been made; the heap holds `held` bytes.
pub fn rearm(held: usize) {
    let limit = bytes();
    ALARM.store(if held > limit { held.saturating_add(limit >> SLACK) } else { limit }, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_once_and_again_after_a_sixteenth() {
        const MIB: usize = 1 << 20;
        set(160 * MIB);
        note(160 * MIB);
        assert_eq!(bell::take() & bell::LIMIT, 0);
        note(161 * MIB);
        assert_eq!(bell::take() & bell::LIMIT, bell::LIMIT);
        assert_eq!((excess(160 * MIB), excess(161 * MIB)), (0, 11 * MIB));
        rearm(161 * MIB);
        note(171 * MIB);
        assert_eq!(bell::take() & bell::LIMIT, 0);
        note(172 * MIB);
        assert_eq!(bell::take() & bell::LIMIT, bell::LIMIT);
        rearm(100 * MIB);
        note(161 * MIB);
        assert_eq!(bell::take() & bell::LIMIT, bell::LIMIT);
        set(usize::MAX);
        assert_eq!(excess(usize::MAX), 0);
    }
}
