//! Trapped blocks (`RCUMALLOC_TRAP`): what is found, and who is not accused.

use rcumalloc_tests::{Outcome, Victim};
use std::os::unix::process::ExitStatusExt;

fn run(program: &str, what: &str) -> Outcome {
    Victim::new(program).arg(what).env("RCUMALLOC_TRAP", "1/1").run()
}

/// Mistakes by number in `trap_bugs.c`: what ends the program, and what is said first.
const BUGS: [(i32, &str); 24] = [
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 3 of a block of 32 bytes that was freed "),
    (
        libc::SIGSEGV,
        "use after free: thread N writes to ADDRESS, byte 31 of a block of 32 bytes that was freed ",
    ),
    (
        libc::SIGSEGV,
        "out of bounds: thread N reads ADDRESS, 0 bytes past the end of a block of 32 bytes, at ",
    ),
    (
        libc::SIGSEGV,
        "out of bounds: thread N writes to ADDRESS, 0 bytes past the end of a block of 32 bytes, at ",
    ),
    (libc::SIGABRT, "free(ADDRESS): a trapped block of 27 bytes was written past its end, at byte 27"),
    (libc::SIGABRT, "free(ADDRESS): double free of a trapped block of 32 bytes [thread N freed it "),
    (libc::SIGABRT, "free(ADDRESS): points 8 bytes into a trapped block of 32 bytes at ADDRESS"),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 0 of a block of 32 bytes that was freed "),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 0 of a block of 32 bytes that was freed "),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 0 of a block of 32 bytes that was freed "),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 0 of a block of 32 bytes that was freed "),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 2 of a block of 32 bytes that was freed "),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 0 of a block of 32 bytes that was freed "),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte "),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 0 of a block of 16 bytes that was freed "),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 8 of a block of 32 bytes that was freed "),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 0 of a block of 256 bytes that was freed "),
    (libc::SIGSEGV, "out of bounds: thread N reads ADDRESS, 4096 bytes in front of a block of 32 bytes, at "),
    (libc::SIGABRT, "free_sized(ADDRESS, 31): wrong size or alignment: a trapped block of 32 bytes"),
    (
        libc::SIGSEGV,
        "use after free: thread N reads ADDRESS, byte 0 of a block of 32 bytes that was freed 0 ",
    ),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 0 of a block of 32 bytes that was freed "),
    (libc::SIGABRT, "realloc(ADDRESS): use after free of a trapped block of 32 bytes [thread N freed it "),
    (
        libc::SIGSEGV,
        "use after free: thread N writes to ADDRESS, byte 0 of a block of 32 bytes that was freed ",
    ),
    (libc::SIGSEGV, "use after free: thread N reads ADDRESS, byte 16 of a block of 32 bytes that was freed "),
];

/// Without addresses and numbers of threads.
fn without_numbers(line: &str) -> String {
    let mut text = line.strip_prefix("rcumalloc: ").unwrap_or(line).to_string();
    while let Some(at) = text.find("0x") {
        let digits = text[at + 2..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len() - at - 2);
        text.replace_range(at..at + 2 + digits, "ADDRESS");
    }
    let mut words: Vec<&str> = text.split(' ').collect();
    for at in 1..words.len() {
        if words[at - 1].ends_with("thread") {
            words[at] = "N";
        }
    }
    words.join(" ")
}

/// Read, write, past the end and in front, twice, by another thread, after a section in which it was freed:
/// each is found where it happens.
#[test]
fn trap_finds() {
    for (number, (signal, said)) in BUGS.iter().enumerate() {
        let outcome = run("trap_bugs", &(number + 1).to_string());
        let first = outcome.ours().first().map(|line| without_numbers(line)).unwrap_or_default();
        assert!(first.starts_with(said), "{number}: {first:?}\n{outcome}");
        assert_eq!(outcome.status.signal(), Some(*signal), "{outcome}");
        if *signal == libc::SIGSEGV {
            // Who had it, and from where: never the heap itself, which is what comes first on the stack.
            let given = outcome.ours().get(1).map(|line| without_numbers(line)).unwrap_or_default();
            assert!(given.starts_with("it was allocated by thread N at ADDRESS"), "{outcome}");
            if number == 15 {
                // calloc and the use are in the same function.
                let last = |line: &str| line.rsplit("at 0x").next().map(str::to_string).unwrap_or_default();
                let place = |line: usize| {
                    let text = last(&outcome.ours()[line]);
                    let digits = text.split(' ').next().unwrap_or_default().to_string();
                    i64::from_str_radix(&digits, 16).expect("an address")
                };
                assert!((place(0) - place(1)).abs() < 4096, "{outcome}");
            }
        }
        if said.starts_with("use") {
            let freed = outcome.ours().get(2).map(|line| without_numbers(line));
            let is_known = freed.is_none_or(|line| line.starts_with("it was freed by thread N at ADDRESS"));
            assert!(is_known, "{outcome}");
        }
    }
}

