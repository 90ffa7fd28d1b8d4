//! `record`: makes the results that README.md and docs/ quote, one JSON file each in `bench/`.
//!
//! A result names the commit that it was measured with. So the tree must be that commit: a change that is
//! not committed is refused, but for results themselves and pages. The library is built first. Nothing in a
//! result says where on this machine the repository lies.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::machine::{self, Moment};
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::json;
use crate::output::table::Table;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these results, separated by commas; `--list` names them
    #[arg(long, value_delimiter = ',', value_name = "RESULTS")]
    only: Vec<String>,
    /// What there is to record, and how long each takes
    #[arg(long)]
    list: bool,
    /// A program, as `trace` takes one
    #[arg(last = true, hide = true)]
    program: Vec<String>,
}

/// A result: the name of its file, the command line that makes it, and its minutes on two idle processors.
struct Recording {
    name: &'static str,
    line: &'static str,
    minutes: f64,
}

const RESULTS: [Recording; 11] = [
    Recording { name: "perf", line: "perf --suite threaded --rounds 5", minutes: 1.5 },
    Recording {
        name: "families",
        line: "workload family all --seed 770001 --count 7 --seconds 0.12 --rounds 2 --no-latency \
               --with rcumalloc,mimalloc,tcmalloc",
        minutes: 1.5,
    },
    Recording {
        name: "deferral",
        line: "deferral --families all --seed 770001 --count 4 --no-programs --cycles 0 --seconds 0.12 \
               --rounds 2",
        minutes: 0.7,
    },
    Recording {
        name: "workloads",
        line: "workload all --seconds 0.2 --rounds 5 --no-latency \
               --with rcumalloc,mimalloc,snmalloc,rpmalloc,jemalloc,tcmalloc",
        minutes: 2.5,
    },
    Recording { name: "ranges", line: "ranges", minutes: 0.7 },
    Recording { name: "pairs", line: "pairs --markdown bench/pairs.md", minutes: 1.5 },
    Recording { name: "polls", line: "polls --markdown bench/polls.md", minutes: 1.0 },
    Recording { name: "crowd", line: "crowd --markdown bench/crowd.md", minutes: 2.0 },
    Recording { name: "large", line: "large --markdown bench/large.md", minutes: 0.5 },
    Recording { name: "profile", line: "profile-cost --no-valgrind", minutes: 3.0 },
    Recording { name: "report", line: "report --fresh", minutes: 11.0 },
];

/// What may differ from the commit: results, and pages that quote them.
fn is_no_code(file: &str) -> bool {
    file.starts_with("bench/") || file.starts_with("docs/") || file.ends_with(".md")
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    if !arguments.program.is_empty() {
        return Err(Refusal(
            "a program's calls are recorded by `rcumalloc-bench trace -- PROGRAM`".to_owned(),
        ));
    }
    if let Some(unknown) = arguments.only.iter().find(|only| RESULTS.iter().all(|one| one.name != **only)) {
        let known: Vec<&str> = RESULTS.iter().map(|one| one.name).collect();
        return Err(Refusal(format!("there is no result '{unknown}'; there are {}", known.join(", "))));
    }
    let chosen: Vec<&Recording> = RESULTS
        .iter()
        .filter(|one| arguments.only.is_empty() || arguments.only.iter().any(|only| only == one.name))
        .collect();
    let mut table = Table::new("Recorded results", &["result", "minutes", "line"]);
    if arguments.list {
        for one in &chosen {
            table.row([one.name.to_owned(), one.minutes.to_string(), one.line.to_owned()]);
        }
        return Ok(Outcome {
            command: "record".into(),
            tables: vec![table],
            good: true,
            ..Outcome::default()
        });
    }
    let commit = clean_commit()?;
    // Command lines name their pages from there.
    std::env::set_current_dir(machine::root()).map_err(Refusal::of("cannot enter the repository"))?;
    build()?;
    let minutes: f64 = chosen.iter().map(|one| one.minutes).sum();
    eprintln!("record: {} results with commit {commit}, about {minutes:.0} minutes", chosen.len());
    let mut outcome = Outcome { command: "record".into(), good: true, ..Outcome::default() };
    for (index, one) in chosen.iter().enumerate() {
        eprintln!("record: {} of {}: {}, about {} minutes", index + 1, chosen.len(), one.name, one.minutes);
        let mut words: Vec<String> = one.line.split_whitespace().map(str::to_owned).collect();
        if let Some(library) = &common.library {
            words.extend(["--library".to_owned(), library.display().to_string()]);
        }
        let began = Moment::now();
        let made = crate::line(&words)?;
        let file = machine::root().join("bench").join(format!("{}.json", one.name));
        let mut envelope = json::envelope(&made, &began);
        envelope["line"] = json!(format!("rcumalloc-bench {}", one.line));
        envelope["commit"] = json!(commit);
        let text = anonymous(&json::slim(&envelope), &machine::root());
        std::fs::write(&file, text).map_err(Refusal::of(format_args!("cannot write {}", file.display())))?;
        outcome.good &= made.good;
        table.row([one.name.to_owned(), format!("{:.1}", began.seconds() / 60.0), one.line.to_owned()]);
    }
    outcome.notes.push("now `rcumalloc-bench figures --write` inserts them into the pages".to_owned());
    outcome.tables = vec![table];
    outcome.results = Value::Null;
    Ok(outcome)
}

