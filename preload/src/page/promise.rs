//! What the heap has promised to the system and not given yet.
//!
//! Where somebody listens for memory that goes (`os/listeners.rs`), it may go only where no lock of the heap
//! is held and nothing is under way: at the end of a slow path, when its call is as good as made
//! (`front/under_way.rs`). Whoever would give some back before promises it here, and is told that it went.
//! What threads promise in a call of the program's goes at the end of that; what threads promise that may
//! not call libc, ours above all, goes with the slow paths that follow, a step with each.
//!
//! Relaxed words: they steer.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::zone;
use crate::constants::{PAGE, PURGE_PAGES};
use crate::os::tls;

/// Bytes that are to go at the end of the next slow path, ...
#[unsafe(link_section = ".data")]
static NOW: AtomicUsize = AtomicUsize::new(0);
/// ... and with those behind it.
#[unsafe(link_section = ".data")]
static LATER: AtomicUsize = AtomicUsize::new(0);

/// Whether anything is promised.
#[inline(always)]
pub fn is_due() -> bool {
    NOW.load(Relaxed) | LATER.load(Relaxed) != 0
}

/// Promises up to `most` bytes of what is free and dirty. Returns how many.
pub(super) fn make(most: usize) -> usize {
    let promised = NOW.load(Relaxed).saturating_add(LATER.load(Relaxed));
    let bytes = most.min(zone::dirty_bytes().saturating_sub(promised));
    let word = if tls::has_cache() { &NOW } else { &LATER };
    word.fetch_add(bytes, Relaxed);
    bytes
}

/// These bytes go at the end of the next slow path, whoever made it.
pub(super) fn add(bytes: usize) {
    NOW.fetch_add(bytes, Relaxed);
}

/// All that is free is to go. So much and no more: whoever listens may leave as much behind as went.
pub(super) fn make_all() {
    NOW.store(zone::free_bytes(), Relaxed);
}

/// What is to go now: it is promised no more.
pub(super) fn take() -> usize {
    let now = NOW.swap(0, Relaxed);
    let rest = |later: usize| later.saturating_sub(PURGE_PAGES * PAGE);
    // Others may be taking, too: each takes what it has taken out, and no more than there is.
    let later = LATER.fetch_update(Relaxed, Relaxed, |later| Some(rest(later))).unwrap_or(0);
    now.saturating_add(later - rest(later))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_promised_goes_in_steps_and_once() {
        crate::own_process::in_own_process!();
        const STEP: usize = PURGE_PAGES * PAGE;
        const STEPS: usize = 4000;
        LATER.store(STEPS * STEP + PAGE, Relaxed);
        add(3 * PAGE);
        assert!(is_due() && take() == STEP + 3 * PAGE);
        let taken: usize = std::thread::scope(|scope| {
            let takers = [(); 4].map(|()| scope.spawn(|| (0..STEPS).map(|_| take()).sum::<usize>()));
            takers.map(|taker| taker.join().unwrap()).iter().sum()
        });
        assert_eq!(taken, (STEPS - 1) * STEP + PAGE);
        assert!(!is_due());
    }
}
