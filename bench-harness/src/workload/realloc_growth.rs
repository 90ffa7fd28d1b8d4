//! `realloc-vector` and `realloc-string`: blocks that grow.
//!
//! A vector doubles from 16 bytes to a mebibyte, then is freed; sixteen of them grow in turn. A string gets 1
//! to 32 bytes more each time, to 4 KiB; 256 of them grow at random, so that no two neighbours grow one after
//! the other.

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const VECTOR: About = About {
    name: "realloc-vector",
    known_as: "vector growth",
    pattern: "sixteen vectors a thread double in turn; what is new is written",
    threads: 2,
    sizes: (16, 1 << 20),
    touch: Touch::All,
};

pub const STRING: About = About {
    name: "realloc-string",
    known_as: "string growth",
    pattern: "256 strings a thread get 1 to 32 bytes more at random",
    threads: 2,
    sizes: (16, 4096),
    touch: Touch::All,
};

/// Something that grows.
#[derive(Clone, Copy)]
struct Growing {
    block: Block,
    size: usize,
}

const NOTHING: Growing = Growing { block: Block::NONE, size: 0 };

pub struct Vector;

impl Pattern for Vector {
    fn new(_: &Job) -> Result<Vector, Refusal> {
        Ok(Vector)
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        grow(worker, &mut [NOTHING; 16], |_, turn, _| turn % 16, |_, size| size * 2);
    }
}

pub struct Text;

impl Pattern for Text {
    fn new(_: &Job) -> Result<Text, Refusal> {
        Ok(Text)
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let longer = |worker: &mut Worker<'_, P>, size| size + 1 + worker.below(32);
        grow(worker, &mut [NOTHING; 256], |worker, _, all| worker.below(all), longer);
    }
}

fn grow<P: Probe>(
    worker: &mut Worker<'_, P>,
    all: &mut [Growing],
    which: impl Fn(&mut Worker<'_, P>, usize, usize) -> usize,
    next: impl Fn(&mut Worker<'_, P>, usize) -> usize,
) {
    let (least, most) = worker.job.sizes;
    for turn in 0.. {
        if worker.over() {
            break;
        }
        let at = which(worker, turn, all.len());
        let Growing { block, size } = all[at];
        let larger = if size == 0 { least.max(1) } else { next(worker, size) };
        all[at] = if larger > most {
            worker.give(block);
            NOTHING
        } else {
            Growing { block: worker.resize(block, size, larger), size: larger }
        };
    }
    all.iter().for_each(|growing| worker.give(growing.block));
}
