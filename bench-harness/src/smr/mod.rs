//! `smr`: a concurrent map over every reclamation scheme: throughput, tail latency and memory.
//!
//! The experiment of "Are Your Epochs Too Epic?" (PPoPP'24) in small. A scheme that frees a batch at once
//! when a grace period has passed floods the allocator: thread caches overflow, blocks go back to the shared
//! heap under its locks, and an operation that happens to pay for a batch takes very long. Watch the columns
//! `p99.9` and `memory` as threads are added, `engine` (pages of pointers, freed block by block) beside
//! `ours` (the same pages, which become magazines whole), and `leak` as the bound.

pub mod check;
pub mod list;
pub mod run;

use serde_json::{Value, json};

use crate::measure::rounds::Spread;
use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::output::plot::{Line, Plot};
use crate::output::table::{Table, kib, nanoseconds, short};
use crate::reclaim::sides::{self, Sides};
use crate::reclaim::with_scheme;
use check::Checked;
use run::{Measured, Parameters};

type Row = sides::Row<Measured>;

#[derive(clap::Args)]
pub struct Arguments {
    /// Threads, a table for each number
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16])]
    threads: Vec<usize>,
    /// Percentages of updates, a table for each
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100])]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=100))]
    updates: Vec<u64>,
    /// Keys to choose from; half of them are in the map
    #[arg(long, default_value_t = 16384)]
    keys: u64,
    /// Keys a list
    #[arg(long, default_value_t = 8)]
    load: u64,
    /// Seed of the keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Check the map and the schemes instead of measuring them: keys, canaries, nodes disposed of
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    choose: sides::Choose,
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    if arguments.threads.contains(&0) || arguments.keys < 2 {
        return Err(Refusal("smr: at least 1 thread and 2 keys".to_owned()));
    }
    // Freeing at once is wrong with readers: a check must find that out.
    let sides = arguments.choose.sides(!arguments.check || arguments.choose.schemes.is_empty(), common)?;
    if arguments.check {
        return check(arguments.seed, &sides, common.rounds_or(3));
    }
    let rounds = common.rounds_or(6);
    let mut outcome = Outcome {
        command: "smr".to_owned(),
        notes: sides.missing.clone(),
        good: true,
        rounds,
        ..Outcome::default()
    };
    let mut results = Vec::new();
    let mut worst: Vec<(String, f64)> = Vec::new();
    for &updates in &arguments.updates {
        let mut lines: Vec<Line> =
            sides.present.iter().map(|side| Line { name: side.name(), points: Vec::new() }).collect();
        for &threads in &arguments.threads {
            let parameters = Parameters {
                threads,
                millis: (common.seconds_or(0.15) * 1e3) as u64,
                keys: arguments.keys,
                load: arguments.load,
                updates,
                seed: arguments.seed,
            };
            let rows = measure(&sides, rounds, &parameters)?;
            outcome.notes.extend(sides::notes(&[], &rows));
            outcome.good &= rows.iter().all(|row| row.failure.is_none());
            for (line, row) in lines.iter_mut().zip(&rows) {
                line.points.extend(row.spread(rate).map(|rate| (threads as f64, rate.median)));
            }
            worst.extend(against_best(&rows).map(|(best, ratio)| {
                (format!("{ratio:.2} of {best} at {threads} threads, {updates} % updates"), ratio)
            }));
            results.push(json!({
                "parameters": parameters,
                "sides": rows
                    .iter()
                    .map(|row| json!({ "side": row.side.name(), "rounds": row.rounds }))
                    .collect::<Vec<_>>(),
            }));
            outcome.tables.push(figures(&rows, &parameters));
            if outcome.plots.is_empty() && outcome.tables.len() == 1 {
                outcome.notes.push(clock_note(&rows));
            }
        }
        outcome.plots.push(Plot::lines(
            format!("smr: {updates} % updates"),
            "threads",
            "operations/s",
            lines,
        ));
    }
    outcome.results = json!(results);
    outcome.targets = target(worst);
    outcome.tables.push(crate::rcuscale::settings(
        &sides.present.iter().map(|side| sides::Row::<()>::of(side.clone())).collect::<Vec<_>>(),
    ));
    Ok(outcome)
}

/// Every side with other seeds in each round.
fn check(seed: u64, sides: &Sides, rounds: u32) -> Result<Outcome, Refusal> {
    let mut table = Table::new("smr --check", &["scheme", "nodes put in", "taken out", "verdict"]);
    let (mut notes, mut results, mut good) = (sides.missing.clone(), Vec::new(), true);
    for side in &sides.present {
        for round in 0..rounds {
            let child = side.child("smr", "check", &json!({ "seed": seed + u64::from(round) }))?;
            let (cells, faults) = match child.answer::<Checked>() {
                Ok((checked, _)) => {
                    results.push(json!({ "side": side.name(), "checked": checked }));
                    ([checked.inserted.0.to_string(), checked.removed.0.to_string()], checked.faults())
                }
                Err(refusal) => (["n/a".to_owned(), "n/a".to_owned()], vec![refusal.0]),
            };
            good &= faults.is_empty();
            let verdict =
                if faults.is_empty() { "right".to_owned() } else { format!("WRONG: {}", faults.join("; ")) };
            let [inserted, removed] = cells;
            table.row([side.name(), inserted, removed, verdict]);
        }
    }
    notes.dedup();
    Ok(Outcome {
        command: "smr".to_owned(),
        results: json!(results),
        notes,
        tables: vec![table],
        good,
        rounds,
        ..Outcome::default()
    })
}

