//! The watermark: how much dirty free memory the heap keeps before freeing itself gives some back.
//!
//! Whoever frees looks at two words now and then ([`excess`]); past the high watermark, the larger of
//! [`DIRTY_HIGH`] and a share of what is in use, what lies above half of it goes to the system. That
//! is all that a process gives back which frees and then falls asleep with nobody to watch it. It goes in
//! steps ([`purge::step`]), one with each call that frees, until half of the mark is reached: a call
//! that met all of it at once would take a tenth of a second in a heap of 20 GB.
//!
//! A heap that *breathes*, shrinking and growing again within [`BREATH_MS`], would pay a fault for
//! every page of every breath. So what was given is compared with the clean pages that were fetched
//! since, both added up over as many gives as it takes: when half of it was fetched back [`BREATHS`] times
//! running, that much more may stay dirty. Compared give by give, one shallow breath would leave a debt
//! that no later one can meet, and the heap would fault for ever. It is an allowance that ends as soon as
//! something has lain idle for a decay period. What is in use and what stays dirty together are never more
//! than the heap has needed since it last lay idle, and an eighth of that: pages that what grows cannot use
//! do not add up.
//!
//! Where a watcher ages what lies idle, it will get to what freeing leaves. There freeing leaves as much
//! again as a heap that breathes may keep, [`LATER_MOST`] at the most, and gives of that [`GIVE_MOST`] a
//! second: a heap that swings does not pay for each swing until it is known to breathe.
//!
//! The words are relaxed: they steer. The memory of breaths is under a lock that nobody waits for
//! but a fork; taken before the zone's.

use super::{limit, purge, zone};
use crate::constants::{
    BREATH_MS, BREATHS, DIRTY_HIGH, DIRTY_SHARE, GIVE_MOST, LATER_MOST, LENIENCE_SHARE, PAGE, PURGE_PAGES,
    WORTH,
};
use crate::os::clock;
use crate::os::lock::Lock;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Dirty bytes past which [`excess`] is to look closer.
#[unsafe(link_section = ".data")]
static MARK: AtomicUsize = AtomicUsize::new(DIRTY_HIGH);
/// The least the mark comes down to.
#[unsafe(link_section = ".data")]
static LEAST: AtomicUsize = AtomicUsize::new(DIRTY_HIGH);
/// What may stay beside, because the heap breathes.
static SPARE: AtomicUsize = AtomicUsize::new(0);
/// The mark has been passed, and half of it not been reached yet.
static GIVING: AtomicBool = AtomicBool::new(false);
/// Somebody looks at the heap about once a second, whatever the program does.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// What is known of the last breath.
pub(super) struct Breath {
    /// Bytes given since the heap last grew, ...
    gave: usize,
    /// ... and clean ones fetched meanwhile.
    fetched: usize,
    /// When something was last given, in nanoseconds.
    at_ns: u64,
    /// Breaths running of which most was fetched back.
    count: u32,
}

static BREATH: Lock<Breath> = Lock::new(Breath { gave: 0, fetched: 0, at_ns: 0, count: 0 });

/// Sets the least watermark in bytes; `usize::MAX`: freeing never gives anything back.
pub fn set_least(bytes: usize) {
    LEAST.store(bytes, Relaxed);
    MARK.store(bytes, Relaxed);
}

/// Whether there is a watcher from now on.
pub fn set_watched(watched: bool) {
    WATCHED.store(watched, Relaxed);
}

/// The system has refused a mapping: from now on, and for a while, little stays.
pub fn note_refusal() {
    limit::note_refusal();
    MARK.fetch_min(WORTH, Relaxed);
}

/// How much is to be given back now by whoever frees. Two loads up to the mark.
#[inline]
pub fn excess() -> usize {
    if zone::dirty_bytes() <= MARK.load(Relaxed) { 0 } else { excess_over_mark() }
}

#[cold]
#[inline(never)]
fn excess_over_mark() -> usize {
    let high = high();
    let spare = spare();
    let low = (high / 2).saturating_add(spare);
    let mark = if GIVING.load(Relaxed) { low } else { high.saturating_add(spare) };
    MARK.store(mark, Relaxed);
    let dirty = zone::dirty_bytes();
    if dirty > mark { dirty - low } else { 0 }
}

/// The most that may stay dirty because the heap breathes: with what is given out no more than the heap has
/// needed since it last lay idle, and a part of that; nothing near a limit.
fn spare_most() -> usize {
    if limit::was_refused() {
        return 0;
    }
    let peak = limit::peak_used();
    (peak + (peak >> LENIENCE_SHARE)).saturating_sub(zone::used_bytes())
}

