//! What the heap says of itself: the figures, in every form, and the messages about bad calls.

use rcumalloc_tests::{Victim, build, command};
use std::fs;

/// Over size classes and kinds of page, by what holds them, and against what the program itself holds; after
/// every call. The same after every step of the model is `preload/tests/figures.rs`.
#[test]
fn figures_add_up() {
    for mode in ["all", "api", "strict"] {
        Victim::new("figures").arg("sums").env("RCUMALLOC_DEFER", mode).run().success();
    }
}

/// Text, JSON against its schema, Prometheus' format and XML, each read by a parser that others wrote, and
/// all the same.
#[test]
fn figures_are_well_formed() {
    let dir = build::scratch("figures_are_well_formed");
    Victim::new("figures").arg("forms").arg(&dir).run().success();
    let checker = build::root().join("tests/programs/figures.py");
    let schema = build::root().join("preload/include/rcumalloc-stats.schema.json");
    let outcome = command(build::installed("python3")).on_glibc().arg(checker).arg(&dir).arg(schema).run();
    assert!(outcome.success().text().starts_with("families "));
}

/// A handler interrupts malloc and free wherever they are, with whatever lock they hold, and writes the
/// figures.
#[test]
fn figures_in_a_handler() {
    let outcome = Victim::new("figures").arg("handler").patience(60).run().success();
    assert!(outcome.number("written") > 20, "{outcome}");
}

/// Who holds grace periods up, for how long, and where the sections began.
#[test]
fn who_stalls() {
    let outcome = Victim::new("stalls").env("RCUMALLOC_GP_AGE_MS", "50").run().success();
    for place in ["first", "second", "third", "unknown"] {
        assert!(outcome.number(&format!("{place}_looks")) > 0, "{place}\n{outcome}");
    }
    // Each lasted 700 ms and was looked at again and again, by a thread that had nothing else to do.
    assert!(outcome.number("first_ms") > 70 && outcome.number("second_ms") > 70, "{outcome}");
    assert_eq!(outcome.word("json"), "ok");
    // The message of the detector has the place, too.
    let victim = Victim::new("stalls").env("RCUMALLOC_GP_AGE_MS", "50").env("RCUMALLOC_STALL_MS", "200");
    let said = victim.run().success();
    let placed = |line: &String| line.contains("bytes wait [it began at 0x");
    assert!(said.ours().iter().any(placed), "{said}");
}

/// Whose an address is: whatever the block and wherever in it, on its way back, in a handler of a crash.
#[test]
fn whose_address() {
    Victim::new("owner").arg("random").run().success();
    Victim::new("owner").arg("freed").run().success();
    assert_eq!(Victim::new("owner").arg("crash").run().success().number("crashed_in"), 1);
}

/// A block of 1 GiB has 2 MiB of words, a few of which name it. What remains is its units' descriptors.
#[test]
fn whose_address_costs_little() {
    let outcome = Victim::new("owner").arg("far").run().success();
    assert!(outcome.number("grown_kib") < 1024, "{outcome}");
}

/// Whether a block was freed before the section that asks began: never said of one that it may hold.
#[test]
fn freed_before_the_section() {
    for mode in ["all", "strict"] {
        let outcome = Victim::new("check").env("RCUMALLOC_DEFER", mode).run().success();
        assert!(outcome.number("freed_in_sight") > 0, "{outcome}");
    }
}

/// What is published for who looks from outside: off unless asked for, the figures of that moment on a
/// signal, a copy that belongs together, a forked child's own, by slow paths and by the watcher where all
/// sleep.
#[test]
fn watched() {
    Victim::new("watched").arg("off").run().success();
    for mode in ["all", "api", "strict"] {
        let victim = |what: &str, when: &str| {
            Victim::new("watched").arg(what).env("RCUMALLOC_WATCH", when).env("RCUMALLOC_DEFER", mode)
        };
        for what in ["signal", "fork", "consistent"] {
            let outcome = victim(what, "USR2").run().success();
            assert_eq!(outcome.ours(), [""; 0], "{outcome}");
        }
        victim("time", "1").run().success();
    }
    // What cannot be is one line, and the program runs.
    let bad = |when: &str| Victim::new("watched").arg("off").env("RCUMALLOC_WATCH", when);
    let line = "rcumalloc: RCUMALLOC_WATCH=KILL: not understood; the default is in force";
    bad("KILL").run().success().said(&[line]);
    let outcome = bad("1").limit(libc::RLIMIT_FSIZE, 4096).run();
    let line = "rcumalloc: RCUMALLOC_WATCH: no pages to publish the figures in; error 27";
    assert_eq!(outcome.ours().first().map(String::as_str), Some(line), "{outcome}");
}

