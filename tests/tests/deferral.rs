//! rows.txt, "Deferral": a test a row, named as the row.

use rcumalloc_tests::Victim;

#[test]
fn batch_storm() {
    for whose in ["own", "others"] {
        let outcome = Victim::new("batch_storm").arg(whose).run().success();
        let asked = outcome.number("asked");
        // Where one magazine ends and the next begins two neighbours are strangers.
        assert!(outcome.number("known") > asked * 9 / 10, "not the blocks that were freed\n{outcome}");
        assert!(outcome.number("neighbours") > asked * 8 / 10, "not whole magazines\n{outcome}");
    }
}

#[test]
fn partial_batch_age() {
    let outcome = Victim::new("partial_batch_age").env("RCUMALLOC_GP_AGE_MS", "50").run().success();
    assert_eq!(outcome.number("retired_at_once"), 0, "the magazine was not partial\n{outcome}");
    assert_eq!(outcome.number("retired"), 3, "{outcome}");
    assert_eq!(outcome.number("seen_again"), 3, "{outcome}");
    // A thread whose slow paths are few and far between, always or of late.
    for (how, decay) in [("seldom", "off"), ("slowed", "1000")] {
        let victim = Victim::new("partial_batch_age").arg(how).env("RCUMALLOC_GP_AGE_MS", "200");
        let outcome = victim.env("RCUMALLOC_DECAY_MS", decay).run().success();
        assert_eq!(outcome.number("retired"), 1, "{outcome}");
    }
}

/// A block is freed into a magazine at any point of the magazine's life, under a section.
fn boundaries(budget: &str) {
    let outcome = Victim::new("boundaries").arg("260").env("RCUMALLOC_BUDGET", budget).run().success();
    assert_eq!(outcome.number("early"), 0, "given out while a reader could see it\n{outcome}");
    assert_eq!(outcome.number("leaked"), 0, "{outcome}");
    // Which blocks come out of all that are free is the heap's choice; many are asked for.
    assert!(outcome.number("late") * 2 >= outcome.number("cases"), "not given out again\n{outcome}");
}

#[test]
fn cookie_of_last() {
    boundaries("64K");
}

#[test]
fn late_joiner() {
    // Every stamp is over this budget: each magazine's period is expedited as it is stamped.
    boundaries("1");
}

#[test]
fn drain_in_section() {
    for budget in ["8M", "64K"] {
        let outcome = Victim::new("drain_in_section").env("RCUMALLOC_BUDGET", budget).run().success();
        assert_eq!(outcome.number("again"), 0, "{outcome}");
        assert_eq!(outcome.number("damaged"), 0, "{outcome}");
        assert!(outcome.number("deferred_inside") > 60 << 20, "{outcome}");
        outcome.below("ms", 10_000).below("deferred_after", 1 << 20);
    }
}

#[test]
fn expedite_storm() {
    // Two threads churn 1 GiB beside one that sleeps. It is parked: nobody is interrupted for it.
    let run = |_| Victim::new("lagging_reader").args(["sleeping", "implicit"]).run().success();
    // Long before the budget. The least of three: a churner that loses its processor lets more come in.
    let runs: Vec<_> = (0..3).map(run).collect();
    let least = runs.iter().map(|run| run.number("deferred_peak")).min().unwrap_or_default();
    assert!(least < 1 << 20, "{least} bytes waited\n{}", runs[0]);
    let implicit = runs.into_iter().next().expect("there are three");
    let periods = implicit.number("periods");
    implicit.below("membarriers", 10).below("parked", periods / 4);
    // A reader is never parked: one barrier for an eighth of the budget, not one for each magazine.
    let explicit = Victim::new("lagging_reader").args(["sleeping", "explicit"]).run().success();
    let allowed = (1 << 30) / (explicit.number("budget") / 8);
    explicit.below("membarriers", allowed).below("parked", allowed);
    // A reader in a section holds the period up, whoever asks: it is looked at again without a barrier.
    let inside = Victim::new("lagging_reader").args(["sleeping", "inside"]).run().success();
    assert!(inside.number("deferred_peak") > 100 << 20, "nothing was held\n{inside}");
    inside.below("membarriers", 10);
}

/// Main has used the heap and waits for a thread that takes and frees small blocks: no churner can be late
/// here.
#[test]
fn sleeping_waiter() {
    let outcome = Victim::new("sleeping_waiter").run().success();
    // Sixteen magazines of 12 KiB, and an eighth of the budget that is not yet in the account.
    assert!(outcome.number("budget") >= 2 << 20, "{outcome}");
    outcome.below("deferred_peak", 640 << 10);
}

