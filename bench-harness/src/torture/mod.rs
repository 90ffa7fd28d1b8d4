//! `torture`: rcutorture's scheme over the engine or the preloaded library, and over engines broken on
//! purpose.
//!
//! The scheme is the crate `rcumalloc-torture`. Here: its command line, the child under the library for
//! `--preload`, and the builds for `--break`, each in a target directory of its own under `target/`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use torture::parameters::{Flavor, Parameters};
use torture::{Report, phase::Phase};

use crate::machine;
use crate::measure::child::{Child, End};
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::progress;
use crate::peers;

/// A defence to take out; see `rcumalloc_break` in rcu/src.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Break {
    /// A cookie counts the period in flight
    Cookie,
    /// An expedite takes readers in a section for quiet ones
    Section,
    /// The barrier in every thread is left out
    Fence,
}

impl Break {
    fn name(self) -> &'static str {
        match self {
            Break::Cookie => "cookie",
            Break::Section => "section",
            Break::Fence => "fence",
        }
    }
}

#[derive(clap::Args)]
pub struct Arguments {
    /// Torture librcumalloc.so through its C interface, and not the engine
    #[arg(long)]
    preload: bool,
    /// Choose the phases with this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Repeat this phase in place of all
    #[arg(long)]
    only: Option<u64>,
    /// End with the first phase that sees an error
    #[arg(long)]
    until_error: bool,
    /// Threads a processor in an oversubscribed phase
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    oversubscribe: u16,
    /// Build with this defence taken out: errors must be found (exit status 1)
    #[arg(long = "break", value_enum)]
    broken: Option<Break>,
}

impl Arguments {
    fn parameters(&self, common: &Common) -> Parameters {
        Parameters {
            flavor: if self.preload { Flavor::Preload } else { Flavor::Engine },
            seconds: common.seconds.unwrap_or(if common.quick { 2.0 } else { 10.0 }),
            seed: self.seed,
            // Without the barrier only what two processors do within some ten ns of each other goes wrong:
            // the duel is where they do nothing else.
            only: self.only.or((self.broken == Some(Break::Fence)).then_some(0)),
            // A defence that is missing is found or not: there is no use in going on.
            until_error: self.until_error || self.broken.is_some(),
            oversubscribe: usize::from(self.oversubscribe),
        }
    }
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let parameters = arguments.parameters(common);
    match (arguments.broken, parameters.flavor) {
        (None, Flavor::Engine) => here(&parameters).map(outcome),
        (None, Flavor::Preload) => under(&parameters, peers::ours(common)).map(outcome),
        (Some(broken), Flavor::Engine) => broken_engine(broken, &parameters),
        (Some(broken), Flavor::Preload) => under(&parameters, broken_library(broken)?).map(outcome),
    }
}

fn outcome(report: Report) -> Outcome {
    Outcome {
        command: "torture".to_owned(),
        notes: report.lines(),
        good: report.errors() == 0,
        results: json!({ "errors": report.errors(), "report": report }),
        rounds: 1,
        ..Outcome::default()
    }
}

/// In this process.
fn here(parameters: &Parameters) -> Result<Report, Refusal> {
    let bar = progress::bar((parameters.seconds * 10.0) as u64);
    let began = std::time::Instant::now();
    let show = &mut |phase: &Phase, so_far: &Report| {
        bar.set_position((began.elapsed().as_secs_f64() * 10.0) as u64);
        bar.set_message(format!("{} errors, {phase}", so_far.errors()));
    };
    let report = torture::run(parameters, show, &end_stuck).map_err(Refusal)?;
    bar.finish_and_clear();
    Ok(report)
}

/// The threads of a run that is stuck cannot be ended: the process is.
fn end_stuck(report: Report) {
    report.lines().iter().for_each(|line| println!("{line}"));
    std::process::exit(1);
}

