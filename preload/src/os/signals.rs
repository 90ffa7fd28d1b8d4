//! Keeping signal handlers out.
//!
//! A handler may open a read-side section, and its thread's first one needs the registry's lock
//! and, without a cache, memory. If it interrupted its own thread with one of those locks held it
//! would wait for ever. So whatever holds the registry's lock, and whatever works for a thread
//! that has no cache, does it with signals blocked. A thread made by `pthread_create` in the usual way, by a
//! thread with a cache, comes and goes without: what it does is one instruction for a handler.

use super::syscall::syscall;

/// Bytes of the kernel's signal set.
const SET_BYTES: usize = 8; // (given) by the kernel
/// Signals that say what the thread itself has done are let through: blocked, they would kill.
const SYNCHRONOUS: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

const BLOCKED: u64 = {
    let mut set = u64::MAX;
    let mut at = 0;
    while at < SYNCHRONOUS.len() {
        set &= !(1 << (SYNCHRONOUS[at] - 1));
        at += 1;
    }
    set
};

/// Proof that no handler runs in the calling thread; the old mask comes back when dropped.
pub struct Quiet {
    old: Option<u64>,
}

impl Quiet {
    /// Blocks the calling thread's signals. Nests. Where a filter refuses the call, nothing
    /// changes.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Quiet {
        Quiet::blocking(&BLOCKED_SET)
    }

    /// Without a system call, for a thread in which a handler needs no lock of ours.
    ///
    /// # Safety
    /// The calling thread has a cache, keeps it, and the process has been switched to concurrent.
    pub unsafe fn unneeded() -> Quiet {
        Quiet { old: None }
    }

    /// The same with every signal, for what a new thread inherits.
    pub fn all() -> Quiet {
        Quiet::blocking(&EVERY_SIGNAL)
    }

    fn blocking(set: &u64) -> Quiet {
        let mut old = 0u64;
        let args = [
            libc::SIG_BLOCK as usize,
            core::ptr::from_ref(set) as usize,
            &raw mut old as usize,
            SET_BYTES,
            0,
            0,
        ];
        // SAFETY: the kernel reads one set and writes another, both of its size.
        let done = unsafe { syscall(libc::SYS_rt_sigprocmask, args) };
        Quiet { old: done.is_ok().then_some(old) }
    }
}

static BLOCKED_SET: u64 = BLOCKED;
static EVERY_SIGNAL: u64 = u64::MAX;

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(old) = self.old {
            let args = [libc::SIG_SETMASK as usize, &raw const old as usize, 0, SET_BYTES, 0, 0];
            // SAFETY: the kernel reads one set of its size.
            let _ = unsafe { syscall(libc::SYS_rt_sigprocmask, args) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    static HANDLED: AtomicU32 = AtomicU32::new(0);

    extern "C" fn handle(_: i32) {
        HANDLED.fetch_add(1, Relaxed);
    }

    #[test]
    fn a_signal_waits_for_the_outermost_one() {
        // SAFETY: a handler that only counts; the signals go to this thread.
        unsafe {
            libc::signal(libc::SIGURG, handle as *const () as usize);
            let outer = Quiet::new();
            let inner = Quiet::new();
            libc::pthread_kill(libc::pthread_self(), libc::SIGURG);
            drop(inner);
            assert_eq!(HANDLED.load(Relaxed), 0);
            drop(outer);
            assert_eq!(HANDLED.load(Relaxed), 1);
        }
    }
}
