//! The shelf: those of a thread's magazines that others may take.
//!
//! Waiting and full magazines belong to a thread for speed, not for good: a thread that sleeps
//! for ever must not keep them (`producer_consumer_idle_owner`). So they lie on a shelf that one
//! thread at a time has open, the owner or a taker. Nobody ever waits for it on a path of malloc
//! or free: an owner that finds a taker at its shelf goes to the depot for this once, a taker that
//! finds it open goes on to the next one. Opening is one exchange, closing one store, once a turn.
//!
//! A taker, who is over the budget or out of memory, moves everything of an *idle* thread, one
//! that has turned no magazine since a taker last came by, to the depot, or to the slabs if its
//! grace period has passed. What a thread may keep in the first place is its part of twice the
//! budget: the more threads are busy, the less ([`note_busy`]). Those that sleep do not count: what they have
//! is taken when somebody is over the budget, and by age.

use crate::cache::ready::Ready;
use crate::cache::registry;
use crate::cache::seats::{self, Seat};
use crate::cache::thread_cache::{ThreadCache, ask};
use crate::class::backlog;
use crate::class::depot;
use crate::class::group;
use crate::class::large_batch::{self, Queue};
use crate::class::lists::Stack;
use crate::class::magazine::{self, Magazine};
use crate::class::size_class::{CLASSES, Class};
use crate::class::waiting;
use crate::class::work::Work;
pub use crate::constants::SHARE_LEAST;
use crate::constants::{
    BUSY_LOOKS, FILL_ENOUGH, FILL_LEAST, FILL_MOST, FILL_SHARE, FILL_TOGETHER, SEAL_MOST, SEAL_SHARE,
    SHELF_FILLS, SHELF_MOST,
};
use crate::os::tls::thread_pointer;
use crate::page::{back_off, zone};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Bytes a thread may keep on its shelf, as of now.
#[unsafe(link_section = ".data")]
static SHARE: AtomicUsize = AtomicUsize::new(SHELF_MOST);
/// Threads that share twice the budget, as of now; as good as endless after a scan.
#[unsafe(link_section = ".data")]
static SHARERS: AtomicUsize = AtomicUsize::new(1);

/// Bytes that a thread's filling magazines may hold together ([`ThreadCache::note_turn`]), as of now.
#[unsafe(link_section = ".data")]
static FILL: AtomicUsize = AtomicUsize::new(FILL_ENOUGH);

/// Bytes that a thread's filling magazines may hold together.
#[inline(always)]
pub fn fill_bytes() -> usize {
    FILL.load(Ordering::Relaxed)
}

/// Bytes that make a thread's open group one to be sealed.
#[inline(always)]
pub fn seal_bytes() -> usize {
    (fill_bytes() >> SEAL_SHARE).min(SEAL_MOST)
}

/// Sets what each thread's filling magazines may hold: its part of a share of the heap, or of what all
/// threads may hold however small the heap is.
pub fn look_at_heap() {
    let threads = backlog::threads();
    let least = (FILL_TOGETHER / threads).clamp(FILL_LEAST, FILL_ENOUGH);
    let part = (zone::used_bytes() >> FILL_SHARE) / threads;
    FILL.store(part.clamp(least, FILL_MOST), Ordering::Relaxed);
}

/// Bytes of small blocks that a thread may keep on its shelf: its part of the budget, and no more than a few
/// groups hold.
#[inline(always)]
pub fn share_bytes() -> usize {
    budget_share().min(fill_bytes() * SHELF_FILLS)
}

/// A thread's part of the budget, in bytes.
#[inline(always)]
pub fn budget_share() -> usize {
    SHARE.load(Ordering::Relaxed)
}

/// Bytes of large blocks that may wait on a thread's shelf: its part of twice the budget, however much that
/// is.
#[inline]
pub fn large_share_bytes() -> usize {
    2 * backlog::last_budget() / SHARERS.load(Ordering::Relaxed)
}

/// Threads that were busy in this decay period, so far, and in the last one. Relaxed, here and below: they
/// steer.
#[unsafe(link_section = ".data")]
static BUSY: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
/// Number of this decay period; never what a cache begins with.
#[unsafe(link_section = ".data")]
static PERIOD: AtomicU32 = AtomicU32::new(1);

/// There are `live` threads now. Each busy one may keep its part of twice the budget, after a scan the least.
#[unsafe(link_section = ".text_start")]
pub fn set_threads(live: usize) {
    backlog::set_threads(live);
    magazine::set_threads(live);
    look_at_heap();
    let [now, last] = BUSY.each_ref().map(|busy| busy.load(Ordering::Relaxed));
    let busy = now.max(last).min(live).max(1);
    SHARERS.store(if back_off::is_on() { usize::MAX } else { busy }, Ordering::Relaxed);
    SHARE.store(large_share_bytes().clamp(SHARE_LEAST, SHELF_MOST), Ordering::Relaxed);
}