/// In a child under the library at `library`.
fn under(parameters: &Parameters, library: PathBuf) -> Result<Report, Refusal> {
    if !library.exists() {
        return Err(Refusal(format!("no {}; get it with: scripts/build", library.display())));
    }
    let library = std::path::absolute(&library).unwrap_or(library);
    let bar = progress::bar(1);
    bar.set_message(format!("torture under {}", library.display()));
    let patience = Duration::from_secs_f64(parameters.seconds + 60.0);
    let child = Child::inner("torture", &json!(parameters))?.preload(Some(library)).timeout(patience);
    let finished = child.run()?;
    bar.finish_and_clear();
    match finished.end {
        End::Status(0) => {
            serde_json::from_slice(&finished.stdout).map_err(Refusal::of("the measured side gave no answer"))
        }
        End::Status(2) => Err(Refusal(finished.complaint())),
        // Killed by the heap's own checks, by a signal or by the watch over stuck runs: a verdict, not a
        // refusal.
        _ => Ok(Report {
            parameters: parameters.to_string(),
            flavor: "preload".to_owned(),
            stuck: Some(format!("the tortured process ended: {}", finished.complaint())),
            ..Report::default()
        }),
    }
}

/// Builds with the defence taken out, in a target directory of its own.
fn build(broken: Break, mut command: Command) -> Result<PathBuf, Refusal> {
    let target = machine::target_directory().join(format!("break-{}", broken.name()));
    let target = std::path::absolute(&target).unwrap_or(target);
    command.current_dir(machine::root()).env("CARGO_TARGET_DIR", &target);
    command.env("RUSTFLAGS", format!("--cfg rcumalloc_break=\"{}\"", broken.name()));
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").stdout(Stdio::null()).stderr(Stdio::piped());
    let bar = progress::bar(1);
    bar.set_message(format!("building without the defence '{}'", broken.name()));
    let output = command.output().map_err(Refusal::of("cannot build without a defence"))?;
    bar.finish_and_clear();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.starts_with("error")).unwrap_or("no message");
        return Err(Refusal(format!("cargo cannot build the broken engine: {line}")));
    }
    Ok(target)
}

fn broken_engine(broken: Break, parameters: &Parameters) -> Result<Outcome, Refusal> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--profile", "quick", "-p", "rcumalloc-torture"]);
    let target = build(broken, cargo)?;
    let words = parameters.to_string();
    let child = Child::new(target.join("quick/rcumalloc-torture")).args(words.split(' '));
    let finished = child.timeout(Duration::from_secs_f64(parameters.seconds + 60.0)).run()?;
    let lines: Vec<String> = String::from_utf8_lossy(&finished.stdout).lines().map(str::to_owned).collect();
    if finished.end == End::Status(2) {
        return Err(Refusal(finished.complaint()));
    }
    // A broken engine may also crash, which is as good as an error that was reported.
    let good = finished.end == End::Status(0);
    Ok(Outcome {
        command: "torture".to_owned(),
        results: json!({ "broken": broken.name(), "found": !good, "end": finished.end, "lines": lines }),
        notes: lines,
        good,
        rounds: 1,
        ..Outcome::default()
    })
}

fn broken_library(broken: Break) -> Result<PathBuf, Refusal> {
    let script = machine::root().join("scripts/build");
    Ok(build(broken, Command::new(script))?.join("release/librcumalloc.so"))
}

/// The measured side of `--preload`.
pub fn inner(job: &str) -> Result<Value, Refusal> {
    let parameters: Parameters = serde_json::from_str(job).map_err(Refusal::of("bad job"))?;
    let show = &mut |phase: &Phase, _: &Report| eprintln!("rcu-torture: {phase}");
    let stuck = |report: Report| {
        eprintln!("rcu-torture: {}", report.stuck.as_deref().unwrap_or("stuck"));
        std::process::exit(1);
    };
    torture::run(&parameters, show, &stuck).map(|report| json!(report)).map_err(Refusal)
}
