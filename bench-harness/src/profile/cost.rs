//! `profile-cost`: what `RCUMALLOC_PROFILE` costs real programs at the rate it has when nobody names one.
//!
//! A profile has the process's blocks deferred, as several threads do, so each program is measured with a
//! second thread, which sleeps, and alone. With it three sides take turns: the variable not set, `0`, and
//! `512K`; what the first two differ by is what the measurement cannot see. Alone, not set and `512K`: the
//! difference has in it what deferring costs a program that would not need it. Processor time has the
//! kernel's part in it, and the neighbours'; instructions, which callgrind counts, have neither.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::measure::child::{Child, End, Finished, memory_file};
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

/// The second thread, as build.rs compiled it.
static SECOND_THREAD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/second_thread.so"));

/// How a program is run.
struct Side {
    has_threads: bool,
    profile: Option<&'static str>,
}

const fn side(has_threads: bool, profile: Option<&'static str>) -> Side {
    Side { has_threads, profile }
}

/// By the constants below.
static SIDES: [Side; 5] = [
    side(true, None),
    side(true, Some("0")),
    side(true, Some("512K")),
    side(false, None),
    side(false, Some("512K")),
];
const NOT_SET: usize = 0;
const OFF: usize = 1;
const ON: usize = 2;
const ALONE_NOT_SET: usize = 3;
const ALONE_ON: usize = 4;

const PROGRAMS: [&str; 5] = ["sqlite3-sort", "python3-pool", "gawk", "perl", "cc1"];
/// What a profile may cost.
const MOST: f64 = 1.02;

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let library = peers::ours(common);
    if !library.exists() {
        return Err(Refusal(format!("no {}: scripts/build makes it", library.display())));
    }
    let second = memory_file(c"second_thread.so", SECOND_THREAD).map_err(Refusal::of("no second thread"))?;
    let second = format!("/proc/{}/fd/{}", std::process::id(), second.as_raw_fd());
    let preload = |side: &Side| -> OsString {
        let mut all = library.clone().into_os_string();
        if side.has_threads {
            all.push(":");
            all.push(&second);
        }
        all
    };
    let rounds = common.rounds_or(15);
    let mut outcome = Outcome { command: "profile-cost".into(), good: true, rounds, ..Outcome::default() };
    let head =
        ["program", "CPU s", "threads: 0", "threads: 512K", "alone: 512K", "instructions, threads: 512K"];
    let mut table = Table::new("What a profile costs", &head).note(
        "CPU time with RCUMALLOC_PROFILE so, to that with it not set, median (least .. greatest) of the \
         rounds; with a second thread, which sleeps, and without. Instructions of user mode, counted once.",
    );
    let (mut off, mut on, mut alone, mut each) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let bar = progress::bar(PROGRAMS.len() as u64 * SIDES.len() as u64 * u64::from(rounds + 1));
    for real in programs::ALL.iter().filter(|real| PROGRAMS.contains(&real.name)) {
        if !real.is_there() {
            outcome.notes.push(format!("missing: {}; apt-get install {}", real.name, real.package));
            continue;
        }
        bar.set_message(real.name);
        let runs = alternate(&SIDES, rounds, |side, _| {
            bar.inc(1);
            let line = real.line();
            let child = Child::new(&line[0]).args(&line[1..]).preload(Some(preload(side).into()));
            match side.profile {
                Some(value) => child.env("RCUMALLOC_PROFILE", value).run(),
                None => child.run(),
            }
        })?;
        if let Some(failed) = runs.iter().flatten().find(|run| run.end != End::Status(0)) {
            return Err(Refusal(format!("{} failed: {}", real.name, failed.complaint())));
        }
        let seconds: Vec<Vec<f64>> =
            runs.iter().map(|runs| runs.iter().map(Finished::cpu_seconds).collect()).collect();
        let time = |side: usize, to: usize| Spread::of_ratios(&seconds[side], &seconds[to]);
        let [with_off, with_on] = [time(OFF, NOT_SET), time(ON, NOT_SET)];
        let alone_on = time(ALONE_ON, ALONE_NOT_SET);
        off.extend(with_off.map(|ratio| ratio.median));
        on.extend(with_on.map(|ratio| ratio.median));
        alone.extend(alone_on.map(|ratio| ratio.median));
        let count = |side: usize| match arguments.no_valgrind {
            true => Err("--no-valgrind".to_owned()),
            false => counted(real, preload(&SIDES[side]).as_ref(), SIDES[side].profile),
        };
        let counts = count(NOT_SET).and_then(|not_set| Ok([not_set, count(ON)?]));
        table.row([
            real.name.to_owned(),
            Spread::of(seconds[NOT_SET].iter().copied())
                .map_or("n/a".into(), |seconds| format!("{:.2}", seconds.median)),
            ratio_cell(with_off),
            ratio_cell(with_on),
            ratio_cell(alone_on),
            match &counts {
                Ok([not_set, on]) => format!("{:.4}", on / not_set),
                Err(why) => format!("n/a: {why}"),
            },
        ]);
        each.push(json!({ "program": real.name, "seconds": seconds, "instructions": counts.ok() }));
    }
    bar.finish_and_clear();
    let [off, on, alone] = [off, on, alone].map(|ratios| geometric_mean(&ratios));
    if let Some(alone) = alone {
        outcome
            .notes
            .push(format!("alone, where a profile makes programs defer: {alone:.3}, geometric mean"));
    }
    outcome.targets.extend(judged(off, on));
    outcome.good = common.quick || outcome.targets.iter().all(|target| target.met != Some(false));
    outcome.tables.push(table);
    outcome.results = json!(each);
    Ok(outcome)
}

/// The mean over the programs, if what cannot differ does not differ by as much as is asked about.
fn judged(off: Option<f64>, on: Option<f64>) -> Option<Target> {
    let (off, on) = (off?, on?);
    Some(Target {
        what: format!("CPU time of programs with threads, geometric mean: at most {MOST} times"),
        seen: format!("{on:.3}, and {off:.3} where nothing differs"),
        met: ((off - 1.0).abs() < MOST - 1.0).then_some(on <= MOST),
    })
}

/// Instructions of the program and of all that it starts.
fn counted(real: &Real, preload: &Path, profile: Option<&str>) -> Result<f64, String> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"]);
    valgrind.args(real.line()).env("LD_PRELOAD", preload).env_remove("RCUMALLOC_PROFILE");
    valgrind.envs(profile.map(|value| ("RCUMALLOC_PROFILE", value)));
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
        let met = |off, on| judged(Some(off), Some(on)).and_then(|target| target.met);
        assert_eq!([met(1.001, 1.015), met(0.999, 1.03), met(1.03, 1.01)], [Some(true), Some(false), None]);
        assert!(judged(None, Some(1.0)).is_none());
        assert!(PROGRAMS.iter().all(|name| programs::ALL.iter().any(|real| real.name == *name)));
    }
}
