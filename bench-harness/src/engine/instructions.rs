//! Instructions of a pair: counted in the disassembly, and executed under callgrind.
//!
//! The second needs no reading of assembly and treats peers like us: the same loop as in `pairs`, run
//! in a child under valgrind with two counts; the difference, less that of the empty loop, is the pair.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::peers::Registered;
use super::subject::{Measure, Row};
use super::{disassembly, pairs};
use crate::outcome::Refusal;

/// A loop of [`pairs::loops`], and how often it is to run.
#[derive(Serialize, Deserialize)]
struct Job {
    index: usize,
    times: u64,
}

const FEW: u64 = 20_480;
const MANY: u64 = 3 * FEW;

fn row(name: &str, setting: &str, outcome: Result<f64, String>, limit: Option<f64>) -> Row {
    let (rounds, absent) = match outcome {
        Ok(count) => (vec![count], None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    Row { absent, limit, ..Row::new(name, setting, rounds) }
}

/// Both counts, for this very binary.
pub fn measure(valgrind: bool) -> Result<Measure, Refusal> {
    let binary: PathBuf = std::env::current_exe().map_err(Refusal::of("cannot find my own binary"))?;
    disassembly::keep();
    let mut rows = Vec::new();
    for (symbol, setting) in [
        ("rcu_bench_pair_at_hand", "disassembly: beyond the cell's address"),
        ("rcu_bench_pair_through_tls", "disassembly: beyond the thread-local access"),
    ] {
        let count = disassembly::fast_path(&binary, symbol).map(|path| path.own.len() as f64);
        rows.push(row("rcu", setting, count, Some(disassembly::PAIR_LIMIT as f64)));
    }
    executed(&binary, valgrind, &mut rows);
    let ours = rows.get(2).map(|row| row.rounds.clone()).filter(|rounds| !rounds.is_empty());
    for row in rows.iter_mut().skip(2) {
        row.ratio = ours.as_ref().and_then(|ours| Some(row.rounds.first()? / ours[0]));
    }
    let notes = vec![
        "Executed: callgrind's count of the loops of the first table, the empty loop subtracted; ours holds \
         1/1024 of \
         an announcement that has nothing to say."
            .into(),
    ];
    Ok(Measure { title: "instructions of one pair".into(), notes, unit: "instructions".into(), rows })
}

fn executed(binary: &Path, valgrind: bool, rows: &mut Vec<Row>) {
    let registered = Registered::in_all();
    let loops = pairs::loops(&registered);
    let empty = loops.len() - 1;
    let each = |index: usize| -> Result<(f64, String), String> {
        if !valgrind {
            return Err("--no-valgrind".into());
        }
        let (few, _) = count(binary, index, FEW)?;
        let (many, setting) = count(binary, index, MANY)?;
        let difference = many.checked_sub(few).ok_or("callgrind's counts make no sense")?;
        Ok((difference as f64 / (MANY - FEW) as f64, setting))
    };
    let loop_alone = each(empty);
    for (index, pair) in loops[..empty].iter().enumerate() {
        let (outcome, setting) = match (&pair.run, &loop_alone) {
            (Err(reason), _) | (_, Err(reason)) => (Err(reason.clone()), pair.setting.clone()),
            (Ok(_), Ok((alone, _))) => match each(index) {
                Ok((count, setting)) => (Ok((count - alone).max(0.0)), setting),
                Err(reason) => (Err(reason), pair.setting.clone()),
            },
        };
        rows.push(row(&pair.name, &format!("executed: {setting}"), outcome, None));
    }
}

/// Runs a loop so often and says how it was set up: what the child under valgrind does.
pub fn run_loop(job: &str) -> Result<Value, Refusal> {
    let job: Job = serde_json::from_str(job).map_err(Refusal::of("no such job"))?;
    let registered = Registered::in_all();
    let loops = pairs::loops(&registered);
    let pair = loops.get(job.index).ok_or_else(|| Refusal(format!("there is no loop {}", job.index)))?;
    pair.run.as_ref().map_err(|reason| Refusal(reason.clone()))?(job.times);
    Ok(json!(pair.setting))
}

/// What callgrind collected in a child that ran loop `index` so often, and the child's setting: it
/// may have had no membarrier where its parent has.
fn count(binary: &Path, index: usize, times: u64) -> Result<(u64, String), String> {
    let job = serde_json::to_string(&Job { index, times }).map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(binary)
        .args(["inner", "pair-loop", &job])
        .output()
        .map_err(|error| format!("valgrind does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind: {}", text.lines().last().unwrap_or_default()));
    }
    let collected = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    let setting: String = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    Ok((collected.ok_or("callgrind printed no count")?, setting))
}
