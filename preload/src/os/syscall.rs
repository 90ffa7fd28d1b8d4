//! Raw system calls: one instruction, the error as a value, `errno` untouched.
//!
//! libc's wrappers set `errno` on failure, and some are interposed by other preloaded
//! libraries that call malloc (hazard `init_reentrancy`). None of that can happen here.
//! Any thread, any time, signal handlers included.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, AtomicUsize};

use super::arch;

/// An error number as the kernel returned it (positive).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl Errno {
    /// Not permitted (a seccomp filter's usual answer).
    pub const EPERM: Errno = Errno(libc::EPERM);
    /// Interrupted by a signal.
    pub const EINTR: Errno = Errno(libc::EINTR);
    /// Try again, or a limit on locked memory.
    pub const EAGAIN: Errno = Errno(libc::EAGAIN);
    /// Out of memory, of address space, or of mappings.
    pub const ENOMEM: Errno = Errno(libc::ENOMEM);
    /// Something is there already.
    pub const EEXIST: Errno = Errno(libc::EEXIST);
    /// An address that is in no mapping.
    pub const EFAULT: Errno = Errno(libc::EFAULT);
    /// A file would become too long.
    pub const EFBIG: Errno = Errno(libc::EFBIG);
    /// Bad argument.
    pub const EINVAL: Errno = Errno(libc::EINVAL);
    /// The time is up.
    pub const ETIMEDOUT: Errno = Errno(libc::ETIMEDOUT);
    /// The kernel, or a filter, has no such call.
    pub const ENOSYS: Errno = Errno(libc::ENOSYS);
}

/// Makes system call `nr`.
///
/// # Safety
/// The call must be sound with these arguments: pointers valid for what the kernel reads or
/// writes through them, and no mapping that Rust relies on taken away.
#[inline]
pub unsafe fn syscall(nr: i64, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller answers for the call itself.
    let ret = unsafe { arch::syscall(nr, args) };
    if (-4095..0).contains(&ret) { Err(Errno(-ret as i32)) } else { Ok(ret as usize) }
}

/// Sleeps while `word` holds `expected`, for at most `ns` nanoseconds. May return early for any reason: look
/// again.
pub fn futex_wait_timeout(word: &AtomicU32, expected: u32, ns: u64) {
    let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let time = [ns / 1_000_000_000, ns % 1_000_000_000];
    // SAFETY: the kernel only reads the word, which the reference keeps alive; the timespec (two 64-bit
    // words) outlives the call.
    let _ = unsafe {
        syscall(
            libc::SYS_futex,
            [word.as_ptr() as usize, op as usize, expected as usize, time.as_ptr() as usize, 0, 0],
        )
    };
}

/// Sleeps while the lower half of `word` is that of `expected`, at most `ns` nanoseconds if there is a bound.
/// May return early for any reason: look again. True if the time is up.
pub fn futex_wait_low(word: &AtomicUsize, expected: usize, ns: Option<u64>) -> bool {
    let op = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    let time = ns.map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000]);
    let timeout = time.as_ref().map_or(0, |time| time.as_ptr() as usize);
    let args = [word.as_ptr() as usize, op, expected as u32 as usize, timeout, 0, 0];
    // SAFETY: the kernel reads the word, which the reference keeps alive, and the time, which outlives the
    // call.
    let answer = unsafe { syscall(libc::SYS_futex, args) };
    answer == Err(Errno::ETIMEDOUT)
}

/// Wakes up to `n` of those who sleep in [`futex_wait_low`] on `word`.
pub fn futex_wake_low(word: &AtomicUsize, n: i32) {
    let op = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: a wake does not dereference the address at all.
    let _ = unsafe { syscall(libc::SYS_futex, [word.as_ptr() as usize, op, n as usize, 0, 0, 0]) };
}

/// Wakes up to `n` sleepers on `word`.
pub fn futex_wake(word: &AtomicU32, n: u32) {
    let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: a wake does not dereference the address at all.
    let _ = unsafe { syscall(libc::SYS_futex, [word.as_ptr() as usize, op as usize, n as usize, 0, 0, 0]) };
}

