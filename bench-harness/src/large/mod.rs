//! `large`: what it costs to grow, touch and free large blocks, under glibc and under the library, and
//! whether the kernel gives them huge pages, under each setting that the machine has for these.
//!
//! Each figure is a process of its own (`measured`), in which a thread does one thing and reads its own
//! processor time: who else is on the machine does not count. The setting is the machine's (`huge_pages`): it
//! is put back at the end, also where somebody ends this with Ctrl-C.

mod huge_pages;
pub mod measured;

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::measure::child::Child;
use crate::measure::rounds::{Spread, alternate, ratio_cell};
use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::output::markdown;
use crate::output::table::Table;
use crate::{machine, peers};
use huge_pages::{SETTINGS, Setting};
use measured::{Figure, Job, Task};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these parts, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
    /// Also write the tables to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// A table each.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Growing, touching, freeing
    Blocks,
    /// Huge pages: as root, for the setting is the machine's
    HugePages,
}

/// Who is measured, ours first.
const SIDES: [&str; 2] = ["rcumalloc", "glibc"];

/// What is promised of a task's figure, ours to glibc's.
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn is_met(&self, ratio: f64) -> bool {
        match *self {
            Bound::AtMost(limit) => ratio <= limit,
            Bound::AtLeast(limit) => ratio >= limit,
        }
    }

    fn words(&self) -> String {
        match self {
            Bound::AtMost(limit) => format!("at most {limit} times glibc's"),
            Bound::AtLeast(limit) => format!("at least {limit} times glibc's"),
        }
    }
}

/// A row of the first table.
struct Row {
    what: &'static str,
    unit: &'static str,
    task: Task,
    figure: fn(&Figure) -> f64,
    bound: Option<Bound>,
}

const ROWS: [Row; 6] = [
    Row {
        what: "a block of 256 MiB grows to 512 by 1 MiB at a time, each step touched",
        unit: "ms",
        task: Task::Grow { touched: true },
        figure: |figure| figure.ns / 1e6,
        bound: Some(Bound::AtMost(1.2)),
    },
    Row {
        what: "the same, and nothing is touched but the block's first 256 MiB, before",
        unit: "ms",
        task: Task::Grow { touched: false },
        figure: |figure| figure.ns / 1e6,
        bound: Some(Bound::AtMost(1.2)),
    },
    Row {
        what: "8 blocks of 5 to 25 MiB, touched, replaced in any order",
        unit: "MiB/s",
        task: Task::Replace,
        figure: |figure| figure.rate,
        bound: Some(Bound::AtLeast(1.5)),
    },
    Row {
        what: "100,000 blocks of 256 KiB: to free one",
        unit: "ns",
        task: Task::Many,
        figure: |figure| figure.ns,
        bound: Some(Bound::AtMost(1.0)),
    },
    Row {
        what: "100,000 blocks of 256 KiB: to allocate one and write to it",
        unit: "ns",
        task: Task::Many,
        figure: |figure| figure.allocating,
        bound: None,
    },
    Row {
        what: "100,000 blocks of 256 KiB: resident when all are free",
        unit: "MiB",
        task: Task::Many,
        figure: |figure| figure.resident_mib,
        bound: None,
    },
];

