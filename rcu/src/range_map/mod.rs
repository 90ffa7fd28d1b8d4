//! The range map: which range does this address belong to? Answered without a lock.
//!
//! A [`RangeMap`] holds disjoint ranges of addresses, each with a value of 8 bytes. Readers walk inside a
//! section of a [`Domain`](crate::Domain), with no lock and no store. Writers take one small lock; they
//! never edit what a reader may be in: they copy, overwrite one pointer, mark the old nodes dead and use
//! their memory again behind a grace period. Nothing here allocates: memory for nodes comes from the
//! caller's [`NodeSource`].
//!
//! ```
//! use core::num::NonZeroU64;
//! use quiescent::range_map::{Node, RangeMap};
//! use quiescent::{Domain, ReaderBlock, ReaderCell, ReaderWord};
//!
//! static DOMAIN: Domain = Domain::new(1);
//! static CELLS: [ReaderCell; 32] = [const { ReaderCell::new() }; 32];
//! static WORDS: [ReaderWord; 1] = [const { ReaderWord::new() }; 1];
//! static BLOCK: ReaderBlock = ReaderBlock::new(&WORDS, &CELLS);
//!
//! /// Memory for nodes: a program that has no heap would take it from a page of its own.
//! fn node() -> Option<&'static mut Node> {
//!     Some(Box::leak(Box::new(Node::new())))
//! }
//! static MAP: RangeMap<NonZeroU64, fn() -> Option<&'static mut Node>> = RangeMap::new(node);
//!
//! DOMAIN.init();
//! assert!(DOMAIN.add_block(&BLOCK));
//! let reader = DOMAIN.register(0).expect("there is room for 32");
//! let value = |number| NonZeroU64::new(number).expect("not zero");
//!
//! // SAFETY: this map is used with this domain only, here and below.
//! let mut writer = unsafe { MAP.write(&DOMAIN) };
//! writer.insert(0x1000..0x5000, value(1))?;
//! writer.insert(0x8000..0x9000, value(2))?;
//! assert!(writer.insert(0x4000..0x6000, value(3)).is_err()); // 0x1000-0x5000 is in the way
//! writer.store(0x4000..0x5000, Some(value(4)))?; // cuts it in two
//! drop(writer);
//!
//! let section = reader.read_lock();
//! // SAFETY: as above.
//! let view = unsafe { MAP.view(&section) };
//! assert_eq!(view.get(0x3fff), Some(value(1)));
//! assert_eq!(view.find(0x4001).map(|entry| entry.range()), Some(0x4000..0x5000));
//! assert_eq!(view.get(0x7000), None);
//! assert_eq!(view.iter(0..usize::MAX).count(), 3);
//! # Ok::<(), quiescent::range_map::Refused>(())
//! ```
//!
//! # Reading order
//!
//! `node` (256 bytes), `root`, `walk` (readers), `stock` (where nodes come from and wait), `path` and
//! `items` with
//! `splice` (the one change that all changes are), `write` (the writer), `measure` (the largest gap or
//! range, and searches for it), `check`, `lock`.
//!
//! Borrowed ideas: a B-tree of ranges whose nodes are replaced under readers and carry a mark when they are
//! dead, and the largest gap beside each child, from the kernel's maple tree.

use core::cell::UnsafeCell;
use core::marker::PhantomData;

mod check;
mod items;
mod lock;
mod measure;
mod node;
mod path;
mod root;
mod splice;
mod staged;
mod stock;
mod walk;
mod write;

pub use check::Shape;
pub use lock::{Futex, SequenceLock, Sleep};
pub use measure::{Fit, Gaps, Measure, Ranges, Unmeasured};
pub use node::Node;
pub use staged::{Held, Mapped, Mapping, Stages, Walked};
pub use walk::{Cursor, Entry, View};
pub use write::{Refused, Value, Writer};

use crate::domain::Domain;
use crate::reader::Guard;
use crate::sync::const_unless_loom;
use root::Root;
use splice::Bench;
use stock::Stock;

