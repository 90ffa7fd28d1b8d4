//! What the tests share: domains and readers that live for ever, child processes, signals.
#![allow(dead_code)] // every test file uses its part of this

pub mod torture;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use quiescent::{
    CELLS_PER_WORD, Cookie, Demand, Domain, Misuse, NoRoom, Reader, ReaderBlock, ReaderCell, ReaderWord,
};

pub fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A domain with a tag of its own (they repeat after 255 domains of one test binary).
fn new_domain() -> &'static Domain {
    static TAG: AtomicU8 = AtomicU8::new(0);
    leak(Domain::new(TAG.fetch_add(1, Relaxed) % 255 + 1))
}

/// A domain that uses membarrier where the machine has it.
pub fn fast_domain() -> &'static Domain {
    let domain = new_domain();
    domain.init();
    domain
}

/// A domain whose readers execute a fence at every outermost lock.
pub fn fenced_domain() -> &'static Domain {
    let domain = new_domain();
    domain.init_without_membarrier();
    domain
}

/// A reader that has never locked.
pub fn reader(domain: &'static Domain) -> Reader {
    register(domain, 0)
}

/// A reader that has locked once: an explicit one.
pub fn explicit_reader(domain: &'static Domain) -> Reader {
    let reader = reader(domain);
    drop(reader.read_lock());
    reader
}

/// A block with room for so many readers.
pub fn block(cells: usize) -> &'static ReaderBlock {
    let words = (0..cells.div_ceil(CELLS_PER_WORD)).map(|_| ReaderWord::new()).collect::<Vec<_>>().leak();
    let cells = (0..cells).map(|_| ReaderCell::new()).collect::<Vec<_>>().leak();
    leak(ReaderBlock::new(words, cells))
}

/// A reader of this name, in the lowest free cell. Blocks grow, as an embedder's do.
pub fn register(domain: &'static Domain, tid: u32) -> Reader {
    let mut cells = 3;
    loop {
        match domain.register(tid) {
            Ok(reader) => return reader,
            Err(NoRoom) => assert!(domain.add_block(block(cells)), "a new block"),
        }
        cells = (cells * 5).min(2048);
    }
}

/// Ends the section that `lock` opened.
pub fn unlock(reader: &Reader) {
    // SAFETY: where a test opens sections by hand, no guard of the same reader lives.
    unsafe { reader.unlock() }
}

/// Asks for the period in flight to end now, more often than any reader needs.
pub fn expedite(domain: &Domain) {
    for _ in 0..4 {
        domain.advance(Demand::Expedite);
    }
}

/// True if a section that is open now holds up a cookie taken now, whatever is tried to end it.
pub fn held_up(domain: &Domain) -> bool {
    let cookie = domain.start_poll();
    for _ in 0..4 {
        expedite(domain);
        // The periods behind the one in flight, too.
        let _ = domain.start_poll();
    }
    !domain.poll(cookie)
}

/// True if `cookie` elapses by asking often enough.
pub fn expedites_to_end(domain: &Domain, cookie: Cookie) -> bool {
    (0..4).any(|_| {
        expedite(domain);
        domain.poll(cookie)
    })
}

/// Makes a module of tests for each of the two modes out of functions that take a domain.
#[macro_export]
macro_rules! in_both_modes {
    ($($(#[$attr:meta])* fn $name:ident($domain:ident) $body:block)*) => {
        $($(#[$attr])* fn $name($domain: &'static quiescent::Domain) $body)*
        mod fast { $(#[test] fn $name() { super::$name($crate::common::fast_domain()) })* }
        mod fenced { $(#[test] fn $name() { super::$name($crate::common::fenced_domain()) })* }
    };
}

// ---- misuse ----

thread_local! {
    static SEEN: RefCell<Vec<Misuse>> = const { RefCell::new(Vec::new()) };
}

/// From now on misuse of `domain` is recorded, for the thread that commits it.
pub fn record_misuse(domain: &Domain) {
    domain.set_misuse_handler(|what| SEEN.with_borrow_mut(|seen| seen.push(*what)));
}

/// What this thread did wrong since it asked last.
pub fn take_misuse() -> Vec<Misuse> {
    SEEN.take()
}

// ---- child processes ----

/// Runs `body` in a forked child and fails the test if it panics there or takes a minute.
pub fn in_forked_child(body: impl FnOnce()) {
    // SAFETY: glibc's fork; the child uses the engine, the heap (which glibc makes usable in the
    // child) and `_exit`, and nothing of the harness.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: alarm and _exit have no preconditions.
        unsafe {
            libc::alarm(60);
            libc::_exit(if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { 101 });
        }
    }
    assert_eq!(wait_for(pid), 0, "wait status of the child");
}

fn wait_for(pid: i32) -> i32 {
    let mut status = -1;
    // SAFETY: writes one int; `pid` is a child of ours that nobody else waits for.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    status
}

const ROLE: &str = "RCU_TEST_CHILD";

/// Runs `test` of this binary again, alone in a fresh process where [`is_child`] is true.
pub fn rerun(test: &str) -> Output {
    Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, "1")
        .output()
        .expect("runs")
}

/// True in the process that [`rerun`] made, which has a minute to live: a grace period that does
/// not end becomes a failure.
pub fn is_child() -> bool {
    let child = std::env::var_os(ROLE).is_some();
    if child {
        // SAFETY: alarm has no preconditions.
        unsafe { libc::alarm(20) };
    }
    child
}

/// The body of a test that needs a process of its own: it may fail only there.
pub fn in_fresh_process(test: &str, body: impl FnOnce()) {
    if is_child() {
        return body();
    }
    let output = rerun(test);
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

// ---- signals ----

pub type SignalHandler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

/// Installs a handler for the whole process.
pub fn on_signal(signal: i32, handler: SignalHandler) {
    // SAFETY: an all-zero sigaction is a valid one, and `handler` has the type SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}
