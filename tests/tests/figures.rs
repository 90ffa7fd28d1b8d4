//! What the heap says of itself: the figures, in every form.

use rcumalloc_tests::{Victim, build, command};

/// Over size classes and kinds of page, by what holds them, and against what the program itself holds; after every call. The
/// same after every step of the model is `preload/tests/figures.rs`.
#[test]
fn figures_add_up() {
    for mode in ["all", "api", "strict"] {
        Victim::new("figures").arg("sums").env("RCUMALLOC_DEFER", mode).run().success();
    }
}

/// Text, JSON against its schema, Prometheus' format and XML, each read by a parser that others wrote, and all the same.
#[test]
fn figures_are_well_formed() {
    let dir = build::scratch("figures_are_well_formed");
    Victim::new("figures").arg("forms").arg(&dir).run().success();
    let checker = build::root().join("tests/programs/figures.py");
    let schema = build::root().join("preload/include/rcumalloc-stats.schema.json");
    let outcome = command(build::installed("python3")).on_glibc().arg(checker).arg(&dir).arg(schema).run();
    assert!(outcome.success().text().starts_with("families "));
}

/// A handler interrupts malloc and free wherever they are, with whatever lock they hold, and writes the figures.
#[test]
fn figures_in_a_handler() {
    let outcome = Victim::new("figures").arg("handler").patience(60).run().success();
    assert!(outcome.number("written") > 20, "{outcome}");
}
