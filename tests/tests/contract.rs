//! The guarantees of docs/guarantees.md: explicit readers (G1), bad calls (G6), and malloc's own rules (G5).

use rcumalloc_tests::{Outcome, Victim, build, command, rule};
use std::path::Path;

/// A small budget, so that grace periods follow each other as fast as they can.
const HURRY: (&str, &str) = ("RCUMALLOC_BUDGET", "256K");

#[test]
fn readers_see_what_they_saw() {
    let run = |sections: &str, budget: &str| {
        let outcome = Victim::new("guarantee").args(["--sections", sections]).env(HURRY.0, budget).run();
        let outcome = outcome.success();
        assert_eq!(outcome.number("violations"), 0, "{outcome}");
        assert!(outcome.number("periods") > 20, "too few grace periods to prove anything\n{outcome}");
        outcome.number("sections")
    };
    let sections = run("1200000", HURRY.1) + run("900000", "1M");
    assert!(sections >= 1_000_000, "{sections} sections");
}

/// The test above can fail: with frees that ignore grace periods readers see other blocks' content.
#[test]
fn readers_notice_frees_that_do_not_wait() {
    let outcome = Victim::new("guarantee").args(["--sections", "300000", "--now"]).run();
    assert!(!outcome.status.success() && !outcome.timed_out, "{outcome}");
    if outcome.status.code() == Some(1) {
        assert!(outcome.number("violations") > 0, "{outcome}");
    }
}

/// Sections without a call, in one thread, in two, across a fork; one unlock too many is found there, too.
#[test]
fn reader_handle() {
    let outcome = Victim::new("reader_handle").run().success();
    assert!(outcome.number("periods") > 0, "{outcome}");
    let outcome = Victim::new("reader_handle").arg("unbalanced").run();
    let said = outcome.ours().join("\n");
    assert!(said.contains("read_unlock without an open read-side section"), "{outcome}");
}

fn bad_call(kind: &str) -> (Outcome, String) {
    let outcome = Victim::new("bad_calls").arg(kind).run();
    let address = outcome.word("address");
    (outcome, address)
}

/// As [`bad_call`], with RCUMALLOC_ON_ERROR=report: it is said, it has no effect, life goes on.
fn reported(kind: &str, line: impl Fn(&str) -> String) {
    let outcome = Victim::new("bad_calls").arg(kind).env("RCUMALLOC_ON_ERROR", "report").run().success();
    let address = outcome.word("address");
    assert!(outcome.text().contains("went on\n"), "{outcome}");
    if !kind.ends_with("then_exit") {
        assert_eq!(outcome.number("bad_calls"), 1, "{outcome}");
    }
    outcome.said(&[&line(&address)]);
}

/// The call is refused at once, with this line; `line` gets the address.
fn refused(kind: &str, line: impl Fn(&str) -> String) {
    let (outcome, address) = bad_call(kind);
    assert!(!outcome.text().contains("went on"), "not at once\n{outcome}");
    outcome.aborted_saying(&line(&address));
    reported(kind, line);
}

fn moved(address: &str, bytes: i64) -> String {
    let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).expect("an address");
    format!("{:#x}", address.wrapping_add_signed(bytes))
}

#[test]
fn double_free_of_the_block_freed_last() {
    for kind in ["double_directly", "double_directly_concurrent", "double_behind_a_pair"] {
        refused(kind, |address| {
            format!(
                "rcumalloc: free({address}): double free of a block of 64 bytes, found at once: it was the \
                 last \
                 of its size to be freed and not given out since"
            )
        });
    }
}

/// What a solo process's magazine cannot tell: the second pointer was given out again before any turn.
#[test]
fn double_free_given_out_again() {
    let (outcome, _) = bad_call("double_given_out_twice");
    let outcome = outcome.success();
    assert!(outcome.text().contains("went on") && outcome.ours().is_empty(), "{outcome}");
}

