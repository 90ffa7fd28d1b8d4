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

/// The kernel's number of the calling thread's process.
pub fn pid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) }.unwrap_or(0) as u32
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
