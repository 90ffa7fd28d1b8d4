//! Nodes: what readers walk over, 256 bytes each, four cache lines.
//!
//! The tree divides all addresses from 0 to `usize::MAX`. A node answers for an interval, which it does not
//! hold: whoever walks knows it from the nodes above. Its *ends* cut the interval into slots, the last of
//! which ends where the node does; ends past that are `usize::MAX`, so that a search compares them all and
//! needs no length. A leaf's slot holds a value, or 0 for a gap; an inner node's slot holds a child.
//!
//! ```text
//!   leaf       state | 15 ends | 16 values
//!   inner      state | 15 ends | 16 children
//!   measured   state |  9 ends | 10 children | 10 largest   (inner, where the map keeps a measure)
//! ```
//!
//! *Who may touch what.* From the store that publishes a node to the one that marks it dead, its ends and
//! values never change, so readers read them as plain memory. The children are atomics: a writer that has
//! copied a child stores the copy in its place. `largest` is the writers' alone, who hold the map's
//! lock. The kind of a node is known from its height above the leaves, which the root's pointer carries.
//!
//! *Life.* `state` is null while the node is in the tree; then the next node of the chain in which it is
//! retired, with [`DEAD`] set; then, behind a grace period, the next node of the free ones.

use core::mem::ManuallyDrop;

use crate::range_map::measure::Measure;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicPtr, Unordered};

/// Slots of a leaf and of an inner node. Under loom nodes are small: a split is a few steps away.
pub(crate) const SLOTS: usize = if cfg!(loom) { 4 } else { 16 };
/// Slots of an inner node that also keeps a measure of each child.
pub(crate) const MEASURED_SLOTS: usize = if cfg!(loom) { 4 } else { 10 };

/// The mark of a node that is no longer in the tree: the lowest bit of its state, free in a pointer to a
/// node.
const DEAD: usize = 1;

/// Memory for one node of a range map: 256 bytes, aligned to as many. All zero bytes are a valid one.
#[cfg_attr(not(loom), repr(C, align(256)))]
pub struct Node {
    state: AtomicPtr<Node>,
    body: Body,
}

/// Which of the three it is, the height says. Under loom, where zero bytes are no atomics, it is all three.
#[cfg(not(loom))]
#[repr(C)]
union Body {
    leaf: ManuallyDrop<Leaf>,
    inner: ManuallyDrop<Inner>,
    measured: ManuallyDrop<Measured>,
}
#[cfg(loom)]
struct Body {
    leaf: ManuallyDrop<Leaf>,
    inner: ManuallyDrop<Inner>,
    measured: ManuallyDrop<Measured>,
}

#[repr(C)]
pub(crate) struct Leaf {
    pub(crate) ends: [Unordered<usize>; SLOTS - 1],
    pub(crate) values: [Unordered<u64>; SLOTS],
}

#[repr(C)]
struct Inner {
    ends: [Unordered<usize>; SLOTS - 1],
    children: [AtomicPtr<Node>; SLOTS],
}

#[repr(C)]
struct Measured {
    ends: [Unordered<usize>; MEASURED_SLOTS - 1],
    children: [AtomicPtr<Node>; MEASURED_SLOTS],
    largest: [Unordered<usize>; MEASURED_SLOTS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Node>() == 256);

#[cfg_attr(loom, allow(unused_unsafe, reason = "a struct there"))]
impl Node {
    /// Memory for a node that is in no map.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Node {
        // SAFETY: integers, and a null pointer.
        unsafe { core::mem::zeroed() }
    }

    /// Memory for a node that is in no map.
    #[cfg(loom)]
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Node {
        use core::array::from_fn;
        let null = |_| AtomicPtr::new(core::ptr::null_mut());
        Node {
            state: null(0),
            body: Body {
                leaf: ManuallyDrop::new(Leaf {
                    ends: from_fn(|_| Unordered::new(0)),
                    values: from_fn(|_| Unordered::new(0)),
                }),
                inner: ManuallyDrop::new(Inner {
                    ends: from_fn(|_| Unordered::new(0)),
                    children: from_fn(null),
                }),
                measured: ManuallyDrop::new(Measured {
                    ends: from_fn(|_| Unordered::new(0)),
                    children: from_fn(null),
                    largest: from_fn(|_| Unordered::new(0)),
                }),
            },
        }
    }

    // ---- its life ----

