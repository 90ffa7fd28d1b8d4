//! `__register_atfork`: what `pthread_atfork` of every library ends in.
//!
//! Handlers run before the fork in the opposite order of their registration. Ours, which take
//! every lock of the heap, must be registered before anybody else's, so that they run last, when
//! nobody allocates any more. Registering them at start would cost every small program 128 KiB of
//! libc it never uses otherwise; so they are registered when the process turns concurrent or,
//! here, when the first other library registers its own.

use crate::front::fork;
use crate::os::libcs::{self, AtFork};
use core::ffi::{c_int, c_void};

/// `__register_atfork(prepare, parent, child, library)`.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_solo")]
pub unsafe extern "C" fn __register_atfork(
    prepare: AtFork,
    parent: AtFork,
    child: AtFork,
    library: *mut c_void,
) -> c_int {
    fork::install_handlers();
    // SAFETY: the caller's promise.
    unsafe { libcs::register_atfork(prepare, parent, child, library) }
}
