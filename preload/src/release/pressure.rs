//! Who tells the shrinker, and what the environment has to say about it.
//!
//! | source | looked at by |
//! |---|---|
//! | `psi`, `cgroup` | the watcher, about once a second while there is something to give |
//! | the same, asked for by name, in a solo process | a slow path, every two seconds at most |
//! | `signal:NAME` | the next slow path of any thread, or the watcher, whoever is first |
//! | `RCUMALLOC_LIMIT`, or what the control group allows | the next slow path of any thread |
//! | `malloc_trim`, `rcumalloc_shrink_scan`, `rcumalloc_pressure`, a failed mapping | the caller |
//!
//! Unless the environment names its sources, they are `psi` and `cgroup`, and a solo process opens nothing:
//! a filter on system calls that knows what glibc's malloc does must not meet anything else from us.
//! `off`: no thread, no descriptor, ever; limits, ageing on slow paths and the program's own calls
//! remain.

use crate::cache::{mode, own};
use crate::constants::{CGROUP_QUARTERS, SOLO_MS, THROTTLE_NS};
use crate::os::cgroup::{self, Glance, Space};
use crate::os::env::Size;
use crate::os::line::Line;
use crate::os::lock::Lock;
use crate::os::psi::Gauge;
use crate::os::syscall::{futex_wait_timeout, futex_wake};
use crate::os::tls::thread_pointer;
use crate::os::{bell, handler};
use crate::page::{limit, zone};
use crate::release::shrinker::{self, Reason};
use crate::release::trapped;
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

const PSI: u32 = 1;
const CGROUP: u32 = 2;
/// The user has named the sources.
const NAMED: u32 = 4;
/// There may be a watcher.
const WATCHER: u32 = 8;
/// The user wants to know what is in force.
const VERBOSE: u32 = 16;

#[unsafe(link_section = ".data")]
static SOURCES: AtomicU32 = AtomicU32::new(PSI | CGROUP | WATCHER);
/// The configured signal, 0: none.
#[unsafe(link_section = ".data")]
static SIGNAL: AtomicU32 = AtomicU32::new(0);
/// The limit is the user's own.
#[unsafe(link_section = ".data")]
static HAS_LIMIT: AtomicBool = AtomicBool::new(false);
/// 1: somebody is serving. 2: and somebody may be asleep until they have.
#[unsafe(link_section = ".data")]
static SERVING: AtomicU32 = AtomicU32::new(IDLE);
/// The thread pointer of the one that serves; 0: none, or not said yet. Relaxed: it means something to that
/// one alone.
static SERVER: AtomicUsize = AtomicUsize::new(0);
const IDLE: u32 = 0;
const BUSY: u32 = 1;
const AWAITED: u32 = 2;

/// What `RCUMALLOC_PRESSURE` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sources {
    bits: u32,
    signal: i32,
}

/// Reads a comma list of `psi`, `cgroup`, `signal:NAME`; or `off`.
pub fn parse(text: &[u8]) -> Option<Sources> {
    if text == b"off" {
        return Some(Sources { bits: 0, signal: 0 });
    }
    let mut sources = Sources { bits: NAMED | WATCHER, signal: 0 };
    for word in text.split(|&byte| byte == b',') {
        match word {
            b"psi" => sources.bits |= PSI,
            b"cgroup" => sources.bits |= CGROUP,
            _ if sources.signal == 0 => {
                sources.signal = handler::parse_signal(word.strip_prefix(b"signal:")?)?;
            }
            _ => return None,
        }
    }
    Some(sources)
}

