//! The smallest control group for programs at random: what `churn` asks of one piece of work, asked of a
//! family of them.

use serde_json::{Value, json};

use super::group::Kind;
use super::search::{Found, Search};
use crate::family;
use crate::measure::rounds::geometric_mean;
use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::output::plot::{Line, Plot};
use crate::output::progress;
use crate::output::table::Table;
use crate::workload::choose;

/// The allocators one compares with, unless one says otherwise; the first is the base.
const USUAL: [&str; 3] = ["glibc", "rcumalloc", "mimalloc2"];

/// Least and greatest limit tried.
const LEAST: u64 = 1 << 20;
const MOST: u64 = 1 << 30;
/// How close the search comes.
const STEP: u64 = 256 << 10;
/// Seconds after which a try has failed. Unlimited a program takes less than one.
const PATIENCE: u64 = 15;

/// Seeds of a family.
pub struct Seeds<'a> {
    pub family: &'a str,
    pub first: u64,
    pub count: u32,
}

/// A program, and each allocator's smallest group.
struct Case {
    seed: u64,
    program: String,
    found: Vec<Found>,
}

pub fn run(
    groups: Kind,
    with: &[String],
    seeds: &Seeds<'_>,
    common: &Common,
    outcome: &mut Outcome,
) -> Result<Value, Refusal> {
    let usual = || USUAL.iter().map(|&name| name.to_owned()).collect();
    let with: Vec<String> = if with.is_empty() { usual() } else { with.to_vec() };
    let choice = choose(&with, Some("glibc"), common)?;
    outcome.notes.extend(choice.missing.iter().map(ToString::to_string));
    let (tries, seconds) = (common.rounds_or(3), common.seconds_or(0.2));
    outcome.rounds = outcome.rounds.max(tries);
    let range = family::seeds(seeds.first, seeds.count)?;
    let names: Vec<&str> = choice.present.iter().map(|allocator| allocator.name.as_str()).collect();
    let bar = progress::bar(u64::from(seeds.count) * names.len() as u64);
    let mut cases = Vec::new();
    for seed in range.clone() {
        let (job, program) = family::job(seeds.family, seed, seconds)?;
        let mut found = Vec::new();
        for allocator in &choice.present {
            bar.set_message(format!("{} {seed} {}", seeds.family, allocator.name));
            let search = Search {
                groups,
                measured: "family",
                job: &job,
                tries,
                least: LEAST,
                most: MOST,
                step: STEP,
                patience: PATIENCE,
            };
            found.push(search.smallest(allocator)?);
            bar.inc(1);
        }
        cases.push(Case { seed, program, found });
    }
    bar.finish_and_clear();
    let base = names.iter().position(|name| *name == "glibc").unwrap_or(0);
    let title = format!(
        "{} {} to {}: the smallest control group that is enough",
        seeds.family,
        range.start(),
        range.end()
    );
    outcome.tables.push(programs(&cases, &names, &title, tries));
    outcome.tables.push(summary(&cases, &names, base));
    outcome.plots.push(picture(&cases, &names, base));
    if !common.quick && seeds.count >= 20 {
        outcome.targets.extend(targets(&cases, &names, base));
    }
    let side = |(name, found): (&&str, &Found)| {
        json!({
            "allocator": name, "smallest_bytes": found.limit, "seconds_unlimited": found.seconds,
            "peak_kib_unlimited": found.peak_kib,
        })
    };
    let row = |case: &Case| {
        let sides: Vec<_> = names.iter().zip(&case.found).map(side).collect();
        json!({ "seed": case.seed, "program": case.program, "sides": sides })
    };
    let rows: Vec<_> = cases.iter().map(row).collect();
    Ok(json!({ "family": seeds.family, "tries": tries, "seconds": seconds, "programs": rows }))
}

/// A side's limits as multiples of the base's, of the programs in which both have one. One that has none
/// counts as the greatest limit tried.
fn ratios(cases: &[Case], side: usize, base: usize) -> Vec<f64> {
    let limit = |found: &Found| found.limit.unwrap_or(MOST) as f64;
    cases.iter().map(|case| limit(&case.found[side]) / limit(&case.found[base])).collect()
}

fn mib(limit: Option<u64>) -> String {
    limit.map_or_else(|| format!("over {}", MOST >> 20), |limit| format!("{:.2}", limit as f64 / 1048576.0))
}

fn programs(cases: &[Case], names: &[&str], title: &str, tries: u32) -> Table {
    let mut head = vec!["seed"];
    head.extend(names);
    head.push("program");
    let mut table = Table::new(title, &head)
        .note(format!("MiB; every one of {tries} tries at this limit completed. Less is better."));
    for case in cases {
        let limits = case.found.iter().map(|found| mib(found.limit));
        table.row(std::iter::once(case.seed.to_string()).chain(limits).chain([case.program.clone()]));
    }
    table
}

fn summary(cases: &[Case], names: &[&str], base: usize) -> Table {
    let mut table = Table::new(
        format!("Smallest group against {}", names[base]),
        &["allocator", "mean", "least", "greatest", "above 1.15"],
    )
    .note("geometric mean over the programs");
    for (side, name) in names.iter().enumerate().filter(|(side, _)| *side != base) {
        let mut ratios = ratios(cases, side, base);
        ratios.sort_by(f64::total_cmp);
        let (Some(mean), Some(least), Some(most)) = (geometric_mean(&ratios), ratios.first(), ratios.last())
        else {
            continue;
        };
        let above = ratios.iter().filter(|&&ratio| ratio > 1.15).count();
        table.row([
            (*name).to_owned(),
            format!("{mean:.3}"),
            format!("{least:.2}"),
            format!("{most:.2}"),
            above.to_string(),
        ]);
    }
    table
}

fn picture(cases: &[Case], names: &[&str], base: usize) -> Plot {
    let line = |(side, name): (usize, &&str)| {
        let mut ratios = ratios(cases, side, base);
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len().saturating_sub(1).max(1) as f64;
        let points = ratios.iter().enumerate().map(|(at, &ratio)| (at as f64 / last * 100.0, ratio));
        Line { name: (*name).to_owned(), points: points.collect() }
    };
    let lines = names.iter().enumerate().map(line).collect();
    let title = format!("Smallest group against {}, programs from best to worst", names[base]);
    Plot::lines(title, "% of the programs", "ratio, less is better", lines).log()
}

fn targets(cases: &[Case], names: &[&str], base: usize) -> Vec<Target> {
    let Some(ours) = names.iter().position(|name| *name == "rcumalloc") else { return Vec::new() };
    let ratios = ratios(cases, ours, base);
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    let target = |what: &str, seen: Option<f64>, limit: f64| Target {
        what: format!("pressure family: smallest group against glibc's, {what} at most {limit}"),
        seen: seen.map_or("n/a".to_owned(), |seen| format!("{seen:.3}")),
        met: seen.map(|seen| seen <= limit),
    };
    vec![target("mean", geometric_mean(&ratios), 1.0), target("any seed", Some(worst), 1.15)]
}
