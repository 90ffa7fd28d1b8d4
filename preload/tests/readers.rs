//! G1: a block freed while a read-side section is open is not reused before the section ends.
//!
//! Readers hold sections over blocks whose every word is the block's number; writers replace,
//! free, realloc and refill them. A reader that finds two different words in one block has seen
//! it reused under its eyes. With `--cfg rcumalloc_break="cookie"` the heap ignores cookies and
//! this test fails: it has been seen to.

use rcumalloc::RcuMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

const SLOTS: usize = 64;
const SIZES: [usize; 8] = [16, 48, 64, 256, 1024, 8192, 65536, 2 << 20];

static HEAP: RcuMalloc = RcuMalloc;
static SHARED: [AtomicPtr<u64>; SLOTS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; SLOTS];
static STOP: AtomicBool = AtomicBool::new(false);
static NUMBER: AtomicU64 = AtomicU64::new(1);

fn size_of_slot(slot: usize) -> usize {
    // Few of the large ones: they take their time.
    SIZES[if slot % 16 == 15 { 7 } else { slot % 7 }]
}

fn layout(slot: usize) -> Layout {
    Layout::from_size_align(size_of_slot(slot), 16).unwrap()
}

/// Words of a block that are looked at: all of a small one, a sample of a large one.
fn sample(words: usize) -> impl Iterator<Item = usize> {
    (0..words).step_by(if words > 1024 { 509 } else { 1 })
}

fn fresh(slot: usize) -> *mut u64 {
    // SAFETY: not a zero-sized layout; the block is written inside its bounds.
    unsafe {
        let block = HEAP.alloc(layout(slot)).cast::<u64>();
        assert!(!block.is_null());
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let words = size_of_slot(slot) / 8;
        (0..words).for_each(|word| block.add(word).write(number));
        block
    }
}

fn writer(seed: u64) {
    let mut state = seed;
    while !STOP.load(Ordering::Relaxed) {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let slot = (state >> 33) as usize % SLOTS;
        if slot % 16 == 15 && !(state >> 20).is_multiple_of(16) {
            continue;
        }
        let old = SHARED[slot].swap(fresh(slot), Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: unlinked above; only readers that began before can still see it. realloc
            // that moves is a free, too.
            unsafe {
                if state & (1 << 40) == 0 {
                    HEAP.dealloc(old.cast(), layout(slot));
                } else {
                    let moved = HEAP.realloc(old.cast(), layout(slot), size_of_slot(slot) * 2 + 64);
                    let grown = Layout::from_size_align(size_of_slot(slot) * 2 + 64, 16).unwrap();
                    HEAP.dealloc(moved, grown);
                }
            }
        }
    }
}

/// Returns how many sections it held.
fn reader(seed: usize) -> u64 {
    let mut sections = 0;
    let mut slot = seed;
    while !STOP.load(Ordering::Relaxed) {
        slot = (slot + 7) % SLOTS;
        let section = rcumalloc::read();
        let block = SHARED[slot].load(Ordering::Acquire);
        if !block.is_null() {
            let words = size_of_slot(slot) / 8;
            // SAFETY: found inside the section, so it stays what it is until the section ends.
            let number = unsafe { block.read_volatile() };
            for pass in 0..3 {
                for word in sample(words) {
                    // SAFETY: as above.
                    let found = unsafe { block.add(word).read_volatile() };
                    assert_eq!(found, number, "slot {slot}, word {word} of {words}, pass {pass}");
                }
                if sections % 64 == 0 {
                    std::thread::yield_now();
                }
            }
        }
        drop(section);
        sections += 1;
    }
    sections
}

#[test]
fn no_block_is_reused_under_a_reader() {
    let seconds = std::env::var("RCUMALLOC_TEST_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let sections: u64 = std::thread::scope(|scope| {
        for seed in 0..2 {
            scope.spawn(move || writer(seed));
        }
        let readers: Vec<_> = (0..3).map(|seed| scope.spawn(move || reader(seed))).collect();
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        STOP.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    println!("{sections} sections, {} blocks", NUMBER.load(Ordering::Relaxed));
    assert!(sections > 1000);
}
