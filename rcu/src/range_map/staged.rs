//! The staged look-up: from an address to what is known of its mapping, or to the mapping locked.
//!
//! A map of mappings holds `&'static T`, where `T` carries a [`Mapping`]: a lock that is also a sequence
//! count, and an *identity*, which is the map and the range it stands for. Descriptors are type-stable: one
//! that was taken out of the map may stand for another range at once, with no grace period; so whoever came
//! to it over the map asks whether it is still the one that was meant. Three stages, each tried only where
//! the one before failed:
//!
//! 1. *Walk.* The map's answer, inside a section; the mapping's count, its identity, what is to be read, and
//!    the count again. No lock and no store. To lock a mapping, its count is what the lock is taken at.
//! 2. *Mapping.* Somebody holds the mapping, or it changed: its own lock is taken, and its identity is
//!    asked again. To have locked the wrong one, and to let it go, does no harm: others see it held, or
//!    changed, and take their next stage.
//! 3. *Map.* It was the wrong one: the map's lock is taken and the map asked once more. What it says now is
//!    true for as long as the lock is held, so a mapping that is free is the right one; for one that is
//!    held the map's lock is let go first (a holder may be waiting for it), and the identity asked again.
//!
//! A stage that fails hands on what it found: the second locks the mapping of the first. To walk once
//! more before it was measured beside this (10,000 ranges): the mapping changed, 1.4 times the time; it was
//! replaced, the same.
//!
//! **Order of locks:** a mapping's, then the map's. Whoever changes an identity holds the mapping's lock from
//! before the change until the map says the same.

use core::ops::{Deref, Range};
use core::sync::atomic::AtomicU64 as PlainU64;

use crate::domain::Domain;
use crate::range_map::lock::{Futex, SequenceLock, Sleep};
use crate::range_map::measure::Measure;
use crate::range_map::{NodeSource, RangeMap, Refused};
use crate::reader::{Guard, Reader};
use crate::sync::Ordering::Relaxed;
use crate::sync::{AtomicU64, const_unless_loom};

/// What a descriptor carries: its lock and its identity.
pub struct Mapping<S = Futex> {
    lock: SequenceLock<S>,
    /// The address of the map that it is in; 0: in none.
    map: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
}

impl<S: Sleep> Mapping<S> {
    const_unless_loom! {
        /// Of a descriptor that is in no map.
        #[must_use]
        pub fn new() -> Self {
            Mapping {
                lock: SequenceLock::new(),
                map: AtomicU64::new(0),
                start: AtomicU64::new(0),
                end: AtomicU64::new(0),
            }
        }
    }

    /// The range it stands for. Whole if the lock is held, or its count has not changed.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        // Relaxed, as every access to the identity: the lock orders them.
        self.start.load(Relaxed) as usize..self.end.load(Relaxed) as usize
    }

    /// True if it stands for `address` in the map at `map`.
    fn is_of(&self, map: usize, address: usize) -> bool {
        self.map.load(Relaxed) as usize == map && self.range().contains(&address)
    }

    fn identify(&self, map: usize, range: &Range<usize>) {
        self.map.store(map as u64, Relaxed);
        self.start.store(range.start as u64, Relaxed);
        self.end.store(range.end as u64, Relaxed);
    }
}

impl<S: Sleep> Default for Mapping<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// A descriptor of a mapping.
///
/// # Safety
/// Always the same [`Mapping`]. A descriptor that a map has held stays one for ever: its memory is not
/// unmapped and becomes nothing else.
pub unsafe trait Mapped: Sync + 'static {
    /// How a thread waits for the lock.
    type Sleep: Sleep;
    /// What it carries.
    fn mapping(&self) -> &Mapping<Self::Sleep>;
}

/// How often each stage gave the answer: one thread's account, which others may read. Shared, it loses
/// counts.
#[derive(Default)]
pub struct Stages {
    walk: PlainU64,
    mapping: PlainU64,
    map: PlainU64,
}

