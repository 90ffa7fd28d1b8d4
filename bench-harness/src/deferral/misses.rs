//! Misses an operation in cachegrind's model of caches: what can be counted on machines that refuse hardware
//! counters.
//!
//! Valgrind runs one thread at a time, so lines that processors take from each other are not in these
//! figures.

use std::process::Command;

use serde_json::{Value, json};

use crate::family::{Job, Tally};
use crate::output::table::Table;
use crate::peers::Allocator;

/// Nominal seconds of the program: valgrind takes fifty times as long.
const SECONDS: f64 = 0.02;

/// What cachegrind counts, in its words: instructions, misses of the first level, misses of the last.
const EVENTS: [(&str, &str); 5] = [
    ("instructions", "Ir"),
    ("first level, reads missed", "D1mr"),
    ("first level, writes missed", "D1mw"),
    ("last level, reads missed", "DLmr"),
    ("last level, writes missed", "DLmw"),
];

/// The table of a program; why there is none.
pub fn table(name: &str, job: &Job, sides: [&Allocator; 2]) -> Result<(Table, Value), String> {
    let job = Job { seconds: SECONDS, ..job.clone() };
    let [all, api] = [count(&job, sides[0])?, count(&job, sides[1])?];
    let mut table =
        Table::new(format!("Misses an operation: {name}"), &["event", "all", "api", "difference"]).note(
            format!(
                "cachegrind's model, one thread at a time, {SECONDS} s nominal, start of the process included"
            ),
        );
    for ((event, _), (all, api)) in EVENTS.iter().zip(all.iter().zip(&api)) {
        table.row([
            (*event).to_owned(),
            format!("{all:.3}"),
            format!("{api:.3}"),
            format!("{:.3}", all - api),
        ]);
    }
    Ok((table, json!({ "program": name, "events": EVENTS.map(|event| event.1), "all": all, "api": api })))
}

fn count(job: &Job, side: &Allocator) -> Result<Vec<f64>, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let file = std::env::temp_dir().join(format!("rcumalloc-bench-{}.cachegrind", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["-q", "--tool=cachegrind", "--cache-sim=yes"]);
    valgrind.arg(format!("--cachegrind-out-file={}", file.display()));
    valgrind.arg(own).args(["inner", "family", &json!(job).to_string()]);
    valgrind.envs(side.environment.iter().map(|(name, value)| (name, value)));
    if let Some(library) = &side.library {
        valgrind.env("LD_PRELOAD", library);
    }
    let output = valgrind.output().map_err(|error| format!("valgrind: {error}"))?;
    let text = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("valgrind: {}", said.lines().next().unwrap_or_default()));
    }
    let tally: Tally = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let totals =
        totals(&text.map_err(|error| error.to_string())?).ok_or("cachegrind's file cannot be read")?;
    Ok(totals.into_iter().map(|total| total / tally.operations.max(1) as f64).collect())
}

/// The events of [`EVENTS`] of a file: the head names the columns, the summary has their sums.
fn totals(text: &str) -> Option<Vec<f64>> {
    let line = |head: &str| text.lines().find_map(|line| line.strip_prefix(head));
    let names: Vec<&str> = line("events:")?.split_whitespace().collect();
    let sums: Vec<f64> = line("summary:")?.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let sum = |(_, event): &(&str, &str)| sums.get(names.iter().position(|name| name == event)?).copied();
    EVENTS.iter().map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_cachegrind_is_read() {
        let text =
            "events: Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw\nfn=x\n1 2\nsummary: 900 1 1 300 30 3 200 20 2\n";
        assert_eq!(totals(text), Some(vec![900.0, 30.0, 20.0, 3.0, 2.0]));
        assert_eq!(totals("events: Ir\nsummary: 900\n"), None);
    }
}
