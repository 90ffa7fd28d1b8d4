//! `__register_atfork`: what `pthread_atfork` of every library ends in.
//!
//! Handlers run before the fork in the opposite order of their registration. Ours, which take
//! every lock of the heap, must be registered before anybody else's, so that they run last, when
//! nobody allocates any more. Registering them at start would cost every small program 128 KiB of
//! libc it never uses otherwise; so they are registered when the process turns concurrent or,
//! here, when the first other library registers its own.

use crate::front::fork;
use crate::os::line::Line;
use crate::os::syscall;
use core::ffi::{c_int, c_void};
use core::num::NonZeroUsize;
use once_cell::race::OnceNonZeroUsize;

type Handler = Option<unsafe extern "C" fn()>;
type Register = unsafe extern "C" fn(Handler, Handler, Handler, *mut c_void) -> c_int;

/// Where libc's own function is. Racing finders find the same.
static REAL: OnceNonZeroUsize = OnceNonZeroUsize::new();

/// `__register_atfork(prepare, parent, child, library)`.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn __register_atfork(
    prepare: Handler,
    parent: Handler,
    child: Handler,
    library: *mut c_void,
) -> c_int {
    let real = real();
    fork::install_handlers();
    // SAFETY: the caller's promise.
    unsafe { real(prepare, parent, child, library) }
}

fn real() -> Register {
    let real = REAL.get_or_init(|| {
        // SAFETY: a plain call; if it allocates, it does so from this heap, which works.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"__register_atfork".as_ptr()) } as usize;
        NonZeroUsize::new(found).unwrap_or_else(|| {
            Line::new().str("__register_atfork: libc's own was not found").emit();
            syscall::abort()
        })
    });
    // SAFETY: libc's function of this name has this type.
    unsafe { core::mem::transmute::<usize, Register>(real.get()) }
}
