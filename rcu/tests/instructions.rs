//! The fast path as it is compiled: six instructions, no fence, no atomic, no call.
//!
//! The functions are this program's own, which is optimised in every profile; it reads its own disassembly.
//! It needs `objdump`.
#![cfg(all(target_arch = "x86_64", not(any(loom, rcu_portable, rcu_tsan))))]

#[path = "common/disassembly.rs"]
mod disassembly;

use disassembly::{FastPath, fast_path};
use quiescent::ReaderCell;

fn path_of(symbol: &str) -> FastPath {
    disassembly::keep();
    fast_path(&std::env::current_exe().expect("this program has a path"), symbol).unwrap()
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
