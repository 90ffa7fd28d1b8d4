//! Trapped blocks: when traps spring, and what is said of who steps into one.

use crate::class::fingerprints;
use crate::class::trap::{self, Slot, Spot};
use crate::class::verdict;
use crate::os::line::Line;
use crate::os::{arch, bell, env, handler, tid};

/// `RCUMALLOC_LEDGER`: one group in so many, or `0`.
pub fn parse_groups(text: &[u8]) -> Option<u32> {
    env::parse_u64(text).and_then(|rate| u32::try_from(rate).ok())
}

/// Looks for writes to freed blocks in one group in `rate`.
pub fn configure_groups(rate: u32) {
    if rate != 0 && !fingerprints::set(rate) {
        Line::new().str("RCUMALLOC_LEDGER: no memory for it").emit();
    }
}

/// `RCUMALLOC_TRAP`: `1/N`, or `0`.
pub fn parse(text: &[u8]) -> Option<u32> {
    if text == b"0" {
        return Some(0);
    }
    let rate = env::parse_u64(text.strip_prefix(b"1/")?)?;
    u32::try_from(rate).ok().filter(|&rate| rate != 0)
}

/// Traps one block in `rate`.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn configure(rate: u32) {
    if rate == 0 {
        return;
    }
    if trap::set(rate) {
        handler::set_ask(on_fault);
    } else {
        Line::new().str("RCUMALLOC_TRAP: no memory for it").emit();
    }
}

/// Springs the traps whose time has come, and sees to it that that of the others will.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn serve() {
    if trap::spring() {
        trap::hurry();
        bell::want(bell::TRAPS);
    }
}

/// What a fault is.
struct Fault {
    addr: usize,
    writes: bool,
    place: usize,
}

/// A fault has come. True: it was reported, and the program is to go on.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn on_fault(info: *const libc::siginfo_t, context: *const libc::ucontext_t) -> bool {
    // SAFETY: the kernel has filled both for this signal.
    let fault = unsafe {
        let (writes, place) = arch::fault(&*context);
        Fault { addr: (*info).si_addr() as usize, writes, place }
    };
    // SAFETY: as above. What somebody sends has no address.
    if unsafe { (*info).si_code } <= 0 {
        return false;
    }
    match trap::spot(fault.addr) {
        Some(Spot::Page(slot)) if slot.is_sprung() => {
            say_used(&fault, slot);
            tell_of(slot);
            if verdict::reports_only() {
                slot.open_again();
            }
            verdict::reports_only()
        }
        Some(Spot::Between(before, behind)) => {
            if let Some(slot) = nearer(fault.addr, before, behind) {
                say_past(&fault, slot);
                tell_of(slot);
            }
            false
        }
        _ => false,
    }
}

/// Which of the two blocks, the one before or the one behind, an address between them is meant for.
fn nearer(
    addr: usize,
    before: Option<&'static Slot>,
    behind: Option<&'static Slot>,
) -> Option<&'static Slot> {
    let had = |slot: Option<&'static Slot>| slot.filter(|slot| slot.start() != 0);
    match (had(before), had(behind)) {
        (Some(before), Some(behind)) => {
            let past = addr - (before.start() + before.size());
            Some(if past <= behind.start() - addr { before } else { behind })
        }
        (before, behind) => before.or(behind),
    }
}

fn begin(line: &mut Line, what: &str, fault: &Fault) {
    line.str(what).str(": thread ").dec(tid::tid() as u64);
    line.str(if fault.writes { " writes to " } else { " reads " }).hex(fault.addr as u64).str(", ");
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn say_used(fault: &Fault, slot: &Slot) {
    let mut line = Line::new();
    begin(&mut line, "use after free", fault);
    // Before its first byte, where the rest of its page has nothing.
    if fault.addr >= slot.start() {
        line.str("byte ").dec((fault.addr - slot.start()) as u64).str(" of ");
    } else {
        line.dec((slot.start() - fault.addr) as u64).str(" bytes in front of ");
    }
    slot.describe(&mut line);
    let periods = slot.periods();
    line.str(" that was freed ").dec(periods).str(if periods == 1 {
        " grace period"
    } else {
        " grace periods"
    });
    line.str(" and ");
    line.dec(slot.freed.age_ms()).str(" ms ago, at ").hex(fault.place as u64).emit();
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn say_past(fault: &Fault, slot: &Slot) {
    let mut line = Line::new();
    begin(&mut line, "out of bounds", fault);
    let end = slot.start() + slot.size();
    if fault.addr >= end {
        line.dec((fault.addr - end) as u64).str(" bytes past the end of ");
    } else {
        line.dec((slot.start() - fault.addr) as u64).str(" bytes in front of ");
    }
    line.str(if slot.is_live() { "" } else { "the freed " });
    slot.describe(&mut line);
    line.str(", at ").hex(fault.place as u64).emit();
}

/// Who had the block, and where.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn tell_of(slot: &Slot) {
    for (what, trace) in
        [("it was allocated by thread ", &slot.given), ("it was freed by thread ", &slot.freed)]
    {
        if trace.thread() != 0 {
            let mut line = Line::new();
            line.str(what).dec(trace.thread().into());
            trace.tell(&mut line);
            line.emit();
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn rates() {
        use super::parse;
        assert_eq!((parse(b"1/1000"), parse(b"1/1"), parse(b"0")), (Some(1000), Some(1), Some(0)));
        for bad in [&b""[..], b"1", b"1/0", b"2/3", b"1/", b"1/99999999999", b"/5", b"-1/5"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
