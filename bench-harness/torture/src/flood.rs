//! The callback flood: callbacks that post themselves again as soon as their grace period has passed, as fast
//! as one thread can, while others read. Progress is that at least 100 of them have gone three rounds.
//!
//! A callback waits in a page with 506 others behind one cookie, as freed blocks do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cast::Stage;
use crate::flavor::{Flavor, Reader};
use crate::report::{Flood, ROUNDS};
use std::sync::atomic::Ordering::Relaxed;

const PAGE: usize = 507;
/// Most callbacks in the air, as in rcutorture.
const MOST: usize = 50_000;

struct Callback {
    rounds: u64,
}

/// Runs until the phase stops.
pub fn flood<F: Flavor>(stage: Stage<'_, F>) -> Flood {
    let reader = stage.flavor.join();
    let began = Instant::now();
    let mut seen = Flood::default();
    let mut filling: Vec<Callback> = Vec::with_capacity(PAGE);
    let mut waiting: VecDeque<(u64, Vec<Callback>)> = VecDeque::new();
    let mut ready: Vec<Callback> = Vec::new();
    let mut air = 0;
    while !stage.stop.load(Relaxed) {
        while filling.len() < PAGE {
            // One that comes back goes round again; else a new one.
            let fresh = || (air < MOST).then_some(Callback { rounds: 0 });
            let Some(callback) = ready.pop().or_else(fresh) else { break };
            air += usize::from(callback.rounds == 0);
            filling.push(callback);
        }
        if filling.len() == PAGE {
            let full = core::mem::replace(&mut filling, Vec::with_capacity(PAGE));
            waiting.push_back((stage.flavor.start_poll(), full));
        }
        reader.quiescent();
        let mut elapsed = false;
        while waiting.front().is_some_and(|(cookie, _)| stage.flavor.poll(*cookie)) {
            let Some((_, page)) = waiting.pop_front() else { break };
            elapsed = true;
            let tenth = (began.elapsed().as_millis() / 100) as usize;
            if seen.histogram.len() <= tenth {
                seen.histogram.resize(tenth + 1, 0);
            }
            seen.histogram[tenth] += page.len() as u64;
            seen.invoked += page.len() as u64;
            for mut callback in page {
                callback.rounds += 1;
                seen.laundered += u64::from(callback.rounds == ROUNDS);
                ready.push(callback);
            }
        }
        seen.most = seen.most.max(air as u64);
        if !elapsed {
            // Nothing to do but to see that the period ends.
            stage.flavor.push(true);
            if air == MOST {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }
    seen.millis = began.elapsed().as_millis() as u64;
    seen
}
