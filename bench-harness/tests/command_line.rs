//! The program as its users meet it: one line for what cannot be done, useful exit statuses, JSON that is
//! JSON, every workload under glibc and under the library, and a real program recorded and replayed.

use std::path::Path;

use serde_json::Value;

mod common;
use common::{Scratch, bench, library, out, refusal};

#[test]
fn what_cannot_be_done_is_one_line() {
    let scratch = Scratch::new("refusals");
    let (junk, absent) = (scratch.file("junk"), scratch.file("absent"));
    std::fs::write(&junk, "#!/bin/sh\n: not a trace\n").expect("a file");
    assert_eq!(
        refusal(&["compare", "--with", "glibc", "--", "nosuchprogram"]),
        "cannot run nosuchprogram: No such file or directory (os error 2)"
    );
    assert!(
        refusal(&["compare"]).contains("required arguments were not provided: <PROGRAM>..."),
        "no program"
    );
    assert!(refusal(&["stats"]).contains("were not provided: <PID>"), "no process");
    assert!(
        refusal(&["compare", "--with", "nosuch", "--", "true"])
            .starts_with("no allocator 'nosuch'; there are")
    );
    assert!(
        refusal(&["workload", "nosuch", "--with", "glibc"])
            .starts_with("no workload 'nosuch'; there are all,")
    );
    assert_eq!(
        refusal(&["workload", "replay", "--with", "glibc"]),
        "replay needs --trace FILE; `trace -- PROGRAM` makes one"
    );
    assert_eq!(
        refusal(&["workload", "replay", "--with", "glibc", "--trace", &junk]),
        format!("unreadable trace {junk}: it is no trace of rcumalloc-bench trace")
    );
    assert!(refusal(&["workload", "replay", "--with", "glibc", "--trace", &absent]).contains("No such file"));
    assert!(refusal(&["workload", "all", "--with", "glibc", "--trace", &absent]).contains("No such file"));
    assert_eq!(
        refusal(&["workload", "fifo", "--with", "glibc", "--trace", &junk]),
        "--trace is for replay and all, not for fifo"
    );
    assert!(refusal(&["workload", "fifo", "--sizes", "9-3"]).contains("LEAST-GREATEST"));
    assert!(refusal(&["workload", "fifo", "--seconds", "0"]).contains("--seconds"));
    assert!(refusal(&["workload", "list", "--json", "/no/such/directory/x"]).starts_with("cannot write"));
    assert!(refusal(&["setup", "nosuch"]).starts_with("no allocator 'nosuch'"));
    assert!(refusal(&["nosuch"]).contains("nosuch"));
    assert!(refusal(&["report", "--only", "nosuch"]).starts_with("the parts of a report are self-test,"));
}

