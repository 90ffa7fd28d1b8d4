//! `perf -- PROGRAM ARGS…`: what perf counts of a program under several allocators, in turn.
//!
//! Every event that the machine gives is counted; one that it does not give is named with the reason, and is
//! never 0. Ratios are taken within a round. With `--record DIR` one further run of each side is sampled, and
//! DIR gets the folded stacks of each side, the difference of two sides for `inferno-flamegraph`, and a
//! flame graph of the difference.

mod samples;
mod stat;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::Serialize;
use serde_json::{Value, json};

use crate::measure::child::Child;
use crate::measure::rounds::{Spread, alternate, ratio_cell};
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::progress;
use crate::output::table::{Table, short};
use crate::peers::Allocator;
use crate::programs::Real;
use crate::suite::Which;
use crate::workload::choose;

#[derive(clap::Args)]
pub struct Arguments {
    /// Allocators, separated by commas: names of `setup`, or NAME=PATH
    #[arg(long, value_delimiter = ',', value_name = "ALLOCATORS", default_value = "glibc,rcumalloc")]
    with: Vec<String>,
    /// The allocator that the others are compared with
    #[arg(long, default_value = "glibc")]
    base: String,
    /// Also sample where the time goes: folded stacks, and a flame graph of the difference, into DIR
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// The harness's own list of real programs, in place of one
    #[arg(long, value_enum, conflicts_with_all = ["program", "record"])]
    suite: Option<Which>,
    /// The program and its arguments, after `--`
    #[arg(last = true, required_unless_present = "suite")]
    program: Vec<String>,
}

/// A program under one allocator.
#[derive(Serialize)]
struct Side {
    name: String,
    /// Each round's counts, by event.
    rounds: Vec<BTreeMap<String, f64>>,
    /// To the base, within rounds.
    ratios: BTreeMap<String, Spread>,
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let events = stat::probe()?;
    let choice = choose(&arguments.with, Some(&arguments.base), common)?;
    let rounds = common.rounds_or(5);
    let mut outcome = Outcome { command: "perf".into(), good: true, rounds, ..Outcome::default() };
    outcome.notes.extend(choice.missing.iter().map(ToString::to_string));
    outcome.notes.extend(events.refusals());
    let programs: Vec<(String, Vec<String>)> = match arguments.suite {
        Some(which) => which.programs().into_iter().filter_map(|real| there(real, &mut outcome)).collect(),
        None => vec![("program".to_owned(), arguments.program.clone())],
    };
    let steps = (programs.len() * choice.present.len()) as u64 * u64::from(rounds + 1);
    let bar = progress::bar(steps);
    let mut each: Vec<Value> = Vec::new();
    for (name, line) in &programs {
        let counted = alternate(&choice.present, rounds, |allocator, _| {
            bar.set_message(format!("{name} {}", allocator.name));
            let counts = events.count(&under(allocator, line));
            bar.inc(1);
            counts
        })?;
        let named = choice.present.iter().zip(counted);
        let sides: Vec<Side> = named.map(|(allocator, rounds)| Side::new(&allocator.name, rounds)).collect();
        let sides = related(sides, &arguments.base);
        outcome.tables.push(table(name, &sides, &arguments.base, &events));
        each.push(json!({ "program": name, "line": line, "sides": sides }));
    }
    bar.finish_and_clear();
    if let Some(directory) = &arguments.record {
        outcome.notes.extend(samples::record(directory, &choice.present, &arguments.base, &|allocator| {
            under(allocator, &arguments.program)
        })?);
    }
    outcome.results = json!({ "programs": each, "refused": events.refused });
    Ok(outcome)
}

/// A real program of the list, or a note that says what brings it.
fn there(real: &Real, outcome: &mut Outcome) -> Option<(String, Vec<String>)> {
    if !real.is_there() {
        outcome.notes.push(format!("missing: {}; apt-get install {}", real.name, real.package));
        return None;
    }
    Some((real.name.to_owned(), real.line()))
}

