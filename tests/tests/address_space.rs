//! rows.txt, "Address space": a test a row, named as the row. What the heap maps, where, and what of it goes
//! back.

use rcumalloc_tests::{Outcome, Victim, build, command, skipped};
use std::path::Path;

const MIB: u64 = 1024; // in KiB

/// Runs the victim in each mode, alone and beside an idle thread. Beside one every thread is waited for in
/// `strict`, however long it sleeps, but where memory is asked for or out.
fn each(victim: &str, args: &[&str], look: impl Fn(Outcome)) {
    for mode in ["all", "api", "strict"] {
        for beside in [None, Some("thread")] {
            let victim = Victim::new(victim).args(args).args(beside).env("RCUMALLOC_DEFER", mode);
            look(victim.run().success());
        }
    }
}

#[test]
fn nothing_reserved() {
    let glibc = Victim::new("nothing_reserved").on_glibc().run().success().number("space_kib");
    Victim::new("nothing_reserved").run().success().below("space_kib", glibc + 2 * MIB);
}

#[test]
fn limit_set_later() {
    for how in ["self", "outside", "worker"] {
        for what in ["as", "data"] {
            each("limit_set_later", &[how, what], |outcome| {
                // Of 96 MiB: 64 in each size, each time again. Threads' stacks and tables of the heap count,
                // too.
                for figure in ["large_0", "small_0", "large_1", "small_1"] {
                    assert!(outcome.number(figure) >= 64, "{figure}: {how}, {what}\n{outcome}");
                }
            });
        }
    }
    let script = "
import resource, threading
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
thread = threading.Thread(target=print, args=['thread'])
thread.start(); thread.join()
import decimal, ctypes
try: bytearray(3 << 30)
except MemoryError: print('refused')";
    let python = command(build::installed("python3")).args(["-c", script]);
    let outcome = python.env("PYTHONMALLOC", "malloc").run().success();
    assert_eq!(outcome.text(), "thread\nrefused\n");
}

#[test]
fn memlock_small() {
    for mode in ["all", "api", "strict"] {
        for beside in [None, Some("thread")] {
            let victim = Victim::new("memlock_small").args(beside).env("RCUMALLOC_DEFER", mode);
            let outcome = victim.limit(libc::RLIMIT_MEMLOCK, 8 << 20).run().success();
            assert!((2 * MIB..8 * MIB).contains(&outcome.number("locked_kib")), "{outcome}");
        }
    }
}

/// A debugger's core holds what is in use. A kernel's leaves out, beside, what has no memory.
#[test]
fn core_small() {
    if !Path::new("/usr/bin/gdb").exists() {
        return skipped("there is no gdb: run scripts/setup");
    }
    let dir = build::scratch("core_small");
    let core_kib = |library: Option<&Path>, mib: &str| {
        let core = dir.join("core");
        let gdb =
            command("/usr/bin/gdb").on_glibc().args(["-nx", "-batch", "-ex", "set startup-with-shell off"]);
        let preload = library.map(|path| format!("set environment LD_PRELOAD={}", path.display()));
        let gdb = preload.into_iter().fold(gdb, |gdb, preload| gdb.args(["-ex", &preload]));
        let gdb = gdb.args(["-ex", "break halt", "-ex", "run", "-ex", &format!("gcore {}", core.display())]);
        let outcome = gdb.arg("--args").arg(build::program("core_small")).arg(mib).run();
        if String::from_utf8_lossy(&outcome.stderr).contains("ptrace: Operation not permitted") {
            return None;
        }
        let bytes =
            std::fs::metadata(&core).unwrap_or_else(|error| panic!("no core: {error}\n{outcome}")).len();
        Some(bytes / 1024)
    };
    let cores = core_kib(None, "0").and_then(|glibc| {
        let ours = |mib| core_kib(Some(build::library()), mib);
        Some((glibc, ours("0")?, ours("200")?))
    });
    let _ = std::fs::remove_dir_all(&dir);
    let Some((glibc, small, grown)) = cores else {
        return skipped("this machine lets nobody debug");
    };
    assert!(small < glibc + 4 * MIB, "{small} KiB, under glibc {glibc}");
    assert!(grown < small + 22 * MIB, "{grown} KiB after 400 MiB had come and gone, {small} without");
}

