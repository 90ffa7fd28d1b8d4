//! Mappings: the only file of the heap that changes the address space.
//!
//! Memory is *mapped at* a numerically chosen place, which fails where something is already; so the kernel
//! compares with every limit there is, anew each time. Purging never changes a mapping; what is unmapped in
//! the middle of the heap may make one more, and the caller bounds how often (hazard `map_count`). Any
//! thread; what a range is used for is the caller's to synchronise.
//!
//! In tests every call here can be made to fail: see `fail_after`.

use super::limits;
use super::syscall::{Errno, close, syscall};
use crate::constants::{LEAST_PAGE, PAGE, RESIDENT_PAGES};
use core::ffi::CStr;

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

/// Maps `len` zero bytes anywhere, which nobody may touch before [`set_access`].
pub fn map_closed(len: usize) -> Option<usize> {
    if inject::fails() {
        return None;
    }
    let flags = ANONYMOUS | libc::MAP_NORESERVE as usize;
    // SAFETY: as in `map`.
    unsafe { syscall(libc::SYS_mmap, [0, len, libc::PROT_NONE as usize, flags, NO_FD, 0]) }.ok()
}

/// Says whether a range of ours may be touched; what it holds stays. False: it is as before.
pub fn set_access(addr: usize, len: usize, may: bool) -> bool {
    if inject::fails() {
        return false;
    }
    let access = if may { RW } else { libc::PROT_NONE as usize };
    // SAFETY: a range of ours that nobody relies on without having asked for it here.
    unsafe { syscall(libc::SYS_mprotect, [addr, len, access, 0, 0, 0]) }.is_ok()
}

/// Maps `len` zero bytes that are called `name` in `/proc/PID/maps`, and are the process's own: a child of a
/// fork gets a copy. The descriptor that this takes is closed again before anybody could use it.
pub fn map_named(name: &CStr, len: usize) -> Result<usize, Errno> {
    if inject::fails() {
        return Err(Errno::ENOMEM);
    }
    // Longer than a file may be: the kernel would send a signal.
    if limits::file_bytes() < len {
        return Err(Errno::EFBIG);
    }
    // SAFETY: the kernel reads a C string and makes a descriptor that nobody else knows; nothing is mapped
    // over.
    unsafe {
        let fd = syscall(
            libc::SYS_memfd_create,
            [name.as_ptr() as usize, libc::MFD_CLOEXEC as usize, 0, 0, 0, 0],
        )?;
        let flags = libc::MAP_PRIVATE as usize;
        let mapped = syscall(libc::SYS_ftruncate, [fd, len, 0, 0, 0, 0])
            .and_then(|_| syscall(libc::SYS_mmap, [0, len, RW, flags, fd, 0]));
        close(fd as i32);
        mapped
    }
}

/// Maps a range of ours that is mapped anew: zero, readable and writable, with none of what was asked of the
/// old mapping.
///
/// # Safety
/// The contents of the range are the caller's to lose.
pub unsafe fn map_anew(addr: usize, len: usize) -> bool {
    if inject::fails() {
        return false;
    }
    let flags = ANONYMOUS | libc::MAP_FIXED as usize;
    // SAFETY: promised by the caller.
    unsafe { syscall(libc::SYS_mmap, [addr, len, RW, flags, NO_FD, 0]) }.is_ok()
}

/// What a program may change of a page beside its contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Attribute {
    /// mprotect.
    Access,
    /// MADV_DONTFORK.
    Fork,
    /// MADV_WIPEONFORK.
    Wipe,
    /// MADV_DONTDUMP.
    Dump,
    /// MADV_MERGEABLE.
    Merge,
    /// MADV_RANDOM and MADV_SEQUENTIAL.
    Order,
    /// Guard regions (MADV_GUARD_INSTALL).
    Guard,
    /// mlock.
    Lock,
    /// mbind.
    Place,
    /// pkey_mprotect.
    Key,
    /// MADV_HUGEPAGE, MADV_NOHUGEPAGE, and advice that this does not know: only a new mapping is without.
    Other,
    /// mmap with MAP_FIXED, mremap: the pages may be anybody's, or none. As above.
    Mapping,
}

