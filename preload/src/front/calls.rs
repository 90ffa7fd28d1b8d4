//! Work that waits for a grace period: the kernel's `call_rcu`.
//!
//! A queue of heads that callers own, and one worker: a thread of libc's, because what it runs is the
//! program's and may use all of libc, for which the helpers of `os::helper` are no place. It is made by the
//! first who queues, takes what has been queued so far, waits for a grace period that begins after that, and
//! runs it in the order in which it was queued, outside every lock and every section. It is offline while it
//! sleeps, and ends when nothing has come for [`CALLS_IDLE_NS`], so that a process whose other threads have
//! ended is not kept alive for long.
//!
//! Queueing takes the queue's lock and, for the first, makes a thread: any thread, not a signal handler.
//! Memory is bounded by making those wait who queue faster than the worker runs ([`hold_back`]); nobody waits
//! in a section, which the worker may be waiting for, nor in the worker.
//!
//! In the child of a fork there is no worker. What was queued stays queued, and the next who queues or waits
//! there makes another; a function that the worker was in the middle of is not run again. If no thread can be
//! made the queue grows until one can, or until somebody calls [`barrier`], who then does the worker's work.

use crate::cache::own;
use crate::class::backlog::DOMAIN;
use crate::constants::{CALLS_HOLD_NS, CALLS_IDLE_NS, CALLS_MOST};
use crate::front::queue::{Head, List, MADE, MAKING, QUEUE, Run};
use crate::front::under_way::entered;
use crate::front::{fork, readers, start, switch};
use crate::os::syscall::{self, futex_wait_timeout, futex_wake};
use crate::os::{home, line::Line, tls};
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Makes a thread that runs [`work`]. False: there can be none.
pub type Start = fn() -> bool;

/// Goes up when something is queued that a sleeping worker should know of: what it sleeps on. Relaxed, as the
/// next: what they are about is looked at again under the lock, before and after.
static QUEUED: AtomicU32 = AtomicU32::new(0);
/// Goes up when functions have been run: what those sleep on who wait for it.
static RAN: AtomicU32 = AtomicU32::new(0);

/// Has `run` called with `head` after a grace period that begins now or later.
///
/// # Safety
/// `head` is writable and the queue's until `run` is called with it.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub unsafe fn add(head: *mut Head, run: Run, start: Start) {
    start::process();
    switch::go_concurrent();
    fork::settle_if_cloned();
    // SAFETY: the caller's promise.
    unsafe { head.write(Head { next: null_mut(), run }) };
    let (wakes, is_crowded, makes) = entered(|| {
        let mut queue = QUEUE.lock();
        queue.waiting.push(head);
        queue.queued = queue.queued.wrapping_add(1);
        let wakes = core::mem::take(&mut queue.is_asleep);
        let is_crowded = queue.pending() > CALLS_MOST && queue.worker != tls::thread_pointer();
        // The child of a vfork is a guest: a thread of its own would not be there when it is gone.
        let makes = queue.worker == 0 && home::is_at_home() && queue.claim();
        (wakes, is_crowded, makes)
    });
    if makes {
        make(start);
    } else if wakes {
        QUEUED.fetch_add(1, Relaxed);
        futex_wake(&QUEUED, 1);
    }
    if is_crowded && !own::is_held() {
        hold_back();
    }
}

/// Makes the worker, which the caller has claimed. False: there can be none now.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn make(start: Start) -> bool {
    let is_made = start();
    entered(|| {
        let mut queue = QUEUE.lock();
        // It may have begun, and ended too.
        if queue.worker == tls::thread_pointer() | MAKING {
            queue.worker = if is_made { MADE } else { 0 };
        }
    });
    is_made
}

/// Waits a moment, if the worker has more to do than may wait. Once and not until there is less: the caller
/// may hold what a function waits for.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn hold_back() {
    let seen = RAN.load(Relaxed);
    if entered(|| QUEUE.lock().pending()) > CALLS_MOST {
        away(|| futex_wait_timeout(&RAN, seen, CALLS_HOLD_NS));
    }
}

