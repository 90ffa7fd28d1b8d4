//! XML, for `malloc_info`: what glibc's has and this heap knows, then every figure.

use super::family::{Family, Form, for_each_class, for_each_family, places};
use crate::os::line::Line;
use crate::release::stats::{self, Stats};
use core::ffi::c_void;

/// A stream of libc's, and whether it has taken everything so far.
struct Xml {
    stream: *mut libc::FILE,
    is_whole: bool,
}

impl Xml {
    fn put(&mut self, line: &mut Line) {
        let text = line.str("\n").as_bytes();
        // SAFETY: the caller's open stream, and bytes of a line.
        let wrote = unsafe { libc::fwrite(text.as_ptr().cast::<c_void>(), 1, text.len(), self.stream) };
        self.is_whole &= wrote == text.len();
    }

    /// An element that is empty but for its attributes.
    fn element(&mut self, name: &str, text: &[(&str, &str)], numbers: &[(&str, u64)]) {
        let mut line = Line::plain();
        line.str("<").str(name);
        for (name, value) in text {
            line.str(" ").str(name).str("=\"").str(value).str("\"");
        }
        for (name, value) in numbers {
            line.str(" ").str(name).str("=\"").dec(*value).str("\"");
        }
        self.put(line.str("/>"));
    }
}

impl Form for Xml {
    fn one(&mut self, family: &Family, value: u64) {
        self.element("figure", &[("name", family.name)], &[("value", value)]);
    }

    fn labelled(&mut self, family: &Family, label: &str, names: &[&str], values: &[u64]) {
        for (name, value) in names.iter().zip(values) {
            self.element("figure", &[("name", family.name), (label, name)], &[("value", *value)]);
        }
    }
}

/// Writes the figures to `stream`; false if it does not take them.
///
/// # Safety
/// The stream is open.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub unsafe fn write(stream: *mut libc::FILE) -> bool {
    let mut xml = Xml { stream, is_whole: true };
    classes(&mut xml);
    totals(&mut xml);
    for_each_family(&mut xml);
    xml.put(Line::plain().str("</malloc>"));
    xml.is_whole
}

// Each part by itself: together they would need the stack of all of them.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn classes(xml: &mut Xml) {
    const HEAD: &str = concat!("<malloc version=\"rcumalloc-", env!("CARGO_PKG_VERSION"), "\">");
    for text in [HEAD, "<heap nr=\"0\">", "<sizes>"] {
        xml.put(Line::plain().str(text));
    }
    for_each_class(|class| {
        let [(_, live), (_, cached), (_, deferred), (_, in_slabs)] = places(class);
        let count = [("to", class.block_bytes), ("count", cached + deferred + in_slabs), ("live", live)];
        xml.element("size", &[], &count);
    });
    xml.put(Line::plain().str("</sizes>"));
}

/// What glibc's report has, too.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn totals(xml: &mut Xml) {
    let mut s = Stats::default();
    stats::collect_into(&mut s);
    let mut total = |name, kind, numbers: &[_]| xml.element(name, &[("type", kind)], numbers);
    total("total", "live", &[("size", s.live_bytes)]);
    total("total", "large", &[("count", s.large_allocated), ("size", s.live_large_bytes)]);
    total("total", "deferred", &[("size", s.deferred_bytes), ("max", s.deferred_peak_bytes)]);
    total("system", "current", &[("size", s.mapped_bytes)]);
    total("system", "dirty", &[("size", s.dirty_bytes)]);
    total("aspace", "total", &[("size", s.window_bytes)]);
    xml.put(Line::plain().str("</heap>"));
}
