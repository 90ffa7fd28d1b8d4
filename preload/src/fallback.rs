//! The crate where there is no heap of ours: the system's allocator behind the same names.
//!
//! Sections are counted, so that [`synchronize`] and [`retire`] keep their promises by waiting, in the
//! calling thread, until no section is open. Deallocations are the system's and wait for nothing: [`DEFERS`]
//! says so.

use crate::types::{Check, Owner, Stats};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// The system's allocator: on this target nothing is deferred.
#[derive(Clone, Copy, Default, Debug)]
pub struct RcuMalloc;

// SAFETY: the system's.
unsafe impl GlobalAlloc for RcuMalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Whether deallocations wait for sections: here they do not.
pub const DEFERS: bool = false;

/// Outermost sections that are open, by the parity of when they were opened: who waits turns it over and
/// waits for the old half, so that sections opened meanwhile do not keep it waiting.
static OPEN: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static TURN: AtomicUsize = AtomicUsize::new(0);
/// One waits at a time.
static WAITING: Mutex<()> = Mutex::new(());

thread_local! {
    /// How deep the thread's sections are nested, and in which half the outermost is counted.
    static OWN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// A read-side section of the calling thread; ends when dropped.
#[must_use = "the section ends when the guard is dropped"]
pub struct Guard {
    /// A section belongs to its thread.
    here: PhantomData<*const ()>,
}

/// Opens a read-side section: nothing that is retired from now on is dropped before it ends.
pub fn read() -> Guard {
    let (depth, half) = OWN.get();
    if depth > 0 {
        OWN.set((depth + 1, half));
    } else {
        let half = TURN.load(Ordering::SeqCst) % 2;
        // SeqCst, as in `synchronize`: either it sees this section, or this section sees what was unlinked
        // before it.
        OPEN[half].fetch_add(1, Ordering::SeqCst);
        OWN.set((1, half));
    }
    Guard { here: PhantomData }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (depth, half) = OWN.get();
        OWN.set((depth - 1, half));
        if depth == 1 {
            // Release: pairs with the load in `synchronize`; what the section read, it read before.
            OPEN[half].fetch_sub(1, Ordering::Release);
        }
    }
}

/// Waits until every section that has begun has ended.
///
/// # Panics
/// Inside a section of the calling thread.
pub fn synchronize() {
    assert!(OWN.get().0 == 0, "waiting for a grace period inside a read-side section would never end");
    let _one = WAITING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Twice: a section that read the turn before it changed may count itself in the old half after we looked.
    for _ in 0..2 {
        let half = TURN.fetch_add(1, Ordering::SeqCst) % 2;
        // SeqCst: see `read`.
        while OPEN[half].load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
    }
}

/// Waits as [`synchronize`] does: nothing else is pending.
///
/// # Panics
/// As [`synchronize`].
pub fn barrier() {
    synchronize();
}

/// Drops `value` once every section that has begun by now has ended: here in the calling thread, which waits.
///
/// # Panics
/// As [`synchronize`].
pub fn retire<T: Send + 'static>(value: Box<T>) {
    synchronize();
    drop(value);
}

/// The block around an address: unknown here.
pub fn owner<T: ?Sized>(address: *const T) -> Option<Owner> {
    let _ = address;
    None
}

/// What a block is to the section that asks: unknown here.
pub fn check<T: ?Sized>(address: *const T) -> Check {
    let _ = address;
    Check::Unknown
}

/// Whether an address lies in a block of this heap: here there is none.
pub fn owns<T: ?Sized>(address: *const T) -> bool {
    let _ = address;
    false
}

/// The figures of the heap: zeros, for here there is none of ours.
pub fn stats() -> Stats {
    Stats::default()
}

/// What a [`Pool`] has got from the system, as addresses.
#[derive(Default)]
struct Objects {
    all: Vec<usize>,
    free: Vec<usize>,
}

/// A pool of objects of one type: freed ones may be handed out again at once, and their memory is nothing
/// else until the pool is dropped, which waits as [`synchronize`] does.
///
/// It neither creates nor drops a `T`: memory is zeros the first time and what it was freed as after that. A
/// pool that is dropped before all its objects have been freed panics.
pub struct Pool<T> {
    objects: Mutex<Objects>,
    of: PhantomData<fn() -> T>,
}

impl<T> Pool<T> {
    /// An empty pool. `None`: `T` has no bytes, has more than 1 MiB of them, or wants to be aligned to more
    /// than 4096.
    pub fn new(_name: &str) -> Option<Pool<T>> {
        let is_possible = (1..=1 << 20).contains(&size_of::<T>()) && align_of::<T>() <= 4096;
        is_possible.then(|| Pool { objects: Mutex::default(), of: PhantomData })
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Memory for an object. `None`: there is none.
    pub fn alloc(&self) -> Option<NonNull<T>> {
        let mut objects = self.objects();
        if let Some(object) = objects.free.pop() {
            return NonNull::new(object as *mut T);
        }
        // SAFETY: a `T` has bytes.
        let object = NonNull::new(unsafe { System.alloc_zeroed(Layout::new::<T>()) })?;
        objects.all.push(object.as_ptr() as usize);
        Some(object.cast())
    }

    /// Gives an object back, which may be handed out again at once.
    ///
    /// # Safety
    /// It came from this pool and nobody has it any more, but for sections that ask it what it is.
    pub unsafe fn free(&self, object: NonNull<T>) {
        self.objects().free.push(object.as_ptr() as usize);
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        synchronize();
        let objects = self.objects();
        // What somebody has still is left to them.
        assert!(objects.all.len() == objects.free.len(), "a pool is dropped before its objects are freed");
        for &object in &objects.all {
            // SAFETY: from `alloc`; nobody has it, and no section can find it any more.
            unsafe { System.dealloc(object as *mut u8, Layout::new::<T>()) };
        }
    }
}
