//! The pool of elements, one section of a reader, and the writer's round.
//!
//! Elements and the words in them are never given back, so a reader that is wrongly let loose on one reads
//! numbers and not somebody else's memory. `current` is an index. In a flavor with a heap there is also a
//! block of malloc that the writer replaces and frees in the same round.

use core::ffi::c_void;
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::time::Duration;

use crate::dice::Dice;
use crate::flavor::{Flavor, Reader};
use crate::report::{Counts, PIPE};

const ELEMENTS: usize = 10 * PIPE;
/// Reads between two that check a cookie of their own, as in rcutorture.
const COOKIE_EVERY: u64 = 4096;
/// Reads between two that count the grace periods that pass meanwhile: to ask costs a fence, and a section
/// with a fence in it hides what is looked for.
const BATCH_EVERY: u64 = 64;

/// 128 MiB: several times the last cache of a large machine.
const COLD_WORDS: usize = 1 << 24;

struct Element {
    /// 0: current; 1: removed; n + 1: removed n grace periods ago.
    pipe_count: AtomicU32,
    /// Written by the writer while nobody may read it.
    payload: [UnsafeCell<u64>; 4],
}

/// Words of the block: its address, its number, and a pattern of both.
const BLOCK_WORDS: usize = 8;

/// See the module.
pub struct Pool {
    elements: Vec<Element>,
    current: AtomicUsize,
    block: AtomicPtr<u64>,
    cold: OnceLock<Vec<AtomicU64>>,
    /// What was seen.
    pub counts: Counts,
}

// SAFETY: `payload` is what grace periods protect; where they fail it is torn numbers, which are looked for.
unsafe impl Sync for Pool {}

/// How long a section lasts.
#[derive(Clone, Copy, Debug)]
pub enum Dwell {
    /// As short as can be.
    None,
    /// So many turns of a loop.
    Spin(u64),
    /// Gives the processor away.
    Yield,
    /// Microseconds asleep.
    Sleep(u64),
}

impl Dwell {
    /// As rcutorture's readers: mostly short, now and then long.
    pub fn mixed(dice: &mut Dice) -> Dwell {
        match dice.roll(400) {
            0 => Dwell::Sleep(dice.roll(300)),
            1..=3 => Dwell::Yield,
            4..=60 => Dwell::Spin(dice.roll(2000)),
            _ => Dwell::None,
        }
    }

    fn stay(self) {
        match self {
            Dwell::None => {}
            Dwell::Spin(turns) => (0..turns).for_each(|_| core::hint::spin_loop()),
            Dwell::Yield => std::thread::yield_now(),
            Dwell::Sleep(micros) => std::thread::sleep(Duration::from_micros(micros)),
        }
    }
}

/// What one reader saw; added to the pool's counts when it ends.
pub struct Tally<'p> {
    pool: &'p Pool,
    reads: u64,
    pipe: [u64; PIPE + 1],
}

impl<'p> Tally<'p> {
    /// Of nothing yet.
    pub fn new(pool: &'p Pool) -> Tally<'p> {
        // Readers of a short life must come to the rare checks too.
        let reads = pool.counts.comers.load(Relaxed).wrapping_mul(61);
        Tally { pool, reads, pipe: [0; PIPE + 1] }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        for (count, own) in self.pool.counts.pipe.iter().zip(self.pipe) {
            count.fetch_add(own, Relaxed);
        }
    }
}

impl Pool {
    /// The first element is current.
    #[must_use]
    pub fn new() -> Pool {
        let element = |_| Element { pipe_count: AtomicU32::new(0), payload: Default::default() };
        Pool {
            elements: (0..ELEMENTS).map(element).collect(),
            current: AtomicUsize::new(0),
            block: AtomicPtr::new(core::ptr::null_mut()),
            cold: OnceLock::new(),
            counts: Counts::default(),
        }
    }

