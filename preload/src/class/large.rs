//! Large blocks: page runs of their own, past the largest class.
//!
//! A large block is a run of pages from the zone, every one of whose memdesc words names the same
//! out-of-line descriptor, so an interior pointer is recognised anywhere in it. `free` swaps the
//! descriptor's state from live to deferred: whoever finds it deferred already is a double free,
//! caught at once. The descriptor carries the cookie and the link of the queue it waits in, so
//! freeing a large block needs no memory (G4). The queue is their own batch, apart from the
//! magazines', with its bytes in the common account; what has elapsed goes back to the zone,
//! whose excess of dirty pages goes back to the system.
//!
//! The queue and the descriptors' links are under one lock, taken for a few instructions.

use crate::class::Torn;
use crate::class::backlog::{self, Closed, DOMAIN};
use crate::class::depot;
use crate::class::size_class::SMALL_MAX;
use crate::constants::PAGE;
use crate::os::lock::Lock;
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::meta::{MetaObject, MetaPool};
use crate::page::{Page, watermark, zone};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use rcu::{Batch, Cookie};

const LIVE: u32 = 1;
const DEFERRED: u32 = 2;

/// Descriptor of a large block. Type-stable.
#[repr(C, align(64))]
struct Descriptor {
    /// Link of the descriptors' free list, and of the queue of deferred blocks.
    link: AtomicUsize,
    base: AtomicUsize,
    pages: AtomicUsize,
    /// The size the program asked for.
    asked: AtomicUsize,
    cookie: AtomicU64,
    state: AtomicU32,
}

// SAFETY: `link` is used by the pool only while the descriptor is on its free list; zero bytes
// are a valid descriptor of nothing.
unsafe impl MetaObject for Descriptor {
    fn free_link(&self) -> &AtomicUsize {
        &self.link
    }
}

static DESCRIPTORS: MetaPool<Descriptor> = MetaPool::new();

/// The deferred large blocks, oldest first.
pub struct Waiting {
    head: Option<LargeRef>,
    tail: Option<LargeRef>,
    count: usize,
    bytes: usize,
    credit: usize,
}

static WAITING: Lock<Waiting> =
    Lock::new(Waiting { head: None, tail: None, count: 0, bytes: 0, credit: backlog::START_BYTES });

static LIVE_COUNT: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

/// A handle on a large block's descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LargeRef(NonNull<Descriptor>);

// SAFETY: a handle is an address; what it may be used for is said at each method.
unsafe impl Send for LargeRef {}

impl LargeRef {
    /// The large block whose pages hold `addr`.
    #[inline]
    pub fn of(addr: usize) -> Option<LargeRef> {
        let word = memdesc::of(addr);
        if word.kind() != Kind::Large {
            return None;
        }
        NonNull::new(word.descriptor() as *mut Descriptor).map(LargeRef)
    }

    fn get<'a>(self) -> &'a Descriptor {
        // SAFETY: descriptors are type-stable and all their fields atomic.
        unsafe { self.0.as_ref() }
    }

    /// Its first byte.
    pub fn base(self) -> usize {
        self.get().base.load(Ordering::Relaxed)
    }

    /// Its usable bytes.
    pub fn bytes(self) -> usize {
        self.get().pages.load(Ordering::Relaxed) * PAGE
    }

    /// The size the program asked for.
    pub fn asked(self) -> usize {
        self.get().asked.load(Ordering::Relaxed)
    }

    /// Whether the program has it.
    pub fn is_live(self) -> bool {
        self.get().state.load(Ordering::Relaxed) == LIVE
    }
}

/// A freed block as a batch of its own.
struct Freed(LargeRef);

impl Batch for Freed {
    fn entries(&self) -> u32 {
        1
    }
    fn cookie(&self) -> Cookie {
        Cookie::from_bits(self.0.get().cookie.load(Ordering::Relaxed))
    }
    fn set_cookie(&mut self, cookie: Cookie) {
        self.0.get().cookie.store(cookie.to_bits(), Ordering::Relaxed);
    }
}

