//! The structure check: everything that must be true of a tree between two changes.

use core::num::NonZeroU64;

use crate::range_map::items::least;
use crate::range_map::lock::Sleep;
use crate::range_map::measure::Measure;
use crate::range_map::node::{Node, bounds};
use crate::range_map::path::{ends, len};
use crate::range_map::{NodeSource, Value, Writer};
use crate::sync::Ordering::Relaxed;

/// What a check has found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Levels above the leaves.
    pub height: usize,
    /// Nodes.
    pub nodes: usize,
    /// Ranges.
    pub ranges: usize,
    /// The last slot was a gap.
    gap: bool,
}

impl<V: Value, N: NodeSource, M: Measure, S: Sleep> Writer<'_, V, N, M, S> {
    /// Walks the whole tree and panics if anything is not as it must be. Debug builds do this after each
    /// change.
    pub fn check(&self) -> Shape {
        let (root, height) = self.map.root.load();
        let mut shape = Shape { height, ..Shape::default() };
        if let Some(root) = root {
            assert!(height == 0 || len_at_least_two::<M>(root, height), "a root with one child");
            // SAFETY: the root, with the height that it carries, and we hold the lock.
            unsafe { visit::<M>(root, height, (0, usize::MAX), &mut shape, true) };
        }
        shape
    }
}

fn len_at_least_two<M: Measure>(node: &'static Node, height: usize) -> bool {
    // SAFETY: called with the root under the lock.
    unsafe { len::<M>(node, height) >= 2 }
}

/// Gives the largest measure below the node.
///
/// # Safety
/// The node stands at this height of a map of this measure, whose lock the caller holds.
unsafe fn visit<M: Measure>(
    node: &'static Node,
    height: usize,
    interval: (usize, usize),
    shape: &mut Shape,
    root: bool,
) -> usize {
    assert!(!node.is_dead() && node.next().is_null(), "a dead node is in the tree");
    shape.nodes += 1;
    // SAFETY: the caller's promise, here and below.
    let (ends, used) = unsafe { (ends::<M>(node, height), len::<M>(node, height)) };
    assert!(root || used >= least::<M>(height), "{used} slots at height {height}");
    let (mut at, mut largest) = (interval.0, 0);
    for index in 0..used {
        // SAFETY: as above.
        let (start, end) = unsafe { bounds(ends, index, interval) };
        assert!(start == at && start < end && end <= interval.1, "slot {start:#x}-{end:#x} at {at:#x}");
        at = end;
        let measure = if height == 0 {
            // SAFETY: a leaf.
            let value = NonZeroU64::new(unsafe { node.leaf().values[index].get() });
            assert!(value.is_some() || !shape.gap, "two gaps meet at {start:#x}");
            shape.gap = value.is_none();
            shape.ranges += usize::from(value.is_some());
            M::of(end - start, value)
        } else {
            // SAFETY: a child in use.
            let below = unsafe {
                visit::<M>(
                    &*node.children::<M>()[index].load(Relaxed),
                    height - 1,
                    (start, end),
                    shape,
                    false,
                )
            };
            // SAFETY: only where measures are kept.
            let kept = if M::KEPT { unsafe { node.largest()[index].get() } } else { below };
            assert_eq!(kept, below, "the largest below {start:#x}-{end:#x}");
            below
        };
        largest = largest.max(measure);
    }
    assert_eq!(at, interval.1, "the last slot does not end where its node does");
    largest
}
