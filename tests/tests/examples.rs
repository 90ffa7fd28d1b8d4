//! The examples of the README: compiled as it says, and run.

use rcumalloc_tests::{Victim, build, command};

#[test]
fn c_example() {
    let outcome = Victim::new("example").run().success();
    assert_eq!(outcome.text(), "version 1000000, every look was consistent\n");
    let outcome = Victim::new("example").on_glibc().run().exited(1);
    assert_eq!(outcome.stderr, b"run me with LD_PRELOAD=librcumalloc.so\n", "{outcome}");
}

#[test]
fn rust_example() {
    let cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).on_glibc();
    let cargo = cargo.args(["run", "--quiet", "--release", "-p", "rcumalloc", "--example", "config"]);
    // It is built first.
    let outcome = cargo.arg("--target-dir").arg(build::target()).dir(build::root()).patience(900).run();
    assert_eq!(outcome.success().text(), "version 300000, every look was consistent\n");
}

/// The README and the book quote the examples as they are.
#[test]
fn the_book_quotes_them() {
    for page in ["README.md", "docs/using.md"] {
        let text = std::fs::read_to_string(build::root().join(page)).expect("the page is there");
        for (path, needle) in [
            ("tests/programs/example.c", "rcumalloc_read_lock();"),
            ("preload/examples/config.rs", "rcumalloc::read()"),
        ] {
            let source = std::fs::read_to_string(build::root().join(path)).expect("the example is there");
            let quoted: Vec<_> = text.split("```").filter(|block| block.contains(needle)).collect();
            assert!(!quoted.is_empty(), "{page} does not quote {path}");
            for block in quoted {
                let (_, code) = block.split_once('\n').expect("a block begins with its language");
                for line in code.lines().filter(|line| !line.trim().is_empty() && line.trim() != "...") {
                    assert!(source.contains(line.trim()), "{page} says {line:?}, {path} does not");
                }
            }
        }
    }
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
