//! Which process the heap's threads belong to, and whether this is still it.
//!
//! Process ids do not tell a fork: the child of vfork runs on its parent's memory and thread-local storage. A
//! word on a page that the kernel wipes in a child that has memory of its own tells slow paths that they run
//! in one; in a guest, the child of vfork, it is not wiped, rightly. Only what would make a thread asks where
//! it is ([`is_at_home`]), since a thread belongs to a process: the guest's would end in the middle of a scan
//! when the guest does.

use super::{map, peers, tid};
use crate::constants::PAGE;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The word in a process that has no page to watch: never wiped.
#[unsafe(link_section = ".data")]
static NEVER_WIPED: AtomicU32 = AtomicU32::new(1);
/// The word that reads 0 in the child of a raw clone. Else the number of the process that the heap's threads
/// belong to, once it has been switched to concurrent.
#[unsafe(link_section = ".data")]
static WATCHED: AtomicPtr<AtomicU32> = AtomicPtr::new((&raw const NEVER_WIPED).cast_mut());

/// Begins to watch for children that run no handlers. Without a lock: it would stay taken in the child of a
/// fork that another thread makes meanwhile. Of two threads that come at once, one keeps its page.
#[unsafe(link_section = ".text_threads")]
pub fn watch_raw_clones() {
    if is_watched() {
        return;
    }
    let Some(page) = peers::page_wiped_on_fork() else {
        return NEVER_WIPED.store(tid::pid(), Ordering::Relaxed);
    };
    let word = page as *mut AtomicU32;
    // SAFETY: our own fresh page.
    unsafe { (*word).store(tid::pid(), Ordering::Relaxed) };
    let never = (&raw const NEVER_WIPED).cast_mut();
    // Release: pairs with the Acquire in `is_watched` and with the dependent load in `watched`.
    if WATCHED.compare_exchange(never, word, Ordering::Release, Ordering::Relaxed).is_err() {
        // SAFETY: nobody knows of it.
        unsafe { map::unmap(page, PAGE) };
    }
}

/// Whether children that run no handlers are told from their parent.
pub fn is_watched() -> bool {
    // Acquire: pairs with the Release in `watch_raw_clones`.
    WATCHED.load(Ordering::Acquire) != (&raw const NEVER_WIPED).cast_mut()
}

fn watched() -> &'static AtomicU32 {
    // SAFETY: a static or a page that is never unmapped.
    unsafe { &*WATCHED.load(Ordering::Relaxed) }
}

/// Whether this is a child that ran no handlers.
#[inline(always)]
pub fn was_cloned() -> bool {
    watched().load(Ordering::Relaxed) == 0
}

/// Whether the calling thread belongs to the process whose heap this is, and is not the child of a vfork or
/// of a clone that shares memory. In doubt, no: numbers agree by accident only in a child that is the first
/// of a namespace of its own and was made by a parent that is the first of its own.
pub fn is_at_home() -> bool {
    let pid = tid::pid();
    pid != tid::NO_PID && watched().load(Ordering::Relaxed) == pid
}

/// From here on the heap belongs to this process. True if it has been cloned since that was last said.
pub fn move_in() -> bool {
    watched().swap(tid::pid(), Ordering::Relaxed) == 0
}
