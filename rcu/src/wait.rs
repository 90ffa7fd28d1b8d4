//! Waiting for a cookie: the only place where the engine blocks.
//!
//! A short spin (two running readers announce within microseconds), then sleeping a little longer each
//! time. Never `sched_yield`: where readers fill the processors it gives away whole timeslices, and a
//! period took 12 ms instead of 0.2 (2 readers and a waiter on 2 processors, `--only periods`).
//!
//! There is nobody to wake the sleeper: periods are ended by whoever comes by, who must not pay for a
//! system call. A patient wait that outlasts [`PATIENCE_NS`] expedites, because in a process whose
//! threads sleep nobody will ever announce.

use crate::clock;
use crate::cookie::{Cookie, in_flight};
use crate::domain::Domain;
use crate::expedite::Asks;
use crate::misuse::Misuse;
use crate::reader::Reader;
use crate::sync::{Ordering::Acquire, relax};

/// How long `synchronize` waits for announcements before it expedites, in nanoseconds. A few
/// times what two busy readers take (microseconds), little against a scheduler's timeslice.
pub const PATIENCE_NS: u64 = 1_000_000;

/// Polls before the first sleep, each a few ns.
const SPINS: u32 = 200;
const SHORTEST_SLEEP_NS: u64 = 20_000;
const LONGEST_SLEEP_NS: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    Patient,
    Expedited,
}

pub(crate) fn until_elapsed(domain: &Domain, cookie: Cookie, me: Option<&Reader>, urgency: Urgency) {
    if domain.poll(cookie) {
        return;
    }
    if let Some(me) = me
        && me.nesting() != 0
    {
        domain.misuse(Misuse::SynchronizeInSection { tid: me.cell().tid() });
    }
    // A cookie of another domain would never elapse: after the report wait for a whole period.
    let cookie = if domain.issued(cookie) { cookie } else { domain.snapshot() };
    // The waiting thread must not be waited for.
    let online = me.filter(|me| !me.cell().is_offline());
    if let Some(me) = online {
        me.offline();
    }
    let mut pause = Pause::new();
    while !domain.poll(cookie) {
        domain.ensure(cookie);
        let sequence = domain.sequence(Acquire);
        if in_flight(sequence) {
            if urgency == Urgency::Expedited || pause.impatient() {
                domain.expedite(sequence, Asks::Explicit);
            } else {
                domain.try_complete(sequence);
            }
        }
        if domain.poll(cookie) {
            break;
        }
        pause.once();
    }
    if let Some(me) = online {
        me.online();
    }
}

struct Pause {
    rounds: u32,
    sleep_ns: u64,
    began_ns: u64,
}

impl Pause {
    fn new() -> Pause {
        Pause { rounds: 0, sleep_ns: SHORTEST_SLEEP_NS, began_ns: clock::now_ns() }
    }

    fn impatient(&self) -> bool {
        self.rounds > SPINS && clock::now_ns() - self.began_ns >= PATIENCE_NS
    }

    fn once(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds <= SPINS || cfg!(any(loom, miri)) {
            relax();
        } else {
            let pause = libc::timespec { tv_sec: 0, tv_nsec: self.sleep_ns as i64 };
            // SAFETY: reads one timespec; an interruption by a signal only shortens the pause.
            unsafe {
                libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const pause, core::ptr::null_mut())
            };
            self.sleep_ns = (self.sleep_ns * 2).min(LONGEST_SLEEP_NS);
        }
    }
}
