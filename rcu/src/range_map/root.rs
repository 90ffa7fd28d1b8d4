//! The root: one word, the pointer to the topmost node with the tree's height in its low bits, so that a walk
//! has both from one load.

use crate::range_map::node::Node;
use crate::sync::Ordering::{Acquire, Release};
use crate::sync::{AtomicPtr, const_unless_loom};

/// The bits that are free in a pointer to a node. loom's nodes are not aligned to 256 bytes; 8 is enough
/// there.
const HEIGHT: usize = if cfg!(loom) { align_of::<Node>() - 1 } else { 255 };

pub(crate) struct Root(AtomicPtr<Node>);

impl Root {
    const_unless_loom! {
        pub(crate) fn new() -> Root {
            Root(AtomicPtr::new(core::ptr::null_mut()))
        }
    }

    /// The topmost node, and how many levels it stands above the leaves.
    #[inline(always)]
    pub(crate) fn load(&self) -> (Option<&'static Node>, usize) {
        // Acquire: pairs with the release in `store`: the node's content is whole.
        let word = self.0.load(Acquire);
        let node = word.map_addr(|addr| addr & !HEIGHT);
        // SAFETY: null or a node, and node memory lives for ever; that it is not used again while somebody
        // reads is the section's business.
        (unsafe { node.as_ref() }, word.addr() & HEIGHT)
    }

    pub(crate) fn store(&self, node: &'static Node, height: usize) {
        debug_assert!(height <= HEIGHT);
        let word = core::ptr::from_ref(node).cast_mut().map_addr(|addr| addr | height);
        // Release: see `load`.
        self.0.store(word, Release);
    }
}
