//! `fragmentation`: a program that changes its mind about sizes. A thread allocates 20,000 blocks of one
//! size, frees nine of ten at random, and then allocates blocks three times the size until as many bytes are
//! live as before; and so on with other sizes. An allocator that cannot give the holes to another size grows:
//! look at peak RSS.

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "fragmentation",
    known_as: "fragmentation, then another size",
    pattern: "20,000 blocks of one size, nine of ten freed at random, then as many bytes of thrice the size",
    threads: 2,
    sizes: (16, 1024),
    touch: Touch::First,
};

const BLOCKS: usize = 20_000;

pub struct Fragmentation;

impl Pattern for Fragmentation {
    fn new(_: &Job) -> Result<Fragmentation, Refusal> {
        Ok(Fragmentation)
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let (least, most) = worker.job.sizes;
        let mut live: Vec<Block> = Vec::with_capacity(2 * BLOCKS);
        while !worker.over_now() {
            let mut size = least;
            while size <= most && !worker.over_now() {
                (0..BLOCKS).for_each(|_| live.push(worker.take(size)));
                for _ in 0..BLOCKS / 10 * 9 {
                    let at = worker.below(live.len());
                    worker.give(live.swap_remove(at));
                }
                (0..BLOCKS * 3 / 10).for_each(|_| live.push(worker.take(size * 3)));
                // A tenth stays over into the next size, the rest goes.
                for _ in 0..live.len() / 10 * 9 {
                    let at = worker.below(live.len());
                    worker.give(live.swap_remove(at));
                }
                size = size * 8 / 5 + 1;
            }
            live.drain(..).for_each(|block| worker.give(block));
        }
    }
}
