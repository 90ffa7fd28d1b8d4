//! A thread of our own that libc does not know of.
//!
//! Made by a raw `clone`: libc's own would allocate, count it among the threads that keep a process
//! alive, and signal it. It shares the memory and nothing else that a program could trip over:
//! not the descriptor table (a copy of its own from its first instruction, so nothing it opens has
//! a number in the program's table), not the working directory. All signals are blocked, so no
//! handler of the program's ever runs on its small stack.
//!
//! A cloned thread without a thread pointer of its own would run on its creator's thread-local
//! storage and take its creator's cache for its own. So the mapping that holds the stack ends in a
//! block of thread-local storage as libc lays it out for this processor (`arch::thread_block`): what this
//! library needs, zeros but for what the compiler's code looks at and our two words, which say "a thread
//! that has given its cache back".
//!
//! What it may call: raw system calls, the vDSO's clock (`rcu::now_ns`), and of libc nothing but what the
//! compiler itself may turn a copy or a comparison into, which works on its arguments alone (`memcpy` and its
//! kind). Any other function may be a preloaded library's, which finds no thread of libc's here: no dynamic
//! thread-local storage, no locale, no stack that it knows. `only_these_may_be_called` checks the undefined
//! symbols of the shared object.
//!
//! One helper at a time. Its number lies in [`Helper::tid`]: written by the kernel before `clone`
//! returns, set to 0 and woken by the kernel when it is off its stack for good, however it ends.

use core::num::NonZeroUsize;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use once_cell::race::OnceNonZeroUsize;

pub use super::arch::is_under_valgrind;
use super::arch::{self, rcumalloc_clone};
use super::map;
use super::signals::Quiet;
use super::syscall::{Errno, syscall};
use super::tid::pid;
use super::tls;
use crate::constants::{ENDED_LOOKS, HELPER_BYTES, PAGE};

/// Where the helper's mapping and its number are.
pub struct Helper {
    /// Its number while it exists, else 0.
    tid: AtomicU32,
    /// Kept for the next one.
    mapping: OnceNonZeroUsize,
}

impl Helper {
    /// None yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Helper {
        Helper { tid: AtomicU32::new(0), mapping: OnceNonZeroUsize::new() }
    }

    /// Its number, 0 while there is none.
    #[inline(always)]
    pub fn tid(&self) -> u32 {
        // Acquire: after the kernel's 0 its stack is ours.
        self.tid.load(Acquire)
    }

    /// Starts it. `table` is what its two words of thread-local storage hold.
    ///
    /// # Safety
    /// There is none, and one thread at a time calls this. `run` touches no thread-local storage
    /// but ours, calls nothing but what the head of this file allows, and ends with [`end`].
    pub unsafe fn start(&'static self, run: extern "C" fn() -> !, table: usize) -> Result<u32, Errno> {
        let mapping = self.mapping.get_or_try_init(map_stack)?.get();
        // SAFETY: the mapping is ours, nobody runs on it, and it is long enough for what a helper needs.
        let block = unsafe { arch::thread_block(mapping, HELPER_BYTES, tls::free_word() - 8, table) };
        let (pointer, stack) = block.ok_or(Errno::ENOMEM)?;
        let flags = libc::CLONE_VM
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        let _quiet = Quiet::all();
        // SAFETY: a new thread on a stack of its own that outlives it.
        let result = unsafe { rcumalloc_clone(flags as usize, stack, &raw const self.tid, pointer, run) };
        if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as u32) }
    }

    /// Waits until there is none, `ns` nanoseconds at most. True if there is none: not only off its
    /// stack, but forgotten by the kernel, which counts it until then.
    pub fn wait_for_end(&self, ns: u64) -> bool {
        let time = [ns / 1_000_000_000, ns % 1_000_000_000];
        let tid = self.tid();
        if tid != 0 {
            let word = self.tid.as_ptr() as usize;
            // Not FUTEX_PRIVATE: the kernel's wake at a thread's end is not.
            let args = [word, libc::FUTEX_WAIT as usize, tid as usize, time.as_ptr() as usize, 0, 0];
            // SAFETY: the kernel reads the word and the time, both alive.
            let _ = unsafe { syscall(libc::SYS_futex, args) };
        }
        if self.tid() != 0 {
            return false;
        }
        // Some 20 us, unless its processor is busy with others.
        for _ in 0..ENDED_LOOKS {
            if tid == 0 || !is_remembered(tid) {
                break;
            }
            // SAFETY: gives the processor away, nothing else.
            let _ = unsafe { syscall(libc::SYS_sched_yield, [0; 6]) };
        }
        true
    }

    /// In the child of a fork: there is none, and its mapping is ours to use again.
    pub fn forget(&self) {
        self.tid.store(0, Relaxed);
    }
}

