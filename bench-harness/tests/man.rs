//! The manual pages: they are what the sources say now, are well-formed, and leave nothing out.

use std::path::Path;
use std::process::Command;

mod common;
use common::{Scratch, bench, out};

const PAGES: [&str; 3] = ["rcumalloc.7", "rcumalloc.h.3", "rcumalloc-bench.1"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The page as a reader sees it.
fn shown(name: &str) -> String {
    let mut man = Command::new("man");
    man.args(["--warnings", "--no-hyphenation", "-l"]).arg(root().join("docs/man").join(name));
    let man = man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "200").env("MANPAGER", "cat");
    let output = man.output().expect("man starts (scripts/setup installs it)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    let text = out(&output);
    assert!(text.len() > 2000, "{text}");
    text
}

#[test]
fn pages_are_what_the_sources_say() {
    let scratch = Scratch::new("man");
    let directory = scratch.file("pages");
    assert!(bench(&["man", &directory]).status.success());
    for page in PAGES {
        let made = std::fs::read_to_string(Path::new(&directory).join(page)).expect("the page");
        assert!(
            made == read(&format!("docs/man/{page}")),
            "docs/man/{page} is old: rcumalloc-bench man docs/man"
        );
    }
}

#[test]
fn pages_are_well_formed_and_complete() {
    let overview = shown("rcumalloc.7");
    let mut options = 0;
    for line in read("docs/configuration.md").lines().filter(|line| line.starts_with("- `RCUMALLOC_")) {
        let name = line.split('`').nth(1).expect("a name");
        assert!(overview.contains(name), "{name}");
        options += 1;
    }
    assert!(options > 10);
    let functions = shown("rcumalloc.h.3");
    let header = read("preload/include/rcumalloc.h");
    let mut names = 0;
    for line in
        header.lines().filter(|line| line.starts_with("RCUMALLOC_WEAK ") || line.starts_with("static inline"))
    {
        let before = line.split_once('(').expect("a function").0;
        let name = before.rsplit([' ', '*']).next().expect("a name");
        assert!(functions.contains(&format!("{name}(")), "{name}");
        names += 1;
    }
    assert!(names > 30);
    let commands = shown("rcumalloc-bench.1");
    let help = out(&bench(&["--help"]));
    let mut seen = 0;
    let subcommands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in subcommands.take_while(|line| !line.is_empty()) {
        let subcommand = line.split_whitespace().next().expect("a name");
        if subcommand == "help" {
            continue;
        }
        assert!(commands.contains(&subcommand.to_uppercase()), "{subcommand}");
        let help = out(&bench(&[subcommand, "--help"]));
        for line in help.lines().filter(|line| line.trim_start().starts_with('-')) {
            if let Some(option) = line.split_whitespace().find(|word| word.starts_with("--")) {
                assert!(commands.contains(option), "{subcommand} {option}");
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "{seen} options");
}
