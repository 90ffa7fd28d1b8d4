//! Its owner fills this in.

use serde_json::Value;

use crate::outcome::{Common, Outcome, Refusal};

#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_: &Arguments, _: &Common) -> Result<Outcome, Refusal> {
    Err(Refusal("workload is not built yet".to_owned()))
}

/// The measured side.
pub fn inner(_job: &str) -> Result<Value, Refusal> {
    Err(Refusal("workload is not built yet".to_owned()))
}