/// The commit, if the tree is as it says.
fn clean_commit() -> Result<String, Refusal> {
    let git = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(machine::root()).args(words).output();
        let output = output.map_err(Refusal::of("cannot run git"))?;
        if !output.status.success() {
            return Err(Refusal("the repository is no git repository here".to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let changed: Vec<&str> = changed.lines().filter_map(|line| line.get(3..)).collect();
    judge(&changed)?;
    Ok(git(&["rev-parse", "--short", "HEAD"])?.trim().to_owned())
}

/// A result may not name a commit that does not have what was measured.
fn judge(changed: &[&str]) -> Result<(), Refusal> {
    match changed.iter().find(|file| !is_no_code(file)) {
        Some(file) => Err(Refusal(format!("{file} has changes that are not committed: commit them first"))),
        None => Ok(()),
    }
}

/// Builds the library of the commit.
fn build() -> Result<(), Refusal> {
    let built = Command::new(machine::root().join("scripts/build")).output();
    let built = built.map_err(Refusal::of("cannot run scripts/build"))?;
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        return Err(Refusal(format!(
            "the library does not build: {}",
            said.lines().last().unwrap_or_default()
        )));
    }
    Ok(())
}

/// Without the places of this machine: the repository is `.`, homes and temporary files are left out.
fn anonymous(text: &str, root: &std::path::Path) -> String {
    let mut places: Vec<PathBuf> = vec![root.to_owned(), std::env::temp_dir()];
    places.extend(root.canonicalize());
    places.extend(std::env::var_os("HOME").map(PathBuf::from));
    let mut text = text.to_owned();
    for place in places.iter().filter(|place| place.components().count() > 1) {
        text = text.replace(&format!("{}/", place.display()), "").replace(&place.display().to_string(), ".");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_tree_that_is_not_its_commit_is_refused() {
        assert!(
            judge(&[]).is_ok() && judge(&["bench/perf.json", "docs/performance.md", "README.md"]).is_ok()
        );
        let refused = judge(&["bench/perf.json", "preload/src/lib.rs"]).expect_err("code has changed");
        assert_eq!(refused.0, "preload/src/lib.rs has changes that are not committed: commit them first");
    }

    #[test]
    fn no_place_of_the_machine_is_kept() {
        let root = Path::new("/some/where/repository");
        let text = "\"/some/where/repository/target/x\", \"git -C /some/where/repository\"";
        assert_eq!(anonymous(text, root), "\"target/x\", \"git -C .\"");
    }

    #[test]
    fn every_line_is_one_of_this_program() {
        for one in RESULTS {
            let words: Vec<&str> =
                std::iter::once("rcumalloc-bench").chain(one.line.split_whitespace()).collect();
            assert!(<crate::Cli as clap::Parser>::try_parse_from(words).is_ok(), "{}", one.line);
        }
    }
}
