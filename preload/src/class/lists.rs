//! Lists of magazines, linked through their heads: whoever may change the list owns what is on it.
//!
//! A [`Stack`] holds magazines that may be used at once, empty or full. Those that wait lie in groups
//! (`group.rs`).

use crate::class::magazine::Magazine;

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

    /// The top one.
    #[inline(always)]
    pub fn top_mut(&mut self) -> Option<&mut Magazine> {
        self.top.as_mut()
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

#[cfg(test)]
mod tests {
    use super::*;
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
}
