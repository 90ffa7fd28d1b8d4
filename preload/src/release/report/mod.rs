//! The figures as text, JSON, XML or for Prometheus: one list of families, and a way to write each kind of
//! family for each form. Written line by line from the stack: nothing is allocated, no lock is waited for, no
//! locale is asked, so every form but XML, which goes through a stream of libc's, can be written in a signal
//! handler.

mod family;
mod json;
mod profile;
mod prometheus;
mod stalls;
mod text;
mod xml;

use crate::os::sink::Sink;

pub use profile::write as write_profile;
pub use stalls::write as write_stalls;
pub use xml::write as write_xml;

/// Writes the figures to `to`. False for a format nobody knows.
pub fn write(to: Sink<'_>, format: &[u8]) -> bool {
    match format {
        b"text" => text::write(to),
        b"json" => json::write(to),
        b"prometheus" => prometheus::write(to),
        _ => return false,
    }
    true
}
