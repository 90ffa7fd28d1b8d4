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
//! block of thread-local storage as libc lays it out: what this library needs, zeros
//! but for the pointer to itself, the stack protector's canary and our two words, which
//! say "a thread that has given its cache back".
//!
//! ```text
//!   guard page | stack, grows down ... | thread-local storage | control block <- fs
//! ```
//!
//! What it may call: raw system calls, the vDSO's clock (`rcu::now_ns`), and of libc nothing but what the
//! compiler itself may turn a copy or a comparison into, which works on its arguments alone (`memcpy` and its
//! kind). Any other function may be a preloaded library's, which finds no thread of libc's here: no dynamic
//! thread-local storage, no locale, no stack that it knows. `only_these_may_be_called` checks the undefined
//! symbols of the shared object.
//!
//! One helper at a time. Its number lies in [`Helper::tid`]: written by the kernel before `clone`
//! returns, set to 0 and woken by the kernel when it is off its stack for good, however it ends.

use core::arch::{asm, global_asm};
use core::num::NonZeroUsize;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use once_cell::race::OnceNonZeroUsize;

use super::map;
use super::signals::Quiet;
use super::syscall::{Errno, syscall};
use super::tid::pid;
use super::tls::{self, thread_pointer};
use crate::constants::{HELPER_BYTES, PAGE};

/// Bytes copied of the control block: itself, its self pointer, the canary and the pointer guard lie
/// in the first 64; the rest stays zero.
const CONTROL_BYTES: usize = 64;
/// Bytes the control block is given. libc's is larger, but nothing of libc runs here that reads
/// further.
const CONTROL_ROOM: usize = 512;

/// Looks for a thread that has ended, until it is forgotten: well over 10 ms.
const LAST_LOOKS: u32 = 20_000;

/// Where the helper's mapping and its number are.
pub struct Helper {
    /// Its number while it exists, else 0.
    tid: AtomicU32,
    /// Kept for the next one.
    mapping: OnceNonZeroUsize,
}

unsafe extern "C" {
    fn rcumalloc_clone(
        flags: usize,
        stack: usize,
        tid: *const AtomicU32,
        thread_pointer: usize,
        run: extern "C" fn() -> !,
    ) -> isize;
}

// rdi flags, rsi stack, rdx where the parent's copy of the number goes, r10 where the child's is cleared,
// r8 thread pointer. The child's first frame has no caller, and says so to debuggers.
global_asm!(
    ".pushsection .text.rcumalloc_clone,\"ax\",@progbits",
    ".hidden rcumalloc_clone",
    ".globl rcumalloc_clone",
    ".type rcumalloc_clone, @function",
    "rcumalloc_clone:",
    ".cfi_startproc",
    "mov r9, r8",
    "mov r8, rcx",
    "mov r10, rdx",
    "mov eax, {clone}",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "ret",
    "2:",
    ".cfi_undefined rip",
    "xor ebp, ebp",
    "call r9",
    "ud2",
    ".cfi_endproc",
    ".size rcumalloc_clone, . - rcumalloc_clone",
    ".popsection",
    clone = const libc::SYS_clone,
);

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
        let pointer = mapping + HELPER_BYTES - CONTROL_ROOM;
        let depth = thread_local_depth();
        if depth > HELPER_BYTES / 4 {
            return Err(Errno::ENOMEM);
        }
        // SAFETY: the mapping is ours, nobody runs on it, and all of this lies inside it. The
        // calling thread's own control block is as long as what is copied.
        unsafe {
            core::ptr::write_bytes((pointer - depth) as *mut u8, 0, depth);
            core::ptr::copy_nonoverlapping(thread_pointer() as *const u8, pointer as *mut u8, CONTROL_BYTES);
            // The words libc keeps at 0 and 16: the block's own address. At 8: no dynamic storage.
            let control = pointer as *mut usize;
            control.write(pointer);
            control.add(1).write(0);
            control.add(2).write(pointer);
            let words = (pointer - own_words_depth()) as *mut usize;
            words.write(table);
            words.add(1).write(table);
        }
        let flags = libc::CLONE_VM
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        let stack = (pointer - depth) & !63;
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
        for _ in 0..LAST_LOOKS {
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

/// Whether the program runs under valgrind, which ends a program at a clone it does not know. The
/// instructions do nothing on a processor.
pub fn is_under_valgrind() -> bool {
    // The request RUNNING_ON_VALGRIND and its five arguments.
    let request = [0x1001usize, 0, 0, 0, 0, 0];
    let answer: usize;
    // SAFETY: rotations by 128 bits in all and an exchange of a register with itself.
    unsafe {
        asm!("rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", ".byte 0x48, 0x87, 0xdb",
            inlateout("rdx") 0usize => answer, in("rax") request.as_ptr(), inout("rdi") 0usize => _,
            options(nostack));
    }
    answer != 0
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

/// How far below the thread pointer our two words lie.
fn own_words_depth() -> usize {
    thread_pointer() - (tls::free_word() - 8)
}

/// How far below the thread pointer the lowest thing lies that a helper may touch: our words.
fn thread_local_depth() -> usize {
    (own_words_depth() + 64).next_multiple_of(64)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    extern "C" fn sleep() -> ! {
        loop {
            // SAFETY: sleeps until the process ends.
            let _ = unsafe { syscall(libc::SYS_pause, [0; 6]) };
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