/// What stays because the heap breathes.
fn spare() -> usize {
    SPARE.load(Relaxed).min(spare_most())
}

/// What freeing leaves to a watcher: within the same bound.
fn later_most() -> usize {
    spare_most().min(LATER_MOST)
}

/// Dirty bytes past which freeing gives back, without what may stay because the heap breathes.
fn high() -> usize {
    let least = LEAST.load(Relaxed);
    if limit::was_refused() { least.min(WORTH) } else { least.max(zone::used_bytes() >> DIRTY_SHARE) }
}

/// Dirty bytes that are more than freeing leaves, whether or not the mark has been passed.
pub fn beyond() -> usize {
    zone::dirty_bytes().saturating_sub((high() / 2).saturating_add(spare()))
}

/// Gives a step of the [`excess`] back, if there is one. `own`: bytes that the program has just freed, in
/// this call. Returns bytes.
#[inline]
pub fn purge_excess(own: usize) -> usize {
    match excess() {
        0 => 0,
        excess => purge_past_mark(excess, own),
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn purge_past_mark(excess: usize, own: usize) -> usize {
    // Whoever is at it already does it for all.
    let Some(mut breath) = BREATH.try_lock() else { return 0 };
    let now_ns = clock::now_coarse_ns();
    let fetched = zone::take_fetched_clean() * PAGE;
    if LEAST.load(Relaxed) != 0 && breath.inhaled(fetched, now_ns) {
        // The mark has gone up.
        GIVING.store(false, Relaxed);
        return 0;
    }
    let excess = if WATCHED.load(Relaxed) && LEAST.load(Relaxed) != 0 {
        let allowed = excess.min(allowance(now_ns.saturating_sub(breath.at_ns)));
        allowed.max(excess.saturating_sub(later_most()))
    } else {
        excess
    };
    if excess == 0 {
        // Asked again when it is worth it.
        GIVING.store(false, Relaxed);
        MARK.fetch_max(zone::dirty_bytes() + PURGE_PAGES * PAGE, Relaxed);
        return 0;
    }
    let purged = purge::step(excess, own);
    let given = purged.bytes;
    breath.gave += given;
    breath.at_ns = now_ns;
    let dirty = zone::dirty_bytes();
    let goes_on = given < excess && purged.refused == 0;
    GIVING.store(goes_on, Relaxed);
    if goes_on {
        // The next call that looks meets the rest.
        MARK.fetch_min(dirty.saturating_sub(excess - given), Relaxed);
    } else if given < excess {
        // The system refuses: not again before there is a good deal more.
        MARK.fetch_max(dirty + dirty / 8, Relaxed);
    }
    given
}

const _: () = assert!(GIVE_MOST >= PURGE_PAGES * PAGE);

/// What may be given `passed_ns` after the last time; nothing, where it is not worth a call.
fn allowance(passed_ns: u64) -> usize {
    let most = PURGE_PAGES * PAGE;
    // More than that in a second, and the product of less fits.
    let passed_ns = passed_ns.min(1_000_000_000);
    let allowed = ((passed_ns * GIVE_MOST as u64 / 1_000_000_000) as usize).min(most);
    if allowed < most / 8 { 0 } else { allowed }
}

impl Breath {
    /// `fetched` clean bytes have been fetched since this was last asked. True if it was one time too
    /// often and the allowance was raised.
    fn inhaled(&mut self, fetched: usize, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.at_ns) > BREATH_MS * 1_000_000 {
            (self.gave, self.fetched, self.count) = (0, 0, 0);
        }
        // What was fetched before anything was given is growth.
        self.fetched = if self.gave == 0 { 0 } else { self.fetched + fetched };
        if self.gave == 0 || self.fetched < self.gave / 2 {
            return false;
        }
        let again = core::mem::take(&mut self.fetched).min(core::mem::take(&mut self.gave));
        self.count += 1;
        if self.count < BREATHS {
            return false;
        }
        let spare = SPARE.load(Relaxed);
        let raised = (spare + again).min(spare_most());
        SPARE.store(raised, Relaxed);
        MARK.fetch_add(raised.saturating_sub(spare), Relaxed);
        raised > spare
    }
}

/// `idle` bytes have lain idle for a whole decay period: if that is much of the allowance, the heap does
/// not breathe any more.
pub fn forget_breaths(idle: usize) {
    let spare = spare();
    if idle >= zone::dirty_bytes() / 2 {
        limit::forget_peak(zone::used_bytes());
    }
    if spare != 0 && idle >= spare / 2 {
        SPARE.store(0, Relaxed);
        MARK.store(LEAST.load(Relaxed), Relaxed);
    }
}

/// For fork: the lock. What it guards is whole at any time.
pub(super) fn lock() -> &'static Lock<Breath> {
    &BREATH
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn where_a_watcher_gets_to_the_rest_freeing_gives_little() {
        crate::own_process::in_own_process!();
        assert_eq!(allowance(0), 0);
        assert_eq!(allowance(SECOND / 32), GIVE_MOST / 32);
        assert_eq!(allowance(u64::MAX), PURGE_PAGES * PAGE);
        const RUN: usize = 512;
        let make_dirty = || {
            let runs: Vec<_> =
                (0..32).map(|_| zone::alloc_run(RUN, PAGE, zone::Place::Tight).unwrap().0).collect();
            for page in runs {
                // SAFETY: ours.
                unsafe { zone::free_run(page, RUN) };
            }
        };
        set_watched(true);
        make_dirty();
        // What is more than a part of the heap goes at once, step by step.
        while zone::dirty_bytes() > later_most() + DIRTY_HIGH {
            assert!(purge_excess(0) > 0);
        }
        let began = clock::now_ns();
        let given: usize = (0..1000).map(|_| purge_excess(0)).sum();
        let passed = clock::now_ns() - began;
        // The coarse clock may be up to 10 ms behind.
        let most = PURGE_PAGES * PAGE + (passed as usize / 1000 + 10_000) * (GIVE_MOST / 1_000_000);
        assert!(given <= most, "{given} bytes in {passed} ns");
        assert!(excess() == 0, "nobody asks again before there is more");
        assert!(zone::dirty_bytes() > DIRTY_HIGH / 2, "the rest is left to the watcher");
        // Without, all of it, step by step, down to half the mark.
        set_watched(false);
        make_dirty();
        MARK.store(LEAST.load(Relaxed), Relaxed);
        let step = PURGE_PAGES * PAGE;
        assert_eq!(purge_excess(0), step);
        assert!((2 * step..=3 * step).contains(&purge_excess(step)), "twice what the call has freed");
        while purge_excess(0) > 0 {}
        assert!(zone::dirty_bytes() <= DIRTY_HIGH / 2);
    }

    #[test]
    fn breaths_are_noticed_and_bounded() {
        crate::own_process::in_own_process!();
        limit::forget_peak(zone::used_bytes() + 64 * MIB);
        let most = spare_most();
        assert!(most >= 72 * MIB);
        let before = SPARE.load(Relaxed);
        let mut breath = Breath { gave: 10 * MIB, fetched: 0, at_ns: SECOND, count: 0 };
        for _ in 1..BREATHS {
            assert!(!breath.inhaled(9 * MIB, SECOND + 1));
            breath.gave = 10 * MIB;
        }
        assert!(!breath.inhaled(4 * MIB, SECOND + 1), "less than half of it came back");
        breath.fetched = 0;
        assert!(breath.inhaled(9 * MIB, SECOND + 1));
        assert_eq!(SPARE.load(Relaxed), before + 9 * MIB);
        (breath.gave, breath.count) = (10 * most, BREATHS);
        assert!(breath.inhaled(usize::MAX, SECOND + 1));
        assert_eq!(SPARE.load(Relaxed), most);
        (breath.gave, breath.count) = (10 * MIB, BREATHS);
        assert!(!breath.inhaled(10 * MIB, 60 * SECOND), "long ago");
        assert_eq!(breath.count, 0);
        // A shallow breath leaves no debt that the later ones, each less than half of all that was given,
        // could not meet.
        SPARE.store(0, Relaxed);
        let mut breath = Breath { gave: 0, fetched: 0, at_ns: SECOND, count: BREATHS };
        let raised = [1, 4, 4, 4, 4, 4].into_iter().filter(|fetched| {
            breath.gave += 5 * MIB;
            breath.inhaled(fetched * MIB, SECOND + 1)
        });
        assert_eq!(raised.count(), 5);
        SPARE.store(most, Relaxed);
        limit::forget_peak(zone::used_bytes() + 64 * MIB);
        forget_breaths(spare() / 2 - 1);
        assert_ne!(SPARE.load(Relaxed), 0);
        limit::forget_peak(zone::used_bytes() + 64 * MIB);
        forget_breaths(most);
        assert_eq!((SPARE.load(Relaxed), limit::peak_used()), (0, zone::used_bytes()));
    }
}