/// Sleeps in `nap`; meanwhile no grace period waits for the calling thread, which is in no section.
fn away(nap: impl FnOnce()) {
    let mut reader = readers::own().filter(|reader| !reader.is_offline());
    if let Some(reader) = &mut reader {
        reader.offline();
    }
    nap();
    if let Some(reader) = &reader {
        reader.online();
    }
}

/// The worker.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub extern "C" fn work(_: *mut c_void) -> *mut c_void {
    let own = tls::thread_pointer();
    QUEUE.lock().worker = own;
    loop {
        while run_taken() {}
        let seen = QUEUED.load(Relaxed);
        let mut queue = QUEUE.lock();
        queue.is_asleep = queue.waiting.is_empty();
        let sleeps = queue.is_asleep;
        drop(queue);
        if sleeps {
            away(|| futex_wait_timeout(&QUEUED, seen, CALLS_IDLE_NS));
        }
        let mut queue = QUEUE.lock();
        // Still set: nobody has come.
        if core::mem::take(&mut queue.is_asleep) && queue.waiting.is_empty() {
            queue.worker = 0;
            return null_mut();
        }
    }
}

/// Runs what has been queued, after a grace period. False: there was nothing.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn run_taken() -> bool {
    let mut queue = QUEUE.lock();
    // What is left of it was taken by a worker that did not come through a fork.
    if queue.taken.is_empty() {
        queue.taken = core::mem::replace(&mut queue.waiting, List::EMPTY);
    }
    let is_empty = queue.taken.is_empty();
    let is_crowded = queue.pending() > CALLS_MOST / 2;
    drop(queue);
    if is_empty {
        return false;
    }
    // What was unlinked before it was queued was unlinked before this: the queuer's unlock pairs with our
    // lock.
    readers::cond_synchronize("rcumalloc_call", DOMAIN.start_poll(), is_crowded);
    let mut has_run = 0;
    loop {
        let mut queue = QUEUE.lock();
        queue.done = queue.done.wrapping_add(has_run);
        let Some(head) = queue.taken.pop() else { break };
        drop(queue);
        // SAFETY: queued by `add`, whose caller has promised that it may be called.
        unsafe { (head.as_ref().run)(head.as_ptr()) };
        has_run = 1;
    }
    RAN.fetch_add(1, Relaxed);
    futex_wake(&RAN, i32::MAX as u32);
    true
}

/// Waits until everything queued before the call has run. Not inside a section.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn barrier(start: Start) {
    fork::settle_if_cloned();
    let target = entered(|| QUEUE.lock().queued);
    loop {
        let seen = RAN.load(Relaxed);
        let (is_done, is_own, makes) = entered(|| {
            let mut queue = QUEUE.lock();
            let is_done = queue.done.wrapping_sub(target) as i32 >= 0;
            let is_own = queue.worker == tls::thread_pointer();
            (is_done, is_own, !is_done && !is_own && queue.claim())
        });
        if is_done {
            return;
        }
        if is_own {
            would_wait_for_itself();
        }
        if !makes {
            away(|| futex_wait_timeout(&RAN, seen, CALLS_HOLD_NS));
        } else if !(home::is_at_home() && make(start)) {
            run_instead();
        }
    }
}

/// Does the worker's work, if still nobody else is to be had.
fn run_instead() {
    let own = tls::thread_pointer();
    let mut queue = QUEUE.lock();
    if queue.worker != 0 && queue.worker != own | MAKING {
        return;
    }
    queue.worker = own;
    drop(queue);
    while run_taken() {}
    QUEUE.lock().worker = 0;
}

#[cold]
fn would_wait_for_itself() -> ! {
    Line::new()
        .str("rcumalloc_barrier: a function that rcumalloc_call runs would wait for its own end")
        .emit();
    syscall::abort()
}
