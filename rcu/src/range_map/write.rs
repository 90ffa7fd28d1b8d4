//! Writers: the map's lock, held, and what may be done under it.

use core::num::NonZeroU64;
use core::ops::Range;

use crate::domain::Domain;
use crate::range_map::lock::Sleep;
use crate::range_map::measure::Measure;
use crate::range_map::splice::Splice;
use crate::range_map::walk::{Entry, View};
use crate::range_map::{NodeSource, RangeMap};

/// Why a writer did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The range has no address in it, or its end lies before its beginning.
    Empty,
    /// This range of the map lies in it, whole or in part.
    Occupied(usize, usize),
    /// There is no such range.
    Absent,
    /// The source of nodes had none.
    NoNodes,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Refused::Empty => write!(f, "the range is empty"),
            Refused::Occupied(start, end) => write!(f, "the range {start:#x}-{end:#x} lies in it"),
            Refused::Absent => write!(f, "there is no such range"),
            Refused::NoNodes => write!(f, "there is no memory for nodes"),
        }
    }
}

impl core::error::Error for Refused {}

/// The right to change a map: its lock, held until this is dropped.
///
/// Nothing here allocates, and a change that cannot be had is refused before anything of it is done. A change
/// copies a leaf of 256 bytes and overwrites one pointer; every eighth or so splits or joins leaves.
#[must_use = "the lock is let go when the writer is dropped"]
pub struct Writer<'a, V, N: NodeSource, M: Measure, S: Sleep> {
    pub(crate) map: &'a RangeMap<V, N, M, S>,
    domain: &'a Domain,
    alone: bool,
}

impl<'a, V: Value, N: NodeSource, M: Measure, S: Sleep> Writer<'a, V, N, M, S> {
    /// # Safety
    /// The lock is held; `domain` is the map's; if `alone`, nobody can be reading.
    pub(crate) const unsafe fn new(map: &'a RangeMap<V, N, M, S>, domain: &'a Domain, alone: bool) -> Self {
        Writer { map, domain, alone }
    }

