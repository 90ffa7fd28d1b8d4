//! Walks: what readers do, inside a section, with no lock and no store.
//!
//! **Why a walk without a lock finds what is there.** Every change of the map is one store: of a child's
//! pointer, or of the root's. A node that was replaced stays as it was at that moment, and its memory
//! is not used again before the section ends; so whoever has come into a replaced node, at any level, goes on
//! in the tree as it was when that pointer was read, which was inside this walk. A leaf answers for the
//! same interval as long as it lives.
//!
//! **Why the mark.** A [`Cursor`] keeps its leaf from one step to the next, and between two steps the leaf
//! may have been replaced long ago. After each slot it reads it looks at the leaf's mark: the mark was set
//! before the change that replaced the leaf returned, so a change that happened before the step began is
//! never missed. A dead leaf is left and the walk begins again at the root, at the address reached. That it
//! then finds another: see `Node::is_dead`. A walk that begins at the root and ends at one slot has no need
//! to look.

use core::marker::PhantomData;
use core::num::NonZeroU64;
use core::ops::Range;

use crate::range_map::Value;
use crate::range_map::measure::Measure;
use crate::range_map::node::{Node, bounds, slot_of};
use crate::range_map::root::Root;
use crate::sync::Ordering::Acquire;

/// A range of the map and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<V> {
    /// The first address.
    pub start: usize,
    /// The first address behind it.
    pub end: usize,
    /// What was stored for it.
    pub value: V,
}

impl<V> Entry<V> {
    /// The addresses.
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// How many there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no range is empty")]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The map as a section sees it: what is read through a view stays valid until the section ends.
pub struct View<'a, V, M> {
    root: &'a Root,
    of: PhantomData<fn() -> (V, M)>,
}

impl<V, M> Clone for View<'_, V, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V, M> Copy for View<'_, V, M> {}

/// A leaf and the interval it answers for.
#[derive(Clone, Copy)]
struct Place<'a> {
    leaf: &'a Node,
    interval: (usize, usize),
}

impl<'a, V: Value, M: Measure> View<'a, V, M> {
    /// # Safety
    /// For as long as `'a` no node of the map is used again: a section of the map's domain is open, or the
    /// map's lock is held and nothing changed through it.
    pub(crate) const unsafe fn new(root: &'a Root) -> Self {
        View { root, of: PhantomData }
    }

    /// What the range that `address` lies in holds. A walk of as many steps as the tree has levels; no
    /// lock, no store. Async-signal-safe.
    #[inline]
    #[must_use]
    pub fn get(&self, address: usize) -> Option<V> {
        if address == usize::MAX {
            return None; // no range reaches it
        }
        let (root, mut height) = self.root.load();
        let mut node = root?;
        while height > 0 {
            // SAFETY: heights above 0 are inner nodes of this map; ends of a node that can be found do not
            // change, and the section keeps it.
            unsafe {
                let index = slot_of(node.inner_ends::<M>(), address);
                node = child::<M>(node, index);
            }
            height -= 1;
        }
        // SAFETY: height 0 is a leaf; for the rest as above. A search in all ends gives a slot.
        let bits = unsafe {
            let leaf = node.leaf();
            leaf.values.get_unchecked(slot_of(&leaf.ends, address)).get()
        };
        // SAFETY: what the map holds came from a `V`.
        NonZeroU64::new(bits).map(|bits| unsafe { V::from_bits(bits) })
    }

    /// As [`get`](View::get), with the range.
    #[must_use]
    pub fn find(&self, address: usize) -> Option<Entry<V>> {
        if address == usize::MAX {
            return None;
        }
        self.cursor(address).slot(address).and_then(|slot| slot.entry())
    }

