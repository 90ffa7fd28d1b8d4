//! Programs at random: a seed is one program, whoever serves its calls, and what is said of it can be read.

use serde_json::Value;

mod common;
use common::{Scratch, bench, library, out, refusal};

/// The JSON of a run of families.
fn run(line: &[&str]) -> Value {
    let library = library().to_string_lossy();
    let output = bench(&[&["workload", "family"], line, &["--library", &library, "--json", "-"]].concat());
    assert!(output.status.success(), "{} {}", out(&output), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&out(&output)).expect("JSON and nothing else")
}

fn programs(json: &Value) -> &Vec<Value> {
    json["results"]["programs"].as_array().expect("a list")
}

/// A run of a program says a sum of its calls; sums that differ between allocators or rounds make the exit
/// status 1.
#[test]
fn every_family_makes_the_same_calls_under_glibc_and_under_ours() {
    let json = run(&[
        "all",
        "--seed",
        "7001",
        "--count",
        "3",
        "--with",
        "glibc,rcumalloc",
        "--rounds",
        "1",
        "--seconds",
        "0.01",
    ]);
    let list = bench(&["workload", "family", "list", "--json", "-"]);
    let names: Value = serde_json::from_str(&out(&list)).expect("JSON");
    let names = names["results"].as_array().expect("a list");
    assert!(names.len() >= 14);
    assert_eq!(programs(&json).len(), 3 * names.len());
    for (at, program) in programs(&json).iter().enumerate() {
        assert_eq!(&program["job"]["family"], &names[at / 3]);
        assert_eq!(program["different"], false, "{program}");
        assert!(program["operations"].as_u64().unwrap_or(0) > 1000, "{program}");
        let sides = program["sides"].as_array().expect("a list");
        assert!(sides.len() == 2 && sides.iter().all(|side| side["failed"].is_null()), "{program}");
    }
}

#[test]
fn a_seed_is_the_same_program_again_and_another_seed_another() {
    let line =
        ["mixed", "--seed", "7100", "--count", "4", "--with", "glibc", "--rounds", "2", "--seconds", "0.01"];
    let sums = |json: &Value| -> Vec<String> {
        programs(json).iter().map(|program| program["checksum"].as_str().expect("a sum").to_owned()).collect()
    };
    let (one, two) = (sums(&run(&line)), sums(&run(&line)));
    assert_eq!(one, two);
    let different: std::collections::HashSet<_> = one.iter().collect();
    assert_eq!(different.len(), 4, "{one:?}");
}

#[test]
fn a_report_over_seeds_says_where_we_are_behind_and_what_deferral_costs() {
    let scratch = Scratch::new("families");
    let page = scratch.file("page");
    let with =
        ["--with", "glibc,rcumalloc,rcumalloc-api", "--rounds", "1", "--seconds", "0.01", "--report", &page];
    let json = run(&[&["single", "--seed", "7200", "--count", "3"], &with[..]].concat());
    for row in [&json["results"]["against_base"]["rcumalloc"], &json["results"]["deferral"]["all / api"]] {
        for figure in ["mean", "worst_decile", "worst"] {
            assert!(row["time"][figure].as_f64().unwrap_or(0.0) > 0.0, "{row}");
            assert!(row["peak"][figure].as_f64().unwrap_or(0.0) > 0.0, "{row}");
        }
        assert_eq!(row["time"]["count"], 3, "{row}");
    }
    let html = std::fs::read_to_string(std::path::Path::new(&page).join("index.html")).expect("a page");
    assert!(
        html.contains("<svg")
            && html.contains("What holding back costs")
            && html.contains("seeds 7200 to 7202")
    );
}

/// Two builds, or one with two environments, beside each other.
#[test]
fn another_build_is_compared_by_its_path_and_environment() {
    let path = format!("api={}@RCUMALLOC_DEFER=api", library().display());
    let json = run(&["single", "--count", "1", "--with", &path, "--rounds", "1", "--seconds", "0.01"]);
    assert_eq!(programs(&json)[0]["sides"][1]["name"], "api");
    assert!(
        refusal(&["workload", "family", "single", "--with", "a=/x.so@nothing"]).contains("@VARIABLE=VALUE")
    );
}

