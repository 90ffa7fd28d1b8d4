//! A running process from outside: what the library publishes of itself under `RCUMALLOC_WATCH`.
//!
//! ```text
//!   area      finds the published pages of a process and reads them consistently
//!   figures   what is in them, by name
//!   history   figures as time goes by: rates, sparklines
//!   stats     once, for people or as JSON        plot    for a while, as a page with pictures
//!   top       again and again, on the terminal   export  for Prometheus
//!   stalls    who holds grace periods up, as a flame graph
//! ```
//!
//! Nothing here stops the process or writes to it. Where the library publishes on a signal, the signal is
//! sent before each look.

mod area;
mod export;
mod figures;
mod history;
mod plot;
mod screen;
mod stalls;
mod stats;
mod top;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::outcome::{Common, Refusal};

/// Subcommands that look at a running process. They print for themselves: there is nothing to compare.
#[derive(Subcommand)]
pub enum Watch {
    /// The figures of a running process, again and again, on the terminal
    Top(TopArguments),
    /// The figures of a running process, once; with `--json` as the library writes them
    Stats(OneArguments),
    /// Looks at a running process for `--seconds` and writes one page with pictures
    Plot(PlotArguments),
    /// Who holds grace periods up in a running process: folded stacks, or a flame graph weighted by
    /// byte-seconds
    Stalls(StallsArguments),
    /// Serves the figures of running processes on the loopback address until it is ended
    Export(ExportArguments),
}

/// One process.
#[derive(Args)]
pub struct OneArguments {
    /// The process
    #[arg(value_name = "PID")]
    pid: i32,
}

/// Processes.
#[derive(Args)]
pub struct SomeArguments {
    /// The processes
    #[arg(value_name = "PID", required_unless_present = "all", conflicts_with = "all")]
    pids: Vec<i32>,
    /// Every process that publishes its figures and that we may look at
    #[arg(long)]
    all: bool,
}

/// See [`Watch::Top`].
#[derive(Args)]
pub struct TopArguments {
    #[command(flatten)]
    whom: SomeArguments,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = pause)]
    every: f64,
    /// Print the screen after so many looks, and end; needs no terminal
    #[arg(long, value_name = "LOOKS", value_parser = clap::value_parser!(u32).range(1..))]
    print: Option<u32>,
    /// With `--print`: write the screen as a picture to this file, too
    #[arg(long, value_name = "FILE", requires = "print")]
    svg: Option<PathBuf>,
}

/// See [`Watch::Plot`].
#[derive(Args)]
pub struct PlotArguments {
    #[command(flatten)]
    whom: OneArguments,
    /// The page
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Seconds between two looks
    #[arg(long, default_value_t = 0.25, value_name = "SECONDS", value_parser = pause)]
    every: f64,
}

/// See [`Watch::Stalls`].
#[derive(Args)]
pub struct StallsArguments {
    #[command(flatten)]
    whom: OneArguments,
    /// Draw a flame graph
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,
}

/// See [`Watch::Export`].
#[derive(Args)]
pub struct ExportArguments {
    #[command(flatten)]
    whom: SomeArguments,
    /// The port to listen at; 0: any that is free
    #[arg(long, value_name = ":PORT", value_parser = port)]
    prometheus: u16,
}

fn pause(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.02..=3600.0).contains(&value) => Ok(value),
        _ => Err("not a number of seconds between 0.02 and 3600".to_owned()),
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.strip_prefix(':').unwrap_or(text).parse().map_err(|_| "not a port, as :9100".to_owned())
}

/// Prints; who reads may have heard enough.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Does what the line says.
pub fn run(command: &Watch, common: &Common) -> Result<(), Refusal> {
    match command {
        Watch::Top(arguments) => top::run(arguments),
        Watch::Stats(arguments) => stats::run(arguments.pid, common),
        Watch::Plot(arguments) => plot::run(arguments, common),
        Watch::Stalls(arguments) => stalls::run(arguments),
        Watch::Export(arguments) => export::run(arguments),
    }
}
