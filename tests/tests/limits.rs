//! The memory the library may take: most of each, of a program or a thread.

use rcumalloc_tests::{Victim, build};

const MIB: u64 = 1024; // in KiB

#[test]
fn a_sleeping_thread_while_two_churn_1_gib() {
    for what in ["implicit", "explicit"] {
        Victim::new("lagging_reader").args(["sleeping", what]).run().success().below("hwm_kib", 96 * MIB);
    }
}

#[test]
fn two_gib_through_a_thread_that_only_frees() {
    let outcome = Victim::new("free_only_thread").args(["2048", "2000", "told"]).run().success();
    outcome.below("hwm_kib", 64 * MIB);
}

#[test]
fn twenty_thousand_short_threads() {
    Victim::new("thread_churn").arg("20000").run().success().below("hwm_kib", 64 * MIB);
}

#[test]
fn a_peak_of_300_mib_freed_and_trimmed() {
    for who in ["solo", "threads"] {
        let outcome = Victim::new("peak_and_trim").arg(who).run().success();
        assert!(outcome.number("peak_kib") > 300 * MIB, "{outcome}");
        assert_eq!(outcome.number("given"), 1, "{outcome}");
        outcome.below("rss_kib", 40 * MIB);
    }
}

/// Found by `raw_clone_child`, which took GiB: each extension in place of the topmost block grew the heap.
#[test]
fn reallocs_do_not_carry_the_heap_away() {
    Victim::new("growing").run().success().below("hwm_kib", 40 * MIB);
}

/// What is to grow is put where there is room behind it.
#[test]
fn what_doubles_moves_seldom() {
    let outcome = Victim::new("doubling").run().success().below("hwm_kib", 64 * MIB);
    assert!(outcome.number("stayed") >= 2 * outcome.number("moved"), "{outcome}");
}

#[test]
fn true_is_at_most_256_kib_larger() {
    let measure = || Victim::new("measure").on_glibc().arg(build::installed("true"));
    // What is resident of shared libraries depends on where they are mapped, which is left to chance.
    let mean = |victim: &dyn Fn() -> Victim| {
        const RUNS: u64 = 40;
        (0..RUNS).map(|_| victim().run().success().number("rss_kib")).sum::<u64>() / RUNS
    };
    let glibc = mean(&measure);
    let ours = mean(&|| measure().env("MEASURE_PRELOAD", build::library()));
    assert!(ours <= glibc + 256, "{ours} KiB under the library, {glibc} KiB under glibc, on average");
}