impl Stages {
    /// All 0.
    #[must_use]
    pub const fn new() -> Stages {
        Stages { walk: PlainU64::new(0), mapping: PlainU64::new(0), map: PlainU64::new(0) }
    }

    /// How many answers the walk, the mapping's lock and the map's lock gave.
    #[must_use]
    pub fn read(&self) -> [u64; 3] {
        [&self.walk, &self.mapping, &self.map].map(|stage| stage.load(Relaxed))
    }

    fn count(stage: &PlainU64) {
        // One writer: no read-modify-write.
        stage.store(stage.load(Relaxed) + 1, Relaxed);
    }
}

/// What the first stage alone can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked<R> {
    /// What was read, whole.
    Found(R),
    /// No range has this address.
    Nothing,
    /// The mapping is held or was changed meanwhile.
    Unsure,
}

/// A mapping, locked until this is dropped.
pub struct Held<T: Mapped> {
    mapped: &'static T,
}

impl<T: Mapped> Held<T> {
    /// Locks a descriptor that its owner knows: one that is in no map, say.
    #[must_use]
    pub fn lock(mapped: &'static T) -> Held<T> {
        mapped.mapping().lock.lock();
        Held { mapped }
    }

    /// The descriptor.
    #[must_use]
    pub fn get(&self) -> &'static T {
        self.mapped
    }

    /// Gives it the identity of `range` in `map`; the caller puts the same into the map before it lets go.
    pub fn identify<N: NodeSource, M: Measure, S: Sleep>(
        &mut self,
        map: &RangeMap<&'static T, N, M, S>,
        range: Range<usize>,
    ) {
        self.mapped.mapping().identify(map.identity(), &range);
    }

    /// Takes its identity; the caller takes it out of the map before it lets go.
    pub fn forget(&mut self) {
        self.mapped.mapping().identify(0, &(0..0));
    }
}

impl<T: Mapped> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.mapped
    }
}

impl<T: Mapped> Drop for Held<T> {
    fn drop(&mut self) {
        // SAFETY: a `Held` exists only for a lock that is held.
        unsafe { self.mapped.mapping().lock.unlock() }
    }
}

