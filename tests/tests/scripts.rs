//! The scripts that judge can find fault: `cargo xtask programs` notices a preload that meddles, the soak's
//! verdict memory that grows.

use rcumalloc_tests::{Outcome, build, command};

/// The matrix, of one quick program, with this file in the place of the library.
fn matrix(library: &std::path::Path) -> Outcome {
    let programs = command(build::root().join("xtask/scripts/programs")).on_glibc();
    let programs = programs.args(["--no-setup", "--only", "perl", "--mode", "all", "--library"]).arg(library);
    programs.env("CARGO_TARGET_DIR", build::made().join("matrix")).patience(600).run()
}

#[test]
fn the_matrix_notices_who_meddles() {
    for (how, noticed) in [
        ("stdout", "differs: stdout of"),
        ("stderr", "differs: stderr of"),
        ("status", "exit status 7"),
        ("crash", "died of SIGABRT"),
    ] {
        let flag = format!("-DMEDDLE=\"{how}\"");
        let meddler = build::compile(&format!("meddler_{how}.so"), "meddler", &[&flag]);
        let outcome = matrix(&meddler).exited(1);
        assert!(String::from_utf8_lossy(&outcome.stderr).contains(noticed), "{noticed}\n{outcome}");
    }
    // Who does nothing is found innocent, but was not seen to be the library.
    let innocent = build::compile("meddler_none.so", "meddler", &["-DMEDDLE=\"no\""]);
    let outcome = matrix(&innocent).success();
    assert!(outcome.text().contains("(no figures)"), "{outcome}");
    assert!(!matrix(build::library()).success().text().contains("(no figures)"));
}

#[test]
fn the_soak_notices_memory_that_grows() {
    // Seconds, RSS KiB, deferred, budget, live, periods, age ms, bad calls.
    let judge = |row: &str| -> Outcome {
        let script = format!(
            "import sys; sys.path.insert(0, 'tests'); from soak import verdict\n\
             rows = [{row} for t in range(300)]\n\
             print(verdict.judge({{'a': rows}})[0]['problems'])"
        );
        command(build::installed("python3")).on_glibc().args(["-B", "-c", &script]).dir(build::root()).run()
    };
    let good = judge("(t, 50000 + t % 7 * 100, 1 << 20, 2 << 20, 0, t, 9, 0)").success();
    assert_eq!(good.text(), "[]\n");
    for (row, noticed) in [
        ("(t, 50000 + t * 100, 1 << 20, 2 << 20, 0, t, 9, 0)", "RSS grew by"),
        ("(t, 50000, 9 << 20, 2 << 20, 0, t, 9, 0)", "deferred bytes: median"),
        ("(t, 50000, (t == 290) * 4 << 20, 2 << 20, 0, t, 20_000, 0)", "a grace period took"),
        ("(t, 50000, 0, 2 << 20, 0, t, 0, t // 200)", "bad calls"),
        ("(t, 50000, 0, 2 << 20, 0, 7, 0, 0)", "no grace period"),
    ] {
        let outcome = judge(row).success();
        assert!(outcome.text().contains(noticed), "{noticed}\n{outcome}");
    }
}
