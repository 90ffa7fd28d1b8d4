//! Sections and shared pointers for programs: threads register themselves, and what is unlinked is destroyed
//! when nobody can see it any more. The names are crossbeam-epoch's: change `use crossbeam_epoch` to `use
//! quiescent::epoch`.
//!
//! Two things are different. Reading a [`Shared`] is safe: the types see to it that it was read under a guard
//! of the right domain that still lives, and orderings that are too weak are raised; what is left to promise
//! is [`defer_destroy`](Guard::defer_destroy)'s. And domains have *brands*: a guard of one does not open a
//! pointer of another.
//!
//! From that follows what else must change in code that is moved: [`Shared::from_raw`] and
//! [`Atomic::from_raw`], unsafe, stand where crossbeam-epoch has `From<*const T>`; a collector of one's own
//! needs a brand, for `Collector::new()` of the default brand is the default collector; and the guard of a
//! [`LocalHandle`] lends the handle ([`HandleGuard`]), which a temporary does not outlive. Not there are
//! pointers to slices (`Pointable`, `Owned::init`) and the deprecated `compare_and_set`. crossbeam's own skip
//! list, queue, list and stack pass their tests over these types with eight lines changed; `cargo xtask
//! ported` of the repository shows them.
//!
//! | | |
//! |---|---|
//! | [`pin`], [`Guard`], [`HandleGuard`] | a section |
//! | [`Atomic`], [`Owned`], [`Shared`] | a pointer that is shared, one that is not yet, one that was read |
//! | [`Current`] | a value that is replaced whole, without `unsafe` |
//! | [`Guard::defer`], [`Guard::defer_destroy`] | what happens when every section of now has ended |
//! | [`synchronize`], [`barrier`] | waiting for that |
//! | [`Collector`], [`LocalHandle`] | a domain of one's own |
//!
//! *Bounds.* A thread holds fewer than 64 deferred calls that wait for more; those it has let go, 64 in a
//! bag, wait for a period, which it asks for from the fourth bag on (one `membarrier`). So with sections that
//! end, a thread holds some hundreds of calls; one that stays open holds everything that is deferred
//! meanwhile, and [`Domain::stalled`](crate::Domain::stalled) names it. Calls are made where a thread ends
//! its outermost section, never under a lock. A thread that ends leaves its calls to the others.
//!
//! *Cost.* A `pin` is a thread-local look-up, a count and the engine's lock: no fence (on x86-64 Linux with
//! `membarrier`; elsewhere one fence).

mod atomic;
mod collector;
mod current;
mod garbage;
mod guard;
mod local;
mod pointer;

pub use atomic::{Atomic, CompareExchangeError};
pub use collector::{Collector, LocalHandle};
pub use current::Current;
pub use guard::{Guard, HandleGuard, unprotected};
pub use pointer::{Owned, Pointer, Shared};

/// Ties a type to the brand `B`, and to no other that is a sub- or supertype of it.
type Brand<B> = core::marker::PhantomData<fn(B) -> B>;

/// The brand of the default collector.
pub enum Global {}

/// Opens a section in the default collector.
#[inline]
pub fn pin() -> Guard {
    collector::global(Guard::enter)
}

/// True if the calling thread is in a section of the default collector.
#[must_use]
pub fn is_pinned() -> bool {
    collector::global(|local| local.depth() != 0)
}

/// The default collector. It lives for ever, once somebody has asked for it here.
#[must_use]
pub fn default_collector() -> &'static Collector {
    static DEFAULT: std::sync::LazyLock<Collector> = std::sync::LazyLock::new(Collector::new);
    &DEFAULT
}

/// Waits until every section of the default collector has ended that is open now.
///
/// # Panics
/// Under a guard of the calling thread, which it would wait for.
pub fn synchronize() {
    collector::global(|local| local.synchronize());
}

/// Waits until everything that was deferred in the default collector so far, by any thread, has been
/// destroyed.
///
/// # Panics
/// Under a guard of the calling thread, and in something that is being destroyed.
pub fn barrier() {
    collector::global(|local| local.barrier());
}
