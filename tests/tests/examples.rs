//! The examples of the README: compiled as it says, and run.

use rcumalloc_tests::build::said_by;
use rcumalloc_tests::{Victim, build, command};
use std::process::Command;

#[test]
fn c_example() {
    let outcome = Victim::new("example").run().success();
    assert_eq!(outcome.text(), "version 1000000, every look was consistent\n");
    let outcome = Victim::new("example").on_glibc().run().exited(1);
    assert_eq!(outcome.stderr, b"run me with LD_PRELOAD=librcumalloc.so\n", "{outcome}");
}

/// Its torture is the row `pool_type_until_period`.
#[test]
fn c_pool_example() {
    let outcome = Victim::new("pool_table").run().success();
    assert_eq!(outcome.text(), "some were found\nwrong 0\nstrange 0\n");
}

/// What the Rust example says, built with these arguments of cargo's and run with its own.
fn rust_example_says(name: &str, more: &[&str], own: &[&str], variables: &[(&str, &str)]) -> String {
    let cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).on_glibc();
    let cargo = cargo.args(["run", "--quiet", "--profile", "quick", "-p", "rcumalloc", "--example", name]);
    let cargo = cargo.args(more).arg("--target-dir").arg(build::target()).arg("--").args(own);
    let cargo = variables.iter().fold(cargo, |cargo, (name, value)| cargo.env(name, value));
    // It is built first.
    cargo.dir(build::root()).patience(900).run().success().text()
}

#[test]
fn rust_example() {
    for (example, says) in [
        ("config", "version 300000, every look was consistent\n"),
        ("pool", "every object was the one that was asked for\n"),
        ("stack", " values went in, and each came out once\n"),
        ("server", " tables, none of which was closed under a reader\n"),
    ] {
        let said = rust_example_says(example, &[], &[], &[]);
        assert!(said.ends_with(says), "{example}: {said}");
    }
}

/// As the row `pool_type_until_period` for C: what the pool gives up is overwritten as soon as may be, by
/// blocks that wait for nobody.
#[test]
fn rust_pool_example_torture() {
    let variables = [("RCUMALLOC_DEFER", "api"), ("RCUMALLOC_DECAY_MS", "0")];
    let said = rust_example_says("pool", &["--features", "override"], &["torture"], &variables);
    assert_eq!(said, "every object was the one that was asked for\n");
}

