//! Paths: how writers, under the lock, find a node and what stands above it.

use crate::range_map::measure::Measure;
use crate::range_map::node::{Node, bounds, slot_of, used};
use crate::range_map::root::Root;
use crate::sync::Ordering::Relaxed;
use crate::sync::Unordered;

/// Levels of the highest tree: an inner node below the root has three children at least, and there are 2^64
/// addresses.
pub(crate) const LEVELS: usize = 42;

/// A node of a path, the interval it answers for, and the slot through which the path goes on.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) node: &'static Node,
    pub(crate) interval: (usize, usize),
    pub(crate) index: usize,
}

/// The steps from a leaf (0) up to the root, of which those from some level on are known.
pub(crate) struct Path {
    steps: [Option<Step>; LEVELS],
    /// The root's level.
    pub(crate) top: usize,
}

impl Path {
    /// One that leads nowhere.
    pub(crate) const fn new() -> Path {
        Path { steps: [None; LEVELS], top: 0 }
    }

    /// Becomes the path to the node of this level that `address` lies under. False: the map has no node yet.
    ///
    /// # Safety
    /// The caller holds the lock; `M` is the map's measure.
    pub(crate) unsafe fn lead<M: Measure>(&mut self, root: &Root, address: usize, level: usize) -> bool {
        let (Some(mut node), top) = root.load() else { return false };
        let mut interval = (0, usize::MAX);
        self.top = top;
        for at in (level..=top).rev() {
            // SAFETY: the levels tell the kinds; the lock keeps everything as it is.
            unsafe {
                let ends = ends::<M>(node, at);
                let index = slot_of(ends, address);
                self.steps[at] = Some(Step { node, interval, index });
                if at > level {
                    interval = bounds(ends, index, interval);
                    node = &*node.children::<M>()[index].load(Relaxed);
                }
            }
        }
        true
    }

    pub(crate) fn step(&self, level: usize) -> Step {
        self.steps[level].expect("the path reaches down to this level")
    }
}

/// # Safety
/// `node` is a node of this level in a map of this measure; its content does not change meanwhile.
pub(crate) unsafe fn ends<M: Measure>(node: &Node, level: usize) -> &[Unordered<usize>] {
    // SAFETY: the caller's promise.
    unsafe { if level == 0 { &node.leaf().ends } else { node.inner_ends::<M>() } }
}

/// The slots in use.
///
/// # Safety
/// As `ends`.
pub(crate) unsafe fn len<M: Measure>(node: &Node, level: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { used(ends::<M>(node, level)) }
}
