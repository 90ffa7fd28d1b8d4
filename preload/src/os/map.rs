//! Mappings: the only file of the heap that changes the address space.
//!
//! Memory is *mapped at* a numerically chosen place, which fails where something is already; so the kernel
//! compares with every limit there is, anew each time. Purging never changes a mapping; what is unmapped in
//! the middle of the heap may make one more, and the caller bounds how often (hazard `map_count`). Any thread; what a range
//! is used for is the caller's to synchronise.
//!
//! In tests every call here can be made to fail: see `fail_after`.

use super::syscall::{Errno, syscall};
use crate::constants::PAGE;

/// What became of a request for a certain place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// Mapped, readable and writable, zero.
    Done,
    /// Somebody else's mapping is in the way.
    Occupied,
    /// No memory, no address space, or forbidden.
    Refused,
}

const RW: usize = (libc::PROT_READ | libc::PROT_WRITE) as usize;
const ANONYMOUS: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
const NO_FD: usize = usize::MAX;

/// Maps exactly [addr, addr+len), zero, if nothing is there.
pub fn map_at(addr: usize, len: usize) -> Placed {
    if inject::fails() {
        return Placed::Refused;
    }
    let flags = ANONYMOUS | libc::MAP_FIXED_NOREPLACE as usize;
    // SAFETY: NOREPLACE never takes another mapping away.
    match unsafe { syscall(libc::SYS_mmap, [addr, len, RW, flags, NO_FD, 0]) } {
        Ok(got) if got == addr => Placed::Done,
        Ok(got) => {
            // A kernel before 4.17 takes the flag for a hint and maps somewhere else.
            // SAFETY: we have just made this mapping and nobody knows of it.
            unsafe { unmap(got, len) };
            Placed::Occupied
        }
        Err(Errno::EEXIST) => Placed::Occupied,
        Err(_) => Placed::Refused,
    }
}

/// Maps `len` zero bytes anywhere.
pub fn map(len: usize) -> Option<usize> {
    if inject::fails() {
        return None;
    }
    // SAFETY: a new mapping at a place of the kernel's choice disturbs nothing.
    unsafe { syscall(libc::SYS_mmap, [0, len, RW, ANONYMOUS, NO_FD, 0]) }.ok()
}

/// Takes a mapping away. Whole or not at all: it fails where the process has all the mappings it may have.
///
/// # Safety
/// The range is the caller's alone and nothing will refer to it again.
pub unsafe fn unmap(addr: usize, len: usize) -> bool {
    if inject::fails() {
        return false;
    }
    // SAFETY: promised by the caller.
    unsafe { syscall(libc::SYS_munmap, [addr, len, 0, 0, 0, 0]) }.is_ok()
}

/// Gives the memory of a range back to the system; it reads as zero afterwards. On failure
/// (`mlock`ed memory, say) some of it may have been dropped and some not.
///
/// MADV_DONTNEED, not MADV_FREE: by bench/malloc/purge.c the call costs the same (0.3 us a page in stretches of
/// 64 KiB and more, 1.2 us in single pages), and a page used again costs 1.4 us instead of 0.25, but
/// freed pages stay resident, all of them, until the whole system is short: in control groups, in what
/// people watch and in what a scan promises they were not given. Nor do they read as zero.
///
/// # Safety
/// The contents of the range are the caller's to lose.
pub unsafe fn purge(addr: usize, len: usize) -> bool {
    if inject::fails() {
        return false;
    }
    // SAFETY: promised by the caller.
    unsafe { syscall(libc::SYS_madvise, [addr, len, libc::MADV_DONTNEED as usize, 0, 0, 0]) }.is_ok()
}

/// Pages of a range that are in memory. `None`: the kernel does not say.
pub fn resident_pages(addr: usize, pages: usize) -> Option<usize> {
    // Some of the stack of whoever called malloc.
    const CHUNK: usize = 256;
    let mut map = [0u8; CHUNK];
    let mut resident = 0;
    for from in (0..pages).step_by(CHUNK) {
        let some = CHUNK.min(pages - from);
        let args = [addr + from * PAGE, some * PAGE, map.as_mut_ptr() as usize, 0, 0, 0];
        // SAFETY: the kernel writes one byte a page into the map.
        unsafe { syscall(libc::SYS_mincore, args) }.ok()?;
        resident += map[..some].iter().filter(|&&byte| byte & 1 != 0).count();
    }
    Some(resident)
}

/// Asks for small pages in a range that is touched sparsely. Advice: a refusal is fine.
pub fn small_pages(addr: usize, len: usize) {
    // SAFETY: does not change contents or access.
    let _ = unsafe { syscall(libc::SYS_madvise, [addr, len, libc::MADV_NOHUGEPAGE as usize, 0, 0, 0]) };
}

#[cfg(any(test, feature = "inject"))]
pub use inject::{fail_after, fail_never, has_failed};

/// Failure injection, per thread under `cargo test` (tests run side by side), else for the
/// process.
#[cfg(any(test, feature = "inject"))]
mod inject {
    #[cfg(not(test))]
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[cfg(test)]
    std::thread_local! {
        static LEFT: core::cell::Cell<usize> = const { core::cell::Cell::new(usize::MAX) };
    }
    #[cfg(not(test))]
    static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);

    /// Calls that were made to fail since `fail_after`; of the process.
    static FAILED: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

    fn set(n: usize) {
        #[cfg(test)]
        LEFT.set(n);
        #[cfg(not(test))]
        LEFT.store(n, Relaxed);
    }

    /// Lets `n` mapping calls succeed and fails every later one.
    pub fn fail_after(n: usize) {
        FAILED.store(0, core::sync::atomic::Ordering::Relaxed);
        set(n);
    }

    /// Ends the injection.
    pub fn fail_never() {
        set(usize::MAX);
    }

    /// Whether a call was made to fail since `fail_after`, in any thread.
    pub fn has_failed() -> bool {
        FAILED.load(core::sync::atomic::Ordering::Relaxed) != 0
    }

    /// Counts one mapping call; whether it shall fail.
    pub(super) fn fails() -> bool {
        #[cfg(test)]
        let left = LEFT.get();
        #[cfg(not(test))]
        let left = LEFT.load(Relaxed);
        match left {
            usize::MAX => false,
            0 => {
                FAILED.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
                true
            }
            n => {
                set(n - 1);
                false
            }
        }
    }
}

#[cfg(not(any(test, feature = "inject")))]
mod inject {
    #[inline(always)]
    pub(super) const fn fails() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_purge_unmap() {
        crate::own_process::in_own_process!();
        let at = map(1 << 20).unwrap();
        // SAFETY: mapped just now, ours alone.
        unsafe {
            *(at as *mut u8) = 7;
            assert!(purge(at, 8192));
            assert_eq!(*(at as *const u8), 0);
        }
        assert_eq!(map_at(at, 4096), Placed::Occupied);
        // SAFETY: ours alone.
        assert!(unsafe { unmap(at, 1 << 20) });
        assert_eq!(map_at(at, 4096), Placed::Done);
        // SAFETY: ours alone.
        assert!(unsafe { unmap(at, 4096) });
    }

    #[test]
    fn injection_counts() {
        fail_after(1);
        let first = map(4096);
        assert!(first.is_some() && map(4096).is_none() && map_at(first.unwrap(), 4096) == Placed::Refused);
        fail_never();
        // SAFETY: ours alone.
        assert!(unsafe { unmap(first.unwrap(), 4096) });
    }
}
