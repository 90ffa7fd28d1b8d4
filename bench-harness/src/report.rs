//! `report`: everything at a standard size, one HTML page and one JSON file.
//!
//! A part is a command line of this same program. Its outcome is kept in the report's directory as soon as it
//! is there; a report that was interrupted goes on where it stopped, as long as the line and the library are
//! the same. A part that cannot run says why on the page, and makes the report's exit status 1.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::machine::{Moment, target_directory};
use crate::outcome::{Common, Outcome, Refusal, Target, targets};
use crate::output::{json, page, progress};
use crate::peers;

#[derive(clap::Args)]
pub struct Arguments {
    /// Do not use what an earlier run left in the directory
    #[arg(long)]
    fresh: bool,
    /// Only these parts, separated by commas; `list` names them
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<String>,
    /// Seconds of torture; the recorded report's target is 600
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    torture: u32,
}

/// One part: its name on the page and its command line.
struct Part {
    name: &'static str,
    line: Vec<String>,
}

/// A part that is done, as its file holds it.
#[derive(Serialize, Deserialize)]
struct Done {
    line: Vec<String>,
    /// Of the measured library's bytes.
    library: u64,
    date: String,
    seconds: f64,
    outcome: Outcome,
}

/// Real programs: what is on most machines. One that is not there is reported by its part.
const PERL: &str = "my (%c, @l); for my $i (1..400000) { $c{$i % 50000} .= 'x' x ($i % 20); push @l, \"$i\" \
    if $i % 3 == 0 } \
                    print scalar(keys %c), ' ', scalar(grep { /7/ } sort @l), \"\\n\"";
const PYTHON: &str = "import concurrent.futures as f, json\n\
                      def work(n):\n    d = {str(i): [i, str(i) * 3] for i in range(n)}\n    return \
                      len(json.dumps(json.loads(json.dumps(d))))\n\
                      with f.ThreadPoolExecutor(4) as pool: print(sum(pool.map(work, [20000] * 8)))";
const SQL: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 120000) \
                   SELECT count(DISTINCT k), max(length(s)) FROM (SELECT i % 5000 AS k, group_concat(hex(i \
                   * 65537), ',') AS s \
                   FROM n GROUP BY k);";

