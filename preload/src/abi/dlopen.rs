//! `dlopen` and `dlmopen`: without RTLD_DEEPBIND.
//!
//! A library opened with that flag looks for its symbols in itself and in what it needs first, and what it
//! needs is libc: its malloc and free are libc's, though everybody else's in the process are ours. Blocks go
//! both ways, by strdup, getline and every `create` with a `destroy`, and the first that does ends the
//! program. So the flag is dropped: the library's symbols are looked up as without it. In a namespace of its
//! own (`dlmopen` of anything but the base) there is nothing of ours, and the flag stays.
//!
//! The loader takes from the return address who asks: whose RUNPATH is searched, what `$ORIGIN` is, into
//! which namespace. So these two change one register and jump; the loader sees what it would see without us.
//! Any thread, any time that libc's own may be called, before our start, too: nothing here needs a heap.

use crate::abi::arch;
use crate::os::libcs::Libcs;
use core::ffi::{c_char, c_int, c_long, c_void};

static DLOPEN: Libcs = Libcs::new(c"dlopen");
static DLMOPEN: Libcs = Libcs::new(c"dlmopen");

#[unsafe(link_section = ".text_solo")]
extern "C" fn find_dlopen() -> usize {
    DLOPEN.address()
}

extern "C" fn find_dlmopen() -> usize {
    DLMOPEN.address()
}

/// `dlopen(path, flags)`: as libc's, less RTLD_DEEPBIND.
///
/// # Safety
/// As libc's.
#[unsafe(naked)]
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void {
    arch::jump_to_dlopen!(DLOPEN, find_dlopen)
}

/// `dlmopen(namespace, path, flags)`: as libc's, less RTLD_DEEPBIND in the base namespace, which is number 0.
///
/// # Safety
/// As libc's.
#[unsafe(naked)]
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn dlmopen(namespace: c_long, path: *const c_char, flags: c_int) -> *mut c_void {
    arch::jump_to_dlmopen!(DLMOPEN, find_dlmopen)
}
