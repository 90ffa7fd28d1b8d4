//! The two fast paths, `read_lock` and `read_unlock`: the one file of the algorithm that depends on the
//! processor.
//!
//! A reader's cell begins with two words only its owner writes:
//!
//! ```text
//!   nest   > 0   depth of the section            idle: 0
//!          < 0   BIAS + depth: the *cold mode*   idle: BIAS, or ASKED where an expediter put it there
//!   turn   counts outermost unlocks from -TURN up to 0, where the reader takes a turn
//! ```
//!
//! The cold mode is how everything rare costs the fast path nothing: a thread that has never locked, one
//! that is offline, and every reader where membarrier is not to be had, idle at BIAS, so that their
//! increment comes out negative and the one conditional jump that is there anyway takes them to
//! [`ReaderCell::lock_slow`]. A decrement that does not come out as 0 is an inner unlock, the cold
//! mode, or an error; the one that does, counts a section.
//!
//! The pair is six instructions: `inc; jle` and `dec; jnz; inc; jz`. Each increment is one instruction on
//! memory, so a signal handler that locks and unlocks in between leaves the words as it found them. A handler
//! that switches fibres between `dec` and `inc` and leaves a section of the other fibre open breaks that: the
//! first fibre's `inc`, whenever it runs on, looks to an expediter like the end of the open section. Nothing
//! here can see it; sections must not be open across such a switch. There is no fence: the asm block is a
//! compiler barrier, and the store to `nest` is made visible to a scanner by the scanner's membarrier
//! (`membarrier.rs`), or by the fence that the cold mode executes in `lock_slow`. An x86 store is a release
//! store, which is what the end of a section needs.
//!
//! Where there is no assembly the same steps are spelled with atomics: under loom, Miri and ThreadSanitizer,
//! which cannot see into it, and on other processors and systems (`--cfg rcu_portable` tests that anywhere).
//! There every domain is fenced: its readers stay in the cold mode and execute a fence at each outermost
//! lock, so nothing here leans on what a compiler or a processor does to a plain store.

use crate::cell::ReaderCell;

/// The assembly's view of the cell: `nest` at 0, `turn` at 4. Checked where the cell is defined.
#[cfg(all(
    target_arch = "x86_64",
    target_os = "linux",
    target_pointer_width = "64",
    not(any(loom, miri, rcu_tsan, rcu_portable))
))]
mod fast {
    use super::ReaderCell;
    use core::arch::asm;

    /// Opens a section of the calling thread.
    #[inline(always)]
    pub(crate) fn lock(cell: &ReaderCell) {
        // SAFETY: `nest` is the cell's first word, an atomic. But for the calling thread (the contract of
        // every caller) only `ask_for_cold_mode` writes it, which reckons with being overwritten. Not
        // `nomem`: the block is the compiler barrier that keeps the section's accesses behind it.
        unsafe {
            asm!(
                "inc dword ptr [{cell}]",
                "jle {slow}",
                cell = in(reg) core::ptr::from_ref(cell),
                slow = label { cell.lock_slow() },
                options(nostack)
            );
        }
    }

    /// Closes the innermost section of the calling thread.
    #[inline(always)]
    pub(crate) fn unlock(cell: &ReaderCell) {
        // SAFETY: as in `lock`, for the two words at offsets 0 and 4; the block is the compiler
        // barrier that keeps the section's accesses before it.
        unsafe {
            asm!(
                "dec dword ptr [{cell}]",
                "jnz {inner}",
                "inc dword ptr [{cell} + 4]",
                "jz {turn}",
                cell = in(reg) core::ptr::from_ref(cell),
                inner = label { cell.unlock_inner() },
                turn = label { cell.take_turn() },
                options(nostack)
            );
        }
    }
}

#[cfg(not(all(
    target_arch = "x86_64",
    target_os = "linux",
    target_pointer_width = "64",
    not(any(loom, miri, rcu_tsan, rcu_portable))
)))]
mod fast {
    use super::ReaderCell;
    use crate::sync::{Ordering::Relaxed, Ordering::Release, one_instruction_add};

    pub(crate) fn lock(cell: &ReaderCell) {
        let nest = one_instruction_add(&cell.nest, 1, Relaxed);
        #[cfg(loom)]
        crate::model::at(crate::model::Point::Locking);
        if nest <= 0 {
            cell.lock_slow();
        }
        // There is no membarrier for Miri and the sanitizer. A heavy barrier paired with compiler barriers
        // orders what two full fences order, so where it is in force both sides are fences. loom has one
        // (`model.rs`).
        #[cfg(any(miri, rcu_tsan))]
        cell.light_barrier();
    }

    pub(crate) fn unlock(cell: &ReaderCell) {
        let nest = one_instruction_add(&cell.nest, -1, Release);
        #[cfg(loom)]
        crate::model::at(crate::model::Point::Unlocking);
        if nest != 0 {
            cell.unlock_inner();
            return;
        }
        let turn = cell.turn.load(Relaxed) + 1;
        cell.turn.store(turn, Release);
        if turn == 0 {
            cell.take_turn();
        }
    }
}

pub(crate) use fast::{lock, unlock};
