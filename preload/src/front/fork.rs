//! fork, `_Fork` and raw clone.
//!
//! `fork` in a concurrent process: the prepare handler holds every lock of the heap for the fork, so the
//! child
//! inherits a heap at rest; parent and child let go of them. Whoever would otherwise wait for ever takes one
//! away
//! (`os::lock`). In a solo process no lock is taken: the only thread that could hold one is the one that
//! forks, perhaps
//! from a signal handler that interrupted malloc (`fork_in_signal_handler`), and it goes on from where it
//! was. So does
//! one that has become concurrent by a section: what the forking thread itself holds stays as it is
//! (`fork_in_handler_after_section`).
//!
//! `_Fork` and raw clone run no handlers. A word on a page that the kernel wipes in such a child tells slow
//! paths (`os::home`). There is one way to settle in the child, however it was made: a lock that a thread
//! held which the child does not have guards something torn. A list is abandoned then, and what was on it
//! leaks in the child; the slabs of a torn class are listed anew. So is the zone's knowledge of free pages:
//! the child goes on with fresh ones.
//!
//! In the child the other threads are gone. Their readers are forgotten, so no grace period waits for them.
//! Their
//! caches are left behind as they are, and the child takes one over each time it has use for one
//! (`drain::take_over_one`): it pays for what it uses, not for what its parent's threads hold
//! (`fork_pays_for_itself`). A block that was between two places at that instant is in neither: it leaks, it
//! is never in both, because everything is taken out of one place before it is put into the other.

use crate::cache::{mode, own, registry};
use crate::class::backlog::DOMAIN;
use crate::class::size_class::{CLASSES, Class};
use crate::class::{Torn, depot, empties, group, large_batch, pool, typed};
use crate::front::queue;
use crate::os::lock::{self, Lock};
use crate::os::{arch, home, libcs, tls};
use crate::page;
use crate::release::{decay, pressure, publish, watcher};
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

/// What stands for this object in `__register_atfork`: the C compiler's own start files have it, which a
/// program or a library has that the archive is linked into, but not librcumalloc.so. That is never unloaded,
/// so nobody takes its handlers back; rustc's linker makes a word for it, GNU's does not.
fn dso_handle() -> *mut c_void {
    let word = arch::weak_address!("__dso_handle", ".hidden __dso_handle") as *const *mut c_void;
    // SAFETY: a word of the object's own, which nobody writes.
    if word.is_null() { core::ptr::null_mut() } else { unsafe { *word } }
}

#[unsafe(link_section = ".data")]
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// Installs the handlers: when the process turns concurrent, or just before somebody else's, so
/// that ours were there first and run last before the fork, when nobody allocates any more.
#[unsafe(link_section = ".text_threads")]
pub fn install_handlers() {
    if !INSTALLED.swap(true, Ordering::AcqRel) {
        // Not by `pthread_atfork`, which libc has every object bring along, far from what is run beside it.
        // SAFETY: three functions of the right type that stay where they are, and the object's own word.
        unsafe { libcs::register_atfork(Some(prepare), Some(parent), Some(child), dso_handle()) };
    }
}

/// Every lock of this floor and the one below, in the order in which they nest.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn for_each_lock(mut visit: impl FnMut(&dyn Bolt)) {
    visit(queue::lock());
    visit(registry::lock());
    visit(large_batch::shared().lock());
    visit(group::shared().lock());
    for index in 0..CLASSES {
        visit(depot::of(Class::new(index)).lock());
    }
    for index in 0..CLASSES {
        visit(pool::of(Class::new(index)).lock());
    }
    visit(typed::lock());
    typed::all().for_each(|pool| visit(pool.lock()));
    visit(empties::lock());
}

/// A lock, whatever it protects.
trait Bolt {
    fn hold(&self);
    fn let_go(&self);
    fn settle(&self);
    fn let_go_of_own(&self);
}

impl<T: Torn> Bolt for Lock<T> {
    fn hold(&self) {
        self.hold_for_fork();
    }

    fn let_go(&self) {
        self.let_go_after_fork();
    }

    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn settle(&self) {
        self.settle_in_child(T::abandon);
    }

    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn let_go_of_own(&self) {
        Lock::let_go_of_own(self, T::abandon);
    }
}

/// A handler has jumped out of frames of the calling thread that held some of the locks: what those guard is
/// torn, as in a child whose parent's other thread held them.
pub fn let_go_of_own_locks() {
    page::let_go_of_own();
    for_each_lock(|lock| lock.let_go_of_own());
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
extern "C" fn prepare() {
    if mode::is_concurrent() {
        lock::fork_begins();
        for_each_lock(|lock| lock.hold());
        page::fork_prepare();
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
extern "C" fn parent() {
    if mode::is_concurrent() {
        page::fork_parent();
        for_each_lock(|lock| lock.let_go());
    }
}

extern "C" fn child() {
    // A slow path in a handler that ran before ours may have done it all already, and then the word is not
    // wiped.
    let is_wiped = home::move_in();
    if mode::is_concurrent() && (is_wiped || !home::is_watched()) {
        settle_in_child();
    }
}

/// What a call of ours that is no malloc and no free begins with, where it goes through other threads'
/// caches.
#[inline]
pub fn settle_if_cloned() {
    if home::was_cloned() {
        after_raw_clone();
    }
}

/// Found by a slow path: a child that ran no handlers, or has not run ours yet.
#[cold]
#[inline(never)]
pub fn after_raw_clone() {
    if home::move_in() {
        settle_in_child();
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn settle_in_child() {
    page::settle_in_child();
    for_each_lock(|lock| lock.settle());
    let own = own::reader();
    // SAFETY: no other thread of this process exists.
    unsafe { DOMAIN.after_fork_in_child(own.as_deref()) };
    queue::after_fork_in_child();
    decay::after_fork_in_child();
    pressure::after_fork_in_child();
    publish::after_fork_in_child();
    watcher::after_fork_in_child();
    registry::settle_in_child(tls::alloc_table());
}
