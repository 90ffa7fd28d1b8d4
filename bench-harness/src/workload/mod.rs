//! `workload NAME|all`: allocation patterns under several allocators in turn.
//!
//! Each run is a child process (`inner workload`), so LD_PRELOAD decides. Rounds of throughput alternate;
//! then each allocator has one run in which every operation is timed, which says nothing about throughput.

pub mod about;
mod catalogue;
mod false_sharing;
mod fifo;
mod fragmentation;
mod idle_threads;
mod large_blocks;
mod lifo;
mod mixed_server;
mod producer_consumer;
mod random_replace;
mod realloc_growth;
mod results;
mod shifting_batches;
mod thread_churn;
mod tight_pair;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::family;
use crate::measure::child::Child;
use crate::measure::rounds::alternate;
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::progress;
use crate::peers::{self, Allocator, Choice};
use crate::trace;
use results::{Run, Side};
pub use worker::{Block, Job, Plain, Probe, Tally, Timed, Touch, exhausted, status_kib, touch};

#[derive(clap::Args)]
pub struct Arguments {
    /// A workload's name, `all`, `list`, `replay` with --trace, or `family`
    pub name: String,
    /// Of `family`: its name, `all`, or `list`
    pub family: Option<String>,
    /// Of `family`: the first seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Of `family`: programs, one a seed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// Of `family`: only say what the programs are
    #[arg(long)]
    pub describe: bool,
    /// Allocators, separated by commas: names of `setup`, or NAME=PATH
    #[arg(long, value_delimiter = ',', value_name = "ALLOCATORS")]
    pub with: Vec<String>,
    /// The allocator that the others are compared with
    #[arg(long, default_value = "glibc")]
    pub base: String,
    /// Threads, in place of the workload's own number
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Least and greatest size of a block in bytes, such as 16-512 or 64
    #[arg(long, value_parser = sizes)]
    pub sizes: Option<(usize, usize)>,
    /// What of a fresh block is written
    #[arg(long, value_enum)]
    pub touch: Option<Touch>,
    /// What `trace` wrote: for replay, or to be replayed beside all; may be given several times
    #[arg(long, value_name = "FILE")]
    pub trace: Vec<PathBuf>,
    /// Do not measure latencies
    #[arg(long)]
    pub no_latency: bool,
}

impl Arguments {
    /// Of the report: all workloads, the usual allocators.
    pub fn all() -> Arguments {
        Arguments {
            name: "all".into(),
            family: None,
            seed: 1,
            count: 1,
            describe: false,
            with: Vec::new(),
            base: "glibc".into(),
            threads: None,
            sizes: None,
            touch: None,
            trace: Vec::new(),
            no_latency: false,
        }
    }
}

fn sizes(text: &str) -> Result<(usize, usize), String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (least.trim().parse(), most.trim().parse()) {
        (Ok(least), Ok(most)) if least > 0 && least <= most && most <= 1 << 30 => Ok((least, most)),
        _ => Err("not a size or LEAST-GREATEST in bytes, at least 1 and at most 1073741824".to_owned()),
    }
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    if arguments.name == "list" {
        return Ok(results::list());
    }
    if arguments.name == "family" {
        return family::run(arguments, common);
    }
    if arguments.family.is_some() || arguments.describe {
        return Err(Refusal(format!(
            "a second name and --describe are for family, not for {}",
            arguments.name
        )));
    }
    let jobs = jobs(arguments, common)?;
    let choice = choose(&arguments.with, Some(&arguments.base), common)?;
    let rounds = common.rounds_or(5);
    let latency = !arguments.no_latency;
    let each = u64::from(rounds) + 1 + u64::from(latency);
    let bar = progress::bar(jobs.len() as u64 * choice.present.len() as u64 * each);
    let mut runs = Vec::new();
    for job in &jobs {
        runs.push(measure(job, &choice.present, &arguments.base, rounds, latency, &bar)?);
    }
    bar.finish_and_clear();
    Ok(results::outcome(runs, &choice, &arguments.base, rounds))
}

