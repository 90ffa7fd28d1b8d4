//! The shrinker from outside: that it tells the truth, and that nothing breaks while it is at it.
//! `memory.rs` has the row of an idle process.

use rcumalloc_tests::Victim;

#[test]
fn what_was_given_is_gone() {
    let outcome = Victim::new("shrink_exact").env("RCUMALLOC_DECAY_MS", "off").run().success();
    outcome.below("rss_kib", 8 * 1024);
}

/// Seconds of each storm: `RCUMALLOC_STRESS_SECONDS`, or few.
fn seconds() -> u64 {
    let asked = std::env::var("RCUMALLOC_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(2)
}

fn storm() -> Victim {
    Victim::new("scan_stress").arg(seconds().to_string()).patience(60 + 2 * seconds())
}

#[test]
fn scans_in_a_loop() {
    let outcome = storm().run().success();
    assert!(outcome.number("scans") > 20, "{outcome}");
    assert!(outcome.number("suppressed") > 0, "{outcome}");
    assert!(outcome.number("given") > 1 << 20, "{outcome}");
    outcome.below("bad_calls", 1).below("rss_kib", 40 * 1024);
}

#[test]
fn scans_without_back_off_and_with_quick_decay() {
    let storm = storm().env("RCUMALLOC_BACKOFF_MS", "0").env("RCUMALLOC_DECAY_MS", "20");
    let outcome = storm.run().success();
    assert_eq!(outcome.number("suppressed"), 0, "{outcome}");
    outcome.below("bad_calls", 1).below("rss_kib", 40 * 1024);
}

#[test]
fn scans_whose_madvise_is_refused() {
    let outcome = storm().arg("refused").run().success();
    assert!(outcome.number("scans") > 20, "{outcome}");
    // Whole free units are unmapped, which is not refused: something may have been given, and nothing is
    // lost.
    outcome.below("bad_calls", 1);
}

#[test]
fn figures_of_scans_are_written() {
    let run = |how: &str| {
        let victim = Victim::new("idle_returns_memory").args(["solo", "0", "2"]).env("RCUMALLOC_STATS", how);
        let outcome = victim.run().success();
        String::from_utf8_lossy(&outcome.stderr).into_owned()
    };
    let text = run("exit");
    assert!(text.contains("\nrcumalloc: scans_pressure 1\n"), "{text}");
    assert!(text.contains("\nrcumalloc: scan at_ns=") && text.contains(" reason=pressure "), "{text}");
    let json = run("exit:json");
    assert!(json.contains("\n,\"scans\": {\"trim\": 0, \"api\": 0, \"pressure\": 1, "), "{json}");
    assert!(json.contains("\"reason\": \"pressure\", \"target\": 18446744073709551615, "), "{json}");
    assert!(json.trim_end().ends_with("]\n}"), "{json}");
}
