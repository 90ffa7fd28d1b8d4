//! Queues of batches that wait for their grace periods, oldest first.
//!
//! Groups of magazines and batches of large blocks wait alike: a thread's on its shelf, where takers find
//! them, and past the thread's share in one queue for all threads, under one lock. A batch is in a queue by a
//! link in what it is made of, so queueing needs no memory (G4). It goes in as [`Stamped`] and comes out as
//! [`Stamped`]: what is in between stays closed.
//!
//! Threads stamp before they queue, so in the queue for all threads cookies do not come quite in order; each
//! batch is asked for when it gets to the head, which is early enough.

use crate::class::waiting::TakenUp;
use crate::class::{Torn, backlog, waiting};
use crate::os::lock::Lock;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use rcu::{Cookie, Stamped};

/// A batch that can lie in a queue. Zero bytes are none.
pub trait Link: TakenUp + Sized + 'static {
    /// No batch.
    const NONE: Self;
    /// Whether it is none.
    fn is_none(&self) -> bool;
    /// A second handle, to look at it and to link another behind it.
    fn second(&self) -> Self;
    /// A second handle on the batch behind it.
    fn behind(&self) -> Self;
    /// Links `next` behind it.
    fn set_behind(&mut self, next: Self);
    /// Bytes of its blocks.
    fn bytes(&self) -> usize;
    /// When it was closed, in milliseconds of the coarse clock.
    fn closed_ms(&self) -> u32;
    /// Whether the block at `addr` is in it.
    fn holds(&self, addr: usize) -> bool;
    /// The queue for all threads.
    fn shared() -> &'static Shared<Self>;
}

/// What a block that waits is behind.
#[derive(Clone, Copy)]
pub struct Behind {
    /// Its batch's cookie.
    pub cookie: Cookie,
    /// When the batch was closed, in milliseconds of the coarse clock.
    pub closed_ms: u32,
}

/// Closed batches, oldest first. Zero bytes are an empty queue.
#[repr(C)]
pub struct Queue<B> {
    head: B,
    /// A second handle on the youngest, to link the next one behind it.
    tail: B,
    /// Batches in it.
    len: usize,
    /// Bytes of their blocks. Statistics read other threads'.
    pub bytes: usize,
}

impl<B: Link> Queue<B> {
    /// Without a batch.
    pub const EMPTY: Queue<B> = Queue { head: B::NONE, tail: B::NONE, len: 0, bytes: 0 };

    /// Batches in it.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Appends a batch of `bytes`, which is not empty.
    #[inline]
    pub fn push(&mut self, batch: Stamped<B>, bytes: usize) {
        // SAFETY: it stays as it is until `pop` makes a stamped one of it again.
        let mut batch = unsafe { batch.into_unopened() };
        if batch.is_none() {
            return;
        }
        batch.set_behind(B::NONE);
        let mut tail = core::mem::replace(&mut self.tail, batch.second());
        if tail.is_none() {
            self.head = batch;
        } else {
            tail.set_behind(batch);
        }
        self.len += 1;
        self.bytes += bytes;
    }

    /// Appends all of `other` in one step.
    fn append(&mut self, other: Queue<B>) {
        if other.is_empty() {
            return;
        }
        let mut tail = core::mem::replace(&mut self.tail, other.tail);
        if tail.is_none() {
            self.head = other.head;
        } else {
            tail.set_behind(other.head);
        }
        self.len = self.len.wrapping_add(other.len);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }

    /// The oldest batch.
    #[inline(always)]
    pub fn front(&self) -> Option<&Stamped<B>> {
        // SAFETY: whatever is in a queue came through `push`.
        (!self.is_empty()).then(|| unsafe { Stamped::of_unopened(&self.head) })
    }

    /// Takes the oldest batch out, and says how many bytes it has.
    #[inline]
    pub fn pop(&mut self) -> Option<(Stamped<B>, usize)> {
        if self.is_empty() {
            return None;
        }
        let behind = self.head.behind();
        let oldest = core::mem::replace(&mut self.head, behind);
        if self.head.is_none() {
            self.tail = B::NONE;
        }
        let bytes = oldest.bytes();
        // Wrapping: the queue of a thread that a fork left behind may be torn.
        self.len = self.len.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(bytes);
        // SAFETY: as in `front`.
        Some((unsafe { Stamped::from_unopened(oldest) }, bytes))
    }

