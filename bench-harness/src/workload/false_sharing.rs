//! `cache-scratch` and `cache-thrash`: does the allocator put blocks of different threads on one cache line?
//! After Berger's probes for passive and active false sharing.
//!
//! Each thread allocates a small block, writes it a thousand times, frees it, and so on. In `cache-scratch`
//! the main thread first allocates one block for each thread, one after the other (so they are likely
//! neighbours), and each thread begins by freeing its own: an allocator that hands these out again shares
//! lines passively.

use std::sync::{Mutex, PoisonError};

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const SCRATCH: About = About {
    name: "cache-scratch",
    known_as: "passive false sharing",
    pattern: "threads free a neighbouring block each, then allocate one, write it 1000 times and free it",
    threads: 2,
    sizes: (8, 8),
    touch: Touch::First,
};

pub const THRASH: About = About {
    name: "cache-thrash",
    known_as: "active false sharing",
    pattern: "each thread allocates a block, writes it 1000 times and frees it",
    threads: 2,
    sizes: (8, 8),
    touch: Touch::First,
};

const WRITES: usize = 1000;

pub struct Scratch(Mutex<Vec<Block>>);

impl Pattern for Scratch {
    fn new(job: &Job) -> Result<Scratch, Refusal> {
        // SAFETY: malloc has no precondition; null may be freed.
        let block = |_| Block(unsafe { libc::malloc(job.sizes.0) }.cast());
        Ok(Scratch(Mutex::new((0..job.threads).map(block).collect())))
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        worker.give(given.unwrap_or(Block::NONE));
        write(worker);
    }
}

pub struct Thrash;

impl Pattern for Thrash {
    fn new(_: &Job) -> Result<Thrash, Refusal> {
        Ok(Thrash)
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        write(worker);
    }
}

fn write<P: Probe>(worker: &mut Worker<'_, P>) {
    while !worker.over() {
        let size = worker.size();
        let block = worker.take(size);
        for value in 0..WRITES {
            // SAFETY: the block is ours and has at least a byte.
            unsafe { block.0.write_volatile(value as u8) };
        }
        worker.give(block);
    }
}
