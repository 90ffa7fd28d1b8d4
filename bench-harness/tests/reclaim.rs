//! The reclamation experiments as their users meet them: every scheme is right and frees all it was given,
//! what is wrong is found, the kernel's lines have the kernel's fields, torture sees nothing in a whole
//! engine and something in each broken one.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// librcumalloc.so: RCUMALLOC_TEST_LIBRARY, or built by the first test that asks.
fn library() -> &'static str {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    LIBRARY.get_or_init(|| match std::env::var("RCUMALLOC_TEST_LIBRARY") {
        Ok(path) => path,
        Err(_) => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/build");
            let output = Command::new(script).output().expect("scripts/build starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).trim().into()
        }
    })
}

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcumalloc-bench"));
    command.args(arguments).output().expect("the harness starts")
}

/// What it printed, if its exit status is this one.
fn said(arguments: &[&str], status: i32) -> String {
    let output = bench(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}{complaint}");
    text
}

/// Its results as JSON, of a run that is good.
fn results(arguments: &[&str]) -> Value {
    let line = [arguments, &["--json", "-"]].concat();
    let envelope: Value = serde_json::from_str(&said(&line, 0)).expect("JSON");
    envelope["results"].clone()
}

fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace().filter_map(|word| word.trim_end_matches(',').parse().ok()).collect()
}

// ---- schemes ----

/// Sums, canaries, and every node that was taken out disposed of once; see `smr/check.rs`.
#[test]
fn every_scheme_is_right_and_frees_all_it_was_given() {
    let line = ["smr", "--check", "--rounds", "2", "--allocators", "glibc", "--library", library()];
    let text = said(&line, 0);
    for scheme in ["ours", "engine/glibc", "crossbeam/glibc", "seize/glibc", "haphazard/glibc", "leak/glibc"]
    {
        assert!(text.contains(scheme), "{scheme} is missing: {text}");
    }
    for flavor in ["qsbr", "memb", "bp"] {
        for kind in ["call", "defer"] {
            assert!(text.contains(&format!("urcu-{flavor}-{kind}")), "neither run nor reported: {text}");
        }
    }
    assert!(text.contains("right") && !text.contains("WRONG"), "{text}");
}

/// The check can fail: with readers about, freeing at once is wrong.
#[test]
fn freeing_under_readers_is_found() {
    let line = ["smr", "--check", "--schemes", "now", "--rounds", "2", "--allocators", "glibc"];
    let text = said(&[&line[..], &["--library", library()]].concat(), 1);
    assert!(text.contains("reads of nodes that were disposed of"), "{text}");
}

