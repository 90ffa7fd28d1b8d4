//! `RCUMALLOC_STRESS`: a program's faults with sections come to light in seconds.
//!
//! A block that is used after its section, or without one, is as a rule still what it was: what is freed
//! waits among many others, and for long. Here everything is reused at the first moment at which it may be,
//! and that moment is drawn near:
//!
//! - each slow path begins the grace period of what the thread has freed, ends it if no section holds it, and
//!   takes up what has waited;
//! - magazines and rounds are short, so that hardly a call finds the fast path, and how short is chosen anew
//!   each time;
//! - slow paths and the ends of sections are delayed now and then.
//!
//! Nothing is done that could not happen without it, so who keeps the rules does not notice. Choices are made
//! by a sequence of each thread's own, of the seed and the thread's number. While it is off it costs nothing:
//! slow paths look at the bell in any case, and only readers in the engine's cold mode come by its hook,
//! which is why there is no membarrier here, and no fast mode.

use crate::cache::own;
use crate::cache::thread_cache::ThreadCache;
use crate::cache::{mode, shares};
use crate::class::backlog::{self, DOMAIN};
use crate::class::cause::Cause;
use crate::class::magazine::most;
use crate::class::size_class::Class;
use crate::constants::{GOLDEN, STRESS_BLOCKS, STRESS_FILL, STRESS_ONE_IN, STRESS_PAUSES};
use crate::os::syscall::syscall;
use crate::os::{bell, tls};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Set once, before the bell is.
#[unsafe(link_section = ".data")]
static SEED: AtomicU64 = AtomicU64::new(0);

/// Begins, by whoever starts the process.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn begin(seed: u64) {
    SEED.store(seed, Relaxed);
    DOMAIN.set_unlock_hook(unlocked);
    // From the beginning: every reader stays in the cold mode.
    DOMAIN.init_without_membarrier();
    bell::want(bell::STRESS);
}

/// The seed, if there is one.
pub fn seed() -> Option<u64> {
    (bell::wants() & bell::STRESS != 0).then(|| SEED.load(Relaxed))
}

/// The thread's next choice: xorshift, whose words are never 0. A signal handler that comes in between makes
/// the same one.
fn next(random: &AtomicU64, number: usize) -> u64 {
    let mut word = random.load(Relaxed);
    if word == 0 {
        // The same seed is another one for each thread: the multiplier is the golden ratio's, as often.
        word = (SEED.load(Relaxed) ^ (number as u64 + 1).wrapping_mul(GOLDEN)) | 1;
        (0..8).for_each(|_| word = step(word));
    }
    word = step(word);
    random.store(word, Relaxed);
    word >> 32
}

fn step(mut word: u64) -> u64 {
    word ^= word << 13;
    word ^= word >> 7;
    word ^ word << 17
}

/// Now and then, for a while: as often a hundred nanoseconds as a hundred microseconds. Spinning, or by
/// giving the processor away, where there may be no other for who is to come in between.
fn delay(choice: u64) {
    if !choice.is_multiple_of(STRESS_ONE_IN) {
        return;
    }
    let choice = choice / STRESS_ONE_IN;
    for _ in 0..1 << (choice % STRESS_PAUSES) {
        core::hint::spin_loop();
    }
    if (choice / STRESS_PAUSES).is_multiple_of(STRESS_ONE_IN) {
        // SAFETY: sched_yield has no arguments; as a raw call it leaves errno alone.
        let _ = unsafe { syscall(libc::SYS_sched_yield, [0; 6]) };
    }
}

