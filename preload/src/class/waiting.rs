//! What waits, and how it is taken up again: the heap's side of the engine's type-state.
//!
//! Magazines and batches of large blocks wait as [`Stamped`]. Whoever takes one off a list asks
//! [`elapsed`] first; [`open`] has the engine ask once more, whatever the caller believes, and gives
//! nothing out that has not waited long enough: that is lost, counted and said, as in the kernel's
//! `kvfree_rcu`.

use crate::class::backlog::DOMAIN;
use crate::os::line::Line;
use rcu::{Batch, Leaked, Stamped};

/// The reader-guarantee test must fail with this.
const IGNORES_COOKIES: bool = cfg!(rcumalloc_break = "cookie");

/// Whether the cookie of `batch` has elapsed, so that [`open`] will give it out.
#[inline(always)]
pub fn elapsed<B: Batch>(batch: &Stamped<B>) -> bool {
    IGNORES_COOKIES || batch.elapsed(&DOMAIN)
}

/// What is to be done as a batch is taken up.
pub trait TakenUp: Batch {
    /// Nobody has a block of it yet.
    #[inline(always)]
    fn look(&self) {}
}

/// Takes up a batch that has waited. Its bytes are settled by the caller, whatever comes of it.
#[inline(always)]
pub fn open<B: TakenUp>(batch: Stamped<B>) -> Option<B> {
    if IGNORES_COOKIES {
        // SAFETY: none: that is what the test is to see.
        return Some(unsafe { batch.into_unopened() });
    }
    match batch.open(&DOMAIN) {
        Ok(batch) => {
            batch.look();
            Some(batch)
        }
        Err(leaked) => {
            say(leaked);
            None
        }
    }
}

#[cold]
#[inline(never)]
fn say(leaked: Leaked) {
    let mut line = Line::new();
    line.str("internal: a batch of ").dec(leaked.entries.into());
    line.str(" blocks was to be reused before its grace period had passed; leaked").emit();
}
