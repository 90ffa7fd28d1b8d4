//! What [`calls`](crate::front::calls) queue: heads that callers own, and what is known of the worker.

use crate::class::Torn;
use crate::os::lock::Lock;
use crate::os::tls;
use core::ptr::{NonNull, null_mut};

/// What is run, and the place of its head in the queue. The caller's memory, the queue's until it is run.
#[repr(C)]
pub struct Head {
    pub(super) next: *mut Head,
    pub(super) run: Run,
}

/// A function that gets its own head back, which is no longer the queue's.
pub type Run = unsafe extern "C" fn(*mut Head);

/// Heads in the order in which they came.
pub(super) struct List {
    pub(super) first: *mut Head,
    pub(super) last: *mut Head,
}

impl List {
    pub(super) const EMPTY: List = List { first: null_mut(), last: null_mut() };

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    pub(super) fn push(&mut self, head: *mut Head) {
        if self.is_empty() {
            self.first = head;
        } else {
            // SAFETY: what is in the list is ours until it is run.
            unsafe { (*self.last).next = head };
        }
        self.last = head;
    }

    pub(super) fn pop(&mut self) -> Option<NonNull<Head>> {
        let head = NonNull::new(self.first)?;
        // SAFETY: as in `push`.
        self.first = unsafe { head.as_ref().next };
        Some(head)
    }
}

/// What the lock guards.
pub struct Queue {
    /// What was queued after the worker last looked.
    pub(super) waiting: List,
    /// What the worker has taken.
    pub(super) taken: List,
    /// How many have been queued, and how many of them have run.
    pub(super) queued: u32,
    pub(super) done: u32,
    /// The thread pointer of the worker, or with [`MAKING`] of who is making it, or [`MADE`]; 0: there is
    /// none.
    pub(super) worker: usize,
    /// The worker sleeps, or is about to.
    pub(super) is_asleep: bool,
}

/// In `worker`: its thread is being made. Thread pointers are multiples of 8.
pub(super) const MAKING: usize = 1;
/// In `worker`: its thread has been made and has not begun. A fork then leaves the child without one.
pub(super) const MADE: usize = 2;

// SAFETY: the heads belong to the queue, whoever looks at it.
unsafe impl Send for Queue {}

impl Queue {
    const EMPTY: Queue =
        Queue { waiting: List::EMPTY, taken: List::EMPTY, queued: 0, done: 0, worker: 0, is_asleep: false };

    /// Those that have not run to their end.
    pub(super) fn pending(&self) -> u32 {
        self.queued.wrapping_sub(self.done)
    }

    /// True if the caller is to make the worker.
    pub(super) fn claim(&mut self) -> bool {
        let is_free = self.worker == 0;
        if is_free {
            self.worker = tls::thread_pointer() | MAKING;
        }
        is_free
    }
}

impl Torn for Queue {
    fn abandon(&mut self) {
        *self = Queue::EMPTY;
    }
}

pub(super) static QUEUE: Lock<Queue> = Lock::new(Queue::EMPTY);
/// The queue's lock, for the fork.
pub fn lock() -> &'static Lock<Queue> {
    &QUEUE
}

/// In the child of a fork. Its only thread may be the worker, in a function that has forked, or in the middle
/// of making it.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn after_fork_in_child() {
    let mut queue = QUEUE.lock();
    let is_worker = queue.worker == tls::thread_pointer();
    let is_making = queue.worker == tls::thread_pointer() | MAKING;
    let mut left = u32::from(is_worker);
    for list in [&queue.taken, &queue.waiting] {
        let mut at = list.first;
        // SAFETY: as in `List::push`.
        while let Some(head) = unsafe { at.as_ref() } {
            left += 1;
            at = head.next;
        }
    }
    // A function that another worker was in the middle of has been run as far as it goes.
    queue.done = queue.queued.wrapping_sub(left);
    queue.is_asleep = false;
    if !is_worker && !is_making {
        queue.worker = 0;
    }
}
