//! Where the time goes, by function: samples of `perf record` of one program under two sides.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::family::Case;
use crate::output::table::Table;
use crate::peers::Allocator;

/// Samples a second.
const FREQUENCY: &str = "4000";
/// Functions shown.
const SHOWN: usize = 25;

/// Nanoseconds an operation, function by function.
type Profile = BTreeMap<String, f64>;

/// The table of a program; why there is none.
pub fn table(name: &str, case: &Case, sides: [&Allocator; 2]) -> Result<(Table, Value), String> {
    let [all, api] = [profile(case, sides[0])?, profile(case, sides[1])?];
    let mut functions: Vec<&String> = all.keys().chain(api.keys()).collect();
    functions.sort();
    functions.dedup();
    let at = |profile: &Profile, function: &String| profile.get(function).copied().unwrap_or(0.0);
    functions.sort_by(|a, b| {
        let difference = |function: &String| (at(&all, function) - at(&api, function)).abs();
        difference(b).total_cmp(&difference(a))
    });
    let mut table =
        Table::new(format!("Where the time goes: {name}"), &["function", "all", "api", "difference"]).note(
            "ns of CPU an operation, samples of perf by function, user mode; those that differ most first",
        );
    for function in functions.iter().take(SHOWN) {
        let (all, api) = (at(&all, function), at(&api, function));
        table.row([
            (*function).clone(),
            format!("{all:.1}"),
            format!("{api:.1}"),
            format!("{:.1}", all - api),
        ]);
    }
    let sum = |profile: &Profile| profile.values().sum::<f64>();
    let (of_all, of_api) = (sum(&all), sum(&api));
    table.row([
        "all of them".into(),
        format!("{of_all:.1}"),
        format!("{of_api:.1}"),
        format!("{:.1}", of_all - of_api),
    ]);
    Ok((table, json!({ "program": name, "ns": { "all": all, "api": api } })))
}

/// perf's samples turned into nanoseconds an operation, by what the process says it took.
fn profile(case: &Case, side: &Allocator) -> Result<Profile, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let file = scratch();
    // Cycles, where the machine lets one count them; the clock else.
    let mut reason = String::new();
    for event in ["cycles:u", "cpu-clock:u"] {
        let mut perf = Command::new("perf");
        perf.args(["record", "-q", "-e", event, "-F", FREQUENCY, "-o"]).arg(&file.0).args(["--", "env"]);
        if let Some(library) = &side.library {
            perf.arg(format!("LD_PRELOAD={}", library.display()));
        }
        perf.args(side.environment.iter().map(|(name, value)| format!("{name}={value}")));
        let output = perf.arg(&own).args(["inner", "family", &json!(case.job).to_string()]).output();
        let output = output.map_err(|error| format!("perf: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            reason = format!("perf record: {}", said.lines().next().unwrap_or_default());
            continue;
        }
        let report = Command::new("perf")
            .args([
                "report",
                "-q",
                "--stdio",
                "--sort",
                "dso,symbol",
                "-F",
                "overhead,dso,symbol",
                "-t",
                "|",
                "-i",
            ])
            .arg(&file.0)
            .output()
            .map_err(|error| format!("perf: {error}"))?;
        let shares = shares(&String::from_utf8_lossy(&report.stdout));
        if shares.is_empty() {
            reason = "perf gave no samples".to_owned();
            continue;
        }
        let median = case.cpu_seconds(&side.name).ok_or("it was not measured")?;
        let each = median * 1e9 / case.operations.max(1) as f64;
        return Ok(shares.into_iter().map(|(function, share)| (function, share * each)).collect());
    }
    Err(reason)
}

/// Function and share of each line of a report.
fn shares(report: &str) -> Profile {
    let mut shares = Profile::new();
    for line in report.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('|').map(str::trim);
        let (Some(share), Some(dso), Some(symbol)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(share) = share.trim_end_matches('%').parse::<f64>() else { continue };
        let symbol = symbol.trim_start_matches("[.]").trim_start_matches("[k]").trim();
        let place = if dso.starts_with("librcumalloc") { "" } else { dso };
        let function = if place.is_empty() { symbol.to_owned() } else { format!("{place}: {symbol}") };
        *shares.entry(function).or_default() += share / 100.0;
    }
    shares
}

/// A file of perf's own format, removed when dropped.
struct Scratch(PathBuf);

fn scratch() -> Scratch {
    Scratch(std::env::temp_dir().join(format!("rcumalloc-bench-{}.perf", std::process::id())))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_perf_is_read() {
        let report = "# a comment\n 12.50%|librcumalloc.so|[.] malloc\n  2.50%|libc.so.6|[.] memset\n\
                      1.00%|librcumalloc.so|[.] malloc\n";
        let shares = shares(report);
        assert_eq!(shares.len(), 2);
        assert!(
            (shares["malloc"] - 0.135).abs() < 1e-9 && (shares["libc.so.6: memset"] - 0.025).abs() < 1e-9
        );
    }
}