/// Sets what the environment asks for; as the process starts.
#[unsafe(link_section = ".text_start")]
pub fn configure(sources: Option<Sources>, limit: Option<Size>, hard_limit: Option<Size>, verbose: bool) {
    if let Some(Sources { bits, signal }) = sources {
        SOURCES.store(bits, Relaxed);
        if signal != 0 {
            match handler::install(signal, handler::request) {
                Ok(()) => SIGNAL.store(signal as u32, Relaxed),
                Err(_) => complain(signal),
            }
        }
    }
    if verbose {
        SOURCES.fetch_or(VERBOSE, Relaxed);
    }
    if let Some(size) = limit {
        HAS_LIMIT.store(true, Relaxed);
        limit::set(in_bytes(size));
    }
    if let Some(size) = hard_limit {
        limit::set_hard(in_bytes(size));
    }
}

/// A limit in bytes. A share is one of what the control group allows, or of RAM.
fn in_bytes(limit: Size) -> usize {
    match limit {
        Size::Bytes(bytes) => bytes as usize,
        Size::Percent(percent) => {
            // As the process starts nobody else looks.
            let all = SOLO.try_lock().map_or(u64::MAX, |mut solo| cgroup::memory_limit(&mut solo.space));
            (all / 100 * u64::from(percent)) as usize
        }
    }
}

/// Sets the limit, in bytes, as the user's own.
pub fn set_limit(bytes: usize) {
    HAS_LIMIT.store(true, Relaxed);
    limit::set(bytes);
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn complain(signal: i32) {
    let mut line = Line::new();
    line.str("RCUMALLOC_PRESSURE: signal ").dec(signal as u64);
    line.str(" is in use or ignored; it will not be listened to").emit();
}

/// Whether there may be a watcher.
pub fn may_watch() -> bool {
    SOURCES.load(Relaxed) & WATCHER != 0
}

/// Whether the kernel's stall information is looked at.
pub fn heeds_psi() -> bool {
    SOURCES.load(Relaxed) & PSI != 0
}

/// Whether the control group is.
pub fn heeds_cgroup() -> bool {
    SOURCES.load(Relaxed) & CGROUP != 0
}

/// Whether the user wants to know what is in force.
pub fn is_verbose() -> bool {
    SOURCES.load(Relaxed) & VERBOSE != 0
}

/// The control group allows `bytes` in all: the heap is to stay below [`CGROUP_QUARTERS`] of that,
/// unless the user has said what else.
pub fn adopt_limit(bytes: u64) {
    if !HAS_LIMIT.load(Relaxed) {
        limit::set((bytes / 4 * CGROUP_QUARTERS) as usize);
    }
}

/// Appends what is in force.
pub fn describe(line: &mut Line) {
    let sources = SOURCES.load(Relaxed);
    line.str(" pressure=");
    let mut between = "";
    for (bit, name) in [(PSI, "psi"), (CGROUP, "cgroup")] {
        if sources & bit != 0 {
            line.str(between).str(name);
            between = ",";
        }
    }
    match SIGNAL.load(Relaxed) {
        0 if sources & (PSI | CGROUP) == 0 => line.str("off"),
        0 => line,
        signal => line.str(between).str("signal:").dec(u64::from(signal)),
    };
    match limit::bytes() {
        usize::MAX => line.str(" limit=none"),
        bytes => line.str(" limit=").dec(bytes as u64).str(" bytes"),
    };
    if limit::hard() != usize::MAX {
        line.str(" hard-limit=").dec(limit::hard() as u64).str(" bytes");
    }
}

/// Serves what the bell asks for. Any slow path, with no lock held; the watcher.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn serve() {
    // Acquire and Release: who serves next sees what the last one did.
    if SERVING.load(Relaxed) != IDLE || SERVING.compare_exchange(IDLE, BUSY, Acquire, Relaxed).is_err() {
        return;
    }
    SERVER.store(thread_pointer(), Relaxed);
    let wants = bell::take();
    if wants & bell::SIGNAL != 0 {
        shrinker::pressure(2, Reason::Signal);
    }
    if wants & bell::TRAPS != 0 {
        trapped::serve();
    }
    if wants & bell::LIMIT != 0 {
        let excess = limit::excess(zone::held_bytes());
        if excess != 0 {
            shrinker::scan(excess, Reason::Limit);
        }
        limit::rearm(zone::held_bytes());
        bell::withdraw(bell::LIMIT);
    }
    stop_serving();
}

