//! The most of something there ever was: how a bound on the work of one call is seen to hold.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// There was so much of it. Relaxed: a figure.
#[inline]
pub fn note(most: &AtomicUsize, amount: usize) {
    if amount > most.load(Relaxed) {
        most.fetch_max(amount, Relaxed);
    }
}
