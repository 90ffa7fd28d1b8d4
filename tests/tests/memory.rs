//! rows.txt, "Memory": a test a row, named as the row.

use rcumalloc_tests::machine::{Machine, meminfo_kib};
use rcumalloc_tests::{Outcome, Victim, build, command, rule, skipped};

const MIB: u64 = 1024; // in KiB
const GIB: u64 = 1024 * MIB;
const KIB: u64 = 1024; // in bytes
/// More address space than any victim needs, and far less than there is.
const SPACE: u64 = 4 << 30;

/// What `RCUMALLOC_DEFER` may say.
const MODES: [&str; 3] = ["all", "api", "strict"];

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

/// What is free near a limit is not the heap's alone.
#[test]
fn room_near_a_limit() {
    for (mode, beside) in MODES.iter().flat_map(|mode| [(mode, ""), (mode, "idle")]) {
        let victim = Victim::new("room_near_a_limit").args((!beside.is_empty()).then_some(beside));
        let outcome = victim.env("RCUMALLOC_DEFER", mode).run().success();
        assert!(outcome.number("filled_mib") >= 100, "{outcome}");
        assert_eq!(outcome.number("mapped"), 1, "{mode} {beside}\n{outcome}");
        if beside.is_empty() {
            // Of 10,000 pages.
            outcome.below("faults", 1000);
        }
    }
}

/// The kernel maps 64 KiB of a file around each page of code that is run: a stretch for what first calls run,
/// one for what a thread comes to, one for what several come to.
#[test]
fn code_lies_together() {
    for (threads, stretches) in [("0", 2), ("2", 3)] {
        // Something rare may come in between, but not each time.
        let run = |_| Victim::new("what_runs_together").arg(threads).run().success().number("code_kib");
        let least = (0..3).map(run).min().expect("runs");
        assert!((1..=stretches * 64).contains(&least), "{least} KiB of code with {threads} threads");
    }
}

/// Strict overcommit: what is charged is what the heap has, programs run, and memory that runs out does so
/// with ENOMEM. The limit is machine-wide, so it is left far above what everybody uses; running out is
/// tried with RLIMIT_DATA, which counts the same mappings for one process.
#[test]
fn overcommit_2() {
    let glibc = Victim::new("accounted").on_glibc().run().success().number("accounted_kib");
    Victim::new("accounted").run().success().below("accounted_kib", glibc + 8 * MIB);
    Victim::new("accounted").limit(libc::RLIMIT_DATA, 24 << 20).run().success();
    let mut machine = Machine::alone();
    let limit = meminfo_kib("Committed_AS") + meminfo_kib("MemTotal") + 16 * GIB;
    // Setting one of the two limits clears the other.
    let ratio = machine.remember("/proc/sys/vm/overcommit_ratio");
    let limited = ratio.and_then(|()| machine.set("/proc/sys/vm/overcommit_kbytes", &limit.to_string()));
    if let Err(why) = limited.and_then(|()| machine.set("/proc/sys/vm/overcommit_memory", "2")) {
        return skipped(&format!("in part: {why}"));
    }
    let strict = Victim::new("accounted").run().success();
    let script =
        "import threading; t = [threading.Thread(target=list, args=[range(99999)]) for _ in range(9)]
for x in t: x.start()
for x in t: x.join()
print(len(str([str(i) for i in range(300000)])))";
    let python = command(build::installed("python3")).args(["-S", "-c", script]);
    let python = python.env("PYTHONMALLOC", "malloc").run();
    let churn = Victim::new("thread_churn").arg("400").run();
    drop(machine);
    strict.below("accounted_kib", glibc + 8 * MIB);
    assert_eq!(python.success().text(), "2888890\n");
    churn.success().below("hwm_kib", 32 * MIB);
}

#[test]
fn map_count() {
    let outcome = Victim::new("map_count").run().success();
    if outcome.number("exhausted") == 0 {
        skipped("in part: vm.max_map_count is too large here to be used up");
    }
    outcome.below("rss_growth_kib", 8 * MIB).below("mappings_growth", 20);
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
    let never = Victim::new("thp_always").arg("never").run().success();
    assert_eq!(never.number("huge"), 0, "{never}");
    let never = never.number("rss_kib");
    let advised = Victim::new("thp_always").arg("advise").run().success();
    assert!(advised.number("advised") > 0, "{advised}");
    advised.below("rss_kib", never + 16 * MIB).below("rss_kib", 40 * MIB);
    let mut machine = Machine::alone();
    if let Err(why) = machine.set("/sys/kernel/mm/transparent_hugepage/enabled", "always") {
        return skipped(&format!("in part: {why}"));
    }
    let always = Victim::new("thp_always").arg("always").run().success();
    drop(machine);
    if always.number("huge") == 0 {
        return skipped("in part: this kernel has no huge page to give");
    }
    always.below("rss_kib", never + 16 * MIB).below("rss_kib", 40 * MIB);
}

