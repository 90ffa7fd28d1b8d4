//! What a thread has under way in the heap, and what becomes of it when a handler jumps out of it.
//!
//! A handler may leave by `siglongjmp` while it interrupts a slow path. Then the frames of that path are
//! gone, and what they held stays held: locks, an open shelf, a magazine that was on its way. The next slow
//! path of the thread finds that out, since each begins with a [`Frame`], which names itself in the thread's
//! cache and takes its name out at its end. If there is a name, then whoever has it is either a frame that a
//! handler has interrupted, in which we run, or gone. It is gone
//!
//! - if we stand on the same stack at its place or above it, or less below it than the kernel needs for a
//!   handler;
//! - if its word is not in its place any more.
//!
//! Then the thread goes on as the child of a fork does (`fork.rs`): what its own locks guard is torn, what
//! its cache holds is taken out of it as far as it is whole. What is lost is what was on its way and the
//! lists under a torn lock, but for the zone's, which is counted anew; what other threads hold is not
//! touched. Between the jump and the thread's next
//! slow path, others may wait for its locks.
//!
//! A frame that looks as if it was still there, since the program has recursed past it without writing to its
//! word, is left alone: then nothing is mended before the next slow path.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{drain, own, takers};
use crate::class::backlog;
use crate::constants::{SAME_STACK, SIGNAL_FRAME};
use crate::front::fork;
use crate::os::signals::Quiet;
use crate::os::syscall::syscall;
use crate::os::{peers, stack, tls};
use crate::page::{promise, purge};
use crate::release::{pressure, publish, watcher};
use core::sync::atomic::{Ordering::Relaxed, Ordering::SeqCst, compiler_fence};

/// What a slow path that a program has called begins with, where it stands for as long as that goes on.
pub struct Frame {
    /// The address of the thread's cache while it is named there, else 0.
    word: usize,
}

impl Frame {
    /// Not begun. It is not moved from where [`begin`](Self::begin) finds it.
    #[inline(always)]
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Frame {
        Frame { word: 0 }
    }

    /// Something begins, for which there is enough stack. Not inside of another one.
    #[inline(always)]
    pub fn begin(&mut self) {
        stack::probe();
        let cache = tls::alloc_table() as *mut ThreadCache;
        // SAFETY: a thread's cache, or one of the tables of threads without, behind which there is a zero.
        if unsafe { (*cache).reader.load(Relaxed) }.is_null() {
            return;
        }
        let here = &raw const self.word as usize;
        // SAFETY: the thread's own cache.
        let named = unsafe { &(*cache).under_way };
        if named.load(Relaxed) != 0 && !is_left_behind(cache, here) {
            return;
        }
        // SAFETY: our own word. Volatile: others look at it, by its address.
        unsafe { (&raw mut self.word).write_volatile(cache as usize) };
        named.store(here, Relaxed);
        // A handler of this thread that finds nothing under way finds everything at rest.
        compiler_fence(SeqCst);
    }
}

/// Runs a call of the program's that takes locks, or may, inside a [`Frame`].
#[inline(always)]
pub fn entered<T>(call: impl FnOnce() -> T) -> T {
    let mut frame = Frame::new();
    frame.begin();
    call()
}

/// Mends what a path left in the middle has left, if there is any: before what calls libc, which may come
/// back with a call of its own.
#[inline(always)]
pub fn look_behind() {
    entered(|| {});
}

impl Drop for Frame {
    #[inline(always)]
    fn drop(&mut self) {
        compiler_fence(SeqCst);
        // SAFETY: null or the thread's cache, which it has not given away meanwhile.
        if let Some(cache) = unsafe { (self.word as *const ThreadCache).as_ref() } {
            cache.under_way.store(0, Relaxed);
            if promise::is_due() {
                keep_promises(cache);
            }
        }
    }
}

/// What was promised to the system goes, where somebody listens for it (`os/listeners.rs`): who is called
/// then may come back with any call, but for one that goes on here. Not in a section, for whoever listens may
/// wait for one.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn keep_promises(cache: &ThreadCache) {
    let here = 0_usize;
    let here = &raw const here as usize;
    let there = cache.leaving.load(Relaxed);
    // The stack grows down: what is above the frame that is named has left it, by a jump.
    if here < there && there - here < SAME_STACK || own::is_held() {
        return;
    }
    cache.leaving.store(here, Relaxed);
    purge::keep_promises();
    cache.leaving.store(0, Relaxed);
}

/// Whether the frame that is named in `cache` is gone. Then what it left has been mended.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn is_left_behind(cache: *mut ThreadCache, here: usize) -> bool {
    // SAFETY: the calling thread's own, and its frames that used it are gone, or it is not touched but for
    // the name.
    let cache = unsafe { &mut *cache };
    let there = cache.under_way.load(Relaxed);
    // How far above it we stand, if not below.
    let above = here.wrapping_add(SIGNAL_FRAME).wrapping_sub(there);
    let is_above = above < SAME_STACK && !is_on_alternate_stack();
    if !is_above && !peers::differs(there, core::ptr::from_ref(cache) as usize as u32) {
        return false;
    }
    mend(cache);
    true
}

/// Whether the thread runs on the stack of its handlers, which may lie anywhere. In doubt, yes.
fn is_on_alternate_stack() -> bool {
    let mut now = libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: the kernel writes what is in force now.
    let asked = unsafe { syscall(libc::SYS_sigaltstack, [0, &raw mut now as usize, 0, 0, 0, 0]) };
    asked.is_err() || now.ss_flags & libc::SS_ONSTACK != 0
}

/// A path of the calling thread was left in the middle.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn mend(cache: &mut ThreadCache) {
    let _quiet = Quiet::new();
    fork::let_go_of_own_locks();
    pressure::let_go_of_own();
    publish::let_go_of_own();
    watcher::let_go_of_own();
    takers::let_go_of_own();
    cache.shelf.leave_own_behind();
    drain::abandon(cache);
    cache.ledger.post();
    backlog::relax_mark();
    cache.under_way.store(0, Relaxed);
}
