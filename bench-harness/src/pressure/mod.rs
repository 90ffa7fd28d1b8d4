//! `pressure`: what becomes of a program in a control group that is too small for it.
//!
//! Three measurements. [`flood`]: 64 freeing threads, 16 of them flooding, in groups of 512, 128 and 64 MiB,
//! with the back-off after a scan and without: does it survive, how long does it take, how often do scan and
//! refill undo each other. [`churn`]: the smallest limit at which each allocator completes one and the same
//! piece of work, by bisection ([`search`]). [`family`]: the same for programs at random, which nobody can
//! have tuned for.
//!
//! The groups are made below the one the harness runs in ([`group`]) and taken away again.
//!
//! `backoff` and `decay` measure the two periods of the library's shrinker: one as the flood, under several
//! periods; [`decay`] without a group.

mod churn;
mod decay;
mod family;
mod flood;
mod group;
mod search;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::outcome::{Common, Outcome, Refusal};

#[derive(clap::Args)]
pub struct Arguments {
    /// Which measurement
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// Limits of the flood, in MiB
    #[arg(long, value_delimiter = ',', default_value = "512,128,64",
        value_parser = clap::value_parser!(u32).range(16..=65_536))]
    limits: Vec<u32>,
    /// Allocators of churn and family, separated by commas: names of `setup`, or NAME=PATH
    #[arg(long, value_delimiter = ',')]
    with: Vec<String>,
    /// Of `family`: whose programs
    #[arg(long, default_value = "phases")]
    family: String,
    /// Of `family`: the first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of `family`: programs, one a seed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Freeing threads of the flood
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=1024))]
    threads: u16,
    /// How many of them flood
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    flooding: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Flood,
    Churn,
    /// Programs at random; not part of all
    Family,
    /// The flood, with several periods of the back-off; not part of all
    Backoff,
    /// Several periods of decay, in no group; not part of all
    Decay,
    /// Flood and churn
    All,
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    if arguments.flooding > arguments.threads {
        return Err(Refusal("--flooding: more than --threads".to_owned()));
    }
    crate::family::job(&arguments.family, arguments.seed, 1.0)?;
    let mut outcome = Outcome { command: "pressure".to_owned(), good: true, ..Outcome::default() };
    if arguments.what == What::Decay {
        outcome.results = json!({ "decay": decay::run(common, &mut outcome)? });
        return Ok(outcome);
    }
    let kind = group::Kind::find()?;
    outcome.notes.push(format!("control groups of {kind}, below our own"));
    let mut results = json!({ "groups": kind.to_string() });
    if matches!(arguments.what, What::Flood | What::All) {
        let job = flood::Sizes { threads: arguments.threads, flooding: arguments.flooding };
        results["flood"] = flood::run(kind, &arguments.limits, job, common, &mut outcome)?;
    }
    if arguments.what == What::Backoff {
        let job = flood::Sizes { threads: arguments.threads, flooding: arguments.flooding };
        results["backoff"] = flood::periods(kind, &arguments.limits, job, common, &mut outcome)?;
    }
    if matches!(arguments.what, What::Churn | What::All) {
        let usual = || churn::USUAL.iter().map(|&name| name.to_owned()).collect();
        let with: Vec<String> = if arguments.with.is_empty() { usual() } else { arguments.with.clone() };
        results["churn"] = churn::run(kind, &with, common, &mut outcome)?;
    }
    if arguments.what == What::Family {
        let seeds =
            family::Seeds { family: &arguments.family, first: arguments.seed, count: arguments.count };
        results["family"] = family::run(kind, &arguments.with, &seeds, common, &mut outcome)?;
    }
    outcome.results = results;
    outcome.good = outcome.targets.iter().all(|target| target.met != Some(false));
    Ok(outcome)
}

/// The measured side.
pub fn inner(job: &str) -> Result<Value, Refusal> {
    let job: Value = serde_json::from_str(job).map_err(Refusal::of("the job cannot be read"))?;
    match job["kind"].as_str() {
        Some("flood") => flood::inner(&job),
        Some("churn") => churn::inner(&job),
        Some("decay") => decay::inner(&job),
        _ => Err(Refusal("no such job".to_owned())),
    }
}