/// A thread looks at the clock, as it does every 32 slow paths. `looks` is its own: how often in this period.
/// From some number on it is one busy thread more: what a thread carves to begin with does not make it one.
#[inline]
pub fn note_busy(looks: &mut (u32, u32)) {
    let period = PERIOD.load(Ordering::Relaxed);
    if looks.0 != period {
        *looks = (period, 0);
    }
    looks.1 = looks.1.saturating_add(1);
    if looks.1 == BUSY_LOOKS {
        count_busy();
    }
}

#[cold]
#[inline(never)]
fn count_busy() {
    let [now, last] = &BUSY;
    if now.fetch_add(1, Ordering::Relaxed) >= last.load(Ordering::Relaxed) {
        set_threads(registry::census().0);
    }
}

/// A decay period has passed: who was busy in the one before it does not count any more.
pub fn next_period() {
    let [now, last] = &BUSY;
    last.store(now.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    // 0 is what a cache begins with.
    let next = PERIOD.load(Ordering::Relaxed).wrapping_add(1).max(1);
    PERIOD.store(next, Ordering::Relaxed);
    set_threads(registry::census().0);
}

/// What lies on a shelf.
#[repr(C)]
pub struct Contents {
    /// Bytes of the blocks in full magazines.
    full_bytes: usize,
    /// Sealed groups.
    pub waiting: group::Queue,
    /// Magazines whose blocks may be handed out, marked in, by class.
    full: [Stack; CLASSES],
    /// Large blocks; not among the bytes above: those that may be handed out, ...
    pub ready: Ready,
    /// ... and closed batches of them that wait.
    pub large: Queue,
}

const CLOSED: usize = 0;
const BY_OWNER: usize = 1;
/// The rest of the word is the taker's thread pointer, a multiple of 8.
const BY_TAKER: usize = 2;
/// Open for somebody whom the child of a fork does not have, or for a frame that is gone.
const LEFT_OPEN: usize = 3;
/// The state is these bits.
const STATE: usize = 7;

fn by_taker() -> usize {
    thread_pointer() | BY_TAKER
}

/// Bytes on a shelf, for statistics.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    /// In small blocks that may be handed out.
    pub full: usize,
    /// In small blocks that wait.
    pub waiting: usize,
    /// In large blocks that may be handed out.
    pub ready: usize,
    /// In large blocks that wait.
    pub large_waiting: usize,
}

/// A thread's shelf. All zero bytes are an empty, closed one.
#[repr(C)]
pub struct Shelf {
    open: AtomicUsize,
    /// The owner's turns when a taker last looked, by whether it came for age. Takers only.
    seen: [AtomicU64; 2],
    contents: UnsafeCell<Contents>,
}

/// An open shelf; closes when dropped.
pub struct Open<'a>(&'a Shelf);

