//! Who stalls (`release::stall`), as text, JSON, or folded for a flame graph: a line for each thread and
//! place where its sections began. Addresses are as the process has them: who reads them has its maps.

use crate::os::line::Line;
use crate::os::sink::Sink;
use crate::release::stall::{self, Held};

/// Writes the accounts to `to`. False for a format nobody knows.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn write(to: Sink<'_>, format: &[u8]) -> bool {
    match format {
        b"text" => stall::for_each(|held| text(to, &held)),
        b"json" => json(to),
        b"folded" => stall::for_each(|held| folded(to, &held)),
        _ => return false,
    }
    true
}

/// Deferred bytes times seconds: what a section costs.
fn byte_seconds(held: &Held) -> u64 {
    held.byte_ms / 1000
}

fn text(to: Sink<'_>, held: &Held) {
    let mut line = Line::new();
    line.str("stalled thread=").dec(held.tid.into()).str(" began=").hex(held.began as u64);
    line.str(" held=").seconds(held.held_ns).str(" longest=").seconds(held.longest_ns);
    line.str(" byte_seconds=").dec(byte_seconds(held)).str(" looks=").dec(held.looks).emit_to(to);
}

fn json(to: Sink<'_>) {
    let mut start = "[{";
    stall::for_each(|held| {
        let mut line = Line::plain();
        line.str(core::mem::replace(&mut start, ",{")).str("\"thread\": ").dec(held.tid.into());
        line.str(", \"began\": \"").hex(held.began as u64).str("\", \"held_ns\": ").dec(held.held_ns);
        line.str(", \"longest_ns\": ").dec(held.longest_ns).str(", \"byte_seconds\": ");
        line.dec(byte_seconds(&held)).str(", \"looks\": ").dec(held.looks).str("}").emit_to(to);
    });
    Line::plain().str(if start == "[{" { "[]" } else { "]" }).emit_to(to);
}

/// As flame graphs are made of: frames, the outermost first, and a weight.
fn folded(to: Sink<'_>, held: &Held) {
    let mut line = Line::plain();
    line.str("thread ").dec(held.tid.into()).str(";").hex(held.began as u64).str(" ");
    line.dec(byte_seconds(held)).emit_to(to);
}
