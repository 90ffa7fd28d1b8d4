//! The grace-period engine beside liburcu and crossbeam-epoch, in the same run.
//!
//! Reading order: `subject` (how anything is measured here), `peers` (liburcu's loops, in C), then the
//! measurements: `pairs` and `instructions`, `polls`, `periods` and `expedited`, `crowd` and `churn`.
//!
//! A part runs in a child process of its own, into which liburcu's objects are preloaded: their thread-local
//! variables are aligned to 128 bytes, which static TLS has only if they are there when the process starts.

pub mod churn;
mod crowd;
#[allow(dead_code, reason = "the test of the engine asks more of it")]
mod disassembly;
mod expedited;
mod instructions;
mod pairs;
mod peers;
mod periods;
mod polls;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
pub use instructions::run_loop;
use rcu::{CELLS_PER_BLOCK, CELLS_PER_WORD, Domain, NoRoom, Reader, ReaderBlock, ReaderCell, ReaderWord};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subject::{Measure, Plan};

use crate::machine::Moment;
use crate::measure::child::Child;
use crate::outcome::{self, Common, Outcome, Refusal};
use crate::output::{markdown, progress};

/// Subcommands that measure the engine.
#[derive(Subcommand)]
pub enum Measurement {
    /// The grace-period engine beside liburcu and crossbeam-epoch: all of pairs, polls, periods and crowd
    Engine(Arguments),
    /// Opening and closing a read-side section: time and instructions
    Pairs(Arguments),
    /// Taking a grace period's cookie and polling it
    Polls(Arguments),
    /// Grace periods among readers that run, and among readers that sleep
    Periods(Arguments),
    /// Grace periods, and blocks under the library, beside thousands of threads that sleep or have ended
    Crowd(Arguments),
}

#[derive(Args)]
pub struct Arguments {
    /// Also write the tables to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Do not count executed instructions under valgrind
    #[arg(long)]
    no_valgrind: bool,
    /// Exit with status 1 if a target is missed
    #[arg(long)]
    strict: bool,
}

pub fn run(measurement: &Measurement, common: &Common) -> Result<Outcome, Refusal> {
    let (name, arguments) = match measurement {
        Measurement::Engine(arguments) => ("engine", arguments),
        Measurement::Pairs(arguments) => ("pairs", arguments),
        Measurement::Polls(arguments) => ("polls", arguments),
        Measurement::Periods(arguments) => ("periods", arguments),
        Measurement::Crowd(arguments) => ("crowd", arguments),
    };
    let (rounds, seconds) = (common.rounds_or(7), common.seconds_or(0.2));
    let parts: Vec<Part> =
        Part::ALL.into_iter().filter(|part| ["engine", part.name()].contains(&name)).collect();
    let began = Moment::now();
    let mut notes = vec![
        format!("{rounds} alternating rounds of {:.0} ms after one of warm-up", seconds * 1000.0),
        subject::recording_cost(),
    ];
    let mut measures: Vec<Measure> = Vec::new();
    let bar = progress::bar(parts.len() as u64);
    let mut churns = Vec::new();
    for part in parts {
        bar.set_message(part.name());
        if part == Part::Crowd {
            // Of the library, not of the crate: processes of its own.
            churns = churn::measure(&Plan { rounds, round: Duration::from_secs_f64(seconds) }, common);
        }
        let answer = part.measured(&Job { part, rounds, seconds, valgrind: !arguments.no_valgrind })?;
        let new: Vec<String> = answer.notes.into_iter().filter(|note| !notes.contains(note)).collect();
        notes.extend(new);
        measures.extend(answer.measures);
        bar.inc(1);
    }
    measures.extend(churns);
    bar.finish_and_clear();
    let targets: Vec<outcome::Target> = measures.iter().flat_map(Measure::targets).collect();
    let is_missed = targets.iter().any(|target| target.met == Some(false));
    let outcome = Outcome {
        command: name.to_owned(),
        results: json!(measures),
        notes,
        tables: measures.iter().map(Measure::table).collect(),
        targets,
        good: !(arguments.strict && is_missed),
        rounds,
        ..Outcome::default()
    };
    if let Some(file) = &arguments.markdown {
        std::fs::write(file, markdown::page("The grace-period engine", &outcome, &began))
            .map_err(Refusal::of(format_args!("cannot write {}", file.display())))?;
    }
    Ok(outcome)
}

