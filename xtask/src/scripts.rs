//! Commands that are scripts: xtask/scripts.

use std::ffi::OsString;
use std::process::Command;

use clap::{Args, Subcommand};

use crate::{Outcome, place};

/// Each has a script of its name, which says more with `--help`.
#[derive(Subcommand)]
pub enum Script {
    /// Runs the engine and the heap on aarch64, emulated: their tests, C programs and examples
    Aarch64(Words),
    /// What five programs keep of the system after they have freed all: bench/address_space.md
    AddressSpace(Words),
    /// Measures librcumalloc.so beside glibc's malloc and mimalloc: bench/malloc.md
    BenchMalloc(Words),
    /// Makes the Debian packages librcumalloc1 and librcumalloc-dev
    Deb(Words),
    /// Does what the README says in a fresh Debian root, which has our packages alone
    Fresh(Words),
    /// Fuzzes the whole API of the heap
    Fuzz(Words),
    /// Runs the engine's tests under Miri: a quick share, or with `--full` all that it can run
    Miri(Words),
    /// What perf says about a program under glibc's malloc and under rcumalloc
    PerfCompare(Words),
    /// Takes the pictures of docs/seeing.md, and makes the manual pages
    Pictures(Words),
    /// Runs crossbeam's own skip list, queue, list and stack, with their tests, over the engine's types
    Ported(Words),
    /// Runs real programs under glibc's malloc and under the library in its three modes, and compares
    Programs(Words),
    /// Loads servers under the library for the given time, and judges their memory and their periods
    Soak(Words),
    /// Runs other projects' tests of malloc under the library, in every mode
    Suites(Words),
    /// Runs the engine's threaded tests under ThreadSanitizer
    Tsan(Words),
}

#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Words {
    /// The script's own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    words: Vec<OsString>,
}

/// Its exit status becomes ours.
pub fn run(script: &Script) -> Outcome {
    let (name, Words { words }) = match script {
        Script::Aarch64(words) => ("aarch64", words),
        Script::AddressSpace(words) => ("address-space", words),
        Script::BenchMalloc(words) => ("bench-malloc", words),
        Script::Deb(words) => ("deb", words),
        Script::Fresh(words) => ("fresh", words),
        Script::Fuzz(words) => ("fuzz", words),
        Script::Miri(words) => ("miri", words),
        Script::PerfCompare(words) => ("perf-compare", words),
        Script::Pictures(words) => ("pictures", words),
        Script::Ported(words) => ("ported", words),
        Script::Programs(words) => ("programs", words),
        Script::Soak(words) => ("soak", words),
        Script::Suites(words) => ("suites", words),
        Script::Tsan(words) => ("tsan", words),
    };
    let mut command = Command::new(place::root().join("xtask/scripts").join(name));
    let status = command.args(words).status().map_err(|error| format!("xtask/scripts/{name}: {error}"))?;
    match status.code() {
        Some(2) => std::process::exit(2), // it has said why
        code => Ok(code == Some(0)),
    }
}