/// 300 MiB are made and freed, and then nothing is called. What a solo process gives back it gives on the
/// way; so do threads, and what they hold ages when the watcher or somebody else comes by.
#[test]
fn idle_returns_memory() {
    let run = |how: &str, seconds: &str| {
        let outcome = Victim::new("idle_returns_memory").args([how, seconds]).run().success();
        assert!(outcome.number("peak_kib") > 300 * MIB, "{outcome}");
        outcome
    };
    run("solo", "1").below("idle_kib", 32 * MIB);
    run("large", "1").below("idle_kib", 20 * MIB);
    // By the watcher; what four sleepers have in their own magazines stays.
    run("threads", "9").below("idle_kib", 30 * MIB);
    let stirred = run("stirring", "6");
    let (at_once, idle) = (stirred.number("at_once_kib"), stirred.number("idle_kib"));
    assert!(idle < 25 * MIB && idle + 3 * MIB < at_once, "{stirred}");
    // Asked for not to.
    let victim = Victim::new("idle_returns_memory").args(["solo", "0"]).env("RCUMALLOC_DECAY_MS", "off");
    let kept = victim.run().success();
    assert!(kept.number("idle_kib") > 300 * MIB, "{kept}");
    for how in ["solo", "large", "threads"] {
        let pressed = Victim::new("idle_returns_memory").args([how, "0", "2"]).run().success();
        pressed.below("pressed_kib", 40 * MIB);
    }
}