    /// A cursor at `address`.
    #[must_use]
    pub fn cursor(&self, address: usize) -> Cursor<'a, V, M> {
        Cursor { view: *self, place: None, at: address }
    }

    /// The ranges that lie in `within`, whole or in part, in order. One that stays where it is while
    /// others change is found, once.
    pub fn iter(&self, within: Range<usize>) -> impl Iterator<Item = Entry<V>> + use<'a, V, M> {
        let mut cursor = self.cursor(within.start);
        core::iter::from_fn(move || cursor.next().filter(|entry| entry.start < within.end))
    }

    /// The leaf that `address` lies in, and its interval.
    fn descend(&self, address: usize) -> Option<Place<'a>> {
        let (root, mut height) = self.root.load();
        let (mut node, mut interval) = (root?, (0, usize::MAX));
        while height > 0 {
            // SAFETY: as in `get`.
            unsafe {
                let ends = node.inner_ends::<M>();
                let index = slot_of(ends, address);
                interval = bounds(ends, index, interval);
                node = child::<M>(node, index);
            }
            height -= 1;
        }
        Some(Place { leaf: node, interval })
    }
}

/// # Safety
/// `node` is an inner node of a map with this measure, the slot is in use, and a section or the lock keeps
/// both nodes.
#[inline(always)]
unsafe fn child<M: Measure>(node: &Node, index: usize) -> &Node {
    // Acquire: pairs with the release of the writer that published the child: its content is whole.
    // SAFETY: a slot in use holds a node. The index counts ends, of which there is one less than there are
    // children.
    unsafe { &*node.children::<M>().get_unchecked(index).load(Acquire) }
}

/// A position in the map: before an address. It goes both ways and keeps its leaf.
pub struct Cursor<'a, V, M> {
    view: View<'a, V, M>,
    place: Option<Place<'a>>,
    at: usize,
}

/// A slot: a range or a gap.
struct Slot<V> {
    start: usize,
    end: usize,
    value: Option<V>,
}

impl<V> Slot<V> {
    fn entry(self) -> Option<Entry<V>> {
        self.value.map(|value| Entry { start: self.start, end: self.end, value })
    }
}

impl<V: Value, M: Measure> Cursor<'_, V, M> {
    /// Goes elsewhere.
    pub fn seek(&mut self, address: usize) {
        self.at = address;
    }

    /// The range that the position lies in, or the next one; the cursor goes to its end. A range that
    /// grew downwards meanwhile may begin before the position.
    #[allow(clippy::should_implement_trait, reason = "it goes both ways")]
    pub fn next(&mut self) -> Option<Entry<V>> {
        while self.at < usize::MAX {
            let slot = self.slot(self.at)?;
            self.at = slot.end;
            if let Some(entry) = slot.entry() {
                return Some(entry);
            }
        }
        None
    }

    /// The range that the address before the position lies in, or the one before; the cursor goes to its
    /// beginning.
    pub fn previous(&mut self) -> Option<Entry<V>> {
        while self.at > 0 {
            let slot = self.slot(self.at - 1)?;
            self.at = slot.start;
            if let Some(entry) = slot.entry() {
                return Some(entry);
            }
        }
        None
    }

    /// The slot that `address` lies in. None: nothing was ever stored.
    fn slot(&mut self, address: usize) -> Option<Slot<V>> {
        loop {
            let place = match self.place {
                Some(place) if place.interval.0 <= address && address < place.interval.1 => place,
                _ => self.view.descend(address)?,
            };
            // SAFETY: a leaf, whose ends and values do not change while the section keeps it.
            let ((start, end), bits) = unsafe {
                let leaf = place.leaf.leaf();
                let index = slot_of(&leaf.ends, address);
                (bounds(&leaf.ends, index, place.interval), leaf.values[index].get())
            };
            if place.leaf.is_dead() {
                self.place = None;
                continue;
            }
            self.place = Some(place);
            // SAFETY: what the map holds came from a `V`.
            let value = NonZeroU64::new(bits).map(|bits| unsafe { V::from_bits(bits) });
            return Some(Slot { start, end, value });
        }
    }
}
