//! A collector: a domain on the heap, with room for as many threads as come, and what they have left behind.
//!
//! There is at most one collector of a *brand*, a type that its user chooses (as a rule an empty one of their
//! own). So what the brands of a guard and of a pointer say is what happens: a pointer of a brand is read
//! under a section of the one domain whose periods protect it, and the compiler refuses any other guard.

use core::any::TypeId;
use core::fmt;
use core::marker::PhantomData;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::garbage::{self, Pot};
use super::guard::{Guard, HandleGuard};
use super::local::{Local, lock};
use super::{Brand, Global};
use crate::block::{CELLS_PER_BLOCK, CELLS_PER_WORD, ReaderBlock, ReaderWord};
use crate::cell::ReaderCell;
use crate::domain::Domain;
use crate::reader::Reader;

/// Cells of a collector's first block; each further one holds four times as many.
const FIRST_CELLS: usize = 32;

/// Between two looks of a barrier at those who destroy: what they do takes microseconds, or as long as the
/// caller's destructors take.
const BARRIER_LOOKS: Duration = Duration::from_micros(50);

/// A domain and everything that belongs to it. It lives as long as a handle, a guard, or a thread that has
/// read under it.
pub(super) struct State {
    pub(super) domain: Domain,
    /// Of the threads, and at the end that of those that ended. The outer lock before an inner one.
    pub(super) pots: Mutex<Vec<Arc<Mutex<Pot>>>>,
    orphans: Arc<Mutex<Pot>>,
    rooms: Mutex<Vec<Room>>,
}

/// A block on the heap and its parts; freed with the state.
struct Room {
    block: *mut ReaderBlock,
    words: *mut [ReaderWord],
    cells: *mut [ReaderCell],
}

// SAFETY: owned memory of types that are `Sync`.
unsafe impl Send for Room {}

impl Room {
    fn new(capacity: usize) -> Room {
        let words = (0..capacity.div_ceil(CELLS_PER_WORD)).map(|_| ReaderWord::new()).collect::<Box<[_]>>();
        let cells = (0..capacity).map(|_| ReaderCell::new()).collect::<Box<[_]>>();
        let (words, cells) = (Box::into_raw(words), Box::into_raw(cells));
        // SAFETY: both live until the room is dropped, with the state, when nobody reads any more.
        let block = unsafe { ReaderBlock::new(&*words, &*cells) };
        Room { block: Box::into_raw(Box::new(block)), words, cells }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: out of boxes, in `new`; a room is dropped with its state, which every reader keeps alive.
        unsafe {
            drop(Box::from_raw(self.block));
            drop(Box::from_raw(self.words));
            drop(Box::from_raw(self.cells));
        }
    }
}

impl State {
    fn new() -> State {
        // Cookies of collectors stay inside; the tag finds mistakes in here, and repeats after 255.
        static TAGS: AtomicU8 = AtomicU8::new(0);
        let domain = Domain::new(TAGS.fetch_add(1, Relaxed) % u8::MAX + 1);
        domain.init();
        State { domain, pots: Mutex::default(), orphans: Arc::default(), rooms: Mutex::default() }
    }

    /// Registers the calling thread.
    pub(super) fn register(self: &Arc<Self>) -> Reader {
        // SAFETY: the domain does not move, and `Local` keeps the state longer than the reader.
        let domain: &'static Domain = unsafe { &*core::ptr::from_ref(&self.domain) };
        loop {
            if let Ok(reader) = domain.register(crate::clock::thread_id()) {
                return reader;
            }
            let mut rooms = lock(&self.rooms);
            // Somebody may have made room, or ended, meanwhile.
            if let Ok(reader) = domain.register(crate::clock::thread_id()) {
                return reader;
            }
            let room = Room::new((FIRST_CELLS << (2 * rooms.len().min(8))).min(CELLS_PER_BLOCK));
            // SAFETY: the block lives as long as the state.
            let added = domain.add_block(unsafe { &*room.block });
            debug_assert!(added, "a new block");
            rooms.push(room);
        }
    }

    /// Takes over what a thread that ends has waiting.
    pub(super) fn adopt(&self, pot: &Arc<Mutex<Pot>>) {
        let mut pots = lock(&self.pots);
        lock(pot).pour_into(&mut lock(&self.orphans), &self.domain);
        pots.retain(|other| !Arc::ptr_eq(other, pot));
    }