/// Whether the kernel still counts the helper `tid`, off its stack already, among the caller's process's
/// threads. If the
/// number has been used again, it may say yes; nothing but the length of a wait depends on it.
fn is_remembered(tid: u32) -> bool {
    // SAFETY: a signal 0, which only asks.
    let answer = unsafe { syscall(libc::SYS_tgkill, [pid() as usize, tid as usize, 0, 0, 0, 0]) };
    answer != Err(Errno(libc::ESRCH))
}

fn map_stack() -> Result<NonZeroUsize, Errno> {
    let mapping = map::map(HELPER_BYTES).and_then(NonZeroUsize::new).ok_or(Errno::ENOMEM)?;
    let none = libc::PROT_NONE as usize;
    // SAFETY: a page of our own fresh mapping. Refused, there is no guard: harmless.
    let _ = unsafe { syscall(libc::SYS_mprotect, [mapping.get(), PAGE, none, 0, 0, 0]) };
    Ok(mapping)
}

/// Ends the calling thread, a helper.
pub fn end() -> ! {
    loop {
        // SAFETY: the thread owns nothing that must be given back.
        let _ = unsafe { syscall(libc::SYS_exit, [0; 6]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::tls::thread_pointer;
    use core::sync::atomic::AtomicUsize;
    use std::sync::Mutex;

    static HELPER: Helper = Helper::new();
    static ALONE: Mutex<()> = Mutex::new(());
    static SEEN: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

    extern "C" fn look() -> ! {
        SEEN[0].store(tls::alloc_table(), Relaxed);
        SEEN[1].store(tls::free_table(), Relaxed);
        SEEN[2].store(thread_pointer(), Relaxed);
        end()
    }

    #[test]
    fn has_words_of_its_own_and_ends() {
        let _alone = ALONE.lock().unwrap();
        let here = (tls::alloc_table(), thread_pointer());
        for _ in 0..100 {
            // SAFETY: one at a time, and `look` keeps to the rules.
            let tid = unsafe { HELPER.start(look, 48) }.unwrap();
            assert!(tid > 0);
            while !HELPER.wait_for_end(1_000_000_000) {}
            assert_eq!((SEEN[0].load(Relaxed), SEEN[1].load(Relaxed)), (48, 48));
            assert_ne!(SEEN[2].load(Relaxed), here.1);
            assert_eq!((tls::alloc_table(), thread_pointer()), here);
        }
    }

    /// A thread with a block of its own, made as a helper is, with libc's flags: emulators know no others.
    #[test]
    fn a_block_of_its_own_is_a_threads() {
        let _alone = ALONE.lock().unwrap();
        static TID: AtomicU32 = AtomicU32::new(0);
        let mapping = map_stack().unwrap().get();
        // SAFETY: our own mapping, which nobody runs on.
        let block = unsafe { arch::thread_block(mapping, HELPER_BYTES, tls::free_word() - 8, 80) };
        let (pointer, stack) = block.unwrap();
        assert!(stack.is_multiple_of(16) && mapping < stack && stack < mapping + HELPER_BYTES);
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        // SAFETY: a stack and a block of its own, and `look` keeps to the rules.
        let result = unsafe { rcumalloc_clone(flags as usize, stack, TID.as_ptr().cast(), pointer, look) };
        assert!(result > 0, "{result}");
        while TID.load(Acquire) != 0 {
            std::thread::yield_now();
        }
        assert_eq!((SEEN[0].load(Relaxed), SEEN[1].load(Relaxed)), (80, 80));
        assert_eq!(SEEN[2].load(Relaxed), pointer);
    }

    extern "C" fn sleep() -> ! {
        loop {
            // SAFETY: sleeps until the process ends.
            let _ = unsafe { syscall(libc::SYS_ppoll, [0; 6]) };
        }
    }

    #[test]
    fn shares_no_descriptor_and_no_signal() {
        static SLEEPER: Helper = Helper::new();
        // SAFETY: as above.
        let tid = unsafe { SLEEPER.start(sleep, 48) }.unwrap();
        let status = std::fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
        // All but SIGKILL and SIGSTOP, which cannot be.
        assert_eq!(blocked, "fffffffffffbfeff");
        let file = std::fs::File::open("/dev/null").unwrap();
        let own = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert!(std::fs::read_link(format!("/proc/self/task/{tid}/fd/{own}")).is_err());
        // SAFETY: the address of the word is compared, nothing is freed.
        assert_eq!(SLEEPER.tid(), tid);
        assert!(!SLEEPER.wait_for_end(1_000_000));
    }
}
