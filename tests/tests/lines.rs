//! Every file of the repository is as wide as a page, 110 columns, and what the documents call functions are
//! some. What a command writes is as wide as it comes, so recorded results, manual pages, pictures and lock
//! files are left out.

use rcumalloc_tests::build::{self, said_by};
use std::process::Command;

/// Columns of a line at the most.
const WIDTH: usize = 110;
/// Where commands write.
const MADE: [&str; 3] = ["bench/", "docs/man/", "docs/pictures/"];

#[test]
fn no_line_is_wider_than_a_page() {
    let mut git = Command::new("git");
    let files = said_by(
        git.arg("-C")
            .arg(build::root())
            .args(["ls-files", "--deduplicate", "--others"])
            .args(["--cached", "--exclude-standard"]),
    );
    let is_made = |name: &&str| MADE.iter().any(|folder| name.starts_with(folder)) || name.ends_with(".lock");
    let by_hand: Vec<&str> = files.lines().filter(|name| !is_made(name)).collect();
    assert!(by_hand.len() > 400, "{} files", by_hand.len());
    let mut wide = String::new();
    for name in by_hand {
        // What is no text has no lines; what is listed and not there was removed and not committed yet.
        let text = std::fs::read_to_string(build::root().join(name)).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > WIDTH {
                wide += &format!("{name}:{}: {columns} columns\n", index + 1);
            }
        }
    }
    assert!(wide.is_empty(), "{wide}");
}

/// `name()` in the two walks through the code is a function of the heap or of the engine.
#[test]
fn the_lives_name_functions_that_are_there() {
    let page = std::fs::read_to_string(build::root().join("docs/lives.md")).expect("there is a page");
    let mut find = Command::new("grep");
    find.arg("-rhoE").arg("fn [a-z_]+").args(["preload/src", "rcu/src"]).current_dir(build::root());
    let found = said_by(&mut find);
    let functions: std::collections::BTreeSet<&str> =
        found.lines().filter_map(|line| line.strip_prefix("fn ")).collect();
    let named: Vec<&str> = page.split('`').filter_map(|word| word.strip_suffix("()")).collect();
    assert!(named.len() > 15, "{named:?}");
    let lost: Vec<&&str> = named.iter().filter(|name| !functions.contains(**name)).collect();
    assert!(lost.is_empty(), "the sources have no such function: {lost:?}");
}