impl<T: Mapped, N: NodeSource, M: Measure, S: Sleep> RangeMap<&'static T, N, M, S> {
    fn identity(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Puts a descriptor that is in no map into this one, and gives it locked.
    ///
    /// # Errors
    /// As [`Writer::insert`](crate::range_map::Writer::insert).
    ///
    /// # Safety
    /// As [`write`](RangeMap::write).
    pub unsafe fn enter(
        &self,
        domain: &Domain,
        range: Range<usize>,
        mapped: &'static T,
    ) -> Result<Held<T>, Refused> {
        let mut held = Held::lock(mapped);
        held.identify(self, range.clone());
        // SAFETY: the caller's promise.
        let entered = unsafe { self.write(domain) }.insert(range, mapped);
        if let Err(refused) = entered {
            held.forget();
            return Err(refused);
        }
        Ok(held)
    }

    /// Takes a mapping out of this map. Its descriptor may stand for something else at once.
    ///
    /// # Errors
    /// [`Refused::NoNodes`], with nothing changed.
    ///
    /// # Safety
    /// As [`write`](RangeMap::write).
    pub unsafe fn leave(&self, domain: &Domain, held: &mut Held<T>) -> Result<(), Refused> {
        // SAFETY: the caller's promise.
        unsafe { self.write(domain) }.store(held.mapping().range(), None)?;
        held.forget();
        Ok(())
    }

    /// The first stage alone: what `read` makes of the mapping that `address` lies in. For where no lock
    /// may be taken, a handler of a crash, say. `read` may see a mapping in the middle of a change, and
    /// what it made of that is dropped: it reads atomics, and believes nothing.
    ///
    /// # Safety
    /// As [`view`](RangeMap::view).
    pub unsafe fn peek<R>(
        &self,
        section: &Guard<'_>,
        address: usize,
        read: impl FnOnce(&'static T) -> R,
    ) -> Walked<R> {
        // SAFETY: the caller's promise.
        let Some(mapped) = unsafe { self.view(section) }.get(address) else { return Walked::Nothing };
        self.peek_at(mapped, address, read).map_or(Walked::Unsure, Walked::Found)
    }

    fn peek_at<R>(
        &self,
        mapped: &'static T,
        address: usize,
        read: impl FnOnce(&'static T) -> R,
    ) -> Option<R> {
        let mapping = mapped.mapping();
        let count = mapping.lock.count()?;
        let result = mapping.is_of(self.identity(), address).then(|| read(mapped));
        if mapping.lock.unchanged(count) { result } else { None }
    }

    /// What `read` makes of the mapping that `address` lies in, whole. `read` may be called more than once;
    /// see [`peek`](RangeMap::peek).
    ///
    /// # Safety
    /// `reader` is the calling thread's in the domain that this map's writers are given, which is `domain`.
    pub unsafe fn look<R>(
        &self,
        reader: &Reader,
        domain: &Domain,
        address: usize,
        stages: &Stages,
        mut read: impl FnMut(&'static T) -> R,
    ) -> Option<R> {
        // SAFETY: the caller's promise.
        let mapped = unsafe { self.walk(reader, address) }?;
        if let Some(result) = self.peek_at(mapped, address, &mut read) {
            Stages::count(&stages.walk);
            return Some(result);
        }
        // SAFETY: as above.
        unsafe { self.lock_found(domain, address, mapped, stages) }.map(|held| read(held.get()))
    }

    /// Locks the mapping that `address` lies in. Waits for whoever holds it; not in a signal handler.
    ///
    /// # Safety
    /// As [`look`](RangeMap::look).
    pub unsafe fn find_and_lock(
        &self,
        reader: &Reader,
        domain: &Domain,
        address: usize,
        stages: &Stages,
    ) -> Option<Held<T>> {
        // SAFETY: the caller's promise.
        let mapped = unsafe { self.walk(reader, address) }?;
        let mapping = mapped.mapping();
        if let Some(count) = mapping.lock.count()
            && mapping.is_of(self.identity(), address)
            && mapping.lock.lock_at(count)
        {
            Stages::count(&stages.walk);
            return Some(Held { mapped });
        }
        // SAFETY: as above.
        unsafe { self.lock_found(domain, address, mapped, stages) }
    }

    /// # Safety
    /// As [`look`](RangeMap::look).
    unsafe fn walk(&self, reader: &Reader, address: usize) -> Option<&'static T> {
        let section = reader.read_lock();
        // SAFETY: the caller's promise.
        unsafe { self.view(&section) }.get(address)
    }

    /// The second stage and the third, outside of any section of ours: they wait.
    ///
    /// # Safety
    /// As [`look`](RangeMap::look).
    #[cold]
    unsafe fn lock_found(
        &self,
        domain: &Domain,
        address: usize,
        mapped: &'static T,
        stages: &Stages,
    ) -> Option<Held<T>> {
        let held = Held::lock(mapped);
        if held.mapping().is_of(self.identity(), address) {
            Stages::count(&stages.mapping);
            return Some(held);
        }
        drop(held);
        loop {
            // SAFETY: the caller's promise.
            let writer = unsafe { self.write(domain) };
            let mapped = writer.view().get(address)?;
            // Lazily: a `Held` that is dropped lets go.
            let held = mapped.mapping().lock.try_lock().then(|| Held { mapped });
            drop(writer);
            let held = held.unwrap_or_else(|| Held::lock(mapped));
            if held.mapping().is_of(self.identity(), address) {
                Stages::count(&stages.map);
                return Some(held);
            }
            // Its holder took it out, or cut it, while we waited: what the map says now is another.
        }
    }
}