/// A message without what differs from run to run: addresses, numbers of threads, times, what waits.
fn without_numbers(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_string).collect();
    for at in 0..words.len() {
        let digits = words[at].trim_matches(|c: char| !c.is_ascii_digit()).to_string();
        let is_thread = at > 0 && words[at - 1].ends_with("thread");
        let unit: Vec<&str> = words.iter().skip(at + 1).take(2).map(String::as_str).collect();
        let is_time = matches!(unit.as_slice(), ["ms" | "ms;", ..] | ["bytes", "wait"] | ["grace", _]);
        if !digits.is_empty() && (is_thread || is_time) {
            words[at] = words[at].replace(&digits, "N");
        }
    }
    let mut rest = words.join(" ").replace(" grace periods ", " grace period ");
    let mut text = String::new();
    while let Some((before, address)) = rest.split_once("0x") {
        text += &format!("{before}ADDRESS");
        rest = address.trim_start_matches(|c: char| c.is_ascii_hexdigit()).to_string();
    }
    text + &rest
}

/// Each example of docs/messages.md is what the library says.
#[test]
fn messages() {
    let page = fs::read_to_string(build::root().join("docs/messages.md")).expect("there is docs/messages.md");
    let mut lines = page.lines();
    let mut compared = 0;
    let conf = build::scratch("messages");
    while let Some(line) = lines.next() {
        let Some(how) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) else {
            continue;
        };
        assert_eq!(lines.next(), Some("```"), "{how}");
        let mut example = lines.next().expect("an example").to_string();
        // A message that is longer than the page is wide goes on, indented.
        for more in lines.by_ref().map_while(|line| line.strip_prefix("    ")) {
            example = format!("{example} {more}");
        }
        let outcome = match how.split_once(' ') {
            Some(("bad_calls", kind)) => Victim::new("bad_calls").arg(kind).run(),
            Some(("pools", kind)) => Victim::new("pools").arg(kind).run(),
            Some(("trap", bug)) => Victim::new("trap_bugs").arg(bug).env("RCUMALLOC_TRAP", "1/1").run(),
            _ if how == "ledger" => {
                Victim::new("ledger").arg("wrong").env("RCUMALLOC_LEDGER", "1").run().success()
            }
            Some(("env", setting)) => {
                let (name, value) = setting.split_once('=').expect("NAME=VALUE");
                command(build::installed("true")).env(name, value).run().success()
            }
            // What a program in Rust has in its code: preload/tests/options_in_code.rs compares it.
            Some(("code", _)) => continue,
            Some(("conf", line)) => {
                fs::write(conf.join("rcumalloc.conf"), line).expect("a file can be written");
                let program = command(build::installed("true"));
                program.env("RCUMALLOC_CONF", conf.join("rcumalloc.conf")).run().success()
            }
            _ => {
                let victim = Victim::new("stalls").env("RCUMALLOC_GP_AGE_MS", "50");
                victim.env("RCUMALLOC_STALL_MS", "200").run().success()
            }
        };
        let ours = outcome.ours();
        let has_more = ["stalls", "ledger"].contains(&how) || how.starts_with("trap ");
        assert!(ours.len() == 1 || has_more, "{how}: one line\n{outcome}");
        let said = ours[0].replace(&conf.display().to_string(), "/tmp");
        assert_eq!(without_numbers(&said), without_numbers(&example), "{how}");
        compared += 1;
    }
    assert!(compared > 20, "{compared} examples");
    // One that does not look for the block would say less.
    assert!(page.replace("\n    ", " ").matches("; it waits for a grace period]").count() > 3);
}
