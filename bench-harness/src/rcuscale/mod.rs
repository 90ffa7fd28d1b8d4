//! `rcuscale`: the kernel's `kfree_rcu_test` in user space, over every reclamation scheme.
//!
//! Each side is a child process; sides take turns. Beside the kernel's own figures (its line is printed for
//! every side) stand drain time, peak memory, how many bytes waited and for how long.

pub mod kernel;

use serde_json::json;

use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::output::plot::{Bar, Plot};
use crate::output::table::{Table, kib, nanoseconds, short};
use crate::reclaim::{self, sides};
use kernel::{Measured, Parameters};

type Row = sides::Row<Measured>;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    choose: sides::Choose,
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let parameters = arguments.parameters;
    if parameters.threads == 0 || parameters.blocks == 0 || parameters.loops == 0 {
        return Err(Refusal("rcuscale: threads, blocks and loops are at least 1".to_owned()));
    }
    let sides = arguments.choose.sides(false, common)?;
    let rounds = common.rounds_or(7);
    let rows: Vec<Row> =
        sides::take_turns(&sides.present, rounds, "reclaim", "rcuscale", &json!(parameters))?;
    Ok(Outcome {
        command: "rcuscale".to_owned(),
        results: json!(
            rows.iter()
                .map(|row| json!({ "side": row.side.name(), "rounds": row.rounds }))
                .collect::<Vec<_>>()
        ),
        notes: sides::notes(&sides.missing, &rows)
            .into_iter()
            .chain(rows.iter().filter_map(kernel_line))
            .collect(),
        tables: vec![figures(&rows, &parameters), settings(&rows)],
        plots: vec![plot(&rows)],
        targets: targets(&rows),
        good: rows.iter().all(|row| row.failure.is_none()),
        rounds,
    })
}

/// The kernel's line, of the round in the middle.
fn kernel_line(row: &Row) -> Option<String> {
    let mut by_time: Vec<&Measured> = row.rounds.iter().collect();
    by_time.sort_by_key(|measured| measured.total_ns);
    by_time.get(by_time.len() / 2).map(|measured| format!("{}: {}", row.side.name(), measured.kernel_line()))
}

fn rate(measured: &Measured) -> f64 {
    measured.mblocks_s * 1e6
}

/// What the test added to the process at its peak, in KiB.
fn memory(measured: &Measured) -> f64 {
    measured.rss_peak_kib.saturating_sub(measured.rss_start_kib) as f64
}

fn ours(rows: &[Row]) -> Option<&Row> {
    rows.iter().find(|row| row.side.scheme == "ours" && !row.rounds.is_empty())
}

fn figures(rows: &[Row], parameters: &Parameters) -> Table {
    let title = format!(
        "rcuscale: {} threads, {} loops of {} blocks of {} bytes",
        parameters.threads,
        parameters.loops,
        parameters.blocks,
        parameters.bytes()
    );
    let head = [
        "scheme",
        "blocks/s",
        "ours is faster by",
        "drain",
        "memory at peak",
        "deferred at peak",
        "age p50",
        "age p99",
    ];
    let mut table = Table::new(title, &head).note(
        "Median (least .. greatest). Memory: VmHWM less RSS before the threads started. Deferred and age \
         (from the free until the \
         block may be reused; ours: until somebody got it again) are of a second, observed pass.",
    );
    let ours = ours(rows);
    for row in rows.iter().filter(|row| !row.rounds.is_empty()) {
        let cell = |figure: &dyn Fn(&Measured) -> f64, show: &dyn Fn(f64) -> String| {
            row.spread(figure).map_or_else(|| "n/a".to_owned(), |spread| show(spread.median))
        };
        let factor = ours.and_then(|ours| ours.ratio(row, rate));
        table.row([
            row.side.name(),
            row.spread(rate).map_or_else(String::new, |spread| spread.text(short)),
            factor.map_or_else(|| "n/a".to_owned(), |factor| factor.ratio_text()),
            cell(&|m| m.drain_ns as f64, &nanoseconds),
            row.spread(memory).map_or_else(String::new, |memory| memory.text(kib)),
            cell(&|m| m.deferred_peak_bytes as f64 / 1024.0, &kib),
            age_cell(row, |ages| ages.p50),
            age_cell(row, |ages| ages.p99),
        ]);
    }
    table
}

fn age_cell(row: &Row, of: impl Fn(&kernel::Ages) -> u64) -> String {
    if row.rounds.iter().all(|measured| measured.ages.count == 0) {
        return "never".to_owned();
    }
    row.spread(|measured| of(&measured.ages) as f64)
        .map_or_else(String::new, |spread| nanoseconds(spread.median))
}

/// Each scheme with its setting.
pub fn settings<T>(rows: &[sides::Row<T>]) -> Table {
    let mut table = Table::new("Settings: each scheme's best fair one", &["scheme", "setting"]);
    let mut seen: Vec<&str> = Vec::new();
    for row in rows {
        if !seen.contains(&row.side.scheme) {
            seen.push(row.side.scheme);
            table.row([row.side.scheme, reclaim::setting(row.side.scheme).unwrap_or_default()]);
        }
    }
    table
}

fn plot(rows: &[Row]) -> Plot {
    let bar = |row: &Row| {
        row.spread(rate).map(|rate| Bar {
            name: row.side.name(),
            median: rate.median,
            least: rate.least,
            greatest: rate.greatest,
        })
    };
    Plot::bars(
        "rcuscale: blocks allocated and freed through grace periods",
        "blocks/s",
        rows.iter().filter_map(bar).collect(),
    )
}

/// Ours against every row of a peer: the least factor counts, and memory against each. Of memory the greatest
/// peak, for that is what must be there: schemes that wait for a thread which lost its processor have a small
/// peak in one round and ten times as much in the next.
fn targets(rows: &[Row]) -> Vec<Target> {
    let Some(ours) = ours(rows) else { return Vec::new() };
    let judge = |peer: &str, least: f64, is_peer: &dyn Fn(&str) -> bool| {
        let peers: Vec<&Row> =
            rows.iter().filter(|row| is_peer(row.side.scheme) && !row.rounds.is_empty()).collect();
        let factors: Vec<f64> = peers.iter().filter_map(|row| Some(ours.ratio(row, rate)?.median)).collect();
        let own = ours.spread(memory).map_or(f64::NAN, |spread| spread.greatest);
        let leaner = peers.iter().all(|row| row.spread(memory).is_some_and(|theirs| own < theirs.greatest));
        let slowest = factors.iter().copied().fold(f64::INFINITY, f64::min);
        Target {
            what: format!("rcuscale: at least {least} times the block rate of {peer}, with less memory"),
            seen: format!("{slowest:.2} at the least; memory {}", if leaner { "less" } else { "NOT less" }),
            met: (!factors.is_empty()).then_some(slowest >= least && leaner),
        }
    };
    vec![
        judge("crossbeam-epoch", 3.0, &|scheme| scheme == "crossbeam"),
        judge("liburcu's call_rcu", 5.0, &|scheme| scheme.ends_with("-call")),
    ]
}

/// Processors this process may use.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}
