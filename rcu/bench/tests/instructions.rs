//! The fast path of a release build: six instructions, no fence, no atomic, no call.
//!
//! Tests are built without optimisation, so this one builds `examples/pair.rs` as a release and reads
//! its disassembly. It needs `objdump`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use rcu_bench::disassembly::{FastPath, fast_path};

static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("release-pair");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--package", env!("CARGO_PKG_NAME"), "--example", "pair"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("release/examples/pair")
});

fn path_of(symbol: &str) -> FastPath {
    fast_path(&EXAMPLE, symbol).unwrap()
}

#[track_caller]
fn assert_fast(path: &FastPath) {
    let faults = path.faults();
    assert!(faults.is_empty(), "{faults:#?}\non the path {:#?}", path.own);
}

#[test]
fn the_pair_is_six_instructions_on_a_cell_at_hand() {
    let path = path_of("rcu_bench_pair_at_hand");
    assert_fast(&path);
    assert_eq!(path.address, [""; 0], "the address was an argument");
}

#[test]
fn the_pair_is_six_instructions_beyond_the_thread_local_access() {
    let path = path_of("rcu_bench_pair_through_tls");
    assert_fast(&path);
    assert_eq!(path.address.len(), 1, "one load from thread-local storage: {:?}", path.address);
}

#[test]
fn the_check_refuses_a_pair_with_a_fence() {
    let faults = path_of("rcu_bench_pair_with_a_fence").faults();
    assert!(faults.iter().any(|fault| fault.contains("7 instructions")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("atomic") || fault.contains("a fence")), "{faults:?}");
}

#[test]
fn the_example_runs() {
    assert!(Command::new(&*EXAMPLE).status().expect("it starts").success());
}