    /// Takes the oldest batch out if its grace period has passed. Its bytes are still in the account.
    #[inline]
    pub fn pop_elapsed(&mut self) -> Option<(Stamped<B>, usize)> {
        if waiting::elapsed(self.front()?) { self.pop() } else { None }
    }

    /// All of them, to look at.
    fn batches(&self) -> impl Iterator<Item = B> {
        let some = |batch: B| (!batch.is_none()).then_some(batch);
        core::iter::successors(some(self.head.second()), move |batch| some(batch.behind()))
    }

    /// What the block at `addr` is behind, if a batch in it holds it.
    pub fn find(&self, addr: usize) -> Option<Behind> {
        let batch = self.batches().find(|batch| batch.holds(addr))?;
        Some(Behind { cookie: batch.cookie(), closed_ms: batch.closed_ms() })
    }

    /// Calls `visit` with the time at which each of the oldest `most` batches was closed, and its bytes.
    pub fn for_each(&self, most: usize, mut visit: impl FnMut(u32, usize)) {
        self.batches().take(most).for_each(|batch| visit(batch.closed_ms(), batch.bytes()));
    }
}

/// The queue for all threads, on a cache line of its own.
#[repr(align(64))]
pub struct Shared<B> {
    queue: Lock<Queue<B>>,
    /// Batches in it, for a look without the lock: a stale answer costs a lock, or leaves one to the next.
    count: AtomicUsize,
}

impl<B: Link> Shared<B> {
    /// With nothing in it.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Shared<B> {
        Shared { queue: Lock::new(Queue::EMPTY), count: AtomicUsize::new(0) }
    }

    /// Whether anything waits.
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Relaxed) != 0
    }

    /// Queues a closed batch of `bytes`.
    pub fn put(&self, batch: Stamped<B>, bytes: usize) {
        let mut queue = self.queue.lock();
        queue.push(batch, bytes);
        self.count.store(queue.len, Relaxed);
    }

    /// Queues all of a thread's.
    pub fn put_all(&self, batches: Queue<B>) {
        let mut queue = self.queue.lock();
        queue.append(batches);
        self.count.store(queue.len, Relaxed);
    }

    /// The same one by one, as far as they are linked: those of a thread that a fork left behind, whose list
    /// may be torn.
    pub fn put_torn(&self, mut batches: Queue<B>) {
        while let Some((batch, bytes)) = batches.pop() {
            self.put(batch, bytes);
        }
    }

    /// The oldest batch, if its grace period has passed. Its bytes leave the account.
    #[unsafe(link_section = ".text_start")]
    pub fn take_elapsed(&self) -> Option<B> {
        if !self.any() {
            return None;
        }
        let (oldest, bytes) = {
            let mut queue = self.queue.lock();
            let oldest = queue.pop_elapsed()?;
            self.count.store(queue.len, Relaxed);
            oldest
        };
        backlog::settle(bytes);
        waiting::open(oldest)
    }

    /// Bytes of the blocks in it. No lock.
    pub fn bytes(&self) -> usize {
        // SAFETY: an aligned word of a static.
        unsafe { (&raw const (*self.queue.peek()).bytes).read_volatile() }
    }

    /// Calls `look` with it, unless somebody has its lock: for figures, which wait for nobody.
    pub fn look(&self, look: impl FnOnce(&Queue<B>)) {
        if let Some(queue) = self.queue.try_lock() {
            look(&queue);
        }
    }

    /// For fork: its lock.
    pub fn lock(&self) -> &Lock<Queue<B>> {
        &self.queue
    }
}

impl<B: Link> Torn for Queue<B> {
    fn abandon(&mut self) {
        backlog::settle(self.bytes);
        *self = Queue::EMPTY;
        B::shared().count.store(0, Relaxed);
    }
}
