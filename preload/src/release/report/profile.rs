//! The profile (`class::profile`) as it is read by `rcumalloc-bench profile`: lines of text, described in
//! docs/seeing.md, and the process's maps behind them. Written line by line from the stack: in a signal
//! handler, too.

use crate::class::{profile, sampled};
use crate::constants::{MAPS_CHUNK, PROFILE_PART};
use crate::os::line::Line;
use crate::os::sink::Sink;
use crate::os::{syscall, tid};

/// Writes what is known now. False: there was no profile.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn write(to: Sink<'_>) -> bool {
    if !sampled::is(sampled::PROFILED) {
        return false;
    }
    head(to);
    profile::for_each_site(|site, places| {
        let mut line = Line::plain();
        line.str("stack ").dec(site.stack as u64).str(" samples ").dec(site.sampled);
        line.str(" blocks ").dec(site.blocks).str(" bytes ").dec(site.bytes).str(" at");
        for place in places {
            line.str(" ").hex(place as u64);
            if line.as_bytes().len() > PROFILE_PART {
                line.emit_part_to(to);
            }
        }
        line.emit_to(to);
    });
    profile::for_each_sample(|sample| {
        let mut line = Line::plain();
        line.str(if sample.is_deferred { "deferred " } else { "live " }).dec(sample.stack as u64);
        line.str(" ").hex(sample.addr as u64).str(" ").dec(sample.size as u64).str(" ");
        line.dec(sample.held as u64).str(" ").dec(sample.age_ms.into()).emit_to(to);
    });
    maps(to);
    true
}

#[inline(never)]
fn head(to: Sink<'_>) {
    let [blocks, stacks] = profile::lost();
    Line::plain().str("rcumalloc profile 1").emit_to(to);
    Line::plain().str("pid ").dec(tid::pid().into()).emit_to(to);
    Line::plain().str("rate ").dec(profile::rate() as u64).emit_to(to);
    Line::plain().str("age_ms ").dec(profile::age_ms().into()).emit_to(to);
    Line::plain().str("lost_blocks ").dec(blocks).emit_to(to);
    Line::plain().str("lost_stacks ").dec(stacks).emit_to(to);
}

#[inline(never)]
fn maps(to: Sink<'_>) {
    Line::plain().str("maps").emit_to(to);
    let Ok(fd) = syscall::open_read(c"/proc/self/maps") else { return };
    let mut part = [0; MAPS_CHUNK];
    while let Ok(len) = syscall::read(fd, &mut part)
        && len != 0
    {
        to.write(part.get(..len).unwrap_or_default());
    }
    syscall::close(fd);
}
