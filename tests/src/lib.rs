//! What the tests of the shared library stand on.
//!
//! A test builds the library once ([`build::library`]), compiles a *victim* from `programs/`
//! ([`build::program`]) or finds a real program ([`build::installed`]), runs it under the library in
//! a process of its own under a watchdog ([`Victim`]), and looks at what came of it ([`Outcome`]). A test
//! that the machine does not allow says why ([`skipped`]).
//!
//! `RCUMALLOC_TEST_LIBRARY=/path/librcumalloc.so` tests another build, such as one with a defence
//! removed (`cargo xtask mutants`).

pub mod build;
pub mod floors;
pub mod frames;
pub mod machine;
pub mod numbers;
mod outcome;
mod victim;

pub use outcome::Outcome;
pub use victim::{Victim, command};

/// A rule of libc's that glibc keeps, and we do in every mode, without a word of ours.
pub fn rule(name: &str) {
    Victim::new("libc_rules").arg(name).on_glibc().run().success();
    for mode in ["all", "api", "strict"] {
        let outcome = Victim::new("libc_rules").arg(name).env("RCUMALLOC_DEFER", mode).run().success();
        assert_eq!(outcome.text(), "done\n", "{outcome}");
        assert_eq!(outcome.ours(), [""; 0], "{outcome}");
    }
}

/// Says why the calling test, or part of it, was not run: also where the output of tests that pass is not
/// shown.
pub fn skipped(why: &str) {
    use std::io::Write;
    let test = std::thread::current();
    // Not eprintln!, which the test runner keeps to itself. A broken pipe is no reason to fail.
    let _ = writeln!(std::io::stderr(), "skipped: {}: {why}", test.name().unwrap_or("a test"));
}
