//! The heavy barrier: a full memory barrier executed by every running thread of the process.
//!
//! `membarrier(PRIVATE_EXPEDITED)` is the heavy half of an asymmetric pair whose light half, in
//! `read_lock`, is a compiler barrier. It may be missing (old kernel), refused (seccomp: ENOSYS or
//! EPERM), stop working later (a filter installed after start), or be answered with success by a filter
//! that executes nothing. The probe looks for all of these as far as they show:
//!
//! 1. the kernel must offer the command (`QUERY`); a filter that fakes 0 offers nothing;
//! 2. a command that does not exist must be refused; a filter that says yes to everything says it here;
//! 3. before registration the command must fail with EPERM; a filter that fakes this one command shows
//!    here. Only if the process registered before (another library, a forked child) is it allowed
//!    to succeed, and then the kernel must list the registration (Linux 6.3 and later) to be believed;
//! 4. registration and a first barrier must succeed.
//!
//! Whenever the answer is no, at start or later, the domain is *fenced*: readers execute a
//! fence at every outermost lock and the expediter's own fence is the heavy half. A reader that was
//! in the fast mode when membarrier failed converts at its next announcement, which it makes at the
//! latest after `TURN` sections; until then an expedite judges it only if it sleeps (`asleep.rs`). A filter
//! that begins to fake success after start cannot be seen.
//!
//! Not used: `mprotect` as a substitute. It interrupted other processors only as a side effect, and on
//! processors that broadcast TLB invalidations it no longer does.

use crate::counters::Recorder;
use crate::sync::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    const_unless_loom, fence,
};

const UNKNOWN: u32 = 0;
const MEMBARRIER: u32 = 1;
const FENCED: u32 = 2;

/// Which heavy barrier is in force.
pub(crate) struct Barrier {
    mode: AtomicU32,
}

impl Barrier {
    const_unless_loom! {
        pub(crate) fn new() -> Barrier {
            Barrier { mode: AtomicU32::new(UNKNOWN) }
        }
    }

    /// Relaxed is enough: what a reader makes of a stale answer shows in its `nest`, and an expediter
    /// judges by what `heavy` did, not by this.
    pub(crate) fn is_fenced(&self) -> bool {
        self.mode.load(Relaxed) != MEMBARRIER
    }

    pub(crate) fn probe(&self) {
        if self.mode.load(Relaxed) == UNKNOWN {
            let mode = if kernel::probe() { MEMBARRIER } else { FENCED };
            // Loses to whoever decided first; a later failure is never undone.
            let _ = self.mode.compare_exchange(UNKNOWN, mode, Relaxed, Relaxed);
        }
    }

    pub(crate) fn give_up(&self) {
        self.mode.store(FENCED, Relaxed);
    }

    /// Executes the heavy barrier. True if every thread has executed one; false if only the caller
    /// has, behind which only readers in the cold mode may be judged.
    pub(crate) fn heavy(&self, recorder: &Recorder) -> bool {
        let mut everywhere = self.mode.load(Relaxed) == MEMBARRIER;
        // `torture --break fence`: says that everybody executed one, and nobody did.
        if everywhere && !cfg!(rcumalloc_break = "fence") {
            recorder.membarrier();
            everywhere = kernel::execute_or_register();
            if !everywhere {
                self.give_up();
            }
        }
        fence(SeqCst);
        everywhere
    }
}

#[cfg(not(any(loom, miri)))]
mod kernel {
    use crate::kernel::membarrier;

    const EPERM: isize = 1;
    const EINVAL: isize = 22;

    const QUERY: usize = 0;
    const PRIVATE_EXPEDITED: usize = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: usize = 1 << 4;
    const GET_REGISTRATIONS: usize = 1 << 9;
    /// Not a flag of any command, now or (one hopes) ever.
    const NO_SUCH_COMMAND: usize = 1 << 30;

    pub(super) fn register() -> bool {
        membarrier(REGISTER_PRIVATE_EXPEDITED) == 0
    }

    pub(super) fn execute() -> bool {
        membarrier(PRIVATE_EXPEDITED) == 0
    }

    /// As `execute`. In a forked child the registration is part of the copied address space and normally
    /// inherited; where it was not, it is made when it is missed, not at the fork: a child that never
    /// needs the barrier makes no call that a filter might forbid.
    pub(super) fn execute_or_register() -> bool {
        execute() || register() && execute()
    }

    pub(super) fn probe() -> bool {
        let offered = membarrier(QUERY);
        let wanted = (PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED) as isize;
        if offered < 0 || offered & wanted != wanted {
            return false;
        }
        if membarrier(NO_SUCH_COMMAND) != -EINVAL {
            return false;
        }
        let early = membarrier(PRIVATE_EXPEDITED);
        let registered_before = early == 0;
        if !registered_before && early != -EPERM {
            return false;
        }
        if registered_before {
            let registrations = membarrier(GET_REGISTRATIONS);
            if registrations < 0
                || registrations & PRIVATE_EXPEDITED as isize == 0
                    && registrations & REGISTER_PRIVATE_EXPEDITED as isize == 0
            {
                return false;
            }
        }
        register() && execute()
    }
}

/// Miri's readers execute full fences (`arch.rs`), of which the expediter's is the heavy half; loom has a
/// barrier.
#[cfg(any(loom, miri))]
mod kernel {
    pub(super) fn execute_or_register() -> bool {
        #[cfg(loom)]
        return crate::model::barrier();
        #[cfg(not(loom))]
        true
    }
    pub(super) fn probe() -> bool {
        true
    }
}
