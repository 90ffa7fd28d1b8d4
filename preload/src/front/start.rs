//! The process's first call, and each thread's.
//!
//! The first slow path of the process starts the heap: reads the environment, opens the window,
//! tests membarrier. Raw system calls only, nothing that allocates, so it does not matter who
//! calls it or from inside what (another library's `open`, `dlsym`, a constructor); several
//! threads at once are let through one by one. What goes through libc and may allocate there
//! (a key's destructor) waits until the calling thread has its tables.

use crate::cache::mode::{self, Defer, Except};
use crate::cache::thread_cache::ThreadCache;
use crate::cache::{drain, registry, shares};
use crate::class::backlog::DOMAIN;
use crate::class::{backlog, profile, sampled, verdict};
use crate::constants::OPTION_BYTES;
use crate::front::{exit, stress, switch};
use crate::os::conf::{self, Source};
use crate::os::env::{self, Size};
use crate::os::limits;
use crate::os::line::Line;
use crate::os::lock::Lock;
use crate::os::signals::Quiet;
use crate::page::{self, back_off};
use crate::release::{decay, pressure, publish, stall, traces, trapped, watcher};
use core::sync::atomic::{AtomicBool, Ordering};

#[unsafe(link_section = ".data")]
static STARTED: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".data")]
static STARTING: Lock<()> = Lock::new(());

/// Starts the heap if it has not been started. False: no memory to start with.
#[unsafe(link_section = ".text_start")]
pub fn process() -> bool {
    // Acquire pairs with the release below: whoever sees it started sees it configured.
    if STARTED.load(Ordering::Acquire) {
        return true;
    }
    let _starting = STARTING.lock();
    if STARTED.load(Ordering::Relaxed) {
        return true;
    }
    limits::insist_on_page_size();
    if !page::init() {
        return false;
    }
    configure();
    DOMAIN.init();
    DOMAIN.set_first_lock_hook(switch::admit_readers);
    DOMAIN.set_misuse_handler(verdict::misuse);
    verdict::set_tracer(traces::tell);
    STARTED.store(true, Ordering::Release);
    true
}

/// Whether the heap has been started.
pub fn is_started() -> bool {
    STARTED.load(Ordering::Acquire)
}

/// A cache for the calling thread or one it is about to create. `None`: memory is out.
#[unsafe(link_section = ".text_start")]
pub fn acquire(quiet: &Quiet) -> Option<&'static mut ThreadCache> {
    drain::make_room(quiet);
    registry::acquire(quiet)
}

/// The second half of a thread's first call: its tables are set and the heap works.
#[unsafe(link_section = ".text_start")]
pub fn thread(cache: &mut ThreadCache) {
    if mode::defer() == Defer::Strict || sampled::any() || shares::census().0 > 1 {
        switch::go_concurrent();
    }
    if shares::census().0 > 1 {
        switch::expect_threads();
    }
    if mode::is_concurrent() {
        exit::watch_thread(cache);
    }
}

