//! hazards.md, "Memory": a test a row, named as the row.
//!
//! Not here: `idle_returns_memory` comes with the shrinker (until then a process that is idle after a
//! peak keeps up to `DIRTY_HIGH`); `cpu_count` (nothing is sized by processors: caches are per thread), `page_size` (this
//! kernel has one size; the unit test of `os::limits` reads it).

use rcumalloc_tests::{Victim, build, command};

const MIB: u64 = 1024; // in KiB

#[test]
fn rlimit_as() {
    for mib in [64_u64, 100, 256, 1024] {
        let outcome = Victim::new("rlimit_as").limit(libc::RLIMIT_AS, mib << 20).run().success();
        // What a limit allows is there to be used: a third of it at the least, each time again.
        for (round, size) in [40, 5000, 100_000, 40, 5000, 100_000].iter().enumerate() {
            let got = outcome.number(&format!("got_{size}_{round}"));
            assert!(got >= (mib / 3).min(30), "{got} MiB of {size} bytes under {mib} MiB\n{outcome}");
        }
    }
    let script = "x = [str(i) for i in range(100000)]; print(sum(map(len, x)))";
    let python = command(build::installed("python3")).args(["-S", "-c", script]);
    let outcome = python.env("PYTHONMALLOC", "malloc").limit(libc::RLIMIT_AS, 64 << 20).run().success();
    assert_eq!(outcome.text(), "488890\n");
}

/// Setting vm.overcommit_memory=2 would hit every program of the machine: instead, what the kernel
/// would count under it is counted, and RLIMIT_DATA, which counts the same mappings, is set.
#[test]
fn overcommit_2() {
    let glibc = Victim::new("accounted").on_glibc().run().success().number("accounted_kib");
    Victim::new("accounted").run().success().below("accounted_kib", glibc + 8 * MIB);
    Victim::new("accounted").limit(libc::RLIMIT_DATA, 24 << 20).run().success();
}

#[test]
fn map_count() {
    let outcome = Victim::new("map_count").run().success();
    if outcome.number("exhausted") == 0 {
        eprintln!("vm.max_map_count is too large here to be used up: only the heap's part was tested");
    }
    outcome.below("rss_growth_kib", 8 * MIB);
}

#[test]
fn enomem_everywhere() {
    for how in ["data", "as", "calls"] {
        let victim = Victim::new("enomem").arg(how);
        let victim = if how == "as" { victim.limit(libc::RLIMIT_AS, 4 << 30) } else { victim };
        let outcome = victim.run().success();
        assert!(outcome.number("failures") > 0, "memory never ran out\n{outcome}");
        assert_eq!(outcome.number("bad_calls"), 0, "{outcome}");
        if how != "calls" {
            assert_eq!(outcome.number("failures_afterwards"), 0, "{outcome}");
        }
    }
}

#[test]
fn thp_always() {
    let plain = Victim::new("thp_always").arg("plain").run().success().number("rss_kib");
    let outcome = Victim::new("thp_always").arg("advise").run().success();
    assert!(outcome.number("advised") > 0, "{outcome}");
    outcome.below("rss_kib", plain + 16 * MIB).below("rss_kib", 40 * MIB);
}

#[test]
fn close_all_fds() {
    let dir = build::scratch("close_all_fds");
    let run = |victim: Victim| victim.arg(dir.join("file")).run().success();
    let glibc = run(Victim::new("close_all_fds").on_glibc());
    let ours = run(Victim::new("close_all_fds"));
    assert_eq!(ours.text(), glibc.text(), "{ours}\n{glibc}");
    assert!(ours.text().ends_with("status 0\nwritten 0\n"), "{ours}");
}

/// A rule that glibc keeps, and we do; `tests/contract.rs` has them all.
fn rule(name: &str) {
    Victim::new("libc_rules").arg(name).run().success();
}

#[test]
fn errno_kept() {
    rule("errno");
}

#[test]
fn usable_size_honest() {
    rule("usable");
}

#[test]
fn alignment() {
    rule("alignment");
    rule("realloc");
}