    /// More words than a cache holds.
    pub fn cold_memory(&self) -> &[AtomicU64] {
        self.cold.get_or_init(|| (0..COLD_WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    fn payload(&self, element: usize) -> [u64; 4] {
        // SAFETY: mapped for ever; whether it may be read is what is being tested.
        std::array::from_fn(|word| unsafe { self.elements[element].payload[word].get().read_volatile() })
    }

    /// One section. In the largest `pipe_count` and in changed contents it finds the errors.
    #[inline(always)]
    pub fn read<F: Flavor>(&self, flavor: &F, reader: &F::Reader, tally: &mut Tally<'_>, dwell: Dwell) {
        tally.reads += 1;
        if tally.reads.is_multiple_of(COOKIE_EVERY) {
            return self.read_with_cookie(flavor, reader, tally, dwell);
        }
        let began = tally.reads.is_multiple_of(BATCH_EVERY).then(|| flavor.start_poll());
        reader.lock();
        let count = self.look(F::HEAP, dwell);
        reader.unlock();
        tally.pipe[count] += 1;
        if let Some(began) = began {
            let passed = (flavor.start_poll().wrapping_sub(began) / 2) as usize;
            self.counts.batch[passed.min(PIPE)].fetch_add(1, Relaxed);
        }
    }

    /// As [`read`](Pool::read), with a cookie that must not elapse inside.
    #[cold]
    fn read_with_cookie<F: Flavor>(
        &self,
        flavor: &F,
        reader: &F::Reader,
        tally: &mut Tally<'_>,
        dwell: Dwell,
    ) {
        reader.lock();
        let cookie = flavor.start_poll();
        flavor.push(true);
        let count = self.look(F::HEAP, dwell);
        let early = flavor.poll(cookie);
        reader.unlock();
        tally.pipe[count] += 1;
        self.counts.cookies.fetch_add(1, Relaxed);
        self.counts.cookie_errors.fetch_add(u64::from(early), Relaxed);
    }

    /// A section in a signal handler: everything is counted in atomics.
    pub fn read_in_handler<F: Flavor>(&self, reader: &F::Reader) {
        reader.lock();
        let count = self.look(F::HEAP, Dwell::None);
        reader.unlock();
        self.counts.pipe[count].fetch_add(1, Relaxed);
    }

    /// What a reader does inside: the pipe count at the end, at most [`PIPE`].
    #[inline(always)]
    fn look(&self, heap: bool, dwell: Dwell) -> usize {
        let current = self.current.load(Acquire);
        let before = self.payload(current);
        let block = if heap { self.block.load(Acquire) } else { core::ptr::null_mut() };
        let held = block_number(block);
        dwell.stay();
        let after = self.payload(current);
        let count = self.elements[current].pipe_count.load(Acquire) as usize;
        if before != after || before.iter().any(|&word| word != before[0]) {
            self.counts.torn.fetch_add(1, Relaxed);
        }
        if !block.is_null() && (held.is_none() || block_number(block) != held) {
            self.counts.block_errors.fetch_add(1, Relaxed);
        }
        count.min(PIPE)
    }
}

impl Default for Pool {
    fn default() -> Self {
        Pool::new()
    }
}

/// The number in a whole block; None in one that has been overwritten.
fn block_number(block: *mut u64) -> Option<u64> {
    if block.is_null() {
        return Some(0);
    }
    // SAFETY: the heap never unmaps a block under a section, if it does what it promises; if not, the
    // words belong to somebody else's block, or the process ends, which is seen too.
    let words: [u64; BLOCK_WORDS] = std::array::from_fn(|word| unsafe { block.add(word).read_volatile() });
    let pattern = |word: usize| words[0].rotate_left(word as u32) ^ block as u64;
    words.iter().enumerate().skip(1).all(|(word, &value)| value == pattern(word)).then_some(words[0])
}

/// A block of malloc with a number in it.
fn new_block(number: u64) -> *mut u64 {
    // SAFETY: malloc has no preconditions.
    let block = unsafe { libc::malloc(8 * BLOCK_WORDS) }.cast::<u64>();
    assert!(!block.is_null(), "malloc gave nothing");
    for word in 0..BLOCK_WORDS {
        let value = if word == 0 { number } else { number.rotate_left(word as u32) ^ block as u64 };
        // SAFETY: within the block, which is ours.
        unsafe { block.add(word).write_volatile(value) };
    }
    block
}

/// The writer's side: one thread has it.
pub struct Writer {
    free: VecDeque<usize>,
    removed: Vec<usize>,
    number: u64,
}

impl Writer {
    /// Of a pool that nobody has written yet.
    #[must_use]
    pub fn new() -> Writer {
        Writer { free: (1..ELEMENTS).collect(), removed: Vec::new(), number: 0 }
    }

    /// Replaces the current element, waits for a grace period by `wait`, and moves the pipe on.
    pub fn round<F: Flavor>(&mut self, pool: &Pool, flavor: &F, wait: impl FnOnce(&F)) {
        self.number += 1;
        let Some(fresh) = self.free.pop_front() else { unreachable!("at most PIPE elements wait") };
        pool.counts.allocated.fetch_add(1, Relaxed);
        for word in &pool.elements[fresh].payload {
            // SAFETY: out of the pipe, so no reader can have it, if grace periods are right.
            unsafe { word.get().write_volatile(self.number) };
        }
        pool.elements[fresh].pipe_count.store(0, Release);
        if F::HEAP {
            self.replace_block(pool);
        }
        let old = pool.current.swap(fresh, AcqRel);
        pool.elements[old].pipe_count.store(1, Release);
        pool.counts.circulation[0].fetch_add(1, Relaxed);
        self.removed.push(old);
        wait(flavor);
        // The youngest first: a reader that was let loose a moment ago is seen before it is gone.
        for index in (0..self.removed.len()).rev() {
            let count = pool.elements[self.removed[index]].pipe_count.fetch_add(1, AcqRel) as usize;
            pool.counts.circulation[count.min(PIPE)].fetch_add(1, Relaxed);
        }
        let free = &mut self.free;
        self.removed.retain(|&element| {
            let waits = pool.elements[element].pipe_count.load(Relaxed) as usize <= PIPE;
            if !waits {
                pool.counts.freed.fetch_add(1, Relaxed);
                free.push_back(element);
            }
            waits
        });
        pool.counts.updates.fetch_add(1, Relaxed);
    }

    /// Publishes a new block, frees the old one, and takes and overwrites others of its size.
    fn replace_block(&mut self, pool: &Pool) {
        let old = pool.block.swap(new_block(self.number), AcqRel);
        // SAFETY: unlinked by the swap; null is nothing to free.
        unsafe { libc::free(old.cast::<c_void>()) };
        pool.counts.blocks.fetch_add(1, Relaxed);
        // What is wrongly handed out again is overwritten here, under the eyes of whoever still reads it.
        let scribbles: [*mut u64; 8] = std::array::from_fn(|_| new_block(!self.number));
        for scribble in scribbles {
            // SAFETY: ours, and never shown to anybody.
            unsafe { libc::free(scribble.cast::<c_void>()) };
        }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Writer::new()
    }
}
