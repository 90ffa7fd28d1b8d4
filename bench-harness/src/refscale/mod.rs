//! `refscale`: the cost of a read-side section, as the kernel's refscale prints it, and that of a block which
//! is retired.

pub mod pairs;

use serde_json::json;

use crate::measure::rounds::Spread;
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::table::Table;
use crate::reclaim::sides::{self, Row};
use pairs::{Measured, Parameters};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    parameters: Parameters,
    /// Schemes, separated by commas; all if absent
    #[arg(long, value_delimiter = ',')]
    schemes: Vec<String>,
    /// Print every run, as the kernel does
    #[arg(long)]
    runs_too: bool,
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let parameters = arguments.parameters;
    if parameters.readers == 0 || parameters.loops == 0 || parameters.runs == 0 {
        return Err(Refusal("refscale: readers, loops and runs are at least 1".to_owned()));
    }
    // No section allocates: which malloc lies below makes no difference.
    let choose = sides::Choose { schemes: arguments.schemes.clone(), allocators: vec!["glibc".to_owned()] };
    let mut sides = choose.sides(true, common)?;
    sides.present.retain(|side| side.scheme != "leak" && !side.scheme.ends_with("-defer"));
    let rounds = common.rounds_or(3);
    let rows: Vec<Row<Measured>> =
        sides::take_turns(&sides.present, rounds, "reclaim", "refscale", &json!(parameters))?;
    let plain = pairs::without_scheme(&parameters);
    let at_once = pairs::free_at_once(&parameters);
    let mut notes = sides::notes(&sides.missing, &rows);
    if arguments.runs_too {
        notes.extend(rows.iter().flat_map(kernel_lines));
    }
    Ok(Outcome {
        command: "refscale".to_owned(),
        results: json!({
            "schemes": rows
                .iter()
                .map(|row| json!({ "side": row.side.name(), "rounds": row.rounds }))
                .collect::<Vec<_>>(),
            "without": plain,
            "free at once": at_once,
        }),
        notes,
        tables: vec![figures(&rows, &plain, &at_once, &parameters), crate::rcuscale::settings(&rows)],
        good: rows.iter().all(|row| row.failure.is_none()),
        rounds,
        ..Outcome::default()
    })
}

/// The kernel's list, of the last round: a head and a line a run.
fn kernel_lines(row: &Row<Measured>) -> Vec<String> {
    let Some(measured) = row.rounds.last() else { return Vec::new() };
    let runs = measured.read.iter().enumerate().map(|(run, time)| format!("{}\t{time:.3}", run + 1));
    [format!("{}:", row.side.name()), "Runs\tTime(ns)".to_owned()].into_iter().chain(runs).collect()
}

fn figures(
    rows: &[Row<Measured>],
    plain: &[(&str, Vec<f64>)],
    at_once: &[f64],
    parameters: &Parameters,
) -> Table {
    let title = format!(
        "refscale: {} reader(s), {} loops, {} runs: ns a section, or a block",
        parameters.readers, parameters.loops, parameters.runs
    );
    let mut table = Table::new(title, &["scheme", "pair", "read", "typesafe", "retire"]).note(
        "Median (least .. greatest) over all runs of all rounds. A loop's own instructions are included.",
    );
    let of = |row: &Row<Measured>, runs: fn(&Measured) -> &Vec<f64>| {
        text(Spread::of(row.rounds.iter().flat_map(|round| runs(round).iter().copied())))
    };
    for row in rows {
        table.row([
            row.side.scheme.to_owned(),
            of(row, |measured| &measured.pair),
            of(row, |measured| &measured.read),
            of(row, |measured| &measured.typesafe),
            of(row, |measured| &measured.retire),
        ]);
    }
    for (name, runs) in plain {
        table.row([
            (*name).to_owned(),
            "n/a".to_owned(),
            text(Spread::of(runs.iter().copied())),
            "n/a".to_owned(),
            "n/a".to_owned(),
        ]);
    }
    let absent = || "n/a".to_owned();
    let freed = text(Spread::of(at_once.iter().copied()));
    table.row(["freed at once".to_owned(), absent(), absent(), absent(), freed]);
    table
}

fn text(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "n/a".to_owned(), |spread| spread.text(|value| format!("{value:.2}")))
}
