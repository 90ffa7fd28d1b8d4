//! The measured side: `rcumalloc-bench inner KIND JOB`, started by the harness under some allocator.
//!
//! JOB is JSON, so that each kind has its own; the answer is one JSON line on stdout. Nothing here may
//! allocate inside a measured loop but what is measured.

use clap::{Args, ValueEnum};

use crate::outcome::{Outcome, Refusal};

#[derive(Args)]
pub struct Arguments {
    kind: Kind,
    job: String,
}

/// One a measurement.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    Workload,
    Family,
    Probe,
    Reclaim,
    Smr,
    Torture,
    Pressure,
    Engine,
    Churn,
    PairLoop,
    Large,
}

pub fn run(arguments: &Arguments) -> Result<Outcome, Refusal> {
    let job = &arguments.job;
    let answer = match arguments.kind {
        Kind::Workload => crate::workload::inner(job),
        Kind::Family => crate::family::inner(job),
        Kind::Probe => crate::peers::probe::inner(job),
        Kind::Reclaim => crate::reclaim::inner(job),
        Kind::Smr => crate::smr::inner(job),
        Kind::Torture => crate::torture::inner(job),
        Kind::Pressure => crate::pressure::inner(job),
        Kind::Engine => crate::engine::inner(job),
        Kind::Churn => crate::engine::churn::inner(job),
        Kind::PairLoop => crate::engine::run_loop(job),
        Kind::Large => crate::large::measured::inner(job),
    }?;
    println!("{answer}");
    Ok(Outcome::default())
}