fn measure(sides: &Sides, rounds: u32, parameters: &Parameters) -> Result<Vec<Row>, Refusal> {
    sides::take_turns(&sides.present, rounds, "smr", "smr", &json!(parameters))
}

fn rate(measured: &Measured) -> f64 {
    measured.mops * 1e6
}

fn ours(rows: &[Row]) -> Option<&Row> {
    rows.iter().find(|row| row.side.scheme == "ours" && !row.rounds.is_empty())
}

/// The fastest peer that frees, and ours as a part of it. The fastest with the processors as far apart as
/// they were most of the time: else it were whoever met them near more often.
fn against_best(rows: &[Row]) -> Option<(String, f64)> {
    let ours = ours(rows)?;
    let usual = sides::usual(rows.iter().flat_map(|row| &row.rounds));
    let median = |row: &&Row| Spread::of(row.at(usual, rate)).map_or(0.0, |spread| spread.median);
    let peers = rows.iter().filter(|row| !matches!(row.side.scheme, "ours" | "leak" | "engine"));
    let best = peers.max_by(|a, b| median(a).total_cmp(&median(b)))?;
    Some((best.side.name(), ours.ratio(best, rate)?.median))
}

fn target(worst: Vec<(String, f64)>) -> Vec<Target> {
    let least = worst.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
    least.map_or_else(Vec::new, |(seen, ratio)| {
        vec![Target {
            what: "smr: at least level with the best scheme at every thread count".to_owned(),
            seen: format!("at the least {seen}"),
            met: Some(ratio >= 1.0),
        }]
    })
}

fn figures(rows: &[Row], parameters: &Parameters) -> Table {
    let title = format!(
        "smr: {} threads, {} % updates, {} keys, lists of {}",
        parameters.threads,
        parameters.updates,
        parameters.keys,
        parameters.load / 2
    );
    let head = [
        "scheme",
        "operations/s",
        "ours is faster by",
        "operations/CPU-s",
        "p50",
        "p99.9",
        "longest",
        "memory at peak",
        "drain",
    ];
    let mut table = Table::new(title, &head).note(
        "Median (least .. greatest). Ours is faster by: in operations a second, of the rounds in which the \
         host kept the processors equally far \
         apart for both. Memory: VmHWM less RSS with the map filled. With more threads than processors \
         p99.9 contains waiting for one.",
    );
    let ours = ours(rows);
    for row in rows.iter().filter(|row| !row.rounds.is_empty()) {
        let cell = |figure: &dyn Fn(&Measured) -> f64, show: &dyn Fn(f64) -> String| {
            row.spread(figure).map_or_else(|| "n/a".to_owned(), |spread| show(spread.median))
        };
        table.row([
            row.side.name(),
            row.spread(rate).map_or_else(String::new, |spread| spread.text(short)),
            ours.and_then(|ours| ours.ratio(row, rate))
                .map_or_else(|| "n/a".to_owned(), |ratio| ratio.ratio_text()),
            cell(&|m| m.mops_cpu * 1e6, &short),
            cell(&|m| m.p50_ns as f64, &nanoseconds),
            cell(&|m| m.p999_ns as f64, &nanoseconds),
            cell(&|m| m.max_ns as f64, &nanoseconds),
            cell(&|m| m.rss_peak_kib.saturating_sub(m.rss_start_kib) as f64, &kib),
            cell(&|m| m.drain_ns as f64, &nanoseconds),
        ]);
    }
    table
}

fn clock_note(rows: &[Row]) -> String {
    let costs = rows.iter().filter_map(|row| row.spread(|measured| measured.clock_ns as f64));
    let cost = costs.map(|spread| spread.median).fold(f64::NAN, f64::min);
    format!("One operation in 16 is timed; reading the clock twice is {cost:.0} ns of each time.")
}

/// The measured side.
pub fn inner(job: &str) -> Result<Value, Refusal> {
    use check::run as examine;
    use run::run as operate;
    let job: Value = serde_json::from_str(job).map_err(Refusal::of("bad job"))?;
    let scheme = job["scheme"].as_str().unwrap_or_default();
    if job["experiment"] == "check" {
        let seed = job["parameters"]["seed"].as_u64().unwrap_or(1);
        return with_scheme!(scheme, examine(seed)).map(|checked| json!(checked)).map_err(Refusal);
    }
    let parameters: Parameters =
        serde_json::from_value(job["parameters"].clone()).map_err(Refusal::of("bad parameters"))?;
    with_scheme!(scheme, operate(&parameters)).map(|measured| json!(measured)).map_err(Refusal)
}
