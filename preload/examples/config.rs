//! A table that readers look at without a lock and a writer replaces: the heap itself is what keeps
//! the old table until every section that may see it has ended.
//!
//!     cargo run --release -p rcumalloc --example config

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

#[global_allocator]
static HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;

struct Config {
    version: u64,
    name: String,
}

fn config(version: u64) -> *mut Config {
    Box::into_raw(Box::new(Config { version, name: format!("version {version}") }))
}

fn main() {
    const { assert!(rcumalloc::DEFERS, "without deferred frees readers need retire instead of drop") };
    let current = AtomicPtr::new(config(0));
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let section = rcumalloc::read();
                // SAFETY: what a section has seen is not reused or written before it ends.
                let seen = unsafe { &*current.load(Ordering::Acquire) };
                assert!(seen.name.ends_with(&seen.version.to_string()));
                drop(section);
            }
        });
        for version in 1..=300_000 {
            let old = current.swap(config(version), Ordering::AcqRel);
            // Dropped at once, while readers may look: its memory stays as it was for them.
            // SAFETY: it is no longer published, and only this thread frees.
            drop(unsafe { Box::from_raw(old) });
        }
        stop.store(true, Ordering::Relaxed);
    });
    // SAFETY: the reader has ended.
    let last = unsafe { Box::from_raw(current.into_inner()) };
    println!("{}, every look was consistent", last.name);
}
