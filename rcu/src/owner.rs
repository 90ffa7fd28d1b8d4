//! The owner's side of a cell: what a reader does outside the two fast paths (`arch.rs`).
//!
//! Everything here is called by the thread that owns the cell, or for it when it has ended, and may be
//! interrupted anywhere by a signal handler that opens sections of its own: each step leaves the cell as good
//! as it was for a whole section, or says why not. (A handler must not call `offline` or `online`.)

use crate::arch;
use crate::cell::{ASKED, BIAS, MAX_NESTING, ReaderCell, TURN, base, depth};
use crate::cookie::in_flight;
use crate::misuse::Misuse;
use crate::sync::{
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

impl ReaderCell {
    /// Behind an increment of `nest` that did not come out positive: the cold mode.
    #[cold]
    #[inline(never)]
    pub(crate) fn lock_slow(&self) {
        let (domain, block, index) = (self.domain(), self.block(), self.index());
        // The cold mode's own fence, between the store to `nest`, and the look at the state and the section's
        // accesses. Pairs with the fences of expediters, in `Barrier::heavy`: either who would park this
        // reader, or announce for it, sees the section, or the section sees the offer and what was unlinked
        // before the period.
        fence(SeqCst);
        if !block.is_explicit(index) {
            if !self.has_locked.load(Relaxed) {
                domain.on_first_lock();
                self.has_locked.store(true, Relaxed);
            }
            self.come_online(true);
            // Between the state and the section's accesses. Pairs with the fence of scanners, in
            // `laggard_of`: either the scan sees this reader, or the section sees what was unlinked.
            fence(SeqCst);
        }
        if domain.is_fenced() || self.said_offline.load(Relaxed) || self.watched.load(Relaxed) {
            self.rebase(BIAS);
            return;
        }
        self.rebase(0);
        // Between the swap and what this section and those of the fast mode behind it read. Where membarrier
        // is lost at this moment, an expediter goes by its own fence and judges cold readers. Either it
        // sees that this one is not cold any more, or its fence came first, and we see what was unlinked. (A
        // handler's section between the swap and this fence leans on the swap being a locked instruction,
        // which on x86 is a full fence itself.)
        fence(SeqCst);
    }

    /// Within a section, leaves the cold mode (`to`: 0), or makes it the owner's own, if an expediter has
    /// asked for it. A signal handler may come in between and do it for us.
    fn rebase(&self, to: i32) {
        loop {
            let nest = self.nest.load(Relaxed);
            if nest >= 0 || base(nest) == to {
                return;
            }
            if self.nest.compare_exchange(nest, depth(nest) + to, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Behind a decrement of `nest` that did not come out as 0.
    #[cold]
    #[inline(never)]
    pub(crate) fn unlock_inner(&self) {
        let nest = self.nest.load(Relaxed);
        // 0: it came out as BIAS, but a signal handler's section has left the cold mode since, and has
        // counted in our place.
        if nest >= 0 {
            return;
        }
        match depth(nest) {
            0 => {
                // A handler's sections between the two lines are not counted. That makes an expediter ask
                // once more, and never take an open section for one that has ended: none is open here.
                let turn = self.turn.load(Relaxed) + 1;
                #[cfg(loom)]
                crate::model::at(crate::model::Point::Counting);
                self.turn.store(turn, Release); // as the increment in `arch::unlock`
                self.began.store(0, Relaxed);
                if self.said_offline.load(Relaxed) {
                    if turn >= 0 {
                        // Nothing to announce, but the fast path looks for 0 only.
                        self.turn.store(-TURN, Release);
                    }
                    self.go_offline();
                } else if turn >= 0 {
                    self.take_turn();
                }
                self.domain().on_unlock();
            }
            1..=MAX_NESTING => {}
            _ => {
                self.nest.fetch_add(1, Relaxed);
                self.domain().misuse(Misuse::UnbalancedUnlock { tid: self.tid() });
            }
        }
    }

    /// Behind the last of `TURN` outermost unlocks: announce.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_turn(&self) {
        // Release as the increments: an expediter that sees this value takes it for the end of a section.
        self.turn.store(-TURN, Release);
        // From here on counts of sections come again.
        self.began.store(0, Relaxed);
        self.watched.store(false, Relaxed);
        self.quiescent_state();
    }

    /// See [`Reader::quiescent_state`](crate::Reader::quiescent_state).
    ///
    /// The calling thread owns the cell, here and in what follows.
    #[inline]
    pub(crate) fn quiescent_state(&self) {
        // That later sections see what was unlinked before the period began is the work of the fence
        // behind the announcement, in `laggard_of`.
        let sequence = self.domain().sequence(Acquire);
        let nothing_to_say = !in_flight(sequence) || self.others.announced.load(Relaxed) >= sequence;
        if nothing_to_say && !self.others.parked.load(Relaxed) {
            return;
        }
        self.announce(sequence);
    }

    #[cold]
    #[inline(never)]
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    fn announce(&self, sequence: u64) {
        if self.said_offline.load(Relaxed) || self.depth() != 0 {
            return;
        }
        if self.domain().is_fenced() || self.watched.load(Relaxed) {
            self.enter_cold_mode();
        }
        #[cfg(loom)]
        crate::model::at(crate::model::Point::Announcing);
        let mut sequence = sequence;
        let was_parked = self.others.parked.load(Relaxed);
        if was_parked {
            // First: an expediter parks and then says so. One that does both in between is heard next time.
            self.others.parked.store(false, Relaxed);
            // As in `come_online`: a period that began since the caller looked does not wait for this reader.
            sequence = self.domain().sequence(Acquire);
        }
        self.raise(sequence);
        if was_parked {
            self.block().arrive(self.index(), false);
        }
        // `laggard_of` begins with a full fence. It stands between this store and its scan, so of
        // two readers announcing at once one sees the other's store; and between the load of the
        // sequence and later sections, which therefore see what was unlinked before that period.
        if in_flight(sequence) {
            self.domain().try_complete(sequence);
        }
    }

    /// An idle reader begins to execute a fence at every lock.
    fn enter_cold_mode(&self) {
        // A handler that locks in between leaves `nest` as it was; both fail only if it is cold, by the
        // owner's own doing.
        let _ = self.nest.compare_exchange(0, BIAS, Release, Relaxed);
        let _ = self.nest.compare_exchange(ASKED, BIAS, Release, Relaxed);
    }

    /// Says that the reader may hold references from now on; `locks`: and that it is explicit.
    // Among what every process of librcumalloc.so runs as it starts (preload/src/lib.rs); elsewhere a section
    // like others.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_start"))]
    pub(crate) fn come_online(&self, locks: bool) {
        // A thread's first lock finds it online: what it has not announced it must still announce,
        // for an announcement without a scan may be the last one, and nobody would end the period.
        if !self.is_active() {
            // Before the bit: who sees it waits for no period that did not wait so far.
            self.raise(self.domain().sequence(Acquire));
        }
        self.block().arrive(self.index(), locks);
        // No fence: a reader that was not waited for is in the cold mode, and the fence of its first
        // section, in `lock_slow`, stands between the bit and what that section reads.
    }

    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    fn go_offline(&self) {
        // First: a handler's section between the next two lines would leave the cold mode, and
        // sections in the fast mode do not come online. The release in `enter_cold_mode` keeps the order.
        self.said_offline.store(true, Relaxed);
        self.enter_cold_mode();
        self.block().depart(self.index());
        // Pairs with the fence in `laggard_of` of whoever starts a period: either that scan sees
        // us offline, or we see its period and complete it.
        fence(SeqCst);
        let domain = self.domain();
        let sequence = domain.sequence(Acquire);
        if in_flight(sequence) {
            domain.try_complete(sequence);
        }
    }

    /// See [`Reader::offline`](crate::Reader::offline).
    pub(crate) fn offline(&self) {
        if self.depth() != 0 {
            self.domain().misuse(Misuse::OfflineInSection { tid: self.tid() });
            return;
        }
        self.go_offline();
    }

    /// Opens the one section of a cell that was just claimed: in the cold mode, and explicit from its first
    /// moment. See [`Domain::glance`](crate::Domain::glance).
    pub(crate) fn begin_glance(&self) {
        // Before the bit: who sees it sees a section.
        self.nest.store(BIAS + 1, Relaxed);
        self.come_online(true);
        // As in `lock_slow`, behind its `come_online`.
        fence(SeqCst);
    }

    /// Ends it, and gives the cell back.
    pub(crate) fn end_glance(&self) {
        // Release as a section's end.
        self.nest.store(BIAS, Release);
        // No scan behind it: whoever waits for the period looks for itself.
        self.block().depart(self.index());
        self.block().free(self.index());
    }

    /// See [`Reader::online`](crate::Reader::online).
    pub(crate) fn online(&self) {
        // First, and also inside a section that was opened while offline: it stays online then.
        self.said_offline.store(false, Relaxed);
        if !self.is_active() {
            self.come_online(false);
        }
    }

    /// `read_lock` for callers that cannot hold a guard, such as a C interface.
    ///
    /// # Safety
    /// The cell is registered and the calling thread owns it.
    #[inline(always)]
    pub unsafe fn lock_raw(&self) {
        arch::lock(self);
    }

    /// `read_unlock` for callers that cannot hold a guard.
    ///
    /// # Safety
    /// The cell is registered, the calling thread owns it, and a [`lock_raw`](Self::lock_raw) of
    /// the same thread is open. (One that is not is reported as misuse.)
    #[inline(always)]
    pub unsafe fn unlock_raw(&self) {
        arch::unlock(self);
    }

    /// The rest of [`lock_raw`](Self::lock_raw) for callers that have spelled its increment themselves
    /// (`arch.rs`), where it did not come out positive.
    ///
    /// # Safety
    /// As `lock_raw`.
    pub unsafe fn lock_rare_raw(&self) {
        self.lock_slow();
    }

    /// Notes where the section that the calling thread has just opened began, if it is the outermost one: an
    /// address in its program. For [`Stall::began`](crate::Stall::began).
    ///
    /// # Safety
    /// As `lock_raw`.
    pub unsafe fn note_began_raw(&self, place: usize) {
        if self.depth() == 1 {
            self.began_turn.store(self.turn.load(Relaxed), Relaxed);
            self.began.store(place, Relaxed);
        }
    }

    /// The rest of [`unlock_raw`](Self::unlock_raw), likewise: of an outermost unlock, whose turn came out as
    /// 0, or of one whose decrement did not.
    ///
    /// # Safety
    /// As `unlock_raw`.
    pub unsafe fn unlock_rare_raw(&self, outermost: bool) {
        if outermost {
            self.take_turn();
        } else {
            self.unlock_inner();
        }
    }

    /// See [`Reader::exit`](crate::Reader::exit).
    ///
    /// # Safety
    /// The cell is registered, the calling thread owns it (or stands in for a thread that has
    /// ended), and nobody uses it as a reader afterwards.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    pub unsafe fn exit_raw(&self) {
        if self.depth() != 0 {
            self.domain().misuse(Misuse::ExitInSection { tid: self.tid() });
            self.nest.store(BIAS, Release);
        }
        self.go_offline();
        self.block().free(self.index());
    }
}
