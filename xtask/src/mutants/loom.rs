//! Mutants that a loom model kills: the engine without one of its orderings or rules.

use super::{Verdict, tree};
use crate::{loom, place};

/// Seconds of a processor for a model and a number of preemptions.
const PATIENCE: u32 = 180;

/// What loom says of a model in which a thread waits for another too long to be explored: no verdict.
const ENDLESS: &str = "exceeded maximum number of branches";

/// Where the copy's models are built, below the target directory.
const BUILDS: &str = "loom-mutants";

/// Of the mutant that the copy has. The model may take no preemption or more, up to the bound: what few
/// suffice for is found in seconds in this way.
pub fn judge(model: &str, bound: u32) -> Result<Verdict, String> {
    // Built apart: that takes as long as it takes.
    let mut build = loom::test(&tree::tree(), BUILDS, None);
    let built = place::output(build.args(["--test", "loom", "--no-run"]))?;
    if !built.status.success() {
        return Ok(Verdict::Bad(format!("does not build:\n{}", place::said(&built))));
    }
    for preemptions in 0..=bound {
        let mut test = loom::test(&tree::tree(), BUILDS, Some(PATIENCE));
        test.env("LOOM_MAX_PREEMPTIONS", preemptions.to_string());
        test.args(["--test", "loom", "--", "--nocapture", "--test-threads=1", "--exact", model]);
        let ran = place::output(&mut test)?;
        let said = place::said(&ran);
        if said.contains("panicked at") && !said.contains(ENDLESS) {
            return Ok(Verdict::Killed(format!(" with {preemptions} preemptions")));
        }
        if !ran.status.success() {
            return Ok(Verdict::Bad(format!("NO VERDICT with {preemptions} preemptions in {PATIENCE} s")));
        }
    }
    Ok(Verdict::Bad("SURVIVED".to_owned()))
}