fn configure() {
    conf::load();
    let defer = match read(b"RCUMALLOC_DEFER", take_defer) {
        Some(defer) => defer,
        None => Defer::All,
    };
    mode::set_defer(defer);
    let budget = read(b"RCUMALLOC_BUDGET", env::parse_size);
    let age = read(b"RCUMALLOC_GP_AGE_MS", parse_ms);
    backlog::configure(budget.filter(is_sensible), age, defer != Defer::Strict);
    if let Some(ms) = read(b"RCUMALLOC_DECAY_MS", parse_decay) {
        decay::configure(ms);
    }
    if let Some(ms) = read(b"RCUMALLOC_BACKOFF_MS", parse_ms) {
        back_off::set_period_ms(ms);
    }
    if let Some(ms) = read(b"RCUMALLOC_STALL_MS", env::parse_u64) {
        stall::set_limit_ms(ms);
    }
    if let Some(report) = read(b"RCUMALLOC_ON_ERROR", parse_on_error) {
        verdict::set_report_only(report);
    }
    let sources = read(b"RCUMALLOC_PRESSURE", pressure::parse);
    let limit = read(b"RCUMALLOC_LIMIT", parse_limit);
    let hard_limit = read(b"RCUMALLOC_HARD_LIMIT", parse_limit);
    let verbose = read(b"RCUMALLOC_VERBOSE", env::parse_u64).is_some_and(|verbose| verbose != 0);
    pressure::configure(sources, limit, hard_limit, verbose);
    if pressure::may_watch() {
        watcher::prepare();
    }
    if let Some(when) = read(b"RCUMALLOC_WATCH", publish::parse) {
        publish::set(when);
    }
    if let Some(seed) = read(b"RCUMALLOC_STRESS", env::parse_u64) {
        stress::begin(seed);
    }
    if let Some(rate) = read(b"RCUMALLOC_LEDGER", trapped::parse_groups) {
        trapped::configure_groups(rate);
    }
    if let Some(rate) = read(b"RCUMALLOC_TRAP", trapped::parse) {
        trapped::configure(rate);
    }
    if let Some(rate) = read(b"RCUMALLOC_PROFILE", parse_rate).filter(|&rate| rate != 0)
        && !profile::begin(rate)
    {
        Line::new().str("RCUMALLOC_PROFILE: no memory for it").emit();
    }
    if verbose {
        announce(defer);
    }
}

/// One line that says what is in force.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn announce(defer: Defer) {
    let mut line = Line::new();
    line.str(env!("CARGO_PKG_VERSION")).str(": defer=").str(match defer {
        Defer::All => "all",
        Defer::Api => "api",
        Defer::Strict => "strict",
    });
    let mut sign = ",except=";
    for (from, to) in mode::except() {
        line.str(core::mem::replace(&mut sign, ",")).dec(from as u64);
        match to {
            usize::MAX => line.str("+"),
            to => line.str("-").dec(to as u64),
        };
    }
    match backlog::configured_budget() {
        Size::Bytes(bytes) => line.str(" budget=").dec(bytes).str(" bytes"),
        Size::Percent(percent) => line.str(" budget=").dec(u64::from(percent)).str("% of the heap"),
    };
    line.str(" age=").dec(u64::from(backlog::age_limit_ms())).str("ms stall=");
    line.dec(stall::limit_ms()).str("ms decay=");
    match decay::period_ms() {
        decay::OFF => line.str("off"),
        ms => line.dec(u64::from(ms)).str("ms"),
    };
    line.str(" backoff=").dec(u64::from(back_off::period_ms())).str("ms");
    pressure::describe(&mut line);
    if let Some(seed) = stress::seed() {
        line.str(" stress=").dec(seed);
    }
    line.emit();
}

fn parse_limit(text: &[u8]) -> Option<Size> {
    env::parse_size(text).filter(|size| !matches!(size, Size::Bytes(0) | Size::Percent(0)))
}

pub(crate) fn is_sensible(size: &Size) -> bool {
    match size {
        Size::Bytes(_) => true,
        Size::Percent(percent) => *percent > 0,
    }
}

pub(crate) fn parse_ms(text: &[u8]) -> Option<u32> {
    env::parse_u64(text).and_then(|ms| u32::try_from(ms).ok())
}

/// Bytes between two samples; 0: none.
fn parse_rate(text: &[u8]) -> Option<usize> {
    match env::parse_size(text)? {
        Size::Bytes(bytes) => usize::try_from(bytes).ok(),
        Size::Percent(_) => None,
    }
}

fn parse_decay(text: &[u8]) -> Option<u32> {
    if text == b"off" { Some(decay::OFF) } else { parse_ms(text).filter(|&ms| ms != decay::OFF) }
}