#[test]
fn many_idle_threads() {
    let victim = || Victim::new("many_threads").arg("2000");
    let glibc = victim().on_glibc().run().success();
    let mut outcome = victim().run().success();
    for name in ["idle_kib", "idle_again_kib"] {
        outcome = outcome.below(name, glibc.number(name) * 3 / 2);
    }
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

/// The host says it has 128 processors, in every file that says so; the process may use one, and half of
/// its time if a control group can be made. Threads cost what they cost on a machine with one.
///
/// What waits when it is looked at is a matter of who ran when, five megabytes more or less: the
/// least of ten runs is compared.
#[test]
fn cpu_count() {
    const RUNS: usize = 10;
    let dir = build::scratch("cpu_count");
    let processors = 128;
    let lines = |line: &dyn Fn(usize) -> String| (0..processors).map(line).collect::<String>();
    let list = format!("0-{}\n", processors - 1);
    let cpuinfo = lines(&|n| format!("processor\t: {n}\nmodel name\t: large\n\n"));
    let stat = format!("cpu  1 1 1 1\n{}btime 1\n", lines(&|n| format!("cpu{n} 1 1 1 1\n")));
    let said = [
        ("/sys/devices/system/cpu/online", &list),
        ("/sys/devices/system/cpu/possible", &list),
        ("/sys/devices/system/cpu/present", &list),
        ("/proc/cpuinfo", &cpuinfo),
        ("/proc/stat", &stat),
    ];
    let mut script = String::from("set -e\n");
    for (number, (path, text)) in said.iter().enumerate() {
        let instead = dir.join(number.to_string());
        std::fs::write(&instead, text).expect("the scratch directory can be written");
        script += &format!("mount --bind {} {path}\n", instead.display());
    }
    script += "group=/sys/fs/cgroup/cpu/rcumalloc-$$\n\
        if mkdir $group 2>/dev/null; then trap 'echo $$ >$group/../tasks; rmdir $group' EXIT\n\
        echo 50000 >$group/cpu.cfs_quota_us; echo $$ >$group/tasks; fi\n\
        LD_PRELOAD=$0 taskset -c 0 $1";
    let victim = build::program("cpu_count");
    let large_host = || {
        let unshare =
            command(build::installed("unshare")).on_glibc().args(["--mount", "bash", "-c", &script]);
        unshare.arg(build::library()).arg(&victim).run()
    };
    let first = large_host();
    if !first.status.success() && String::from_utf8_lossy(&first.stderr).contains("ermi") {
        let _ = std::fs::remove_dir_all(dir);
        return skipped(&format!("no mount namespace to be had here\n{first}"));
    }
    let large: Vec<Outcome> = (0..RUNS).map(|_| large_host().success()).collect();
    let _ = std::fs::remove_dir_all(dir);
    let one_processor =
        || command(build::installed("taskset")).args(["-c", "0"]).arg(&victim).run().success();
    let small: Vec<Outcome> = (0..RUNS).map(|_| one_processor()).collect();
    for (large, small) in large.iter().zip(&small) {
        assert_eq!(large.number("processors"), processors as u64, "{large}");
        assert!(small.number("processors") < processors as u64, "{small}");
    }
    for (name, more) in [("rss_kib", 4 * MIB), ("mapped_kib", 4 * MIB), ("meta_bytes", 256 << 10)] {
        let least = |of: &[Outcome]| of.iter().map(|outcome| outcome.number(name)).min().unwrap_or(u64::MAX);
        let (large, small) = (least(&large), least(&small));
        assert!(large < small + more, "{name}: {large} on the large host, {small} on the small");
    }
}

#[test]
fn page_size() {
    for bytes in [16_384, 65_536] {
        let lie = format!("-DLIE={bytes}");
        let liar = build::compile(&format!("page_liar_{bytes}.so"), "page_liar", &[&lie]);
        let victim = Victim::new("preload_took_effect").preload(&[&liar, build::library()]);
        let outcome = victim.run().exited(127);
        assert_eq!(outcome.text(), "", "{outcome}");
        let line = format!(
            "rcumalloc: pages of {bytes} bytes are not supported, only of 4096; the program is not run"
        );
        outcome.said(&[&line]);
    }
    let honest = build::compile("page_liar_4096.so", "page_liar", &["-DLIE=4096"]);
    let victim = Victim::new("preload_took_effect").preload(&[&honest, build::library()]);
    assert_eq!(victim.run().success().text(), "present 1\n");
}

/// Alone and beside a thread that sleeps, with a limit on address space and without.
fn worlds(program: &'static str, mode: &'static str) -> impl Iterator<Item = Victim> {
    let places = ["solo", "idle"].into_iter().flat_map(|beside| [(beside, false), (beside, true)]);
    places.map(move |(beside, is_limited)| {
        let victim = Victim::new(program).arg(beside).env("RCUMALLOC_DEFER", mode);
        if is_limited { victim.limit(libc::RLIMIT_AS, SPACE) } else { victim }
    })
}

/// Of a block of 1 GiB, 8 MiB of which were used before, calloc writes 8 MiB at the most.
#[test]
fn calloc_partly_dirty() {
    for mode in MODES {
        for victim in worlds("calloc_partly_dirty", mode) {
            let outcome = victim.run().success();
            assert_eq!(outcome.number("not_zero"), 0, "{mode} {outcome}");
            outcome.below("growth_kib", 16 * MIB);
        }
    }
}

/// Counted, not timed: the bounds are those of `PURGE_PAGES`, `PURGE_CALLS` and `work::MOST_BLOCKS`, and one
/// magazine or batch.
#[test]
fn one_free_bounded() {
    for mode in MODES {
        for victim in worlds("one_free_bounded", mode) {
            let victim = victim.arg(mode);
            let outcome = victim.run().success();
            if mode != "strict" {
                assert!(outcome.number("purged_most") > 0 && outcome.number("blocks_most") > 0, "{outcome}");
                assert!(outcome.number("deferred_percent_of_budget") < 150, "{outcome}");
            }
            // A stretch may be a little longer than what was left to give.
            let outcome = outcome.below("purged_most", 5 * MIB * KIB).below("purges_most", 65);
            // One more group, and the magazine that completed it.
            outcome.below("blocks_most", 2048 + 2 * 512);
        }
        // What 600 threads have left, without a thread that has no bound.
        let victim = Victim::new("one_free_bounded").args(["threads", mode]).env("RCUMALLOC_DEFER", mode);
        let fast =
            [("RCUMALLOC_PRESSURE", "off"), ("RCUMALLOC_DECAY_MS", "200"), ("RCUMALLOC_GP_AGE_MS", "100")];
        let victim = fast.into_iter().fold(victim, |victim, (name, value)| victim.env(name, value));
        let outcome = victim.run().success();
        assert!(outcome.number("vacant") > 10 && outcome.number("still_vacant") == 0, "{mode} {outcome}");
        outcome.below("purged_most", 5 * MIB * KIB).below("blocks_most", 2048 + 2 * 512);
    }
}

#[test]
fn realloc_gives_back() {
    for mode in MODES {
        for victim in worlds("realloc_gives_back", mode) {
            let outcome = victim.run().success();
            assert_eq!((outcome.number("moved"), outcome.number("live_large")), (0, 0), "{mode} {outcome}");
            if mode != "api" {
                assert_eq!(outcome.number("lost_to_reader"), 0, "{mode} {outcome}");
            }
            outcome
                .below("rss_120_kib", 140 * MIB)
                .below("rss_80_kib", 100 * MIB)
                .below("rss_20_kib", 40 * MIB)
                .below("hwm_kib", 220 * MIB);
        }
    }
}

#[test]
fn advice_dies_with_block() {
    for mode in MODES {
        for beside in ["solo", "idle"] {
            let victim = Victim::new("advice_dies_with_block").arg(beside).env("RCUMALLOC_DEFER", mode);
            let outcome = victim.run().success();
            // Locks and merging may be more than this kernel has; the others every one has.
            assert!(outcome.number("tried") >= 72 && outcome.number("reowned") >= 36, "{outcome}");
            for figure in ["met", "hidden", "lost_to_reader", "bad_calls"] {
                assert_eq!(outcome.number(figure), 0, "{figure} {mode} {outcome}");
            }
            outcome.below("mappings_growth", 20);
        }
    }
}

/// Neither does what it maps over a block, or moves away from it.
#[test]
fn mapped_over() {
    for mode in MODES {
        for (kib, beside) in [("300", "solo"), ("300", "idle"), ("4096", "solo"), ("4096", "idle")] {
            for how in ["fixed", "moved"] {
                let victim = Victim::new("mapped_over").args([kib, how, beside]);
                let outcome = victim.env("RCUMALLOC_DEFER", mode).run().success().said(&[]);
                assert_eq!(
                    (outcome.number("not_zero"), outcome.number("in_file")),
                    (0, 0),
                    "{mode} {outcome}"
                );
            }
        }
    }
}

/// A program's sizes shift and a tenth of its blocks survives each shift: slabs of sizes that it has left
/// give their pages back, one by one.
#[test]
fn shifting_sizes() {
    // The kernel counts resident pages a processor at a time: the least of three is compared.
    let runs: Vec<_> = (0..3).map(|_| Victim::new("shifting_sizes").arg("1").run().success()).collect();
    let least = runs.iter().map(|run| run.number("hwm_kib")).min().unwrap_or_default();
    let live = runs[0].number("live_kib");
    assert!(least < live * 4 / 3, "{least} KiB with {live} live\n{}", runs[0]);
}

/// What comes back is not given away in between: a heap that does not grow has no use for it.
#[test]
fn sizes_that_come_back() {
    let outcome = Victim::new("sizes_that_come_back").run().success();
    outcome.below("faults_a_round", 1000);
}

#[test]
fn impossible_requests_scan_nothing() {
    let outcome = Victim::new("impossible_requests").run().success();
    assert_eq!((outcome.number("granted"), outcome.number("scans")), (0, 0), "{outcome}");
}

#[test]
fn large_blocks_are_kept_ready() {
    let solo = Victim::new("large_blocks").arg("solo").run().success();
    assert_eq!(solo.number("moved"), 0, "a solo process reuses at once\n{solo}");
    assert_eq!(solo.number("usable"), 200_704, "served by a block too large\n{solo}");
    assert_eq!(solo.number("misaligned"), 0, "{solo}");
    assert_eq!((solo.number("reused_by_calloc"), solo.number("not_zero")), (1, 0), "{solo}");
    assert!(solo.number("ready") >= 128 * KIB, "nothing is kept\n{solo}");
    solo.below("ready", 320 * KIB).below("ready_after_trim", 64 * KIB).below("live_large", 1);
    let threads = Victim::new("large_blocks").arg("threads").run().success();
    assert_eq!(threads.number("early"), 0, "{threads}");
    assert!(threads.number("late") > 0, "not given out again\n{threads}");
    assert!(threads.number("kept_by_idle_threads") >= 640 * KIB, "{threads}");
    threads
        .below("circulating", 1024 * KIB)
        .below("left_by_threads", 192 * KIB)
        .below("kept_after_trim", 384 * KIB)
        .below("live_large", 1);
}

/// The tables that describe the heap are beside the limit: a byte for each small block and 1/512; so are
/// stacks, and what the C library holds for eight threads.
#[test]
fn hard_limit() {
    const LIMIT_MIB: u64 = 64;
    let limit_kib = LIMIT_MIB * 1024;
    for mode in MODES {
        let victim = Victim::new("hard_limit").arg(LIMIT_MIB.to_string()).env("RCUMALLOC_DEFER", mode);
        let victim = victim.env("RCUMALLOC_BUDGET", "50%");
        let outcome = victim.env("RCUMALLOC_HARD_LIMIT", format!("{LIMIT_MIB}M")).run().success().said(&[]);
        assert!(outcome.text().ends_with("done\n"), "{outcome}");
        assert!(outcome.number("least_kib") >= limit_kib / 8 * 7, "too early\n{outcome}");
        outcome.below("grown_kib", limit_kib + limit_kib / 48 + 3 * 1024);
    }
}
