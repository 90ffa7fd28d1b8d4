//! A signal of the user's choice as a request, by the raw system calls.
//!
//! Only where nobody handles the signal and nobody ignores it; a program that installs its own handler
//! later replaces ours, as it would replace the default. A handler may interrupt anything: the one here sets
//! a bit and rings.

use core::arch::global_asm;

use super::bell;
use super::syscall::{Errno, syscall};

/// The kernel's sigaction.
#[repr(C)]
#[derive(Default)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

const SA_RESTORER: usize = 0x0400_0000;

unsafe extern "C" {
    fn rcumalloc_sigreturn();
}

// These very bytes are how debuggers and unwinders know a signal's frame.
global_asm!(
    ".pushsection .text.rcumalloc_sigreturn,\"ax\",@progbits",
    "nop",
    ".hidden rcumalloc_sigreturn",
    ".globl rcumalloc_sigreturn",
    ".type rcumalloc_sigreturn, @function",
    "rcumalloc_sigreturn:",
    ".byte 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05",
    ".size rcumalloc_sigreturn, . - rcumalloc_sigreturn",
    ".popsection",
);

/// Asks for memory to be given back.
pub extern "C" fn request(_: i32) {
    bell::want(bell::SIGNAL);
    bell::ring();
}

/// Has `handler` run at `signal`. `EEXIST`: somebody has a use for it already.
pub fn install(signal: i32, handler: extern "C" fn(i32)) -> Result<(), Errno> {
    let mut old = Action::default();
    act(signal, None, Some(&mut old))?;
    if old.handler != libc::SIG_DFL {
        return Err(Errno::EEXIST);
    }
    let flags = SA_RESTORER | (libc::SA_RESTART | libc::SA_ONSTACK) as usize;
    let handler = handler as *const () as usize;
    let restorer = rcumalloc_sigreturn as *const () as usize;
    act(signal, Some(&Action { handler, flags, restorer, mask: 0 }), None)
}

fn act(signal: i32, new: Option<&Action>, old: Option<&mut Action>) -> Result<(), Errno> {
    let new = new.map_or(0, |new| core::ptr::from_ref(new) as usize);
    let old = old.map_or(0, |old| core::ptr::from_mut(old) as usize);
    // SAFETY: the kernel reads and writes one action each; the handler is async-signal-safe.
    unsafe { syscall(libc::SYS_rt_sigaction, [signal as usize, new, old, 8, 0, 0]) }.map(|_| ())
}

/// The number of a signal that may be used, by its name without SIG, or by number.
pub fn parse_signal(text: &[u8]) -> Option<i32> {
    let named = NAMES.iter().find(|(name, _)| name.as_bytes() == text).map(|&(_, signal)| signal);
    let numbered = || super::env::parse_u64(text).and_then(|number| i32::try_from(number).ok());
    named.or_else(numbered).filter(|&signal| is_usable(signal))
}

const NAMES: [(&str, i32); 10] = [
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("HUP", libc::SIGHUP),
    ("URG", libc::SIGURG),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("CONT", libc::SIGCONT),
];

/// Not what cannot be caught, reports an error of the thread itself, or is libc's own (32, 33).
fn is_usable(signal: i32) -> bool {
    const NEVER: [i32; 10] = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
        libc::SIGSYS,
        libc::SIGABRT,
        libc::SIGCHLD,
    ];
    (1..=64).contains(&signal) && !NEVER.contains(&signal) && !(32..=33).contains(&signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(parse_signal(b"USR2"), Some(libc::SIGUSR2));
        assert_eq!(parse_signal(b"40"), Some(40));
        for bad in [&b""[..], b"SIGUSR2", b"usr2", b"KILL", b"9", b"11", b"33", b"0", b"65", b"-1"] {
            assert_eq!(parse_signal(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn asks_and_steals_nothing() {
        crate::own_process::in_own_process!();
        assert_eq!(install(libc::SIGPROF, request), Ok(()));
        bell::take();
        // SAFETY: our handler, in this thread.
        unsafe { libc::raise(libc::SIGPROF) };
        assert_ne!(bell::take() & bell::SIGNAL, 0);
        assert_eq!(install(libc::SIGPROF, request), Err(Errno::EEXIST));
        // SAFETY: SIGVTALRM is used by nobody here.
        unsafe { libc::signal(libc::SIGVTALRM, libc::SIG_IGN) };
        assert_eq!(install(libc::SIGVTALRM, request), Err(Errno::EEXIST));
    }
}
