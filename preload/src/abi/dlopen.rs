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

use crate::os::libcs::Libcs;
use core::arch::naked_asm;
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

/// Loads libc's function, whose address is `known` once `find` has been called, into rax. The arguments are
/// kept; three words and the return address leave the stack aligned.
macro_rules! with_real {
    ($($change:literal),+ $(,)?) => {
        concat!(
            ".cfi_startproc\n",
            "mov rax, qword ptr [rip + {known}]\n",
            "test rax, rax\n",
            "jne 2f\n",
            "push rdi\n",
            ".cfi_adjust_cfa_offset 8\n",
            "push rsi\n",
            ".cfi_adjust_cfa_offset 8\n",
            "push rdx\n",
            ".cfi_adjust_cfa_offset 8\n",
            "call {find}\n",
            "pop rdx\n",
            ".cfi_adjust_cfa_offset -8\n",
            "pop rsi\n",
            ".cfi_adjust_cfa_offset -8\n",
            "pop rdi\n",
            ".cfi_adjust_cfa_offset -8\n",
            "2:\n",
            $($change, "\n",)+
            "jmp rax\n",
            ".cfi_endproc",
        )
    };
}

/// `dlopen(path, flags)`: as libc's, less RTLD_DEEPBIND.
///
/// # Safety
/// As libc's.
#[unsafe(naked)]
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void {
    naked_asm!(
        with_real!("and esi, ~{deepbind}"),
        known = sym DLOPEN,
        find = sym find_dlopen,
        deepbind = const libc::RTLD_DEEPBIND,
    )
}

/// `dlmopen(namespace, path, flags)`: as libc's, less RTLD_DEEPBIND in the base namespace, which is number 0.
///
/// # Safety
/// As libc's.
#[unsafe(naked)]
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn dlmopen(namespace: c_long, path: *const c_char, flags: c_int) -> *mut c_void {
    naked_asm!(
        with_real!("test rdi, rdi", "jne 3f", "and edx, ~{deepbind}", "3:"),
        known = sym DLMOPEN,
        find = sym find_dlmopen,
        deepbind = const libc::RTLD_DEEPBIND,
    )
}
