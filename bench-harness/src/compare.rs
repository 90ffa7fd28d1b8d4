//! `compare -- PROGRAM ARGS…`: a real program under several allocators in turn.
//!
//! Timed rounds alternate and run with nothing beside them but the perf counters; one further run of each
//! side samples its memory over time. Every run's stdout and exit status must be those of the first run of
//! the base: a difference is an error (exit status 1), for a figure of a program that does something else is
//! no figure.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::measure::child::{Child, End, Finished};
use crate::measure::counters::Reading;
use crate::measure::rounds::{Spread, alternate, ratio_cell};
use crate::measure::{counters, sampler};
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::plot::{Bar, Line, Plot};
use crate::output::progress;
use crate::output::table::{Table, kib, short};
use crate::peers::Allocator;
use crate::suite;
use crate::workload::choose;

#[derive(clap::Args)]
pub struct Arguments {
    /// Allocators, separated by commas: names of `setup`, or NAME=PATH
    #[arg(long, value_delimiter = ',', value_name = "ALLOCATORS", default_value = "glibc,rcumalloc")]
    pub with: Vec<String>,
    /// The allocator that the others are compared with
    #[arg(long, default_value = "glibc")]
    pub base: String,
    /// The program's standard input
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// The output may differ from run to run
    #[arg(long)]
    pub any_output: bool,
    /// A run that takes longer is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    pub timeout: f64,
    /// The harness's own list of real programs, in place of one
    #[arg(long, value_enum, conflicts_with = "program")]
    pub suite: Option<suite::Which>,
    /// Of a suite only these, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "PROGRAMS", requires = "suite")]
    pub only: Vec<String>,
    /// The program and its arguments, after `--`
    #[arg(last = true, required_unless_present = "suite")]
    pub program: Vec<String>,
}

/// An allocator's rounds.
#[derive(Serialize)]
struct Side {
    name: String,
    about: String,
    rounds: Vec<Finished>,
    /// RSS over time, of a run that is not timed.
    samples: Vec<sampler::Sample>,
    /// To the base, within rounds.
    wall_ratio: Option<Spread>,
    cpu_ratio: Option<Spread>,
    peak_ratio: Option<Spread>,
    /// What was different from the base's first run.
    different: Option<String>,
}

impl Side {
    fn each(&self, of: impl Fn(&Finished) -> f64) -> Vec<f64> {
        self.rounds.iter().map(of).collect()
    }

    fn spread(&self, of: impl Fn(&Finished) -> f64) -> Option<Spread> {
        Spread::of(self.each(of))
    }
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    if let Some(which) = arguments.suite {
        return suite::run(which, &arguments.only, &arguments.with, &arguments.base, common);
    }
    let (program, rest) =
        arguments.program.split_first().ok_or_else(|| Refusal("compare needs a program".to_owned()))?;
    let choice = choose(&arguments.with, Some(&arguments.base), common)?;
    let rounds = common.rounds_or(5);
    let bar = progress::bar(choice.present.len() as u64 * (u64::from(rounds) + 2));
    let start = |allocator: &Allocator| {
        bar.set_message(allocator.name.clone());
        let child = Child::new(program).args(rest).stdin(arguments.stdin.clone()).under(allocator);
        child.timeout(Duration::from_secs_f64(arguments.timeout))
    };
    let timed = alternate(&choice.present, rounds, |allocator, _| {
        let finished = start(allocator).counted().run();
        bar.inc(1);
        finished
    })?;
    let mut sides = Vec::new();
    for (allocator, rounds) in choice.present.iter().zip(timed) {
        let every = Duration::from_secs_f64(rounds[0].wall_seconds / 400.0);
        let every = every.clamp(Duration::from_millis(1), Duration::from_millis(250));
        let sampled = start(allocator).sampled(every).run()?;
        bar.inc(1);
        sides.push(Side {
            name: allocator.name.clone(),
            about: allocator.about.clone(),
            rounds,
            samples: sampler::thin(&sampled.samples, 400),
            wall_ratio: None,
            cpu_ratio: None,
            peak_ratio: None,
            different: None,
        });
    }
    bar.finish_and_clear();
    relate(&mut sides, arguments);
    let mut notes: Vec<String> = choice.missing.iter().map(ToString::to_string).collect();
    notes.push(overhead()?);
    let failed = sides.iter().find(|side| side.name == arguments.base).and_then(|side| side.rounds.first());
    if let Some(finished) = failed.filter(|finished| finished.end != End::Status(0)) {
        notes.push(format!("note: under {} the program ends with {}", arguments.base, finished.complaint()));
    }
    let different: Vec<String> = sides
        .iter()
        .filter_map(|side| Some(format!("{}: {}", side.name, side.different.as_ref()?)))
        .collect();
    notes.extend(different.iter().map(|line| format!("DIFFERENT under {line}")));
    Ok(Outcome {
        command: "compare".into(),
        tables: vec![times(&sides, arguments), events(&sides, &arguments.base)],
        plots: plots(&sides),
        results: json!({ "program": arguments.program, "sides": sides, "missing": choice.missing }),
        notes,
        good: different.is_empty(),
        rounds,
        ..Outcome::default()
    })
}

