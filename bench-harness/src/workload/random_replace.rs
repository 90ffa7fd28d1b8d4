//! `random-replace`: a server's long-lived state, after Larson and Krishnan. A seat is an array of 5000
//! blocks of which a thread replaces random ones; after 50,000 replacements it gets up and takes the seat
//! that has been free for longest. So most blocks are freed by another thread than their maker.
//!
//! There is one seat more than threads, so that nobody waits.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "random-replace",
    known_as: "larson",
    pattern: "random ones of 5000 blocks are replaced; after 50,000 the arrays change threads",
    threads: 2,
    sizes: (8, 1000),
    touch: Touch::First,
};

const SLOTS: usize = 5000;
const TURNS: usize = 10 * SLOTS;

pub struct RandomReplace {
    free: Mutex<VecDeque<Box<[Block; SLOTS]>>>,
}

impl Pattern for RandomReplace {
    fn new(job: &Job) -> Result<RandomReplace, Refusal> {
        let seats = (0..=job.threads).map(|_| Box::new([Block::NONE; SLOTS])).collect();
        Ok(RandomReplace { free: Mutex::new(seats) })
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let lock = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seat = lock().pop_front().expect("one seat more than threads");
        'time: loop {
            for _ in 0..TURNS {
                let (at, size) = (worker.below(SLOTS), worker.size());
                worker.give(seat[at]);
                seat[at] = worker.take(size);
                if worker.over() {
                    break 'time;
                }
            }
            let mut free = lock();
            free.push_back(seat);
            seat = free.pop_front().expect("one was just put there");
        }
        lock().push_back(seat);
    }

    fn finish(self) {
        for seat in self.free.into_inner().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: every block in a seat is live, and held by nobody else any more.
            seat.iter().for_each(|block| unsafe { libc::free(block.0.cast()) });
        }
    }
}
