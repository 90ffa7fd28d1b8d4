//! `profile-cost`: what `RCUMALLOC_PROFILE` costs real programs at the rate that it has when nobody names one.
//!
//! Three sides in turn, all of them the library: the variable not set, `0`, and `512K`. What the first two
//! differ by is what the measurement cannot see. Processor time has the kernel's part in it, and the
//! neighbours'; instructions, which callgrind counts, have neither, so they are counted beside it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::measure::child::{Child, End, Finished};
use crate::measure::rounds::{Spread, alternate, geometric_mean, ratio_cell};
use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::output::progress;
use crate::output::table::Table;
use crate::peers;
use crate::programs::{self, Real};

#[derive(clap::Args)]
pub struct Arguments {
    /// Do not count instructions under valgrind
    #[arg(long)]
    no_valgrind: bool,
}

/// What each side's variable says; the first is what ratios refer to.
const SIDES: [Option<&str>; 3] = [None, Some("0"), Some("512K")];
const PROGRAMS: [&str; 5] = ["sqlite3-sort", "python3-pool", "gawk", "perl", "cc1"];
/// What a profile may cost.
const MOST: f64 = 1.02;

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let library = peers::ours(common);
    if !library.exists() {
        return Err(Refusal(format!("no {}: scripts/build makes it", library.display())));
    }
    let rounds = common.rounds_or(15);
    let mut outcome = Outcome { command: "profile-cost".into(), good: true, rounds, ..Outcome::default() };
    let mut table = Table::new(
        "What a profile costs",
        &["program", "CPU s", "off: CPU", "on: CPU", "instructions, millions", "off: instructions", "on"],
    )
    .note(
        "Ratios to the library whose RCUMALLOC_PROFILE is not set; off: `0`, on: `512K`. CPU time: median \
         (least .. greatest) of the rounds. Instructions of user mode, counted once.",
    );
    let (mut times, mut each) = ([Vec::new(), Vec::new()], Vec::new());
    let bar = progress::bar(PROGRAMS.len() as u64 * SIDES.len() as u64 * u64::from(rounds + 2));
    for real in programs::ALL.iter().filter(|real| PROGRAMS.contains(&real.name)) {
        if !real.is_there() {
            outcome.notes.push(format!("missing: {}; apt-get install {}", real.name, real.package));
            continue;
        }
        bar.set_message(real.name);
        let runs = alternate(&SIDES, rounds, |side, _| {
            bar.inc(1);
            timed(real, &library, *side)
        })?;
        if let Some(failed) = runs.iter().flatten().find(|run| run.end != End::Status(0)) {
            return Err(Refusal(format!("{} failed: {}", real.name, failed.complaint())));
        }
        let seconds = |side: usize| runs[side].iter().map(Finished::cpu_seconds).collect::<Vec<f64>>();
        let time = |side: usize| Spread::of_ratios(&seconds(side), &seconds(0));
        let counts: Result<Vec<f64>, String> = SIDES
            .iter()
            .map(|side| {
                bar.inc(1);
                if arguments.no_valgrind {
                    Err("--no-valgrind".to_owned())
                } else {
                    counted(real, &library, *side)
                }
            })
            .collect();
        let mut row = vec![
            real.name.to_owned(),
            Spread::of(seconds(0)).map_or("n/a".into(), |seconds| format!("{:.2}", seconds.median)),
            ratio_cell(time(1)),
            ratio_cell(time(2)),
        ];
        match &counts {
            Ok(counts) => {
                row.push(format!("{:.0}", counts[0] / 1e6));
                row.extend([1, 2].map(|side| format!("{:.4}", counts[side] / counts[0])));
                let ratio = counts[2] / counts[0];
                outcome.targets.push(Target {
                    what: format!("{}: at most {MOST} times the instructions", real.name),
                    seen: format!("{ratio:.4}"),
                    met: Some(ratio <= MOST),
                });
            }
            Err(why) => row.push(format!("n/a: {why}")),
        }
        table.row(row);
        for (side, times) in times.iter_mut().enumerate() {
            times.extend(time(side + 1).map(|time| time.median));
        }
        each.push(json!({
            "program": real.name, "instructions": counts.ok(), "seconds": [seconds(0), seconds(1), seconds(2)],
        }));
    }
    bar.finish_and_clear();
    outcome.targets.extend(judged(times.each_ref().map(|times| geometric_mean(times))));
    outcome.good = common.quick || outcome.targets.iter().all(|target| target.met != Some(false));
    outcome.tables.push(table);
    outcome.results = json!(each);
    Ok(outcome)
}

/// The mean over the programs, if what cannot differ does not differ by as much as is asked about.
fn judged([off, on]: [Option<f64>; 2]) -> Option<Target> {
    let (off, on) = (off?, on?);
    Some(Target {
        what: format!("CPU time, geometric mean of the programs: at most {MOST} times"),
        seen: format!("{on:.3}, and {off:.3} where nothing differs"),
        met: ((off - 1.0).abs() < MOST - 1.0).then_some(on <= MOST),
    })
}

fn timed(real: &Real, library: &Path, side: Option<&str>) -> Result<Finished, Refusal> {
    let line = real.line();
    let child = Child::new(&line[0]).args(&line[1..]).preload(Some(library.to_owned()));
    match side {
        Some(value) => child.env("RCUMALLOC_PROFILE", value).run(),
        None => child.run(),
    }
}

/// Instructions of the program and of all that it starts.
fn counted(real: &Real, library: &Path, side: Option<&str>) -> Result<f64, String> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"]);
    valgrind.args(real.line()).env("LD_PRELOAD", library).env_remove("RCUMALLOC_PROFILE");
    valgrind.envs(side.map(|value| ("RCUMALLOC_PROFILE", value)));
    let output = valgrind.output().map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind: {}", said.lines().last().unwrap_or_default()));
    }
    let count = |line: &str| line.split_once("Collected : ")?.1.trim().parse::<f64>().ok();
    let all: f64 = said.lines().filter_map(count).sum();
    if all > 0.0 { Ok(all) } else { Err("callgrind printed no count".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_not_taken_for_a_verdict() {
        let met = |off, on| judged([Some(off), Some(on)]).and_then(|target| target.met);
        assert_eq!([met(1.001, 1.015), met(0.999, 1.03), met(1.03, 1.01)], [Some(true), Some(false), None]);
        assert!(judged([None, Some(1.0)]).is_none());
        assert!(PROGRAMS.iter().all(|name| programs::ALL.iter().any(|real| real.name == *name)));
    }
}
