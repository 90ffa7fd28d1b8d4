//! The backlog: how many bytes wait for a grace period, and what is done about it.
//!
//! One domain for the whole heap and one account of deferred bytes. A thread enters its groups in
//! a [`Ledger`] of its own and posts the balance when it has grown to a [step](posting_step): two
//! threads that each reuse what they free would else pass the account's cache line to and fro with
//! every group. While the backlog is under its budget nobody hurries: a period is started when a group is
//! sealed and none is in flight, and ends when the readers come by. Past the budget, or when something has
//! waited longer than the age limit, whoever stamps next expedites, without ever blocking (G3, G4). If that
//! did not help, because explicit readers hold the blocks, the next attempt waits until the backlog has grown
//! by another eighth of the budget: no storm of membarriers.
//!
//! What ledgers hold back keeps the account within an eighth of the budget of the truth.
//!
//! All words are relaxed: they steer, they do not order. What orders is the cookie.

use crate::class::cause::{self, Cause};
use crate::constants::{AGE_MS, BUDGET_PERCENT, BUDGET_STEPS, LEAST_BUDGET};
use crate::os::env::Size;
use crate::page::zone;
use core::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, AtomicUsize, Ordering::Relaxed};
use rcu::{Batch, Cookie, Demand, Domain, Stamped};

/// The grace periods every block of the heap waits for.
pub static DOMAIN: Domain = Domain::new(0x72); // (given) as a name: each domain has another

/// What steers the backlog; one cache line, written by slow paths.
#[repr(align(64))]
struct Account {
    /// Posted bytes. For an instant it may be negative: one thread's settlement can be posted before
    /// another's stamps.
    deferred: AtomicIsize,
    expedite_at: AtomicUsize,
    peak: AtomicUsize,
    /// The budget when it was last computed, in bytes.
    budget: AtomicUsize,
    /// Unposted bytes, either way, a ledger may hold.
    step: AtomicUsize,
    /// Threads that have a ledger.
    threads: AtomicUsize,
}

static ACCOUNT: Account = Account {
    deferred: AtomicIsize::new(0),
    expedite_at: AtomicUsize::new(LEAST_BUDGET),
    peak: AtomicUsize::new(0),
    budget: AtomicUsize::new(LEAST_BUDGET),
    step: AtomicUsize::new(LEAST_BUDGET / BUDGET_STEPS),
    threads: AtomicUsize::new(1),
};

/// Configured budget: bytes, or 0 when it is a percentage of the heap.
#[unsafe(link_section = ".data")]
static BUDGET_BYTES: AtomicUsize = AtomicUsize::new(0);
static PERCENT: AtomicU32 = AtomicU32::new(BUDGET_PERCENT);
static AGE_LIMIT_MS: AtomicU32 = AtomicU32::new(AGE_MS);
/// Whether the heap expedites of its own accord: not under `RCUMALLOC_DEFER=strict`.
static EXPEDITES: AtomicBool = AtomicBool::new(true);

/// A backlog over its budget was expedited, and what has elapsed has not all been given back yet.
#[unsafe(link_section = ".data")]
static UNFINISHED: AtomicBool = AtomicBool::new(false);

/// Whether whoever stamps next is to go on with giving back what a backlog over its budget has left.
pub fn set_unfinished(unfinished: bool) {
    if UNFINISHED.load(Relaxed) != unfinished {
        UNFINISHED.store(unfinished, Relaxed);
    }
}

/// Sets what the environment asks for.
pub fn configure(budget: Option<Size>, age_ms: Option<u32>, expedites: bool) {
    if let Some(age) = age_ms {
        set_age_limit_ms(age);
    }
    EXPEDITES.store(expedites, Relaxed);
    set_budget(budget.unwrap_or(configured_budget()));
}

/// Sets the budget.
pub fn set_budget(budget: Size) {
    match budget {
        Size::Bytes(bytes) => BUDGET_BYTES.store((bytes as usize).max(1), Relaxed),
        Size::Percent(percent) => {
            PERCENT.store(u32::from(percent), Relaxed);
            BUDGET_BYTES.store(0, Relaxed);
        }
    }
    ACCOUNT.expedite_at.store(budget_bytes(), Relaxed);
}

/// Sets the age limit in milliseconds.
pub fn set_age_limit_ms(ms: u32) {
    AGE_LIMIT_MS.store(ms.max(1), Relaxed);
}