/// The command line that perf starts. Both sides go through `env`, so that its start is in both figures.
fn under(allocator: &Allocator, line: &[String]) -> Vec<String> {
    let mut words = vec!["env".to_owned(), "-u".to_owned(), "LD_PRELOAD".to_owned()];
    words.extend(allocator.library.iter().map(|library| format!("LD_PRELOAD={}", library.display())));
    words.extend(allocator.environment.iter().map(|(name, value)| format!("{name}={value}")));
    words.extend(line.iter().cloned());
    words
}

/// perf, as a child whose end is waited for.
fn perf(words: &[&str]) -> Child {
    Child::new("perf").args(words)
}

/// The first line that says something, of what perf complains with.
fn complaint(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let said = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.ends_with("Error:"));
    said.unwrap_or("it says nothing").to_owned()
}

/// Whether perf is installed at all.
fn is_installed() -> bool {
    Command::new("perf").arg("--version").output().is_ok_and(|output| output.status.success())
}

impl Side {
    fn new(name: &str, rounds: Vec<BTreeMap<String, f64>>) -> Side {
        Side { name: name.to_owned(), rounds, ratios: BTreeMap::new() }
    }

    /// The counts of an event, round by round; a round without it is not a number.
    fn each(&self, event: &str) -> Vec<f64> {
        self.rounds.iter().map(|counts| counts.get(event).copied().unwrap_or(f64::NAN)).collect()
    }
}

/// With the ratios to the base.
fn related(mut sides: Vec<Side>, base: &str) -> Vec<Side> {
    let Some(reference) = sides.iter().position(|side| side.name == base) else { return sides };
    let events: Vec<String> =
        sides[reference].rounds.iter().flat_map(|counts| counts.keys().cloned()).collect();
    for side in 0..sides.len() {
        for event in &events {
            let ratio = Spread::of_ratios(&sides[side].each(event), &sides[reference].each(event));
            if let Some(ratio) = ratio.filter(|_| side != reference) {
                sides[side].ratios.insert(event.clone(), ratio);
            }
        }
    }
    sides
}

/// A row an event: medians, and the ratios of each side to the base.
fn table(program: &str, sides: &[Side], base: &str, events: &stat::Events) -> Table {
    let mut head = vec!["event".to_owned()];
    head.extend(sides.iter().map(|side| side.name.clone()));
    let others: Vec<&Side> = sides.iter().filter(|side| side.name != base).collect();
    head.extend(others.iter().map(|side| format!("{}, ratio", side.name)));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut table = Table::new(format!("perf: {program}"), &head)
        .note(format!("medians of the rounds; ratios to {base} within rounds, median (least .. greatest)"));
    for event in &events.given {
        let median = |side: &&Side| {
            Spread::of(side.each(event)).map_or("n/a".to_owned(), |spread| short(spread.median))
        };
        let mut row = vec![event.clone()];
        row.extend(sides.iter().map(|side| median(&side)));
        row.extend(others.iter().map(|side| ratio_cell(side.ratios.get(event).copied())));
        table.row(row);
    }
    for event in events.refused.keys() {
        table.row(std::iter::once(event.as_str()).chain(sides.iter().map(|_| "n/a")));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round_and_missing_counts_are_no_zeros() {
        let round = |count: f64| BTreeMap::from([("faults".to_owned(), count)]);
        let sides = vec![
            Side::new("a", vec![round(10.0), round(20.0)]),
            Side::new("b", vec![round(20.0), round(20.0)]),
        ];
        let sides = related(sides, "a");
        let ratio = sides[1].ratios["faults"];
        assert_eq!((ratio.least, ratio.median, ratio.greatest), (1.0, 1.5, 2.0));
        let events = stat::Events {
            given: vec!["faults".into()],
            refused: BTreeMap::from([("cycles".into(), "this machine gives no such counter".into())]),
        };
        let table = table("p", &sides, "a", &events);
        assert_eq!(table.rows[0], ["faults", "15.0", "20.0", "1.50 [1.00 .. 2.00]"]);
        assert_eq!(table.rows[1], ["cycles", "n/a", "n/a", ""]);
    }

    #[test]
    fn a_complaint_is_its_first_line_that_says_something() {
        assert_eq!(
            complaint(b"\nError:\n  No permission to enable it.\nmore"),
            "No permission to enable it."
        );
        assert_eq!(complaint(b""), "it says nothing");
    }
}
