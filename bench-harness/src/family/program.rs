//! What a seed stands for: a program, as parameters. Everything that its threads do follows from these and
//! from the seed; nothing follows from time, or from where a block lies.

use super::sizes::Sizes;
use crate::workload::Touch;

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    pub seed: u64,
    pub workers: Vec<Worker>,
    /// Threads that work a little, then sleep to the end.
    pub sleepers: Option<Sleepers>,
    pub exchange: Exchange,
    /// Threads that a worker is, one after the other: each ends and starts its successor. 1: it is one
    /// thread.
    pub generations: usize,
    /// Whether the successor gets its predecessor's blocks; else they are freed before the thread ends.
    pub hands_on: bool,
    /// Steps between two exchanges; all workers have as many rounds.
    pub rounds: usize,
    pub calls: Calls,
    pub touch: Touch,
    /// Live blocks looked at between two allocations.
    pub visits: usize,
}

/// A worker's own part: its habits, one after the other.
#[derive(Clone, Debug)]
pub struct Worker {
    pub habits: Vec<Habit>,
}

/// What a thread does for a while.
#[derive(Clone, Debug)]
pub struct Habit {
    pub sizes: Sizes,
    pub lifetime: Lifetime,
    /// Blocks it holds at most.
    pub slots: usize,
    /// Allocations in each round.
    pub steps: usize,
    /// Of 1024 blocks that are live at the habit's end, those that live on to the program's end.
    pub survivors: u32,
}

/// Which block is freed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The youngest: the stack rises and falls to random heights.
    Stack,
    /// The oldest.
    Queue,
    /// Any.
    Random,
    /// An eighth are young and leave in order; of 1024 of those, so many grow old and are then replaced at
    /// random.
    Generations { survive: u32 },
    /// All at once, when there are enough, in this order. Of 1024, so many are freed at once.
    Bursts { order: Order, short: u32 },
}

/// The order in which a burst is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Backward,
    Shuffled,
}

/// What goes from one worker to another in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    None,
    /// So many live blocks of each worker, for as many of another one; the receiver is the next, the one
    /// after that, and so on.
    Owners {
        given: usize,
        lag: usize,
    },
    /// Workers with even numbers allocate so many blocks for the next, which frees them.
    Pipeline {
        given: usize,
        lag: usize,
    },
}

/// Threads that sleep.
#[derive(Clone, Debug)]
pub struct Sleepers {
    pub count: usize,
    pub habit: Habit,
    /// Whether they free all they have before they sleep.
    pub empty: bool,
}

/// Of 1024 allocations, those that are not by malloc; realloc concerns a live block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    pub calloc: u32,
    pub aligned: u32,
    pub realloc: u32,
}

impl Program {
    /// Threads that run at the same time, sleepers not counted.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Allocations, about, without those of a pipeline: a round is of one habit.
    fn steps(&self) -> usize {
        let each = |worker: &Worker| {
            worker.habits.iter().map(|habit| habit.steps).sum::<usize>() / worker.habits.len()
        };
        self.rounds * self.workers.iter().map(each).sum::<usize>()
    }

    /// The whole of it in one line.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        let threads = self.threads();
        parts.push(if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") });
        if self.generations > 1 {
            let what = if self.hands_on { "handed on" } else { "freed" };
            parts.push(format!("each {} that end, blocks {what}", self.generations));
        }
        if let Some(sleepers) = &self.sleepers {
            let how = if sleepers.empty { "empty" } else { "full" };
            parts.push(format!("{} asleep ({how}, {})", sleepers.count, sleepers.habit.line()));
        }
        match self.exchange {
            Exchange::None => {}
            Exchange::Owners { given, .. } => parts.push(format!("{given} blocks change owner a round")),
            Exchange::Pipeline { given, .. } => {
                parts.push(format!("{given} blocks a round to be freed by the next"))
            }
        }
        let habits = &self.workers[0].habits;
        let shown = habits.iter().take(2).map(Habit::line).collect::<Vec<_>>().join(", then ");
        let more = habits.len().saturating_sub(2);
        parts.push(if more > 0 { format!("{shown}, and {more} more") } else { shown });
        let same = self
            .workers
            .iter()
            .all(|worker| worker.habits.iter().map(Habit::line).eq(habits.iter().map(Habit::line)));
        if !same {
            parts.push("others otherwise".to_owned());
        }
        let Calls { calloc, aligned, realloc } = self.calls;
        for (share, name) in [(calloc, "calloc"), (aligned, "aligned"), (realloc, "realloc")] {
            if share > 0 {
                parts.push(format!("{:.0} % {name}", f64::from(share) / 10.24));
            }
        }
        parts.push(format!("touch {}", format!("{:?}", self.touch).to_lowercase()));
        if self.visits > 0 {
            parts.push(format!("{} visits", self.visits));
        }
        parts.push(format!("{} rounds", self.rounds));
        parts.push(format!("{}k steps", self.steps() / 1000));
        parts.join("; ")
    }
}

impl Habit {
    fn line(&self) -> String {
        let life = match self.lifetime {
            Lifetime::Stack => "stack".to_owned(),
            Lifetime::Queue => "queue".to_owned(),
            Lifetime::Random => "random".to_owned(),
            Lifetime::Generations { survive } => format!("generations 1/{}", 1024 / survive.max(1)),
            Lifetime::Bursts { order, .. } => format!("bursts {}", format!("{order:?}").to_lowercase()),
        };
        let kept = if self.survivors > 0 {
            format!(" keeps {} %", self.survivors * 100 / 1024)
        } else {
            String::new()
        };
        format!("{life} of {} x {}{kept}", self.slots, self.sizes.line())
    }
}
