//! Every file of the repository is as wide as a page, 110 columns, and what the documents call functions are
//! some. What a command writes is as wide as it comes, so recorded results, manual pages, pictures and lock
//! files are left out. Numbers that were chosen stand in one file.

use rcumalloc_tests::build::{self, said_by};
use rcumalloc_tests::{floors, numbers};
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

/// A number of the heap that somebody has chosen, and may choose otherwise, is in `constants.rs`, with its
/// unit and its reason.
#[test]
fn chosen_numbers_stand_in_one_file() {
    let mut texts = floors::texts(&build::root().join("preload/src"));
    let constants = texts.remove("constants").expect("there are constants");
    assert!(numbers::chosen(&constants).len() > 150, "the constants were not read");
    assert!(texts.len() > 150, "{} files", texts.len());
    let mut elsewhere = String::new();
    for (module, text) in &texts {
        for item in numbers::chosen(text) {
            elsewhere += &format!("{module}, line {}: {}\n", item.line, item.name);
        }
        for (at, _) in text.lines().enumerate().filter(|(_, line)| line.contains("(tune")) {
            elsewhere += &format!("{module}, line {}: what is to be tuned\n", at + 1);
        }
    }
    assert!(elsewhere.is_empty(), "chosen here, or not said to be (given):\n{elsewhere}");
    let mut silent = String::new();
    let lines: Vec<&str> = constants.lines().collect();
    for (at, line) in lines.iter().enumerate().skip(1).filter(|(_, line)| line.starts_with("pub const ")) {
        if !lines[at - 1].starts_with("/// ") {
            silent += &format!("{line}\n");
        }
    }
    assert!(silent.is_empty(), "constants without a word of what they are:\n{silent}");
}

/// Which numbers count as chosen.
#[test]
fn a_chosen_number_is_found() {
    let found = |text: &str| {
        let items = numbers::chosen(text);
        items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let one = |item: &str| !found(item).is_empty();
    assert!(one("const MOST: usize = 7;") && one("pub(super) const MOST: u32 = 1;"));
    assert!(one("const MOST: usize = 64 << 10;") && one("const PAIR: (u32, usize) = (3, PAGE);"));
    assert!(one("static MOST: AtomicU64 = AtomicU64::new(10_000);"));
    assert!(one("static KNOWN: [u8; 16] = [0; 16];") && one("const PARTS: [u8; 2] = [5, 0x1f];"));
    assert!(one("fn f() {\n    const MOST: usize = 7;\n}"));
    assert!(one("const MOST: usize = {\n    let all = 7;\n    all\n};"));
    assert!(!one("const ALL: usize = OTHERS.len() * PAGE;") && !one("const NAME: &str = \"7\";"));
    assert!(!one("static COUNT: AtomicU64 = AtomicU64::new(0);"));
    assert!(!one("const NAMES: [&str; 3] = [\"a\", \"b\", \"c\"];"));
    assert!(
        !one("/// The kernel's (given).\nconst BIT: usize = 7;") && !one("const BIT: u8 = 7; // (given)")
    );
    assert!(one("/// The kernel's (given).\n\nconst BIT: usize = 7;"));
    assert!(!one("#[cfg(test)]\nmod tests {\n    const MOST: usize = 7;\n}"));
    assert!(one("#[cfg(not(test))]\nconst MOST: usize = 7;"));
    let states =
        "const NONE: u8 = 0;\nconst ONE: u8 = 1;\n/// Both.\nconst TWO: u8 = 2;\nconst MASK: u8 = 7;";
    assert_eq!(found(states), "MASK");
    assert_eq!(found("const A: u8 = 1;\nconst B: u8 = 2;\nconst C: u8 = 4;\n"), "");
    assert_eq!(found("const A: u8 = 3;\nconst B: u8 = 4;\n"), "A B");
    assert_eq!(found("const A: u8 = 1;\n\nconst B: u8 = 2;\n"), "A B");
}