/// The configured budget: bytes, or a percentage of the heap.
pub fn configured_budget() -> Size {
    match BUDGET_BYTES.load(Relaxed) {
        0 => Size::Percent(PERCENT.load(Relaxed) as u8),
        bytes => Size::Bytes(bytes as u64),
    }
}

/// The age limit in milliseconds.
#[inline]
pub fn age_limit_ms() -> u32 {
    AGE_LIMIT_MS.load(Relaxed)
}

/// The budget as of now, in bytes.
pub fn budget_bytes() -> usize {
    let budget = match BUDGET_BYTES.load(Relaxed) {
        0 => (zone::used_bytes() / 100 * PERCENT.load(Relaxed) as usize).max(LEAST_BUDGET),
        bytes => bytes,
    };
    ACCOUNT.budget.store(budget, Relaxed);
    set_step(budget);
    budget
}

/// There are `live` threads now, each with a ledger.
pub fn set_threads(live: usize) {
    ACCOUNT.threads.store(live.max(1), Relaxed);
    set_step(last_budget());
}

/// Threads that have a ledger.
pub fn threads() -> usize {
    ACCOUNT.threads.load(Relaxed)
}

fn set_step(budget: usize) {
    // An eighth of the budget for all of them together.
    ACCOUNT.step.store(budget / BUDGET_STEPS / ACCOUNT.threads.load(Relaxed), Relaxed);
}

/// Unposted bytes, either way, that a ledger may hold.
#[inline(always)]
fn posting_step() -> isize {
    ACCOUNT.step.load(Relaxed) as isize
}

/// The budget when it was last computed, in bytes: without asking the zone.
pub fn last_budget() -> usize {
    ACCOUNT.budget.load(Relaxed)
}

/// Whether more bytes wait than the budget allows.
pub fn is_over_budget() -> bool {
    deferred_bytes() > last_budget()
}

/// What stamping gives.
pub struct Closed<B: Batch> {
    /// What waits.
    pub batch: Stamped<B>,
    /// The backlog is over its budget and was expedited, now or a while ago: the caller should make what has
    /// elapsed reusable by all, as far as one call goes, once it has queued the batch.
    pub over_budget: bool,
}

/// Closes a batch of `bytes` behind a cookie taken here, after its last block, and sees to it that its
/// grace period will come.
#[inline]
pub fn stamp<B: Batch>(batch: B, bytes: usize) -> Closed<B> {
    stamp_posting(batch, bytes as isize)
}

/// As [`stamp`], with `balance` of the caller's posted on the occasion.
fn stamp_posting<B: Batch>(batch: B, balance: isize) -> Closed<B> {
    let posted = ACCOUNT.deferred.fetch_add(balance, Relaxed) + balance;
    // The cookie must be taken before the periods that are to fulfil it.
    let batch = Stamped::close_and_start(batch, &DOMAIN);
    let is_over = posted > ACCOUNT.expedite_at.load(Relaxed) as isize;
    let over_budget = if is_over { relieve(batch.cookie()) } else { UNFINISHED.load(Relaxed) };
    Closed { batch, over_budget }
}

/// A cookie for `bytes` that are kept elsewhere: a slab's deferred bitmap takes a new one with each
/// block.
pub fn cookie_for(bytes: usize) -> Cookie {
    struct Elsewhere(Cookie);
    impl Batch for Elsewhere {
        fn entries(&self) -> u32 {
            1
        }
        fn cookie(&self) -> Cookie {
            self.0
        }
        fn set_cookie(&mut self, cookie: Cookie) {
            self.0 = cookie;
        }
    }
    stamp(Elsewhere(Cookie::from_bits(0)), bytes).batch.cookie()
}

/// `bytes` that were stamped are reusable again.
#[inline]
pub fn settle(bytes: usize) {
    ACCOUNT.deferred.fetch_sub(bytes as isize, Relaxed);
}

/// One thread's part of the account. Zero bytes are a valid one.
#[repr(C)]
pub struct Ledger {
    /// Bytes stamped less bytes settled since the last posting. Statistics read other threads'.
    pub balance: isize,
}

