//! `producer-consumer`: pipelines, after xmalloc-test. Of each two threads one only allocates and the other
//! only frees. A ring of 64 batches of 128 blocks lies between them, so that the ring costs little beside
//! malloc and free.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "producer-consumer",
    known_as: "xmalloc-test",
    pattern: "one thread of each pair allocates, the other frees; at most 8192 blocks are on the way",
    threads: 2,
    sizes: (64, 64),
    touch: Touch::First,
};

const BATCH: usize = 128;
const BATCHES: usize = 64;

/// A counter on a cache line of its own.
#[repr(align(128))]
struct Count(AtomicUsize);

struct Ring {
    batches: Box<[UnsafeCell<[Block; BATCH]>]>,
    made: Count,
    used: Count,
    ended: AtomicBool,
}

// SAFETY: batch i % BATCHES is the producer's from `used` > i - BATCHES until it stores `made` = i + 1
// (release), and the consumer's from when it has loaded that (acquire) until it stores `used` = i + 1, and so
// on.
unsafe impl Sync for Ring {}

pub struct ProducerConsumer(Vec<Ring>);

impl Pattern for ProducerConsumer {
    fn new(job: &Job) -> Result<ProducerConsumer, Refusal> {
        if !job.threads.is_multiple_of(2) {
            return Err(Refusal("producer-consumer needs an even number of threads".to_owned()));
        }
        let ring = || Ring {
            batches: (0..BATCHES).map(|_| UnsafeCell::new([Block::NONE; BATCH])).collect(),
            made: Count(AtomicUsize::new(0)),
            used: Count(AtomicUsize::new(0)),
            ended: AtomicBool::new(false),
        };
        Ok(ProducerConsumer((0..job.threads / 2).map(|_| ring()).collect()))
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let ring = &self.0[worker.index / 2];
        if worker.index.is_multiple_of(2) { produce(ring, worker) } else { consume(ring, worker) }
    }
}

fn produce<P: Probe>(ring: &Ring, worker: &mut Worker<'_, P>) {
    let mut turn = 0;
    while !worker.over_now() {
        // Acquire: pairs with the release store in `consume`; the batch is ours again.
        while turn - ring.used.0.load(Ordering::Acquire) == BATCHES {
            std::thread::yield_now();
        }
        // SAFETY: see Ring.
        for slot in unsafe { &mut *ring.batches[turn % BATCHES].get() } {
            let size = worker.size();
            *slot = worker.take(size);
        }
        turn += 1;
        // Release: pairs with the acquire load in `consume`.
        ring.made.0.store(turn, Ordering::Release);
    }
    // Release: after the last batch.
    ring.ended.store(true, Ordering::Release);
}

fn consume<P: Probe>(ring: &Ring, worker: &mut Worker<'_, P>) {
    let mut turn = 0;
    loop {
        // Acquire: pairs with the last store in `produce`: if it is seen, so is the last batch.
        let ended = ring.ended.load(Ordering::Acquire);
        // Acquire: pairs with the release store in `produce`.
        if ring.made.0.load(Ordering::Acquire) == turn {
            if ended {
                return;
            }
            std::thread::yield_now();
            continue;
        }
        // SAFETY: see Ring.
        for &block in unsafe { &*ring.batches[turn % BATCHES].get() } {
            worker.give(block);
        }
        turn += 1;
        // Release: pairs with the acquire load in `produce`.
        ring.used.0.store(turn, Ordering::Release);
    }
}
