//! `stats`: the figures of a process, once.

use std::path::Path;

use super::area::Area;
use super::figures::Snapshot;
use crate::outcome::{Common, Refusal};
use crate::output::table::{Table, kib, nanoseconds};

/// Prints what the process has published; with `--json` what the library itself has written.
pub fn run(pid: i32, common: &Common) -> Result<(), Refusal> {
    let snapshot = Area::find(pid)?.look()?;
    match common.json.as_deref() {
        Some(file) if file == Path::new("-") => super::say(&snapshot.json),
        Some(file) => std::fs::write(file, &snapshot.json)
            .map_err(Refusal::of(format_args!("cannot write {}", file.display())))?,
        None => {
            let mut text =
                format!("{} ({}), as of {} ago\n", snapshot.name, snapshot.pid, age(snapshot.age_ns));
            for table in tables(&snapshot) {
                text += &format!("\n{}\n", table.text());
            }
            super::say(&text);
        }
    }
    Ok(())
}

/// How long ago, for people.
pub fn age(ns: u64) -> String {
    format!("{:.1} s", ns as f64 / 1e9)
}

/// Bytes for people.
pub fn bytes(value: u64) -> String {
    kib(value as f64 / 1024.0)
}

/// A figure as its name says what it is.
pub fn shown(name: &str, value: u64) -> String {
    if name.contains("bytes") {
        bytes(value)
    } else if name.ends_with("_ns") {
        nanoseconds(value as f64)
    } else {
        value.to_string()
    }
}

/// All figures.
pub fn tables(snapshot: &Snapshot) -> Vec<Table> {
    let figures = &snapshot.figures;
    let mut plain = Table::new("Figures", &["figure", "value"]);
    plain.row(["resident, as the kernel says".to_owned(), bytes(snapshot.rss_bytes)]);
    for (name, value) in figures.plain() {
        plain.row([name.to_owned(), shown(name, value)]);
    }
    for family in figures.families() {
        for (label, value) in figures.labels(family) {
            plain.row([format!("{family} {label}"), shown(family, value)]);
        }
    }
    let head = ["bytes of a block", "slabs", "live", "cached", "deferred", "in slabs", "live bytes"];
    let mut classes = Table::new("Size classes", &head).note("In blocks.");
    for class in &figures.classes {
        let counts =
            [class.block_bytes, class.slabs, class.live, class.cached, class.deferred, class.in_slabs];
        let cells = counts.iter().map(u64::to_string);
        classes.row(cells.chain([bytes(class.live * class.block_bytes)]));
    }
    let mut stalls = Table::new(
        "Readers that held grace periods up",
        &["thread", "began at", "held for", "longest", "byte seconds", "looks"],
    );
    for stall in &snapshot.stalls {
        stalls.row([
            stall.thread.to_string(),
            stall.began.clone(),
            nanoseconds(stall.held_ns as f64),
            nanoseconds(stall.longest_ns as f64),
            stall.byte_seconds.to_string(),
            stall.looks.to_string(),
        ]);
    }
    [plain, classes, stalls].into_iter().filter(|table| !table.rows.is_empty()).collect()
}
