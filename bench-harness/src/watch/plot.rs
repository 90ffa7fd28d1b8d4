//! `plot`: looks at a process for a while, and writes one page with pictures and tables.

use std::time::{Duration, Instant};

use serde_json::json;

use super::PlotArguments;
use super::area::Area;
use super::history::{History, Point};
use super::stats;
use crate::machine::Moment;
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::page;
use crate::output::plot::{Line, Plot};

/// Seconds, unless `--seconds` says otherwise.
const SECONDS: f64 = 30.0;

/// See the module. A process that ends meanwhile has had its last look.
pub fn run(arguments: &PlotArguments, common: &Common) -> Result<(), Refusal> {
    let began = Moment::now();
    let write = |text: &str| {
        std::fs::write(&arguments.output, text)
            .map_err(Refusal::of(format_args!("cannot write {}", arguments.output.display())))
    };
    // Found out before the time is spent.
    write("")?;
    let area = Area::find(arguments.whom.pid)?;
    let mut history = History::default();
    history.add(area.look()?);
    let start = Instant::now();
    let mut note = None;
    while start.elapsed().as_secs_f64() < common.seconds_or(SECONDS) {
        std::thread::sleep(Duration::from_secs_f64(arguments.every));
        match area.look() {
            Ok(snapshot) => history.add(snapshot),
            Err(Refusal(why)) => {
                note = Some(why);
                break;
            }
        }
    }
    write(&page::html(&[&outcome(&history, note)], &began))
}

fn outcome(history: &History, note: Option<String>) -> Outcome {
    let line = |name: &str, of: fn(&Point) -> f64| Line {
        name: name.to_owned(),
        points: history.points.iter().map(|point| (point.at, of(point))).collect(),
    };
    let plots = vec![
        Plot::lines(
            "Memory",
            "seconds",
            "bytes",
            vec![
                line("resident", |point| point.rss_bytes as f64),
                line("live", |point| point.live_bytes as f64),
                line("deferred", |point| point.deferred_bytes as f64),
            ],
        ),
        Plot::lines("Deferred", "seconds", "bytes", vec![line("deferred", |p| p.deferred_bytes as f64)]),
        Plot::lines("Grace periods", "seconds", "a second", vec![line("periods", |point| point.periods)]),
        Plot::lines(
            "Latency of grace periods",
            "seconds",
            "nanoseconds",
            vec![
                line("median", |point| point.period_p50_ns as f64),
                line("99th percentile", |point| point.period_p99_ns as f64),
            ],
        )
        .log(),
        Plot::lines("Blocks that come back", "seconds", "a second", vec![line("blocks", |p| p.retired)]),
    ];
    let last = history.last();
    let name = last.map(|last| format!("{} ({})", last.name, last.pid)).unwrap_or_default();
    Outcome {
        command: format!("plot of {name}"),
        results: json!(null),
        notes: note.into_iter().chain([format!("{} looks.", history.points.len())]).collect(),
        tables: last.map(stats::tables).unwrap_or_default(),
        plots,
        good: true,
        ..Outcome::default()
    }
}
