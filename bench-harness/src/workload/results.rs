//! What workloads found out: values, tables, pictures, and the verdict on us.
//!
//! Throughput is judged per CPU-second: on a shared machine wall time says as much about the neighbours. Wall
//! throughput stands beside it.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::about::About;
use super::catalogue;
use super::worker::{Job, Tally};
use crate::measure::latency::{Cost, Latency};
use crate::measure::rounds::{Spread, geometric_mean, ratio_cell};
use crate::outcome::{Outcome, Target};
use crate::output::plot::{Bar, Line, Plot};
use crate::output::table::{Table, kib, nanoseconds, short};
use crate::peers::{Allocator, Choice};

/// What counts as level with the best.
const CLOSE: f64 = 0.95;
/// Verdicts: the highest median, and a median ratio to the best that is level.
const FIRST: &str = "first";
const WITHIN: &str = "within 5 %";

/// An allocator's rounds of one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Side {
    pub name: String,
    pub about: String,
    /// Why it has no rounds.
    pub failed: Option<String>,
    /// Operations per CPU-second and per wall second, and peak KiB, round by round.
    pub per_cpu: Vec<f64>,
    pub per_wall: Vec<f64>,
    pub peak_kib: Vec<f64>,
    pub base_kib: u64,
    pub latency: Option<Latency>,
    pub recording: Option<Cost>,
    /// To the base, within rounds.
    pub ratio: Option<Spread>,
    pub wall_ratio: Option<Spread>,
    pub peak_ratio: Option<Spread>,
    /// To the best of the others' medians, within rounds.
    pub to_best: Option<Spread>,
    pub verdict: String,
}

impl Side {
    pub fn new(
        allocator: &Allocator,
        rounds: Vec<Result<Tally, String>>,
        latency: Option<Result<Tally, String>>,
    ) -> Side {
        let timed = latency.as_ref().and_then(|result| result.as_ref().ok());
        let failures = rounds.iter().chain(&latency).filter_map(|result| result.as_ref().err());
        let failed = failures.clone().next().cloned();
        let good: Vec<&Tally> = rounds.iter().filter_map(|result| result.as_ref().ok()).collect();
        let each = |of: fn(&Tally) -> f64| {
            if failed.is_some() { Vec::new() } else { good.iter().map(|tally| of(tally)).collect() }
        };
        Side {
            name: allocator.name.clone(),
            about: allocator.about.clone(),
            per_cpu: each(|tally| tally.operations as f64 / tally.cpu_seconds),
            per_wall: each(|tally| tally.operations as f64 / tally.wall_seconds),
            peak_kib: each(|tally| tally.peak_kib as f64),
            base_kib: good.first().map_or(0, |tally| tally.base_kib),
            latency: timed.and_then(|tally| tally.latency),
            recording: timed.and_then(|tally| tally.recording),
            failed,
            ratio: None,
            wall_ratio: None,
            peak_ratio: None,
            to_best: None,
            verdict: String::new(),
        }
    }

    /// Median operations per CPU-second; 0 where it failed.
    fn median(&self) -> f64 {
        Spread::of(self.per_cpu.iter().copied()).map_or(0.0, |spread| spread.median)
    }

    /// One of ours, whatever the mode.
    pub fn is_ours(&self) -> bool {
        self.name.starts_with("rcumalloc")
    }
}

/// One workload under all allocators, the fastest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub job: Job,
    pub pattern: String,
    pub known_as: String,
    pub sides: Vec<Side>,
}

impl Run {
    pub fn new(job: &Job, mut sides: Vec<Side>, base: &str) -> Run {
        let about = catalogue::find(&job.workload).map_or(&crate::trace::replay::ABOUT, |entry| entry.about);
        let reference = sides.iter().find(|side| side.name == base).cloned();
        // A clone, for each side is compared with all the others.
        let all = sides.clone();
        for side in &mut sides {
            if let Some(base) = &reference {
                side.ratio = Spread::of_ratios(&side.per_cpu, &base.per_cpu);
                side.wall_ratio = Spread::of_ratios(&side.per_wall, &base.per_wall);
                side.peak_ratio = Spread::of_ratios(&side.peak_kib, &base.peak_kib);
            }
            let rivals =
                all.iter().filter(|other| other.name != side.name && !(other.is_ours() && side.is_ours()));
            if let Some(best) = rivals.max_by(|a, b| a.median().total_cmp(&b.median())) {
                side.to_best = Spread::of_ratios(&side.per_cpu, &best.per_cpu);
            }
        }
        sides.sort_by(|a, b| b.median().total_cmp(&a.median()));
        for (place, side) in sides.iter_mut().enumerate() {
            side.verdict = side.judge(base, place);
        }
        Run { job: job.clone(), pattern: about.pattern.into(), known_as: about.known_as.into(), sides }
    }

