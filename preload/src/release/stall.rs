//! Who stalls: explicit sections that hold grace periods up (G3).
//!
//! Nothing may override a read-side section, so all that can be done about one that lasts is to say whose it
//! is. Looked at when a cache is swept, about once a second while anybody allocates, and when a backlog is
//! over its budget: each look books the time since the last one, and the bytes that waited meanwhile, to the
//! readers that are in the way. So what is short is seen by chance, like anything that is sampled by time,
//! and what lasts is seen in full. A stall past the limit is reported at most once per limit.
//!
//! Where a section began is what its thread said as it opened it (`rcumalloc_read_lock` knows its return
//! address). A thread that was never found stalling says it of its first section only: so the fast path
//! costs nothing. From its first stall on it says it of each, for a while (`ReaderCell` of the engine).

use crate::class::backlog::{self, DOMAIN};
use crate::constants::{MS, STALL_LEAST_NS, STALL_MS, STALLS_KEPT};
use crate::os::clock;
use crate::os::line::Line;
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// `RCUMALLOC_STALL_MS`, in milliseconds; 0: never.
static LIMIT_MS: AtomicU64 = AtomicU64::new(STALL_MS);
/// When the last report was made, in nanoseconds.
static REPORTED_NS: AtomicU64 = AtomicU64::new(0);
/// Stalled readers that were reported.
static REPORTED: AtomicU64 = AtomicU64::new(0);
/// When somebody last looked, in nanoseconds.
static LOOKED_NS: AtomicU64 = AtomicU64::new(0);

/// What is booked to one thread's sections that began at one place. Relaxed: figures, which order nothing;
/// two threads that look at once may take two places for the same reader, of which both are right.
struct Account {
    /// 0: nobody's yet.
    tid: AtomicU32,
    began: AtomicUsize,
    held_ns: AtomicU64,
    byte_ms: AtomicU64,
    longest_ns: AtomicU64,
    looks: AtomicU64,
}

static ACCOUNTS: [Account; STALLS_KEPT] = [const { Account::new() }; STALLS_KEPT];

/// What one thread's sections that began at one place have held up.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The thread.
    pub tid: u32,
    /// Where they began; 0: not known.
    pub began: usize,
    /// How long they were seen to hold grace periods up, nanoseconds.
    pub held_ns: u64,
    /// Deferred bytes meanwhile, times milliseconds.
    pub byte_ms: u64,
    /// The longest that one of them had held a period up when it was last seen, nanoseconds.
    pub longest_ns: u64,
    /// How often they were seen.
    pub looks: u64,
}

impl Account {
    const fn new() -> Account {
        Account {
            tid: AtomicU32::new(0),
            began: AtomicUsize::new(0),
            held_ns: AtomicU64::new(0),
            byte_ms: AtomicU64::new(0),
            longest_ns: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        }
    }

    /// The account of `tid` and `began`: there is one, or one is free, or the last, which is everybody's.
    fn of(tid: u32, began: usize) -> &'static Account {
        let [accounts @ .., everybody] = &ACCOUNTS;
        for account in accounts {
            let owner = account.tid.load(Relaxed);
            if owner == tid && account.began.load(Relaxed) == began {
                return account;
            }
            if owner == 0 && account.tid.compare_exchange(0, tid, Relaxed, Relaxed).is_ok() {
                account.began.store(began, Relaxed);
                return account;
            }
        }
        everybody
    }

    fn book(&self, held_ns: u64, bytes: usize, age_ns: u64) {
        self.held_ns.fetch_add(held_ns, Relaxed);
        self.byte_ms.fetch_add((bytes as u64).saturating_mul(held_ns / MS), Relaxed);
        self.longest_ns.fetch_max(age_ns, Relaxed);
        self.looks.fetch_add(1, Relaxed);
    }
}

/// Calls `visit` with what is booked to each reader and place.
pub fn for_each(mut visit: impl FnMut(Held)) {
    for account in &ACCOUNTS {
        let held = Held {
            tid: account.tid.load(Relaxed),
            began: account.began.load(Relaxed),
            held_ns: account.held_ns.load(Relaxed),
            byte_ms: account.byte_ms.load(Relaxed),
            longest_ns: account.longest_ns.load(Relaxed),
            looks: account.looks.load(Relaxed),
        };
        if held.looks != 0 {
            visit(held);
        }
    }
}

/// How many stalled readers were reported.
pub fn reported() -> u64 {
    REPORTED.load(Relaxed)
}

/// Sets how old a section may become, in milliseconds; 0: however old.
pub fn set_limit_ms(ms: u64) {
    LIMIT_MS.store(ms, Relaxed);
}

/// How old a section may become, in milliseconds.
pub fn limit_ms() -> u64 {
    LIMIT_MS.load(Relaxed)
}

fn address(began: Option<NonZeroUsize>) -> usize {
    began.map_or(0, NonZeroUsize::get)
}

/// Books the time since the last look to the readers that hold the period in flight up.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
pub fn book() {
    let now = clock::now_ns();
    // Each stretch of time is booked once, whoever looks.
    let since = now.saturating_sub(LOOKED_NS.swap(now, Relaxed));
    let bytes = backlog::deferred_bytes();
    for stall in DOMAIN.stalled(now, STALL_LEAST_NS).filter(|stall| stall.nesting != 0) {
        let account = Account::of(stall.tid, address(stall.began));
        account.book(since.min(stall.age_ns), bytes, stall.age_ns);
    }
}

/// Looks for readers that hold the period in flight up, books it to them, and reports those past the limit.
#[unsafe(link_section = ".text_solo")]
pub fn look() {
    book();
    let limit = limit_ms().saturating_mul(MS);
    if limit == 0 {
        return;
    }
    let now = clock::now_ns();
    let last = REPORTED_NS.load(Relaxed);
    if last != 0 && now.saturating_sub(last) < limit {
        return;
    }
    for stall in DOMAIN.stalled(now, limit).filter(|stall| stall.nesting != 0) {
        // One of several threads that look at once reports.
        if REPORTED_NS.load(Relaxed) == last {
            REPORTED_NS.store(now, Relaxed);
        }
        report(stall.tid, stall.age_ns, address(stall.began));
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn report(tid: u32, age_ns: u64, began: usize) {
    REPORTED.fetch_add(1, Relaxed);
    let mut line = Line::new();
    line.str("stall: thread ").dec(u64::from(tid)).str(" is in a read-side section that has held ");
    line.str("a grace period up for ").dec(age_ns / MS).str(" ms; ");
    line.dec(backlog::deferred_bytes() as u64).str(" bytes wait");
    if began != 0 {
        line.str(" [it began at ").hex(began as u64).str("]");
    }
    line.emit();
}
