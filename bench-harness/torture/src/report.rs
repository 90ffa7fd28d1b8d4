//! What was seen: counters that all threads add to, and the lines that rcutorture prints.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Grace periods that a removed element waits before it is used again (RCU_TORTURE_PIPE_LEN).
pub const PIPE: usize = 10;
/// Times a callback must go round in a flood, and how many must have done so.
pub const ROUNDS: u64 = 3;
/// See [`ROUNDS`].
pub const LAUNDERED: u64 = 100;

/// Added to by all threads; read at the end. All relaxed: the end of the threads orders them.
#[derive(Default)]
#[allow(missing_docs)] // as in `Report`
pub struct Counts {
    pub pipe: [AtomicU64; PIPE + 1],
    pub batch: [AtomicU64; PIPE + 1],
    pub circulation: [AtomicU64; PIPE + 1],
    pub updates: AtomicU64,
    pub allocated: AtomicU64,
    pub freed: AtomicU64,
    pub torn: AtomicU64,
    pub blocks: AtomicU64,
    pub block_errors: AtomicU64,
    pub cookies: AtomicU64,
    pub cookie_errors: AtomicU64,
    pub fake_writes: AtomicU64,
    pub comers: AtomicU64,
    pub forks: AtomicU64,
    pub fork_errors: AtomicU64,
    pub stalls: AtomicU64,
    pub stalls_reported: AtomicU64,
    pub stall_errors: AtomicU64,
}

/// One flood of callbacks.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Flood {
    /// How long it lasted, in milliseconds.
    pub millis: u64,
    /// Invocations.
    pub invoked: u64,
    /// Of callbacks that have gone [`ROUNDS`] rounds.
    pub laundered: u64,
    /// Most callbacks in the air.
    pub most: u64,
    /// Invocations in each tenth of a second.
    pub histogram: Vec<u64>,
}

/// What a run saw.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[allow(missing_docs)] // the lines say what each is
pub struct Report {
    pub parameters: String,
    pub flavor: String,
    pub phases: u64,
    pub pipe: Vec<u64>,
    pub batch: Vec<u64>,
    pub circulation: Vec<u64>,
    pub updates: u64,
    pub allocated: u64,
    pub freed: u64,
    pub torn: u64,
    pub blocks: u64,
    pub block_errors: u64,
    pub cookies: u64,
    pub cookie_errors: u64,
    pub fake_writes: u64,
    pub comers: u64,
    pub forks: u64,
    pub fork_errors: u64,
    pub stalls: u64,
    pub stalls_reported: u64,
    pub stall_errors: u64,
    pub floods: Vec<Flood>,
    pub completed: Option<u64>,
    /// Why the run ended before its time.
    pub stuck: Option<String>,
}

impl Report {
    pub(crate) fn read(counts: &Counts) -> Report {
        let all = |words: &[AtomicU64]| words.iter().map(|word| word.load(Relaxed)).collect();
        let one = |word: &AtomicU64| word.load(Relaxed);
        Report {
            pipe: all(&counts.pipe),
            batch: all(&counts.batch),
            circulation: all(&counts.circulation),
            updates: one(&counts.updates),
            allocated: one(&counts.allocated),
            freed: one(&counts.freed),
            torn: one(&counts.torn),
            blocks: one(&counts.blocks),
            block_errors: one(&counts.block_errors),
            cookies: one(&counts.cookies),
            cookie_errors: one(&counts.cookie_errors),
            fake_writes: one(&counts.fake_writes),
            comers: one(&counts.comers),
            forks: one(&counts.forks),
            fork_errors: one(&counts.fork_errors),
            stalls: one(&counts.stalls),
            stalls_reported: one(&counts.stalls_reported),
            stall_errors: one(&counts.stall_errors),
            ..Report::default()
        }
    }

    /// Sections seen to their end.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.pipe.iter().sum()
    }

    /// Readers that lived through a whole grace period.
    #[must_use]
    pub fn pipe_errors(&self) -> u64 {
        self.pipe.iter().skip(2).sum()
    }

    /// Floods in which too few callbacks went round.
    #[must_use]
    pub fn flood_errors(&self) -> u64 {
        self.floods.iter().filter(|flood| flood.laundered < LAUNDERED).count() as u64
    }

    /// Of all kinds.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.pipe_errors()
            + self.torn
            + self.block_errors
            + self.cookie_errors
            + self.fork_errors
            + self.stall_errors
            + self.flood_errors()
            + u64::from(self.stuck.is_some())
    }

    /// As rcutorture prints them.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let list = |counts: &[u64]| counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let mark = if self.errors() > 0 { "!!! " } else { "" };
        let mut lines = vec![
            format!("--- Start of test: {}", self.parameters),
            format!(
                "{mark}ver: {} rta: {} rtf: {} reads: {} gps: {} fake: {} read-exits: {}",
                self.updates,
                self.allocated,
                self.freed,
                self.reads(),
                self.completed.map_or("n/a".to_owned(), |completed| completed.to_string()),
                self.fake_writes,
                self.comers
            ),
            format!("{}Reader Pipe:  {}", if self.pipe_errors() > 0 { "!!! " } else { "" }, list(&self.pipe)),
            format!("Reader Batch:  {}", list(&self.batch)),
            format!("Free-Block Circulation:  {}", list(&self.circulation)),
            format!(
                "own cookies: {} ({} elapsed early)  torn payloads: {}  freed blocks: {} ({} changed early)",
                self.cookies, self.cookie_errors, self.torn, self.blocks, self.block_errors
            ),
            format!(
                "forks: {} ({} failed)  stalls: {} ({} reported, {} did not hold)",
                self.forks, self.fork_errors, self.stalls, self.stalls_reported, self.stall_errors
            ),
        ];
        for flood in &self.floods {
            lines.push(format!(
                "{}Callback flood: duration {} ms, invoked {}, gone {ROUNDS} rounds {} (at least \
                 {LAUNDERED}), most in the air {}",
                if flood.laundered < LAUNDERED { "!!! " } else { "" },
                flood.millis,
                flood.invoked,
                flood.laundered,
                flood.most
            ));
            let tenths = flood.histogram.iter().enumerate();
            let tenths: Vec<_> = tenths.map(|(tenth, count)| format!("{}s/10: {count}", tenth + 1)).collect();
            lines.push(format!(
                "Callback-invocation histogram (duration {} ms): {}",
                flood.millis,
                tenths.join(" ")
            ));
        }
        lines.extend(self.stuck.iter().map(|why| format!("!!! {why}")));
        let verdict = match self.errors() {
            0 => "SUCCESS".to_owned(),
            errors => format!("FAILURE ({errors} errors)"),
        };
        lines.push(format!("--- End of test: {verdict}: {} phases", self.phases));
        lines.iter().map(|line| format!("rcu-torture: {line}")).collect()
    }
}