/// What a slow path does beside its work.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn slow_path(cache: &mut ThreadCache) {
    let number = cache.number;
    delay(next(&cache.random, number));
    shares::set_fill(STRESS_FILL);
    cache.loan.end();
    if mode::is_concurrent() {
        // What waits has two ways: by a group, now, or in place, by the round that the next free begins.
        if next(&cache.random, number).is_multiple_of(2) {
            cache.retire_partial();
        } else {
            cache.seal();
            cache.close_freed();
        }
        backlog::expedite(DOMAIN.start_poll(), Cause::Queue);
        cache.end_round();
        cache.take_up_elapsed();
    }
    let choice = next(&cache.random, number) as usize;
    cache.credit = choice % (STRESS_FILL + 1);
    // What the next magazine of any class has. No more than that is in the way of what comes back.
    let quota = choice / (STRESS_FILL + 1) % STRESS_BLOCKS + 1;
    for class in Class::all() {
        let state = cache.class(class);
        state.quota = quota.min(most(class)) as u16;
        state.flow = state.flow.min(STRESS_BLOCKS as u16);
    }
}

/// Behind each outermost section. In a signal handler, too.
fn unlocked() {
    if own::cell().is_none() {
        return;
    }
    let cache = tls::alloc_table() as *const ThreadCache;
    // SAFETY: the thread has a cell, so that is its cache; two words of it, which nobody else writes.
    let (random, number) = unsafe { (&(*cache).random, (&raw const (*cache).number).read()) };
    delay(next(random, number));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::tests::{give, take};
    use crate::front::{entry, readers, switch};
    use crate::own_process::in_own_process;

    fn choices(seed: u64, number: usize) -> Vec<u64> {
        SEED.store(seed, Relaxed);
        let random = AtomicU64::new(0);
        (0..50).map(|_| next(&random, number)).collect()
    }

    #[test]
    fn choices_are_those_of_the_seed_and_the_thread() {
        in_own_process!();
        assert_eq!(choices(7, 3), choices(7, 3));
        let others = [choices(7, 3), choices(7, 4), choices(8, 3), choices(0, 0), choices(u64::MAX, 0)];
        for (at, one) in others.iter().enumerate() {
            assert!(others[at + 1..].iter().all(|other| one != other));
            let delayed = one.iter().filter(|choice| choice.is_multiple_of(STRESS_ONE_IN)).count();
            assert!((4..30).contains(&delayed), "{delayed} of 50");
        }
    }

    #[test]
    fn ends_of_sections_are_delayed() {
        in_own_process!();
        switch::go_concurrent();
        // The shortest of a few: this thread may lose its processor.
        let sections = || {
            let once = |_| {
                let start = std::time::Instant::now();
                (0..4000).for_each(|_| {
                    readers::lock();
                    readers::unlock();
                });
                start.elapsed()
            };
            (0..5).map(once).min().expect("there are five")
        };
        begin(1);
        let delayed = sections();
        DOMAIN.set_unlock_hook(|| {});
        let plain = sections();
        assert!(delayed > plain * 5, "{delayed:?} and {plain:?}");
    }

    #[test]
    fn what_is_freed_comes_back_at_once_and_not_under_a_section() {
        in_own_process!();
        begin(1);
        switch::go_concurrent();
        assert_eq!(seed(), Some(1));
        let cache = entry::current().expect("a cache");
        // A thread that sleeps: no period ends by itself.
        let (asleep, sleeps) = std::sync::mpsc::channel();
        let (_awake, is_over) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            give(take(100));
            asleep.send(()).expect("the test waits");
            is_over.recv().expect_err("nobody says anything");
        });
        sleeps.recv().expect("it comes that far");
        for size in [24, 100, 1000, 5000] {
            let block = take(size);
            give(block);
            let comes_back = (0..20).any(|_| take(size) == block);
            assert!(comes_back, "a block of {size} bytes");
            let block = take(size);
            readers::lock();
            give(block);
            assert!((0..2000).all(|_| take(size) != block), "under a section");
            readers::unlock();
            slow_path(cache);
        }
        assert!(DOMAIN.is_fenced() && cache.credit <= STRESS_FILL);
        bell::take();
        assert_eq!(seed(), Some(1), "it is not for taking");
    }
}