    /// True once the node has left the tree. Acquire: pairs with the release in `die`, so that whoever sees
    /// the mark and walks again finds what replaced the node.
    #[inline(always)]
    pub(crate) fn is_dead(&self) -> bool {
        self.state.load(Acquire).addr() & DEAD != 0
    }

    /// Marks the node dead: it has been replaced. Release: see `is_dead`.
    pub(crate) fn die(&self) {
        self.state.store(self.next().map_addr(|next| next | DEAD), Release);
    }

    /// The node behind this one in a chain.
    pub(crate) fn next(&self) -> *mut Node {
        // Relaxed: chains are the writers' own, and the lock orders these.
        self.state.load(Relaxed).map_addr(|next| next & !DEAD)
    }

    /// Links the node, dead or not, as it is: readers look at the mark all the time.
    pub(crate) fn set_next(&self, next: *mut Node) {
        let mark = self.state.load(Relaxed).addr() & DEAD;
        // Release: the mark may be what a reader acquires, and this is then the store that it reads.
        self.state.store(next.map_addr(|next| next | mark), Release);
    }

    /// Makes it one that is in no chain and not dead. Nobody can be in it.
    pub(crate) fn revive(&self) {
        self.state.store(core::ptr::null_mut(), Relaxed);
    }

    // ---- its content ----

    /// # Safety
    /// The node is a leaf.
    #[inline(always)]
    pub(crate) unsafe fn leaf(&self) -> &Leaf {
        // SAFETY: the caller's promise.
        unsafe { &self.body.leaf }
    }

    /// The ends of an inner node.
    ///
    /// # Safety
    /// The node is an inner one, of a map with this measure.
    #[inline(always)]
    pub(crate) unsafe fn inner_ends<M: Measure>(&self) -> &[Unordered<usize>] {
        // SAFETY: the caller's promise.
        unsafe { if M::KEPT { &self.body.measured.ends } else { &self.body.inner.ends } }
    }

    /// The children of an inner node.
    ///
    /// # Safety
    /// As `inner_ends`.
    #[inline(always)]
    pub(crate) unsafe fn children<M: Measure>(&self) -> &[AtomicPtr<Node>] {
        // SAFETY: the caller's promise.
        unsafe { if M::KEPT { &self.body.measured.children } else { &self.body.inner.children } }
    }

    /// The measures of the children.
    ///
    /// # Safety
    /// The node is an inner one of a map that keeps a measure.
    pub(crate) unsafe fn largest(&self) -> &[Unordered<usize>] {
        // SAFETY: the caller's promise.
        unsafe { &self.body.measured.largest }
    }
}

#[cfg(not(loom))]
impl Default for Node {
    fn default() -> Self {
        Node::new()
    }
}

/// The slot that `address` lies in: as many as end at or below it. Of sixteen slots the quarter first, then
/// the slot in it: six comparisons, with no branch that depends on any: their outcome is what a processor
/// cannot foretell.
///
/// # Safety
/// The ends do not change meanwhile.
#[inline(always)]
pub(crate) unsafe fn slot_of(ends: &[Unordered<usize>], address: usize) -> usize {
    // SAFETY: the caller's promise; every index is below the length.
    let below = |index: usize| usize::from(unsafe { ends.get_unchecked(index).get() } <= address);
    if ends.len() == 15 {
        let quarter = 4 * (below(3) + below(7) + below(11));
        quarter + below(quarter) + below(quarter + 1) + below(quarter + 2)
    } else {
        (0..ends.len()).map(below).sum()
    }
}

/// Where slot `index` of a node that answers for `min..max` begins and ends.
///
/// # Safety
/// As `slot_of`.
#[inline(always)]
pub(crate) unsafe fn bounds(
    ends: &[Unordered<usize>],
    index: usize,
    (min, max): (usize, usize),
) -> (usize, usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let start = if index == 0 { min } else { ends[index - 1].get() };
        // The last slot's end is not written down: `usize::MAX` stands there, or nothing.
        let end = ends.get(index).map_or(max, |end| end.get().min(max));
        (start, end)
    }
}

/// How many slots are in use.
///
/// # Safety
/// As `slot_of`.
pub(crate) unsafe fn used(ends: &[Unordered<usize>]) -> usize {
    // SAFETY: the caller's promise.
    1 + ends.iter().filter(|end| unsafe { end.get() } != usize::MAX).count()
}
