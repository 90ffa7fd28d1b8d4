//! The splice: how every change is made.
//!
//! All changes are one: from `start` to `end`, put this value, or a gap. It concerns a *run* of
//! neighbouring leaves, most often of one. From the leaves upwards:
//!
//! 1. The run's slots are laid out as items: those before the change, the change, those behind it.
//! 2. If they are too few for a node, the run takes in a neighbour (with the same parent where there is one).
//! 3. They are written into as many new nodes as they need, one to three, evenly filled.
//! 4. One new node for one old one: its parent's slot is overwritten, and that store is the change. One for
//!    everything there is: it becomes the root, and the tree is lower. Otherwise the new nodes
//!    take the old run's place among the items of the level above, and so on; above the root, a new root.
//!
//! So everything that is new is written before the one store that shows it to readers, and what is replaced
//! stays as it was. Afterwards the old nodes are marked dead and retired. Where nobody can be reading, step 3
//! writes one node for one old one into the old one itself, and what is left over is free at once.
//!
//! Paths and items lie on the map's [`Bench`] and not on the stack, of which some callers have little: 4 KiB.

use crate::range_map::NodeSource;
use crate::range_map::items::{Items, PIECES, What, least};
use crate::range_map::measure::Measure;
use crate::range_map::node::{Node, bounds};
use crate::range_map::path::{Path, ends, len};
use crate::range_map::root::Root;
use crate::range_map::stock::{Chain, Stock};
use crate::sync::Ordering::{Relaxed, Release};

/// Where a change is prepared. Under the map's lock; what it holds between two changes means nothing.
pub(crate) struct Bench {
    left: Path,
    right: Path,
    /// To whatever lies between the two.
    between: Path,
    items: Items,
}

impl Bench {
    pub(crate) const fn new() -> Bench {
        Bench { left: Path::new(), right: Path::new(), between: Path::new(), items: Items::new() }
    }
}

/// The whole of what a splice works on. Its maker holds the lock.
pub(crate) struct Splice<'a, N> {
    pub(crate) root: &'a Root,
    pub(crate) stock: &'a mut Stock<N>,
    pub(crate) bench: &'a mut Bench,
    /// Nobody can be reading.
    pub(crate) alone: bool,
}