const MADV_GUARD_INSTALL: i32 = 102; // (given) by the kernel
const MADV_GUARD_REMOVE: i32 = 103; // (given) by the kernel

impl Attribute {
    /// Its bit in a set of kinds.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// What `advice` changes for good, if it does.
    pub fn of_advice(advice: i32) -> Option<Attribute> {
        match advice {
            libc::MADV_DONTFORK => Some(Attribute::Fork),
            libc::MADV_WIPEONFORK => Some(Attribute::Wipe),
            libc::MADV_DONTDUMP => Some(Attribute::Dump),
            libc::MADV_MERGEABLE => Some(Attribute::Merge),
            libc::MADV_RANDOM | libc::MADV_SEQUENTIAL => Some(Attribute::Order),
            MADV_GUARD_INSTALL => Some(Attribute::Guard),
            libc::MADV_NORMAL
            | libc::MADV_WILLNEED
            | libc::MADV_DONTNEED
            | libc::MADV_FREE
            | libc::MADV_REMOVE
            | libc::MADV_DOFORK
            | libc::MADV_UNMERGEABLE
            | libc::MADV_DODUMP
            | libc::MADV_KEEPONFORK
            | libc::MADV_COLD
            | libc::MADV_PAGEOUT
            | libc::MADV_POPULATE_READ
            | libc::MADV_POPULATE_WRITE
            | libc::MADV_COLLAPSE
            | MADV_GUARD_REMOVE => None,
            _ => Some(Attribute::Other),
        }
    }
}

/// Undoes changes of these kinds in a range of ours, whatever was changed of it, without loss of contents.
/// True if nothing of them is left.
#[cold]
pub fn undo(addr: usize, len: usize, kinds: u32) -> bool {
    let advice = |advice: i32| (libc::SYS_madvise, [addr, len, advice as usize, 0, 0, 0]);
    let undoing = [
        (Attribute::Key, (libc::SYS_pkey_mprotect, [addr, len, RW, 0, 0, 0])),
        (Attribute::Access, (libc::SYS_mprotect, [addr, len, RW, 0, 0, 0])),
        (Attribute::Fork, advice(libc::MADV_DOFORK)),
        (Attribute::Wipe, advice(libc::MADV_KEEPONFORK)),
        (Attribute::Dump, advice(libc::MADV_DODUMP)),
        (Attribute::Merge, advice(libc::MADV_UNMERGEABLE)),
        (Attribute::Order, advice(libc::MADV_NORMAL)),
        (Attribute::Guard, advice(MADV_GUARD_REMOVE)),
        (Attribute::Lock, (libc::SYS_munlock, [addr, len, 0, 0, 0, 0])),
        (Attribute::Place, (libc::SYS_mbind, [addr, len, libc::MPOL_DEFAULT as usize, 0, 0, 0])),
    ];
    let mut is_undone = kinds & (Attribute::Other.bit() | Attribute::Mapping.bit()) == 0;
    for (kind, (number, args)) in undoing {
        if kinds & kind.bit() != 0 {
            // SAFETY: gives a range of ours back what it had; none of these changes what it holds.
            is_undone &= unsafe { syscall(number, args) }.is_ok();
        }
    }
    is_undone
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
/// MADV_DONTNEED, not MADV_FREE: by bench/malloc/purge.c the call costs the same (0.3 us a page in stretches
/// of 64 KiB and more, 1.2 us in single pages), and a page used again costs 1.4 us instead of 0.25, but
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
    let mut map = [0u8; RESIDENT_PAGES];
    let mut resident = 0;
    // The kernel speaks of its own pages, which may be smaller.
    let page = limits::page_size().clamp(LEAST_PAGE, PAGE);
    let pages = pages * (PAGE / page);
    for from in (0..pages).step_by(RESIDENT_PAGES) {
        let some = RESIDENT_PAGES.min(pages - from);
        let args = [addr + from * page, some * page, map.as_mut_ptr() as usize, 0, 0, 0];
        // SAFETY: the kernel writes one byte a page into the map.
        unsafe { syscall(libc::SYS_mincore, args) }.ok()?;
        resident += map[..some].iter().filter(|&&byte| byte & 1 != 0).count();
    }
    Some((resident * page).div_ceil(PAGE))
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