impl Ledger {
    /// As [`stamp`].
    #[inline]
    pub fn stamp<B: Batch>(&mut self, batch: B, bytes: usize) -> Closed<B> {
        self.balance += bytes as isize;
        if self.balance < posting_step() {
            let batch = Stamped::close_and_start(batch, &DOMAIN);
            return Closed { batch, over_budget: UNFINISHED.load(Relaxed) };
        }
        self.stamp_posting(batch)
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    fn stamp_posting<B: Batch>(&mut self, batch: B) -> Closed<B> {
        note_peak();
        stamp_posting(batch, core::mem::take(&mut self.balance))
    }

    /// As [`settle`].
    #[inline]
    pub fn settle(&mut self, bytes: usize) {
        self.balance -= bytes as isize;
        if self.balance <= -posting_step() {
            self.post();
        }
    }

    /// Enters the balance in the account.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_start")]
    pub fn post(&mut self) {
        ACCOUNT.deferred.fetch_add(core::mem::take(&mut self.balance), Relaxed);
    }
}

/// Bytes waiting, but for what ledgers hold back.
pub fn deferred_bytes() -> usize {
    deferred_and(0)
}

/// Bytes waiting, with `unposted` of the ledgers.
pub fn deferred_and(unposted: isize) -> usize {
    (ACCOUNT.deferred.load(Relaxed) + unposted).max(0) as usize
}

/// The most bytes that ever waited, as far as was looked.
pub fn peak_bytes() -> usize {
    note_peak();
    ACCOUNT.peak.load(Relaxed)
}

fn note_peak() {
    let deferred = deferred_bytes();
    if deferred > ACCOUNT.peak.load(Relaxed) {
        ACCOUNT.peak.fetch_max(deferred, Relaxed);
    }
}

/// Ends periods now, without blocking, until `cookie` has elapsed or no reader gives way. False
/// if the backlog is under the budget after all.
#[cold]
#[inline(never)]
fn relieve(cookie: Cookie) -> bool {
    note_peak();
    let budget = budget_bytes();
    let deferred = deferred_bytes();
    if deferred <= budget {
        ACCOUNT.expedite_at.store(budget, Relaxed);
        return false;
    }
    expedite(cookie, Cause::Budget);
    // Whether it helped or not, the blocks leave the account only when somebody takes them up.
    ACCOUNT.expedite_at.store(deferred + budget / BUDGET_STEPS, Relaxed);
    true
}

/// After everything was done about a backlog over its budget: the next attempt is made when it
/// has grown by an eighth of the budget from what is left now. So the mark follows the backlog down, too.
pub fn settle_mark() {
    let budget = last_budget();
    ACCOUNT.expedite_at.store(budget.max(deferred_bytes() + budget / BUDGET_STEPS), Relaxed);
}

/// Called when blocks were taken up again: the mark may come down.
#[inline]
pub fn relax_mark() {
    let at = ACCOUNT.expedite_at.load(Relaxed);
    if at > LEAST_BUDGET && deferred_bytes() < at / 2 {
        lower_mark();
    }
}

#[cold]
#[inline(never)]
fn lower_mark() {
    let budget = budget_bytes();
    if ACCOUNT.expedite_at.load(Relaxed) > budget {
        ACCOUNT.expedite_at.store(budget, Relaxed);
    }
}

/// Tries to make `cookie` elapse now, because of `cause`; not under `RCUMALLOC_DEFER=strict`. Never blocks.
/// True if it has elapsed.
pub fn expedite(cookie: Cookie, cause: Cause) -> bool {
    EXPEDITES.load(Relaxed) && hasten(cookie, Demand::Expedite, cause) || DOMAIN.poll(cookie)
}

/// The same in every mode: the program asks for memory back, or a call would fail for want of it.
pub fn expedite_for_memory(cookie: Cookie) -> bool {
    hasten(cookie, Demand::Expedite, Cause::Pressure)
}

/// The same at next to no cost, where all that is missing is threads without sections that do not come by.
pub fn park(cookie: Cookie) -> bool {
    EXPEDITES.load(Relaxed) && hasten(cookie, Demand::Park, Cause::Queue) || DOMAIN.poll(cookie)
}

#[unsafe(link_section = ".text_threads")]
fn hasten(cookie: Cookie, demand: Demand, cause: Cause) -> bool {
    if DOMAIN.poll(cookie) {
        return true;
    }
    let mut ended = 0;
    // A cookie taken while a period is in flight needs that one and one more.
    for _ in 0..2 {
        ended += u64::from(DOMAIN.advance(demand));
        if DOMAIN.poll(cookie) {
            break;
        }
    }
    cause::note(cause, ended);
    DOMAIN.poll(cookie)
}
