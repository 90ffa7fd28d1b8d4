//! What `kernel.rs` asks the kernel, asked of libc or the standard library, where the system is not Linux on
//! x86-64 or aarch64.
//!
//! There is no membarrier here, so every domain is fenced (`arch.rs`), and nobody asks for another thread's
//! time. The functions of libc may be interposed and set errno: who is the allocator, and must mind, is on
//! Linux.

#[cfg(not(any(unix, feature = "std")))]
compile_error!(
    "quiescent needs a clock and a way to sleep: libc's on a Unix, elsewhere those of its feature `std`"
);

/// How long a waiter sleeps between two looks at its word, in ns: there is no futex.
const LOOK_AGAIN_NS: u64 = 50_000;

/// The calling thread's number: none that another could use.
pub(crate) fn thread_id() -> u32 {
    0
}

pub(crate) fn membarrier(_command: usize) -> isize {
    -1
}

/// Sleeps a little: the caller looks again.
///
/// # Safety
/// None is asked for here.
pub(crate) unsafe fn wait(_word: *const u32, _seen: u32) {
    sleep(LOOK_AGAIN_NS);
}

pub(crate) fn wake(_word: *const u32) {}

pub(crate) fn cpu_time_ns(_tid: u32) -> Option<u64> {
    None
}

/// Which clock. There is one.
#[derive(Clone, Copy)]
pub(crate) enum Clock {
    Monotonic,
    MonotonicCoarse,
}

pub(crate) use system::{abort, clock, sleep, write_to_stderr};

#[cfg(unix)]
mod system {
    use super::Clock;

    pub(crate) fn clock(_clock: Clock) -> u64 {
        // SAFETY: zeros are a valid timespec.
        let mut time: libc::timespec = unsafe { core::mem::zeroed() };
        // SAFETY: writes one timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    /// Sleeps for `ns` nanoseconds, less than a second, or until a signal comes.
    pub(crate) fn sleep(ns: u64) {
        // SAFETY: zeros are a valid timespec.
        let mut time: libc::timespec = unsafe { core::mem::zeroed() };
        time.tv_nsec = ns as _;
        // SAFETY: reads one timespec.
        unsafe { libc::nanosleep(&raw const time, core::ptr::null_mut()) };
    }

    pub(crate) fn write_to_stderr(line: &[u8]) {
        // SAFETY: reads the bytes of the slice. Nothing can be done if it fails.
        unsafe { libc::write(2, line.as_ptr().cast(), line.len() as _) };
    }

    pub(crate) fn abort() -> ! {
        // SAFETY: has no preconditions.
        unsafe { libc::abort() }
    }
}

#[cfg(all(not(unix), feature = "std"))]
mod system {
    use super::Clock;
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    pub(crate) fn clock(_clock: Clock) -> u64 {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        // Not 0, which means never.
        FIRST.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
    }

    pub(crate) fn sleep(ns: u64) {
        std::thread::sleep(Duration::from_nanos(ns));
    }

    pub(crate) fn write_to_stderr(line: &[u8]) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line);
    }

    pub(crate) fn abort() -> ! {
        std::process::abort()
    }
}