/// What one child measures.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    Pairs,
    Polls,
    Periods,
    Crowd,
}

/// What a child is told.
#[derive(Serialize, Deserialize)]
struct Job {
    part: Part,
    rounds: u32,
    seconds: f64,
    valgrind: bool,
}

/// What it answers.
#[derive(Serialize, Deserialize)]
struct Answer {
    notes: Vec<String>,
    measures: Vec<Measure>,
}

impl Part {
    const ALL: [Part; 4] = [Part::Pairs, Part::Polls, Part::Periods, Part::Crowd];

    fn name(self) -> &'static str {
        match self {
            Part::Pairs => "pairs",
            Part::Polls => "polls",
            Part::Periods => "periods",
            Part::Crowd => "crowd",
        }
    }

    /// In a child process.
    fn measured(self, job: &Job) -> Result<Answer, Refusal> {
        let objects = std::env::join_paths(peers::objects()).map_err(Refusal::of("a library's path"))?;
        let child = Child::inner("engine", &json!(job))?;
        // So many runs are in no part.
        let patience = Duration::from_secs_f64(600.0 + 100.0 * f64::from(job.rounds + 1) * job.seconds);
        let child = child.timeout(patience).preload((!objects.is_empty()).then(|| objects.into()));
        Ok(child.answer()?.0)
    }
}

/// In the child.
pub fn inner(job: &str) -> Result<Value, Refusal> {
    let job: Job = serde_json::from_str(job).map_err(Refusal::of("the job cannot be read"))?;
    let plan = Plan { rounds: job.rounds, round: Duration::from_secs_f64(job.seconds) };
    let measures = match job.part {
        Part::Pairs => vec![pairs::measure(&plan), instructions::measure(job.valgrind)?],
        Part::Polls => vec![polls::measure(&plan)],
        Part::Periods => vec![
            periods::waited_for_by_a_reader(&plan),
            periods::polled_by_a_reader(&plan),
            periods::waited_for_by_a_third(&plan),
            expedited::measure(&plan, false),
            expedited::measure(&plan, true),
        ],
        Part::Crowd => {
            vec![crowd::beside_a_crowd(&plan), crowd::everybody_announces(&plan), crowd::measure(&plan)]
        }
    };
    Ok(json!(Answer { notes: peers::describe(), measures }))
}

/// A domain of one measurement's own, with membarrier if the system has it. Leaked: domains are for ever.
fn new_domain() -> &'static Domain {
    let domain = Box::leak(Box::new(Domain::new(1)));
    domain.init();
    domain
}

/// As [`new_domain`], for readers that execute a fence at each outermost lock.
fn new_fenced_domain() -> &'static Domain {
    let domain = Box::leak(Box::new(Domain::new(1)));
    domain.init_without_membarrier();
    domain
}

/// Room for so many readers.
fn new_block(cells: usize) -> &'static ReaderBlock {
    let words = (0..cells.div_ceil(CELLS_PER_WORD)).map(|_| ReaderWord::new()).collect::<Vec<_>>().leak();
    let cells = (0..cells).map(|_| ReaderCell::new()).collect::<Vec<_>>().leak();
    Box::leak(Box::new(ReaderBlock::new(words, cells)))
}

/// Registers a reader, in a new block if there is no room.
fn new_reader(domain: &'static Domain) -> Reader {
    loop {
        match domain.register(0) {
            Ok(reader) => return reader,
            Err(NoRoom) => assert!(domain.add_block(new_block(CELLS_PER_WORD)), "a new block"),
        }
    }
}

/// Registers so many readers, in blocks as an embedder adds them, larger ones behind small ones.
fn new_readers(domain: &'static Domain, many: usize) -> Vec<Reader> {
    let mut readers = Vec::with_capacity(many);
    let mut room = 0_usize;
    while readers.len() < many {
        match domain.register(0) {
            Ok(reader) => readers.push(reader),
            Err(NoRoom) => {
                let cells = (7 * room).clamp(CELLS_PER_WORD, CELLS_PER_BLOCK);
                assert!(domain.add_block(new_block(cells)), "a new block");
                room += cells;
            }
        }
    }
    readers
}

/// `(no membarrier here: fenced)` where the domain could not have it, to be said next to its figures.
fn fenced_note(domain: &Domain) -> &'static str {
    if domain.is_fenced() { " (no membarrier here: fenced)" } else { "" }
}
