//! Lists of magazines, linked through their heads: whoever may change the list owns what is on it.
//!
//! A [`Stack`] holds magazines that may be used at once, empty or full; a [`Queue`] those that wait for
//! a grace period, and gives them out as it got them, closed.

use crate::class::magazine::Magazine;
use rcu::Stamped;

/// A last-in first-out list of magazines, with its length.
#[derive(Default)]
pub struct Stack {
    top: Option<Magazine>,
    len: usize,
}

impl Stack {
    /// An empty one.
    pub const fn new() -> Stack {
        Stack { top: None, len: 0 }
    }

    /// Puts one on top.
    #[inline(always)]
    pub fn push(&mut self, mut magazine: Magazine) {
        magazine.set_next(self.top.take());
        self.top = Some(magazine);
        self.len += 1;
    }

    /// Takes the top one.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Magazine> {
        let mut magazine = self.top.take()?;
        self.top = magazine.take_next();
        self.len -= 1;
        Some(magazine)
    }

    /// How many.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is inside.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A first-in first-out list of stamped magazines: cookies only grow towards the tail, so what
/// waits is never scanned; only the head is polled.
#[derive(Default)]
pub struct Queue {
    /// The oldest on top.
    list: Stack,
    /// A second handle on the youngest, to link the next one behind it.
    tail: Option<Magazine>,
}

impl Queue {
    /// An empty one.
    pub const fn new() -> Queue {
        Queue { list: Stack::new(), tail: None }
    }

    /// Appends a stamped magazine.
    #[inline(always)]
    pub fn push(&mut self, waiting: Stamped<Magazine>) {
        // SAFETY: it stays as it is until `pop` makes a stamped one of it again.
        let magazine = unsafe { waiting.into_unopened() };
        let youngest = magazine.alias();
        match self.tail.replace(youngest) {
            Some(mut tail) => {
                tail.set_next(Some(magazine));
                self.list.len += 1;
            }
            None => self.list.push(magazine),
        }
    }

    /// The oldest.
    #[inline(always)]
    pub fn front(&self) -> Option<&Stamped<Magazine>> {
        // SAFETY: whatever is on this list came through `push`.
        self.list.top.as_ref().map(|magazine| unsafe { Stamped::of_unopened(magazine) })
    }

    /// Takes the oldest.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Stamped<Magazine>> {
        let magazine = self.list.pop()?;
        if self.list.top.is_none() {
            self.tail = None;
        }
        // SAFETY: whatever is on this list came through `push`.
        Some(unsafe { Stamped::from_unopened(magazine) })
    }

    /// Takes the oldest if `wanted` says so.
    #[inline(always)]
    pub fn pop_if(&mut self, wanted: impl FnOnce(&Stamped<Magazine>) -> bool) -> Option<Stamped<Magazine>> {
        if wanted(self.front()?) { self.pop() } else { None }
    }

    /// How many.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether none is inside.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::backlog::DOMAIN;
    use crate::class::magazine::kind_bytes;
    use core::ptr::NonNull;

    fn boxed(kind: usize) -> Magazine {
        let layout = std::alloc::Layout::from_size_align(kind_bytes(kind), 32).unwrap();
        // SAFETY: fresh memory of the kind's size and alignment, leaked by the test.
        unsafe { Magazine::create(NonNull::new(std::alloc::alloc_zeroed(layout)).unwrap(), kind) }
    }

    #[test]
    fn a_stack_is_last_in_first_out() {
        let mut stack = Stack::new();
        (0..3).for_each(|kind| stack.push(boxed(kind)));
        assert_eq!(stack.len(), 3);
        let kinds: Vec<_> = std::iter::from_fn(|| stack.pop()).map(|magazine| magazine.kind()).collect();
        assert!(kinds == [2, 1, 0] && stack.is_empty());
    }

    #[test]
    fn a_queue_is_first_in_first_out() {
        let mut queue = Queue::new();
        for round in 0..2 {
            (0..3).for_each(|kind| queue.push(Stamped::close(boxed(kind), &DOMAIN)));
            assert_eq!(queue.front().map(|oldest| oldest.peek().kind()), Some(0));
            assert!(queue.pop_if(|_| false).is_none() && queue.len() == 3, "{round}");
            let kinds: Vec<_> =
                std::iter::from_fn(|| queue.pop()).map(|waiting| waiting.peek().kind()).collect();
            assert!(kinds == [0, 1, 2] && queue.is_empty() && queue.front().is_none());
        }
    }
}