fn parts(arguments: &Arguments, common: &Common) -> Vec<Part> {
    let torture = if common.quick { 5 } else { arguments.torture };
    let perl = ["perl", "-e", PERL];
    let python3 = ["python3", "-c", PYTHON];
    let sqlite3 = ["sqlite3", ":memory:", SQL];
    let trace = |name: &str| directory(common).join(format!("{name}.rcutrace")).display().to_string();
    let traces = ["perl", "python3", "sqlite3"].iter().flat_map(|name| ["--trace".to_owned(), trace(name)]);
    let all = [
        ("self-test", vec!["self-test".to_owned()]),
        ("record-perl", program(&["trace", OUTPUT, &trace("perl")], &perl)),
        ("record-python3", program(&["trace", OUTPUT, &trace("python3")], &python3)),
        ("record-sqlite3", program(&["trace", OUTPUT, &trace("sqlite3")], &sqlite3)),
        ("workload", words("workload all --seconds 0.2").into_iter().chain(traces).collect()),
        ("perl", compare(&perl)),
        ("python3", compare(&python3)),
        ("sqlite3", compare(&sqlite3)),
        ("rcuscale", words("rcuscale --loops 100")),
        ("refscale", words("refscale")),
        ("smr", words("smr --allocators mimalloc")),
        ("torture", words(&format!("torture --seconds {torture}"))),
        ("pressure", words("pressure")),
    ];
    let part = |(name, mut line): (&'static str, Vec<String>)| {
        // Before the `--` of a program.
        let mut at = line.iter().position(|word| word == "--").unwrap_or(line.len());
        let mut insert = |words: &[String]| {
            line.splice(at..at, words.iter().cloned());
            at += words.len();
        };
        if common.quick {
            insert(&["--quick".to_owned()]);
        }
        // Many short rounds: the best of six peers is by chance better than it is, the more so the fewer
        // rounds there are.
        let usual = (name == "workload" && !common.quick).then_some(7);
        if let Some(rounds) = common.rounds.or(usual) {
            insert(&["--rounds".to_owned(), rounds.to_string()]);
        }
        if let Some(library) = &common.library {
            insert(&["--library".to_owned(), library.display().to_string()]);
        }
        Part { name, line }
    };
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    all.into_iter().filter(|(name, _)| wanted(name)).map(part).collect()
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn compare(line: &[&str]) -> Vec<String> {
    program(&["compare", "--with", &peers::USUAL.join(",")], line)
}

fn program(head: &[&str], line: &[&str]) -> Vec<String> {
    head.iter().chain(&["--"]).chain(line).map(|&word| word.to_owned()).collect()
}

/// Where a report goes.
fn directory(common: &Common) -> PathBuf {
    common.report.clone().unwrap_or_else(|| target_directory().join("report"))
}

/// What comes before the file that a part writes, and that another part reads.
const OUTPUT: &str = "--output";

impl Part {
    /// The file it writes, if it writes one.
    fn output(&self) -> Option<&Path> {
        let at = self.line.iter().position(|word| word == OUTPUT)?;
        self.line.get(at + 1).map(Path::new)
    }

    /// Without traces that there are not: why, the part says that was to record them.
    fn with_what_there_is(self) -> Part {
        let Part { name, line } = self;
        let mut words = line.into_iter().peekable();
        let mut kept = Vec::new();
        while let Some(word) = words.next() {
            let is_absent = word == "--trace" && words.peek().is_some_and(|file| !Path::new(file).exists());
            if is_absent {
                words.next();
            } else {
                kept.push(word);
            }
        }
        Part { name, line: kept }
    }
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let began = Moment::now();
    let directory = directory(common);
    let kept = directory.join("parts");
    let parts = parts(arguments, common);
    if arguments.only.iter().any(|only| parts.iter().all(|part| part.name != only)) {
        let every = self::parts(&Arguments { only: Vec::new(), fresh: false, torture: 1 }, common);
        let names: Vec<_> = every.iter().map(|part| part.name).collect();
        return Err(Refusal(format!("the parts of a report are {}", names.join(", "))));
    }
    std::fs::create_dir_all(&kept).map_err(Refusal::of(format_args!("cannot make {}", kept.display())))?;
    let library = fingerprint(&peers::ours(common))?;
    let bar = progress::bar(parts.len() as u64);
    let mut all = Vec::new();
    for part in parts {
        let part = &part.with_what_there_is();
        bar.println(format!("part {}: rcumalloc-bench {}", part.name, shown(&part.line)));
        bar.set_message(part.name);
        let file = kept.join(format!("{}.json", part.name));
        let is_there = part.output().is_none_or(Path::exists);
        let kept = read(&file, part, library).filter(|_| !arguments.fresh && is_there);
        let done = match kept {
            Some(done) => {
                bar.println(format!("part {}: kept from {}", part.name, done.date));
                done
            }
            None => {
                let done = perform(part, library);
                // What could not run may do so another time.
                if done.outcome.results.get("cannot_run").is_none() {
                    write(&file, &json!(done))?;
                }
                done
            }
        };
        all.push(done);
        bar.inc(1);
        publish(&directory, &all, &began)?;
    }
    bar.finish_and_clear();
    Ok(summary(&all, &directory))
}

fn perform(part: &Part, library: u64) -> Done {
    let began = Moment::now();
    // What an earlier report left would be taken for this one's.
    part.output().map(std::fs::remove_file);
    let mut outcome = crate::line(&part.line).unwrap_or_else(|refusal| Outcome {
        notes: vec![format!("cannot run: {}", refusal.0)],
        results: json!({ "cannot_run": refusal.0 }),
        ..Outcome::default()
    });
    outcome.command = part.name.to_owned();
    outcome.notes.insert(0, format!("rcumalloc-bench {}", shown(&part.line)));
    Done { line: part.line.clone(), library, date: began.date.clone(), seconds: began.seconds(), outcome }
}

/// A line for people: programs cut short.
pub fn shown(line: &[String]) -> String {
    let word = |word: &String| {
        let first = word.lines().next().unwrap_or_default();
        let cut: String = first.chars().take(60).collect();
        if cut.len() < word.len() { format!("'{cut}…'") } else { cut }
    };
    line.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn read(file: &Path, part: &Part, library: u64) -> Option<Done> {
    let done: Done = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (done.line == part.line && done.library == library).then_some(done)
}

fn write(file: &Path, value: &Value) -> Result<(), Refusal> {
    store(file, &format!("{value:#}\n"))
}

fn store(file: &Path, text: &str) -> Result<(), Refusal> {
    // Whole or not at all: an interrupted report is read again.
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, file))
        .map_err(Refusal::of(format_args!("cannot write {}", file.display())))
}

/// The page and the JSON file of what is done so far.
fn publish(directory: &Path, all: &[Done], began: &Moment) -> Result<(), Refusal> {
    let outcomes: Vec<&Outcome> = all.iter().map(|done| &done.outcome).collect();
    page::write(directory, &outcomes, began)?;
    let parts: Vec<Value> = all
        .iter()
        .map(|done| {
            let Done { line, date, seconds, outcome, .. } = done;
            json!({
                "part": outcome.command, "line": line, "date": date, "took_seconds": seconds,
                "good": outcome.good,
                "notes": outcome.notes, "targets": outcome.targets, "results": outcome.results,
            })
        })
        .collect();
    let whole = Outcome { command: "report".into(), results: json!(parts), ..judged(all) };
    store(&directory.join("report.json"), &json::slim(&json::envelope(&whole, began)))
}

