//! `large-blocks`: buffers and images. Each thread keeps 16 blocks of 64 KiB to 4 MiB, each doubling as
//! likely, and replaces random ones; every page is written, as somebody who asks for a megabyte does. What
//! counts is how often the system is asked for pages and whether they are given back.

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "large-blocks",
    known_as: "large blocks",
    pattern: "each thread keeps 16 blocks and replaces random ones; every page is written",
    threads: 2,
    sizes: (64 << 10, 4 << 20),
    touch: Touch::Pages,
};

const SLOTS: usize = 16;

pub struct LargeBlocks;

impl Pattern for LargeBlocks {
    fn new(_: &Job) -> Result<LargeBlocks, Refusal> {
        Ok(LargeBlocks)
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let (least, most) = worker.job.sizes;
        let doublings = (most as f64 / least.max(1) as f64).log2();
        let mut slots = [Block::NONE; SLOTS];
        while !worker.over_now() {
            let at = worker.below(SLOTS);
            let size = (least as f64 * (worker.random.f64() * doublings).exp2()) as usize;
            worker.give(slots[at]);
            slots[at] = worker.take(size);
        }
        slots.into_iter().for_each(|block| worker.give(block));
    }
}