/// A row of the second table: sides under one setting.
#[derive(Serialize)]
struct Huge {
    setting: &'static str,
    /// The program asks for huge pages for its block.
    advised: bool,
    /// Of each side, a figure a round.
    sides: Vec<Vec<Figure>>,
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let library = peers::ours(common);
    if !library.exists() {
        return Err(Refusal(format!("no {}: scripts/build makes it", library.display())));
    }
    let began = machine::Moment::now();
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let rounds = common.rounds_or(5);
    let measure = |task: Task| {
        let job = Job { task, seconds: common.seconds_or(0.3), quick: common.quick };
        alternate(&SIDES, rounds, |side, _| {
            let child = Child::inner("large", &json!(job))?;
            let child = child.preload((*side == SIDES[0]).then(|| library.clone()));
            Ok::<_, Refusal>(child.answer::<Figure>()?.0)
        })
    };
    let mut outcome = Outcome { command: "large".to_owned(), good: true, rounds, ..Outcome::default() };
    let mut blocks = Vec::new();
    if wanted(Part::Blocks) {
        let mut table = Table::new(
            "Large blocks",
            &["what", "unit", "rcumalloc", "glibc", "ratio", "moves, rcumalloc and glibc"],
        )
        .note("Median (least .. greatest) of the rounds, of the thread's processor time; ratios in a round.");
        let mut last: Option<(Task, Vec<Vec<Figure>>)> = None;
        for row in &ROWS {
            // Several rows may come from one run.
            let sides = match last.take().filter(|(task, _)| *task == row.task) {
                Some((_, sides)) => sides,
                None => measure(row.task)?,
            };
            let of = |side: usize| sides[side].iter().map(row.figure).collect::<Vec<f64>>();
            let ratio = Spread::of_ratios(&of(0), &of(1));
            let moves = |side: usize| sides[side].iter().map(|figure| figure.moves).max().unwrap_or(0);
            table.row([
                row.what.to_owned(),
                row.unit.to_owned(),
                cell(&of(0)),
                cell(&of(1)),
                ratio_cell(ratio),
                if matches!(row.task, Task::Grow { .. }) {
                    format!("{}, {}", moves(0), moves(1))
                } else {
                    String::new()
                },
            ]);
            if let Some(bound) = &row.bound {
                outcome.targets.push(Target {
                    what: format!("{}: {}", row.what, bound.words()),
                    seen: ratio_cell(ratio),
                    met: ratio.map(|ratio| bound.is_met(ratio.median)),
                });
            }
            blocks.push(json!({ "what": row.what, "unit": row.unit, "rcumalloc": of(0), "glibc": of(1) }));
            last = Some((row.task, sides));
        }
        outcome.tables.push(table);
    }
    let mut huge = Vec::new();
    if wanted(Part::HugePages) {
        for setting in SETTINGS {
            let held = match Setting::hold(setting) {
                Ok(held) => held,
                Err(why) => {
                    outcome.notes.push(format!("huge pages: {setting} is not measured: {why}"));
                    continue;
                }
            };
            // Advice means something under `madvise` alone.
            for advised in [false, true].into_iter().take(1 + usize::from(setting == "madvise")) {
                huge.push(Huge { setting, advised, sides: measure(Task::Touch { advised })? });
            }
            drop(held);
        }
        outcome.tables.push(huge_table(&huge));
        outcome.targets.extend(huge.iter().map(huge_target));
    }
    outcome.good = common.quick || outcome.targets.iter().all(|target| target.met != Some(false));
    outcome.results = json!({ "blocks": blocks, "huge_pages": huge });
    if let Some(file) = &arguments.markdown {
        std::fs::write(file, markdown::page("Large blocks", &outcome, &began))
            .map_err(Refusal::of(format_args!("cannot write {}", file.display())))?;
    }
    Ok(outcome)
}

fn cell(figures: &[f64]) -> String {
    let show = |value: f64| if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    Spread::of(figures.iter().copied()).map_or_else(|| "n/a".to_owned(), |spread| spread.text(show))
}

fn huge_table(huge: &[Huge]) -> Table {
    let mut table = Table::new(
        "Huge pages",
        &["setting", "who", "aligned to 2 MiB", "in huge pages, MiB of 64", "touching, us/MiB", "ratio"],
    )
    .note(
        "Blocks of 2 to 64 MiB, how many of them begin where a huge page may; one of 64 MiB, of which every \
         page is written. Ratios are of the time, to glibc's in the same round.",
    );
    for row in huge {
        let of =
            |side: usize, figure: fn(&Figure) -> f64| row.sides[side].iter().map(figure).collect::<Vec<_>>();
        for (side, name) in SIDES.iter().enumerate() {
            let ratio = Spread::of_ratios(&of(side, |f| f.ns), &of(1, |f| f.ns));
            let aligned = row.sides[side].first().map_or((0, 0), |figure| (figure.aligned, figure.blocks));
            table.row([
                format!("{}{}", row.setting, if row.advised { ", the program advises" } else { "" }),
                (*name).to_owned(),
                format!("{} of {}", aligned.0, aligned.1),
                cell(&of(side, |figure| figure.huge_mib)),
                cell(&of(side, |figure| figure.ns / 1000.0 / measured::TOUCHED_MIB as f64)),
                if side == 0 { ratio_cell(ratio) } else { String::new() },
            ]);
        }
    }
    table
}

/// Every block is aligned, and where huge pages may be given, the whole block is in them.
fn huge_target(row: &Huge) -> Target {
    let ours = &row.sides[0];
    let given = row.setting == "always" || row.advised;
    let all = measured::TOUCHED_MIB as f64;
    let aligned = ours.iter().all(|figure| figure.aligned == figure.blocks);
    let huge = Spread::of(ours.iter().map(|figure| figure.huge_mib));
    Target {
        what: format!(
            "{}{}: every block of 2 MiB or more aligned, and {} in huge pages",
            row.setting,
            if row.advised { ", advised" } else { "" },
            if given { "all of it" } else { "none" },
        ),
        seen: format!(
            "{}, {} MiB of {all}",
            if aligned { "aligned" } else { "not aligned" },
            huge.map_or(0.0, |huge| huge.median)
        ),
        met: huge.map(|huge| aligned && huge.median == if given { all } else { 0.0 }),
    }
}