#[test]
fn a_missing_peer_is_named_and_the_others_run() {
    let absent = ["tight-pair", "--with", "glibc,x=/no/such/peer.so", "--rounds", "1", "--seconds", "0.02"];
    let output = bench(&[&["workload"], &absent[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(out(&output).contains("missing: x: no file /no/such/peer.so"), "{}", out(&output));
    // A library that is there but brings no malloc is not taken for a peer.
    let useless = [
        "tight-pair",
        "--with",
        "glibc,x=/lib/x86_64-linux-gnu/libm.so.6",
        "--rounds",
        "1",
        "--seconds",
        "0.02",
    ];
    let output = bench(&[&["workload"], &useless[..]].concat());
    assert!(out(&output).contains("missing: x: it takes no effect: malloc comes from"), "{}", out(&output));
    // Without the base there is nothing to compare with.
    assert_eq!(
        refusal(&["workload", "tight-pair", "--base", "x", "--with", "glibc,x=/no/such/peer.so"]),
        "missing: x: no file /no/such/peer.so"
    );
    // Our own library is a peer like the others.
    let line =
        refusal(&["workload", "fifo", "--with", "rcumalloc", "--base", "rcumalloc", "--library", "/no.so"]);
    assert_eq!(line, "no allocator to run under: missing: rcumalloc: no /no.so; get it with: scripts/build");
}

/// One short run of each, under both allocators, in one JSON document.
#[test]
fn every_workload_runs_under_glibc_and_under_ours() {
    let library = library().to_string_lossy();
    let line = [
        "workload",
        "all",
        "--with",
        "glibc,rcumalloc",
        "--rounds",
        "1",
        "--seconds",
        "0.05",
        "--no-latency",
    ];
    let output = bench(&[&line[..], &["--library", &library, "--json", "-"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_str(&out(&output)).expect("JSON and nothing else");
    for key in ["command", "machine", "commit", "date", "load", "rounds", "results"] {
        assert!(json.get(key).is_some(), "{key} is missing");
    }
    let runs = json["results"]["workloads"].as_array().expect("a list");
    assert_eq!(runs.len(), 15);
    for run in runs {
        let sides = run["sides"].as_array().expect("a list");
        assert_eq!(sides.len(), 2);
        for side in sides {
            let rate = side["per_cpu"][0].as_f64().unwrap_or(0.0);
            assert!(side["failed"].is_null() && rate > 1.0, "{}: {side}", run["job"]["workload"]);
            assert!(side["peak_kib"][0].as_f64().unwrap_or(0.0) > 100.0, "{side}");
        }
    }
}

#[test]
fn latencies_are_ordered_and_their_cost_is_said() {
    let line = ["workload", "random-replace", "--with", "glibc", "--rounds", "1", "--seconds", "0.05"];
    let output = bench(&line);
    assert!(out(&output).contains("recording a latency costs"), "{}", out(&output));
    let output = bench(&[&line[..], &["--json", "-"]].concat());
    let json: Value = serde_json::from_str(&out(&output)).expect("JSON");
    let latency = &json["results"]["workloads"][0]["sides"][0]["latency"];
    let at = |name: &str| latency[name].as_f64().expect("a number");
    let ordered = ["p50", "p99", "p999", "p9999", "max"].map(at);
    assert!(ordered.is_sorted() && at("count") > 1000.0 && at("p50") > 0.0, "{latency}");
}

#[test]
fn a_program_is_compared_and_its_page_stands_alone() {
    let scratch = Scratch::new("compare");
    let (json, report) = (scratch.file("c.json"), scratch.file("page"));
    let library = library().to_string_lossy();
    let line = ["compare", "--rounds", "2", "--library", &library, "--json", &json, "--report", &report];
    let output = bench(&[&line[..], &["--", "sh", "-c", "echo same; exit 3"]].concat());
    let said = out(&output);
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("under glibc the program ends with exit status 3"), "{said}");
    assert!(said.contains("minor faults") && said.contains("overhead: starting /bin/true"), "{said}");
    let value: Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    let sides = value["results"]["sides"].as_array().expect("a list");
    assert_eq!((sides.len(), sides[0]["rounds"].as_array().map(Vec::len)), (2, Some(2)));
    // What could not be read has a reason, and is not 0.
    for (name, reading) in
        sides[0]["rounds"][0]["counters"].as_array().expect("a list").iter().map(|c| (&c[0], &c[1]))
    {
        assert!(
            reading.is_u64() || reading["refused"].as_str().is_some_and(|why| !why.is_empty()),
            "{name} {reading}"
        );
    }
    let page = std::fs::read_to_string(Path::new(&report).join("index.html")).expect("a page");
    assert!(page.contains("RSS over time") && page.contains("<svg") && !page.contains("<script"));
}

/// Where perf may not be used the refusal is one line that says why.
#[test]
fn perf_counts_and_draws_the_difference() {
    let scratch = Scratch::new("perf");
    let line = ["perf", "--rounds", "2", "--json", "-", "--record", &scratch.file("flame")];
    let library = ["--library", library().to_str().expect("UTF-8")];
    let work = ["--", "perl", "-e", "my %c; $c{$_ % 5000} .= 'x' x ($_ % 20) for 1..300000;"];
    let output = bench(&[&line[..], &library, &work].concat());
    if output.status.code() == Some(2) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.lines().count() == 1 && said.contains("perf"), "{said}");
        return;
    }
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let sides = json["results"]["programs"][0]["sides"].as_array().expect("sides");
    assert_eq!(sides.len(), 2);
    for side in sides {
        assert_eq!(side["rounds"].as_array().map(Vec::len), Some(2));
        assert!(side["rounds"][0]["page-faults"].as_f64().is_some_and(|faults| faults > 10.0), "{side}");
    }
    assert!(sides[1]["ratios"]["page-faults"]["median"].as_f64().is_some_and(|ratio| ratio > 0.1));
    let file = |name: &str| std::fs::read_to_string(scratch.file("flame/") + name).expect(name);
    // Each side's stacks are those of a program with that malloc.
    assert!(file("rcumalloc.folded").contains("rcumalloc::"), "{}", file("rcumalloc.folded"));
    assert!(!file("glibc.folded").contains("rcumalloc::"));
    assert!(
        file("glibc-rcumalloc.svg").contains("<svg") && file("glibc-rcumalloc.folded").lines().count() > 5
    );
}

#[test]
fn a_program_that_does_something_else_is_an_error() {
    let library = library().to_string_lossy();
    let told = |script: &str, more: &[&str]| {
        let line = ["compare", "--rounds", "1", "--library", &library];
        let output = bench(&[&line[..], more, &["--", "sh", "-c", script]].concat());
        (output.status.code(), out(&output))
    };
    let (status, said) = told("echo $LD_PRELOAD", &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("DIFFERENT under rcumalloc: stdout differs from byte 0 on"), "{said}");
    let (status, said) = told("test -z \"$LD_PRELOAD\"", &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("DIFFERENT under rcumalloc: exit status 1 instead of exit status 0"), "{said}");
    assert_eq!(told("echo $LD_PRELOAD", &["--any-output"]).0, Some(0));
}

#[test]
fn a_real_program_is_recorded_and_replayed() {
    let scratch = Scratch::new("record");
    let trace = scratch.file("p.rcutrace");
    let library = library().to_string_lossy();
    let script = "my %h; for my $i (1..20000) { $h{$i % 500} = 'x' x ($i % 90) } print scalar(keys %h)";
    let output = bench(&["trace", "-o", &trace, "--", "perl", "-e", script]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(&scratch.0).expect("it is there").count(), 1, "the raw file is removed");
    let line = ["workload", "replay", "--trace", &trace, "--with", "glibc,rcumalloc", "--library", &library];
    let output = bench(&[&line[..], &["--rounds", "1", "--seconds", "0.02", "--json", "-"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_str(&out(&output)).expect("JSON");
    for side in json["results"]["workloads"][0]["sides"].as_array().expect("a list") {
        assert!(side["failed"].is_null() && side["per_cpu"][0].as_f64().unwrap_or(0.0) > 1000.0, "{side}");
    }
    // One byte of it changed.
    let mut bytes = std::fs::read(&trace).expect("written");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&trace, bytes).expect("written");
    assert!(refusal(&line).ends_with("its checksum does not fit: it is damaged or cut off"));
}

/// A start script's own calls are not what is meant, nor are its children's.
#[test]
fn the_program_that_a_script_executes_is_recorded() {
    let scratch = Scratch::new("script");
    let trace = scratch.file("s.rcutrace");
    let perl = "my %h; for my $i (1..20000) { $h{$i % 500} = \"x\" x ($i % 90) }";
    let events = |program: &[&str]| {
        let output = bench(&[&["trace", "-o", &trace, "--json", "-", "--"], program].concat());
        let recorded: Value = serde_json::from_str(&out(&output)).expect("JSON");
        assert_eq!(recorded["results"]["lost"], 0, "{recorded}");
        recorded["results"]["events"].as_f64().unwrap_or(0.0)
    };
    let direct = events(&["perl", "-e", perl]);
    let script = format!("perl -e '{perl}'; exec perl -e '{perl}'");
    let through_a_script = events(&["sh", "-c", &script]);
    assert!(direct > 1000.0 && (0.98..1.02).contains(&(through_a_script / direct)));
    // What follows it is not: a shell that goes on has calls of its own.
    assert!(events(&["sh", "-c", &format!("perl -e '{perl}'; :")]) < direct / 2.0);
}

/// Eight threads whose blocks change hands, recorded and replayed with as many.
#[test]
fn threads_are_recorded_and_replayed() {
    let scratch = Scratch::new("threads");
    let trace = scratch.file("t.rcutrace");
    let own = env!("CARGO_BIN_EXE_rcumalloc-bench");
    let job = r#"{"workload":"random-replace","threads":4,"seconds":0.02,"sizes":[8,1000],
        "touch":"first","latency":false,"seed":1,"trace":null}"#;
    let output = bench(&["trace", "-o", &trace, "--json", "-", "--", own, "inner", "workload", job]);
    let recorded: Value = serde_json::from_str(&out(&output)).expect("JSON");
    let threads = recorded["results"]["threads"].as_u64().unwrap_or(0);
    let events = recorded["results"]["events"].as_u64().unwrap_or(0);
    assert!(threads >= 4 && events > 10_000, "{recorded}");
    assert_eq!(recorded["results"]["lost"], 0, "{recorded}");
    let line =
        ["workload", "replay", "--trace", &trace, "--with", "glibc", "--rounds", "1", "--seconds", "0.02"];
    let output = bench(&[&line[..], &["--no-latency", "--json", "-"]].concat());
    let json: Value = serde_json::from_str(&out(&output)).expect("JSON");
    let run = &json["results"]["workloads"][0];
    assert_eq!(run["job"]["threads"].as_u64(), Some(threads));
    assert!(run["sides"][0]["failed"].is_null(), "{run}");
}

#[test]
fn an_allocator_equals_itself_and_not_one_and_a_half_of_itself() {
    // Of 11 ratios of equals all lie on one side once in 1024 times, and there are three workloads.
    let mut output = bench(&["self-test", "--quick"]);
    if !output.status.success() {
        output = bench(&["self-test", "--quick"]);
    }
    assert!(output.status.success(), "{}", out(&output));
    assert!(out(&output).contains("overhead: recording a latency costs"), "{}", out(&output));
    let output = bench(&["self-test", "--quick", "--tilt", "20"]);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(out(&output).contains("MISSED"), "{}", out(&output));
}

#[test]
fn a_report_goes_on_where_it_stopped() {
    let scratch = Scratch::new("report");
    let directory = scratch.file("r");
    let library = library().to_string_lossy();
    let line = [
        "report",
        "--quick",
        "--only",
        "record-perl",
        "--rounds",
        "1",
        "--library",
        &library,
        "--report",
        &directory,
    ];
    let first = bench(&line);
    assert!(first.status.success(), "{} {}", out(&first), String::from_utf8_lossy(&first.stderr));
    let part = Path::new(&directory).join("parts/record-perl.json");
    let written = |part: &Path| part.metadata().and_then(|data| data.modified()).expect("it is there");
    let before = written(&part);
    assert!(bench(&line).status.success());
    assert_eq!(written(&part), before, "a finished part was repeated");
    assert!(bench(&[&line[..], &["--fresh"]].concat()).status.success());
    assert_ne!(written(&part), before, "--fresh repeats");
    let report = std::fs::read(Path::new(&directory).join("report.json")).expect("written");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["results"][0]["part"], "record-perl");
}
