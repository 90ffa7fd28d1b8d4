//! `mixed-server`: after rptest. A thread serves requests. A request allocates 32 to 255 blocks, many small
//! and few large (the fourth power of an even distribution), and lives until eight later ones have begun. One
//! in eight is finished by another thread.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::about::About;
use super::worker::{Block, Job, Pattern, Probe, Touch, Worker};
use crate::outcome::Refusal;

pub const ABOUT: About = About {
    name: "mixed-server",
    known_as: "rptest",
    pattern: "requests of 32 to 255 blocks live for eight requests; one in eight is freed by another thread",
    threads: 2,
    sizes: (16, 16384),
    touch: Touch::First,
};

const ALIVE: usize = 8;
/// Requests that wait for another thread.
const MAIL: usize = 64;

type Request = Vec<Block>;

pub struct MixedServer {
    mail: Mutex<VecDeque<Request>>,
}

impl Pattern for MixedServer {
    fn new(_: &Job) -> Result<MixedServer, Refusal> {
        Ok(MixedServer { mail: Mutex::new(VecDeque::with_capacity(MAIL)) })
    }

    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>) {
        let mut alive: VecDeque<Request> = VecDeque::with_capacity(ALIVE);
        // Emptied lists are used again: the lists themselves are no part of the pattern.
        let mut lists: Vec<Request> = Vec::new();
        while !worker.over_now() {
            let mut request = lists.pop().unwrap_or_else(|| Vec::with_capacity(256));
            for _ in 0..32 + worker.below(224) {
                let size = falling(worker);
                request.push(worker.take(size));
            }
            alive.push_back(request);
            if alive.len() < ALIVE {
                continue;
            }
            let mut done = alive.pop_front().unwrap_or_default();
            if worker.below(8) == 0 {
                done = self.exchange(done);
            }
            done.drain(..).for_each(|block| worker.give(block));
            lists.push(done);
        }
        alive.into_iter().flatten().for_each(|block| worker.give(block));
    }

    fn finish(self) {
        for request in self.mail.into_inner().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: the blocks are live and held by nobody else.
            request.iter().for_each(|block| unsafe { libc::free(block.0.cast()) });
        }
    }
}

impl MixedServer {
    /// Leaves a request for another thread and takes the oldest of the others', if the box is full.
    fn exchange(&self, request: Request) -> Request {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        mail.push_back(request);
        if mail.len() < MAIL { Vec::with_capacity(256) } else { mail.pop_front().unwrap_or_default() }
    }
}

fn falling<P: Probe>(worker: &mut Worker<'_, P>) -> usize {
    let (least, most) = worker.job.sizes;
    let even = worker.random.f64();
    least + ((most - least) as f64 * even * even * even * even) as usize
}
