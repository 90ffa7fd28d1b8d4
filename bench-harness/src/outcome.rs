//! What every subcommand takes and gives: the common options, and an outcome that can be printed, written as
//! JSON, drawn on a page, and kept in a report directory to be read again.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::Moment;
use crate::output::plot::Plot;
use crate::output::table::Table;
use crate::output::{json, page};

/// Why something cannot run: one line for the user, exit status 2.
#[derive(Debug)]
pub struct Refusal(pub String);

impl Refusal {
    /// For `map_err`: `what: error`.
    pub fn of<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Refusal {
        move |error| Refusal(format!("{what}: {error}"))
    }
}

/// Options that every subcommand has. Each takes the defaults of its own where these are absent.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// Write the results as JSON to this file; `-`, or no file: to stdout, in place of the tables
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// Also write one self-contained HTML page with pictures into this directory
    #[arg(long, global = true, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Rounds that count, after one of warm-up
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// Seconds of one run of one side
    #[arg(long, global = true, value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Short runs, to see that everything works; the figures are not to be quoted
    #[arg(long, global = true)]
    pub quick: bool,
    /// This file in place of target/release/librcumalloc.so
    #[arg(long, global = true, value_name = "PATH")]
    pub library: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.01..=86_400.0).contains(&value) => Ok(value),
        _ => Err("not a number of seconds between 0.01 and 86400".to_owned()),
    }
}

impl Common {
    /// Rounds that count: what was asked for, or this.
    pub fn rounds_or(&self, usual: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { usual.min(2) } else { usual })
    }

    /// Seconds of one run: what was asked for, or this.
    pub fn seconds_or(&self, usual: f64) -> f64 {
        self.seconds.unwrap_or(if self.quick { usual.min(0.1) } else { usual })
    }

    /// Finds out before minutes are spent whether the results can be written.
    pub fn check(&self) -> Result<(), Refusal> {
        if let Some(file) = self.json.as_deref().filter(|file| *file != Path::new("-")) {
            let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
            opened.map_err(Refusal::of(format_args!("cannot write {}", file.display())))?;
        }
        if let Some(directory) = &self.report {
            std::fs::create_dir_all(directory)
                .map_err(Refusal::of(format_args!("cannot make {}", directory.display())))?;
        }
        Ok(())
    }
}

/// A figure that was promised.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// What was promised, with its limit.
    pub what: String,
    /// What was seen.
    pub seen: String,
    /// None: it could not be judged.
    pub met: Option<bool>,
}

/// What a subcommand found out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The subcommand.
    pub command: String,
    /// Everything that was computed, for programs.
    pub results: Value,
    /// Lines above the tables: what is missing, what is slow about the harness itself, notes.
    pub notes: Vec<String>,
    /// For people.
    pub tables: Vec<Table>,
    /// For the page.
    pub plots: Vec<Plot>,
    /// What was promised of these figures.
    pub targets: Vec<Target>,
    /// False: exit status 1.
    pub good: bool,
    /// Rounds that count.
    pub rounds: u32,
}

impl Outcome {
    /// Prints, and writes what `--json` and `--report` ask for.
    pub fn publish(&self, common: &Common, began: &Moment) -> Result<(), Refusal> {
        let envelope = json::envelope(self, began);
        match common.json.as_deref() {
            Some(file) if file == Path::new("-") => println!("{envelope:#}"),
            Some(file) => std::fs::write(file, format!("{envelope:#}\n"))
                .map_err(Refusal::of(format_args!("cannot write {}", file.display())))?,
            None => {}
        }
        if common.json.as_deref() != Some(Path::new("-")) {
            print!("{}", self.text());
        }
        // A report writes its page itself.
        if let Some(directory) = common.report.as_ref().filter(|_| self.command != "report") {
            page::write(directory, &[self], began)?;
            eprintln!("rcumalloc-bench: wrote {}", directory.join(page::NAME).display());
        }
        Ok(())
    }

    /// What the terminal shows.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.notes {
            text += &format!("{line}\n");
        }
        for table in &self.tables {
            text += &format!("\n{}\n", table.text());
        }
        if !self.targets.is_empty() {
            text += &format!("\n{}\n", targets(&self.targets).text());
        }
        text
    }
}

/// The table of what was promised.
pub fn targets(targets: &[Target]) -> Table {
    let mut table = Table::new("Targets", &["target", "seen", ""]);
    for target in targets {
        let verdict = match target.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not judged",
        };
        table.row([target.what.clone(), target.seen.clone(), verdict.to_owned()]);
    }
    table
}
