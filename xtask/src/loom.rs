//! The loom models of the engine and the range map: rcu/tests/loom/ and loom_ranges.rs.

use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::{Outcome, place};

/// Explores the loom models and prints how many executions each took
///
/// Every model, up to three preemptions, or two where the model says so: more of them take hours there.
#[derive(Args)]
pub struct Arguments {
    /// At most one preemption and some 20 seconds a model: two minutes or three
    #[arg(long)]
    quick: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut models = test(place::root(), "loom", None);
    if arguments.quick {
        models.env("LOOM_MAX_PREEMPTIONS", "1").env("LOOM_MAX_DURATION", "20");
        models.env("LOOM_CHECKPOINT_INTERVAL", "2000");
    } else {
        models.env("LOOM_MAX_PREEMPTIONS", "3");
    }
    models.args(["--test", "loom", "--test", "loom_ranges", "--", "--nocapture", "--test-threads=1"]);
    Ok(models.status().map_err(|error| format!("cargo: {error}"))?.success())
}

/// `cargo test` of the models of a tree, each process for so many seconds of a processor; what follows are
/// cargo's arguments. What takes the time is exploring, not calling: quick links. A tree has a directory
/// below the target of its own: cargo would take its binaries for another's.
pub fn test(tree: &Path, directory: &str, seconds: Option<u32>) -> Command {
    let mut command = match seconds {
        Some(seconds) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "ulimit -St \"$0\" && exec cargo \"$@\"", &seconds.to_string()]);
            shell
        }
        None => Command::new("cargo"),
    };
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("--cfg loom {flags}"));
    command.env("CARGO_TARGET_DIR", place::target().join(directory));
    for (setting, value) in [("LTO", "off"), ("CODEGEN_UNITS", "16"), ("INCREMENTAL", "true"), ("DEBUG", "0")]
    {
        command.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    command.args(["test", "--quiet", "--release", "--manifest-path"]).arg(tree.join("rcu/Cargo.toml"));
    command
}