/// Writes all of `bytes` to `fd`, or as much as it takes before an error. Whether it was all.
pub fn write(fd: i32, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let args = [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
        // SAFETY: the kernel reads bytes.len() bytes of a live slice.
        match unsafe { syscall(libc::SYS_write, args) } {
            Ok(0) => return false,
            Ok(n) => bytes = &bytes[n.min(bytes.len())..],
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Opens `path` for reading; close it with [`close`] before returning to the program.
pub fn open_read(path: &CStr) -> Result<i32, Errno> {
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    let args = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags, 0, 0, 0];
    // SAFETY: the path is a live C string.
    unsafe { syscall(libc::SYS_openat, args) }.map(|fd| fd as i32)
}

/// The same for a path that may be anything: whatever it is, neither this nor a read waits for anybody. It
/// ends in a zero byte.
#[unsafe(link_section = ".text_start")]
pub fn open_quick(path: &[u8]) -> Result<i32, Errno> {
    if path.last() != Some(&0) {
        return Err(Errno(libc::EINVAL));
    }
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY) as usize;
    let args = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags, 0, 0, 0];
    // SAFETY: the path is live and ends.
    unsafe { syscall(libc::SYS_openat, args) }.map(|fd| fd as i32)
}

/// Whether a file is root's, and nobody else may write to it.
pub fn owner_alone(fd: i32) -> bool {
    // SAFETY: plain numbers, for which zeros are values.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel fills the structure, which is this processor's own.
    let asked = unsafe { syscall(libc::SYS_fstat, [fd as usize, &raw mut stat as usize, 0, 0, 0, 0]) };
    asked.is_ok() && stat.st_uid == 0 && stat.st_mode & (libc::S_IWGRP | libc::S_IWOTH) == 0
}

/// Reads up to `buf.len()` bytes; 0 is the end.
pub fn read(fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    loop {
        let args = [fd as usize, buf.as_mut_ptr() as usize, buf.len(), 0, 0, 0];
        // SAFETY: the kernel writes at most buf.len() bytes into a live, exclusive slice.
        match unsafe { syscall(libc::SYS_read, args) } {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Closes a descriptor of ours.
pub fn close(fd: i32) {
    // SAFETY: only descriptors from open_read come here, each once.
    let _ = unsafe { syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Reads the beginning of a file, as much as `buf` holds. No descriptor stays open.
pub fn read_file(path: &CStr, buf: &mut [u8]) -> Result<usize, Errno> {
    let fd = open_read(path)?;
    let mut len = 0;
    let result = loop {
        match read(fd, &mut buf[len..]) {
            Ok(0) => break Ok(len),
            Ok(n) => len += n,
            Err(e) => break Err(e),
        }
    };
    close(fd);
    result
}

/// Ends the process, all threads, without running anything.
pub fn exit_group(code: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { syscall(libc::SYS_exit_group, [code as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Ends the process by SIGABRT, as abort(3) does, but with no lock and no stdio.
pub fn abort() -> ! {
    // The kernel's sigaction: handler (SIG_DFL = 0), flags, restorer, mask.
    let default = [0usize; 4];
    let unmask = 1u64 << (libc::SIGABRT - 1);
    let raise = || {
        // SAFETY: asks for our own ids and sends a signal to ourselves; no memory.
        unsafe {
            let pid = syscall(libc::SYS_getpid, [0; 6]).unwrap_or(0);
            let tid = syscall(libc::SYS_gettid, [0; 6]).unwrap_or(0);
            let _ = syscall(libc::SYS_tgkill, [pid, tid, libc::SIGABRT as usize, 0, 0, 0]);
        }
    };
    // SAFETY: the kernel reads one 8-byte signal set.
    let _ = unsafe {
        let set = &raw const unmask as usize;
        syscall(libc::SYS_rt_sigprocmask, [libc::SIG_UNBLOCK as usize, set, 0, 8, 0, 0])
    };
    raise(); // a handler of the program's may run, and may not return
    // SAFETY: the kernel reads 32 bytes of action; the process is over anyway.
    let _ = unsafe {
        let action = default.as_ptr() as usize;
        syscall(libc::SYS_rt_sigaction, [libc::SIGABRT as usize, action, 0, 8, 0, 0])
    };
    raise();
    exit_group(127)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_values_and_errno_stays() {
        // SAFETY: errno's location is always valid; a close of -1 does nothing.
        unsafe {
            *libc::__errno_location() = 77;
            assert_eq!(syscall(libc::SYS_close, [usize::MAX, 0, 0, 0, 0, 0]), Err(Errno(libc::EBADF)));
            assert_eq!(*libc::__errno_location(), 77);
        }
    }

    #[test]
    fn read_file_reads_and_closes() {
        let mut buf = [0; 64];
        let n = read_file(c"/proc/self/comm", &mut buf).unwrap();
        assert!(n > 0 && buf[n - 1] == b'\n');
        assert_eq!(read_file(c"/nonexistent", &mut buf), Err(Errno(libc::ENOENT)));
    }
}
