//! The calling thread's number as the kernel and `ps -L` show it, and its process's. Numbers of the dead are
//! used again,
//! and one means another thread in another namespace: so the first is for messages only, the second for the
//! one
//! question that is about processes and not about memory (`home::is_at_home`).

use super::syscall::syscall;

/// The kernel's number of the calling thread.
pub fn tid() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) }.unwrap_or(0) as i32
}

/// What [`pid`] says where a filter refuses the call. No process has that number, and it is not 0, which
/// `home` knows a cloned child by.
pub const NO_PID: u32 = u32::MAX;

/// The kernel's number of the calling thread's process, or [`NO_PID`].
pub fn pid() -> u32 {
    // SAFETY: no arguments; fails only where a filter says so.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) }.map_or(NO_PID, |pid| pid as u32)
}

#[cfg(test)]
mod tests {
    #[test]
    fn differs_by_thread() {
        let here = super::tid();
        assert!(here > 0 && here == super::tid());
        assert_ne!(std::thread::spawn(super::tid).join().unwrap(), here);
    }
}
