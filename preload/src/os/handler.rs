//! Signals, by the raw system calls: one of the user's choice as a request, and SIGSEGV for who traps blocks.
//!
//! The first only where nobody handles the signal and nobody ignores it; a program that installs its own
//! handler later replaces ours, as it would replace the default. A handler may interrupt anything: the one
//! here sets a bit and rings.
//!
//! SIGSEGV is *taken over*: whatever the program wants done on it is kept, and done behind ours. A program
//! that installs a handler later replaces ours until it is taken over again, each time a trap is about to
//! spring.

use super::arch::{SA_RESTORER, restorer};
use super::bell;
use super::syscall::{Errno, syscall};
use super::tid;
use core::ffi::c_void;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU64, AtomicUsize};

/// The kernel's sigaction.
#[repr(C)]
#[derive(Default)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

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
    act(signal, Some(&Action { handler, flags, restorer: restorer(), mask: 0 }), None)
}

fn act(signal: i32, new: Option<&Action>, old: Option<&mut Action>) -> Result<(), Errno> {
    let new = new.map_or(0, |new| core::ptr::from_ref(new) as usize);
    let old = old.map_or(0, |old| core::ptr::from_mut(old) as usize);
    // SAFETY: the kernel reads and writes one action each; the handler is async-signal-safe.
    unsafe { syscall(libc::SYS_rt_sigaction, [signal as usize, new, old, 8, 0, 0]) }.map(|_| ())
}

/// What is asked whether a fault is ours. True: it is dealt with, and the thread goes on.
type Ask = fn(*const libc::siginfo_t, *const libc::ucontext_t) -> bool;

/// Who is asked; 0: nobody, and SIGSEGV is not taken over.
static ASK: AtomicUsize = AtomicUsize::new(0);
/// What the program wants done on SIGSEGV: its handler, its flags, its mask.
static WANTED: (AtomicUsize, AtomicUsize, AtomicU64) =
    (AtomicUsize::new(libc::SIG_DFL), AtomicUsize::new(0), AtomicU64::new(0));

/// Marks a fault that the program's handler is dealing with: it may call ours, which it has found there.
const SEEN: i32 = 0x5243_5500; // (given) as an encoding

/// From now on `ask` is asked about each SIGSEGV first.
pub fn set_ask(ask: Ask) {
    ASK.store(ask as usize, Relaxed);
    take_over();
}

/// Takes SIGSEGV over, if somebody asks for it and the program has installed a handler of its own since.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn take_over() {
    let ours = on_fault as *const () as usize;
    let mut old = Action::default();
    if ASK.load(Relaxed) == 0 || act(libc::SIGSEGV, None, Some(&mut old)).is_err() || old.handler == ours {
        return;
    }
    WANTED.1.store(old.flags, Relaxed);
    WANTED.2.store(old.mask, Relaxed);
    // Release: pairs with the Acquire in `on_fault`.
    WANTED.0.store(old.handler, Release);
    let kept = old.flags & (libc::SA_NODEFER | libc::SA_RESTART) as usize;
    let flags = SA_RESTORER | (libc::SA_SIGINFO | libc::SA_ONSTACK) as usize | kept;
    let _ = act(
        libc::SIGSEGV,
        Some(&Action { handler: ours, flags, restorer: restorer(), mask: old.mask }),
        None,
    );
}

/// What runs on SIGSEGV: who asked for it, and then whatever the program wants.
extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    let ask = ASK.load(Relaxed);
    // SAFETY: the kernel's, or what the program's handler has been given and passes on.
    let is_seen = unsafe { (*info).si_errno } == SEEN;
    if ask != 0 && !is_seen {
        // SAFETY: `set_ask` has stored a function of this type.
        let ask: Ask = unsafe { core::mem::transmute(ask) };
        if ask(info, context.cast()) {
            return;
        }
    }
    let handler = WANTED.0.load(Acquire);
    let flags = WANTED.1.load(Relaxed);
    if is_seen || handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        return be_default(signal, info);
    }
    if flags & libc::SA_RESETHAND as usize != 0 {
        WANTED.0.store(libc::SIG_DFL, Relaxed);
    }
    // SAFETY: the signal's own; the kernel sets it anew each time.
    unsafe { (*info).si_errno = SEEN };
    if flags & libc::SA_SIGINFO as usize != 0 {
        // SAFETY: the program has installed a function of this type.
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) =
            unsafe { core::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: as above.
        let handler: extern "C" fn(i32) = unsafe { core::mem::transmute(handler) };
        handler(signal);
    }
}

/// The fault happens again when the handler returns, and then does what it does without one; a signal that
/// somebody has sent is sent again.
fn be_default(signal: i32, info: *const libc::siginfo_t) {
    let default = Action { handler: libc::SIG_DFL, flags: SA_RESTORER, ..Action::default() };
    let _ = act(signal, Some(&Action { restorer: restorer(), ..default }), None);
    // SAFETY: the signal's own.
    if unsafe { (*info).si_code } <= 0 {
        let args = [tid::pid() as usize, tid::tid() as usize, signal as usize, 0, 0, 0];
        // SAFETY: takes no memory of ours.
        let _ = unsafe { syscall(libc::SYS_tgkill, args) };
    }
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
