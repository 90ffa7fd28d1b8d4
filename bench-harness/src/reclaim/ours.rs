//! Ours: librcumalloc.so preloaded, sections through the thread's handle, and plain `free()`.
//!
//! The functions are found once by name, as a program's weak references are, and called through pointers,
//! which costs what a call through the procedure linkage table costs. A section is spelled as the header
//! spells it for C. Without the library the scheme says that it cannot run.

use super::{Dispose, Local, Scheme};
use core::arch::asm;
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

/// `rcumalloc_reader`.
#[repr(C)]
#[allow(missing_docs)] // the header says what it is
pub struct Reader {
    nest: i32,
    turn: i32,
}

/// The library's functions.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // the header says what each does
pub struct Api {
    reader_self: extern "C" fn() -> *mut Reader,
    reader_lock_rare: extern "C" fn(*mut Reader),
    reader_unlock_rare: extern "C" fn(*mut Reader, bool),
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

/// The library's function of this name, as the function pointer `F`.
///
/// # Safety
/// `F` is its type in the header.
unsafe fn function<F: Copy>(name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: an address of a function; the type is the caller's promise.
    symbol(name).map(|found| unsafe { core::mem::transmute_copy::<*mut c_void, F>(&found) })
}

impl Api {
    /// Finds them.
    ///
    /// # Errors
    /// The library is not preloaded.
    pub fn find() -> Result<Api, String> {
        // SAFETY: the types are those of the header.
        unsafe {
            Ok(Api {
                reader_self: function(c"rcumalloc_reader_self")?,
                reader_lock_rare: function(c"rcumalloc_reader_lock_rare")?,
                reader_unlock_rare: function(c"rcumalloc_reader_unlock_rare")?,
                barrier: function(c"rcumalloc_barrier")?,
                offline: function(c"rcumalloc_thread_offline")?,
                online: function(c"rcumalloc_thread_online")?,
                stats: function(c"rcumalloc_stats")?,
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

/// A thread and its handle.
pub struct Thread {
    api: Api,
    reader: *mut Reader,
}

impl Scheme for Ours {
    const NAME: &'static str = "ours";
    const SETTING: &'static str = "librcumalloc.so preloaded, defaults, plain free(); the thread that waits \
        for the others goes offline, as the header advises";
    type Local<'s> = Thread;

    fn start() -> Result<Self, String> {
        Api::find().map(Ours)
    }

    fn join(&self) -> Thread {
        Thread { api: self.0, reader: (self.0.reader_self)() }
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
        // SAFETY: the thread's own reader: two words that only this thread writes. `rcumalloc_reader_lock`.
        unsafe {
            asm!(
                "inc dword ptr [{reader}]",
                "jle {rare}",
                reader = in(reg) self.reader,
                rare = label { (self.api.reader_lock_rare)(self.reader) },
                options(nostack)
            );
        }
    }

    #[inline(always)]
    fn leave(&mut self) {
        // SAFETY: as in `enter`. `rcumalloc_reader_unlock`.
        unsafe {
            asm!(
                "dec dword ptr [{reader}]",
                "jnz {inner}",
                "inc dword ptr [{reader} + 4]",
                "jz {turn}",
                reader = in(reg) self.reader,
                inner = label { (self.api.reader_unlock_rare)(self.reader, false) },
                turn = label { (self.api.reader_unlock_rare)(self.reader, true) },
                options(nostack)
            );
        }
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
