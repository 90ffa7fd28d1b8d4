//! Batches of large blocks: what is freed together waits together, behind one cookie.
//!
//! A batch is a chain of descriptors, the block freed last first; the first keeps the account of
//! blocks and bytes and, once the batch is closed, the cookie. So a batch of any sizes needs no memory
//! at all (G4), where a page of pointers would need a page; and what a page would save, the touch of
//! each block's descriptor, has been paid already: `free` swapped the block's state there.
//!
//! A batch being filled is one thread's. Closed, it waits on that thread's shelf, where takers find it as
//! they find magazines: what comes back to the same thread costs no lock, and no cache line that another
//! thread had. Past the thread's share the oldest go to one queue for all threads, under one lock: whoever
//! needs a large block takes up what has waited there. Threads stamp before they queue, so cookies do not
//! come quite in order; each batch is asked for when it gets to the head, which is early enough.

use crate::class::Torn;
use crate::class::backlog;
use crate::class::large::LargeRef;
use crate::class::large_pages;
use crate::class::waiting;
use crate::class::work::Work;
use crate::os::lock::Lock;
use crate::page::watermark;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use rcu::{Batch, Cookie, Stamped};

/// An open batch. Zero bytes are an empty one.
#[derive(Default)]
#[repr(transparent)]
pub struct Freed {
    first: Option<LargeRef>,
}

impl Freed {
    /// Without a block.
    pub const EMPTY: Freed = Freed { first: None };

    /// Adds a block that [`large::claim`] gave.
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