/// What is deferred; sets what is excepted.
fn take_defer(text: &[u8]) -> Option<Defer> {
    match text {
        b"all" => Some(Defer::All),
        b"api" => Some(Defer::Api),
        b"strict" => Some(Defer::Strict),
        // By itself, for its part of the stack is not there for those that hardly ever come here.
        _ => take_exceptions(text),
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn take_exceptions(text: &[u8]) -> Option<Defer> {
    let (defer, except) = parse_exceptions(text)?;
    mode::set_except(&except);
    Some(defer)
}

/// Where only `rcumalloc_free` is deferred there is nothing to except.
fn parse_exceptions(text: &[u8]) -> Option<(Defer, Except)> {
    let (defer, ranges) = match text.strip_prefix(b"all,except=") {
        Some(ranges) => (Defer::All, ranges),
        None => (Defer::Strict, text.strip_prefix(b"strict,except=")?),
    };
    Some((defer, parse_ranges(ranges)?))
}

/// Sizes in bytes, with units, separated by commas: `4096`, `1-256` or `64K+`.
fn parse_ranges(text: &[u8]) -> Option<Except> {
    let size = |text| match env::parse_size(text)? {
        Size::Bytes(bytes) if bytes > 0 => usize::try_from(bytes).ok(),
        _ => None,
    };
    let mut except = Except::default();
    let mut places = except.0.iter_mut();
    for range in text.split(|&byte| byte == b',') {
        let mut ends = range.splitn(2, |&byte| byte == b'-');
        let (first, last) = (ends.next()?, ends.next());
        let range = match (first.strip_suffix(b"+"), last) {
            (Some(from), None) => (size(from)?, usize::MAX),
            (None, Some(last)) => (size(first)?, size(last)?),
            (None, None) => (size(first)?, size(first)?),
            (Some(_), Some(_)) => return None,
        };
        if range.0 > range.1 {
            return None;
        }
        *places.next()? = range;
    }
    Some(except)
}

pub(crate) fn parse_on_error(text: &[u8]) -> Option<bool> {
    match text {
        b"abort" => Some(false),
        b"report" => Some(true),
        _ => None,
    }
}

/// The value of `name` as `parse` reads it. A bad value is one line on stderr.
#[unsafe(link_section = ".text_start")]
fn read<T>(name: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut value = [0; OPTION_BYTES];
    let (len, source) = conf::setting(name, &mut value)?;
    let parsed = value.get(..len).and_then(parse);
    if parsed.is_none() {
        complain(name, &value[..len.min(OPTION_BYTES)], source);
    }
    parsed
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn complain(name: &[u8], value: &[u8], source: Source) {
    let mut line = Line::new();
    line.bytes(name).str("=").bytes(value);
    match source {
        Source::Environment => &mut line,
        Source::Line(number) => line.str(" in line ").dec(number as u64).str(" of the configuration file"),
        Source::Code => line.str(" in the program's code"),
    };
    line.str(": not understood; the default is in force").emit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deferred_and_what_is_excepted() {
        let ranges = |text: &[u8]| parse_exceptions(text).map(|(_, except)| except.0.to_vec());
        let padded = |ranges: &[(usize, usize)]| {
            let mut all = ranges.to_vec();
            all.resize(crate::constants::EXCEPTIONS, (0, 0));
            Some(all)
        };
        assert_eq!(parse_exceptions(b"strict,except=1").map(|(defer, _)| defer), Some(Defer::Strict));
        assert_eq!(ranges(b"all,except=4096+"), padded(&[(4096, usize::MAX)]));
        assert_eq!(ranges(b"all,except=64,1-256,64K-1m"), padded(&[(64, 64), (1, 256), (64 << 10, 1 << 20)]));
        for bad in [
            "",
            "al",
            "all,",
            "all,4096+",
            "all,except=",
            "all,except=0",
            "all,except=5-4",
            "all,except=4-",
            "all,except=4-8+",
            "all,except=+",
            "all,except=1,,2",
            "all,except=10%",
            "all,except=1,2,3,4,5,6,7,8,9",
            "api,except=4096+",
        ] {
            assert_eq!(take_defer(bad.as_bytes()), None, "{bad}");
        }
    }
}