/// A new node, where it ends, and the largest measure in it.
type Piece = Option<(&'static Node, usize, usize)>;

/// What a level of the run became.
#[derive(Clone, Copy)]
struct Built {
    pieces: [Piece; PIECES],
    count: usize,
    /// The one piece is the old node, edited.
    in_place: bool,
}

impl<N: NodeSource> Splice<'_, N> {
    /// The nodes that a change takes at most: three a level, and a new root.
    pub(crate) fn worst(root: &Root) -> usize {
        PIECES * (root.load().1 + 1) + 1
    }

    /// Puts `value` (0: a gap) from `start` to `end`, and gives the nodes that were replaced.
    ///
    /// # Safety
    /// `M` is the map's measure; `start < end`; what is put as a gap ends where ranges begin or the space
    /// ends, so that no two gaps meet; [`worst`](Self::worst) nodes are free; `alone` is true.
    #[inline(never)]
    pub(crate) unsafe fn put<M: Measure>(&mut self, start: usize, end: usize, value: u64) -> Chain {
        // SAFETY: the lock is held.
        let any = unsafe {
            self.bench.left.lead::<M>(self.root, start, 0)
                && self.bench.right.lead::<M>(self.root, end - 1, 0)
        };
        if !any {
            self.plant::<M>(start, end, value);
            return Chain::new();
        }
        // SAFETY: as above, for the whole of this.
        unsafe {
            self.change::<M>(start, end, value);
            let mut old = Chain::new();
            let top = self.bench.left.top;
            for level in 0..=top {
                if self.bench.items.len() < least::<M>(level) {
                    self.take_in::<M>(level);
                }
                let built = self.build::<M>(level);
                if !built.in_place {
                    self.collect::<M>(&mut old, level);
                }
                let (left, right) = (&self.bench.left, &self.bench.right);
                let all = left.step(level).interval.0 == 0 && right.step(level).interval.1 == usize::MAX;
                if all {
                    for above in level + 1..=top {
                        self.collect::<M>(&mut old, above);
                    }
                    self.crown::<M>(&built, level);
                    break;
                }
                let (one, two) = (left.step(level + 1), right.step(level + 1));
                if built.count == 1 && core::ptr::eq(left.step(level).node, right.step(level).node) {
                    self.replace::<M>(level + 1, &built);
                    break;
                }
                let items = &mut self.bench.items;
                items.clear();
                items.add::<M>(one, level + 1, 0, one.index);
                for &(node, end, largest) in built.pieces.iter().flatten() {
                    items.push(end, What::Child(node, largest));
                }
                items.add::<M>(two, level + 1, two.index + 1, len::<M>(two.node, level + 1));
            }
            if !self.alone {
                old.die();
            }
            old
        }
    }

    /// The first leaf of a map.
    #[inline(never)]
    fn plant<M: Measure>(&mut self, start: usize, end: usize, value: u64) {
        let items = &mut self.bench.items;
        items.clear();
        for (end, value) in [(start, 0), (end, value), (usize::MAX, 0)] {
            if end > items.end() {
                items.push(end, What::Value(value));
            }
        }
        let leaf = self.stock.take();
        // SAFETY: the node is ours alone.
        unsafe { items.write::<M>(leaf, 0, 0, (0, 1)) };
        self.root.store(leaf, 0);
    }

    /// Lays out the items of the run's leaves, with the change in them.
    ///
    /// # Safety
    /// As `put`.
    #[inline(never)]
    unsafe fn change<M: Measure>(&mut self, start: usize, end: usize, value: u64) {
        let Bench { left, right, items, .. } = &mut *self.bench;
        let (one, two) = (left.step(0), right.step(0));
        items.clear();
        // SAFETY: the lock is held.
        unsafe {
            items.add::<M>(one, 0, 0, one.index);
            if bounds(ends::<M>(one.node, 0), one.index, one.interval).0 < start {
                items.push(start, What::Value(one.node.leaf().values[one.index].get()));
            }
            items.push(end, What::Value(value));
            let (_, behind) = bounds(ends::<M>(two.node, 0), two.index, two.interval);
            if end < behind {
                items.push(behind, What::Value(two.node.leaf().values[two.index].get()));
            }
            items.add::<M>(two, 0, two.index + 1, len::<M>(two.node, 0));
        }
    }

    /// Takes a neighbour of the run into it, if there is any.
    ///
    /// # Safety
    /// As `put`.
    #[inline(never)]
    unsafe fn take_in<M: Measure>(&mut self, level: usize) {
        let Bench { left, right, items, .. } = &mut *self.bench;
        let (min, max) = (left.step(level).interval.0, right.step(level).interval.1);
        // SAFETY: the lock is held. A path to an address inside the space exists, for the map has nodes.
        unsafe {
            let has_right =
                |index| level < right.top && index + 1 < len::<M>(right.step(level + 1).node, level + 1);
            let sibling_right = level < right.top && has_right(right.step(level + 1).index);
            let sibling_left = level < left.top && left.step(level + 1).index > 0;
            if max < usize::MAX && (sibling_right || !sibling_left) {
                right.lead::<M>(self.root, max, level);
                let step = right.step(level);
                items.add::<M>(step, level, 0, len::<M>(step.node, level));
            } else if min > 0 {
                left.lead::<M>(self.root, min - 1, level);
                items.add_before::<M>(left.step(level), level);
            }
        }
    }

    /// Writes the items into new nodes, or into the old one.
    ///
    /// # Safety
    /// As `put`.
    #[inline(never)]
    unsafe fn build<M: Measure>(&mut self, level: usize) -> Built {
        let Bench { left, right, items, .. } = &*self.bench;
        let count = items.pieces::<M>(level);
        let (one, two) = (left.step(level), right.step(level));
        let in_place = self.alone && count == 1 && core::ptr::eq(one.node, two.node);
        let mut pieces = [None; PIECES];
        for (piece, place) in pieces.iter_mut().enumerate().take(count) {
            let node = if in_place { one.node } else { self.stock.take() };
            // SAFETY: a new node is ours alone; an old one, where nobody can be reading.
            let (end, largest) = unsafe { items.write::<M>(node, level, one.interval.0, (piece, count)) };
            *place = Some((node, end, largest));
        }
        Built { pieces, count, in_place }
    }

    /// Adds the old nodes of the run at this level to the chain.
    ///
    /// # Safety
    /// As `put`.
    unsafe fn collect<M: Measure>(&mut self, old: &mut Chain, level: usize) {
        let Bench { left, right, between, .. } = &mut *self.bench;
        let (mut step, last) = (left.step(level), right.step(level).node);
        old.push(step.node);
        while !core::ptr::eq(step.node, last) {
            // SAFETY: the lock is held, and nothing was published yet.
            unsafe { between.lead::<M>(self.root, step.interval.1, level) };
            step = between.step(level);
            old.push(step.node);
        }
    }

    /// Makes what was built for everything there is the root, or puts a root above it.
    ///
    /// # Safety
    /// As `put`.
    #[inline(never)]
    unsafe fn crown<M: Measure>(&mut self, built: &Built, level: usize) {
        if let [Some((node, ..)), None, None] = built.pieces {
            return self.root.store(node, level);
        }
        let items = &mut self.bench.items;
        items.clear();
        for &(node, end, largest) in built.pieces.iter().flatten() {
            items.push(end, What::Child(node, largest));
        }
        let root = self.stock.take();
        // SAFETY: the node is ours alone.
        unsafe { items.write::<M>(root, level + 1, 0, (0, 1)) };
        self.root.store(root, level + 1);
    }

    /// Puts the one new node in the place of the one old one, and corrects the measures above it.
    ///
    /// # Safety
    /// As `put`.
    unsafe fn replace<M: Measure>(&mut self, level: usize, built: &Built) {
        let path = &self.bench.left;
        let Some((node, _, mut largest)) = built.pieces[0] else { return };
        let above = path.step(level);
        // Release: pairs with the readers' acquire in `walk.rs`: the new node's content is whole. Nothing to
        // publish where the old node was edited, and then nobody is there to see it.
        // SAFETY: an inner node, and the lock is held.
        let slot = unsafe { &above.node.children::<M>()[above.index] };
        if !core::ptr::eq(slot.load(Relaxed), node) {
            slot.store(core::ptr::from_ref(node).cast_mut(), Release);
        }
        if !M::KEPT {
            return;
        }
        for level in level..=path.top {
            let step = path.step(level);
            // SAFETY: as above; measures are the writers' own.
            unsafe {
                let kept = step.node.largest();
                if kept[step.index].get() == largest {
                    return;
                }
                kept[step.index].set(largest);
                let used = len::<M>(step.node, level);
                largest = kept[..used].iter().map(|kept| kept.get()).max().unwrap_or(0);
            }
        }
    }
}
