//! A stack without locks. No `unsafe`: its nodes are immutable, and only its head is replaced.
#![forbid(unsafe_code)]

use quiescent::epoch::{self, Current, Guard};
use std::sync::Arc;
type Link<T> = Option<Arc<Node<T>>>;

struct Node<T> {
    value: T,
    next: Link<T>,
}

struct Stack<T: Send + Sync + 'static>(Current<Link<T>>);

impl<T: Clone + Send + Sync + 'static> Stack<T> {
    fn push(&self, value: T, guard: &Guard) {
        self.0.update(guard, |head| Some(Arc::new(Node { value: value.clone(), next: head.clone() })));
    }

    fn pop(&self, guard: &Guard) -> Option<T> {
        loop {
            let head = self.0.get(guard);
            let node = head.as_ref()?;
            if self.0.try_replace(head, node.next.clone(), guard).is_ok() {
                return Some(node.value.clone());
            }
        }
    }
}

fn main() {
    let stack = Stack(Current::new(None));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..10_000).for_each(|n| stack.push(n, &epoch::pin())));
        }
    });
    let sum: u64 = std::iter::from_fn(|| stack.pop(&epoch::pin())).sum();
    assert_eq!(sum, 2 * (0..10_000).sum::<u64>());
}
