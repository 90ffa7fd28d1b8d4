//! The measured side: runs a program with its threads, and says what it took and what its calls were.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::Scope;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::boxes::Boxes;
use super::catalogue;
use super::hand::Hand;
use super::program::{Exchange, Program};
use crate::machine;
use crate::outcome::Refusal;
use crate::workload::{Block, status_kib};

/// What is to be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub family: String,
    pub seed: u64,
    pub seconds: f64,
}

/// What a run says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Calls that gave a block.
    pub operations: u64,
    /// Of all calls: the same under every allocator.
    pub checksum: String,
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    /// VmHWM at the end.
    pub peak_kib: u64,
    /// VmRSS before the first call.
    pub base_kib: u64,
}

/// What the threads share.
struct Shared<'p> {
    program: &'p Program,
    boxes: Option<Boxes>,
    /// Operations and sum of the workers that have ended.
    ended: Mutex<(u64, u64)>,
    /// Sleepers that sleep; whether they may end.
    asleep: Mutex<(usize, bool)>,
    changed: Condvar,
}

pub fn inner(job: &str) -> Result<Value, Refusal> {
    let job: Job = serde_json::from_str(job).map_err(Refusal::of("bad job"))?;
    let program = catalogue::find(&job.family)?.program(job.seed, job.seconds);
    Ok(json!(run(&program)))
}

pub fn run(program: &Program) -> Tally {
    let mut hands: Vec<_> = program
        .workers
        .iter()
        .enumerate()
        .map(|(index, worker)| Box::new(Hand::new(program, &worker.habits, index as u64)))
        .collect();
    let boxes = match program.exchange {
        Exchange::None => None,
        Exchange::Owners { given, lag } | Exchange::Pipeline { given, lag } => {
            Some(Boxes::new(program.workers.len(), given, lag))
        }
    };
    let shared = Shared {
        program,
        boxes,
        ended: Mutex::new((0, 0)),
        asleep: Mutex::new((0, false)),
        changed: Condvar::new(),
    };
    let base_kib = status_kib("VmRSS:");
    let (began, cpu) = (Instant::now(), machine::self_seconds());
    std::thread::scope(|scope| {
        let sleepers = program.sleepers.as_ref().map_or(0, |sleepers| sleepers.count);
        for index in 0..sleepers {
            let shared = &shared;
            scope.spawn(move || sleep(shared, index));
        }
        let lock = || shared.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        drop(shared.changed.wait_while(lock(), |state| state.0 < sleepers));
        // Worker 0 is the main thread, so a program of one thread is a process of one thread.
        std::thread::scope(|scope| {
            let first = hands.remove(0);
            for (index, hand) in hands.into_iter().enumerate() {
                let shared = &shared;
                scope.spawn(move || work(scope, shared, index + 1, 0, hand));
            }
            work(scope, &shared, 0, 0, first);
        });
        lock().1 = true;
        shared.changed.notify_all();
    });
    let Shared { boxes, ended, .. } = shared;
    for block in boxes.into_iter().flat_map(Boxes::left) {
        // SAFETY: what was on its way is live, and its own; null is nothing.
        unsafe { libc::free(block.0.cast()) };
    }
    let (wall, cpu) = (began.elapsed().as_secs_f64(), machine::self_seconds() - cpu);
    let (operations, sum) = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    Tally {
        operations,
        checksum: format!("{sum:016x}"),
        wall_seconds: wall,
        cpu_seconds: cpu.max(1e-6),
        peak_kib: status_kib("VmHWM:"),
        base_kib,
    }
}

/// One generation of a worker; starts the next.
fn work<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    shared: &'scope Shared<'_>,
    index: usize,
    generation: usize,
    mut hand: Box<Hand<'scope>>,
) {
    let program = shared.program;
    let habits = &program.workers[index].habits;
    let habit_of = |round: usize| &habits[round * habits.len() / program.rounds];
    let bound = |generation: usize| generation * program.rounds / program.generations;
    for round in bound(generation)..bound(generation + 1) {
        let habit = habit_of(round);
        if round > 0 && !std::ptr::eq(habit_of(round - 1), habit) {
            hand.change(habit_of(round - 1), habit);
        }
        for _ in 0..habit.steps {
            hand.step(habit);
        }
        match program.exchange {
            Exchange::None => {}
            Exchange::Owners { given, .. } => swap_owners(shared, &mut hand, index, round, given),
            Exchange::Pipeline { given, .. } => pass_on(shared, &mut hand, index, round, given),
        }
    }
    if generation + 1 < program.generations {
        if !program.hands_on {
            hand.clear();
        }
        scope.spawn(move || work(scope, shared, index, generation + 1, hand));
    } else {
        hand.clear();
        let mut ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.0 += hand.operations;
        // A sum of sums: workers may end in any order.
        ended.1 = ended.1.wrapping_add(hand.sum);
    }
}

/// Blocks that a batch may have.
const MOST: usize = 1024;

/// Some of this worker's blocks for as many of another's.
fn swap_owners(shared: &Shared<'_>, hand: &mut Hand<'_>, index: usize, round: usize, given: usize) {
    let Some(boxes) = &shared.boxes else { return };
    let program = shared.program;
    let habits = &program.workers[index].habits;
    let habit = &habits[round * habits.len() / program.rounds];
    let (mut blocks, mut places) = ([Block::NONE; MOST], [None; MOST]);
    for (block, place) in blocks[..given].iter_mut().zip(&mut places) {
        *place = hand.somewhere(habit);
        *block = place.map_or(Block::NONE, |at| hand.swap(at, Block::NONE));
    }
    let workers = program.workers.len();
    let receiver = (index + 1 + round % (workers - 1)) % workers;
    boxes.send(receiver, round, &blocks[..given]);
    if !boxes.receive(index, round, &mut blocks[..given]) {
        return;
    }
    for (&block, place) in blocks[..given].iter().zip(places) {
        // A place may have been drawn twice.
        let displaced = place.map_or(block, |at| hand.swap(at, block));
        hand.give(displaced);
    }
}

/// Even workers allocate for the next, odd ones free.
fn pass_on(shared: &Shared<'_>, hand: &mut Hand<'_>, index: usize, round: usize, given: usize) {
    let Some(boxes) = &shared.boxes else { return };
    let mut blocks = [Block::NONE; MOST];
    if index.is_multiple_of(2) {
        blocks[..given].iter_mut().for_each(|block| *block = hand.take());
        boxes.send(index + 1, round, &blocks[..given]);
    } else if boxes.receive(index, round, &mut blocks[..given]) {
        blocks[..given].iter().for_each(|&block| hand.give(block));
    }
}

fn sleep(shared: &Shared<'_>, index: usize) {
    let Some(sleepers) = &shared.program.sleepers else { return };
    let habits = std::slice::from_ref(&sleepers.habit);
    let mut hand = Hand::new(shared.program, habits, 1000 + index as u64);
    for _ in 0..sleepers.habit.steps {
        hand.step(&sleepers.habit);
    }
    if sleepers.empty {
        hand.clear();
    }
    let lock = || shared.asleep.lock().unwrap_or_else(PoisonError::into_inner);
    lock().0 += 1;
    shared.changed.notify_all();
    drop(shared.changed.wait_while(lock(), |state| !state.1));
    hand.clear();
    let mut ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
    ended.0 += hand.operations;
    ended.1 = ended.1.wrapping_add(hand.sum);
}
