//! Tortures the engine this binary was built with: what `rcumalloc-bench torture --break` runs. Words
//! `name=value` as in `parameters.rs`; exit status 1 on any error, 2 if it cannot run.

use std::process::ExitCode;

fn main() -> ExitCode {
    let parameters = match torture::Parameters::parse(std::env::args().skip(1)) {
        Ok(parameters) => parameters,
        Err(line) => return refuse(&line),
    };
    let stuck = |report: torture::Report| {
        print(&report);
        std::process::exit(1);
    };
    let progress =
        &mut |phase: &torture::phase::Phase, _: &torture::Report| eprintln!("rcu-torture: {phase}");
    match torture::run(&parameters, progress, &stuck) {
        Ok(report) => {
            print(&report);
            ExitCode::from(u8::from(report.errors() > 0))
        }
        Err(line) => refuse(&line),
    }
}

fn print(report: &torture::Report) {
    for line in report.lines() {
        println!("{line}");
    }
}

fn refuse(line: &str) -> ExitCode {
    eprintln!("rcumalloc-torture: {line}");
    ExitCode::from(2)
}
