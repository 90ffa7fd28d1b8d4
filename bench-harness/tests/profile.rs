//! Profiles as they are shown: functions of C, C++ and Rust by their names, what has grown, what has leaked;
//! and what pprof, which others wrote, makes of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

mod common;
use common::{Scratch, bench, library, out, refusal};

const WITH_FRAMES: [&str; 3] = ["-O1", "-g", "-fno-omit-frame-pointer"];

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The program of the library's own tests, compiled with frame pointers; what it says when it has run.
fn profiled(scratch: &Scratch, what: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = scratch.file("profile");
    let mut cc = Command::new("cc");
    cc.args(WITH_FRAMES).args(["-pthread", "-D_GNU_SOURCE", "-o", &program]);
    cc.arg("-I").arg(root.join("preload/include")).arg("-I").arg(root.join("tests/programs"));
    run(cc.arg(root.join("tests/programs/profile.c")));
    let mut command = Command::new(&program);
    run(command.arg(what).arg(&scratch.0).arg("1").env("LD_PRELOAD", library()))
}

fn shown(arguments: &[&str]) -> String {
    let output = bench(&[&["profile"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    out(&output)
}

/// The numbers in a line.
fn numbers(line: &str) -> Vec<i64> {
    let words = line.split(|letter: char| !(letter.is_ascii_digit() || letter == '-'));
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Bytes by function and kind of sample, as `go tool pprof` says.
fn by_pprof(file: &str, kind: &str) -> BTreeMap<String, i64> {
    let index = format!("-sample_index={kind}");
    let mut go = Command::new("go");
    go.args(["tool", "pprof", "-top", "-unit=b", "-nodecount=100", &index, file]);
    let text = run(go.env("HOME", std::env::temp_dir()));
    let mut found = BTreeMap::new();
    for line in text.lines().skip_while(|line| !line.contains("flat%")).skip(1) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let bytes = words[0].trim_end_matches('B').parse().unwrap_or_else(|_| panic!("{text}"));
        found.insert(words[5].to_owned(), bytes);
    }
    found
}

/// Live bytes by function, in the text.
fn by_text(dump: &str) -> BTreeMap<String, i64> {
    let text = shown(&[dump, "--text", "--top", "100"]);
    let mut found = BTreeMap::new();
    let stacks = text.split("\n\n").skip(1);
    for stack in stacks {
        let mut lines = stack.lines();
        let bytes = numbers(lines.next().expect("a line"))[0];
        let function = lines.next().expect("a frame").trim().split(' ').next().expect("a name");
        *found.entry(function.to_owned()).or_default() += bytes;
    }
    found
}

/// What is live is live for pprof, too, to the byte; and what the program says it is, about.
#[test]
fn pprof_reads_it() {
    let scratch = Scratch::new("pprof");
    let said = profiled(&scratch, "sites");
    let (dump, file) = (scratch.file("sites"), scratch.file("sites.pb.gz"));
    shown(&[&dump, "-o", &file]);
    let by_text = by_text(&dump);
    let sites = said.lines().filter_map(|line| line.strip_prefix("site "));
    let mut seen = 0;
    let has_go = Command::new("go").arg("version").output().is_ok();
    let (live, allocated) = match has_go {
        true => (by_pprof(&file, "inuse_space"), by_pprof(&file, "alloc_space")),
        false => {
            eprintln!("skipped: go, and with it pprof, is not here");
            (by_text.clone(), BTreeMap::new())
        }
    };
    for site in sites {
        let words: Vec<&str> = site.split(' ').collect();
        let number = |at: usize| words[at].parse::<f64>().expect("a number");
        let (bytes, count, kept) = (number(2), number(3), number(4));
        let found = live.get(words[0]).copied().unwrap_or(0) as f64;
        assert!((found - kept * bytes).abs() <= kept * bytes * 0.5, "{site}: {found} live");
        assert_eq!(by_text.get(words[0]).copied().unwrap_or(0) as f64, found, "{site}");
        if has_go {
            let found = allocated[words[0]] as f64;
            assert!((found - count * bytes).abs() <= count * bytes * 0.5, "{site}: {found} allocated");
        }
        seen += 1;
    }
    assert_eq!(seen, 8);
}

/// Between two dumps: what was live is deferred; then a picture of that, and nothing has leaked.
#[test]
fn growth_leaks_and_pictures() {
    let scratch = Scratch::new("growth");
    profiled(&scratch, "deferred");
    let [live, deferred] = ["live", "deferred"].map(|name| scratch.file(name));
    let leaks = shown(&[&live, "--leaks"]);
    let first: Vec<&str> = leaks.split("\n\n").collect();
    assert!(first[0].contains(" leaked, from ") && first[1].contains("seen by "), "{leaks}");
    assert!(first[1].contains("\n    keep_large (profile.c:") && first[1].contains("    main (profile.c:"));
    let grown = shown(&[&deferred, "--base", &live, "--kind", "deferred"]);
    let stack = grown.split("\n\n").nth(1).expect("a stack");
    let [gone, _, waits, _, new, _] = numbers(stack.lines().next().expect("a line"))[..] else {
        panic!("{grown}")
    };
    assert!(waits > 1_000_000 && gone == -waits && new == 0 && stack.contains("keep_large"), "{grown}");
    let picture = scratch.file("flame.svg");
    shown(&[&deferred, "--flame", &picture, "--kind", "deferred"]);
    let picture = std::fs::read_to_string(picture).expect("a picture");
    for part in ["<svg", "keep_large", "run_deferred", "main", "grace period"] {
        assert!(picture.contains(part), "no {part}");
    }
}

/// Names as their languages write them.
#[test]
fn names_are_those_of_the_source() {
    let scratch = Scratch::new("names");
    let (cpp, rust) = (scratch.file("names.cpp"), scratch.file("names.rs"));
    let text = "#include <cstdlib>\n#include <new>\nnamespace app { template <class T> struct Pool {\n\
                __attribute__((noinline)) void *take(int n) { void *p = ::operator new(n); return p; } }; }\n\
                void *volatile sink;\nint main() { app::Pool<long> pool;\n\
                for (int i = 0; i < 1000; i++) sink = pool.take(5000); std::exit(0); }\n";
    std::fs::write(&cpp, text).expect("it can be written");
    let text = "mod app { #[inline(never)]\npub fn take(n: usize) -> Vec<u8> { let mut v = \
        Vec::with_capacity(n);\n\
                v.push(1); v } }\nfn main() { for _ in 0..1000 { std::mem::forget(app::take(5000)); } }\n";
    std::fs::write(&rust, text).expect("it can be written");
    let [one, other] = ["one", "other"].map(|name| scratch.file(name));
    run(Command::new("c++").args(WITH_FRAMES).args(["-o", &one, &cpp]));
    run(Command::new("rustc").args(["-Cforce-frame-pointers=yes", "-g", "-O", "-o", &other, &rust]));
    for (program, name) in
        [(one, "app::Pool<long>::take(int) (names.cpp:"), (other, "names::app::take (names.rs:")]
    {
        let dump = format!("{program}.dump");
        let mut command = Command::new(&program);
        command.env("LD_PRELOAD", library()).env("RCUMALLOC_PROFILE", "16K");
        run(command.env("RCUMALLOC_PROFILE_FILE", &dump));
        let text = shown(&[&dump, "--leaks"]);
        let largest = text.split("\n\n").nth(1).unwrap_or_default();
        assert!(largest.contains(name), "{text}");
        let bytes = numbers(largest)[0];
        assert!((4_000_000..6_000_000).contains(&bytes), "{text}");
    }
}

/// What an earlier call to give memory back has left on the stack is no caller of the one that asks for some.
#[test]
fn what_was_there_before_is_no_caller() {
    let scratch = Scratch::new("before");
    let (source, program, dump) = (scratch.file("q.cpp"), scratch.file("q"), scratch.file("dump"));
    let text = "#include <string>\n#include <vector>\nstruct Thing { std::string name; };\n\
                struct Holder { std::vector<Thing> all; __attribute__((noinline)) void add(int i) {\n\
                all.push_back(Thing{std::string(100 + i % 50, 'x')}); } };\n\
                int main() { Holder h; for (int i = 0; i < 100000; i++) h.add(i); return h.all.size() == 1; \
                }\n";
    std::fs::write(&source, text).expect("it can be written");
    run(Command::new("c++").args(WITH_FRAMES).args(["-O2", "-o", &program, &source]));
    let mut command = Command::new(&program);
    command.env("LD_PRELOAD", library()).env("RCUMALLOC_PROFILE", "64K");
    run(command.env("RCUMALLOC_PROFILE_FILE", &dump));
    let text = shown(&[&dump, "--kind", "allocated", "--top", "100"]);
    let first = |stack: &str| stack.lines().nth(1).unwrap_or_default().to_owned();
    let firsts: Vec<String> = text.split("\n\n").skip(1).map(first).collect();
    assert!(firsts.len() >= 2 && !firsts.iter().any(|name| name.contains("deallocate")), "{text}");
}

#[test]
fn what_is_no_profile() {
    let scratch = Scratch::new("no-profile");
    let file = scratch.file("file");
    std::fs::write(&file, "rcumalloc profile 1\nrate 0\nmaps\n").expect("it can be written");
    assert_eq!(refusal(&["profile", &file]), format!("{file}: it has no rate"));
    std::fs::write(&file, "rcumalloc profile 1\nrate 5\nmaps\n").expect("it can be written");
    assert_eq!(refusal(&["profile", &file, "--flame", &file]), "there is nothing to draw");
    assert!(refusal(&["profile", "/nonexistent"]).starts_with("cannot read /nonexistent: "));
}
