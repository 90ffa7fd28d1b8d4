//! Questions about the process's other threads that only the kernel answers.

use super::map;
use super::syscall::{Errno, syscall};

/// A full memory barrier in every running thread of the process, where the kernel has one to
/// give. Where it has not, the other threads' stores and loads still become visible by
/// themselves, a little later.
pub fn barrier_everywhere() {
    const PRIVATE_EXPEDITED: usize = 1 << 3;
    // SAFETY: membarrier takes no memory of ours.
    let _ = unsafe { syscall(libc::SYS_membarrier, [PRIVATE_EXPEDITED, 0, 0, 0, 0, 0]) };
}

/// Whether thread `tid` of this process exists. A recycled number says yes.
pub fn thread_exists(tid: u32) -> bool {
    // SAFETY: getpid and a signal 0, which only asks.
    let answer = unsafe {
        let pid = syscall(libc::SYS_getpid, [0; 6]).unwrap_or(0);
        syscall(libc::SYS_tgkill, [pid, tid as usize, 0, 0, 0, 0])
    };
    answer != Err(Errno(libc::ESRCH))
}

/// A page that the kernel replaces by zeros in a child that does not share our memory, whoever
/// makes it. `None` where the kernel is too old (before 4.14) or memory is out.
pub fn page_wiped_on_fork() -> Option<usize> {
    const WIPEONFORK: usize = 18;
    let page = map::map(crate::constants::PAGE)?;
    // SAFETY: our own fresh page.
    let advised = unsafe { syscall(libc::SYS_madvise, [page, crate::constants::PAGE, WIPEONFORK, 0, 0, 0]) };
    if advised.is_err() {
        // SAFETY: nobody knows of it yet.
        unsafe { map::unmap(page, crate::constants::PAGE) };
        return None;
    }
    Some(page)
}
