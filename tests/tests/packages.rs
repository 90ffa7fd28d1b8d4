//! The library as others get it: built, installed, linked and depended on.

use rcumalloc_tests::{build, command};
use std::path::PathBuf;
use std::process::Command;

/// The files that `cargo ARGUMENTS` says it has made, in the target directory of the tests.
fn made_by_cargo(arguments: &[&str]) -> Vec<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(build::root()).args(arguments).arg("--message-format=json");
    // What the test runner's cargo was told about this package is not for that one.
    cargo.env_remove("RUSTC_WORKSPACE_WRAPPER").env("CARGO_TARGET_DIR", build::target());
    let output = cargo.output().expect("cargo starts");
    assert!(output.status.success(), "{cargo:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes JSON");
    let words = text.split('"').filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

#[test]
fn the_obvious_command_builds_the_library() {
    let library = build::target().join("release/librcumalloc.so");
    let made = made_by_cargo(&["build", "--release"]);
    assert!(made.contains(&library) && library.exists(), "{made:?}");
    let archive = library.with_extension("a");
    assert!(made.contains(&archive) && archive.exists(), "{made:?}");
    let outcome = command(build::program("preload_took_effect")).preload(&[&library]).run().success();
    assert_eq!(outcome.stdout, b"present 1\n", "{outcome}");
}

#[test]
fn all_features_build() {
    let made = made_by_cargo(&["build", "--all-features"]);
    assert!(made.iter().any(|path| path.ends_with("debug/librcumalloc.so")), "{made:?}");
}
