//! Items: the slots of a run of neighbouring nodes, laid out to be cut into new nodes.

use core::num::NonZeroU64;

use crate::range_map::measure::Measure;
use crate::range_map::node::{MEASURED_SLOTS, Node, SLOTS, bounds};
use crate::range_map::path::{Step, ends, len};
use crate::sync::Ordering::{Relaxed, Release};

/// The most that a run has: what is left of two full nodes, and three between them; or a run that is too
/// short, and a full node.
const MOST: usize = 2 * SLOTS + 3;

/// Nodes that the most items fill.
pub(crate) const PIECES: usize = 3;

/// Slots of a node at this level.
pub(crate) const fn slots<M: Measure>(level: usize) -> usize {
    if level > 0 && M::KEPT { MEASURED_SLOTS } else { SLOTS }
}

/// The slots that a node has at least, unless it is the only one of its level. Small against half, so that
/// a node that was just split or filled up is far from the next change.
pub(crate) const fn least<M: Measure>(level: usize) -> usize {
    let third = slots::<M>(level) / 3;
    if third < 2 { 2 } else { third }
}

/// What a slot holds.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// A leaf's: a value, or 0 for a gap.
    Value(u64),
    /// An inner node's: the child, and the largest measure below it.
    Child(&'static Node, usize),
}

impl What {
    fn measure<M: Measure>(&self, length: usize) -> usize {
        match *self {
            What::Value(value) => M::of(length, NonZeroU64::new(value)),
            What::Child(_, largest) => largest,
        }
    }
}

/// A slot: where it ends, and what it holds.
#[derive(Clone, Copy)]
pub(crate) struct Item {
    pub(crate) end: usize,
    pub(crate) what: What,
}

pub(crate) struct Items {
    items: [Item; MOST],
    len: usize,
}

impl Items {
    pub(crate) const fn new() -> Items {
        Items { items: [Item { end: 0, what: What::Value(0) }; MOST], len: 0 }
    }

    /// Takes all out.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the last one ends.
    pub(crate) fn end(&self) -> usize {
        self.items[..self.len].last().map_or(0, |item| item.end)
    }

    pub(crate) fn push(&mut self, end: usize, what: What) {
        self.items[self.len] = Item { end, what };
        self.len += 1;
    }

    /// Adds the slots `from..to` of a node.
    ///
    /// # Safety
    /// `step` is of a map of this measure whose lock the caller holds, at this level.
    pub(crate) unsafe fn add<M: Measure>(&mut self, step: Step, level: usize, from: usize, to: usize) {
        for index in from..to {
            // SAFETY: the caller's promise.
            unsafe {
                let (_, end) = bounds(ends::<M>(step.node, level), index, step.interval);
                self.push(end, what::<M>(step.node, level, index));
            }
        }
    }

    /// Puts all slots of a node before the others.
    ///
    /// # Safety
    /// As `add`.
    pub(crate) unsafe fn add_before<M: Measure>(&mut self, step: Step, level: usize) {
        // SAFETY: the caller's promise.
        let more = unsafe { len::<M>(step.node, level) };
        let behind = self.len;
        self.items.copy_within(..behind, more);
        self.len = 0;
        // SAFETY: as above.
        unsafe { self.add::<M>(step, level, 0, more) };
        self.len += behind;
    }

    /// How many nodes they fill.
    pub(crate) fn pieces<M: Measure>(&self, level: usize) -> usize {
        self.len.div_ceil(slots::<M>(level))
    }

    /// Writes piece `piece` of `pieces` even ones into a node. Gives where it ends, and what is the largest
    /// in it.
    ///
    /// # Safety
    /// Nobody else can be in the node, which belongs to a map of this measure; the items are of this level,
    /// and begin at `start`.
    pub(crate) unsafe fn write<M: Measure>(
        &self,
        node: &'static Node,
        level: usize,
        start: usize,
        (piece, pieces): (usize, usize),
    ) -> (usize, usize) {
        let (from, to) = (piece * self.len / pieces, (piece + 1) * self.len / pieces);
        let items = &self.items[from..to];
        let mut begin = if from == 0 { start } else { self.items[from - 1].end };
        let mut largest = 0;
        // SAFETY: the caller's promise.
        let ends = unsafe { ends::<M>(node, level) };
        for (index, end) in ends.iter().enumerate() {
            let last = index + 1 >= items.len();
            // SAFETY: as above.
            unsafe { end.set(if last { usize::MAX } else { items[index].end }) };
        }
        for (index, item) in items.iter().enumerate() {
            let measure = item.what.measure::<M>(item.end - begin);
            largest = largest.max(measure);
            begin = item.end;
            // SAFETY: as above; children are only in inner nodes, values only in leaves.
            unsafe {
                match item.what {
                    What::Value(value) => node.leaf().values[index].set(value),
                    What::Child(child, _) => {
                        // Relaxed would do: the store that publishes this node is a release.
                        let child = core::ptr::from_ref(child).cast_mut();
                        node.children::<M>()[index].store(child, Release);
                        if M::KEPT {
                            node.largest()[index].set(measure);
                        }
                    }
                }
            }
        }
        (begin, largest)
    }
}

/// # Safety
/// As `Items::add`.
unsafe fn what<M: Measure>(node: &'static Node, level: usize, index: usize) -> What {
    // SAFETY: the caller's promise; a slot in use holds a node that is in the tree.
    unsafe {
        if level == 0 {
            return What::Value(node.leaf().values[index].get());
        }
        let largest = if M::KEPT { node.largest()[index].get() } else { 0 };
        What::Child(&*node.children::<M>()[index].load(Relaxed), largest)
    }
}
