//! `rcu-bench`: see the crate's documentation, and `--help`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use rcu_bench::machine::{Machine, Spent, load_average};
use rcu_bench::report::Run;
use rcu_bench::rounds::{Plan, recording_cost};
use rcu_bench::{crowd, expedited, instructions, pairs, periods, polls};

/// Measures the grace-period engine beside liburcu and crossbeam-epoch, in alternating rounds.
#[derive(Parser)]
#[command(name = "rcu-bench", version)]
struct Arguments {
    /// Rounds that count, after one of warm-up
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Milliseconds that one round of one subject takes
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    round_ms: u64,
    /// Only these measurements, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// Also write the results with every round to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the tables to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Do not count executed instructions under valgrind
    #[arg(long)]
    no_valgrind: bool,
    /// Exit with status 1 if a limit is missed
    #[arg(long)]
    strict: bool,
    #[arg(long, hide = true, requires = "times")]
    run_loop: Option<usize>,
    #[arg(long, hide = true)]
    times: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Lock and unlock, time
    Pairs,
    /// Lock and unlock, instructions
    Instructions,
    /// Cookies
    Polls,
    /// Periods among running readers
    Periods,
    /// Periods among sleeping readers
    Expedited,
    /// Thousands of readers that sleep, have ended, or all announce
    Crowd,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            return refuse(&format!("{line} (see --help)"));
        }
    };
    if let (Some(index), Some(times)) = (arguments.run_loop, arguments.times) {
        return match instructions::run_loop(index, times) {
            Ok(setting) => {
                println!("{setting}");
                ExitCode::SUCCESS
            }
            Err(reason) => refuse(&reason),
        };
    }
    match run(&arguments) {
        Ok(run) => {
            print!("{}", run.text());
            let missed = run.missed();
            for line in &missed {
                println!("missed: {line}");
            }
            if arguments.strict && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(reason) => refuse(&reason),
    }
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("rcu-bench: {reason}");
    ExitCode::from(2)
}

fn run(arguments: &Arguments) -> Result<Run, String> {
    // Found out before minutes are spent.
    for file in [&arguments.json, &arguments.markdown].into_iter().flatten() {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        opened.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    let binary = std::env::current_exe().map_err(|error| format!("cannot find my own binary: {error}"))?;
    let plan = Plan { rounds: arguments.rounds.into(), round: Duration::from_millis(arguments.round_ms) };
    let wanted = |what| arguments.only.is_empty() || arguments.only.contains(&what);
    let (load_before, spent) = (load_average(), Spent::so_far());
    let recording_cost = recording_cost();
    let mut measures = Vec::new();
    if wanted(What::Pairs) {
        measures.push(pairs::measure(&plan));
    }
    if wanted(What::Instructions) {
        measures.push(instructions::measure(&binary, !arguments.no_valgrind));
    }
    if wanted(What::Polls) {
        measures.push(polls::measure(&plan));
    }
    if wanted(What::Periods) {
        measures.push(periods::waited_for_by_a_reader(&plan));
        measures.push(periods::polled_by_a_reader(&plan));
        measures.push(periods::waited_for_by_a_third(&plan));
    }
    if wanted(What::Expedited) {
        measures.push(expedited::measure(&plan, false));
        measures.push(expedited::measure(&plan, true));
    }
    if wanted(What::Crowd) {
        measures.push(crowd::beside_a_crowd(&plan));
        measures.push(crowd::everybody_announces(&plan));
        measures.push(crowd::measure(&plan));
    }
    let others = spent.by_others_since();
    let command =
        std::env::var("RCU_BENCH_COMMAND").unwrap_or_else(|_| std::env::args().collect::<Vec<_>>().join(" "));
    let load = (load_before, load_average());
    let run = Run { machine: Machine::look(), command, plan, load, others, recording_cost, measures };
    let write = |file: &Option<PathBuf>, text: String| match file {
        Some(file) => {
            std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
        }
        None => Ok(()),
    };
    write(&arguments.json, format!("{:#}\n", run.json()))?;
    write(&arguments.markdown, run.markdown())?;
    Ok(run)
}