    /// Destroys what threads that ended left, where it has waited long enough. With no lock held.
    pub(super) fn tend_orphans(&self) {
        let elapsed = match self.orphans.try_lock() {
            Ok(mut pot) => pot.take_elapsed(&self.domain),
            Err(_) => None, // somebody is at it
        };
        if let Some((bags, _running)) = elapsed {
            garbage::run(bags);
        }
    }

    /// Waits until everything that was deferred before the call has been destroyed, and helps. With no lock
    /// held while it destroys.
    pub(super) fn barrier(&self, local: &Local) {
        let mut running = Vec::new();
        let pots: Vec<_> = {
            let pots = lock(&self.pots);
            // The orphans last: what a thread that ends meanwhile had, is there, or was taken from its pot.
            let all: Vec<_> = pots.iter().chain([&self.orphans]).cloned().collect();
            all.iter().for_each(|pot| lock(pot).seal(&self.domain, &mut running));
            all
        };
        local.synchronize();
        for pot in pots {
            let elapsed = {
                let mut pot = lock(&pot);
                pot.seal(&self.domain, &mut running);
                pot.take_elapsed(&self.domain)
            };
            if let Some((bags, _running)) = elapsed {
                garbage::run(bags);
            }
        }
        while running.iter().any(|other| other.strong_count() != 0) {
            std::thread::sleep(BARRIER_LOOKS);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The last handle, guard and thread are gone: nobody reads.
        let pots = core::mem::take(&mut *lock(&self.pots));
        for pot in pots.iter().chain([&self.orphans]) {
            let mut pot = core::mem::take(&mut *lock(pot));
            pot.run_all();
        }
    }
}

/// The states there are, by brand.
static BRANDS: Mutex<Vec<(TypeId, Weak<State>)>> = Mutex::new(Vec::new());

/// The collector of brand `B`, if there is one.
pub(super) fn state_of<B: 'static>() -> Option<Arc<State>> {
    let brands = lock(&BRANDS);
    brands.iter().find(|(brand, _)| *brand == TypeId::of::<B>()).and_then(|(_, state)| state.upgrade())
}

fn state_or_new<B: 'static>() -> Arc<State> {
    let mut brands = lock(&BRANDS);
    let brand = TypeId::of::<B>();
    if let Some(state) =
        brands.iter().find(|(other, _)| *other == brand).and_then(|(_, state)| state.upgrade())
    {
        return state;
    }
    let state = Arc::new(State::new());
    brands.retain(|(_, state)| state.strong_count() != 0);
    brands.push((brand, Arc::downgrade(&state)));
    state
}

thread_local! {
    static GLOBAL: Rc<Local> = Rc::new(Local::register(&state_or_new::<Global>()));
    static OTHERS: RefCell<Vec<Rc<Local>>> = const { RefCell::new(Vec::new()) };
}

/// The calling thread's part of the default collector. One for the moment, where the thread is just ending.
#[inline]
pub(super) fn global<R>(then: impl FnOnce(&Rc<Local>) -> R) -> R {
    let mut then = Some(then);
    let done = GLOBAL.try_with(|local| then.take().map(|then| then(local)));
    match (done, then) {
        (Ok(Some(done)), _) => done,
        (_, Some(then)) => then(&Rc::new(Local::register(&state_or_new::<Global>()))),
        _ => unreachable!("called or not called"),
    }
}

/// The calling thread's part of the collector that `state` is.
pub(super) fn local_of(state: &Arc<State>) -> Rc<Local> {
    let found = OTHERS.try_with(|others| {
        let mut others = others.borrow_mut();
        if let Some(local) = others.iter().find(|local| Arc::ptr_eq(local.state(), state)) {
            return Rc::clone(local);
        }
        let local = Rc::new(Local::register(state));
        others.push(Rc::clone(&local));
        local
    });
    found.unwrap_or_else(|_| Rc::new(Local::register(state)))
}