/// Fills in what is relative to the base.
fn relate(sides: &mut [Side], arguments: &Arguments) {
    let Some(base) = sides.iter().find(|side| side.name == arguments.base) else { return };
    let (wall, cpu) = (base.each(|run| run.wall_seconds), base.each(Finished::cpu_seconds));
    let peak = base.each(|run| run.peak_kib as f64);
    let Some(first) = base.rounds.first().cloned() else { return };
    for side in sides {
        side.wall_ratio = Spread::of_ratios(&side.each(|run| run.wall_seconds), &wall);
        side.cpu_ratio = Spread::of_ratios(&side.each(Finished::cpu_seconds), &cpu);
        side.peak_ratio = Spread::of_ratios(&side.each(|run| run.peak_kib as f64), &peak);
        side.different = side.rounds.iter().find_map(|run| {
            if run.end != first.end {
                return Some(format!("{} instead of {}", run.complaint(), first.end));
            }
            let same = run.output_hash == first.output_hash && run.output_bytes == first.output_bytes;
            (!same && !arguments.any_output).then(|| {
                let place = run.stdout.iter().zip(&first.stdout).position(|(a, b)| a != b);
                let place = place.unwrap_or(run.stdout.len().min(first.stdout.len()));
                format!(
                    "stdout differs from byte {place} on ({} and {} bytes)",
                    run.output_bytes, first.output_bytes
                )
            })
        });
    }
}

/// What the harness itself adds to a run: `true`, started by the launcher with counters, against its own
/// rusage.
fn overhead() -> Result<String, Refusal> {
    let runs: Vec<Finished> =
        (0..5).map(|_| Child::new("/bin/true").counted().run_well()).collect::<Result<_, _>>()?;
    let wall = Spread::of(runs.iter().map(|run| run.wall_seconds * 1e3));
    let peak = Spread::of(runs.iter().map(|run| run.peak_kib as f64));
    match (wall, peak) {
        (Some(wall), Some(peak)) => Ok(format!(
            "overhead: starting /bin/true here takes {:.2} ms of wall time and shows a peak of {}; both are \
             in every figure below",
            wall.median,
            kib(peak.median)
        )),
        _ => Ok("overhead: not measured".to_owned()),
    }
}

fn times(sides: &[Side], arguments: &Arguments) -> Table {
    let ratio = format!("ratio to {}", arguments.base);
    let mut table = Table::new(
        crate::report::shown(&arguments.program),
        &["allocator", "wall s", &ratio, "user s", "system s", "CPU, ratio", "peak RSS", "ratio", "output"],
    )
    .note("median (least .. greatest) of the rounds, ratios within rounds; less is better");
    for side in sides {
        let seconds = |spread: Option<Spread>| {
            spread.map_or("n/a".to_owned(), |spread| spread.text(|s| format!("{s:.3}")))
        };
        table.row([
            side.name.clone(),
            seconds(side.spread(|run| run.wall_seconds)),
            ratio_cell(side.wall_ratio),
            side.spread(|run| run.user_seconds).map_or("n/a".into(), |s| format!("{:.3}", s.median)),
            side.spread(|run| run.system_seconds).map_or("n/a".into(), |s| format!("{:.3}", s.median)),
            ratio_cell(side.cpu_ratio),
            side.spread(|run| run.peak_kib as f64).map_or("n/a".into(), |s| kib(s.median)),
            ratio_cell(side.peak_ratio),
            if side.different.is_some() { "DIFFERENT".into() } else { "same".into() },
        ]);
    }
    table
}

