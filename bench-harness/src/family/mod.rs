//! `workload family NAME`: programs at random, under several allocators in turn.
//!
//! A pattern can be tuned for; a family cannot, for the next seed is another program. A seed's program is the
//! same under every allocator, to the last call: each run says a checksum of its calls, and sides whose sums
//! differ are an error. It has a fixed length, so CPU seconds are compared, not rates.

mod boxes;
mod catalogue;
mod dice;
mod distribution;
mod draw;
mod hand;
mod program;
mod recorded;
mod results;
mod run;
mod sizes;

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use crate::measure::child::Child;
use crate::measure::rounds::one_round;
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::progress;
use crate::output::table::Table;
use crate::peers::Allocator;
use crate::workload::{Arguments, choose};
pub use catalogue::Family;
pub use distribution::{Pairs, figures, json_of, table};
pub use results::Case;
pub use run::{Job, Tally, inner};

/// What is compared unless one says otherwise.
const USUAL: [&str; 9] = [
    "glibc",
    "rcumalloc",
    "rcumalloc-api",
    "mimalloc",
    "mimalloc2",
    "snmalloc",
    "rpmalloc",
    "jemalloc",
    "tcmalloc",
];

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let families: Vec<&Family> = match arguments.family.as_deref() {
        None | Some("list") => return Ok(list()),
        Some(name) => named(&[name.to_owned()])?,
    };
    if arguments.threads.is_some()
        || arguments.sizes.is_some()
        || arguments.touch.is_some()
        || !arguments.trace.is_empty()
    {
        let line = "a family draws its threads, sizes and touches itself: \
                    --threads, --sizes, --touch and --trace are not for it";
        return Err(Refusal(line.to_owned()));
    }
    let seeds = seeds(arguments.seed, arguments.count)?;
    let seconds = common.seconds_or(0.3);
    if arguments.describe {
        return Ok(describe(&families, seeds, seconds));
    }
    let usual = || USUAL.iter().map(|&name| name.to_owned()).collect();
    let with: Vec<String> = if arguments.with.is_empty() { usual() } else { arguments.with.clone() };
    let choice = choose(&with, Some(&arguments.base), common)?;
    let rounds = common.rounds_or(3);
    let cases = measure(&families, seeds, seconds, rounds, &choice.present, &arguments.base)?;
    Ok(results::outcome(&cases, &choice, &arguments.base, rounds))
}

/// The families of these names, `all` among them.
pub fn named(names: &[String]) -> Result<Vec<&'static Family>, Refusal> {
    if names.iter().any(|name| name == "all") {
        return Ok(catalogue::ALL.iter().collect());
    }
    names.iter().map(|name| catalogue::find(name)).collect()
}

/// So many seeds from this one on.
pub fn seeds(first: u64, count: u32) -> Result<RangeInclusive<u64>, Refusal> {
    let last = first.checked_add(u64::from(count).saturating_sub(1));
    Ok(first..=last.ok_or_else(|| Refusal("--seed: too large".to_owned()))?)
}

/// The job and the line of one program.
pub fn job(family: &str, seed: u64, seconds: f64) -> Result<(Value, String), Refusal> {
    let line = catalogue::find(family)?.program(seed, seconds).line();
    Ok((json!(Job { family: family.to_owned(), seed, seconds }), line))
}

/// Every program under every allocator.
pub fn measure(
    families: &[&Family],
    seeds: RangeInclusive<u64>,
    seconds: f64,
    rounds: u32,
    allocators: &[Allocator],
    base: &str,
) -> Result<Vec<Case>, Refusal> {
    let count = seeds.end() - seeds.start() + 1;
    let bar = progress::bar(count * u64::from(rounds) * (allocators.len() * families.len()) as u64);
    let mut cases = Vec::new();
    for family in families {
        for seed in seeds.clone() {
            let job = Job { family: family.name.to_owned(), seed, seconds };
            let mut case = Case::new(&job, family.program(seed, seconds).line(), allocators);
            for round in 0..rounds {
                let tallies = one_round(allocators, round, |allocator, _| {
                    bar.set_message(format!("{} {seed} {}", family.name, allocator.name));
                    let tally = once(&job, allocator);
                    bar.inc(1);
                    Ok::<_, Refusal>(tally.map_err(|refusal| refusal.0))
                })?;
                case.add(tallies);
            }
            cases.push(case.related(base));
        }
    }
    bar.finish_and_clear();
    Ok(cases)
}

/// One run of one program in a child.
fn once(job: &Job, allocator: &Allocator) -> Result<Tally, Refusal> {
    // Nominal seconds are of one processor and a fast allocator.
    let limit = Duration::from_secs_f64(job.seconds * 30.0 + 60.0);
    let child = Child::inner("family", &json!(job))?.under(allocator).timeout(limit);
    Ok(child.answer::<Tally>()?.0)
}

fn list() -> Outcome {
    let mut table = Table::new("Families", &["name", "programs"]);
    catalogue::ALL.iter().for_each(|family| table.row([family.name, family.about]));
    let names: Vec<_> = catalogue::ALL.iter().map(|family| family.name).collect();
    Outcome {
        command: "family".into(),
        results: json!(names),
        tables: vec![table],
        good: true,
        ..Outcome::default()
    }
}

fn describe(families: &[&Family], seeds: RangeInclusive<u64>, seconds: f64) -> Outcome {
    let of = |family: &&Family| {
        let name = family.name;
        let line = |seed| format!("{name} {seed}: {}", family.program(seed, seconds).line());
        seeds.clone().map(line).collect::<Vec<_>>()
    };
    let lines: Vec<String> = families.iter().flat_map(of).collect();
    Outcome {
        command: "family".into(),
        results: json!(lines),
        notes: lines,
        good: true,
        ..Outcome::default()
    }
}
