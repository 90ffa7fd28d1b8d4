//! What is done to this repository, beside building it: `cargo xtask --help`.
//!
//! Exit status: 0 good, 1 a verdict is bad, 2 usage, or it cannot run here, with one line on stderr that says
//! why.

mod loom;
mod mutants;
mod place;
mod scripts;
mod spin;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Whether the verdict is good, or why there is none.
type Outcome = Result<bool, String>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What is done to this repository, beside building it")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Loom(loom::Arguments),
    Mutants(mutants::Arguments),
    Spin(spin::Arguments),
    #[command(flatten)]
    Script(scripts::Script),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Loom(arguments) => loom::run(&arguments),
        Command::Mutants(arguments) => mutants::run(&arguments),
        Command::Spin(arguments) => spin::run(&arguments),
        Command::Script(script) => scripts::run(&script),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::from(2)
        }
    }
}
