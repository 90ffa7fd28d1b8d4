//! `fifo`: queues. Each thread keeps 1024 blocks and always replaces the oldest, so lifetimes are equal and a
//! block is cold when it is freed.

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "fifo",
    known_as: "queue",
    pattern: "each thread keeps 1024 blocks and replaces the oldest",
    threads: 2,
    sizes: (16, 512),
    touch: Touch::First,
};

const LIVE: usize = 1024;

pub struct Fifo;

impl Pattern for Fifo {
    fn new(_: &Job) -> Result<Fifo, Refusal> {
        Ok(Fifo)
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let mut ring = [Block::NONE; LIVE];
        for at in (0..LIVE).cycle() {
            worker.give(ring[at]);
            let size = worker.size();
            ring[at] = worker.take(size);
            if worker.over() {
                break;
            }
        }
        ring.into_iter().for_each(|block| worker.give(block));
    }
}