/// The allocators by name, or the usual ones; the base is always among them, first. What takes no effect is
/// missing.
pub fn choose(with: &[String], base: Option<&str>, common: &Common) -> Result<Choice, Refusal> {
    let usual = || peers::USUAL.iter().map(|&name| name.to_owned()).collect();
    let mut names: Vec<String> = if with.is_empty() { usual() } else { with.to_vec() };
    if let Some(base) = base
        && !names.iter().any(|name| name.split('=').next() == Some(base))
    {
        names.insert(0, base.to_owned());
    }
    let mut choice = peers::choose(&names, common)?;
    crate::setup::drop_ineffective(&mut choice);
    if let Some(base) = base
        && !choice.present.iter().any(|allocator| allocator.name == base)
    {
        let reason = choice.missing.iter().find(|missing| missing.name == base);
        return Err(Refusal(reason.map_or_else(|| format!("no base '{base}'"), ToString::to_string)));
    }
    Ok(choice)
}

fn jobs(arguments: &Arguments, common: &Common) -> Result<Vec<Job>, Refusal> {
    let job = |about: &about::About| Job {
        workload: about.name.to_owned(),
        threads: arguments.threads.map_or(about.threads, usize::from),
        seconds: common.seconds_or(1.0),
        sizes: arguments.sizes.unwrap_or(about.sizes),
        touch: arguments.touch.unwrap_or(about.touch),
        latency: false,
        seed: 1,
        trace: None,
    };
    let replay = |file: &PathBuf| {
        // Found out here, before a child would for each allocator.
        let trace = trace::format::Trace::read(file)?;
        let file = std::path::absolute(file).map_err(Refusal::of("bad path"))?;
        Ok(Job { trace: Some(file), threads: trace.threads(), ..job(&trace::replay::ABOUT) })
    };
    let (name, traces) = (arguments.name.as_str(), &arguments.trace);
    let patterns = match name {
        "all" => catalogue::ALL.iter().map(|entry| job(entry.about)).collect(),
        "replay" if traces.is_empty() => {
            return Err(Refusal("replay needs --trace FILE; `trace -- PROGRAM` makes one".to_owned()));
        }
        "replay" => Vec::new(),
        name => vec![job(catalogue::find(name)?.about)],
    };
    if !matches!(name, "all" | "replay") && !traces.is_empty() {
        return Err(Refusal(format!("--trace is for replay and all, not for {name}")));
    }
    patterns.into_iter().map(Ok).chain(traces.iter().map(replay)).collect()
}

fn measure(
    job: &Job,
    allocators: &[Allocator],
    base: &str,
    rounds: u32,
    latency: bool,
    bar: &indicatif::ProgressBar,
) -> Result<Run, Refusal> {
    let one = |allocator: &Allocator, job: &Job| -> Result<Tally, String> {
        bar.set_message(format!("{} {}", job.name(), allocator.name));
        let answer = once(job, allocator);
        bar.inc(1);
        answer.map_err(|refusal| refusal.0)
    };
    let seeded = |round: u32| Job { seed: u64::from(round) + 1, ..job.clone() };
    let throughput =
        alternate(allocators, rounds, |allocator, round| Ok::<_, Refusal>(one(allocator, &seeded(round))))?;
    let timed = Job { latency: true, ..job.clone() };
    let latencies = allocators.iter().map(|allocator| latency.then(|| one(allocator, &timed)));
    let sides = allocators.iter().zip(throughput).zip(latencies);
    let sides = sides.map(|((allocator, rounds), latency)| Side::new(allocator, rounds, latency)).collect();
    Ok(Run::new(job, sides, base))
}

/// One run of one job in a child.
pub fn once(job: &Job, allocator: &Allocator) -> Result<Tally, Refusal> {
    let limit = Duration::from_secs_f64(job.seconds * 10.0 + 60.0);
    let child = Child::inner("workload", &json!(job))?.under(allocator).timeout(limit);
    Ok(child.answer::<Tally>()?.0)
}

/// A job of a workload of the catalogue with its own defaults.
pub fn job(name: &str, seconds: f64) -> Result<Job, Refusal> {
    let arguments = Arguments { name: name.to_owned(), ..Arguments::all() };
    let common = Common { seconds: Some(seconds), ..Common::default() };
    jobs(&arguments, &common)?.into_iter().next().ok_or_else(|| Refusal(format!("no workload '{name}'")))
}

/// The measured side.
pub fn inner(job: &str) -> Result<Value, Refusal> {
    let job: Job = serde_json::from_str(job).map_err(Refusal::of("bad job"))?;
    let tally = match job.workload.as_str() {
        "replay" => trace::replay::run(&job)?,
        name => (catalogue::find(name)?.run)(&job)?,
    };
    Ok(json!(tally))
}
