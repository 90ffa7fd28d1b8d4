//! libc's names by which a program changes what its pages are: the call itself, and before it a note of it if
//! the pages are the heap's (`page/changed.rs`).
//!
//! Each makes the system call that libc's would, and answers as it would; none is a cancellation point.
//! `madvise` calls who stands behind us, libc or a library that listens for memory that goes
//! (`os/listeners.rs`). Any thread, signal handlers too. What a program does by `syscall(2)`, or unmaps of
//! its blocks, is not seen here.

use crate::class::changed;
use crate::front::malloc;
use crate::os::libcs::Libcs;
use crate::os::map::Attribute;
use crate::os::syscall::{Errno, syscall};
use core::ffi::{c_int, c_long, c_uint, c_ulong, c_void};

/// Answers as libc does: -1 and errno for an error.
fn answer(result: Result<usize, Errno>) -> c_int {
    match result {
        Ok(value) => value as c_int,
        Err(Errno(error)) => {
            malloc::set_errno(error);
            -1
        }
    }
}

/// Notes a change of `kind`, if it is one.
fn note(addr: *mut c_void, len: usize, kind: Option<Attribute>) {
    if let Some(kind) = kind {
        changed::note(addr as usize, len, kind);
    }
}

/// What a page of the heap may be used for is changed by `protection`, unless it is what it was.
fn access(protection: c_int) -> Option<Attribute> {
    (protection != libc::PROT_READ | libc::PROT_WRITE).then_some(Attribute::Access)
}

/// `mprotect(addr, len, protection)`.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn mprotect(addr: *mut c_void, len: usize, protection: c_int) -> c_int {
    note(addr, len, access(protection));
    // SAFETY: the caller's promise.
    answer(unsafe { syscall(libc::SYS_mprotect, [addr as usize, len, protection as usize, 0, 0, 0]) })
}

/// `pkey_mprotect(addr, len, protection, key)`.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn pkey_mprotect(
    addr: *mut c_void,
    len: usize,
    protection: c_int,
    key: c_int,
) -> c_int {
    if key == -1 {
        // SAFETY: the caller's promise.
        return unsafe { mprotect(addr, len, protection) };
    }
    note(addr, len, access(protection));
    note(addr, len, (key != 0).then_some(Attribute::Key));
    let args = [addr as usize, len, protection as usize, key as usize, 0, 0];
    // SAFETY: the caller's promise.
    answer(unsafe { syscall(libc::SYS_pkey_mprotect, args) })
}

/// `madvise(addr, len, advice)`.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int {
    note(addr, len, Attribute::of_advice(advice));
    match next_madvise() {
        // SAFETY: the caller's promise.
        Some(next) => unsafe { next(addr, len, advice) },
        // SAFETY: as above.
        None => answer(unsafe { syscall(libc::SYS_madvise, [addr as usize, len, advice as usize, 0, 0, 0]) }),
    }
}

/// The `madvise` behind ours, if there is one.
fn next_madvise() -> Option<unsafe extern "C" fn(*mut c_void, usize, c_int) -> c_int> {
    static NEXT: Libcs = Libcs::new(c"madvise");
    // SAFETY: a function of this name has this type.
    NEXT.if_there().map(|next| unsafe { core::mem::transmute(next) })
}

/// `posix_madvise(addr, len, advice)`: returns the error; DONTNEED, which would lose contents, does nothing.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn posix_madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int {
    if advice == libc::POSIX_MADV_DONTNEED {
        return 0;
    }
    note(addr, len, Attribute::of_advice(advice));
    // SAFETY: the caller's promise.
    match unsafe { syscall(libc::SYS_madvise, [addr as usize, len, advice as usize, 0, 0, 0]) } {
        Ok(_) => 0,
        Err(Errno(error)) => error,
    }
}

/// `mlock(addr, len)`.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn mlock(addr: *const c_void, len: usize) -> c_int {
    note(addr.cast_mut(), len, Some(Attribute::Lock));
    // SAFETY: the caller's promise.
    answer(unsafe { syscall(libc::SYS_mlock, [addr as usize, len, 0, 0, 0, 0]) })
}

/// `mlock2(addr, len, flags)`.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn mlock2(addr: *const c_void, len: usize, flags: c_uint) -> c_int {
    note(addr.cast_mut(), len, Some(Attribute::Lock));
    // SAFETY: the caller's promise.
    answer(unsafe { syscall(libc::SYS_mlock2, [addr as usize, len, flags as usize, 0, 0, 0]) })
}

/// `mmap(addr, len, protection, flags, fd, offset)`: with `MAP_FIXED` it may lie over a block, which then has
/// another file's pages until it is freed.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn mmap(
    addr: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: c_long,
) -> *mut c_void {
    if flags & libc::MAP_FIXED != 0 {
        note(addr, len, Some(Attribute::Mapping));
    }
    let args = [addr as usize, len, protection as usize, flags as usize, fd as usize, offset as usize];
    // SAFETY: the caller's promise.
    mapped(unsafe { syscall(libc::SYS_mmap, args) })
}

/// `mmap64`, which is the same here.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: c_long,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { mmap(addr, len, protection, flags, fd, offset) }
}

/// `mremap(addr, len, wanted, flags, ...)`: what moves away leaves a hole, what moves in is another mapping.
/// The last argument, where to, is there if the flags say so; else it is whatever the register holds.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn mremap(
    addr: *mut c_void,
    len: usize,
    wanted: usize,
    flags: c_int,
    to: *mut c_void,
) -> *mut c_void {
    note(addr, len.max(wanted), Some(Attribute::Mapping));
    if flags & libc::MREMAP_FIXED != 0 {
        note(to, wanted, Some(Attribute::Mapping));
    }
    // SAFETY: the caller's promise.
    mapped(unsafe { syscall(libc::SYS_mremap, [addr as usize, len, wanted, flags as usize, to as usize, 0]) })
}

/// Answers as libc does: `MAP_FAILED` and errno for an error.
fn mapped(result: Result<usize, Errno>) -> *mut c_void {
    match result {
        Ok(at) => at as *mut c_void,
        Err(Errno(error)) => {
            malloc::set_errno(error);
            libc::MAP_FAILED
        }
    }
}

/// `mbind(addr, len, mode, nodes, most, flags)`, libnuma's.
///
/// # Safety
/// As libnuma's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn mbind(
    addr: *mut c_void,
    len: c_ulong,
    mode: c_int,
    nodes: *const c_ulong,
    most: c_ulong,
    flags: c_uint,
) -> c_long {
    note(addr, len as usize, (mode != libc::MPOL_DEFAULT).then_some(Attribute::Place));
    let args = [addr as usize, len as usize, mode as usize, nodes as usize, most as usize, flags as usize];
    // SAFETY: the caller's promise.
    c_long::from(answer(unsafe { syscall(libc::SYS_mbind, args) }))
}
