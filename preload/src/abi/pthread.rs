//! `pthread_create`: the one function of libc's that is interposed without being a malloc.
//!
//! The creator turns the process concurrent before the second thread runs, and registers the new
//! thread's cache and reader, so that no grace period can miss a thread that has not come to its
//! first call yet. What the thread is to run travels in its own cache: nothing is allocated, so
//! nothing can leak. The trampoline leaves no frame behind: it ends in a jump to the program's
//! function, so unwinding and backtraces see what they would see without us.

use crate::abi::arch;
use crate::cache::registry;
use crate::cache::thread_cache::ThreadCache;
use crate::front::{entry, exit, switch, under_way};
use crate::os::clock;
use crate::os::libcs::Libcs;
use crate::os::signals::Quiet;
use crate::release::watcher;
use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering::Relaxed;

type Start = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type Create =
    unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, Start, *mut c_void) -> c_int;

static REAL: Libcs = Libcs::new(c"pthread_create");

/// `pthread_create`.
///
/// # Safety
/// As libc's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_threads")]
pub unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let real = real();
    under_way::look_behind();
    // The creator has a cache from here on: its own frees are deferred too.
    let own = entry::current();
    switch::go_concurrent();
    switch::expect_threads();
    let quiet = match own {
        Some(own) => {
            // It may wait for the new thread for long: what grace periods wait for is said before.
            own.slow_path();
            // SAFETY: the thread has a cache and the switch has been made above.
            unsafe { Quiet::unneeded() }
        }
        None => Quiet::new(),
    };
    let acquired = registry::acquire(&quiet);
    drop(quiet);
    let Some(cache) = acquired else {
        // No memory for a cache: the thread gets one on its first call, or lives without.
        // SAFETY: the caller's promise.
        return unsafe { real(thread, attributes, start, argument) };
    };
    cache.start.store(start as usize, Relaxed);
    cache.argument.store(argument as usize, Relaxed);
    let cache: *mut ThreadCache = cache;
    // SAFETY: the trampoline has the type of a thread's function; the cache is for it alone.
    let error = unsafe { real(thread, attributes, rcumalloc_thread_start, cache.cast()) };
    if error != 0 {
        // SAFETY: no thread was made, so the cache is still ours.
        exit::release(unsafe { &mut *cache }, &Quiet::new());
    } else {
        watcher::consider(clock::now_coarse_ms());
    }
    error
}

fn real() -> Create {
    // SAFETY: libc's function of this name has this type.
    unsafe { core::mem::transmute::<usize, Create>(REAL.address()) }
}

/// What the thread is to run, in the two registers that the C ABI returns it in.
#[repr(C)]
pub(crate) struct Task {
    start: usize,
    argument: usize,
}

/// In the new thread: makes the cache its own.
#[unsafe(link_section = ".text_threads")]
pub(crate) extern "C" fn enter(cache: *mut ThreadCache) -> Task {
    // SAFETY: handed over by the creator, for this thread alone.
    let cache = unsafe { &mut *cache };
    let task = Task { start: cache.start.load(Relaxed), argument: cache.argument.load(Relaxed) };
    if registry::adopt_unless_handled(cache) {
        exit::watch_thread(cache);
    } else {
        // Something allocated before us, or a handler opened a section: the thread has a cache.
        exit::release(cache, &Quiet::new());
    }
    task
}

unsafe extern "C" {
    fn rcumalloc_thread_start(cache: *mut c_void) -> *mut c_void;
}

arch::thread_start!(enter);