#[test]
fn double_free_of_a_small_block() {
    let line = |address: &str, bytes| {
        format!(
            "rcumalloc: free({address}): double free of a block of {bytes} bytes, found when its magazine \
             was turned: it was freed before and not given out since"
        )
    };
    let kinds = ["double_then_turn", "double_then_exit", "double_concurrent_then_turn"];
    let more = ["double_concurrent_then_exit", "double_in_two_threads", "double_given_out_twice_then_turn"];
    for kind in kinds.into_iter().chain(more) {
        let (outcome, address) = bad_call(kind);
        outcome.aborted_saying(&line(&address, 64));
        reported(kind, |address| line(address, 64));
    }
    let (outcome, address) = bad_call("double_long_after");
    outcome.aborted_saying(&line(&address, 208));
    reported("double_long_after", |address| line(address, 208));
}

#[test]
fn double_free_of_a_large_block() {
    for kind in ["double_large", "double_large_concurrent"] {
        refused(kind, |address| {
            format!("rcumalloc: free({address}): double free of a large block of 102400 bytes")
        });
    }
    // Too large to be kept ready: its pages have gone back to the zone.
    refused("double_huge", |address| format!("rcumalloc: free({address}): {FREE_PAGE}"));
}

const FREE_PAGE: &str = "not a block: the address is in a free page (freed before, or never given out)";

#[test]
fn use_after_free_of_a_large_block() {
    for kind in ["realloc_freed_large", "double_delete_by_realloc"] {
        refused(kind, |address| {
            format!("rcumalloc: realloc({address}): use after free of a large block of 102400 bytes")
        });
    }
}

#[test]
fn interior_pointers() {
    for (kind, call, bytes) in
        [("interior", "free", 16), ("interior_one", "free", 1), ("interior_realloc", "realloc", 16)]
    {
        refused(kind, |address| {
            let block = moved(address, -bytes);
            format!(
                "rcumalloc: {call}({address}): points {bytes} bytes into a block of 64 bytes in use at \
                 {block}"
            )
        });
    }
    refused("interior_usable", |address| {
        let block = moved(address, -16);
        format!(
            "rcumalloc: malloc_usable_size({address}): points 16 bytes into a block of 64 bytes in use at \
             {block}"
        )
    });
    refused("interior_large", |address| {
        let block = moved(address, -5000);
        format!("rcumalloc: free({address}): points 5000 bytes into a large block of 102400 bytes at {block}")
    });
    refused("interior_large_grown", |address| {
        let block = moved(address, -2_999_000);
        format!(
            "rcumalloc: free({address}): points 2999000 bytes into a large block of 3002368 bytes at {block}"
        )
    });
}

#[test]
fn wild_pointers() {
    refused("wild_in_window", |address| {
        format!(
            "rcumalloc: free({address}): not a pointer of this heap (stack, static or mapped memory, or \
             another malloc's block, as with RTLD_DEEPBIND)"
        )
    });
    // The start of a block that was never given out cannot be told from a block in use by the address:
    // it is found when its magazine is turned.
    let (outcome, address) = bad_call("never_given");
    let line = outcome.ours().concat();
    let start = format!("rcumalloc: free({address}): ");
    assert!(line.starts_with(&start) && line.contains("a block of 112 bytes"), "{outcome}");
    // Where it was found may be added.
    outcome.aborted_saying(line.split(" [").next().unwrap_or(&line));
}

#[test]
fn wrong_sizes() {
    let line = |call: &str, what: &str| format!("rcumalloc: {call}: wrong size or alignment: {what}");
    refused("sized_wrong", |address| {
        line(&format!("free_sized({address}, 200)"), "a block of 112 bytes in use")
    });
    refused("sized_wrong_large", |address| {
        line(&format!("free_sized({address}, 100001)"), "a large block of 102400 bytes")
    });
    refused("aligned_sized_wrong", |address| {
        line(&format!("free_aligned_sized({address}, 64, 256)"), "a block of 128 bytes in use")
    });
    refused("aligned_sized_bad_align", |address| {
        line(&format!("free_aligned_sized({address}, 48, 128)"), "a block of 128 bytes in use")
    });
    let outcome = Victim::new("bad_calls").arg("sized_right").run().success().said(&[]);
    assert_eq!(outcome.number("bad_calls"), 0);
}