    fn table(&self, base: &str) -> Table {
        let name = &self.job.name();
        let (least, most) = self.job.sizes;
        let to_base = format!("ratio to {base}");
        let mut table = Table::new(
            format!("{name} ({})", self.known_as),
            &[
                "allocator",
                "per CPU-second",
                &to_base,
                "per second, ratio",
                "peak RSS",
                "ratio",
                "p50",
                "p99",
                "p99.9",
                "p99.99",
                "max",
                "",
            ],
        )
        .note(format!(
            "{}; {} threads, {}, {:.2} s a run",
            self.pattern,
            self.job.threads,
            if most == 0 { "sizes of the trace".to_owned() } else { format!("{least} to {most} bytes") },
            self.job.seconds
        ));
        for side in &self.sides {
            if let Some(reason) = &side.failed {
                table.row([side.name.clone(), format!("failed: {reason}")]);
                continue;
            }
            let spread = |values: &[f64], show: fn(f64) -> String| {
                Spread::of(values.iter().copied())
                    .map_or_else(|| "n/a".to_owned(), |spread| spread.text(show))
            };
            let latency = |of: fn(&Latency) -> f64| {
                side.latency.as_ref().map_or_else(|| "n/a".to_owned(), |latency| nanoseconds(of(latency)))
            };
            let peak = Spread::of(side.peak_kib.iter().copied());
            table.row([
                side.name.clone(),
                spread(&side.per_cpu, short),
                ratio_cell(side.ratio),
                ratio_cell(side.wall_ratio),
                peak.map_or_else(|| "n/a".to_owned(), |peak| kib(peak.median)),
                side.peak_ratio.map_or_else(|| "n/a".to_owned(), |ratio| format!("{:.2}", ratio.median)),
                latency(|l| l.p50),
                latency(|l| l.p99),
                latency(|l| l.p999),
                latency(|l| l.p9999),
                latency(|l| l.max),
                side.verdict.clone(),
            ]);
        }
        table
    }

    fn plots(&self) -> Vec<Plot> {
        let bars = |of: fn(&Side) -> Option<Spread>| -> Vec<Bar> {
            let bar = |side: &Side| {
                let Spread { median, least, greatest, .. } = of(side)?;
                Some(Bar { name: side.name.clone(), median, least, greatest })
            };
            self.sides.iter().filter_map(bar).collect()
        };
        let name = &self.job.name();
        let line = |side: &Side| {
            let latency = side.latency?;
            let nines = [(0.3, latency.p50), (2.0, latency.p99), (3.0, latency.p999), (4.0, latency.p9999)];
            Some(Line { name: side.name.clone(), points: nines.to_vec() })
        };
        let lines: Vec<Line> = self.sides.iter().filter_map(line).collect();
        let latency = Plot::lines(
            format!("{name}: latency of an operation"),
            "nines: 2 is p99, 3 is p99.9, 4 is p99.99",
            "nanoseconds",
            lines,
        );
        let timed = self.sides.iter().any(|side| side.latency.is_some());
        let latency = timed.then(|| latency.log());
        let bars = [
            Plot::bars(
                format!("{name}: operations per CPU-second"),
                "more is better",
                bars(|side| Spread::of(side.per_cpu.iter().copied())),
            ),
            Plot::bars(
                format!("{name}: peak RSS, MiB"),
                "less is better",
                bars(|side| Spread::of(side.peak_kib.iter().map(|kib| kib / 1024.0))),
            ),
        ];
        bars.into_iter().chain(latency).collect()
    }
}