/// What sees to it that a block of code in the documents is true.
enum Check {
    /// Each of its lines, but for `...`, stands in that file, which a test compiles and runs.
    Quotes(&'static str),
    /// The commands are there, and have the options that are named.
    Commands,
    /// It is compiled and run as a test of the documentation of that file's crate.
    Doctest(&'static str),
    /// The version that is asked for is the crate's.
    Version,
    /// The variables of a container's environment are understood by the library.
    Environment,
    /// A line of the library's: each `name=` in it is one that the source writes.
    Line,
    /// A recipe for a tool that is not here: that its words name what our packages have.
    Image,
    /// No code: a drawing.
    Drawing,
}
use Check::*;

/// Every block, but those behind comments: the page, what the block begins with, and what checks it.
const BLOCKS: &[(&str, &str, Check)] = &[
    ("README.md", "            thread      ", Drawing),
    ("README.md", "cargo build --release", Commands),
    ("README.md", "        rcumalloc_read_lock();", Quotes("tests/programs/example.c")),
    ("README.md", "#[global_allocator]", Quotes("preload/examples/config.rs")),
    ("CONTRIBUTING.md", "scripts/setup", Commands),
    ("preload/RUST.md", "[dependencies]", Version),
    ("preload/RUST.md", "#[global_allocator]", Quotes("tests/fresh/src/main.rs")),
    ("rcu/README.md", "quiescent = ", Version),
    ("rcu/README.md", "use quiescent::epoch", Doctest("rcu/src/lib.rs")),
    ("docs/bench.md", "scripts/bench-harness setup", Commands),
    ("docs/deploying.md", "FROM debian:", Image),
    ("docs/deploying.md", "    env:", Environment),
    ("docs/heap.md", "", Drawing),
    ("docs/performance.md", "scripts/bench-harness setup", Commands),
    ("docs/programs.md", "cargo xtask programs", Commands),
    ("docs/seeing.md", "rcumalloc-bench top PID", Commands),
    ("docs/seeing.md", "rcumalloc-bench profile DUMP", Commands),
    ("docs/seeing.md", "rcumalloc: stalled thread=", Line),
    ("docs/shrinker.md", "", Drawing),
    ("docs/using.md", "scripts/install", Commands),
    ("docs/using.md", "#include \"rcumalloc.h\"", Quotes("tests/programs/example.c")),
    ("docs/using.md", "rcumalloc_read_lock();", Quotes("tests/programs/pool_table.c")),
    ("docs/using.md", "struct config :", Quotes("tests/programs/example.cpp")),
    ("docs/using.md", "#[global_allocator]", Quotes("preload/examples/config.rs")),
];

/// The kinds of comments before blocks, and the test that does what such a block says.
const COMMENTS: &[(&str, &str)] = &[
    ("run", "tests/tests/recipes.rs"),
    ("unit", "tests/tests/recipes.rs"),
    ("preload", "tests/tests/recipes.rs"),
    ("bad_calls", "tests/tests/figures.rs"),
    ("pools", "tests/tests/figures.rs"),
    ("env", "tests/tests/figures.rs"),
    ("conf", "tests/tests/figures.rs"),
    ("stalls", "tests/tests/figures.rs"),
    ("trap", "tests/tests/figures.rs"),
    ("ledger", "tests/tests/figures.rs"),
    ("profile", "tests/tests/profile.rs"),
    ("code", "preload/tests/options_in_code.rs"),
];

/// A file of the repository.
fn text(path: &str) -> String {
    std::fs::read_to_string(build::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The blocks of a page: the line before each, its language, and its lines.
fn blocks(page: &str) -> Vec<(String, String, Vec<String>)> {
    let text = text(page);
    let mut found = Vec::new();
    let (mut before, mut lines) = (String::new(), text.lines());
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let code = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
            found.push((before.clone(), language.to_owned(), code));
        }
        before = line.to_owned();
    }
    found
}

/// Each block of code in each document is checked by something, which is named above: that is done here, or
/// it is seen that the test is there that does it.
#[test]
fn each_block_of_code_is_checked() {
    let pages = said_by(Command::new("git").current_dir(build::root()).args(["ls-files", "*.md"]));
    let mut used = vec![false; BLOCKS.len()];
    for page in pages.lines() {
        for (before, language, code) in blocks(page) {
            let place = format!("{page}: the block that begins with {:?}", code.first());
            if let Some(comment) = before.strip_prefix("<!-- ") {
                let kind = comment.split(' ').next().unwrap_or_default();
                let of_kind = COMMENTS.iter().find(|(of, _)| *of == kind);
                let (_, test) = of_kind.unwrap_or_else(|| panic!("{place}: no test is for {kind:?}"));
                assert!(
                    text(test).contains(page.trim_start_matches("docs/")),
                    "{place}: {test} reads no {page}"
                );
                continue;
            }
            let begins = |start: &str| code.first().is_some_and(|line| line.starts_with(start));
            let number = BLOCKS.iter().position(|(of, start, _)| *of == page && begins(start));
            let number = number.unwrap_or_else(|| {
                panic!(
                    "{place}: nothing checks it: put a comment before it, or add it to BLOCKS in {}",
                    file!()
                )
            });
            used[number] = true;
            let check = &BLOCKS[number].2;
            assert!(!matches!(check, Drawing) || language.is_empty(), "{place}: a drawing has no language");
            judge(check, &place, &code);
        }
    }
    for ((page, start, _), is_used) in BLOCKS.iter().zip(used) {
        assert!(is_used, "{page} has no block that begins with {start:?}");
    }
}

fn judge(check: &Check, place: &str, code: &[String]) {
    match check {
        Quotes(path) => {
            let source = text(path);
            for line in code.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && *line != "...")
            {
                assert!(source.contains(line), "{place}: {line:?} does not stand in {path}");
            }
        }
        Commands => code.iter().for_each(|line| commands(line, place)),
        Doctest(path) => assert!(text(path).contains("include_str!(\"../README.md\")"), "{place}"),
        Version => {
            let version: Vec<&str> = env!("CARGO_PKG_VERSION").split('.').take(2).collect();
            let asked = format!("\"{}\"", version.join("."));
            assert!(code.iter().any(|line| line.contains(&asked)), "{place}: not {asked}");
        }
        Environment => environment(place, code),
        Line => {
            let traces = said_by(Command::new("cat").args(sources()));
            for name in code.join(" ").split('=').filter_map(|part| part.rsplit(' ').next()) {
                let is_last = code.join(" ").ends_with(&format!("={name}"));
                assert!(is_last || traces.contains(&format!("{name}=")), "{place}: nobody writes {name}=");
            }
        }
        Image => {
            let words = code.join(" ");
            assert!(
                words.contains("LD_PRELOAD=librcumalloc.so.1") && words.contains("librcumalloc1_*_amd64.deb")
            );
            assert!(text("xtask/scripts/deb").contains("librcumalloc1"), "{place}");
            for line in code {
                let kind = line.split(' ').next().unwrap_or_default();
                assert!(["FROM", "COPY", "RUN", "ENV"].contains(&kind), "{place}: {line}");
            }
        }
        Drawing => {}
    }
}

/// The source files of the heap.
fn sources() -> Vec<String> {
    let found = said_by(Command::new("find").arg(build::root().join("preload/src")).args(["-name", "*.rs"]));
    found.lines().map(str::to_owned).collect()
}

/// The commands of a line, which a comment may follow, are there, and so are the options they are given: in
/// the manual page of the bench, or in the script itself.
fn commands(line: &str, place: &str) {
    let line = line.split("  ").next().unwrap_or_default();
    let line = line.split(" #").next().unwrap_or_default();
    let syntax = Command::new("sh").args(["-n", "-c", line]).status().expect("there is a shell");
    assert!(syntax.success(), "{place}: {line}");
    let manual =
        text("docs/man/rcumalloc-bench.1").replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
    for command in line.split(" && ") {
        // What is behind `--` is the user's own.
        let words: Vec<&str> = command.split(' ').take_while(|word| *word != "--").collect();
        let Some((program, rest)) = words.split_first() else { continue };
        let is_bench = ["scripts/bench-harness", "scripts/compare", "rcumalloc-bench"].contains(program);
        let own = match (*program, rest) {
            ("cargo", ["xtask", name, ..]) => text(&format!("xtask/scripts/{name}")),
            (program, _) if program.starts_with("scripts/") => text(program),
            _ => String::new(),
        };
        let found = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).output();
        let is_there = found.is_ok_and(|found| found.status.success());
        assert!(is_bench || !own.is_empty() || is_there, "{place}: there is no {program}");
        if is_bench && *program != "scripts/compare" {
            let name = rest.first().copied().unwrap_or_default();
            assert!(manual.contains(&format!("rcumalloc-bench {name} ")), "{place}: no subcommand {name:?}");
        }
        for option in rest.iter().filter(|word| word.starts_with("--")) {
            // What others' programs take is theirs to say.
            let is_known = own.contains(option) || is_bench && manual.contains(option);
            assert!(is_known || own.is_empty() && !is_bench, "{place}: {program} has no {option}");
        }
    }
}