#[test]
fn waiting_inside_a_section_ends_the_process() {
    for kind in ["synchronize_in_section", "barrier_in_section", "cond_synchronize_in_section"] {
        let outcome = Victim::new("bad_calls").arg(kind).run();
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        let what = "waiting for a grace period inside a read-side section of the same thread";
        assert!(!outcome.status.success() && !outcome.timed_out, "{outcome}");
        assert!(said.lines().count() == 1 && said.contains(what), "{outcome}");
    }
    let outcome = Victim::new("bad_calls").arg("unlock").run();
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(said.contains("read_unlock without an open read-side section"), "{outcome}");
}

#[test]
fn zero_sizes() {
    rule("zero");
}

#[test]
fn calloc() {
    rule("calloc");
}

#[test]
fn introspection() {
    rule("info");
}

#[test]
fn cpp_operators() {
    Victim::new("operators").run().success();
    for case in ["right", "failure"] {
        operators(&build::program("operators_cases"), case);
    }
    // In a plug-in of a program that has no C++.
    let host = |victim: Victim| victim.arg(build::program("operators_plugin")).run().success().said(&[]);
    assert_eq!(host(Victim::new("operators_host").on_glibc()).text(), "done\n");
    assert_eq!(host(Victim::new("operators_host")).text(), "done\n");
}

/// Where nobody can throw, the forms that do not are right still.
#[test]
fn cpp_operators_alone() {
    for mode in ["all", "api", "strict"] {
        let victim = |case| Victim::new("operators_alone").arg(case).env("RCUMALLOC_DEFER", mode);
        let nothrow = victim("nothrow").env("RCUMALLOC_HARD_LIMIT", "32M").run().success().said(&[]);
        assert!(nothrow.number("failed") >= 4, "the limit was not met\n{nothrow}");
        let line = "rcumalloc: operator new: no memory, and no C++ runtime was found that could say so";
        victim("plain").run().aborted_saying(line);
    }
}

/// A case that works without the library, and with it in every mode.
fn operators(program: &Path, case: &str) {
    command(program).on_glibc().arg(case).run().success();
    for mode in ["all", "api", "strict"] {
        let outcome = command(program).arg(case).env("RCUMALLOC_DEFER", mode).run().success().said(&[]);
        assert_eq!(outcome.text(), "done\n", "{outcome}");
    }
}

#[test]
fn cpp_operators_that_are_replaced() {
    let flags = ["-DREPLACED", "-Wno-sized-deallocation"];
    let replaced = build::compile("operators_replaced", "operators_cases", &flags);
    for case in ["right", "failure", "replaced"] {
        operators(&replaced, case);
    }
    let larger = build::compile("operators_larger", "operators_cases", &["-DREPLACED_NEW"]);
    operators(&larger, "larger");
}

#[test]
fn cpp_sizes() {
    let refused = |case: &str, call: &dyn Fn(&str) -> String, what: &str| {
        let line = |outcome: &Outcome| {
            let call = call(&outcome.word("address"));
            format!("rcumalloc: operator {call}: wrong size or alignment: {what}")
        };
        let outcome = Victim::new("operators_cases").arg(case).run();
        let said = line(&outcome);
        outcome.aborted_saying(&said);
        let reported = Victim::new("operators_cases").arg(case).env("RCUMALLOC_ON_ERROR", "report");
        let outcome = reported.run().success();
        let said = line(&outcome);
        outcome.said(&[&said]);
    };
    refused("wrong_size", &|address| format!("delete({address}, 200)"), "a block of 112 bytes in use");
    refused("wrong_size_array", &|address| format!("delete[]({address}, 24)"), "a block of 112 bytes in use");
    let large = "a large block of 102400 bytes";
    refused("wrong_size_large", &|address| format!("delete({address}, 100001)"), large);
    let aligned = "a block of 128 bytes in use";
    refused("wrong_size_aligned", &|address| format!("delete({address}, 64, 1000)"), aligned);
    refused("wrong_align", &|address| format!("delete({address}, 512)"), "a block of 256 bytes in use");
}