impl Side {
    fn judge(&self, base: &str, place: usize) -> String {
        if self.failed.is_some() {
            return "failed".into();
        }
        // Ours is first among the peers also where another mode of ours is before it.
        let best = place == 0 || (self.is_ours() && self.to_best.is_some_and(|ratio| ratio.median >= 1.0));
        let close = self.to_best.is_some_and(|ratio| ratio.median >= CLOSE);
        let behind = self.name != base && self.ratio.is_some_and(|ratio| ratio.greatest < 1.0);
        match () {
            () if best => FIRST.into(),
            () if behind => format!("behind {base}"),
            () if close => WITHIN.into(),
            () => String::new(),
        }
    }

    /// First, or level with the best.
    fn is_close(&self) -> bool {
        self.verdict == FIRST || self.verdict == WITHIN
    }
}

/// The workloads and what they do.
pub fn list() -> Outcome {
    let mut table = Table::new("Workloads", &["name", "known as", "pattern", "threads", "sizes", "touched"]);
    let rows = catalogue::ALL.iter().map(|entry| entry.about).chain([&crate::trace::replay::ABOUT]);
    let row = |about: &About| {
        let touch = format!("{:?}", about.touch).to_lowercase();
        let sizes = format!("{}-{}", about.sizes.0, about.sizes.1);
        [
            about.name.into(),
            about.known_as.into(),
            about.pattern.into(),
            about.threads.to_string(),
            sizes,
            touch,
        ]
    };
    rows.for_each(|about| table.row(row(about)));
    let names: Vec<_> = catalogue::ALL.iter().map(|entry| entry.about.name).collect();
    Outcome {
        command: "workload".into(),
        results: json!(names),
        tables: vec![table],
        good: true,
        ..Outcome::default()
    }
}

/// Everything of a call of `workload`.
pub fn outcome(runs: Vec<Run>, choice: &Choice, base: &str, rounds: u32) -> Outcome {
    let mut notes: Vec<String> = choice.missing.iter().map(ToString::to_string).collect();
    notes.push(
        "throughput: operations per CPU-second (and per second of wall time), median (least .. greatest) of \
         the rounds; \
         ratios are within rounds; latencies are of one separate run"
            .to_owned(),
    );
    if let Some(cost) = runs.iter().flat_map(|run| &run.sides).find_map(|side| side.recording) {
        notes.push(format!(
            "recording a latency costs {:.0} ns an operation, of which {:.0} ns are within each recorded \
             time",
            cost.each_ns, cost.floor_ns
        ));
    }
    let mut tables: Vec<Table> = runs.iter().map(|run| run.table(base)).collect();
    if runs.len() > 1 {
        tables.push(summary(&runs, choice, base));
    }
    Outcome {
        command: "workload".into(),
        good: runs.iter().flat_map(|run| &run.sides).all(|side| side.failed.is_none() || !side.is_ours()),
        plots: runs.iter().flat_map(Run::plots).collect(),
        targets: targets(&runs, base),
        results: json!({ "workloads": runs, "missing": choice.missing }),
        notes,
        tables,
        rounds,
    }
}

/// All workloads on one page: median ratios to the base.
fn summary(runs: &[Run], choice: &Choice, base: &str) -> Table {
    let names: Vec<&str> = choice.present.iter().map(|allocator| allocator.name.as_str()).collect();
    let mut head = vec!["workload"];
    head.extend(&names);
    let mut table = Table::new("All workloads", &head).note(format!(
        "operations per CPU-second, ratio to {base}, medians; * first or within 5 % of the best, ! behind \
         {base} in every round"
    ));
    let mut columns: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    for run in runs {
        let mut row = vec![run.job.name()];
        for (column, name) in columns.iter_mut().zip(&names) {
            let side = run.sides.iter().find(|side| side.name == *name);
            row.push(match side.and_then(|side| Some((side, side.ratio?))) {
                Some((side, ratio)) => {
                    column.push(ratio.median);
                    let mark = match () {
                        () if side.is_close() => "*",
                        () if side.verdict.starts_with("behind") => "!",
                        () => "",
                    };
                    format!("{:.2}{mark}", ratio.median)
                }
                None => "failed".to_owned(),
            });
        }
        table.row(row);
    }
    let means = columns
        .iter()
        .map(|column| geometric_mean(column).map_or("n/a".to_owned(), |mean| format!("{mean:.2}")));
    table.row(std::iter::once("geometric mean".to_owned()).chain(means));
    table
}

