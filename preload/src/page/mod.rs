//! The page floor: where memory comes from and goes back to, in pages of 4 KiB.
//!
//! ```text
//!   cache    a thread's stock of order-0 pages, which anybody may take whole
//!   reserve  pages kept for free() alone            meta  descriptors, for ever
//!   zone     the buddy allocator and its lock; runs of pages; purging
//!   buddy    its bookkeeping, out of line: a free page is never touched
//!   watermark how much dirty free memory may stay
//!   purge    giving free pages back
//!   promise  what is to go where somebody listens for that
//!   ranges   runs in mappings of their own, and whose an address outside of the window is
//!   most     the most of something there ever was
//!   idle     what of a stock nobody has used      back_off  the time after a scan
//!   changed  pages that the program has made something else of
//!   memdesc  one 8-byte word for every page: what it is
//!   quarter  which part of all who ask somebody belongs to
//!   window   the range of addresses all of it lies in, and how it grows
//!   bounds   that range as everybody reads it
//!   holes    what of it was given back
//!   side     a table beside the window, which grows as it does
//! ```
//!
//! Calls go down this list. Locks are taken in the order watermark, ranges, meta, reserve, zone. Nothing here
//! knows of blocks, classes, threads or grace periods: a page given back is given back.

mod address;
pub mod back_off;
pub mod bounds;
mod buddy;
pub mod cache;
pub mod changed;
mod holes;
pub mod idle;
pub mod limit;
pub mod memdesc;
pub mod meta;
pub mod most;
pub mod promise;
pub mod purge;
pub mod quarter;
pub mod ranges;
pub mod reserve;
mod side;
pub mod watermark;
pub mod window;
pub mod zone;

pub use address::Page;

/// Opens the window, if it is not open. Every allocation does so by itself; this is for
/// making the unusual system calls at start (hazard `seccomp_strict`).
pub fn init() -> bool {
    zone::init()
}

/// Holds the floor's locks for a fork, so that the child finds every list whole.
pub fn fork_prepare() {
    watermark::lock().hold_for_fork();
    ranges::lock().hold_for_fork();
    meta::lock().hold_for_fork();
    reserve::lock().hold_for_fork();
    zone::hold_for_fork();
}

/// Lets go of them in the parent.
pub fn fork_parent() {
    zone::let_go_after_fork();
    reserve::lock().let_go_after_fork();
    meta::lock().let_go_after_fork();
    ranges::lock().let_go_after_fork();
    watermark::lock().let_go_after_fork();
}

/// In the only thread of a child, however it was made: the locks are free. What another thread was changing
/// at that moment, because nobody held the locks for the fork or they were taken away, is forgotten and goes
/// to nobody; the floor goes on with fresh pages.
pub fn settle_in_child() {
    // The zone first: the others may ask it for pages later.
    zone::settle_in_child();
    watermark::lock().settle_in_child(|_| {});
    reserve::settle_in_child();
    meta::settle_in_child();
    ranges::settle_in_child();
}

/// The same for what the calling thread holds in frames that are gone, beside other threads or alone.
pub fn let_go_of_own() {
    zone::let_go_of_own();
    watermark::lock().let_go_of_own(|_| {});
    reserve::let_go_of_own();
    meta::let_go_of_own();
    ranges::let_go_of_own();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constants::PAGE;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    #[test]
    fn page_addresses() {
        assert!(Page::new(0).is_none() && Page::new(4097).is_none());
        assert_eq!(Page::new(8192), Page::containing(8192 + 4095));
        assert!(Page::containing(4095).is_none());
    }

    struct Thing(AtomicUsize);

    // SAFETY: one number, used as the link and for nothing else.
    unsafe impl meta::MetaObject for Thing {
        fn free_link(&self) -> &AtomicUsize {
            &self.0
        }
    }

    static THINGS: meta::MetaPool<Thing> = meta::MetaPool::new();

    /// Four threads allocate while this one forks: each child must be able to go on.
    #[test]
    fn fork_storm() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        let page = zone::alloc_pages(2).unwrap();
                        // SAFETY: ours, unused.
                        unsafe { zone::free_pages(page, 2) };
                    }
                });
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        let thing = THINGS.alloc().unwrap();
                        // SAFETY: ours, unused.
                        unsafe { THINGS.free(thing) };
                    }
                });
            }
            for _ in 0..40 {
                fork_prepare();
                // SAFETY: the child makes raw system calls and uses this floor, nothing else.
                unsafe {
                    let child = libc::fork();
                    if child == 0 {
                        settle_in_child();
                        libc::alarm(60);
                        let page = zone::alloc_run(1500, PAGE, zone::Place::Tight);
                        let whole = page.is_some() && THINGS.alloc().is_some() && reserve::top_up();
                        crate::os::syscall::exit_group(if whole { 7 } else { 1 });
                    }
                    fork_parent();
                    let mut status = 0;
                    assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                    assert_eq!(libc::WEXITSTATUS(status), 7, "the child hung or failed");
                }
            }
            stop.store(true, Relaxed);
        });
    }
}
