//! What a handler makes of a thread that is on its way, whichever instruction it comes in behind.

use super::*;
use crate::abi::pthread;
use crate::cache::own;
use crate::front::exit;
use crate::os::tls;
use core::arch::asm;
use std::cell::Cell;
use std::time::{Duration, Instant};

const TRAP_FLAG: i64 = 1 << 8;
/// Instructions on either side of the change of the words at each of which the handler comes in, ...
const NEAR: u32 = if cfg!(debug_assertions) { 16 } else { 40 };
/// ... and the number of times elsewhere, about.
const FAR: u32 = if cfg!(debug_assertions) { 4 } else { 20 };

std::thread_local! {
    static STEPS_LEFT: Cell<u32> = const { Cell::new(0) };
    /// Instructions so far, and how many of them until word 0 changed.
    static STEPS: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    /// What was wrong when the handler came in.
    static WRONG: Cell<bool> = const { Cell::new(false) };
    /// Word 0 in the beginning.
    static WORD: Cell<usize> = const { Cell::new(0) };
}

/// Both words name one cache's tables, or the same static table.
fn words_agree() -> bool {
    let (alloc, free) = (tls::alloc_table(), tls::free_table());
    if alloc == tls::empty_table() || alloc == own::exited_table() {
        return free == alloc;
    }
    // SAFETY: neither static table: the thread's cache.
    free == unsafe { &raw const (*(alloc as *const ThreadCache)).defer } as usize
}

extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let left = STEPS_LEFT.get().saturating_sub(1);
    STEPS_LEFT.set(left);
    let (steps, changed) = STEPS.get();
    let is_first = changed == 0 && tls::alloc_table() != WORD.get();
    STEPS.set((steps + 1, if is_first { steps + 1 } else { changed }));
    if left > 0 {
        return;
    }
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel hands a valid context to an SA_SIGINFO handler. Step no further.
    unsafe { (*context).uc_mcontext.gregs[libc::REG_EFL as usize] &= !TRAP_FLAG };
    let agreed = words_agree();
    readers::lock();
    readers::unlock();
    WRONG.set(!agreed || !words_agree());
}

/// Runs `operation` with a section in a handler behind its `step`th instruction; false if it has fewer.
fn trapped_at(step: u32, operation: impl FnOnce()) -> bool {
    STEPS_LEFT.set(step);
    WORD.set(tls::alloc_table());
    // SAFETY: sets and clears the trap flag, for which there is a handler. The compiler knows that
    // an asm block without `nostack` pushes.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    operation();
    // SAFETY: as above.
    unsafe { asm!("pushfq", "and dword ptr [rsp], ~0x100", "popfq") };
    STEPS_LEFT.get() == 0
}

/// A thread moves in and leaves, and a handler opens a section in the middle of it: the thread has one cache
/// then,
/// or none, and both of its words say so. The handler comes in at every instruction near the one that
/// changes the
/// words, and now and then elsewhere.
#[test]
fn a_handler_may_come_in_anywhere() {
    in_own_process!();
    switch::go_concurrent();
    switch::expect_threads();
    let before = shares::census().0;
    // SAFETY: a handler of the right type.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGTRAP, &action, null_mut());
    }
    let mut interrupted = [0, 0];
    for leaves in [false, true] {
        // The first time through, where the words change.
        let (mut step, mut near, mut far) = (u32::MAX, 0..0, 0);
        loop {
            let cache = registry::acquire(&Quiet::new()).expect("memory");
            let cache = core::ptr::from_mut(cache) as usize;
            let (hit, (steps, changed)) = in_a_thread(move || {
                let enter = || {
                    let _ = pthread::enter(cache as *mut ThreadCache);
                };
                let hit = if leaves {
                    enter();
                    give(take(SIZE));
                    let own = entry::current().expect("a cache");
                    trapped_at(step, || exit::leave(own))
                } else {
                    trapped_at(step, enter)
                };
                let has_cache = !own::has_exited();
                assert!(!WRONG.get(), "leaves {leaves}, step {step}: its words disagreed");
                let live = shares::census().0 - before;
                assert_eq!(live, usize::from(has_cache), "leaves {leaves}, step {step}");
                assert!(leaves || has_cache);
                (hit, STEPS.get())
            });
            // A section behind the exit has made one that only the search finds, once the thread's stack,
            // and with it
            // its words, is another's.
            let patience = Instant::now() + Duration::from_secs(10);
            while shares::census().0 != before && Instant::now() < patience {
                std::thread::spawn(drain::scavenge).join().expect("a thread");
            }
            assert_eq!(shares::census().0, before, "leaves {leaves}, step {step}");
            if step == u32::MAX {
                assert!(changed > 0 && steps > changed, "does the trap flag work here?");
                (step, near, far) = (0, changed.saturating_sub(NEAR)..changed + NEAR, steps / FAR + 1);
            } else if !hit {
                break;
            }
            interrupted[usize::from(leaves)] += 1;
            step = match step + 1 {
                next if near.contains(&next) => next,
                next if next < near.start => near.start.min(step + far),
                _ => step + far,
            };
        }
    }
    assert!(interrupted.iter().all(|&times| times > NEAR / 2), "{interrupted:?}");
    readers::synchronize("test", true);
}
