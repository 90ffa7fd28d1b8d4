//! JSON: one object, whose schema is `preload/include/rcumalloc-stats.schema.json`.

use super::family::{Family, Form, for_each_class, for_each_family, places, work};
use super::text::{REASON, SCAN_NAMES, reason_name};
use crate::class::backlog::DOMAIN;
use crate::os::line::Line;
use crate::os::sink::Sink;
use crate::release::scan_log;

/// An object's fields, each on a line of its own that begins with what divides it from the one before.
struct Json<'a> {
    to: Sink<'a>,
    start: &'static str,
}

impl Json<'_> {
    /// The beginning of a line for what is called `name`.
    fn named(&mut self, name: &str) -> Line {
        let mut line = Line::plain();
        line.str(core::mem::replace(&mut self.start, ",\"")).str(name).str("\": ");
        line
    }
}

impl Form for Json<'_> {
    fn one(&mut self, family: &Family, value: u64) {
        self.named(family.name).dec(value).emit_to(self.to);
    }

    fn labelled(&mut self, family: &Family, _label: &str, names: &[&str], values: &[u64]) {
        // In parts: all of it is longer than a line.
        let mut line = self.named(family.name);
        line.str("{").emit_part_to(self.to);
        fields(&mut line, "\"", names.iter().copied().zip(values.iter().copied()));
        line.str("}").emit_to(self.to);
    }
}

/// Adds fields with numbers to `line`, the first one behind `start`.
fn fields<'a>(line: &mut Line, mut start: &'static str, fields: impl Iterator<Item = (&'a str, u64)>) {
    for (name, value) in fields {
        line.str(core::mem::replace(&mut start, ", \"")).str(name).str("\": ").dec(value);
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub(super) fn write(to: Sink<'_>) {
    let mut json = Json { to, start: "{\"" };
    for_each_family(&mut json);
    array(&mut json, "period_latency", latency);
    array(&mut json, "classes", classes);
    array(&mut json, "scan_log", scans);
    say(to, "}");
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn begin_array(json: &mut Json<'_>, name: &str) {
    json.named(name).str("[").emit_to(json.to);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn say(to: Sink<'_>, text: &str) {
    Line::plain().str(text).emit_to(to);
}

// Each part by itself: together they would need the stack of all of them.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn array(json: &mut Json<'_>, name: &str, elements: fn(Sink<'_>)) {
    begin_array(json, name);
    elements(json.to);
    say(json.to, "]");
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn latency(to: Sink<'_>) {
    let mut start = " {\"";
    for bucket in 0..rcu::BUCKETS {
        if let Some((up_to, count @ 1..)) = DOMAIN.latency_bucket(bucket) {
            let mut line = Line::plain();
            fields(&mut line, start, [("up_to_ns", up_to), ("periods", count)].into_iter());
            line.str("}").emit_to(to);
            start = " ,{\"";
        }
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn classes(to: Sink<'_>) {
    let mut start = " {\"";
    for_each_class(|class| {
        let mut line = Line::plain();
        line.str(start).str("block_bytes\": ").dec(class.block_bytes).str(", \"slabs\": ").dec(class.slabs);
        for counts in [places, work] {
            fields(&mut line, ", \"", counts(class).iter().copied());
        }
        line.str("}").emit_to(to);
        start = " ,{\"";
    });
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn scans(to: Sink<'_>) {
    let mut start = " {";
    scan_log::for_each(|scan| {
        let mut line = Line::plain();
        line.str(core::mem::replace(&mut start, " ,{"));
        for (at, (name, value)) in SCAN_NAMES.iter().zip(scan).enumerate() {
            line.str(if at == 0 { "\"" } else { ", \"" }).str(name).str("\": ");
            if at == REASON {
                line.str("\"").str(reason_name(value)).str("\"")
            } else {
                line.dec(value)
            };
        }
        line.str("}").emit_to(to);
    });
}