fn events(sides: &[Side], base: &str) -> Table {
    let mut head = vec!["event"];
    head.extend(sides.iter().map(|side| side.name.as_str()));
    let mut table = Table::new("Events", &head)
        .note(format!("medians, in brackets the ratio to {base}; hardware events in user mode, from perf"));
    let mut row = |name: &str, of: &dyn Fn(&Side) -> Result<f64, String>| {
        let reference = sides.iter().find(|side| side.name == base).and_then(|side| of(side).ok());
        let cell = |side: &Side| match (of(side), reference) {
            (Ok(count), Some(reference)) if side.name != base && reference > 0.0 => {
                format!("{} ({:.2})", short(count), count / reference)
            }
            (Ok(count), _) => short(count),
            (Err(reason), _) => format!("n/a ({reason})"),
        };
        let mut cells: Vec<String> = sides.iter().map(cell).collect();
        // The same reason is said once.
        for at in (1..cells.len()).rev() {
            if cells[at].starts_with("n/a (") && cells[at] == cells[0] {
                cells[at] = "n/a".to_owned();
            }
        }
        table.row(std::iter::once(name.to_owned()).chain(cells));
    };
    type Of = fn(&Finished) -> u64;
    let plain: [(&str, Of); 4] = [
        ("minor faults", |run| run.minor_faults),
        ("major faults", |run| run.major_faults),
        ("voluntary switches", |run| run.voluntary_switches),
        ("involuntary switches", |run| run.involuntary_switches),
    ];
    for (name, of) in plain {
        row(name, &|side| {
            side.spread(|run| of(run) as f64).map(|s| s.median).ok_or_else(|| "no round".into())
        });
    }
    for (index, name) in counters::names().enumerate() {
        row(&format!("perf {name}"), &|side| {
            let readings = side.rounds.iter().filter_map(|run| run.counters.get(index));
            match readings.clone().find_map(|(_, reading)| match reading {
                Reading::Refused { refused } => Some(refused.clone()),
                Reading::Count(_) => None,
            }) {
                Some(reason) => Err(reason),
                None => Spread::of(readings.filter_map(|(_, reading)| Some(reading.count()? as f64)))
                    .map(|spread| spread.median)
                    .ok_or_else(|| "no reading".to_owned()),
            }
        });
    }
    table
}

fn plots(sides: &[Side]) -> Vec<Plot> {
    let bars = |of: &dyn Fn(&Finished) -> f64| -> Vec<Bar> {
        let bar = |side: &Side| {
            let Spread { median, least, greatest, .. } = side.spread(of)?;
            Some(Bar { name: side.name.clone(), median, least, greatest })
        };
        sides.iter().filter_map(bar).collect()
    };
    let line = |side: &Side| Line {
        name: side.name.clone(),
        points: side.samples.iter().map(|sample| (sample.seconds, sample.kib as f64 / 1024.0)).collect(),
    };
    vec![
        Plot::bars("Wall time", "seconds, less is better", bars(&|run| run.wall_seconds)),
        Plot::bars("CPU time", "seconds, less is better", bars(&Finished::cpu_seconds)),
        Plot::bars("Peak RSS", "MiB, less is better", bars(&|run| run.peak_kib as f64 / 1024.0)),
        Plot::lines("RSS over time", "seconds", "MiB", sides.iter().map(line).collect()),
        Plot::bars(
            "Page faults",
            "minor and major, less is better",
            bars(&|run| (run.minor_faults + run.major_faults) as f64),
        ),
    ]
}
