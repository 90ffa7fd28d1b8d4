//! `compare --suite`: the real programs of [`programs`] under several allocators in turn, one line each, and
//! their means.

use serde::Serialize;
use serde_json::{Value, json};

use crate::family::{self, Pairs};
use crate::measure::child::{Child, End, Finished};
use crate::measure::rounds::{Spread, alternate, ratio_cell};
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::progress;
use crate::output::table::Table;
use crate::peers::Allocator;
use crate::programs::{self, Real};
use crate::workload::choose;

/// Some of the programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Which {
    /// Programs of one thread
    Single,
    /// Programs with threads
    Threaded,
}

impl Which {
    pub fn programs(self) -> Vec<&'static Real> {
        programs::ALL.iter().filter(|real| real.threads == (self == Which::Threaded)).collect()
    }
}

/// A program under one allocator.
#[derive(Serialize)]
struct Row {
    program: &'static str,
    allocator: String,
    rounds: Vec<Finished>,
    /// To the base, within rounds.
    time: Option<Spread>,
    peak: Option<Spread>,
}

/// What was found.
pub struct Measured {
    /// A row a program.
    pub table: Table,
    /// Time and memory against the base, an allocator after the other.
    pub pairs: Vec<Pairs>,
    /// Every run.
    pub each: Value,
}

/// As `compare --suite` was asked.
pub fn run(
    which: Which,
    only: &[String],
    with: &[String],
    base: &str,
    common: &Common,
) -> Result<Outcome, Refusal> {
    let mut chosen = which.programs();
    if let Some(unknown) = only.iter().find(|only| chosen.iter().all(|real| real.name != **only)) {
        let known: Vec<_> = chosen.iter().map(|real| real.name).collect();
        return Err(Refusal(format!(
            "--only: no program '{unknown}' in this suite; there are {}",
            known.join(", ")
        )));
    }
    chosen.retain(|real| only.is_empty() || only.iter().any(|only| only == real.name));
    let choice = choose(with, Some(base), common)?;
    let rounds = common.rounds_or(5);
    let mut outcome = Outcome { command: "compare".into(), good: true, rounds, ..Outcome::default() };
    outcome.notes.extend(choice.missing.iter().map(ToString::to_string));
    let Measured { table, pairs, each } = measure(&chosen, &choice.present, base, rounds, &mut outcome)?;
    let title = format!("Real programs against {base}");
    let note = "CPU time and peak RSS, ratios within rounds, their median a program; geometric mean over \
        the programs";
    outcome.tables = vec![table, family::table(title, note, &pairs)];
    outcome.results = json!({ "means": family::json_of(&pairs), "programs": each });
    Ok(outcome)
}

/// Each program under each side. One that is not there is named; one that fails is an error.
pub fn measure(
    chosen: &[&'static Real],
    sides: &[Allocator],
    base: &str,
    rounds: u32,
    outcome: &mut Outcome,
) -> Result<Measured, Refusal> {
    let bar = progress::bar((chosen.len() * sides.len()) as u64 * u64::from(rounds + 1));
    let reference = sides.iter().position(|side| side.name == base).unwrap_or(0);
    let others: Vec<usize> = (0..sides.len()).filter(|&side| side != reference).collect();
    let mut head = vec!["program".to_owned(), format!("{base}, CPU s")];
    for what in ["time", "peak"] {
        head.extend(others.iter().map(|&side| format!("{}, {what}", sides[side].name)));
    }
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut table = Table::new("Each program", &head)
        .note(format!("ratios to {base}, median (least .. greatest); less is better"));
    let mut pairs: Vec<Pairs> = others.iter().map(|&side| (sides[side].name.clone(), Vec::new())).collect();
    let mut each = Vec::new();
    for real in chosen {
        if !real.is_there() {
            outcome.notes.push(format!("missing: {}; apt-get install {}", real.name, real.package));
            continue;
        }
        let line = real.line();
        let runs = alternate(sides, rounds, |side, _| {
            bar.set_message(format!("{} {}", real.name, side.name));
            let finished = Child::new(&line[0]).args(&line[1..]).under(side).run();
            bar.inc(1);
            finished
        })?;
        if let Some(failed) = runs.iter().flatten().find(|run| run.end != End::Status(0)) {
            outcome.notes.push(format!("FAILED: {}: {}", real.name, failed.complaint()));
            outcome.good = false;
            continue;
        }
        let ratio = |side: usize, of: fn(&Finished) -> f64| {
            let all = |side: usize| runs[side].iter().map(of).collect::<Vec<_>>();
            Spread::of_ratios(&all(side), &all(reference))
        };
        let peak: fn(&Finished) -> f64 = |run| run.peak_kib as f64;
        let seconds = Spread::of(runs[reference].iter().map(Finished::cpu_seconds));
        let mut row =
            vec![real.name.to_owned(), seconds.map_or("n/a".into(), |s| format!("{:.2}", s.median))];
        for of in [Finished::cpu_seconds, peak] {
            row.extend(others.iter().map(|&side| ratio_cell(ratio(side, of))));
        }
        table.row(row);
        for (&side, (_, pairs)) in others.iter().zip(&mut pairs) {
            if let (Some(time), Some(memory)) = (ratio(side, Finished::cpu_seconds), ratio(side, peak)) {
                pairs.push((time.median, memory.median));
            }
        }
        let sides = (0..sides.len()).map(|side| Row {
            program: real.name,
            allocator: sides[side].name.clone(),
            rounds: runs[side].clone(),
            time: ratio(side, Finished::cpu_seconds),
            peak: ratio(side, peak),
        });
        each.push(json!({ "program": real.name, "sides": sides.collect::<Vec<_>>() }));
    }
    bar.finish_and_clear();
    Ok(Measured { table, pairs, each: json!(each) })
}
