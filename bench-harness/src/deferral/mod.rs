//! `deferral`: what holding back costs.
//!
//! The same library runs the same programs twice, with RCUMALLOC_DEFER=all and =api: a free of malloc's
//! blocks is deferred in the first and not in the second, and nothing else differs: the same code, the same
//! heap, the same tables, only which of two tables a thread's free pushes to. A third side is `api` once more
//! under another name: what two equal sides differ by is what the measurement cannot see. Other builds can
//! stand beside them (`--against`).
//!
//! Then where it goes ([`cycles`]): for the programs in which `all` costs most, samples of perf by function,
//! or, where perf is not allowed, misses an operation in cachegrind's model of caches.

mod cycles;
mod misses;

use serde_json::{Value, json};

use crate::family::{self, Case, Pairs};
use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::peers::Allocator;
use crate::suite;
use crate::workload::choose;

#[derive(clap::Args)]
pub struct Arguments {
    /// Families, separated by commas; `all`
    #[arg(long, value_delimiter = ',', default_value = "mixed,servers,owners,sizes,idle")]
    families: Vec<String>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Programs of each family, one a seed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Other builds beside it, separated by commas: NAME=PATH@RCUMALLOC_DEFER=MODE
    #[arg(long, value_delimiter = ',', value_name = "BUILDS")]
    against: Vec<String>,
    /// No real programs
    #[arg(long)]
    no_programs: bool,
    /// Programs of the families whose cycles are looked at, those in which deferral costs most; 0: none
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=100))]
    cycles: u32,
    /// Count misses under cachegrind, also where perf is allowed
    #[arg(long)]
    misses: bool,
}

/// The sides, by name.
const ALL: &str = "rcumalloc";
const API: &str = "rcumalloc-api";
const AGAIN: &str = "api again";

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let families = family::named(&arguments.families)?;
    let seeds = family::seeds(arguments.seed, arguments.count)?;
    let names = [ALL, API].iter().map(|&name| name.to_owned());
    let names: Vec<String> = names.chain(arguments.against.iter().cloned()).collect();
    let choice = choose(&names, Some(API), common)?;
    let of = |name: &str| choice.present.iter().find(|allocator| allocator.name == name).cloned();
    let (Some(all), Some(api)) = (of(ALL), of(API)) else {
        return Err(Refusal(format!("no {ALL} to compare; scripts/build makes it")));
    };
    let mut sides = choice.present.clone();
    sides.push(Allocator { name: AGAIN.to_owned(), ..api.clone() });
    let (rounds, seconds) = (common.rounds_or(5), common.seconds_or(0.3));
    let cases = family::measure(&families, seeds.clone(), seconds, rounds, &sides, API)?;
    let rows = |between: &dyn Fn(&str) -> Vec<(f64, f64)>| -> Vec<Pairs> {
        let others = sides.iter().filter(|side| side.name != API);
        others.map(|side| (side.name.clone(), between(&side.name))).collect()
    };
    let of_families = rows(&|name| cases.iter().filter_map(|case| case.between(name, API)).collect());
    let mut outcome = Outcome { command: "deferral".into(), good: true, rounds, ..Outcome::default() };
    outcome.notes.extend(choice.missing.iter().map(ToString::to_string));
    outcome.notes.push(format!(
        "all and api are one library with another environment; {AGAIN} is api under another name: \
         what it differs from 1 by is noise; families {}, seeds {} to {}, \
         {rounds} rounds of {seconds} s nominal",
        arguments.families.join(", "),
        seeds.start(),
        seeds.end()
    ));
    outcome.notes.extend(complaints(&cases, &mut outcome.good));
    let note = "CPU time and peak RSS, ratios within rounds, their median a program; \
                geometric mean over the programs";
    outcome.tables.push(family::table(format!("Families against {API}"), note, &of_families));
    outcome.results = json!({ "families": family::json_of(&of_families), "programs": cases });
    if !common.quick {
        outcome.targets.extend(targets("families", &of_families));
    }
    if !arguments.no_programs {
        let threaded = suite::Which::Threaded.programs();
        let suite::Measured { table, pairs: of_programs, each } =
            suite::measure(&threaded, &sides, API, rounds, &mut outcome)?;
        outcome.tables.push(table);
        outcome.results["each_real"] = each;
        outcome.tables.push(family::table(
            format!("Real threaded programs against {API}"),
            note,
            &of_programs,
        ));
        outcome.results["real"] = family::json_of(&of_programs);
        if !common.quick {
            outcome.targets.extend(targets("real programs", &of_programs));
        }
    }
    look_inside(arguments, &cases, [&all, &api], &mut outcome)?;
    Ok(outcome)
}

/// What failed or made other calls.
fn complaints(cases: &[Case], good: &mut bool) -> Vec<String> {
    let lines: Vec<String> = cases.iter().flat_map(Case::complaints).collect();
    *good &= lines.is_empty();
    lines
}

/// The cycles of the programs in which deferral costs most.
fn look_inside(
    arguments: &Arguments,
    cases: &[Case],
    sides: [&Allocator; 2],
    outcome: &mut Outcome,
) -> Result<(), Refusal> {
    let mut costly: Vec<(&Case, f64)> =
        cases.iter().filter_map(|case| Some((case, case.between(ALL, API)?.0))).collect();
    costly.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut found: Vec<Value> = Vec::new();
    for (case, ratio) in costly.into_iter().take(arguments.cycles as usize) {
        let name = format!("{} {} (all / api {ratio:.2}): {}", case.job.family, case.job.seed, case.program);
        let mut counted = arguments.misses;
        match cycles::table(&name, case, sides) {
            Ok((table, value)) => {
                outcome.tables.push(table);
                found.push(value);
            }
            Err(reason) => {
                outcome.notes.push(format!("no cycles by function: {reason}"));
                counted = true;
            }
        }
        if counted {
            match misses::table(&name, &case.job, sides) {
                Ok((table, value)) => {
                    outcome.tables.push(table);
                    found.push(value);
                }
                Err(reason) => outcome.notes.push(format!("no misses: {reason}")),
            }
        }
    }
    outcome.results["inside"] = json!(found);
    Ok(())
}

/// The number this is about.
fn targets(what: &str, rows: &[Pairs]) -> Vec<Target> {
    let Some((_, pairs)) = rows.iter().find(|(name, _)| name == ALL) else {
        return Vec::new();
    };
    let [time, peak, _] = family::figures(pairs);
    let target = |figure: &str, seen: Option<f64>, limit: f64| Target {
        what: format!("deferral, {what}: {figure} of all against api at most {limit}"),
        seen: seen.map_or("n/a".to_owned(), |seen| format!("{seen:.3}")),
        met: seen.map(|seen| seen <= limit),
    };
    vec![
        target("time, mean,", time.as_ref().map(|time| time.mean), 1.03),
        target("time, worst decile,", time.as_ref().map(|time| time.worst_decile), 1.12),
        target("peak RSS, mean,", peak.as_ref().map(|peak| peak.mean), 1.05),
        target("peak RSS, worst decile,", peak.as_ref().map(|peak| peak.worst_decile), 1.15),
    ]
}
