//! A program that is little more than the fast path: what `tests/instructions.rs` disassembles.

use rcu_bench::disassembly;

fn main() {
    disassembly::keep();
    let reader = rcu_bench::new_reader(rcu_bench::new_domain());
    disassembly::set_cell(reader.cell());
    // SAFETY: this thread owns the registered cell and has just called `set_cell`.
    unsafe {
        disassembly::rcu_bench_pair_at_hand(reader.cell());
        disassembly::rcu_bench_pair_through_tls();
        disassembly::rcu_bench_pair_with_a_fence(reader.cell());
    }
}
