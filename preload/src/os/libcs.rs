//! libc's own functions, whose names are ours.

use crate::os::line::Line;
use crate::os::syscall;
use core::ffi::{CStr, c_int, c_void};
use core::num::NonZeroUsize;
use once_cell::race::OnceNonZeroUsize;

/// What `pthread_atfork` takes.
pub type AtFork = Option<unsafe extern "C" fn()>;
type RegisterAtFork = unsafe extern "C" fn(AtFork, AtFork, AtFork, *mut c_void) -> c_int;

static REGISTER_ATFORK: Libcs = Libcs::new(c"__register_atfork");

/// libc's own `__register_atfork`.
///
/// # Safety
/// As libc's.
#[inline]
pub unsafe fn register_atfork(prepare: AtFork, parent: AtFork, child: AtFork, library: *mut c_void) -> c_int {
    // SAFETY: libc's function of this name has this type; the rest is the caller's promise.
    unsafe {
        let real = core::mem::transmute::<usize, RegisterAtFork>(REGISTER_ATFORK.address());
        real(prepare, parent, child, library)
    }
}

/// Where libc's function of a name is, or whoever's stands between libc and us. Racing finders find the same.
#[repr(C)]
pub struct Libcs {
    /// First: what is written in assembler reads it here.
    found: OnceNonZeroUsize,
    name: &'static CStr,
}

const _: () = assert!(size_of::<OnceNonZeroUsize>() == size_of::<usize>());

impl Libcs {
    /// libc's function called `name`.
    pub const fn new(name: &'static CStr) -> Libcs {
        Libcs { found: OnceNonZeroUsize::new(), name }
    }

    /// Its address; without one the process ends.
    #[unsafe(link_section = ".text_solo")]
    pub fn address(&self) -> usize {
        self.if_there().unwrap_or_else(|| {
            let name = self.name.to_str().unwrap_or_default();
            Line::new().str(name).str(": libc's own was not found").emit();
            syscall::abort()
        })
    }

    /// Its address, if there is one.
    #[inline(always)]
    pub fn if_there(&self) -> Option<usize> {
        let find = || {
            // SAFETY: a plain call; if it allocates, it does so from this heap, which works. It forgets the
            // caller's last `dlerror`.
            let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) } as usize;
            let found = NonZeroUsize::new(found)?;
            // Another may have set the same.
            let _ = self.found.set(found);
            Some(found)
        };
        self.found.get().or_else(find).map(NonZeroUsize::get)
    }
}