fn stop_serving() {
    SERVER.store(0, Relaxed);
    if SERVING.swap(IDLE, Release) == AWAITED {
        futex_wake(&SERVING, u32::MAX >> 1);
    }
}

/// What the calling thread was at, in a frame that is gone, is over.
pub fn let_go_of_own() {
    if SERVER.load(Relaxed) == thread_pointer() {
        stop_serving();
    }
    SOLO.let_go_of_own(|_| {});
}

/// A thread is about to take more memory from the zone. If the heap is past its limit and somebody is giving
/// back, it waits a little: a scan that shares the processors with everybody whom it works for would be
/// outrun. Never in a read-side section, which others wait for; never on a path of free. The one that
/// serves waits for nobody.
#[inline]
pub fn throttle() {
    if limit::is_passed() && SERVING.load(Relaxed) != IDLE {
        wait_for_server();
    }
}

#[cold]
#[inline(never)]
fn wait_for_server() {
    if !own::is_held() && SERVING.compare_exchange(BUSY, AWAITED, Relaxed, Relaxed) != Err(IDLE) {
        futex_wait_timeout(&SERVING, AWAITED, THROTTLE_NS);
    }
}

/// What a slow path does now and then; `now_ms` is the coarse clock. Not inlined: its caller jumps here, its
/// stack free again.
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
pub fn tend(now_ms: u32) {
    if SOURCES.load(Relaxed) & NAMED != 0 && !mode::is_concurrent() {
        glance(now_ms);
    }
}

/// What a solo process remembers of the kernel's files.
struct Solo {
    looked_ms: u32,
    psi: Gauge,
    group: Glance,
    space: Space,
}

static SOLO: Lock<Solo> =
    Lock::new(Solo { looked_ms: 0, psi: Gauge::new(), group: Glance::new(), space: Space::new() });

/// A solo process looks for itself. Nobody else can see the descriptors it has open meanwhile.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn glance(now_ms: u32) {
    let (level, reason) = look(now_ms);
    if level != 0 {
        shrinker::pressure(level, reason);
    }
}

/// Apart from the scan that may follow: its stack is free again.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn look(now_ms: u32) -> (u32, Reason) {
    let Some(mut solo) = SOLO.try_lock() else { return (0, Reason::Psi) };
    if now_ms.wrapping_sub(solo.looked_ms) < SOLO_MS {
        return (0, Reason::Psi);
    }
    solo.looked_ms = now_ms;
    let now_us = u64::from(now_ms) * 1000;
    let psi = if heeds_psi() { solo.psi.glance(c"/proc/pressure/memory", now_us) } else { 0 };
    let Solo { group, space, .. } = &mut *solo;
    let group = if heeds_cgroup() { group.level(space, now_us) } else { 0 };
    if group > psi { (group, Reason::Cgroup) } else { (psi, Reason::Psi) }
}

/// In the child of a fork: whoever was serving is not here.
pub fn after_fork_in_child() {
    SERVING.store(IDLE, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let some = |bits, signal| Some(Sources { bits: bits | NAMED | WATCHER, signal });
        assert_eq!(parse(b"psi"), some(PSI, 0));
        assert_eq!(parse(b"psi,cgroup"), some(PSI | CGROUP, 0));
        assert_eq!(parse(b"cgroup,signal:USR2"), some(CGROUP, libc::SIGUSR2));
        assert_eq!(parse(b"signal:40,psi"), some(PSI, 40));
        assert_eq!(parse(b"off"), Some(Sources { bits: 0, signal: 0 }));
        for bad in [
            &b""[..],
            b"on",
            b"psi,",
            b",psi",
            b"psi cgroup",
            b"off,psi",
            b"psi,off",
            b"signal",
            b"signal:",
            b"signal:KILL",
            b"signal:USR1,signal:USR2",
            b"PSI",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
