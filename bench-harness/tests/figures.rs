//! The figures of README and docs are those of the recorded results, and the results say what they were
//! measured with.

mod common;

use std::path::Path;

use serde_json::Value;

use common::{Scratch, bench, out, refusal};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn no_figure_is_by_hand() {
    let output = bench(&["figures"]);
    assert!(output.status.success(), "{}", out(&output));
    // README's, and most of the page of figures.
    assert!(out(&output).lines().any(|line| line.ends_with("blocks of figures")), "{}", out(&output));
    let page = std::fs::read_to_string(root().join("docs/performance.md")).expect("there is a page");
    assert!(page.matches("<!-- figures: ").count() >= 10);
    assert!(
        std::fs::read_to_string(root().join("README.md")).expect("README").contains("<!-- figures: summary")
    );
}

/// In a copy of the pages, so that none of ours changes.
#[test]
fn a_figure_that_was_changed_by_hand_is_found_and_made_again() {
    let scratch = Scratch::new("figures");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args(["README.md", "docs", "bench"].map(|name| root().join(name)))
        .arg(&scratch.0)
        .status();
    assert!(copied.expect("cp starts").success());
    let page = scratch.0.join("docs/performance.md");
    let before = std::fs::read_to_string(&page).expect("a page");
    let (head, block) = before.split_once("<!-- figures: families -->").expect("figures of families");
    let changed = block.replacen("| rcumalloc | 0.", "| rcumalloc | 0.1", 1);
    assert_ne!(changed, block);
    std::fs::write(&page, format!("{head}<!-- figures: families -->{changed}")).expect("a page");
    let place = scratch.0.to_str().expect("UTF-8");
    let found = bench(&["figures", "--root", place]);
    assert_eq!(found.status.code(), Some(1), "{}", out(&found));
    assert!(
        out(&found).contains("docs/performance.md: its figures are not the recorded ones"),
        "{}",
        out(&found)
    );
    assert!(bench(&["figures", "--root", place, "--write"]).status.success());
    assert_eq!(std::fs::read_to_string(&page).expect("a page"), before);
}

#[test]
fn recorded_results_name_their_commit_and_no_place_of_a_machine() {
    let mut results = 0;
    for entry in std::fs::read_dir(root().join("bench")).expect("there are results") {
        let path = entry.expect("a directory").path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a result");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let name = path.display();
        let commit = json["commit"].as_str().or(json["about"]["commit"].as_str()).unwrap_or_default();
        assert!(
            commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{name}: {commit:?}"
        );
        for place in ["/root/", "/home/", "/tmp/", "/work/"] {
            assert!(!text.contains(place), "{name}: {place}");
        }
        results += 1;
    }
    assert!(results >= 6, "{results} results");
}

#[test]
fn what_cannot_be_recorded_is_one_line() {
    assert!(
        refusal(&["record", "--only", "speed"]).starts_with("there is no result 'speed'; there are perf, ")
    );
    let moved = "a program's calls are recorded by `rcumalloc-bench trace -- PROGRAM`";
    assert_eq!(refusal(&["record", "--", "true"]), moved);
    let listed = bench(&["record", "--list"]);
    assert!(listed.status.success() && out(&listed).contains("workload family all"), "{}", out(&listed));
}