#[test]
fn what_is_no_family_is_one_line() {
    assert!(
        refusal(&["workload", "family", "nosuch"]).starts_with("no family 'nosuch'; there are all, mixed,")
    );
    assert!(refusal(&["workload", "family", "mixed", "--count", "0"]).contains("--count"));
    assert!(refusal(&["workload", "family", "mixed", "--seed", "x"]).contains("--seed"));
    assert_eq!(
        refusal(&["workload", "family", "mixed", "--seed", "18446744073709551615"]),
        "--seed: too large"
    );
    assert!(
        refusal(&["workload", "family", "mixed", "--threads", "3"]).starts_with("a family draws its threads")
    );
    assert!(refusal(&["pressure", "family", "--family", "nosuch"]).starts_with("no family 'nosuch'"));
    assert!(refusal(&["deferral", "--families", "nosuch"]).starts_with("no family 'nosuch'"));
    assert!(refusal(&["compare", "--suite", "nosuch"]).contains("--suite"));
    assert!(refusal(&["compare", "--suite", "single", "--", "true"]).contains("--suite"));
    assert!(refusal(&["workload", "fifo", "mixed"]).starts_with("a second name"));
}

/// One library against itself with another environment, its noise beside it, and the difference by function
/// or by misses, whichever this machine allows.
#[test]
fn deferral_is_measured_beside_its_own_noise() {
    let library = library().to_string_lossy();
    let line = ["deferral", "--families", "owners", "--seed", "7300", "--count", "2", "--rounds", "1"];
    let more = ["--seconds", "0.02", "--no-programs", "--cycles", "1", "--library", &library, "--json", "-"];
    let output = bench(&[&line[..], &more].concat());
    assert!(output.status.success(), "{} {}", out(&output), String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_str(&out(&output)).expect("JSON");
    for row in ["rcumalloc", "api again"] {
        let row = &json["results"]["families"][row];
        assert!(row["time"]["count"] == 2 && row["peak"]["mean"].as_f64().unwrap_or(0.0) > 0.1, "{row}");
    }
    let inside = json["results"]["inside"].as_array().expect("a list");
    let explained = json["notes"].to_string().contains("no misses:");
    assert!(inside.len() == 1 || explained, "{inside:?} {}", json["notes"]);
}

/// Where control groups may be made, a limit is found that is enough; where not, one line says why.
#[test]
fn the_smallest_group_of_a_program_is_found_or_refused() {
    let line =
        ["pressure", "family", "--family", "single", "--seed", "7400", "--count", "1", "--with", "glibc"];
    let output = bench(&[&line[..], &["--rounds", "1", "--seconds", "0.01", "--json", "-"]].concat());
    if output.status.code() == Some(2) {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no control group may be made") && said.lines().count() == 1, "{said}");
        return;
    }
    let json: Value = serde_json::from_str(&out(&output)).expect("JSON");
    let side = &json["results"]["family"]["programs"][0]["sides"][0];
    let smallest = side["smallest_bytes"].as_u64().expect("a limit");
    assert!(smallest > 1 << 20 && smallest.is_multiple_of(256 << 10), "{side}");
}

#[test]
fn a_suite_of_real_programs_is_compared() {
    let library = library().to_string_lossy();
    let output = bench(&[
        "compare",
        "--suite",
        "single",
        "--only",
        "gawk,perl",
        "--rounds",
        "1",
        "--library",
        &library,
        "--json",
        "-",
    ]);
    assert!(output.status.success(), "{} {}", out(&output), String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_str(&out(&output)).expect("JSON");
    let runs = json["results"]["programs"].as_array().expect("a list");
    let missing = json["notes"].to_string().matches("apt-get install").count();
    assert_eq!(runs.len() + missing, 2, "{}", json["notes"]);
    assert!(json["results"]["means"]["rcumalloc"]["time"]["mean"].as_f64().unwrap_or(0.0) > 0.0, "{json}");
}
