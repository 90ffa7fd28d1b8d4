//! `idle-threads`: thread pools. Sixty threads allocate 64 blocks each, free half of them and sleep until the
//! end, while the workers replace blocks at random. What sleepers keep, and whether they slow the others
//! down, is measured.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "idle-threads",
    known_as: "many threads, mostly idle",
    pattern: "60 threads hold 32 blocks each and sleep; the workers replace random ones of 2000 blocks",
    threads: 2,
    sizes: (16, 2048),
    touch: Touch::First,
};

const SLEEPERS: usize = 60;
const BLOCKS: usize = 64;
const SLOTS: usize = 2000;

pub struct IdleThreads {
    sleepers: Mutex<Vec<(Sender<()>, std::thread::JoinHandle<()>)>>,
}

impl Pattern for IdleThreads {
    fn new(job: &Job) -> Result<IdleThreads, Refusal> {
        let asleep = std::sync::Arc::new(AtomicUsize::new(0));
        let start = |index: usize| {
            let (wake, woken) = channel();
            let (asleep, sizes) = (asleep.clone(), job.sizes);
            (wake, std::thread::spawn(move || sleep(index, sizes, &asleep, &woken)))
        };
        let sleepers = (0..SLEEPERS).map(start).collect();
        // Relaxed: only their number counts.
        while asleep.load(Ordering::Relaxed) < SLEEPERS {
            std::thread::yield_now();
        }
        Ok(IdleThreads { sleepers: Mutex::new(sleepers) })
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let mut slots = [Block::NONE; SLOTS];
        while !worker.over() {
            let (at, size) = (worker.below(SLOTS), worker.size());
            worker.give(slots[at]);
            slots[at] = worker.take(size);
        }
        slots.into_iter().for_each(|block| worker.give(block));
    }

    fn finish(self) {
        for (wake, thread) in self.sleepers.into_inner().unwrap_or_else(PoisonError::into_inner) {
            drop(wake);
            let _ = thread.join();
        }
    }
}

fn sleep(index: usize, (least, most): (usize, usize), asleep: &AtomicUsize, woken: &Receiver<()>) {
    let mut random = fastrand::Rng::with_seed(index as u64);
    let blocks: Vec<Vec<u8>> =
        (0..BLOCKS).map(|_| Vec::with_capacity(random.usize(least..=most).max(1))).collect();
    let kept: Vec<_> = blocks.into_iter().step_by(2).collect();
    // Relaxed: see above.
    asleep.fetch_add(1, Ordering::Relaxed);
    let _ = woken.recv();
    drop(kept);
}
