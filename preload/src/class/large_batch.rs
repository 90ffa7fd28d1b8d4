//! Batches of large blocks: what is freed together waits together, behind one cookie.
//!
//! A batch is a chain of descriptors, the block freed last first; the first keeps the account of
//! blocks and bytes and, once the batch is closed, the cookie. So a batch of any sizes needs no memory
//! at all (G4), where a page of pointers would need a page; and what a page would save, the touch of
//! each block's descriptor, has been paid already: `free` swapped the block's state there.
//!
//! A batch being filled is one thread's. Closed, it waits in a queue (`queue.rs`) on that thread's shelf:
//! what comes back to the same thread costs no lock, and no cache line that another thread had. Past the
//! thread's share, whoever needs a large block takes up what has waited for everybody.

use crate::class::large::LargeRef;
use crate::class::queue::{Link, Shared};
use crate::class::waiting::TakenUp;
use rcu::{Batch, Cookie};

/// An open batch. Zero bytes are an empty one.
#[derive(Default)]
#[repr(transparent)]
pub struct Freed {
    first: Option<LargeRef>,
}

impl Freed {
    /// Without a block.
    pub const EMPTY: Freed = Freed { first: None };

    /// Adds a block that `large::claim` gave.
    #[inline]
    pub fn push(&mut self, block: LargeRef) {
        block.precede(self.first);
        self.first = Some(block);
    }

    /// Takes the block pushed last.
    #[inline]
    pub fn pop(&mut self) -> Option<LargeRef> {
        let block = self.first?;
        self.first = block.link();
        Some(block)
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How many blocks.
    #[inline]
    pub fn count(&self) -> u32 {
        self.first.map_or(0, |first| first.account().0)
    }

    /// Notes when it is closed, in milliseconds of the coarse clock.
    #[inline]
    pub fn note_closed_ms(&self, now_ms: u32) {
        if let Some(first) = self.first {
            first.set_closed_ms(now_ms);
        }
    }

    /// Bytes of its blocks.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.first.map_or(0, |first| first.account().1)
    }

    /// Whether the block at `addr` is in it.
    pub fn holds(&self, addr: usize) -> bool {
        core::iter::successors(self.first, |block| block.link()).any(|block| block.base() == addr)
    }
}

impl Batch for Freed {
    fn entries(&self) -> u32 {
        self.count()
    }

    fn cookie(&self) -> Cookie {
        self.first.map_or(Cookie::from_bits(0), LargeRef::cookie)
    }

    fn set_cookie(&mut self, cookie: Cookie) {
        if let Some(first) = self.first {
            first.set_cookie(cookie);
        }
    }
}

impl TakenUp for Freed {}

/// The first block stands for its batch.
impl Link for Freed {
    const NONE: Freed = Freed::EMPTY;

    fn is_none(&self) -> bool {
        self.is_empty()
    }

    fn second(&self) -> Freed {
        Freed { first: self.first }
    }

    fn behind(&self) -> Freed {
        Freed { first: self.first.and_then(LargeRef::next_batch) }
    }

    fn set_behind(&mut self, next: Freed) {
        if let Some(first) = self.first {
            first.set_next_batch(next.first);
        }
    }

    fn bytes(&self) -> usize {
        Freed::bytes(self)
    }

    fn closed_ms(&self) -> u32 {
        self.first.map_or(0, LargeRef::closed_ms)
    }

    fn holds(&self, addr: usize) -> bool {
        Freed::holds(self, addr)
    }

    fn shared() -> &'static Shared<Freed> {
        &SHARED
    }
}

static SHARED: Shared<Freed> = Shared::new();

/// Batches that wait for all threads.
#[inline]
pub fn shared() -> &'static Shared<Freed> {
    &SHARED
}
