//! The kernel, asked without libc: raw system calls, and its clock in the memory that it maps into every
//! process (the vDSO).
//!
//! A function of libc may be another preloaded library's: libfaketime's `clock_gettime` has dynamic
//! thread-local storage, which a thread of the embedder's may not have, and another's may allocate, inside an
//! allocator's own call. Nothing here can be interposed but `getauxval`, which is called once, at the first
//! look at the clock, and reads a table. No call changes errno. Any thread, signal handlers included.
//! `portable.rs` stands in its place on other systems and processors.

use core::arch::asm;
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Makes system call `number`; a negative result is an error.
///
/// # Safety
/// The call is sound with these arguments.
pub(crate) unsafe fn call(number: i64, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the kernel's convention: rcx and r11 are clobbered, nothing else. The caller answers for the
    // call itself.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    // SAFETY: the kernel's convention: nothing is clobbered. The caller answers for the call itself.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", inlateout("x0") args[0] as isize => result, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x8") number, options(nostack));
    }
    result
}

/// The kernel's number of the calling thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: gettid has no arguments and cannot fail.
    unsafe { call(libc::SYS_gettid, [0; 4]) as u32 }
}

/// Writes `line` to standard error; nothing can be done if that fails.
pub(crate) fn write_to_stderr(line: &[u8]) {
    // SAFETY: the kernel reads the bytes of the slice.
    unsafe { call(libc::SYS_write, [2, line.as_ptr() as usize, line.len(), 0]) };
}

/// membarrier with `command`; a negative result is an error.
///
/// Where `arch.rs` has no assembly there is none: a reader's increment is several instructions, between which
/// the barrier might fall, so every domain is fenced.
pub(crate) fn membarrier(command: usize) -> isize {
    if cfg!(not(target_arch = "x86_64")) {
        return -(libc::ENOSYS as isize);
    }
    // SAFETY: membarrier takes no pointers.
    unsafe { call(libc::SYS_membarrier, [command, 0, 0, 0]) }
}

/// Sleeps as long as `word` is `seen`, until [`wake`], a signal, or for no reason.
///
/// # Safety
/// The word is mapped as long as the call lasts.
pub(crate) unsafe fn wait(word: *const u32, seen: u32) {
    let how = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: the kernel compares the word, the caller's promise; there is no time-out.
    unsafe { call(libc::SYS_futex, [word as usize, how, seen as usize, 0]) };
}

/// Wakes one thread that [`wait`]s at `word`, of which nothing is read.
pub(crate) fn wake(word: *const u32) {
    let how = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: the kernel only looks the address up.
    unsafe { call(libc::SYS_futex, [word as usize, how, 1, 0]) };
}

/// Nanoseconds that thread `tid` of this process has run. `None`: not known, or no such thread.
pub(crate) fn cpu_time_ns(tid: u32) -> Option<u64> {
    /// What the kernel's clock ids of threads consist of: the thread, inverted, and what is read.
    const PER_THREAD: i32 = 4;
    const SCHEDULED: i32 = 2;
    let tid = i32::try_from(tid).ok().filter(|&tid| tid != 0)?;
    let clock = (!tid << 3) | PER_THREAD | SCHEDULED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let result = unsafe { call(libc::SYS_clock_gettime, [clock as usize, &raw mut time as usize, 0, 0]) };
    (result == 0).then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Sleeps for `ns` nanoseconds, less than a second, or until a signal comes.
pub(crate) fn sleep(ns: u64) {
    let time = [0u64, ns];
    // SAFETY: the kernel reads one timespec, two words.
    unsafe { call(libc::SYS_nanosleep, [time.as_ptr() as usize, 0, 0, 0]) };
}

/// Ends the process by SIGABRT; where that is not possible, with status 127.
pub(crate) fn abort() -> ! {
    // SAFETY: questions, a signal to the calling thread, and the end of the process; the kernel reads 32
    // bytes of an action that is all zeros, the default, and 8 of a set.
    unsafe {
        let (pid, tid) = (call(libc::SYS_getpid, [0; 4]), call(libc::SYS_gettid, [0; 4]));
        let signal = libc::SIGABRT as usize;
        let (default, only_abort) = ([0usize; 4], 1u64 << (signal - 1));
        let raise = || call(libc::SYS_tgkill, [pid as usize, tid as usize, signal, 0]);
        let set = &raw const only_abort as usize;
        call(libc::SYS_rt_sigprocmask, [libc::SIG_UNBLOCK as usize, set, 0, 8]);
        raise(); // a handler of the program's may run, and may not return
        call(libc::SYS_rt_sigaction, [signal, default.as_ptr() as usize, 0, 8]);
        raise();
        loop {
            call(libc::SYS_exit_group, [127, 0, 0, 0]);
        }
    }
}

type GetTime = extern "C" fn(libc::clockid_t, *mut libc::timespec) -> i32;

/// Not looked for yet.
const UNKNOWN: usize = 0;
/// There is none: under valgrind, which hides it, or with `vdso=0`.
const NONE: usize = 1;
/// Where the vDSO's clock is, or one of the two above. Racing finders find the same.
static GET_TIME: AtomicUsize = AtomicUsize::new(UNKNOWN);

/// The vDSO's name for its clock.
const VDSO_CLOCK: &CStr =
    if cfg!(target_arch = "aarch64") { c"__kernel_clock_gettime" } else { c"__vdso_clock_gettime" };

/// Which of the kernel's clocks.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum Clock {
    Monotonic = libc::CLOCK_MONOTONIC,
    /// As of the last tick.
    MonotonicCoarse = libc::CLOCK_MONOTONIC_COARSE,
}