/// A domain of one's own, for a structure whose long sections must hold up nobody else's periods (the
/// kernel's SRCU).
///
/// ```
/// use quiescent::epoch::{Atomic, Collector};
/// use std::sync::atomic::Ordering::Acquire;
///
/// struct Names; // the brand
/// let collector = Collector::<Names>::new();
/// let name: Atomic<&str, Names> = Atomic::new("Paul");
/// let guard = collector.pin();
/// assert_eq!(name.load(Acquire, &guard).as_ref(), Some(&"Paul"));
/// # // SAFETY: the one thread there is retires it, once, and reads it no more.
/// # unsafe { guard.defer_destroy(name.load(Acquire, &guard)) };
/// ```
#[repr(transparent)]
pub struct Collector<B = Global> {
    state: Arc<State>,
    brand: Brand<B>,
}

impl<B> Collector<B> {
    /// What keeps a state of brand `B` is a collector.
    pub(super) fn of(state: &Arc<State>) -> &Self {
        // SAFETY: transparent around the same type, and the reference keeps its lifetime.
        unsafe { &*core::ptr::from_ref(state).cast() }
    }
}

impl<B> PartialEq for Collector<B> {
    /// The same collector.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

impl<B> Eq for Collector<B> {}

impl<B> fmt::Debug for Collector<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl<B> Clone for Collector<B> {
    fn clone(&self) -> Self {
        Collector { state: Arc::clone(&self.state), brand: PhantomData }
    }
}

impl<B: 'static> Default for Collector<B> {
    fn default() -> Self {
        Collector::new()
    }
}

impl<B: 'static> Collector<B> {
    /// The collector of brand `B`, made if there is none. It lives as long as a handle, a guard, or a thread
    /// that has pinned it; with it everything that is still deferred is destroyed.
    #[must_use]
    pub fn new() -> Self {
        Collector { state: state_or_new::<B>(), brand: PhantomData }
    }

    /// Opens a section of the calling thread, which is registered the first time and until it ends.
    pub fn pin(&self) -> Guard<B> {
        Guard::enter(&local_of(&self.state))
    }

    /// Registers the calling thread, for as long as the handle lives: quicker to pin than the collector.
    #[must_use]
    pub fn register(&self) -> LocalHandle<B> {
        LocalHandle { local: Rc::new(Local::register(&self.state)), brand: PhantomData }
    }

    /// Waits until every section has ended that is open now.
    ///
    /// # Panics
    /// Under a guard of [`pin`](Self::pin) of the calling thread, which it would wait for.
    pub fn synchronize(&self) {
        local_of(&self.state).synchronize();
    }

    /// Waits until everything that was deferred so far, by any thread, has been destroyed.
    ///
    /// # Panics
    /// As [`synchronize`](Self::synchronize), and in something that is being destroyed.
    pub fn barrier(&self) {
        local_of(&self.state).barrier();
    }

    /// The domain, to be watched: [`stalled`](Domain::stalled) names the threads whose sections hold
    /// everything up.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.state.domain
    }
}

/// A thread's registration. Waiting takes it `&mut`, so that no section of its is open:
///
/// ```compile_fail,E0502
/// use quiescent::epoch::Collector;
/// struct Names;
/// let mut handle = Collector::<Names>::new().register();
/// let guard = handle.pin();
/// handle.synchronize(); // would wait for `guard`
/// drop(guard);
/// ```
///
/// Nor does a guard leave its thread:
///
/// ```compile_fail,E0277
/// let guard = quiescent::epoch::pin();
/// std::thread::spawn(move || drop(guard));
/// ```
pub struct LocalHandle<B = Global> {
    local: Rc<Local>,
    brand: Brand<B>,
}

impl<B: 'static> LocalHandle<B> {
    /// Opens a section.
    pub fn pin(&self) -> HandleGuard<'_, B> {
        HandleGuard::enter(&self.local)
    }

    /// True in a section.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.local.depth() != 0
    }

    /// Waits until every section has ended that is open now.
    pub fn synchronize(&mut self) {
        self.local.synchronize();
    }

    /// As [`Collector::barrier`].
    pub fn barrier(&mut self) {
        self.local.barrier();
    }

    /// Its collector.
    #[must_use]
    pub fn collector(&self) -> &Collector<B> {
        Collector::of(self.local.state())
    }
}

impl<B> fmt::Debug for LocalHandle<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalHandle").finish_non_exhaustive()
    }
}
