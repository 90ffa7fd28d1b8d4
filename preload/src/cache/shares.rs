//! How many threads there are, and what each may hold.
//!
//! What a thread may keep on its shelf is its part of twice the budget: the more threads are busy, the less
//! ([`note_busy`]). Those that sleep do not count: what they have is taken when somebody is over the budget,
//! and by age. What its filling magazines may hold together is its part of a share of the heap
//! ([`look_at_heap`]).

use crate::class::{backlog, magazine};
use crate::constants::{
    BUSY_LOOKS, FILL_ENOUGH, FILL_LEAST, FILL_MOST, FILL_SHARE, FILL_TOGETHER, SEAL_MOST, SEAL_SHARE,
    SHARE_LEAST, SHELF_FILLS, SHELF_MOST,
};
use crate::page::{back_off, reserve, zone};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Pages the reserve for `free` holds per live thread, up to [`RESERVE_MOST`] in all.
const RESERVE_PER_THREAD: usize = 1;
/// Most pages of the reserve: it must not make small programs big.
const RESERVE_MOST: usize = 16;
/// Live caches. Relaxed: a number that steers.
#[unsafe(link_section = ".data")]
static LIVE_NOW: AtomicUsize = AtomicUsize::new(0);

#[unsafe(link_section = ".data")]
static MOST_LIVE: AtomicUsize = AtomicUsize::new(0);
/// The most at once since whoever asks last cleared it. Relaxed: a number that steers.
#[unsafe(link_section = ".data")]
static RECENT_MOST: AtomicUsize = AtomicUsize::new(0);
/// Bytes a thread may keep on its shelf, as of now.
#[unsafe(link_section = ".data")]
static SHARE: AtomicUsize = AtomicUsize::new(SHELF_MOST);
/// Threads that share twice the budget, as of now; as good as endless after a scan.
#[unsafe(link_section = ".data")]
static SHARERS: AtomicUsize = AtomicUsize::new(1);

/// Bytes that a thread's filling magazines may hold together (`round.rs`), as of now.
#[unsafe(link_section = ".data")]
static FILL: AtomicUsize = AtomicUsize::new(FILL_ENOUGH);

/// Bytes that a thread's filling magazines may hold together, beside what waits in them: those of a round.
#[inline(always)]
pub fn fill_bytes() -> usize {
    FILL.load(Ordering::Relaxed)
}

/// Bytes that a thread may keep ready, where malloc pops and on its shelf: its part of twice what all
/// threads' filling magazines may hold, between twice and four times what its own may.
#[inline(always)]
pub fn stock_bytes() -> usize {
    (2 * FILL_TOGETHER / backlog::threads()).clamp(2 * fill_bytes(), SHELF_FILLS * fill_bytes())
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

/// Until the next look at the heap a thread's filling magazines may hold `bytes`.
pub fn set_fill(bytes: usize) {
    FILL.store(bytes, Ordering::Relaxed);
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
        set_threads(census().0);
    }
}

/// A decay period has passed: who was busy in the one before it does not count any more.
pub fn next_period() {
    let [now, last] = &BUSY;
    last.store(now.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    // 0 is what a cache begins with.
    let next = PERIOD.load(Ordering::Relaxed).wrapping_add(1).max(1);
    PERIOD.store(next, Ordering::Relaxed);
    set_threads(census().0);
}

/// One live cache more.
pub fn count_in() {
    let live = LIVE_NOW.fetch_add(1, Ordering::Relaxed) + 1;
    MOST_LIVE.fetch_max(live, Ordering::Relaxed);
    RECENT_MOST.fetch_max(live, Ordering::Relaxed);
    adjust(live);
}

/// One less; how many are left.
pub fn count_out() -> usize {
    LIVE_NOW.fetch_sub(1, Ordering::Relaxed) - 1
}

/// What follows from the number of live caches.
pub fn adjust(live: usize) {
    reserve::set_target((live * RESERVE_PER_THREAD).min(RESERVE_MOST));
    set_threads(live);
}

/// Threads with a cache, and the most there ever were.
pub fn census() -> (usize, usize) {
    (LIVE_NOW.load(Ordering::Relaxed), MOST_LIVE.load(Ordering::Relaxed))
}

/// The most threads with a cache at once since the caller last set it to 0.
pub fn recent_most() -> &'static AtomicUsize {
    &RECENT_MOST
}

/// In the child of a fork: so many caches are live, one or none.
pub fn set_live(live: usize) {
    LIVE_NOW.store(live, Ordering::Relaxed);
}
