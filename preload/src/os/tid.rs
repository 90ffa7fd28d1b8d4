//! The calling thread's number as the kernel and `ps -L` show it. For messages only: the
//! numbers of dead threads are used again.

use super::syscall::syscall;

/// The kernel's number of the calling thread.
pub fn tid() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) }.unwrap_or(0) as i32
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
