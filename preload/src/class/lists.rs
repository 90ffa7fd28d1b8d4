//! Lists of magazines, linked through their heads: whoever may change the list owns what is on it.
//!
//! A [`Stack`] holds magazines that may be used at once, empty or full. Those that wait lie in groups
//! (`group.rs`).

use crate::class::magazine::Magazine;
use crate::os::arch;

/// A last-in first-out list of magazines, with its length.
#[derive(Default)]
pub struct Stack {
    top: Option<Magazine>,
    len: u32,
    /// Blocks in them. Statistics read those of other threads' lists.
    blocks: u32,
}

impl Stack {
    /// An empty one.
    pub const fn new() -> Stack {
        Stack { top: None, len: 0, blocks: 0 }
    }

    /// Puts one on top.
    #[inline(always)]
    pub fn push(&mut self, mut magazine: Magazine) {
        self.blocks = self.blocks.wrapping_add(magazine.len() as u32);
        magazine.set_next(self.top.take());
        // Whoever finds it on top, where a handler has jumped out of this, finds the rest behind it.
        arch::stores_in_order();
        self.top = Some(magazine);
        self.len += 1;
    }

    /// Takes the top one.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Magazine> {
        let mut magazine = self.top.take()?;
        self.top = magazine.take_next();
        self.len -= 1;
        // Wrapping: the list of a thread that a fork left behind may be torn.
        self.blocks = self.blocks.wrapping_sub(magazine.len() as u32);
        Some(magazine)
    }

    /// Puts `magazine` on top, whose blocks may be handed out. One with few blocks is poured into the top
    /// one, of the same class; then it comes back, empty.
    #[inline]
    pub fn pour(&mut self, mut magazine: Magazine) -> Option<Magazine> {
        let more = magazine.len() as u32;
        if self.top.as_mut().is_some_and(|top| top.pour(&mut magazine)) {
            self.blocks = self.blocks.wrapping_add(more);
            return Some(magazine);
        }
        self.push(magazine);
        None
    }

    /// Blocks in the magazines of a list that somebody else may be changing, for statistics.
    ///
    /// # Safety
    /// `this` is a list in memory that stays one.
    pub unsafe fn peek_blocks(this: *const Stack) -> usize {
        // SAFETY: promised by the caller: an aligned word.
        unsafe { (&raw const (*this).blocks).read_volatile() as usize }
    }

    /// Whether `block` is in one of them.
    pub fn holds(&self, block: usize) -> bool {
        let mut magazines = core::iter::successors(self.top.as_ref(), |magazine| magazine.next());
        magazines.any(|magazine| magazine.holds(block))
    }

    /// How many.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len as usize
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

    #[test]
    fn a_stack_knows_its_blocks() {
        let (mut stack, mut few, mut more) = (Stack::new(), boxed(0), boxed(1));
        few.set_len(3);
        more.set_len(5);
        // SAFETY: the test's own.
        let blocks = |stack: &Stack| unsafe { Stack::peek_blocks(stack) };
        assert!(stack.pour(more).is_none(), "there was nothing to pour it into");
        let few = stack.pour(few).expect("it comes back");
        assert!(few.is_empty());
        stack.push(few);
        assert_eq!(blocks(&stack), 8);
        stack.pop();
        assert_eq!(blocks(&stack), 8);
        assert_eq!(stack.pop().map(|magazine| magazine.len()), Some(8));
        assert_eq!(blocks(&stack), 0);
    }
}
