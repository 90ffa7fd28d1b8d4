//! Measures, and the searches they make short: the first slot, or the smallest, that is large enough.
//!
//! A map may keep, beside each child, the largest measure below it: of its gaps, of its ranges, or of those
//! ranges that the caller means (the free ones, say). A search then enters only where something large
//! enough is. The measures are kept and read under the map's lock.

use core::num::NonZeroU64;
use core::ops::Range;

use crate::range_map::node::{Node, bounds, used};
use crate::range_map::{NodeSource, lock::Sleep};
use crate::range_map::{Value, Writer};
use crate::sync::Ordering::Relaxed;

/// What a map keeps the largest of.
pub trait Measure: 'static {
    /// Whether anything is kept at all. Inner nodes have 16 slots if not, 10 if so.
    const KEPT: bool;

    /// The measure of a slot of so many bytes that holds this value, or is a gap: its length, or 0 if it is
    /// not one that searches are for.
    fn of(length: usize, value: Option<NonZeroU64>) -> usize;
}

/// Keeps nothing.
pub struct Unmeasured;
/// Keeps the largest gap.
pub struct Gaps;
/// Keeps the largest range.
pub struct Ranges;

impl Measure for Unmeasured {
    const KEPT: bool = false;

    fn of(_length: usize, _value: Option<NonZeroU64>) -> usize {
        0
    }
}

impl Measure for Gaps {
    const KEPT: bool = true;

    fn of(length: usize, value: Option<NonZeroU64>) -> usize {
        if value.is_none() { length } else { 0 }
    }
}

impl Measure for Ranges {
    const KEPT: bool = true;

    fn of(length: usize, value: Option<NonZeroU64>) -> usize {
        if value.is_some() { length } else { 0 }
    }
}

/// A slot that a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit<V> {
    /// Where what was asked for begins: the first address of the slot, aligned.
    pub at: usize,
    /// The slot's first address.
    pub start: usize,
    /// The first address behind it.
    pub end: usize,
    /// What it holds; `None`: it is a gap.
    pub value: Option<V>,
}

struct Search<'a> {
    bytes: usize,
    align: usize,
    within: &'a Range<usize>,
    /// Goes on until nothing smaller can come.
    best: bool,
    found: Option<(usize, usize, usize, u64)>,
}

impl Search<'_> {
    /// Where in the slot what is wanted would begin.
    fn place(&self, start: usize, end: usize) -> Option<usize> {
        let at = start.max(self.within.start).checked_next_multiple_of(self.align)?;
        let behind = at.checked_add(self.bytes)?;
        (behind <= end.min(self.within.end)).then_some(at)
    }

    fn offer(&mut self, start: usize, end: usize, value: u64) {
        let smaller =
            self.found.is_none_or(|(_, start_before, end_before, _)| end - start < end_before - start_before);
        if smaller && let Some(at) = self.place(start, end) {
            self.found = Some((at, start, end, value));
        }
    }

    fn is_over(&self) -> bool {
        self.found.is_some_and(|(_, start, end, _)| !self.best || end - start == self.bytes)
    }
}

/// What is largest in a leaf that answers for `interval`.
///
/// # Safety
/// `node` is a leaf in use, and the caller holds the lock.
unsafe fn search_leaf<M: Measure>(node: &Node, interval: (usize, usize), search: &mut Search) {
    // SAFETY: the caller's promises.
    let leaf = unsafe { node.leaf() };
    // SAFETY: as above.
    let used = unsafe { used(&leaf.ends) };
    for index in 0..used {
        // SAFETY: as above.
        let ((start, end), value) =
            unsafe { (bounds(&leaf.ends, index, interval), leaf.values[index].get()) };
        if M::of(end - start, NonZeroU64::new(value)) >= search.bytes {
            search.offer(start, end, value);
            if search.is_over() {
                return;
            }
        }
    }
}

/// # Safety
/// `node` has this height and interval in the map of the lock that the caller holds; `M` is the map's.
unsafe fn search_in<M: Measure>(node: &Node, height: usize, interval: (usize, usize), search: &mut Search) {
    if height == 0 {
        // SAFETY: height 0 is a leaf.
        return unsafe { search_leaf::<M>(node, interval, search) };
    }
    // SAFETY: an inner node, and the lock keeps it as it is.
    let (ends, children) = unsafe { (node.inner_ends::<M>(), node.children::<M>()) };
    // SAFETY: as above.
    let largest = M::KEPT.then(|| unsafe { node.largest() });
    // SAFETY: as above.
    let used = unsafe { used(ends) };
    for index in 0..used {
        // SAFETY: as above.
        let interval = unsafe { bounds(ends, index, interval) };
        let outside = interval.1 <= search.within.start || interval.0 >= search.within.end;
        // SAFETY: as above.
        if outside || largest.is_some_and(|largest| unsafe { largest[index].get() } < search.bytes) {
            continue;
        }
        // SAFETY: a child in use; it is one lower.
        unsafe { search_in::<M>(&*children[index].load(Relaxed), height - 1, interval, search) };
        if search.is_over() {
            return;
        }
    }
}

impl<V: Value, N: NodeSource, M: Measure, S: Sleep> Writer<'_, V, N, M, S> {
    /// The lowest slot of those that the measure counts that has room for so many bytes, aligned, in
    /// `within`.
    #[must_use]
    pub fn first_fit(&self, bytes: usize, align: usize, within: Range<usize>) -> Option<Fit<V>> {
        self.search(bytes, align, &within, false)
    }

    /// The smallest such slot; the lowest of equals. Looks at every slot that is large enough, until one fits
    /// exactly.
    #[must_use]
    pub fn best_fit(&self, bytes: usize, align: usize, within: Range<usize>) -> Option<Fit<V>> {
        self.search(bytes, align, &within, true)
    }

    fn search(&self, bytes: usize, align: usize, within: &Range<usize>, best: bool) -> Option<Fit<V>> {
        const { assert!(M::KEPT, "a search needs a map that keeps a measure") };
        let mut search = Search { bytes: bytes.max(1), align: align.max(1), within, best, found: None };
        let (root, height) = self.map.root.load();
        match root {
            // SAFETY: the root of the map whose lock we hold.
            Some(root) => unsafe { search_in::<M>(root, height, (0, usize::MAX), &mut search) },
            None if M::of(usize::MAX, None) >= search.bytes => search.offer(0, usize::MAX, 0),
            None => {}
        }
        let (at, start, end, value) = search.found?;
        // SAFETY: a value that this map holds came from a `V`.
        let value = NonZeroU64::new(value).map(|bits| unsafe { V::from_bits(bits) });
        Some(Fit { at, start, end, value })
    }
}