impl Shelf {
    #[inline(always)]
    fn open_by(&self, who: usize) -> Option<Open<'_>> {
        // Acquire: pairs with the Release in `drop`: what the last one did is seen.
        let got = self.open.compare_exchange(CLOSED, who, Ordering::Acquire, Ordering::Relaxed).is_ok();
        got.then(|| Open(self))
    }

    /// Opens it for its owner; `None` while a taker is at it.
    #[inline(always)]
    pub fn open(&self) -> Option<Open<'_>> {
        self.open_by(BY_OWNER)
    }

    /// Opens it for its owner, waiting for a taker to be done (some 100 ns, unless preempted).
    pub fn open_waiting(&self) -> Open<'_> {
        loop {
            if let Some(open) = self.open() {
                return open;
            }
            // SAFETY: gives the processor away, nothing else.
            let _ = unsafe { crate::os::syscall::syscall(libc::SYS_sched_yield, [0; 6]) };
        }
    }

    /// In the child of a fork, where no taker is left: the forking thread's own shelf, which that
    /// thread itself may have open (it may have been interrupted by the handler that forks).
    pub fn close_after_taker(&self) {
        if self.open.load(Ordering::Relaxed) & STATE == BY_TAKER {
            self.open.store(CLOSED, Ordering::Release);
        }
    }

    /// The calling thread was at it, in a frame that is gone, as a taker: what lies on it may be torn and
    /// belongs to nobody.
    fn let_go_of_own(&self) {
        if self.open.load(Ordering::Relaxed) == by_taker() {
            let mut open = Open(self);
            backlog::settle(open.waiting.bytes.saturating_add(open.large.bytes));
            open.forget();
        }
    }

    /// In the only thread of a forked child: the shelf of a thread that is gone. If it was open, what lies on
    /// it may be torn, and nobody touches it but who takes the cache over.
    pub fn leave_behind(&self) {
        if self.open.load(Ordering::Relaxed) != CLOSED {
            self.open.store(LEFT_OPEN, Ordering::Relaxed);
        }
    }

    /// Its owner had it open in a frame that is gone: as [`leave_behind`](Self::leave_behind), but a taker
    /// may be at it, which will close it.
    pub fn leave_own_behind(&self) {
        // Relaxed: nobody but the calling thread stores or clears this.
        let _ = self.open.compare_exchange(BY_OWNER, LEFT_OPEN, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whoever has taken over a cache that was left behind closes its shelf.
    pub fn close_abandoned(&self) {
        if self.open.load(Ordering::Relaxed) == LEFT_OPEN {
            self.open.store(CLOSED, Ordering::Release);
        }
    }

    /// Bytes of large blocks on it that are ready or wait, and how many it has handed out; stale figures for
    /// statistics.
    pub fn held_large(&self) -> (usize, u64) {
        // SAFETY: aligned words of type-stable memory; the owner may be writing them.
        unsafe {
            let ready = &raw const (*self.contents.get()).ready;
            let waiting = (&raw const (*self.contents.get()).large.bytes).read_volatile();
            let bytes = (&raw const (*ready).bytes).read_volatile().wrapping_add(waiting);
            (bytes, (&raw const (*ready).reused).read_volatile())
        }
    }

    /// Bytes of small blocks on it; a stale figure for statistics.
    pub fn held(&self) -> usize {
        let figures = self.figures();
        figures.full.wrapping_add(figures.waiting)
    }

    /// What lies on it, by kind.
    pub fn figures(&self) -> Figures {
        let contents = self.contents.get();
        // SAFETY: aligned words of type-stable memory; the owner may be writing them.
        unsafe {
            Figures {
                full: (&raw const (*contents).full_bytes).read_volatile(),
                waiting: (&raw const (*contents).waiting.bytes).read_volatile(),
                ready: (&raw const (*contents).ready.bytes).read_volatile(),
                large_waiting: (&raw const (*contents).large.bytes).read_volatile(),
            }
        }
    }

    /// Blocks of `class` in full magazines on it; a stale figure for statistics.
    pub fn full_blocks(&self, class: Class) -> usize {
        // SAFETY: a list in type-stable memory; the owner may be changing it.
        unsafe { Stack::peek_blocks(&raw const (*self.contents.get()).full[class.index()]) }
    }

    /// Opens it for somebody who looks, as a taker does; `None` while somebody has it open.
    pub fn open_to_look(&self) -> Option<Open<'_>> {
        self.open_by(BY_TAKER)
    }
}

impl Deref for Open<'_> {
    type Target = Contents;
    #[inline(always)]
    fn deref(&self) -> &Contents {
        // SAFETY: one thread at a time has it open.
        unsafe { &*self.0.contents.get() }
    }
}

impl DerefMut for Open<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Contents {
        // SAFETY: one thread at a time has it open, and the guard is borrowed mutably.
        unsafe { &mut *self.0.contents.get() }
    }
}

impl Drop for Open<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next to open it.
        self.0.open.store(CLOSED, Ordering::Release);
    }
}

impl Contents {
    /// Bytes of all small blocks on it.
    #[inline(always)]
    pub fn held(&self) -> usize {
        self.full_bytes + self.waiting.bytes
    }

    /// The full magazines of `class`.
    #[inline(always)]
    pub fn full(&self, class: Class) -> &Stack {
        &self.full[class.index()]
    }

    /// Takes a full magazine of `class`.
    #[inline(always)]
    pub fn pop_full(&mut self, class: Class) -> Option<Magazine> {
        let magazine = self.full[class.index()].pop()?;
        // Wrapping: as in `group::Queue::pop`.
        self.full_bytes = self.full_bytes.wrapping_sub(magazine.bytes());
        Some(magazine)
    }

    /// Adds a magazine whose blocks may be handed out, marked in. One with few blocks may be poured into the
    /// one on top; then it comes back, empty.
    #[inline]
    pub fn push_full(&mut self, magazine: Magazine) -> Option<Magazine> {
        self.full_bytes += magazine.bytes();
        group::stack(&mut self.full[magazine.class().index()], magazine)
    }

    /// As [`push_full`](Self::push_full), as it is.
    #[inline]
    pub fn push_full_whole(&mut self, magazine: Magazine) {
        self.full_bytes += magazine.bytes();
        self.full[magazine.class().index()].push(magazine);
    }

