//! From a seed to a program. A family says what may be drawn; [`Draft`] holds what is drawn first, and
//! [`Draft::program`] turns it into habits, counts and a length that fit together.

use super::dice::Dice;
use super::program::{Calls, Exchange, Habit, Lifetime, Order, Program, Sleepers, Worker};
use super::recorded;
use super::sizes::{LARGE, Sizes, Small};
use crate::workload::Touch;

/// What is drawn before anything that follows from it.
pub struct Draft {
    pub threads: usize,
    /// Bytes live in all workers together, about.
    pub live: usize,
    /// Blocks of one worker at most, however small they are.
    pub most_slots: usize,
    pub habits: usize,
    pub alike: bool,
    /// Whether some workers do several times as much as others.
    pub unequal: bool,
    pub small: fn(&mut Dice) -> Small,
    /// Of 1024 habits, those with large blocks in between.
    pub large: u32,
    pub lifetime: fn(&mut Dice) -> Lifetime,
    pub survivors: bool,
    pub exchange: fn(&mut Dice) -> Exchange,
    pub generations: usize,
    pub hands_on: bool,
    pub sleepers: usize,
    pub calls: Calls,
    pub touch: Touch,
    pub visits: usize,
}

/// Nanoseconds of a malloc and its free as programs are cut to length: nominal, the same for all allocators.
const PAIR_NS: f64 = 45.0;
/// Of a look at a block.
const VISIT_NS: f64 = 6.0;
/// Of a byte that is written; of a byte of a large block whose pages are new.
const BYTE_NS: f64 = 0.05;
const LARGE_BYTE_NS: f64 = 0.2;
/// Of a thread's start and end.
const THREAD_NS: f64 = 40_000.0;
/// A habit turns its blocks over at least so often.
const TURNOVERS: usize = 3;

impl Draft {
    /// Anything.
    pub fn any(dice: &mut Dice) -> Draft {
        let threads = dice.of(&[1, 1, 2, 2, 2, 3, 4, 4, 8, 16, 32]);
        Draft {
            threads,
            live: dice.scaled(256 << 10, 32 << 20),
            most_slots: 100_000,
            habits: dice.of(&[1, 1, 1, 2, 3]),
            alike: dice.share(700),
            unequal: dice.share(300),
            small: any_small,
            large: 200,
            lifetime: any_lifetime,
            survivors: false,
            exchange: none,
            generations: 1,
            hands_on: false,
            sleepers: 0,
            calls: Calls {
                calloc: dice.of(&[0, 0, 50, 200]),
                aligned: dice.of(&[0, 0, 0, 20]),
                realloc: dice.of(&[0, 0, 20, 80]),
            },
            touch: dice.of(&[Touch::None, Touch::First, Touch::First, Touch::Pages, Touch::All, Touch::All]),
            visits: dice.of(&[0, 0, 1, 2, 4]),
        }
    }

    /// The program, long enough for `seconds` of one processor, about.
    pub fn program(self, seed: u64, seconds: f64, dice: &mut Dice) -> Program {
        let share = self.live / self.threads;
        let set =
            |dice: &mut Dice| -> Vec<Habit> { (0..self.habits).map(|_| self.habit(share, dice)).collect() };
        let first = set(dice);
        let mut workers: Vec<Worker> = Vec::new();
        for index in 0..self.threads {
            let habits = if index == 0 || self.alike { first.clone() } else { set(dice) };
            workers.push(Worker { habits });
        }
        let exchange = if self.threads > 1 { (self.exchange)(dice) } else { Exchange::None };
        if matches!(exchange, Exchange::Pipeline { .. }) && self.threads % 2 == 1 {
            workers.pop();
        }
        let sleepers = (self.sleepers > 0).then(|| Sleepers {
            count: self.sleepers,
            habit: Habit { survivors: 0, ..self.habit(dice.scaled(2 << 10, 256 << 10), dice) },
            empty: dice.share(512),
        });
        let visits = if self.touch == Touch::None { 0 } else { self.visits };
        let mut program = Program {
            seed,
            workers,
            sleepers,
            exchange,
            generations: self.generations,
            hands_on: self.hands_on,
            rounds: 1,
            calls: self.calls,
            touch: self.touch,
            visits,
        };
        self.cut(&mut program, seconds, dice);
        program
    }

    fn habit(&self, bytes: usize, dice: &mut Dice) -> Habit {
        let small = (self.small)(dice);
        // Large blocks are few where the live bytes are few.
        let large = (dice.share(self.large) && bytes > 16 * LARGE).then(|| {
            (1 << dice.between(5, 12), dice.scaled(2 * LARGE, (bytes / 4).clamp(2 * LARGE, 4 << 20)))
        });
        let sizes = Sizes { small, large };
        let slots = (bytes / sizes.mean()).clamp(8, self.most_slots);
        let survivors = if self.survivors { dice.of(&[0, 8, 32, 100, 250]) } else { 0 };
        Habit { sizes, lifetime: (self.lifetime)(dice), slots, steps: 1, survivors }
    }

