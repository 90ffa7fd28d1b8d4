//! Ours: librcumalloc.so preloaded, sections by `rcumalloc_read_lock`, and plain `free()`.
//!
//! The functions are found once by name, as a program's weak references are, and called through pointers,
//! which costs what a call through the procedure linkage table costs. Without the library the scheme says
//! that it cannot run.

use super::{Dispose, Local, Scheme};
use core::ffi::{CStr, c_void};

/// `struct rcumalloc_stats` of preload/include/rcumalloc.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // the header says what each is
pub struct Stats {
    pub size: u64,
    pub window_bytes: u64,
    pub mapped_bytes: u64,
    pub live_bytes: u64,
    pub live_large_bytes: u64,
    pub dirty_bytes: u64,
    pub purged_bytes: u64,
    pub meta_bytes: u64,
    pub deferred_bytes: u64,
    pub deferred_peak_bytes: u64,
    pub budget_bytes: u64,
    pub blocks_loaded: u64,
    pub blocks_retired: u64,
    pub large_allocated: u64,
    pub periods_started: u64,
    pub periods_completed: u64,
    pub periods_expedited: u64,
    pub threads_parked: u64,
    pub membarriers: u64,
    pub threads: u64,
    pub threads_peak: u64,
    pub bad_calls: u64,
    pub period_p50_ns: u64,
    pub period_p99_ns: u64,
    pub concurrent: u64,
}

/// The library's functions.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // the header says what each does
pub struct Api {
    pub read_lock: extern "C" fn(),
    pub read_unlock: extern "C" fn(),
    pub barrier: extern "C" fn(),
    pub offline: extern "C" fn(),
    pub online: extern "C" fn(),
    stats: unsafe extern "C" fn(*mut Stats, usize) -> bool,
}

fn symbol(name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: a string; the default scope.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if found.is_null() {
        return Err(format!("librcumalloc.so is not preloaded: no {}", name.to_string_lossy()));
    }
    Ok(found)
}

impl Api {
    /// Finds them.
    ///
    /// # Errors
    /// The library is not preloaded.
    pub fn find() -> Result<Api, String> {
        // SAFETY: the types are those of the header; `rcumalloc_cookie` is one word.
        unsafe {
            let plain =
                |name| symbol(name).map(|found| core::mem::transmute::<*mut c_void, extern "C" fn()>(found));
            Ok(Api {
                offline: plain(c"rcumalloc_thread_offline")?,
                online: plain(c"rcumalloc_thread_online")?,
                read_lock: plain(c"rcumalloc_read_lock")?,
                read_unlock: plain(c"rcumalloc_read_unlock")?,
                barrier: plain(c"rcumalloc_barrier")?,
                stats: core::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut Stats, usize) -> bool>(
                    symbol(c"rcumalloc_stats")?,
                ),
            })
        }
    }

    /// The heap's counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        // SAFETY: writes at most the size given.
        unsafe { (self.stats)(&raw mut stats, size_of::<Stats>()) };
        stats
    }
}

/// librcumalloc.so.
pub struct Ours(Api);

/// A thread: it needs nothing of its own but the functions.
pub struct Thread(Api);

impl Scheme for Ours {
    const NAME: &'static str = "ours";
    const SETTING: &'static str = "librcumalloc.so preloaded, defaults, plain free(); the thread that waits for the others goes offline, as the header advises";
    type Local<'s> = Thread;

    fn start() -> Result<Self, String> {
        Api::find().map(Ours)
    }

    fn join(&self) -> Thread {
        Thread(self.0)
    }

    fn step_aside(&self) {
        (self.0.offline)();
    }

    fn come_back(&self) {
        (self.0.online)();
    }

    fn drain(&self) {
        (self.0.barrier)();
    }

    fn periods(&self) -> Option<u64> {
        Some(self.0.stats().periods_completed)
    }
}

impl Local for Thread {
    #[inline(always)]
    fn enter(&mut self) {
        (self.0.read_lock)();
    }

    #[inline(always)]
    fn leave(&mut self) {
        (self.0.read_unlock)();
    }

    #[inline(always)]
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void) {
        // To dispose of a block is to free it, and to free it is to defer it. What an observer
        // would count here is the free, not the reuse.
        // SAFETY: the caller's promise.
        unsafe { libc::free(block) };
    }

    #[inline(always)]
    unsafe fn retire_outside<D: Dispose>(&mut self, block: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { self.retire::<D>(block) };
    }
}
