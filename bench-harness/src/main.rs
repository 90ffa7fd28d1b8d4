//! `rcumalloc-bench`: measures librcumalloc.so against everything that matters.
//!
//! Every measurement is a subcommand, and every subcommand is a module with `Arguments` and `run`, which
//! returns an [`outcome::Outcome`]: a value for JSON, tables for the terminal, pictures for the page, and a
//! verdict. What is measured runs in a child process of this same binary (`inner`), so that LD_PRELOAD
//! decides which allocator it gets; this binary itself links none.
//!
//! Exit status: 0 good, 1 a verdict is bad, 2 usage or cannot run, with one line on stderr.

mod compare;
mod deferral;
mod engine;
mod family;
mod figures;
mod inner;
mod large;
mod machine;
mod man;
mod measure;
mod outcome;
mod output;
mod peers;
mod perf;
mod pressure;
mod profile;
mod programs;
mod ranges;
mod rcuscale;
mod reclaim;
mod record;
mod refscale;
mod report;
mod self_test;
mod setup;
mod smr;
mod suite;
mod torture;
mod trace;
mod watch;
mod workload;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use outcome::{Common, Outcome, Refusal};

/// Measures librcumalloc.so against everything that matters.
#[derive(Parser)]
#[command(name = "rcumalloc-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch and build the peers, and check that each takes effect
    Setup(setup::Arguments),
    /// Run a real program under several allocators in turn
    Compare(compare::Arguments),
    /// What perf counts of a program under several allocators in turn, and where the time goes
    Perf(perf::Arguments),
    /// Run allocation patterns under several allocators in turn
    Workload(workload::Arguments),
    /// What holding back costs: the library with and without deferral, over families and real programs
    Deferral(deferral::Arguments),
    /// Write the malloc calls of a real program into a file, for `workload replay`
    Trace(trace::Arguments),
    /// Free blocks as the kernel's kfree_rcu_test does, over each reclamation scheme
    Rcuscale(rcuscale::Arguments),
    /// The cost of a read-side section, over each reclamation scheme
    Refscale(refscale::Arguments),
    /// A concurrent map over each reclamation scheme
    Smr(smr::Arguments),
    /// The range map beside other maps that are read by many: the cost of a look-up
    Ranges(ranges::Arguments),
    /// Large blocks: growing, touching and freeing them, and huge pages under each of the machine's settings
    Large(large::Arguments),
    #[command(flatten)]
    Engine(engine::Measurement),
    /// rcutorture's scheme: no reader may see an element that was reused too early
    Torture(torture::Arguments),
    /// Many freeing threads in a small cgroup
    Pressure(pressure::Arguments),
    /// Everything above at a standard size: one page and one JSON file
    Report(report::Arguments),
    /// Make the recorded results that README and docs quote: bench/*.json, with the commit
    Record(record::Arguments),
    /// Compare the figures of README and docs with the recorded results, or insert them
    Figures(figures::Arguments),
    /// Compare one allocator with itself: the ratio must be 1.00 within the printed spread
    SelfTest(self_test::Arguments),
    /// A profile of the heap that the library has written: stacks, leaks, for pprof, as a flame graph
    Profile(profile::Arguments),
    /// What a profile costs: programs without one, with none, and with one at the usual rate
    ProfileCost(profile::cost::Arguments),
    #[command(flatten)]
    Watch(watch::Watch),
    /// Write the manual pages of docs/man
    #[command(hide = true)]
    Man(man::Arguments),
    /// The measured side of a measurement; started by the others
    #[command(hide = true)]
    Inner(inner::Arguments),
}

/// Runs a line as if it had been typed, for `report`.
fn line(words: &[String]) -> Result<Outcome, Refusal> {
    let words = std::iter::once("rcumalloc-bench").chain(words.iter().map(String::as_str));
    let cli = Cli::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        Refusal(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })?;
    dispatch(&cli)
}

fn dispatch(cli: &Cli) -> Result<Outcome, Refusal> {
    let common = &cli.common;
    match &cli.command {
        Command::Setup(arguments) => setup::run(arguments, common),
        Command::Compare(arguments) => compare::run(arguments, common),
        Command::Perf(arguments) => perf::run(arguments, common),
        Command::Workload(arguments) => workload::run(arguments, common),
        Command::Deferral(arguments) => deferral::run(arguments, common),
        Command::Trace(arguments) => trace::run(arguments, common),
        Command::Record(arguments) => record::run(arguments, common),
        Command::Figures(arguments) => figures::run(arguments),
        Command::Rcuscale(arguments) => rcuscale::run(arguments, common),
        Command::Refscale(arguments) => refscale::run(arguments, common),
        Command::Smr(arguments) => smr::run(arguments, common),
        Command::Ranges(arguments) => ranges::run(arguments, common),
        Command::Large(arguments) => large::run(arguments, common),
        Command::ProfileCost(arguments) => profile::cost::run(arguments, common),
        Command::Engine(measurement) => engine::run(measurement, common),
        Command::Torture(arguments) => torture::run(arguments, common),
        Command::Pressure(arguments) => pressure::run(arguments, common),
        Command::Report(arguments) => report::run(arguments, common),
        Command::SelfTest(arguments) => self_test::run(arguments, common),
        Command::Inner(arguments) => inner::run(arguments),
        // They write for themselves: there is nothing for a report.
        Command::Watch(command) => watch::run(command, common).map(|()| Outcome::default()),
        Command::Profile(arguments) => profile::run(arguments).map(|()| Outcome::default()),
        Command::Man(arguments) => man::run(arguments, Cli::command()).map(|()| Outcome::default()),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            // What is missing stands in lines of its own.
            let said: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
            let line = said.join(" ");
            let line = line.trim_start_matches("error: ");
            return refuse(&Refusal(format!("{line} (see --help)")));
        }
    };
    if let Command::Inner(arguments) = &cli.command {
        return match inner::run(arguments) {
            Ok(_) => ExitCode::SUCCESS,
            Err(refusal) => refuse(&refusal),
        };
    }
    if matches!(cli.command, Command::Watch(_) | Command::Profile(_) | Command::Man(_)) {
        return match dispatch(&cli) {
            Ok(_) => ExitCode::SUCCESS,
            Err(refusal) => refuse(&refusal),
        };
    }
    let began = machine::Moment::now();
    match cli.common.check().and_then(|()| dispatch(&cli)).and_then(|outcome| {
        outcome.publish(&cli.common, &began)?;
        Ok(outcome)
    }) {
        Ok(outcome) if outcome.good => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(refusal) => refuse(&refusal),
    }
}

fn refuse(refusal: &Refusal) -> ExitCode {
    eprintln!("rcumalloc-bench: {}", refusal.0);
    ExitCode::from(2)
}