/// The promise about workloads; of a full run only.
fn targets(runs: &[Run], base: &str) -> Vec<Target> {
    let patterns = runs.iter().filter(|run| run.job.trace.is_none()).count();
    if patterns < catalogue::ALL.len() || base != "glibc" {
        return Vec::new();
    }
    let ours: Vec<(&Run, &Side)> = runs
        .iter()
        .filter_map(|run| Some((run, run.sides.iter().find(|side| side.name == "rcumalloc")?)))
        .collect();
    let close = ours.iter().filter(|(_, side)| side.is_close()).count();
    let behind: Vec<String> = ours
        .iter()
        .filter(|(_, side)| side.ratio.is_none_or(|ratio| ratio.greatest < 1.0))
        .map(|(run, _)| run.job.name())
        .collect();
    let judged = !ours.is_empty();
    vec![
        Target {
            what: "workloads: first or within 5 % of the best peer on at least half".into(),
            seen: format!("{close} of {}{}", ours.len(), of_traces(&ours)),
            met: judged.then_some(close * 2 >= ours.len()),
        },
        Target {
            what: "workloads: never behind glibc".into(),
            seen: if behind.is_empty() {
                "on none".into()
            } else {
                format!("behind on {}", behind.join(", "))
            },
            met: judged.then_some(behind.is_empty()),
        },
    ]
}

/// How many of those are programs, if any.
fn of_traces(ours: &[(&Run, &Side)]) -> String {
    let traces = || ours.iter().filter(|(run, _)| run.job.trace.is_some());
    let close = traces().filter(|(_, side)| side.is_close()).count();
    match traces().count() {
        0 => String::new(),
        count => format!(", of which {close} of {count} are recorded programs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str, per_cpu: &[f64]) -> Side {
        let allocator =
            Allocator { name: name.into(), about: String::new(), library: None, environment: Vec::new() };
        let tally = |&rate: &f64| {
            Ok(Tally {
                operations: (rate * 1000.0) as u64,
                wall_seconds: 500.0,
                cpu_seconds: 1000.0,
                peak_kib: 100,
                base_kib: 10,
                latency: None,
                recording: None,
            })
        };
        Side::new(&allocator, per_cpu.iter().map(tally).collect(), None)
    }

    fn verdicts(sides: Vec<Side>) -> Vec<(String, String)> {
        let job = super::super::job("fifo", 1.0).expect("it is in the catalogue");
        Run::new(&job, sides, "glibc").sides.into_iter().map(|side| (side.name, side.verdict)).collect()
    }

    #[test]
    fn verdicts_are_by_rounds_and_sorted() {
        let seen = verdicts(vec![
            side("glibc", &[100.0, 100.0, 100.0]),
            side("rcumalloc", &[197.0, 198.0, 400.0]),
            side("rcumalloc-api", &[300.0, 300.0, 300.0]),
            side("mimalloc", &[200.0, 201.0, 399.0]),
            side("slow", &[90.0, 99.0, 98.0]),
            side("level", &[90.0, 99.0, 101.0]),
        ]);
        let seen: Vec<_> = seen.iter().map(|(name, verdict)| (name.as_str(), verdict.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("rcumalloc-api", "first"),
                ("mimalloc", ""),
                // Not measured against our other mode, which is faster.
                ("rcumalloc", "within 5 %"),
                ("glibc", ""),
                // Behind, but not in every round.
                ("level", ""),
                ("slow", "behind glibc"),
            ]
        );
    }

    #[test]
    fn a_side_that_fails_once_has_failed() {
        let mut failing = side("peer", &[100.0, 100.0]);
        assert!(failing.failed.is_none());
        let allocator =
            Allocator { name: "peer".into(), about: String::new(), library: None, environment: Vec::new() };
        failing = Side::new(&allocator, vec![Err("signal 11".into())], None);
        let seen = verdicts(vec![side("glibc", &[1.0]), failing]);
        assert_eq!(seen[1], ("peer".to_owned(), "failed".to_owned()));
    }
}
