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

/// A run of a program says a sum of its calls; sums that differ between allocators or rounds make the exit status 1.
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
    assert!(refusal(&["workload", "fifo", "mixed"]).starts_with("a second name"));
}