/// Blocks that have waited come to where plain frees push, too, where only `rcumalloc_free` defers.
#[test]
fn frees_of_both_kinds() {
    for mode in ["api", "all", "strict", "all,except=1-1000"] {
        Victim::new("frees_of_both_kinds").env("RCUMALLOC_DEFER", mode).run().success().said(&[]);
    }
}

#[test]
fn excepted_sizes() {
    const SIZES: [u64; 8] = [16, 250, 300, 2000, 4096, 8000, 100_000, 2_000_000];
    let run = |defer: &str| {
        let victim = Victim::new("excepted").args(SIZES.map(|size| size.to_string()));
        victim.env("RCUMALLOC_DEFER", defer).run().success().said(&[])
    };
    // What is excepted, by what a block holds: 256 bytes for 250 asked for.
    let cases: [(&str, &[u64]); 4] = [
        ("all", &[]),
        ("all,except=4096+", &SIZES[4..]),
        ("all,except=1-256", &SIZES[..2]),
        ("strict,except=2K,4096-8K,1M+", &[2000, 4096, 8000, 2_000_000]),
    ];
    for (defer, excepted) in cases {
        let outcome = run(defer);
        for size in SIZES {
            let is_excepted = excepted.contains(&size);
            let again = |how: &str| outcome.number(&format!("{how}_{size}"));
            // A large block stays where it is as it shrinks.
            for (how, comes) in [("free", is_excepted), ("realloc", is_excepted && size < 10_000)] {
                // Others that are free may come before them.
                let holds = if comes { again(how) > 10 } else { again(how) == 0 };
                assert!(holds, "{defer}: {how} of {size}\n{outcome}");
            }
            assert_eq!(again("rcu"), 0, "{defer}: {size}: what is to wait is handed out\n{outcome}");
        }
        assert_eq!(outcome.number("deferred_after"), 0, "{outcome}");
    }
    let twice = Victim::new("excepted").arg("twice").env("RCUMALLOC_DEFER", "all,except=4096+").run();
    assert!(twice.ours().iter().any(|line| line.contains("double free of a block of 5632 bytes")), "{twice}");
}

#[test]
fn type_stable_identity() {
    let outcome = Victim::new("type_stable_identity").run().success();
    assert_eq!(outcome.number("wrong"), 0, "{outcome}");
    assert!(outcome.number("found") > 10_000, "{outcome}");
}

/// A program that forgets a section, or uses what one has found behind it, fails at once; one that keeps the
/// rules does not.
#[test]
fn stress_missing_lock() {
    let run = |how: &str, seed: &str, seconds: &str| {
        Victim::new("stress_missing_lock").args([how, seconds]).env("RCUMALLOC_STRESS", seed).run()
    };
    for how in ["missing", "late"] {
        for seed in ["1", "2"] {
            run(how, seed, "10").exited(1).below("failed_after_ms", 10_000);
        }
    }
    for seed in ["1", "2"] {
        let outcome = run("locked", seed, "2").success();
        assert!(outcome.number("versions") > 50 && outcome.number("looks") > 50, "{outcome}");
    }
    // Sections and frees by the million, of all sizes.
    let outcome = Victim::new("guarantee").env("RCUMALLOC_STRESS", "3").run().success();
    assert_eq!(outcome.number("violations"), 0, "{outcome}");
}

/// The same faults are not seen without it.
#[test]
fn stress_that_is_off() {
    std::thread::scope(|threads| {
        for how in ["missing", "late"] {
            threads.spawn(move || Victim::new("stress_missing_lock").args([how, "20"]).run().success());
        }
    });
}

/// Every call, mixed at random, in each mode.
#[test]
fn every_call_in_each_mode() {
    let defers = ["all", "api", "strict", "all,except=1-1000", "all,except=4096+"];
    let others = [
        ("RCUMALLOC_TRAP", "1/3"),
        ("RCUMALLOC_PROFILE", "4K"),
        ("RCUMALLOC_LEDGER", "1"),
        ("RCUMALLOC_STRESS", "1"),
        ("RCUMALLOC_BUDGET", "64K"),
        ("RCUMALLOC_LIMIT", "8M"),
        ("RCUMALLOC_DECAY_MS", "0"),
    ];
    let options = defers.map(|mode| ("RCUMALLOC_DEFER", mode)).into_iter().chain(others);
    for (seed, (name, value)) in (1..).zip(options) {
        for threads in ["0", "2"] {
            let victim = Victim::new("every_call").args(["0.4", threads, &format!("{seed}")]);
            victim.env(name, value).patience(60).run().success();
        }
    }
}
