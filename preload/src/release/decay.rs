//! Decay: what nobody uses any more goes back to the system by itself.
//!
//! A period (`RCUMALLOC_DECAY_MS`) has eight ticks. At each tick every stock says what of it a
//! whole period has not touched (`page::idle`), and a share of that goes: magazines of the depots
//! to the slabs, kept empty slabs and empty pages of pointers to the zone, dirty free pages to the system.
//! Pages that come free by ageing have served their time and go on at once. Once a period, threads
//! that have turned no magazine since the last one lose their shelf and their page cache, and a grace period
//! is ended for what waits.
//!
//! A tick rides on the slow path of whatever thread comes by when it is due, which does a bounded part of it
//! and leaves the rest to the next ones, or on the watcher's loop ([`tick`], [`deadline`]). In a process that
//! has gone idle with no watcher (a solo one has none) nothing runs, so nothing decays: there the watermark
//! (`page::watermark`) has seen to it, on the way down, that little is left; and where many threads have
//! ended but for one, the last of them has ([`one_is_left`]).
//!
//! The words are relaxed: they steer. That one thread at a time runs a tick is by an exchange of the
//! next one's time.

use crate::cache::takers::{self, Whose};
use crate::cache::{drain, shares, vacant};
use crate::class::backlog::{self, DOMAIN};
use crate::class::cause::Cause;
use crate::class::size_class::Class;
use crate::class::work::Work;
use crate::class::{depot, empties, large_pages, pool, typed};
use crate::constants::{
    DECAY_MS, DIRTY_HIGH, IDLE_LEAST_PAGES, IDLE_PERIODS, IDLE_RAREST, IDLE_TICKS, MS, PAGE, RIDDEN_TICKS,
    TICK_LEAST_NS, VACANT_MOST, WORTH,
};
use crate::os::{bell, clock};
use crate::page::{idle, purge, watermark, zone};
use crate::release::scan_log::{self, Reason};
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst,
};

/// The period that means never.
pub const OFF: u32 = u32::MAX;

/// The period in milliseconds.
static PERIOD_MS: AtomicU32 = AtomicU32::new(DECAY_MS);
/// When the next tick is due, monotonic clock, ns.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Ticks so far.
static TICKS: AtomicU32 = AtomicU32::new(0);
/// Bytes that a slow path's tick has left to the next ones to give to the system.
static OWED: AtomicUsize = AtomicUsize::new(0);
/// Periods running that came to nothing.
static FRUITLESS: AtomicU32 = AtomicU32::new(0);
/// The walk of this period through what other threads hold has not come to its end.
static WALKS: AtomicBool = AtomicBool::new(false);
/// When [`one_is_left`] last gave, coarse clock, in milliseconds.
static ONE_LEFT_MS: AtomicU32 = AtomicU32::new(0);
/// The last tick was a slow path's.
static RIDDEN: AtomicBool = AtomicBool::new(false);
/// Somebody sleeps because [`deadline`] said `None`.
static ASLEEP: AtomicBool = AtomicBool::new(false);

/// Sets the period in milliseconds: 0 at once, [`OFF`] never. Before the first thread has a cache.
pub fn configure(ms: u32) {
    PERIOD_MS.store(ms, Relaxed);
    watermark::set_least(match ms {
        OFF => usize::MAX,
        0 => 0,
        _ => DIRTY_HIGH,
    });
    NEXT.store(if ms == OFF { u64::MAX } else { 0 }, Relaxed);
}

/// The period in milliseconds.
pub fn period_ms() -> u32 {
    PERIOD_MS.load(Relaxed)
}

fn step_ns() -> u64 {
    (u64::from(period_ms()) * MS / IDLE_TICKS as u64).max(TICK_LEAST_NS)
}

/// What there is to age, in bytes.
fn left() -> usize {
    zone::dirty_bytes() + depot::all_bytes() + backlog::deferred_bytes() + vacant::bytes()
}

/// What a slow path does now and then, as far as there is `work` to be had: purges past the watermark, ages,
/// wakes the sleeper.
#[inline]
pub fn look(now_ns: u64, work: &mut Work) {
    watermark::purge_excess(0);
    if OWED.load(Relaxed) != 0 {
        pay(0);
    }
    let next = NEXT.load(Relaxed);
    if now_ns >= next {
        tick_at(now_ns, next, work, true);
    } else if WALKS.load(Relaxed) {
        age_others(work);
    }
    drain::go_on(work);
    note_work();
}

