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

/// What an embedder does on either side of the wait in [`Domain::barrier`].
pub trait BarrierHooks {
    /// Close every open batch, so that its cookie is taken before the wait.
    fn seal(&mut self);
    /// Every cookie taken by `seal` or earlier has elapsed: make the blocks reusable.
    fn reclaim(&mut self);
}

impl Domain {
    /// Waits until a whole grace period has passed. `me` is the calling thread's reader in this
    /// domain, if it has one; it goes offline for the wait. Waits for announcements first; where
    /// readers do not announce within [`PATIENCE_NS`](PATIENCE_NS) it expedites.
    ///
    /// Inside a section of the calling thread this would wait for ever. With the thread's reader no
    /// [`Guard`](crate::Guard) of it can live; where a section was opened by [`lock`](Reader::lock) it is
    /// misuse, and the process ends.
    ///
    /// ```
    /// fn waits(domain: &quiescent::Domain, reader: &mut quiescent::Reader) {
    ///     drop(reader.read_lock());
    ///     domain.synchronize(Some(&mut *reader));
    /// }
    /// ```
    ///
    /// ```compile_fail,E0502
    /// fn waits(domain: &quiescent::Domain, reader: &mut quiescent::Reader) {
    ///     let section = reader.read_lock();
    ///     domain.synchronize(Some(&mut *reader)); // would wait for `section`
    ///     drop(section);
    /// }
    /// ```
    pub fn synchronize(&self, me: Option<&mut Reader>) {
        self.cond_synchronize(self.snapshot(), me);
    }

    /// As [`synchronize`](Domain::synchronize), expediting from the beginning.
    pub fn synchronize_expedited(&self, me: Option<&mut Reader>) {
        self.cond_synchronize_expedited(self.snapshot(), me);
    }

    /// Waits until `cookie` has elapsed; returns at once if it has.
    pub fn cond_synchronize(&self, cookie: Cookie, me: Option<&mut Reader>) {
        until_elapsed(self, cookie, me.as_deref(), Urgency::Patient);
    }

    /// As [`cond_synchronize`](Domain::cond_synchronize), expediting from the beginning.
    pub fn cond_synchronize_expedited(&self, cookie: Cookie, me: Option<&mut Reader>) {
        until_elapsed(self, cookie, me.as_deref(), Urgency::Expedited);
    }

    /// [`synchronize_expedited`](Domain::synchronize_expedited) for who has a reader that others of the
    /// thread share, and has looked that no section is open.
    #[cfg(feature = "std")]
    pub(crate) fn synchronize_outside(&self, me: &Reader) {
        until_elapsed(self, self.snapshot(), Some(me), Urgency::Expedited);
    }

    /// Waits until everything that the embedder has batched so far is reusable: seal, wait, reclaim.
    /// The wait is expedited: whoever asks for a barrier is waiting for memory.
    pub fn barrier(&self, me: Option<&mut Reader>, hooks: &mut dyn BarrierHooks) {
        hooks.seal();
        self.synchronize_expedited(me);
        hooks.reclaim();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Patient,
    Expedited,
}

fn until_elapsed(domain: &Domain, cookie: Cookie, me: Option<&Reader>, urgency: Urgency) {
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
        me.cell().offline();
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
            crate::kernel::sleep(self.sleep_ns);
            self.sleep_ns = (self.sleep_ns * 2).min(LONGEST_SLEEP_NS);
        }
    }
}
