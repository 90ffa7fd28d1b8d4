//! rows.txt, "Typed pools": a test a row, named as the row.

use rcumalloc_tests::{Outcome, Victim};

fn pools(what: &str) -> Outcome {
    Victim::new("pools").arg(what).run().success().said(&[])
}

/// Readers look at freed objects of a table for as long as they may, while its pool gives memory up and
/// others overwrite all that they get.
#[test]
fn pool_type_until_period() {
    let outcome = Victim::new("pool_table").arg("torture").run().success().said(&[]);
    assert_eq!(outcome.number("strange"), 0, "an object became something else under a reader\n{outcome}");
    assert_eq!(outcome.number("wrong"), 0, "{outcome}");
}

/// A reader that does not ask again whose the object is finds others: that is what the asking is for.
#[test]
fn pool_identity_changes() {
    let outcome = Victim::new("pool_table").arg("careless").run().success().said(&[]);
    assert_eq!(outcome.number("strange"), 0, "{outcome}");
    assert!(outcome.number("wrong") > 0, "nothing was handed out again under a reader\n{outcome}");
}

#[test]
fn pool_reuse() {
    let outcome = pools("reuse");
    assert_eq!(outcome.number("plain"), 0, "handed out under a section\n{outcome}");
    assert!(outcome.number("typed") > 2000, "not handed out again at once\n{outcome}");
    for name in ["plain", "typed"] {
        // One by one: trimmed, and destroyed, both under a section.
        assert_eq!(outcome.number(&format!("{name}_trimmed")), 0, "{outcome}");
        assert_eq!(outcome.number(&format!("{name}_destroyed")), 0, "{outcome}");
    }
    assert_eq!(outcome.number("deferred"), 0, "what was destroyed is still waited for\n{outcome}");
    outcome.below("plain_bytes", 4 << 20).below("typed_bytes", 2 << 20);
}

#[test]
fn pool_threads() {
    let outcome = pools("threads");
    for name in ["live", "bytes", "waiting", "deferred"] {
        assert_eq!(outcome.number(name), 0, "{outcome}");
    }
}

#[test]
fn pool_forks() {
    assert_eq!(pools("forks").number("live"), 0);
}

#[test]
fn pool_shapes() {
    pools("owner");
}

#[test]
fn pool_bad_calls() {
    let cases = [
        ("free", "free(0x*): an object of 100 bytes of the pool one: it is for rcumalloc_pool_free"),
        (
            "size",
            "malloc_usable_size(0x*): points 3 bytes into an object of 100 bytes of the pool one: it is for \
             rcumalloc_pool_free",
        ),
        ("realloc", "realloc(0x*): an object of 100 bytes of the pool one: it is for rcumalloc_pool_free"),
        (
            "other",
            "rcumalloc_pool_free(two, 0x*): not an object of this pool: an object of 100 bytes of the pool \
             one",
        ),
        ("block", "rcumalloc_pool_free(one, 0x*): not an object of this pool: a block of 112 bytes in use"),
        (
            "middle",
            "rcumalloc_pool_free(one, 0x*): not an object of this pool: points 8 bytes into an object of 100 \
             bytes of the pool one",
        ),
        ("stack", "rcumalloc_pool_free(one, 0x*): not an object of this pool: not a pointer of this heap"),
        ("twice", "rcumalloc_pool_free(one, 0x*): double free of an object of this pool"),
        ("live", "rcumalloc_pool_destroy(0x*): objects of the pool one are with the program: 1"),
        ("gone", "rcumalloc_pool_alloc(0x*): the pool one was destroyed"),
        ("handle", "rcumalloc_pool_alloc(0x*): not a pool"),
    ];
    for (what, line) in cases {
        let outcome = Victim::new("pools").arg(what).env("RCUMALLOC_ON_ERROR", "report").run().success();
        let ours: Vec<String> = outcome.ours().iter().map(|line| without_address(line)).collect();
        assert_eq!(ours, [format!("rcumalloc: {line}")], "{what}: {outcome}");
        let outcome = Victim::new("pools").arg(what).run();
        assert!(outcome.ours().len() == 1 && outcome.stdout.is_empty(), "{what} goes on\n{outcome}");
    }
}

/// Addresses differ from run to run.
fn without_address(line: &str) -> String {
    match line.split_once("0x") {
        Some((before, rest)) => {
            format!("{before}0x*{}", rest.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()))
        }
        None => line.to_owned(),
    }
}
