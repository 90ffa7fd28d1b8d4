//! `shifting-batches`: after mstress. Each thread builds up batches of blocks of very different sizes,
//! retains some of them to the batch's end, frees others at random, and exchanges others with the other
//! threads through a shared table; at the end of a batch it frees all it has.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "shifting-batches",
    known_as: "mstress",
    pattern: "batches of up to 800 blocks; a quarter of the steps exchange a block with another thread",
    threads: 2,
    sizes: (8, 16384),
    touch: Touch::First,
};

/// Places where blocks change hands.
const TABLE: usize = 1000;
const BATCH: usize = 100;

pub struct ShiftingBatches {
    table: Vec<AtomicPtr<u8>>,
}

impl Pattern for ShiftingBatches {
    fn new(_: &Job) -> Result<ShiftingBatches, Refusal> {
        Ok(ShiftingBatches { table: (0..TABLE).map(|_| AtomicPtr::default()).collect() })
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let most = BATCH * (worker.index % 8 + 1);
        let (mut held, mut retained) = (Vec::with_capacity(most), Vec::with_capacity(most));
        while !worker.over_now() {
            let (mut allocate, mut retain) = (most, most / 2);
            while allocate > 0 || retain > 0 {
                let size = skewed(worker);
                if retain == 0 || (allocate > 0 && worker.random.bool()) {
                    allocate -= 1;
                    held.push(worker.take(size));
                } else {
                    retain -= 1;
                    retained.push(worker.take(size));
                }
                if worker.below(3) > 0 && !held.is_empty() {
                    let at = worker.below(held.len());
                    worker.give(held.swap_remove(at));
                }
                if worker.below(4) == 0 && !held.is_empty() {
                    let (at, place) = (worker.below(held.len()), worker.below(TABLE));
                    // AcqRel: the block is handed over with what its maker wrote, both ways.
                    held[at] = Block(self.table[place].swap(held[at].0, Ordering::AcqRel));
                }
            }
            held.drain(..).chain(retained.drain(..)).for_each(|block| worker.give(block));
        }
    }

    fn finish(self) {
        for place in self.table {
            // SAFETY: what lies in the table is live and held by nobody else.
            unsafe { libc::free(place.into_inner().cast()) };
        }
    }
}

/// Most blocks small, few large: each doubling of the size is half as likely.
fn skewed<P: Probe>(worker: &mut Worker<'_, P>) -> usize {
    let (least, most) = worker.job.sizes;
    let doublings = (worker.random.u64(..) | 1 << 40).trailing_zeros();
    let ceiling = least.max(16) << doublings.min(20);
    least + worker.below(ceiling.min(most) - least + 1).min(most - least)
}
