//! `ranges`: what it costs to find the range that an address lies in, while nobody writes and while two
//! threads do.
//!
//! One reader looks random addresses up, most of them in ranges; each writer takes random ranges of its own
//! out and puts them in again, without a pause. A figure is the reader's processor time for a look-up: with
//! more threads than processors the time of day says who had to wait for a processor. It says, too, who
//! waits for a lock, so it is shown beside it. All maps take turns in each round.

mod maps;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use crate::measure::processor_ns;
use crate::measure::rounds::{Spread, alternate, ratio_cell};
use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::output::table::Table;
use maps::{Locked, Map, Ours, Skips, Swapped, range};

#[derive(clap::Args)]
pub struct Arguments {
    /// Ranges in the map
    #[arg(long, default_value_t = 10_000)]
    ranges: usize,
    /// Look-ups a figure
    #[arg(long, default_value_t = 1_000_000)]
    look_ups: usize,
    /// Threads that write, in the second column
    #[arg(long, default_value_t = 2)]
    writers: usize,
}

/// The most that a look-up of ours may take with 10,000 ranges, ns.
const MOST_NS: f64 = 60.0;
/// And what writers may make of it.
const MOST_RATIO: f64 = 1.2;

/// One map in one round.
#[derive(Clone, Copy, Serialize)]
struct Figure {
    /// ns of processor time a look-up.
    alone: f64,
    written: f64,
    /// ns of time of day a look-up.
    written_day: f64,
    /// Changes a second of all writers.
    changes: f64,
}

/// Measures one kind of map.
type Measure = fn(&Arguments) -> Result<Figure, Refusal>;

const MAPS: [(&str, Measure); 4] = [
    (Ours::NAME, measure::<Ours>),
    (Locked::NAME, measure::<Locked>),
    (Skips::NAME, measure::<Skips>),
    (Swapped::NAME, measure::<Swapped>),
];

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    if arguments.ranges < 2 * arguments.writers.max(1) || arguments.look_ups == 0 {
        return Err(Refusal("ranges: needs look-ups, and two ranges a writer".to_owned()));
    }
    let rounds = common.rounds_or(7);
    let quick = Arguments { look_ups: arguments.look_ups.min(50_000), ..*arguments };
    let arguments = if common.quick { &quick } else { arguments };
    let figures = alternate(&MAPS, rounds, |(_, measure), _| measure(arguments))?;
    let mut table = Table::new(
        format!("ranges: {} ranges, ns a look-up", arguments.ranges),
        &["map", "nobody writes", "writers", "writers/nobody", "time of day, writers", "changes/s"],
    )
    .note(
        "Median (least .. greatest) of the rounds. The reader's processor time, but where it says time of \
        day.",
    );
    let of = |all: &[Figure], figure: fn(&Figure) -> f64| Spread::of(all.iter().map(figure));
    let ns =
        |spread: Option<Spread>| spread.map_or_else(|| "n/a".to_owned(), |s| s.text(|ns| format!("{ns:.0}")));
    for ((name, _), all) in MAPS.iter().zip(&figures) {
        table.row([
            (*name).to_owned(),
            ns(of(all, |figure| figure.alone)),
            ns(of(all, |figure| figure.written)),
            ratio_cell(of(all, |figure| figure.written / figure.alone)),
            ns(of(all, |figure| figure.written_day)),
            ns(of(all, |figure| figure.changes)),
        ]);
    }
    let ours = &figures[0];
    let (alone, ratio) = (of(ours, |f| f.alone), of(ours, |f| f.written / f.alone));
    let targets = vec![
        target(format!("a look-up in {} ranges: at most {MOST_NS} ns", arguments.ranges), alone, MOST_NS),
        target(
            format!("with {} writers: at most {MOST_RATIO} times that", arguments.writers),
            ratio,
            MOST_RATIO,
        ),
    ];
    Ok(Outcome {
        command: "ranges".to_owned(),
        results: json!(
            MAPS.iter()
                .zip(&figures)
                .map(|((name, _), all)| json!({ "map": name, "rounds": all }))
                .collect::<Vec<_>>()
        ),
        tables: vec![table],
        good: targets.iter().all(|target| target.met != Some(false)) || common.quick,
        targets,
        rounds,
        ..Outcome::default()
    })
}

fn target(what: String, seen: Option<Spread>, limit: f64) -> Target {
    Target {
        what,
        seen: seen.map_or_else(|| "n/a".to_owned(), |spread| spread.ratio_text()),
        met: seen.map(|spread| spread.median <= limit),
    }
}

/// A small generator of numbers, the same for all maps.
struct Dice(u64);

impl Dice {
    #[inline]
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * sides as u64) >> 32) as usize
    }
}

fn measure<M: Map>(arguments: &Arguments) -> Result<Figure, Refusal> {
    let map = M::new(arguments.ranges);
    let local = map.join();
    read(&map, &local, arguments, false)?; // warm
    let (alone, _) = read(&map, &local, arguments, false)?;
    let stop = AtomicBool::new(false);
    let (written, changes) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..arguments.writers)
            .map(|writer| {
                scope.spawn({
                    let (map, stop) = (&map, &stop);
                    move || write(map, arguments, writer, stop)
                })
            })
            .collect();
        let began = Instant::now();
        let written = read(&map, &local, arguments, true);
        stop.store(true, Relaxed);
        let changes: u64 = writers.into_iter().map(|writer| writer.join().expect("no panic")).sum();
        (written, changes as f64 / began.elapsed().as_secs_f64())
    });
    let (written, written_day) = written?;
    Ok(Figure { alone, written, written_day, changes })
}

/// ns a look-up: of processor time, and of time of day.
fn read<M: Map>(
    map: &M,
    local: &M::Local,
    arguments: &Arguments,
    written: bool,
) -> Result<(f64, f64), Refusal> {
    let mut dice = Dice(42);
    let (began, began_day) = (processor_ns(), Instant::now());
    let mut missing = 0;
    for _ in 0..arguments.look_ups {
        let (start, _, value) = range(dice.roll(arguments.ranges));
        let found = black_box(map.get(local, start + 0x1_2345));
        // What a writer has just taken out may be missing; anything else is a wrong answer.
        if found != value {
            missing += 1;
            if !written || found != 0 {
                return Err(Refusal(format!("ranges: {} gave {found} for {value}", M::NAME)));
            }
        }
    }
    black_box(missing);
    let each = arguments.look_ups as f64;
    Ok(((processor_ns() - began) as f64 / each, began_day.elapsed().as_nanos() as f64 / each))
}

/// Takes ranges out and puts them in until it is told to stop. Gives how many changes that were.
fn write<M: Map>(map: &M, arguments: &Arguments, writer: usize, stop: &AtomicBool) -> u64 {
    let mut dice = Dice(writer as u64 + 1);
    let mut changes = 0;
    while !stop.load(Relaxed) {
        let index = dice.roll(arguments.ranges / arguments.writers) * arguments.writers + writer;
        map.remove(index);
        map.insert(index);
        changes += 2;
    }
    changes
}
