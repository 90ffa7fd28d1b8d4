//! Owner R.

use crate::outcome::{Common, Outcome, Refusal};

#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_: &Arguments, _: &Common) -> Result<Outcome, Refusal> {
    Err(Refusal("rcuscale is not built yet".to_owned()))
}
