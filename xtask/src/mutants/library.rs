//! Mutants that a test kills: of librcumalloc.so, built without the defence, or of code that the test has
//! within.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use super::{Verdict, tree};
use crate::place;

/// Seconds a test may take, its build included: one that hangs has failed, for a test of the library has no
/// watchdog of its own.
const PATIENCE: &str = "600";

/// A test that waits for a race is asked so often.
const TRIES: u32 = 3;

/// Asks the tests, and keeps what they say of the library as it is: once is enough for all mutants of a test.
#[derive(Default)]
pub struct Judge {
    whole: RefCell<HashMap<(String, String), bool>>,
}

impl Judge {
    /// Of the mutant that the copy has.
    pub fn judge(&self, target: &str, test: &str) -> Result<Verdict, String> {
        let has_own_build = target == "lib" || target.starts_with("preload/") || target.starts_with("rcu/");
        let builds = tree::tree().with_file_name("target");
        if !has_own_build {
            let mut build = Command::new(tree::tree().join("scripts/build"));
            let built = place::output(build.args(["-A", "warnings"]).env("CARGO_TARGET_DIR", &builds))?;
            if !built.status.success() {
                return Ok(Verdict::Bad(format!("does not build:\n{}", place::said(&built))));
            }
        }
        let library = builds.join("release/librcumalloc.so");
        for _ in 0..TRIES {
            let passes = match has_own_build {
                true => asked(of_crate(target, test, Some(&builds)), target, test)?,
                false => asked(of_library(target, test, Some(&library)), target, test)?,
            };
            if !passes {
                return self.killed(has_own_build, target, test);
            }
        }
        Ok(Verdict::Bad("SURVIVED".to_owned()))
    }

    /// A test that fails with the library as it is has killed nothing.
    fn killed(&self, has_own_build: bool, target: &str, test: &str) -> Result<Verdict, String> {
        let key = (target.to_owned(), test.to_owned());
        let known = self.whole.borrow().get(&key).copied();
        let passes = match known {
            Some(passes) => passes,
            None if has_own_build => asked(of_crate(target, test, None), target, test)?,
            None => asked(of_library(target, test, None), target, test)?,
        };
        self.whole.borrow_mut().insert(key, passes);
        Ok(match passes {
            true => Verdict::Killed(String::new()),
            false => Verdict::Bad("fails without the mutant, too".to_owned()),
        })
    }
}

/// `cargo test`, with what it has started ended when the patience is.
fn cargo_test() -> Command {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", PATIENCE, "cargo", "test", "--quiet"]).current_dir(place::root());
    command
}

/// A test of tests/tests, against that library.
fn of_library(target: &str, test: &str, library: Option<&Path>) -> Command {
    let mut command = cargo_test();
    command.args(["-p", "rcumalloc-tests", "--test", target, "--", "--exact", test]);
    if let Some(library) = library {
        command.env("RCUMALLOC_TEST_LIBRARY", library);
    }
    command
}

/// A test that has the code within, of the copy if its builds are named.
fn of_crate(target: &str, test: &str, builds: Option<&Path>) -> Command {
    let mut command = cargo_test();
    command.args(["-p", if target.starts_with("rcu/") { "quiescent" } else { "rcumalloc" }]);
    match target.split_once('/') {
        Some((_, file)) => command.args(["--test", file]),
        None => command.arg("--lib"),
    };
    if target.starts_with("rcu/epoch") {
        command.args(["--features", "std"]);
    }
    command.args(["--", "--exact", test]);
    if let Some(builds) = builds {
        command.current_dir(tree::tree()).env("CARGO_TARGET_DIR", builds).env("RUSTFLAGS", "-A warnings");
    }
    command
}

/// Whether the test passes.
fn asked(mut command: Command, target: &str, test: &str) -> Result<bool, String> {
    let ran = place::output(&mut command)?;
    let said = String::from_utf8_lossy(&ran.stdout);
    // What `timeout` has ended, itself included, has no exit status, or this one.
    if matches!(ran.status.code(), None | Some(137)) {
        return Ok(false);
    }
    // A test that ends its process tells no result.
    if !said.contains("running 1 test") || said.contains("0 passed; 0 failed") {
        return Err(format!("{target} {test} did not run:\n{}", place::said(&ran)));
    }
    Ok(ran.status.success())
}