/// Whatever a section may still use may be used.
#[test]
fn trap_accuses_nobody() {
    for number in 0..25 {
        for mode in ["all", "strict"] {
            let victim = Victim::new("trap_correct").arg(number.to_string()).env("RCUMALLOC_DEFER", mode);
            let outcome = victim.env("RCUMALLOC_TRAP", "1/1").run().success();
            assert_eq!(outcome.ours(), [""; 0], "{outcome}");
        }
    }
}

/// The program's own handler of SIGSEGV, installed before or afterwards, of either form, runs behind the
/// report and for faults of the program's own. In the child of a fork, and where reports end nothing.
#[test]
fn trap_is_a_guest() {
    let outcome = run("trap_bugs", "handled").success();
    assert_eq!(outcome.number("caught"), 6, "{outcome}");
    let reports = outcome.ours().iter().filter(|line| line.contains("use after free")).count();
    assert_eq!(reports, 4, "{outcome}");
    let outcome = run("trap_bugs", "forked").success();
    assert_eq!(outcome.number("signal"), libc::SIGSEGV as u64, "{outcome}");
    let victim = Victim::new("trap_bugs").arg("reported").env("RCUMALLOC_ON_ERROR", "report");
    let outcome = victim.env("RCUMALLOC_TRAP", "1/1").run().success();
    assert_eq!(outcome.number("went_on"), 1, "{outcome}");
}

/// One block in a thousand, with more live ones than there are places: the program notices nothing, and who
/// makes the mistake often enough is found.
#[test]
fn trap_samples() {
    for rate in ["1/7", "1/1000"] {
        for program in [["trap_load", "right"], ["trap_load", "wrong"]] {
            let outcome = Victim::new(program[0]).arg(program[1]).env("RCUMALLOC_TRAP", rate).run();
            if program[1] == "right" {
                let outcome = outcome.success();
                assert_eq!(outcome.ours(), [""; 0]);
                let (trapped, live) = (outcome.number("trapped"), outcome.number("live"));
                assert!(trapped.is_multiple_of(40) && (rate != "1/7" || trapped > 100 * 40), "{outcome}");
                // A block of 40 bytes has 48.
                assert_eq!(trapped / 40 + live / 48, 2000, "{outcome}");
            } else {
                assert_eq!(outcome.status.signal(), Some(libc::SIGSEGV), "{outcome}");
                assert!(outcome.ours()[0].contains("use after free"), "{outcome}");
            }
        }
    }
}

/// What the wait for a grace period has absorbed is said and counted, by block; correct programs hear
/// nothing.
#[test]
fn writes_that_the_wait_absorbed() {
    let ledger = |what: &str, rate: &str| Victim::new("ledger").arg(what).env("RCUMALLOC_LEDGER", rate).run();
    let outcome = ledger("wrong", "1").success();
    assert_eq!(outcome.number("changed"), 3, "{outcome}");
    assert!(outcome.number("looked_at") > 1000, "{outcome}");
    let text = outcome.text().to_string();
    let said = outcome.ours();
    for address in text.lines().filter_map(|line| line.strip_prefix("wrote ")) {
        let address = format!(" at 0x{:x} was written to", address.parse::<u64>().expect("a number"));
        let is_of_it =
            |line: &&String| line.contains("write after free: a block of ") && line.contains(&address);
        assert_eq!(said.iter().filter(is_of_it).count(), 1, "{address}\n{outcome}");
    }
    for rate in ["1", "3", "0"] {
        let outcome = ledger("right", rate).success();
        assert_eq!(outcome.ours(), [""; 0], "{outcome}");
        assert_eq!(
            (outcome.number("looked_at") > 0, outcome.number("changed")),
            (rate != "0", 0),
            "{outcome}"
        );
    }
}
