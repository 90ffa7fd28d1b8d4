//! How many threads there are, and what each may hold.
//!
//! What a thread may keep on its shelf is its part of twice the budget: the more threads are busy, the less
//! ([`note_busy`]). Those that sleep do not count: what they have is taken when somebody is over the budget,
//! and by age. What its filling magazines may hold together is its part of a share of the heap
//! ([`look_at_heap`]), and while it is busy what it is lent beside ([`Loan`]).

use crate::class::{backlog, magazine};
use crate::constants::{
    BUSY_LOOKS, FILL_ENOUGH, FILL_LEAST, FILL_MOST, FILL_SHARE, FILL_TOGETHER, RESERVE_MOST,
    RESERVE_PER_THREAD, SEAL_MOST, SEAL_SHARE, SHARE_LEAST, SHELF_FILLS, SHELF_MOST,
};
use crate::page::{back_off, reserve, zone};
use core::sync::atomic::{AtomicIsize, AtomicU32, AtomicUsize, Ordering};

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

/// Bytes that the filling magazines of each thread may hold together (`round.rs`), as of now, without a loan.
#[unsafe(link_section = ".data")]
static FILL: AtomicUsize = AtomicUsize::new(FILL_ENOUGH);
/// Bytes that are [lent](Loan), to all threads together; for moments, or for good where a fork came in
/// between, a little less than nothing. Relaxed: a bound, kept by the sums that come back.
#[unsafe(link_section = ".data")]
static LENT: AtomicIsize = AtomicIsize::new(0);

/// What the filling magazines of a thread may hold beyond what those of every thread may.
///
/// Most threads of a server sleep. What every thread may fill is its part among all threads, so that those
/// that sleep hold little; a busy one gets the part that it has among the busy ones. The difference is lent,
/// to all threads together no more than all filling magazines may hold: those that fall asleep keep what
/// they were lent, and the sum is bounded all the same.
#[repr(transparent)]
pub struct Loan(usize);

impl Loan {
    /// Bytes of a round of the thread: what its filling magazines may hold together, beside what waits in
    /// them.
    #[inline(always)]
    pub fn fill_bytes(&self) -> usize {
        FILL.load(Ordering::Relaxed) + self.0
    }

    /// Bytes that the thread may keep ready, where malloc pops and on its shelf: its part of twice what all
    /// threads' filling magazines may hold, between twice and four times what its own may.
    #[inline(always)]
    pub fn stock_bytes(&self) -> usize {
        let fill = self.fill_bytes();
        let sharers = if self.0 == 0 { backlog::threads() } else { borrowers() };
        (2 * FILL_TOGETHER / sharers).clamp(2 * fill, SHELF_FILLS * fill)
    }

    /// Bytes that make the thread's open group one to be sealed.
    #[inline(always)]
    pub fn seal_bytes(&self) -> usize {
        (self.fill_bytes() >> SEAL_SHARE).min(SEAL_MOST)
    }

    /// Bytes of small blocks that the thread may keep on its shelf: its part of the budget, and no more than
    /// a few groups hold.
    #[inline(always)]
    pub fn share_bytes(&self) -> usize {
        budget_share().min(self.fill_bytes() * SHELF_FILLS)
    }

    /// The thread is busy: it gets what busy ones get, as far as there is some left, or gives back what is
    /// more.
    #[inline]
    pub fn renew(&mut self) {
        let borrowers = borrowers();
        if borrowers < backlog::threads() || self.0 != 0 {
            self.renew_among(borrowers);
        }
    }

    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    fn renew_among(&mut self, borrowers: usize) {
        let fill = FILL.load(Ordering::Relaxed);
        let wanted = fill_of_one(borrowers).saturating_sub(fill);
        if wanted <= self.0 {
            return self.give_back(self.0 - wanted);
        }
        let more = wanted - self.0;
        let lent = LENT.fetch_add(more as isize, Ordering::Relaxed) + more as isize;
        self.0 += more;
        let most = share_of_heap().max(FILL_TOGETHER) as isize;
        self.give_back((lent - most).clamp(0, more as isize) as usize);
    }

    /// The thread has ended, or is to have no more than all have.
    pub fn end(&mut self) {
        self.give_back(self.0);
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        self.0
    }

    #[inline]
    fn give_back(&mut self, bytes: usize) {
        if bytes != 0 {
            self.0 -= bytes;
            LENT.fetch_sub(bytes as isize, Ordering::Relaxed);
        }
    }
}

