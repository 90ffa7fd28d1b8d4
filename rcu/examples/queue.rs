//! Michael and Scott's queue, in crossbeam-epoch's manner: one promise, that what is unlinked is unlinked.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::thread;

use quiescent::epoch::{self, Atomic, Guard, Owned, Shared};

struct Node<T> {
    /// `None` in the node that stands before the first value.
    value: Option<T>,
    next: Atomic<Node<T>>,
}

struct Queue<T> {
    head: Atomic<Node<T>>,
    tail: Atomic<Node<T>>,
}

impl<T: Clone + Send + Sync + 'static> Queue<T> {
    fn new() -> Queue<T> {
        let guard = epoch::pin();
        let first = Owned::new(Node { value: None, next: Atomic::null() }).into_shared(&guard);
        Queue { head: Atomic::from(first), tail: Atomic::from(first) }
    }

    fn push(&self, value: T, guard: &Guard) {
        let new = Owned::new(Node { value: Some(value), next: Atomic::null() }).into_shared(guard);
        loop {
            let tail = self.tail.load(Acquire, guard);
            match tail.deref().next.compare_exchange(Shared::null(), new, AcqRel, Acquire, guard) {
                Ok(_) => {
                    let _ = self.tail.compare_exchange(tail, new, AcqRel, Relaxed, guard);
                    return;
                }
                // Somebody has appended and not moved the tail yet.
                Err(error) => drop(self.tail.compare_exchange(tail, error.current, AcqRel, Relaxed, guard)),
            }
        }
    }

    fn pop(&self, guard: &Guard) -> Option<T> {
        loop {
            let head = self.head.load(Acquire, guard);
            let next = head.deref().next.load(Acquire, guard);
            let value = next.as_ref()?.value.clone();
            // The tail never falls behind the head, so nothing leads to a head that was unlinked.
            let _ = self.tail.compare_exchange(head, next, AcqRel, Relaxed, guard);
            if self.head.compare_exchange(head, next, AcqRel, Relaxed, guard).is_ok() {
                // SAFETY: neither end leads to it, and it has no predecessor; whoever unlinks it does it
                // once.
                unsafe { guard.defer_destroy(head) };
                return value;
            }
        }
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        let mut next = std::mem::take(&mut self.head);
        // SAFETY: nobody shares the queue any more; each node is led to by its predecessor alone, or the
        // head.
        while let Some(node) = unsafe { next.try_into_owned() } {
            next = std::mem::take(&mut node.into_box().next);
        }
    }
}

fn main() {
    let queue = Queue::new();
    let popped = thread::scope(|scope| {
        let pusher = scope.spawn(|| (0..20_000_u64).for_each(|n| queue.push(n, &epoch::pin())));
        let mut popped = Vec::new();
        while popped.len() < 20_000 {
            popped.extend(queue.pop(&epoch::pin()));
        }
        pusher.join().expect("pushes");
        popped
    });
    assert!(popped.is_sorted(), "first in, first out");
    println!("{} values in order", popped.len());
}
