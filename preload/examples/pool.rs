//! A table of counted objects that readers search without a lock. A removed object may be another one, of
//! another key, before a reader has looked at it: its memory is of a typed pool, so it is an object still,
//! and the reader takes a reference and then asks for the key again.
//!
//!     cargo run --release -p rcumalloc --example pool
//!
//! and, as long as each look may take, while others overwrite what the pool gives up:
//!
//!     RCUMALLOC_DEFER=api cargo run --release -p rcumalloc --example pool --features override torture

use rcumalloc::Pool;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

const SLOTS: usize = 64;
const KEYS: u64 = 256;
/// What every object says that ever was one.
const MADE: u64 = 0x0b9ec7;

/// Zeros are one that nobody has.
struct Object {
    made: AtomicU64,
    refs: AtomicU64,
    key: AtomicU64,
    /// Always three times the key.
    value: AtomicU64,
    more: [AtomicU64; 30],
}

struct Table {
    pool: Pool<Object>,
    slots: [AtomicPtr<Object>; SLOTS],
    is_torture: bool,
}

/// A reference to an object.
struct Held<'a>(&'a Table, NonNull<Object>);

impl std::ops::Deref for Held<'_> {
    type Target = Object;
    fn deref(&self) -> &Object {
        // SAFETY: its memory is an object's, and while it is counted it stays this one.
        unsafe { self.1.as_ref() }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // AcqRel: whoever had it before has done with it.
        if self.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: it came from this pool, and that was the last reference.
            unsafe { self.0.pool.free(self.1) };
        }
    }
}

impl Table {
    fn look_up(&self, key: u64) -> Option<Held<'_>> {
        let section = rcumalloc::read();
        let object = NonNull::new(self.slots[key as usize % SLOTS].load(Ordering::Acquire))?;
        // SAFETY: found in a section: an object until that ends, though perhaps another one by now.
        let seen = unsafe { object.as_ref() };
        for _ in 0..if self.is_torture { 3 } else { 0 } {
            std::thread::yield_now();
            assert_eq!(seen.made.load(Ordering::Relaxed), MADE, "no object any more");
        }
        let more = |refs| if refs == 0 { None } else { Some(refs + 1) };
        let held = seen
            .refs
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, more)
            .ok()
            .map(|_| Held(self, object));
        drop(section);
        held.filter(|held| held.key.load(Ordering::Relaxed) == key)
    }

    /// Whether there was memory for it.
    fn insert(&self, key: u64) -> bool {
        let Some(object) = self.pool.alloc() else { return false };
        // SAFETY: as in `look_up`; readers who find it take no reference yet.
        let fresh = unsafe { object.as_ref() };
        fresh.made.store(MADE, Ordering::Relaxed);
        fresh.more.iter().for_each(|word| word.store(key, Ordering::Relaxed));
        fresh.key.store(key, Ordering::Relaxed);
        fresh.value.store(3 * key, Ordering::Relaxed);
        // Release: who takes a reference from here on sees the key.
        fresh.refs.store(1, Ordering::Release);
        self.put(key as usize % SLOTS, object.as_ptr());
        true
    }

    /// Puts an object, or none, in a slot; drops the table's reference to the one that was there.
    fn put(&self, slot: usize, object: *mut Object) {
        let old = self.slots[slot].swap(object, Ordering::AcqRel);
        drop(NonNull::new(old).map(|old| Held(self, old)));
    }
}

#[cfg(feature = "override")]
unsafe extern "C" {
    /// The heap's own.
    safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
}

/// What is not the pool's gets whatever memory the pool gives up, and overwrites it.
fn overwrite(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let blocks: Vec<Vec<u8>> = (0..32).map(|at| vec![0xdd; 16384 << (at % 4)]).collect();
        drop(std::hint::black_box(blocks));
    }
}

fn main() {
    let is_torture = std::env::args().any(|argument| argument == "torture");
    let pool = Pool::new("table").expect("there is memory for a pool");
    let table = Table { pool, slots: [const { AtomicPtr::new(null_mut()) }; SLOTS], is_torture };
    let (stop, found) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for key in (0..KEYS).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    if let Some(held) = table.look_up(key) {
                        assert_eq!(held.value.load(Ordering::Relaxed), 3 * key, "another object");
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        if is_torture {
            threads.spawn(|| overwrite(&stop));
        }
        for round in 0.. {
            if is_torture && round % 500 == 0 {
                // What is empty leaves the pool.
                (0..SLOTS).for_each(|slot| table.put(slot, null_mut()));
                #[cfg(feature = "override")]
                malloc_trim(0);
            }
            if is_torture && round % 4 == 0 {
                std::thread::yield_now();
            }
            assert!(table.insert(round * 2_654_435_761 % KEYS), "out of memory");
            if round >= (if is_torture { 60_000 } else { 300_000 }) && found.load(Ordering::Relaxed) > 1000 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    (0..SLOTS).for_each(|slot| table.put(slot, null_mut()));
    println!("every object was the one that was asked for");
}