/// Bytes of the heap in use that filling magazines may hold.
fn share_of_heap() -> usize {
    zone::used_bytes() >> FILL_SHARE
}

/// What those of one of `threads` may hold: its part of that, or of what all may hold however small the heap
/// is.
fn fill_of_one(threads: usize) -> usize {
    let together = share_of_heap().max(FILL_TOGETHER.min(threads * FILL_ENOUGH));
    (together / threads).clamp(FILL_LEAST, FILL_MOST)
}

/// Threads that share what is lent: those that are busy, after a scan all.
fn borrowers() -> usize {
    let threads = backlog::threads();
    if back_off::is_on() { threads } else { busy().clamp(1, threads) }
}

/// Sets what the filling magazines of each thread may hold.
pub fn look_at_heap() {
    FILL.store(fill_of_one(backlog::threads()), Ordering::Relaxed);
}

/// Until the next look at the heap a thread's filling magazines may hold `bytes`.
pub fn set_fill(bytes: usize) {
    FILL.store(bytes, Ordering::Relaxed);
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
    let busy = busy().clamp(1, live.max(1));
    SHARERS.store(if back_off::is_on() { usize::MAX } else { busy }, Ordering::Relaxed);
    SHARE.store(large_share_bytes().clamp(SHARE_LEAST, SHELF_MOST), Ordering::Relaxed);
}

/// A thread looks at the clock, as it does every 32 slow paths. `looks` is its own: how often in this period.
/// From some number on it is one busy thread more: what a thread carves to begin with does not make it one.
/// Whether it is.
#[inline]
pub fn note_busy(looks: &mut (u32, u32)) -> bool {
    let period = PERIOD.load(Ordering::Relaxed);
    if looks.0 != period {
        *looks = (period, 0);
    }
    looks.1 = looks.1.saturating_add(1);
    if looks.1 == BUSY_LOOKS {
        count_busy();
    }
    looks.1 >= BUSY_LOOKS
}

/// Threads that were busy in this decay period or in the last one.
fn busy() -> usize {
    let [now, last] = BUSY.each_ref().map(|busy| busy.load(Ordering::Relaxed));
    now.max(last)
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
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

/// In the child of a fork: so many caches are live, one or none, and so many bytes are lent.
pub fn set_live(live: usize, lent: usize) {
    LIVE_NOW.store(live, Ordering::Relaxed);
    LENT.store(lent as isize, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_process::in_own_process;

    /// Of `threads` threads so many are busy.
    fn are_busy(threads: usize, count: usize) {
        BUSY[0].store(count, Ordering::Relaxed);
        BUSY[1].store(0, Ordering::Relaxed);
        set_threads(threads);
    }

    #[test]
    fn a_busy_thread_among_sleepers_has_a_round_as_if_it_were_alone() {
        in_own_process!();
        let (mut asleep, mut busy) = (Loan(0), Loan(0));
        are_busy(62, 0);
        let part = asleep.fill_bytes();
        assert_eq!(part, FILL_TOGETHER / 62);
        are_busy(62, 2);
        busy.renew();
        assert_eq!((asleep.fill_bytes(), busy.fill_bytes()), (part, FILL_ENOUGH));
        assert!(busy.stock_bytes() > asleep.stock_bytes());
        // All of them: each has its part, and what was lent comes back.
        are_busy(62, 62);
        asleep.renew();
        busy.renew();
        assert_eq!((asleep.fill_bytes(), busy.fill_bytes()), (part, part));
        assert_eq!(LENT.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_lent_is_bounded_whoever_falls_asleep() {
        in_own_process!();
        are_busy(500, 2);
        let part = Loan(0).fill_bytes();
        // One after the other is busy, and keeps what it got.
        let mut loans: Vec<Loan> = (0..500).map(|_| Loan(0)).collect();
        loans.iter_mut().for_each(Loan::renew);
        let all: usize = loans.iter().map(Loan::fill_bytes).sum();
        assert!((FILL_TOGETHER + 499 * part..=FILL_TOGETHER + 500 * part).contains(&all), "{all}");
        loans.iter_mut().for_each(Loan::end);
        assert!(loans.iter().all(|loan| loan.0 == 0));
        assert_eq!(LENT.load(Ordering::Relaxed), 0);
    }
}