/// A block of `size` bytes aligned to `align` (a power of two). The flag says that every byte
/// is known to be zero. `None`: out of memory.
#[cold]
#[inline(never)]
pub fn alloc(size: usize, align: usize) -> Option<(usize, bool)> {
    reclaim();
    let pages = size.checked_add(PAGE - 1)? / PAGE;
    let pages = pages.max(1);
    let descriptor = DESCRIPTORS.alloc()?;
    let run = zone::alloc_run_zeroed(pages, align.max(PAGE));
    let Some((page, zeroed)) = run else {
        // SAFETY: allocated above and named by nothing.
        unsafe { DESCRIPTORS.free(descriptor) };
        return None;
    };
    let large = LargeRef(descriptor);
    let d = large.get();
    d.base.store(page.addr(), Ordering::Relaxed);
    d.pages.store(pages, Ordering::Relaxed);
    d.asked.store(size, Ordering::Relaxed);
    d.state.store(LIVE, Ordering::Relaxed);
    // SAFETY: the run was just allocated; `set` publishes the descriptor with Release.
    unsafe { memdesc::set(page, pages, word_of(large)) };
    LIVE_COUNT.fetch_add(1, Ordering::Relaxed);
    LIVE_BYTES.fetch_add(pages * PAGE, Ordering::Relaxed);
    ALLOCATED.fetch_add(1, Ordering::Relaxed);
    Some((page.addr(), zeroed))
}

fn word_of(large: LargeRef) -> Memdesc {
    Memdesc::new(Kind::Large, large.0.as_ptr() as usize, 0)
}

/// Why a large block could not be freed.
pub struct Refused;

/// Frees the block at `addr`: behind a grace period if `defer`, else at once.
///
/// # Errors
/// `addr` is not where a live large block starts.
pub fn free(addr: usize, defer: bool) -> Result<(), Refused> {
    let large = LargeRef::of(addr).ok_or(Refused)?;
    let d = large.get();
    if d.base.load(Ordering::Relaxed) != addr {
        return Err(Refused);
    }
    // Two threads that free the same block meet here; one of them loses.
    d.state.compare_exchange(LIVE, DEFERRED, Ordering::AcqRel, Ordering::Relaxed).map_err(|_| Refused)?;
    let bytes = large.bytes();
    LIVE_COUNT.fetch_sub(1, Ordering::Relaxed);
    LIVE_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    if defer {
        let over_budget = large.defer(bytes);
        reclaim();
        if over_budget {
            depot::drain_all();
        }
    } else {
        large.release();
        watermark::purge_excess();
    }
    Ok(())
}

impl LargeRef {
    /// Queues it; true if the backlog is over its budget.
    fn defer(self, bytes: usize) -> bool {
        let mut waiting = WAITING.lock();
        // Under the lock, so that cookies only grow towards the tail.
        let Closed { over_budget, .. } = backlog::stamp(Freed(self), bytes, &mut waiting.credit);
        let d = self.get();
        d.link.store(0, Ordering::Relaxed);
        match waiting.tail {
            Some(tail) => tail.get().link.store(self.0.as_ptr() as usize, Ordering::Relaxed),
            None => waiting.head = Some(self),
        }
        waiting.tail = Some(self);
        waiting.count += 1;
        waiting.bytes += bytes;
        over_budget
    }

    /// Gives the pages to the zone and the descriptor to its pool.
    fn release(self) {
        let d = self.get();
        let pages = d.pages.load(Ordering::Relaxed);
        d.state.store(0, Ordering::Relaxed);
        if let Some(page) = Page::new(self.base()) {
            // SAFETY: the block was freed and its grace period, if it needed one, has passed:
            // the run is ours alone.
            unsafe { zone::free_run(page, pages) };
        }
        // SAFETY: no memdesc names it any more; stale readers find a descriptor of nothing.
        unsafe { DESCRIPTORS.free(self.0) };
    }
}

