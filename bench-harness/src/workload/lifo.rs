//! `lifo`: stacks, recursion, parsers. Each thread allocates up to 1000 blocks and frees them in the opposite
//! order.

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "lifo",
    known_as: "stack",
    pattern: "each thread allocates 1 to 1000 blocks, then frees them in the opposite order",
    threads: 2,
    sizes: (16, 256),
    touch: Touch::First,
};

const DEEPEST: usize = 1000;

pub struct Lifo;

impl Pattern for Lifo {
    fn new(_: &Job) -> Result<Lifo, Refusal> {
        Ok(Lifo)
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let mut stack = [Block::NONE; DEEPEST];
        while !worker.over_now() {
            let depth = 1 + worker.below(DEEPEST);
            for slot in &mut stack[..depth] {
                let size = worker.size();
                *slot = worker.take(size);
            }
            for &block in stack[..depth].iter().rev() {
                worker.give(block);
            }
        }
    }
}
