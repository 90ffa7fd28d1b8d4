//! The lists of mutants fit the tree.

use std::process::Command;

/// A mutant whose lines have changed removes nothing, and a row without one is not known to be tested.
#[test]
fn each_mutant_applies_and_each_row_has_one() {
    let mut check = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let checked = check.args(["mutants", "--check"]).output().expect("xtask starts");
    let problems = String::from_utf8_lossy(&checked.stdout);
    let why = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{problems}{why}");
}