/// Gives the deferred large blocks whose grace period has passed to the zone. Returns bytes.
pub fn reclaim() -> usize {
    let mut given = 0;
    // Unlocked peek: a stale answer costs a lock or waits for the next caller.
    while let Some(large) = take_elapsed() {
        let bytes = large.bytes();
        large.release();
        backlog::settle(bytes);
        given += bytes;
    }
    if given != 0 {
        backlog::relax_mark();
        watermark::purge_excess();
    }
    given
}

fn take_elapsed() -> Option<LargeRef> {
    let mut waiting = WAITING.lock();
    let large = waiting.head?;
    let cookie = Cookie::from_bits(large.get().cookie.load(Ordering::Relaxed));
    if !DOMAIN.poll(cookie) {
        return None;
    }
    let next = large.get().link.load(Ordering::Relaxed) as *mut Descriptor;
    waiting.head = NonNull::new(next).map(LargeRef);
    if waiting.head.is_none() {
        waiting.tail = None;
    }
    waiting.count -= 1;
    waiting.bytes -= large.bytes();
    Some(large)
}

/// Makes the live block at `addr` hold `size` bytes without moving it. `may_shrink`: nobody can
/// be reading the tail. True if it does now.
pub fn resize(addr: usize, size: usize, may_shrink: bool) -> bool {
    let Some(large) = LargeRef::of(addr) else { return false };
    let Some(rounded) = size.checked_add(PAGE - 1) else { return false };
    let (old, new) = (large.bytes() / PAGE, rounded / PAGE);
    let Some(page) = Page::new(large.base()) else { return false };
    let d = large.get();
    if size <= SMALL_MAX {
        return false;
    }
    if new < old && may_shrink {
        let Some(tail) = Page::new(page.addr() + new * PAGE) else { return false };
        d.pages.store(new, Ordering::Relaxed);
        LIVE_BYTES.fetch_sub((old - new) * PAGE, Ordering::Relaxed);
        // SAFETY: the tail belongs to the live block, whose owner gives it up here.
        unsafe { zone::free_run(tail, old - new) };
        watermark::purge_excess();
    } else if new > old {
        // SAFETY: the run is the live block's, whose owner is in this call.
        if !unsafe { zone::extend_run(page, old, new - old) } {
            return false;
        }
        let Some(tail) = Page::new(page.addr() + old * PAGE) else { return false };
        // SAFETY: the tail was just allocated for this block.
        unsafe { memdesc::set(tail, new - old, word_of(large)) };
        d.pages.store(new, Ordering::Relaxed);
        LIVE_BYTES.fetch_add((new - old) * PAGE, Ordering::Relaxed);
    } else if new * 2 < old {
        return false;
    }
    d.asked.store(size, Ordering::Relaxed);
    true
}

/// Figures of large blocks.
#[derive(Clone, Copy, Default)]
pub struct Census {
    /// Blocks with the program.
    pub live: usize,
    /// Their bytes.
    pub live_bytes: usize,
    /// Blocks that wait for a grace period.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// Blocks ever allocated.
    pub allocated: u64,
}

/// The figures as of now.
pub fn census() -> Census {
    let waiting = WAITING.lock();
    Census {
        live: LIVE_COUNT.load(Ordering::Relaxed),
        live_bytes: LIVE_BYTES.load(Ordering::Relaxed),
        waiting: waiting.count,
        waiting_bytes: waiting.bytes,
        allocated: ALLOCATED.load(Ordering::Relaxed),
    }
}

/// For fork: the lock of the queue.
pub fn lock() -> &'static Lock<Waiting> {
    &WAITING
}

impl Torn for Waiting {
    fn abandon(&mut self) {
        *self = Waiting { head: None, tail: None, count: 0, bytes: 0, credit: 0 };
    }
}