/// Where a map's nodes come from. Asked under the map's lock, before a change begins and only if replaced
/// nodes do not suffice; what it gave is the map's for ever.
pub trait NodeSource {
    /// Whether a grace period that many nodes wait for is ended by force. Not where sections are short and
    /// writers have little stack.
    const EXPEDITES: bool = true;

    /// Memory for one node; None if there is no more now.
    fn node(&mut self) -> Option<&'static mut Node>;
}

impl<F: FnMut() -> Option<&'static mut Node>> NodeSource for F {
    fn node(&mut self) -> Option<&'static mut Node> {
        self()
    }
}

/// A map of disjoint ranges of addresses, below `usize::MAX`. See the [module](self). Make it a `static`:
/// its nodes are not given back.
pub struct RangeMap<V, N: NodeSource, M: Measure = Unmeasured, S: Sleep = Futex> {
    root: Root,
    lock: SequenceLock<S>,
    /// Under the lock.
    stock: UnsafeCell<Stock<N>>,
    /// Under the lock, too.
    bench: UnsafeCell<Bench>,
    of: PhantomData<fn() -> (V, M)>,
}

// SAFETY: values are given to and from any thread; stock and bench are the lock holder's.
unsafe impl<V: Send + Sync, N: NodeSource + Send, M: Measure, S: Sleep> Sync for RangeMap<V, N, M, S> {}

impl<V: Value, N: NodeSource, M: Measure, S: Sleep> RangeMap<V, N, M, S> {
    const_unless_loom! {
        /// An empty map. It asks for its first nodes when something is stored.
        #[must_use]
        pub fn new(source: N) -> Self {
            RangeMap {
                root: Root::new(),
                lock: SequenceLock::new(),
                stock: UnsafeCell::new(Stock::new(source)),
                bench: UnsafeCell::new(Bench::new()),
                of: PhantomData,
            }
        }
    }

    /// The map as the section sees it.
    ///
    /// # Safety
    /// The section is one of the domain that this map's writers are given.
    #[inline]
    #[must_use]
    pub unsafe fn view<'a>(&'a self, _section: &'a Guard<'_>) -> View<'a, V, M> {
        // SAFETY: the caller's promise: nodes that the section may find wait for its end.
        unsafe { View::new(&self.root) }
    }

    /// Takes the lock to change the map.
    ///
    /// # Safety
    /// All writers of this map are given the same domain.
    pub unsafe fn write<'a>(&'a self, domain: &'a Domain) -> Writer<'a, V, N, M, S> {
        self.lock.lock();
        // SAFETY: the caller's promise, and the lock.
        unsafe { Writer::new(self, domain, false) }
    }

    /// Takes the lock to change the map where nobody can be reading: nodes are edited in place, and none
    /// waits.
    ///
    /// # Safety
    /// As [`write`](RangeMap::write); no section that looks at the map is open, nor begins while the
    /// writer lives.
    pub unsafe fn write_alone<'a>(&'a self, domain: &'a Domain) -> Writer<'a, V, N, M, S> {
        self.lock.lock();
        // SAFETY: the caller's promise, and the lock.
        unsafe { Writer::new(self, domain, true) }
    }

    /// Lets the lock go without its writer: one that was forgotten for a fork, in parent and child.
    ///
    /// # Safety
    /// The lock is held through a writer that was forgotten, by this thread or by the one that forked it.
    pub unsafe fn force_unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.unlock() }
    }

    /// As [`force_unlock`](RangeMap::force_unlock), where the writer was interrupted in the middle of a
    /// change and will not finish it: the change was made or was not, and the nodes that were in hand, free
    /// or waiting are lost.
    ///
    /// # Safety
    /// As there, and nobody but that writer holds the lock.
    pub unsafe fn abandon_writer(&self) {
        // SAFETY: the lock is held for somebody who does not look at the stock any more.
        unsafe { (*self.stock.get()).abandon() };
        // SAFETY: the caller's promise.
        unsafe { self.force_unlock() };
    }
}