/// Nanoseconds of `clock`.
#[inline]
pub(crate) fn clock(clock: Clock) -> u64 {
    let clock = clock as libc::clockid_t;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let address = match GET_TIME.load(Relaxed) {
        UNKNOWN => find(),
        known => known,
    };
    // SAFETY: the address of the vDSO's function of this type, which stays mapped.
    let done = address > NONE
        && unsafe { core::mem::transmute::<usize, GetTime>(address) }(clock, &raw mut time) == 0;
    if !done {
        // SAFETY: the kernel writes one timespec.
        unsafe { call(libc::SYS_clock_gettime, [clock as usize, &raw mut time as usize, 0, 0]) };
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cold]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".text_solo"))]
fn find() -> usize {
    // SAFETY: reads a table that the kernel made, and keeps the calling thread's errno, which says so if the
    // kernel has no image to offer.
    let image = unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let image = libc::getauxval(libc::AT_SYSINFO_EHDR) as usize;
        if image == 0 {
            *errno = before;
        }
        image
    };
    let found = match image {
        0 => None,
        // SAFETY: the kernel's ELF image.
        image => unsafe { symbol(image, VDSO_CLOCK) },
    };
    let address = found.unwrap_or(NONE);
    GET_TIME.store(address, Relaxed);
    address
}

/// The address of `name` in the ELF image at `image`, all of whose parts lie where its file offsets say.
///
/// # Safety
/// There is a well-formed 64-bit shared object.
unsafe fn symbol(image: usize, name: &CStr) -> Option<usize> {
    const LOAD: u32 = 1;
    const DYNAMIC: u32 = 2;
    const STRINGS: u64 = 5;
    const SYMBOLS: u64 = 6;
    const HASH: u64 = 0x6fff_fef5;
    const OLD_HASH: u64 = 4;
    // SAFETY: all of it reads inside the image, whose format is that of ELF.
    unsafe {
        let half = |at: usize| usize::from((at as *const u16).read());
        let word = |at: usize| (at as *const u32).read();
        let long = |at: usize| (at as *const u64).read();
        let headers = image + long(image + 32) as usize;
        let (mut bias, mut dynamic) = (None, None);
        for header in (0..half(image + 56)).map(|index| headers + index * half(image + 54)) {
            let at = image + long(header + 8) as usize;
            match word(header) {
                LOAD if bias.is_none() => bias = Some(at.wrapping_sub(long(header + 16) as usize)),
                DYNAMIC => dynamic = Some(at),
                _ => {}
            }
        }
        let (bias, mut entry) = (bias?, dynamic?);
        let (mut strings, mut symbols, mut hash, mut old_hash) = (None, None, None, None);
        while long(entry) != 0 {
            let at = Some(bias.wrapping_add(long(entry + 8) as usize));
            match long(entry) {
                STRINGS => strings = at,
                SYMBOLS => symbols = at,
                HASH => hash = at,
                OLD_HASH => old_hash = at,
                _ => {}
            }
            entry += 16;
        }
        let (strings, symbols) = (strings?, symbols?);
        let look = |index: usize| {
            let symbol = symbols + index * 24;
            let is_it = CStr::from_ptr((strings + word(symbol) as usize) as *const c_char) == name;
            (is_it && half(symbol + 6) != 0).then(|| bias.wrapping_add(long(symbol + 8) as usize))
        };
        let Some(hash) = hash else {
            return (0..word(old_hash? + 4) as usize).find_map(look);
        };
        let (buckets, first) = (word(hash) as usize, word(hash + 4) as usize);
        let table = hash + 16 + word(hash + 8) as usize * 8;
        let chains = table + buckets * 4;
        for bucket in 0..buckets {
            let mut index = word(table + bucket * 4) as usize;
            while index >= first {
                if let Some(found) = look(index) {
                    return Some(found);
                }
                if word(chains + (index - first) * 4) & 1 != 0 {
                    break;
                }
                index += 1;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_the_kernels() {
        let by_call = || {
            let mut time = [0u64; 2];
            // SAFETY: the kernel writes two words.
            unsafe {
                call(
                    libc::SYS_clock_gettime,
                    [libc::CLOCK_MONOTONIC as usize, time.as_mut_ptr() as usize, 0, 0],
                )
            };
            time[0] * 1_000_000_000 + time[1]
        };
        let before = by_call();
        let now = clock(Clock::Monotonic);
        assert!(before <= now && now <= by_call());
        // SAFETY: a question.
        if unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } != 0 {
            assert!(GET_TIME.load(Relaxed) > NONE, "the vDSO is there and has no clock");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        // SAFETY: a question, and the kernel's image.
        unsafe {
            let image = libc::getauxval(libc::AT_SYSINFO_EHDR) as usize;
            assert!(image == 0 || symbol(image, c"__vdso_no_such_thing").is_none());
        }
    }
}
