//! The soft limit on what the heap holds: `RCUMALLOC_LIMIT`, or what the control group allows.
//!
//! The zone compares, where it hands pages out or takes them back, under its lock; nothing is given back
//! there. Past the alarm it only asks (`os::bell`), and the next slow path of any thread gives back. What
//! the program itself holds cannot be given back, so a limit never refuses: after a scan that did not
//! get below it, nothing is asked for until free pages have memory again that is a part of the limit, or
//! the heap has grown by as much; lest every slow path scan.
//!
//! The hard limit, `RCUMALLOC_HARD_LIMIT`, does refuse. The zone asks under its lock whether what is wanted
//! may be given out beside what is ([`admits`]), so any number of threads together stay below it; and whoever
//! was given pages gives free ones back, before it touches its own, until what is held is below it, too
//! ([`over_hard`]). To the floors above a refusal is a mapping that failed. The tables beside the window do
//! not count: 1/512 of what is mapped, and a byte for each small block.
//!
//! What counts is usable memory less free pages that hold none. Relaxed: it steers.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::constants::{BREATH_MS, LIMIT_SLACK, LIMIT_STEP, MS};
use crate::os::{bell, clock};

/// The limit in bytes; `usize::MAX`: none.
#[unsafe(link_section = ".data")]
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The hard limit in bytes; `usize::MAX`: none.
#[unsafe(link_section = ".data")]
static HARD: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Bytes held past which attention is asked for.
#[unsafe(link_section = ".data")]
static ALARM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Most bytes that were given out since the heap last lay idle.
#[unsafe(link_section = ".data")]
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Bytes held, as of a moment ago.
#[unsafe(link_section = ".data")]
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Until when the system counts as one that refuses mappings, coarse clock, in nanoseconds.
static REFUSES_UNTIL: AtomicU64 = AtomicU64::new(0);

/// Sets the limit in bytes.
pub fn set(bytes: usize) {
    LIMIT.store(bytes, Relaxed);
    ALARM.store(bytes, Relaxed);
}

/// The limit in bytes; `usize::MAX`: none.
pub fn bytes() -> usize {
    LIMIT.load(Relaxed)
}

/// Sets the hard limit in bytes. What is given out already stays.
pub fn set_hard(bytes: usize) {
    HARD.store(bytes, Relaxed);
}

/// The hard limit in bytes; `usize::MAX`: none.
#[inline]
pub fn hard() -> usize {
    HARD.load(Relaxed)
}

/// Whether `more` bytes may be given out beside the `used` ones.
#[inline]
pub(super) fn admits(used: usize, more: usize) -> bool {
    more <= hard().saturating_sub(used)
}

/// By how much `held` bytes are past the hard limit.
#[inline]
pub(super) fn over_hard(held: usize) -> usize {
    held.saturating_sub(hard())
}

/// The heap holds `held` bytes, `dirty` of them in free pages.
#[inline]
pub(super) fn note(held: usize, dirty: usize) {
    let limit = bytes();
    HELD.store(held, Relaxed);
    let used = held.saturating_sub(dirty);
    if used > PEAK.load(Relaxed) {
        PEAK.store(used, Relaxed);
    }
    if held > limit && (held > ALARM.load(Relaxed) || dirty > limit >> LIMIT_STEP) {
        bell::want(bell::LIMIT);
    }
}

/// Most bytes that were given out since [`forget_peak`]. No lock.
pub(super) fn peak_used() -> usize {
    PEAK.load(Relaxed)
}

/// What is given out now is the most from now on.
pub(super) fn forget_peak(used: usize) {
    PEAK.store(used, Relaxed);
}

/// Bytes held, as of a moment ago. No lock.
#[inline]
pub fn held() -> usize {
    HELD.load(Relaxed)
}

/// Whether the heap is past its limit, as of a moment ago. No lock.
#[inline]
pub fn is_passed() -> bool {
    held() > bytes()
}

/// How much must go for the heap, which holds `held` bytes, to be a little below its limit.
pub fn excess(held: usize) -> usize {
    let limit = bytes();
    if held > limit { held - limit + (limit >> LIMIT_SLACK) } else { 0 }
}

/// The system has refused a mapping.
pub(super) fn note_refusal() {
    REFUSES_UNTIL.store(clock::now_coarse_ns() + BREATH_MS * MS, Relaxed);
    bell::want(bell::ROOM);
}

/// Whether the system has refused a mapping within the time of a breath: address space, data or memory locked
/// is near a limit, which is not ours alone. One load where it never has.
#[inline]
pub fn was_refused() -> bool {
    REFUSES_UNTIL.load(Relaxed) != 0 && refuses_still()
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn refuses_still() -> bool {
    let until = REFUSES_UNTIL.load(Relaxed);
    let still = clock::now_coarse_ns() < until;
    if !still {
        // What somebody says meanwhile may be lost: who is refused again says so again.
        REFUSES_UNTIL.store(0, Relaxed);
        bell::withdraw(bell::ROOM);
    }
    still
}

/// A scan has been made; the heap holds `held` bytes.
pub fn rearm(held: usize) {
    let limit = bytes();
    ALARM.store(if held > limit { held.saturating_add(limit >> LIMIT_STEP) } else { limit }, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn asks(held: usize, dirty: usize) -> bool {
        note(held * MIB, dirty * MIB);
        bell::take() & bell::LIMIT != 0
    }

    #[test]
    fn asks_past_the_limit_and_again_when_it_is_worth_it() {
        crate::own_process::in_own_process!();
        set(160 * MIB);
        assert!(!asks(160, 100) && asks(161, 0));
        assert_eq!((excess(160 * MIB), excess(161 * MIB)), (0, 21 * MIB));
        // The program holds all of it.
        rearm(161 * MIB);
        assert!(!asks(166, 0) && asks(167, 0));
        assert!(!asks(165, 5) && asks(165, 6));
        rearm(100 * MIB);
        assert!(asks(161, 0));
        set(usize::MAX);
        assert_eq!(excess(usize::MAX), 0);
    }

    #[test]
    fn the_hard_limit_is_exact() {
        crate::own_process::in_own_process!();
        assert!(admits(usize::MAX / 2, usize::MAX / 2) && over_hard(usize::MAX - 1) == 0);
        set_hard(8 * MIB);
        assert!(admits(7 * MIB, MIB) && !admits(7 * MIB, MIB + 1));
        assert!(!admits(9 * MIB, 1) && admits(9 * MIB, 0), "it was lowered");
        assert_eq!((over_hard(8 * MIB), over_hard(9 * MIB)), (0, MIB));
        set_hard(usize::MAX);
    }
}
