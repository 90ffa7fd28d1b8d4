//! Every hazard has its test: the names of `rows.txt` and the tests of this directory agree. That each has a
//! mutant, too, is what `cargo xtask mutants --check` sees.

use rcumalloc_tests::build;
use std::collections::BTreeMap;
use std::fs;

/// Row and the file of its section.
fn rows() -> Vec<(String, String)> {
    let text = fs::read_to_string(build::root().join("tests/rows.txt")).expect("there is a list of rows");
    let mut file = String::new();
    let mut rows = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(section) => file = section.to_string(),
            None => rows.push((line.to_string(), file.clone())),
        }
    }
    rows
}

/// The names of the tests in each file: functions right under `#[test]`, none of them ignored.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let directory = fs::read_dir(build::root().join("tests/tests")).expect("there are tests");
    for path in directory.map(|entry| entry.expect("a directory can be read").path()) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let file = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim() == "#[test]" {
                let name = lines.next().and_then(|line| line.trim().strip_prefix("fn ")?.split('(').next());
                if let Some(name) = name {
                    found.entry(name.to_string()).or_default().push(file.clone());
                }
            }
        }
    }
    found
}

#[test]
fn each_row_is_one_test_of_its_name() {
    let (rows, tests) = (rows(), tests());
    assert!(rows.len() > 40, "{} rows", rows.len());
    let nowhere = Vec::new();
    for (row, file) in rows {
        let places = tests.get(&row).unwrap_or(&nowhere);
        assert!(*places == [file.clone()], "{row} should be one test, in {file}.rs; it is in {places:?}");
    }
}

#[test]
fn the_page_names_each_file() {
    let page = fs::read_to_string(build::root().join("tests/README.md")).expect("there is a page");
    for file in tests().into_values().flatten() {
        assert!(page.contains(&format!("`{file}`")), "tests/README.md says nothing of {file}.rs");
    }
}