#[test]
fn an_unknown_scheme_is_one_line() {
    for experiment in ["rcuscale", "refscale", "smr"] {
        let output = bench(&[experiment, "--schemes", "nosuch"]);
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.starts_with("rcumalloc-bench: no scheme 'nosuch'; there are ours,"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn without_the_library_ours_is_reported_as_missing() {
    let line = ["rcuscale", "--quick", "--schemes", "ours,engine", "--allocators", "glibc"];
    let text = said(&[&line[..], &["--library", "/no/librcumalloc.so"]].concat(), 0);
    assert!(
        text.contains("missing: rcumalloc: no /no/librcumalloc.so; get it with: scripts/build"),
        "{text}"
    );
    assert!(text.contains("engine/glibc: Total time taken by all kfree'ers:"), "{text}");
}

// ---- the kernel's lines ----

#[test]
fn rcuscale_prints_the_kernels_line_and_measures_every_part() {
    let line = ["rcuscale", "--quick", "--threads", "2", "--allocators", "glibc", "--library", library()];
    let text = said(&line, 0);
    let ours = text.lines().find(|line| line.starts_with("ours: Total")).expect("a line for ours");
    let (head, rest) = ours.split_once(" ns, loops: ").expect("total time");
    assert!(head.starts_with("ours: Total time taken by all kfree'ers: "), "{ours}");
    let (loops, rest) = rest.split_once(", batches: ").expect("loops");
    let (batches, footprint) = rest.split_once(", memory footprint: ").expect("batches");
    assert_eq!(loops, "10", "the kernel's default");
    assert!(batches.parse::<u64>().is_ok() && footprint.ends_with("MB"), "{ours}");

    for side in results(&line).as_array().expect("sides") {
        let round = &side["rounds"][0];
        let figure = |name: &str| round[name].as_f64().unwrap_or_else(|| panic!("{name}: {side}"));
        assert!(figure("total_ns") > 0.0 && figure("drain_ns") > 0.0 && figure("mblocks_s") > 0.0, "{side}");
        assert!(figure("rss_peak_kib") >= figure("rss_start_kib"), "{side}");
        if !["now/glibc", "now/rcumalloc-api", "leak/glibc"].contains(&side["side"].as_str().unwrap_or("")) {
            // A quick round may be over before any thread posts what it has deferred.
            let rounds = side["rounds"].as_array().expect("rounds");
            assert!(rounds.iter().any(|round| round["deferred_peak_bytes"].as_f64() > Some(0.0)), "{side}");
            assert!(round["ages"]["count"].as_u64() > Some(0), "{side}");
        }
    }
}

#[test]
fn refscale_has_thirty_runs_of_every_section() {
    let line = ["refscale", "--quick", "--runs-too", "--loops", "500", "--library", library()];
    let text = said(&line, 0);
    assert!(text.contains("Runs\tTime(ns)\n1\t") && text.contains("\n30\t"), "{text}");
    let results = results(&line);
    for side in results["schemes"].as_array().expect("schemes") {
        for section in ["pair", "read", "typesafe", "retire"] {
            assert_eq!(side["rounds"][0][section].as_array().map(Vec::len), Some(30), "{side}");
        }
    }
    assert_eq!(results["without"].as_array().map(Vec::len), Some(3), "{results}");
}

#[test]
fn smr_measures_throughput_latency_and_memory() {
    let arguments = ["smr", "--threads", "2", "--updates", "50", "--seconds", "0.05", "--rounds", "1"];
    let sides = ["--schemes", "ours,crossbeam", "--allocators", "glibc", "--library", library()];
    let results = results(&[&arguments[..], &sides[..]].concat());
    let sides = results[0]["sides"].as_array().expect("sides");
    assert_eq!(sides.len(), 2, "{results}");
    for side in sides {
        let figure =
            |name: &str| side["rounds"][0][name].as_f64().unwrap_or_else(|| panic!("{name}: {side}"));
        assert!(figure("mops") > 0.0 && figure("p999_ns") >= figure("p50_ns"), "{side}");
        assert!(figure("clock_ns") > 0.0 && figure("rss_peak_kib") > 0.0, "{side}");
    }
}

// ---- torture ----

fn assert_whole(text: &str) {
    let line = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix("rcu-torture: ")?.strip_prefix(name));
        numbers(found.unwrap_or_else(|| panic!("no {name} in {text}")))
    };
    let pipe = line("Reader Pipe:");
    assert_eq!(pipe.len(), 11, "{text}");
    assert!(pipe[0] > 1000 && pipe[2..].iter().all(|&count| count == 0), "{text}");
    assert!(line("Reader Batch:").iter().sum::<u64>() > 0, "{text}");
    let circulation = line("Free-Block Circulation:");
    assert!(circulation[0] >= circulation[10] && circulation[10] > 0, "{text}");
    assert!(text.contains("Callback flood: duration"), "{text}");
    assert!(text.contains("Callback-invocation histogram"), "{text}");
    assert!(text.contains("End of test: SUCCESS"), "{text}");
}

#[test]
fn two_seconds_of_torture_find_nothing() {
    assert_whole(&said(&["torture", "--seconds", "2"], 0));
}

#[test]
fn nor_do_two_seconds_through_the_preloaded_library() {
    let text = said(&["torture", "--preload", "--seconds", "2", "--library", library()], 0);
    assert_whole(&text);
    let blocks = text.lines().find(|line| line.contains("freed blocks:")).expect("a line");
    assert!(!blocks.contains("freed blocks: 0 "), "{blocks}");
}

fn assert_found(defence: &str) {
    let text = said(&["torture", "--break", defence, "--seconds", "40"], 1);
    assert!(text.contains("End of test: FAILURE"), "{text}");
}

#[test]
fn a_cookie_that_elapses_too_early_is_found() {
    assert_found("cookie");
}

#[test]
fn sections_that_are_not_waited_for_are_found() {
    assert_found("section");
}

#[test]
fn a_barrier_that_is_left_out_is_found() {
    assert_found("fence");
}
