//! The engine's measurements: every subject has a figure, or says why there is none.

use serde_json::Value;

mod common;
use common::{Scratch, bench, out};

#[test]
fn every_row_has_a_figure_or_a_reason() {
    for (command, ours) in [("pairs", "rcu"), ("polls", "rcu poll"), ("crowd", "rcu start_poll")] {
        let line = [command, "--no-valgrind", "--rounds", "1", "--seconds", "0.01", "--json"];
        let run = bench(&line);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let envelope: Value = serde_json::from_str(&out(&run)).expect("JSON");
        let measures = envelope["results"].as_array().expect("measures");
        let rows: Vec<&Value> = measures.iter().flat_map(|of| of["rows"].as_array().expect("rows")).collect();
        assert!(rows.iter().any(|row| row["name"].as_str().is_some_and(|name| name.starts_with(ours))));
        for row in rows {
            let is_measured = row["spread"]["median"].as_f64().is_some_and(|median| median > 0.0);
            assert!(is_measured || row["absent"].is_string(), "{command}: {row}");
        }
        assert!(envelope["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{command}");
    }
}

#[test]
fn the_page_has_the_tables() {
    let scratch = Scratch::new("engine");
    let page = scratch.file("page.md");
    let run = bench(&["polls", "--rounds", "1", "--seconds", "0.01", "--markdown", &page]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.contains("\n## cookies (ns)\n\n| who | setting | median |"), "{page}");
    assert!(page.contains("\n## Targets\n"), "{page}");
}