    /// The map as it is, between two changes. The lock stands for a section.
    #[must_use]
    pub fn view(&self) -> View<'_, V, M> {
        // SAFETY: changes need this writer, which the view borrows.
        unsafe { View::new(&self.map.root) }
    }

    /// Sees to it that the next changes, this many, are not refused for want of nodes. Each change that was
    /// not provided for asks for itself.
    ///
    /// # Errors
    /// [`Refused::NoNodes`].
    pub fn provide(&mut self, changes: usize) -> Result<(), Refused> {
        // A change makes the tree one level higher at most, which costs the next one three nodes more.
        let worst = Splice::<N>::worst(&self.map.root) + 3 * (changes.saturating_sub(1));
        let nodes = worst.saturating_mul(changes);
        // SAFETY: the lock is held.
        let stock = unsafe { &mut *self.map.stock.get() };
        if stock.provide(nodes, self.domain) { Ok(()) } else { Err(Refused::NoNodes) }
    }

    /// Puts a value where nothing is.
    ///
    /// # Errors
    /// [`Refused::Empty`], [`Refused::Occupied`] with the first range in the way, [`Refused::NoNodes`].
    pub fn insert(&mut self, range: Range<usize>, value: V) -> Result<(), Refused> {
        if let Some(entry) = self.view().iter(range.clone()).next() {
            return Err(Refused::Occupied(entry.start, entry.end));
        }
        self.store(range, Some(value))
    }

    /// Puts a value, or a gap, over whatever is there. Of a range that lies in it in part the rest
    /// remains, with its value: so a range is cut, split or given a new value.
    ///
    /// # Errors
    /// [`Refused::Empty`], [`Refused::NoNodes`].
    pub fn store(&mut self, range: Range<usize>, value: Option<V>) -> Result<(), Refused> {
        if range.is_empty() {
            return Err(Refused::Empty);
        }
        self.provide(1)?;
        let Range { mut start, mut end } = range;
        if value.is_none() {
            // Gaps do not meet: this one takes in those beside it.
            let mut ranges = self.view().cursor(start);
            start = ranges.previous().map_or(0, |before| before.end.min(start));
            ranges.seek(end);
            end = ranges.next().map_or(usize::MAX, |behind| behind.start.max(end));
        }
        let mut splice = Splice {
            root: &self.map.root,
            // SAFETY: the lock is held, and nothing else borrows the stock.
            stock: unsafe { &mut *self.map.stock.get() },
            // SAFETY: as above.
            bench: unsafe { &mut *self.map.bench.get() },
            alone: self.alone,
        };
        // SAFETY: we hold the lock, and all that is asked for was done above.
        let old = unsafe { splice.put::<M>(start, end, value.map_or(0, |value| value.into_bits().get())) };
        if self.alone {
            splice.stock.free(old);
        } else {
            splice.stock.retire(old, self.domain);
        }
        #[cfg(debug_assertions)]
        self.check();
        Ok(())
    }

    /// Takes out the range that `address` lies in.
    ///
    /// # Errors
    /// [`Refused::Absent`], [`Refused::NoNodes`].
    pub fn remove(&mut self, address: usize) -> Result<Entry<V>, Refused> {
        let entry = self.view().find(address).ok_or(Refused::Absent)?;
        self.store(entry.range(), None)?;
        Ok(entry)
    }

    /// Makes one range of the one that `address` lies in and the one that begins where it ends. Gives it.
    ///
    /// # Errors
    /// [`Refused::Absent`] if one of them is not there, [`Refused::NoNodes`].
    pub fn merge(&mut self, address: usize, value: V) -> Result<Entry<V>, Refused> {
        let low = self.view().find(address).ok_or(Refused::Absent)?;
        let high = self.view().find(low.end).ok_or(Refused::Absent)?;
        self.store(low.start..high.end, Some(value))?;
        Ok(Entry { start: low.start, end: high.end, value })
    }
}

impl<V, N: NodeSource, M: Measure, S: Sleep> Drop for Writer<'_, V, N, M, S> {
    fn drop(&mut self) {
        // SAFETY: a writer holds the lock.
        unsafe { self.map.lock.unlock() }
    }
}

/// Values: 8 bytes that are not all zero, which is what a gap holds.
///
/// # Safety
/// `from_bits` gives back what `into_bits` got.
pub unsafe trait Value: Copy {
    /// The value as a number.
    fn into_bits(self) -> NonZeroU64;
    /// The value of this number.
    ///
    /// # Safety
    /// The number came from `into_bits` of this type.
    unsafe fn from_bits(bits: NonZeroU64) -> Self;
}

// SAFETY: the number itself.
unsafe impl Value for NonZeroU64 {
    fn into_bits(self) -> NonZeroU64 {
        self
    }

    unsafe fn from_bits(bits: NonZeroU64) -> Self {
        bits
    }
}

// SAFETY: the address, exposed and taken up again.
unsafe impl<T> Value for core::ptr::NonNull<T> {
    fn into_bits(self) -> NonZeroU64 {
        let address = self.as_ptr().expose_provenance() as u64;
        // SAFETY: not null.
        unsafe { NonZeroU64::new_unchecked(address) }
    }

    unsafe fn from_bits(bits: NonZeroU64) -> Self {
        // SAFETY: not null.
        unsafe { Self::new_unchecked(core::ptr::with_exposed_provenance_mut(bits.get() as usize)) }
    }
}

// SAFETY: as above.
unsafe impl<T> Value for &'static T {
    fn into_bits(self) -> NonZeroU64 {
        core::ptr::NonNull::from_ref(self).into_bits()
    }

    unsafe fn from_bits(bits: NonZeroU64) -> Self {
        // SAFETY: the address of a reference that lives for ever.
        unsafe { core::ptr::NonNull::from_bits(bits).as_ref() }
    }
}