fn judged(all: &[Done]) -> Outcome {
    Outcome {
        targets: all.iter().flat_map(|done| done.outcome.targets.clone()).collect(),
        good: all.iter().all(|done| done.outcome.good),
        ..Outcome::default()
    }
}

fn summary(all: &[Done], directory: &Path) -> Outcome {
    let mut table = crate::output::table::Table::new("Parts", &["part", "seconds", "verdict", ""]);
    for Done { outcome, seconds, .. } in all {
        let missed = outcome.targets.iter().filter(|target| target.met == Some(false)).count();
        let verdict = match () {
            () if outcome.results.get("cannot_run").is_some() => outcome.notes[1].clone(),
            () if !outcome.good => "bad".to_owned(),
            () if missed > 0 => format!("{missed} targets missed"),
            () => "good".to_owned(),
        };
        table.row([outcome.command.clone(), format!("{seconds:.0}"), verdict]);
    }
    let judged = judged(all);
    // Targets are in the table, not in the outcome: publishing prints the outcome's own again.
    let promised: Vec<Target> = judged.targets.clone();
    let mut tables = vec![table];
    if !promised.is_empty() {
        tables.push(targets(&promised));
    }
    let files: Vec<PathBuf> = [page::NAME, "report.json"].iter().map(|name| directory.join(name)).collect();
    Outcome {
        command: "report".into(),
        results: json!({ "files": files, "targets": promised }),
        notes: vec![format!("page: {}", files[0].display()), format!("values: {}", files[1].display())],
        tables,
        good: judged.good,
        ..Outcome::default()
    }
}

/// Of the library's bytes, so that figures of another build are not taken for this one's.
fn fingerprint(library: &Path) -> Result<u64, Refusal> {
    let bytes = std::fs::read(library).map_err(|error| {
        Refusal(format!("no library to report on: {}: {error}; scripts/build makes it", library.display()))
    })?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(only: &[&str]) -> Arguments {
        Arguments { fresh: false, only: only.iter().map(|&name| name.to_owned()).collect(), torture: 60 }
    }

    #[test]
    fn options_go_before_the_program() {
        let common = Common { quick: true, rounds: Some(3), ..Common::default() };
        let parts = parts(&arguments(&["perl"]), &common);
        let line = &parts[0].line;
        let at = line.iter().position(|word| word == "--").expect("a program");
        assert_eq!(line[at - 3..=at], ["--quick", "--rounds", "3", "--"]);
        assert_eq!(line[at + 1], "perl");
    }

    #[test]
    fn traces_that_could_not_be_recorded_are_left_out() {
        let directory = std::env::temp_dir().join(format!("rcumalloc-bench-traces-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let common = Common { report: Some(directory.clone()), ..Common::default() };
        let only = |name: &str| parts(&arguments(&[name]), &common).remove(0);
        let traces = || only("workload").with_what_there_is().line;
        let before = traces();
        let recorded = only("record-perl");
        let trace = recorded.output().expect("it writes one").display().to_string();
        std::fs::write(&trace, "").expect("a temporary file");
        let after = traces();
        let _ = std::fs::remove_dir_all(&directory);
        assert_eq!(only("workload").line.iter().filter(|word| *word == "--trace").count(), 3);
        assert!(!before.contains(&"--trace".to_owned()) && before.contains(&"all".to_owned()));
        assert_eq!(after.iter().filter(|word| **word == trace).count(), 1);
        assert_eq!(after.len(), before.len() + 2);
    }

    #[test]
    fn every_part_can_be_parsed() {
        use clap::Parser;
        for part in parts(&arguments(&[]), &Common::default()) {
            let words = std::iter::once("rcumalloc-bench").chain(part.line.iter().map(String::as_str));
            if let Err(error) = crate::Cli::try_parse_from(words) {
                panic!("{}: {error}", part.name);
            }
        }
    }

    #[test]
    fn a_kept_part_is_used_only_for_the_same_line_and_library() {
        let part = Part { name: "x", line: words("self-test") };
        let done = Done {
            line: part.line.clone(),
            library: 7,
            date: "then".into(),
            seconds: 1.0,
            outcome: Outcome::default(),
        };
        let file = std::env::temp_dir().join(format!("rcumalloc-bench-part-{}.json", std::process::id()));
        write(&file, &json!(done)).expect("a temporary file");
        let seen = (read(&file, &part, 7).is_some(), read(&file, &part, 8).is_some());
        let other = read(&file, &Part { name: "x", line: words("self-test --quick") }, 7).is_some();
        let _ = std::fs::remove_file(&file);
        assert_eq!((seen, other), ((true, false), false));
    }
}
