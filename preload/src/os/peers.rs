//! Questions about others in the same address space that only the kernel answers.
//!
//! None of them is about a process or a thread by its number. The child of `vfork`, or of `clone` with
//! CLONE_VM, runs
//! on this heap with a process number of its own, perhaps in another namespace of such numbers, where no
//! thread of its
//! parent's exists; and numbers are used again. What they share, and what is asked about, is memory.

use core::sync::atomic::AtomicU32;

use super::map;
use super::syscall::{Errno, syscall};

/// A full memory barrier in every running thread that shares our memory, where the kernel has one to
/// give. Where it has not, the other threads' stores and loads still become visible by
/// themselves, a little later.
pub fn barrier_everywhere() {
    const PRIVATE_EXPEDITED: usize = 1 << 3; // (given) by the kernel
    const REGISTER: usize = 1 << 4; // (given) by the kernel
    // SAFETY: membarrier takes no memory of ours.
    let call = |command| unsafe { syscall(libc::SYS_membarrier, [command, 0, 0, 0, 0, 0]) };
    // The engine, which registers the process on x86-64, has no use for it elsewhere.
    if cfg!(not(target_arch = "x86_64")) {
        let _ = call(REGISTER);
    }
    let _ = call(PRIVATE_EXPEDITED);
}

/// Whether the 32 bits at `address`, a multiple of 4, certainly differ from `value`, or are in no mapping
/// any more.
/// The address may be anybody's: the kernel looks at it. Where a filter refuses the question: not certain.
///
/// A futex call, which every program with threads makes: a request to move none of those who wait at one
/// word to
/// another, if the first one has that value.
pub fn differs(address: usize, value: u32) -> bool {
    matches!(compare(address, value), Err(Errno::EAGAIN | Errno::EFAULT))
}

/// Whether there are 32 bits at `address`, a multiple of 4, that can be read: as far as the kernel says, in
/// the same way.
pub fn is_there(address: usize) -> bool {
    matches!(compare(address, 0), Ok(_) | Err(Errno::EAGAIN))
}

/// Whether the 32 bits at `address`, a multiple of 4, are there and are `value`.
pub fn is(address: usize, value: u32) -> bool {
    compare(address, value).is_ok()
}

fn compare(address: usize, value: u32) -> Result<usize, Errno> {
    static NOWHERE: AtomicU32 = AtomicU32::new(0);
    let request = (libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG) as usize;
    let (wakes, moves) = (0, 0);
    let args = [address, request, wakes, moves, NOWHERE.as_ptr() as usize, value as usize];
    // SAFETY: the kernel reads the word, if there is one, and changes nothing.
    unsafe { syscall(libc::SYS_futex, args) }
}

/// A page that the kernel replaces by zeros in a child that does not share our memory, whoever
/// makes it. `None` where the kernel is too old (before 4.14) or memory is out.
pub fn page_wiped_on_fork() -> Option<usize> {
    const WIPEONFORK: usize = 18; // (given) by the kernel
    let page = map::map(crate::constants::PAGE)?;
    // SAFETY: our own fresh page.
    let advised = unsafe { syscall(libc::SYS_madvise, [page, crate::constants::PAGE, WIPEONFORK, 0, 0, 0]) };
    if advised.is_err() || says_yes_to_all(page) {
        // SAFETY: nobody knows of it yet.
        unsafe { map::unmap(page, crate::constants::PAGE) };
        return None;
    }
    Some(page)
}

/// Whether advice that does not exist is taken, too, at a page of ours: emulators, under which programs for
/// other processors than x86-64 run, do so, and wipe nothing.
fn says_yes_to_all(page: usize) -> bool {
    const NO_SUCH_ADVICE: usize = 1 << 20; // (given) by the kernel
    let advise = || {
        // SAFETY: our own page, and no advice that does anything.
        unsafe { syscall(libc::SYS_madvise, [page, crate::constants::PAGE, NO_SUCH_ADVICE, 0, 0, 0]) }
    };
    cfg!(not(target_arch = "x86_64")) && advise().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constants::PAGE;

    #[test]
    fn a_word_is_looked_at_wherever_it_is() {
        let page = map::map(PAGE).unwrap();
        let word = page + 64;
        // SAFETY: our own page.
        unsafe { (word as *mut u32).write(7) };
        assert!(!differs(word, 7));
        assert!(differs(word, 8) && differs(word + 4, 7));
        // SAFETY: as above; nobody else maps anything there in one instruction's time, and if so it is zeros.
        unsafe { map::unmap(page, PAGE) };
        assert!(differs(word, 7));
    }
}