    /// Whether the block at `addr` is in it.
    pub fn holds(&self, addr: usize) -> bool {
        core::iter::successors(self.first, |block| block.link()).any(|block| block.base() == addr)
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

/// Closed batches, oldest first. Zero bytes are an empty one.
#[repr(C)]
pub struct Queue {
    head: Freed,
    tail: Option<LargeRef>,
    /// Bytes in it. Statistics read other threads'.
    pub bytes: usize,
}

impl Queue {
    /// Without a batch.
    pub const EMPTY: Queue = Queue { head: Freed::EMPTY, tail: None, bytes: 0 };

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Adds a closed batch.
    pub fn push(&mut self, batch: Stamped<Freed>) {
        self.bytes += batch.peek().bytes();
        // SAFETY: it stays as it is until it is taken out, as a stamped one again.
        let Some(first) = (unsafe { batch.into_unopened() }).first else { return };
        first.set_next_batch(None);
        match self.tail.replace(first) {
            Some(tail) => tail.set_next_batch(Some(first)),
            None => self.head = Freed { first: Some(first) },
        }
    }

    /// Takes the oldest out.
    pub fn pop(&mut self) -> Option<Stamped<Freed>> {
        let first = self.head.first?;
        let oldest = core::mem::replace(&mut self.head, Freed { first: first.next_batch() });
        if self.head.is_empty() {
            self.tail = None;
        }
        // Wrapping: that of a thread which a fork left behind may be torn.
        self.bytes = self.bytes.wrapping_sub(oldest.bytes());
        // SAFETY: whatever is in a queue came through `push`.
        Some(unsafe { Stamped::from_unopened(oldest) })
    }

    /// Takes the oldest out if its grace period has passed. Its bytes are still in the account.
    pub fn pop_elapsed(&mut self) -> Option<Stamped<Freed>> {
        // SAFETY: as in `pop`.
        let elapsed = !self.is_empty() && waiting::elapsed(unsafe { Stamped::of_unopened(&self.head) });
        if elapsed { self.pop() } else { None }
    }

    /// Whether the block at `addr` is in one of them.
    pub fn holds(&self, addr: usize) -> bool {
        let mut batches = core::iter::successors(self.head.first, |batch| batch.next_batch());
        batches.any(|first| Freed { first: Some(first) }.holds(addr))
    }

    /// Calls `visit` with the time at which each of the oldest `most` batches was closed, and its bytes.
    pub fn for_each(&self, most: usize, mut visit: impl FnMut(u32, usize)) {
        let batches = core::iter::successors(self.head.first, |batch| batch.next_batch());
        batches.take(most).for_each(|batch| visit(batch.closed_ms(), batch.account().1));
    }

    /// Adds all of another, which is empty then, in one step.
    fn append(&mut self, other: &mut Queue) {
        let other = core::mem::replace(other, Queue::EMPTY);
        let Some(first) = other.head.first else { return };
        match core::mem::replace(&mut self.tail, other.tail) {
            Some(tail) => tail.set_next_batch(Some(first)),
            None => self.head = other.head,
        }
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

/// The queue for all threads, on one cache line.
#[repr(align(64))]
struct Shared {
    queue: Lock<Queue>,
    /// Whether there is one in it, for a look without the lock: a stale answer costs a lock, or leaves it to
    /// the next.
    any: AtomicBool,
}

static SHARED: Shared = Shared { queue: Lock::new(Queue::EMPTY), any: AtomicBool::new(false) };

impl Shared {
    /// The queue, whose lock is held, has been changed.
    fn note(&self, queue: &Queue) {
        let any = !queue.is_empty();
        if self.any.load(Relaxed) != any {
            self.any.store(any, Relaxed);
        }
    }
}

/// Whether anything waits.
#[inline]
pub fn any_waiting() -> bool {
    SHARED.any.load(Relaxed)
}

/// Queues a closed batch for all threads.
pub fn put(batch: Stamped<Freed>) {
    let mut queue = SHARED.queue.lock();
    queue.push(batch);
    SHARED.note(&queue);
}

/// Queues all of a thread's closed batches for all threads.
pub fn put_all(mut batches: Queue) {
    let mut queue = SHARED.queue.lock();
    queue.append(&mut batches);
    SHARED.note(&queue);
}

/// The same one by one, as far as they are linked: those of a thread that a fork left behind, whose list may
/// be torn.
pub fn put_torn(mut batches: Queue) {
    while let Some(batch) = batches.pop() {
        put(batch);
    }
}

/// The oldest batch, if its grace period has passed; its bytes leave the account.
pub fn take_elapsed() -> Option<Freed> {
    if !any_waiting() {
        return None;
    }
    let oldest = {
        let mut queue = SHARED.queue.lock();
        let oldest = queue.pop_elapsed()?;
        SHARED.note(&queue);
        oldest
    };
    settle_and_open(oldest)
}

fn settle_and_open(batch: Stamped<Freed>) -> Option<Freed> {
    backlog::settle(batch.peek().bytes());
    waiting::open(batch)
}

/// Gives the batches whose grace period has passed to the zone, as far as there is `work` to be had. Returns
/// bytes.
pub fn reclaim(work: &mut Work) -> usize {
    let mut given = 0;
    while work.goes_on()
        && let Some(batch) = take_elapsed()
    {
        given += batch.bytes();
        work.did_large(batch.count());
        large_pages::release(batch);
    }
    if given != 0 {
        backlog::relax_mark();
        watermark::purge_excess(0);
    }
    given
}

/// Bytes in the queue. No lock.
pub fn waiting_bytes() -> usize {
    // SAFETY: an aligned word of a static.
    unsafe { (&raw const (*SHARED.queue.peek()).bytes).read_volatile() }
}

/// Calls `look` with the queue, unless somebody has its lock: for figures, which wait for nobody.
pub fn look_at_shared(look: impl FnOnce(&Queue)) {
    if let Some(queue) = SHARED.queue.try_lock() {
        look(&queue);
    }
}

/// For fork: the lock of the queue.
pub fn lock() -> &'static Lock<Queue> {
    &SHARED.queue
}

impl Torn for Queue {
    fn abandon(&mut self) {
        backlog::settle(self.bytes);
        *self = Queue::EMPTY;
        SHARED.any.store(false, Relaxed);
    }
}