#[test]
fn commit_returns() {
    each("commit_returns", &[], |outcome| {
        for size in 0..3 {
            // Tables stay: a 512th for what pages are, a 32nd or so for the marks of small blocks.
            for (figure, most) in [("kept", 112), ("data", 64), ("space", 64)] {
                let figure = outcome.number(&format!("{figure}_{size}"));
                assert!(figure < most * MIB, "{figure} KiB, at most {most} MiB\n{outcome}");
            }
            let mappings = outcome.number(&format!("mappings_{size}"));
            assert!(mappings < 40, "{outcome}");
        }
        outcome.below("aged", 64 * MIB + 1);
    });
}

/// Very large blocks lie outside of the window, each in a mapping of its own.
#[test]
fn own_mappings() {
    each("ranges", &["life"], |outcome| {
        assert_eq!(outcome.number("moved"), 0, "each grows where it is\n{outcome}");
        assert!(outcome.number("shrunk_kib") >= 120 * MIB, "the tail was kept\n{outcome}");
        outcome.below("calloc_kib", 4 * MIB).below("data_kib", 8 * MIB).below("after_many_kib", 8 * MIB);
    });
    for case in ["changed", "fork"] {
        each("ranges", &[case], |_| {});
    }
    for mode in ["all", "strict"] {
        Victim::new("ranges").arg("readers").env("RCUMALLOC_DEFER", mode).run().success();
    }
    Victim::new("ranges").arg("torture").run().success();
}

/// Calls with such a block that are wrong, each refused with what is known of the address.
#[test]
fn own_mapping_misused() {
    for mode in ["all", "api", "strict"] {
        let victim = Victim::new("ranges").arg("bad").env("RCUMALLOC_DEFER", mode);
        let outcome = victim.env("RCUMALLOC_ON_ERROR", "report").run().success();
        let said = outcome.ours();
        assert_eq!(said.len(), 5, "{outcome}");
        let says = |at: usize, what: &str| assert!(said[at].contains(what), "{at}: {what}\n{outcome}");
        (0..3).for_each(|at| says(at, "bytes into a large block of 67108864 bytes"));
        (3..5).for_each(|at| says(at, "free"));
    }
}

/// Whoever listens for memory that goes is told of all of it, with no lock of the heap held, so that it may
/// use the heap itself: a library in front of or behind ours, and a jump in libc's own code.
#[test]
fn listeners_are_told() {
    let listener = build::program("listener");
    for order in [[listener.as_path(), build::library()], [build::library(), listener.as_path()]] {
        let is_first = order[0] == listener;
        for mode in ["all", "api", "strict"].into_iter().take(if is_first { 3 } else { 1 }) {
            for beside in [None, Some("thread")] {
                let victim = Victim::new("listening").preload(&order).env("RCUMALLOC_DEFER", mode);
                let outcome = victim.arg("library").args(beside).run().success();
                assert!(outcome.number("unmapped_mib") >= 300, "{outcome}");
                assert!(outcome.number("advised_kib") >= 300, "{outcome}");
            }
        }
        Victim::new("listening").preload(&order).arg("lock").run().success();
        for (mode, beside) in [("all", None), ("strict", Some("thread"))] {
            let limited = Victim::new("listening").preload(&order).env("RCUMALLOC_HARD_LIMIT", "128M");
            limited.env("RCUMALLOC_DEFER", mode).arg("limit").args(beside).run().success();
        }
    }
    each("listening", &["patched"], |_| {});
}

#[test]
fn mapping_in_the_way() {
    for mode in ["all", "api", "strict"] {
        let victim = Victim::new("mapping_in_the_way").env("RCUMALLOC_DEFER", mode);
        victim.env("RCUMALLOC_ON_ERROR", "report").run().success();
    }
}