    /// In the child of a fork: lists that a thread which is gone may have been changing are forgotten.
    pub fn forget(&mut self) {
        self.full_bytes = 0;
        self.waiting = group::Queue::EMPTY;
        self.full = [const { Stack::new() }; CLASSES];
        let reused = self.ready.reused;
        self.ready = Ready::EMPTY;
        self.ready.reused = reused;
        self.large = Queue::EMPTY;
    }
}

/// Bytes on all shelves, vacant caches' too. Walks them.
pub fn all_bytes() -> usize {
    let held = |cache: *mut ThreadCache| {
        // SAFETY: type-stable; single words that anybody may look at.
        let shelf = unsafe { &(*cache).shelf };
        shelf.held() + shelf.held_large().0
    };
    registry::all().map(held).sum()
}

/// Lets go of every shelf that the calling thread had open as a taker in a frame that is gone.
pub fn let_go_of_own() {
    for cache in registry::all() {
        // SAFETY: type-stable; only the shelf is borrowed.
        unsafe { &(*cache).shelf }.let_go_of_own();
    }
}

/// Whose shelves are to be cleared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Of threads that turned no magazine since somebody last came for memory.
    Idle,
    /// Of threads that turned none for a decay period. They are asked for the rest, too.
    Aged,
    /// Of every thread.
    Everybody,
}

impl Whose {
    const COUNT: usize = 3;
}

/// Of each kind of walk, the number of the seat at which the next one begins: where the last one stopped for
/// want of work, else the first.
static NEXT_SEAT: [AtomicUsize; Whose::COUNT] = [const { AtomicUsize::new(0) }; Whose::COUNT];

/// Clears the shelves of other threads: what is on them goes to the slabs if it may be handed
/// out, else to the depots. Their page caches go to the zone. As far as there is `work` to be had: false if
/// there are threads left, with which the next call goes on.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn clear_others(own: *const ThreadCache, whose: Whose, work: &mut Work) -> bool {
    let first = if work.is_bounded() { NEXT_SEAT[whose as usize].load(Ordering::Relaxed) } else { 0 };
    for seat in seats::taken_from(first) {
        if !work.goes_on() {
            return stop_at(seat, whose);
        }
        let cache = seat.cache();
        if core::ptr::eq(cache, own) {
            continue;
        }
        work.did_look();
        // SAFETY: type-stable. Only the shelf and the page cache are borrowed, and the turns are two single
        // words that the owner may be writing.
        let (shelf, pages, turns) = unsafe {
            let loaded = (&raw const (*cache).loaded).read_volatile();
            let retired = (&raw const (*cache).retired).read_volatile();
            (&(*cache).shelf, &(*cache).pages, loaded.wrapping_add(retired))
        };
        let (large, reused) = shelf.held_large();
        let turns = turns.wrapping_add(reused);
        let seen = shelf.seen[usize::from(whose == Whose::Aged)].swap(turns, Ordering::Relaxed);
        if seen != turns && whose != Whose::Everybody {
            if whose == Whose::Aged {
                // It may turn less often than it did: once a period it looks at the clock.
                // SAFETY: as above.
                unsafe { (*cache).ask(0) };
            }
            continue;
        }
        if shelf.held() + large != 0 {
            clear(shelf, work);
        }
        pages.take_all();
        if whose == Whose::Aged && turns != 0 {
            // SAFETY: as above.
            unsafe { (*cache).ask(ask::EMPTY) };
        }
        if !work.goes_on() && shelf.held() + shelf.held_large().0 != 0 {
            // The next call begins with the rest of it.
            return stop_at(seat, whose);
        }
    }
    NEXT_SEAT[whose as usize].store(0, Ordering::Relaxed);
    true
}

#[inline(never)]
fn stop_at(seat: &Seat, whose: Whose) -> bool {
    NEXT_SEAT[whose as usize].store(seat.number(), Ordering::Relaxed);
    false
}

/// Gives what is on it to the slabs if it may be handed out, else to the queues for all threads. It is open
/// for one operation at a time, so its owner is not kept out for long.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn clear(shelf: &Shelf, work: &mut Work) {
    let large = {
        let Some(mut open) = shelf.open_by(by_taker()) else { return };
        open.ready.empty();
        core::mem::replace(&mut open.large, Queue::EMPTY)
    };
    large_batch::put_all(large);
    large_batch::reclaim(work);
    while work.goes_on()
        && let Some((group, bytes)) = shelf.open_by(by_taker()).and_then(|mut open| open.waiting.pop())
    {
        if waiting::elapsed(&group) {
            depot::flush_group(group, bytes, work);
        } else {
            work.did(0);
            group::share(group, bytes);
        }
    }
    for class in Class::all() {
        while work.goes_on()
            && let Some(magazine) = shelf.open_by(by_taker()).and_then(|mut open| open.pop_full(class))
        {
            work.did(magazine.len());
            depot::flush(magazine);
        }
    }
}
