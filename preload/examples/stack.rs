//! A lock-free stack (Treiber's): the heap itself is what makes it right. A node that a section has seen is
//! not reused before the section ends, so `compare_exchange` cannot take a new node for an old one, and
//! reading a node that somebody else has popped meanwhile reads what it was.
//!
//!     cargo run --release -p rcumalloc --example stack

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

#[global_allocator]
static HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;

struct Node {
    value: u64,
    next: *mut Node,
}

struct Stack {
    top: AtomicPtr<Node>,
}

impl Stack {
    fn push(&self, value: u64) {
        let node = Box::into_raw(Box::new(Node { value, next: null_mut() }));
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: nobody else knows of the node yet.
            unsafe { (*node).next = top };
            // Release: who sees the node sees what is in it.
            match self.top.compare_exchange_weak(top, node, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => top = seen,
            }
        }
    }

    fn pop(&self) -> Option<u64> {
        let _section = rcumalloc::read();
        let mut top = self.top.load(Ordering::Acquire);
        while !top.is_null() {
            // SAFETY: seen in the section, so it is not reused before the section ends, whoever has popped
            // it.
            let next = unsafe { (*top).next };
            match self.top.compare_exchange_weak(top, next, Ordering::Acquire, Ordering::Acquire) {
                // SAFETY: we have taken it out. Others may still look at it: its memory waits for them by
                // itself.
                Ok(_) => return Some(unsafe { Box::from_raw(top) }.value),
                Err(seen) => top = seen,
            }
        }
        None
    }
}

fn main() {
    const THREADS: u64 = 4;
    const EACH: u64 = 100_000;
    const { assert!(rcumalloc::DEFERS, "without deferred frees this stack is wrong") };
    let stack = Stack { top: AtomicPtr::new(null_mut()) };
    let (sum, count) = (AtomicU64::new(0), AtomicU64::new(0));
    let note = |value| {
        sum.fetch_add(value, Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
    };
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let (stack, note) = (&stack, &note);
            threads.spawn(move || {
                for i in 0..EACH {
                    stack.push(thread * EACH + i);
                    if i % 2 == 1 {
                        stack.pop().map(note);
                        stack.pop().map(note);
                    }
                }
            });
        }
    });
    while let Some(value) = stack.pop() {
        note(value);
    }
    let all = THREADS * EACH;
    assert_eq!((count.into_inner(), sum.into_inner()), (all, all * (all - 1) / 2));
    println!("{all} values went in, and each came out once");
}
