//! The examples of the README: compiled as it says, and run.

use rcumalloc_tests::{Victim, build, command};

#[test]
fn c_example() {
    let outcome = Victim::new("example").run().success();
    assert_eq!(outcome.text(), "version 1000000, every look was consistent\n");
    let outcome = Victim::new("example").on_glibc().run().exited(1);
    assert_eq!(outcome.stderr, b"run me with LD_PRELOAD=librcumalloc.so\n", "{outcome}");
}

#[test]
fn rust_example() {
    let cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).on_glibc();
    let cargo = cargo.args(["run", "--quiet", "--release", "-p", "rcumalloc", "--example", "config"]);
    // It is built first.
    let outcome = cargo.arg("--target-dir").arg(build::target()).dir(build::root()).patience(900).run();
    assert_eq!(outcome.success().text(), "version 300000, every look was consistent\n");
}

/// The README quotes the examples as they are.
#[test]
fn the_readme_quotes_them() {
    let readme = std::fs::read_to_string(build::root().join("README.md")).expect("there is a README");
    for (path, needle) in [
        ("tests/programs/example.c", "rcumalloc_read_lock();"),
        ("preload/examples/config.rs", "rcumalloc::read()"),
    ] {
        let source = std::fs::read_to_string(build::root().join(path)).expect("the example is there");
        let quoted = readme.split("```").filter(|block| block.contains(needle));
        for block in quoted {
            let (_, code) = block.split_once('\n').expect("a block begins with its language");
            for line in code.lines().filter(|line| !line.trim().is_empty() && line.trim() != "...") {
                assert!(source.contains(line.trim()), "the README says {line:?}, {path} does not");
            }
        }
    }
}