    /// Gives rounds and steps.
    fn cut(&self, program: &mut Program, seconds: f64, dice: &mut Dice) {
        let threads = program.workers.len();
        let weights: Vec<usize> =
            (0..threads).map(|_| if self.unequal { dice.of(&[1, 1, 2, 4, 8]) } else { 1 }).collect();
        let starts = threads * program.generations + program.sleepers.as_ref().map_or(0, |all| all.count);
        let budget = (seconds * 1e9 - starts as f64 * THREAD_NS).max(seconds * 2e8);
        let per_weight = budget / weights.iter().sum::<usize>() as f64;
        // The steps of each worker, were all its habits as its first.
        let steps: Vec<usize> = program
            .workers
            .iter()
            .zip(&weights)
            .map(|(worker, &weight)| {
                let ns: f64 = worker.habits.iter().map(|habit| step_ns(habit, program)).sum();
                (per_weight * weight as f64 * worker.habits.len() as f64 / ns) as usize
            })
            .collect();
        let most = steps.iter().max().copied().unwrap_or(1).max(1);
        let own = match program.exchange {
            Exchange::None => 16 * self.habits,
            Exchange::Owners { .. } => most / dice.scaled(64, 8192),
            Exchange::Pipeline { given, .. } => {
                (budget / (threads / 2 * given) as f64 / (2.0 * PAIR_NS)) as usize
            }
        };
        program.rounds = own.clamp(self.habits.max(4), 4000).max(program.generations);
        for (worker, steps) in program.workers.iter_mut().zip(steps) {
            let count = worker.habits.len();
            for habit in &mut worker.habits {
                habit.steps = match program.exchange {
                    // What a thread of a pipeline does beside is little.
                    Exchange::Pipeline { given, .. } => given / 8,
                    _ => (steps / program.rounds).max(1),
                };
                let all = habit.steps * program.rounds / count;
                habit.slots = habit.slots.min(all / TURNOVERS).max(8);
            }
        }
        if let Some(sleepers) = &mut program.sleepers {
            sleepers.habit.slots = sleepers.habit.slots.min(2000);
            sleepers.habit.steps = sleepers.habit.slots * 2;
        }
    }
}

fn step_ns(habit: &Habit, program: &Program) -> f64 {
    let large = habit.sizes.large_share() as f64;
    let small = habit.sizes.mean() as f64 - large;
    let (small, large) = match program.touch {
        Touch::None | Touch::First => (0.0, large * LARGE_BYTE_NS / 8.0),
        Touch::Pages => (0.0, large * LARGE_BYTE_NS),
        Touch::All => (small * BYTE_NS, large * LARGE_BYTE_NS),
    };
    PAIR_NS + program.visits as f64 * VISIT_NS + small + large
}

pub fn none(_: &mut Dice) -> Exchange {
    Exchange::None
}

pub fn owners(dice: &mut Dice) -> Exchange {
    Exchange::Owners { given: dice.scaled(8, 512), lag: dice.between(1, 4) }
}

pub fn pipeline(dice: &mut Dice) -> Exchange {
    Exchange::Pipeline { given: dice.scaled(32, 1024), lag: dice.scaled(4, 32) }
}

pub fn any_small(dice: &mut Dice) -> Small {
    match dice.below(6) {
        0 => few(dice),
        1 => Small::Recorded(&recorded::ALL[dice.below(recorded::ALL.len())]),
        2 => {
            let least = dice.scaled(8, 512);
            Small::Uniform(least, least + dice.scaled(8, 4096))
        }
        3 => Small::Scaled(dice.scaled(8, 64), dice.scaled(128, 16 << 10)),
        4 => Small::Falling(dice.scaled(8, 32), dice.scaled(512, 32 << 10)),
        _ => Small::Uniform(8, dice.scaled(64, 1024)),
    }
}

/// What programs of that name asked for.
pub fn as_in(programs: &[&str], dice: &mut Dice) -> Small {
    let name = dice.of(programs);
    let found = recorded::ALL.iter().find(|recorded| recorded.program == name);
    found.map_or(Small::Uniform(8, 512), Small::Recorded)
}

pub fn few(dice: &mut Dice) -> Small {
    let most = dice.scaled(64, 8192);
    Small::Few((0..dice.between(1, 8)).map(|_| dice.scaled(8, most)).collect())
}

pub fn many(dice: &mut Dice) -> Small {
    match dice.below(3) {
        0 => Small::Scaled(dice.scaled(8, 64), dice.scaled(4096, 32 << 10)),
        1 => Small::Uniform(dice.scaled(8, 64), dice.scaled(4096, 32 << 10)),
        _ => Small::Falling(dice.scaled(8, 64), dice.scaled(4096, 32 << 10)),
    }
}

/// As servers' requests have them.
pub fn moderate(dice: &mut Dice) -> Small {
    match dice.below(3) {
        0 => Small::Uniform(8, dice.scaled(256, 2048)),
        1 => Small::Scaled(16, dice.scaled(256, 4096)),
        _ => Small::Falling(16, 16 << 10),
    }
}

pub fn any_lifetime(dice: &mut Dice) -> Lifetime {
    match dice.below(6) {
        0 => Lifetime::Stack,
        1 => Lifetime::Queue,
        2 | 3 => Lifetime::Random,
        4 => Lifetime::Generations { survive: dice.of(&[16, 64, 256]) },
        _ => bursts(dice),
    }
}

pub fn random(_: &mut Dice) -> Lifetime {
    Lifetime::Random
}

pub fn bursts(dice: &mut Dice) -> Lifetime {
    let order = dice.of(&[Order::Forward, Order::Backward, Order::Shuffled]);
    Lifetime::Bursts { order, short: dice.of(&[0, 0, 200, 600]) }
}
