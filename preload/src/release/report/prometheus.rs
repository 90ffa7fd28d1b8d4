//! Prometheus' text format, version 0.0.4: each family with its HELP and its TYPE, counters with `_total`
//! behind their name, times in seconds.

use super::family::{Family, Form, Kind, for_each_class, for_each_family, places, work};
use crate::class::backlog::DOMAIN;
use crate::os::line::Line;
use crate::os::sink::Sink;
use crate::release::census::ClassStats;

struct Prometheus<'a>(Sink<'a>);

/// The name of a family of ours, in parts.
struct Name<'a> {
    base: &'a str,
    unit: &'static str,
    total: &'static str,
}

impl<'a> Name<'a> {
    const fn plain(base: &'a str) -> Name<'a> {
        Name { base, unit: "", total: "" }
    }

    fn of(family: &Family) -> Name<'_> {
        let total = if family.kind == Kind::Counter { "_total" } else { "" };
        match family.name.strip_suffix("_ns") {
            Some(base) => Name { base, unit: "_seconds", total },
            None => Name { base: family.name, unit: "", total },
        }
    }

    fn put(&self, line: &mut Line) {
        line.str("rcumalloc_").str(self.base).str(self.unit).str(self.total);
    }

    fn put_value(&self, line: &mut Line, value: u64) {
        line.str(" ");
        if self.unit.is_empty() {
            line.dec(value)
        } else {
            line.seconds(value)
        };
    }
}

impl Prometheus<'_> {
    #[inline(never)]
    fn head(&mut self, name: &Name<'_>, kind: &str, help: &str) {
        let mut line = Line::plain();
        for (what, text) in [("# HELP ", help), ("# TYPE ", kind)] {
            name.put(line.str(what));
            line.str(" ").str(text).emit_to(self.0);
        }
    }

    fn begin<'a>(&mut self, family: &'a Family) -> Name<'a> {
        let name = Name::of(family);
        self.head(&name, if family.kind == Kind::Counter { "counter" } else { "gauge" }, family.help);
        name
    }
}

impl Form for Prometheus<'_> {
    fn one(&mut self, family: &Family, value: u64) {
        let name = self.begin(family);
        let mut line = Line::plain();
        name.put(&mut line);
        name.put_value(&mut line, value);
        line.emit_to(self.0);
    }

    fn labelled(&mut self, family: &Family, label: &str, names: &[&str], values: &[u64]) {
        let full = self.begin(family);
        let mut line = Line::plain();
        for (name, value) in names.iter().zip(values) {
            full.put(&mut line);
            line.str("{").str(label).str("=\"").str(name).str("\"}");
            full.put_value(&mut line, *value);
            line.emit_to(self.0);
        }
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub(super) fn write(to: Sink<'_>) {
    let mut form = Prometheus(to);
    for_each_family(&mut form);
    classes(&mut form);
    latency(&mut form);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn classes(form: &mut Prometheus<'_>) {
    let to = form.0;
    form.head(&Name::plain("class_slabs"), "gauge", "Slabs by size class.");
    for_each_class(|class| sample(to, "class_slabs", class, None, class.slabs));
    form.head(&Name::plain("class_blocks"), "gauge", "Blocks by size class and place.");
    for_each_class(|class| {
        places(class).iter().for_each(|&(name, blocks)| {
            sample(to, "class_blocks", class, Some(("place", name)), blocks);
        });
    });
    form.head(&Name::plain("class_bytes"), "gauge", "Bytes of blocks by size class and place.");
    for_each_class(|class| {
        places(class).iter().for_each(|&(name, blocks)| {
            sample(to, "class_bytes", class, Some(("place", name)), blocks * class.block_bytes);
        });
    });
    let help = "Blocks taken from slabs and returned, and in how many magazines.";
    form.head(&Name::plain("class_work_total"), "counter", help);
    for_each_class(|class| {
        work(class).iter().for_each(|&(name, value)| {
            sample(to, "class_work_total", class, Some(("what", name)), value);
        });
    });
}

#[inline(never)]
fn sample(to: Sink<'_>, name: &str, class: &ClassStats, label: Option<(&str, &str)>, value: u64) {
    let mut line = Line::plain();
    line.str("rcumalloc_").str(name).str("{block_bytes=\"").dec(class.block_bytes).str("\"");
    if let Some((label, value)) = label {
        line.str(",").str(label).str("=\"").str(value).str("\"");
    }
    line.str("} ").dec(value).emit_to(to);
}

/// The histogram of latencies, a bucket for each power of two.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn latency(form: &mut Prometheus<'_>) {
    const NAME: &str = "period_latency_seconds";
    form.head(
        &Name::plain(NAME),
        "histogram",
        "From the start of a grace period to its end, of one in eight.",
    );
    // What is timed meanwhile is in the last bucket and in the count alike.
    let (mut below, sum) = (0, DOMAIN.counters().timed_ns);
    let mut line = Line::plain();
    for bucket in 0..rcu::BUCKETS {
        let Some((up_to, count)) = DOMAIN.latency_bucket(bucket) else { break };
        below += count;
        // Below 4 ns several buckets end at the same number: the last of them has them all.
        let is_last = DOMAIN.latency_bucket(bucket + 1).is_none_or(|(next, _)| next != up_to);
        if (up_to + 1).is_power_of_two() && is_last {
            line.str("rcumalloc_").str(NAME).str("_bucket{le=\"").seconds(up_to).str("\"} ").dec(below);
            line.emit_to(form.0);
        }
    }
    line.str("rcumalloc_").str(NAME).str("_bucket{le=\"+Inf\"} ").dec(below).emit_to(form.0);
    line.str("rcumalloc_").str(NAME).str("_sum ").seconds(sum).emit_to(form.0);
    line.str("rcumalloc_").str(NAME).str("_count ").dec(below).emit_to(form.0);
}
