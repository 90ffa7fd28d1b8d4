//! `tight-pair`: the fast paths alone. Each thread allocates a block and frees it at once, always.

use super::about::About;
use super::worker::{Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "tight-pair",
    known_as: "malloc/free pair",
    pattern: "every block is freed before the next is allocated, by the same thread",
    threads: 2,
    sizes: (64, 64),
    touch: Touch::First,
};

pub struct TightPair;

impl Pattern for TightPair {
    fn new(_: &Job) -> Result<TightPair, Refusal> {
        Ok(TightPair)
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        while !worker.over() {
            let size = worker.size();
            let block = worker.take(size);
            worker.give(block);
        }
    }
}
