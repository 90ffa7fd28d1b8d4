//! `thread-churn`: a thread a request. Each worker starts a thread which allocates 64 blocks, frees them and
//! ends, and waits for it, again and again. Counted are threads; their creation is part of the time.

use super::about::About;
use super::worker::{Job, Pattern, Plain, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "thread-churn",
    known_as: "a thread a request",
    pattern: "a thread is started, allocates and frees 64 blocks, and ends; an operation is a thread",
    threads: 2,
    sizes: (16, 2048),
    touch: Touch::First,
};

const BLOCKS: usize = 64;

pub struct ThreadChurn;

impl Pattern for ThreadChurn {
    fn new(_: &Job) -> Result<ThreadChurn, Refusal> {
        Ok(ThreadChurn)
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        while !worker.over_now() {
            let (seed, job) = (worker.random.u64(..), worker.job);
            worker.probe.time(|| {
                std::thread::scope(|scope| {
                    scope.spawn(move || brief(job, seed));
                });
            });
            worker.operations += 1;
        }
    }
}

fn brief(job: &Job, seed: u64) {
    let mut worker = Worker::<Plain>::brief(job, seed);
    let blocks: [_; BLOCKS] = std::array::from_fn(|_| {
        let size = worker.size();
        worker.take(size)
    });
    blocks.into_iter().for_each(|block| worker.give(block));
}