/// Wakes whoever sleeps for want of work, if there is some. For the ends of paths that free much.
#[inline]
pub fn note_work() {
    if ASLEEP.load(Relaxed) && left() >= WORTH {
        wake();
    }
}

#[cold]
#[inline(never)]
fn wake() {
    if !ASLEEP.swap(false, SeqCst) {
        return;
    }
    if period_ms() != OFF {
        FRUITLESS.store(0, Relaxed);
        NEXT.fetch_min(clock::now_coarse_ns() + step_ns(), Relaxed);
    }
    bell::ring();
}

/// Ages what has not been used for long, if a tick is due at `now_ns` (the monotonic clock, coarse is
/// fine); else one comparison.
#[inline]
pub fn tick(now_ns: u64) {
    let next = NEXT.load(Relaxed);
    if now_ns >= next {
        // The watcher's thread does all of it.
        tick_at(now_ns, next, &mut Work::asked_for(), false);
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
fn tick_at(now_ns: u64, next: u64, work: &mut Work, rides: bool) {
    if period_ms() == OFF {
        return;
    }
    let rarer = FRUITLESS.load(Relaxed).saturating_sub(IDLE_PERIODS).min(IDLE_RAREST);
    let later = now_ns + (step_ns() << rarer);
    if NEXT.compare_exchange(next, later, Relaxed, Relaxed).is_err() {
        return;
    }
    RIDDEN.store(rides, Relaxed);
    let ticks = TICKS.fetch_add(1, Relaxed) as usize;
    let dirty = zone::dirty_bytes();
    let mut moved = depot::distribute_shared(work);
    moved += depot::age_all(work) + empties::age(work) + large_pages::reclaim(work);
    for class in Class::all() {
        moved += pool::of(class).age(work);
    }
    moved += typed::settle_all();
    if ticks.is_multiple_of(IDLE_TICKS) {
        if backlog::deferred_bytes() != 0 {
            backlog::expedite(DOMAIN.start_poll(), Cause::Age);
        }
        WALKS.store(true, Relaxed);
        shares::next_period();
    }
    if WALKS.load(Relaxed) {
        age_others(work);
    }
    let aged = zone::dirty_bytes().saturating_sub(dirty);
    let idle = if period_ms() == 0 { zone::dirty_bytes() } else { purge::tick() };
    let share = idle::share(idle, IDLE_LEAST_PAGES * PAGE).max(if period_ms() == 0 { idle } else { 0 });
    watermark::forget_breaths(idle);
    let given = match share + aged {
        0 => 0,
        due if rides => pay(due),
        due => purge::free(due),
    };
    if given != 0 {
        scan_log::count(Reason::Age, given);
    }
    if given + moved != 0 {
        FRUITLESS.store(0, Relaxed);
    } else if ticks.is_multiple_of(IDLE_TICKS) {
        FRUITLESS.fetch_add(1, Relaxed);
    }
}

/// What threads hold that have turned no magazine for a period goes, and what ended ones have left: as far as
/// there is `work` to be had; the next calls that look go on.
#[unsafe(link_section = ".text_solo")]
fn age_others(work: &mut Work) {
    if takers::clear_others(core::ptr::null(), Whose::Aged, work) {
        WALKS.store(false, Relaxed);
        drain::vacant(backlog::age_limit_ms().min(period_ms()), work);
    }
}

/// `more` bytes are to go to the system. Gives a step of what is owed; the next calls give the rest. Returns
/// bytes.
fn pay(more: usize) -> usize {
    let owed = (OWED.load(Relaxed) + more).min(zone::dirty_bytes());
    let purged = purge::step(owed, 0);
    let left = if purged.refused == 0 { owed - purged.bytes.min(owed) } else { 0 };
    OWED.store(left, Relaxed);
    purged.bytes
}

/// The calling thread ends and one is left, for which there is no watcher. What threads kept for each other
/// is of no use to one, and would stay for as long as that sleeps: it goes to the zone, and what is free past
/// the watermark to the system. Not each time in a program that has some threads again and again: once a
/// period, if it is worth it, or if there were more than the vacant caches are for.
pub fn one_is_left() {
    let now_ms = clock::now_coarse_ms();
    let is_due = now_ms.wrapping_sub(ONE_LEFT_MS.load(Relaxed)) >= period_ms() && left() >= WORTH;
    let most = shares::recent_most();
    if period_ms() != OFF && (is_due || most.load(Relaxed) > VACANT_MOST) {
        most.store(0, Relaxed);
        ONE_LEFT_MS.store(now_ms, Relaxed);
        give_for_one();
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_threads")]
fn give_for_one() {
    drain::vacant(0, &mut Work::asked_for());
    takers::clear_others(core::ptr::null(), Whose::Idle, &mut Work::asked_for());
    backlog::expedite(DOMAIN.start_poll(), Cause::Age);
    large_pages::reclaim(&mut Work::asked_for());
    depot::distribute_shared(&mut Work::asked_for());
    depot::drain_all(&mut Work::asked_for());
    pool::release_all();
    typed::release_all();
    empties::release(usize::MAX, &mut Work::asked_for());
    let given = purge::free(watermark::beyond());
    if given != 0 {
        scan_log::count(Reason::Age, given);
    }
}

/// When the next [`tick`] should be called, on the monotonic clock; `None` when nothing worth it is left to
/// age. After `None` the bell rings, once, when there is work again, or, where nothing ages, something to
/// give. While slow paths do the ticks the answer leaves them time to.
pub fn deadline() -> Option<u64> {
    let spare = || if RIDDEN.load(Relaxed) { RIDDEN_TICKS * step_ns() } else { 0 };
    let next = || (period_ms() != OFF).then(|| NEXT.load(Relaxed) + spare());
    // What lies on shelves has turned its last magazine, perhaps; those who look at each slow path do not ask
    // for it.
    if left() + takers::all_bytes() >= WORTH {
        return next();
    }
    // SeqCst: either we see the work below, or whoever made it sees us asleep, at the latest at its
    // next slow path.
    ASLEEP.store(true, SeqCst);
    if left() >= WORTH {
        ASLEEP.store(false, SeqCst);
        return next();
    }
    None
}

/// In the child of a fork: the sleeper is gone.
pub fn after_fork_in_child() {
    ASLEEP.store(false, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::free;
    use crate::front::free::When;
    use crate::front::tests::take;
    use crate::own_process::in_own_process;

    fn free_touched(bytes: usize) {
        let block = take(bytes);
        // SAFETY: ours.
        unsafe { (block as *mut u8).write_bytes(1, bytes) };
        free::free_block(block, "free", When::Now);
    }

    /// As the watcher does: sleeps to the deadline, ticks. Returns the dirty bytes before each tick.
    fn watch(seconds: u64) -> Vec<usize> {
        let (mut seen, start) = (Vec::new(), clock::now_ns());
        while let Some(next) = deadline() {
            let now = clock::now_ns();
            if now - start > seconds * 1_000_000_000 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_nanos(next.saturating_sub(now).min(50_000_000)));
            seen.push(zone::dirty_bytes());
            tick(clock::now_coarse_ns());
        }
        seen
    }

    #[test]
    fn what_is_idle_fades_and_the_watcher_may_sleep() {
        in_own_process!();
        configure(160);
        free_touched(6 << 20);
        let seen = watch(20);
        assert!(left() < WORTH, "{seen:?}");
        assert!(deadline().is_none());
        // Smoothly: the first ticks give nothing, and none gives much more than its share.
        assert!(seen.len() > IDLE_TICKS, "{seen:?}");
        assert!(seen.iter().filter(|&&dirty| dirty > 3 << 20).count() >= IDLE_TICKS, "{seen:?}");
        // Asleep, and woken by the next who frees much, once.
        let rung = bell::rung();
        free_touched(4 << 20);
        free_touched(4 << 20);
        assert_eq!(bell::rung() - rung, 1);
        assert!(deadline().is_some());
        watch(20);
        configure(OFF);
        free_touched(6 << 20);
        assert!(deadline().is_none());
        tick(u64::MAX - 1);
        assert!(zone::dirty_bytes() >= 6 << 20);
        configure(0);
        free_touched(6 << 20);
        look(clock::now_coarse_ns(), &mut Work::asked_for());
        assert!(zone::dirty_bytes() < WORTH, "at once");
        configure(DECAY_MS);
    }
}