/// A program runs with these variables, and the library has nothing to say of them.
fn environment(place: &str, code: &[String]) {
    let mut program = command(build::installed("true"));
    let mut variables = 0;
    for pair in code.windows(2) {
        let name = pair[0].trim().strip_prefix("- name: ");
        let value = pair[1].trim().strip_prefix("value: ");
        match (name, value) {
            (Some("LD_PRELOAD"), value) => assert_eq!(value, Some("librcumalloc.so.1"), "{place}"),
            (Some(name), Some(value)) => {
                assert!(text("docs/configuration.md").contains(&format!("- `{name}`: ")), "{place}: {name}");
                program = program.env(name, value);
                variables += 1;
            }
            _ => {}
        }
    }
    assert!(variables > 0, "{place}");
    program.run().success().said(&[]);
}

/// The book has every page, each link to a file leads to one, and the README stays short.
#[test]
fn the_book_holds_together() {
    let root = build::root();
    let pages = |folder: &str| -> Vec<std::path::PathBuf> {
        let folder = std::fs::read_dir(root.join(folder)).expect("a folder");
        let paths = folder.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
    };
    let summary = std::fs::read_to_string(root.join("docs/SUMMARY.md")).expect("there is a summary");
    let mut book: Vec<_> = pages("docs");
    book.extend(pages("docs/decisions"));
    for page in &book {
        let name = page.strip_prefix(root.join("docs")).expect("a page of the book").display().to_string();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("]({name})")), "the summary lacks {name}");
    }
    book.extend(pages("."));
    for page in &book {
        let text = std::fs::read_to_string(page).expect("the page can be read");
        // Every other piece between fences is code.
        for prose in text.split("```").step_by(2) {
            for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = link.split('#').next().unwrap_or_default();
                let there = page.parent().expect("a folder").join(path);
                let is_file = path.is_empty() || link.contains("://") || there.exists();
                assert!(is_file, "{} links to {link}", page.display());
            }
        }
    }
    let readme = std::fs::read_to_string(root.join("README.md")).expect("there is a README");
    assert!(readme.lines().count() <= 120, "the README has {} lines", readme.lines().count());
}
