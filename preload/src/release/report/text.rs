//! Text: a figure a line, a class a line, a scan a line, for people and for `grep`.

use super::family::{Family, Form, for_each_class, for_each_family, places, work};
use crate::os::line::Line;
use crate::os::sink::Sink;
use crate::release::scan_log::{self, REASON_NAMES};

/// What is said of each of the last scans.
pub(super) const SCAN_NAMES: [&str; 6] = ["at_ns", "took_ns", "reason", "target", "given", "refills"];
/// The place of the reason among them.
pub(super) const REASON: usize = 2; // (given) as a place

pub(super) fn reason_name(reason: u64) -> &'static str {
    REASON_NAMES.get(reason as usize).copied().unwrap_or("?")
}

struct Text<'a>(Sink<'a>);

impl Form for Text<'_> {
    fn one(&mut self, family: &Family, value: u64) {
        Line::new().str(family.name).str(" ").dec(value).emit_to(self.0);
    }

    fn labelled(&mut self, family: &Family, _label: &str, names: &[&str], values: &[u64]) {
        for (name, value) in names.iter().zip(values) {
            Line::new().str(family.name).str("_").str(name).str(" ").dec(*value).emit_to(self.0);
        }
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub(super) fn write(to: Sink<'_>) {
    for_each_family(&mut Text(to));
    classes(to);
    scans(to);
}

// Each part by itself: together they would need the stack of all of them.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn classes(to: Sink<'_>) {
    for_each_class(|class| {
        let mut line = Line::new();
        line.str("class ").dec(class.block_bytes).str(" slabs=").dec(class.slabs);
        for counts in [places, work] {
            for (name, value) in counts(class) {
                line.str(" ").str(name).str("=").dec(value);
            }
        }
        line.emit_to(to);
    });
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn scans(to: Sink<'_>) {
    scan_log::for_each(|scan| {
        let mut line = Line::new();
        line.str("scan");
        for (at, (name, value)) in SCAN_NAMES.iter().zip(scan).enumerate() {
            line.str(" ").str(name).str("=");
            if at == REASON {
                line.str(reason_name(value))
            } else {
                line.dec(value)
            };
        }
        line.emit_to(to);
    });
}
