//! Fingerprints of what waits (`RCUMALLOC_LEDGER`): writes to freed memory that the wait for a grace period
//! has absorbed.
//!
//! One group in N has each of its blocks hashed as it is sealed, behind its last free, and once more as it is
//! taken up, before malloc may hand a block out. A block that has changed meanwhile was written after its
//! free. Nobody else had it: that write, which would have gone into somebody else's block, is what the wait
//! was for. Whose it was is not known; who was in a section when the group was sealed is, and may have been
//! allowed to.

use crate::constants::{GOLDEN, PRINT_READERS, PRINTED, PRINTS};
use crate::os::line::Line;
use crate::os::{clock, map};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

/// One group's.
#[repr(C)]
struct Prints {
    /// What the group is known by; 0: nobody's, 1: in hand.
    key: AtomicUsize,
    ms: AtomicU32,
    count: AtomicU32,
    readers: [AtomicU32; PRINT_READERS],
    prints: [AtomicU32; PRINTED],
}

/// One group in so many; 0: none.
#[unsafe(link_section = ".data")]
static RATE: AtomicU32 = AtomicU32::new(0);
static TABLE: AtomicUsize = AtomicUsize::new(0);
static SEALED: AtomicU32 = AtomicU32::new(0);
static CHECKED: AtomicU64 = AtomicU64::new(0);
static CHANGED: AtomicU64 = AtomicU64::new(0);

const IN_HAND: usize = 1; // (given) as an encoding

/// Takes one group in `rate` from now on. False: no memory.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn set(rate: u32) -> bool {
    let Some(table) = map::map(PRINTS * size_of::<Prints>()) else { return false };
    TABLE.store(table, Relaxed);
    // Release: who sees the rate sees the table.
    RATE.store(rate, Release);
    true
}

/// Whether groups are taken.
#[inline(always)]
pub fn is_on() -> bool {
    RATE.load(Relaxed) != 0
}

/// Blocks that were looked at again, and those of them that had changed.
pub fn figures() -> (u64, u64) {
    (CHECKED.load(Relaxed), CHANGED.load(Relaxed))
}

fn table() -> &'static [Prints] {
    let table = TABLE.load(Acquire) as *const Prints;
    if table.is_null() {
        return &[];
    }
    // SAFETY: mapped for so many, zero, and never taken away.
    unsafe { core::slice::from_raw_parts(table, PRINTS) }
}

/// The hash of a block's bytes, a multiple of 8.
fn print(block: usize, bytes: usize) -> u32 {
    let words = (block..block + bytes).step_by(8);
    let hash = words.fold(bytes as u64, |hash, at| {
        // SAFETY: a freed block's own memory, which is mapped. Volatile: somebody may be writing to it.
        let word = unsafe { (at as *const u64).read_volatile() };
        (hash ^ word).wrapping_mul(GOLDEN).rotate_left(29)
    });
    (hash >> 32) as u32 ^ hash as u32
}

/// A group known by `key` is about to be sealed: takes it, if it is its turn. `blocks`: where each starts,
/// and its bytes.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn take(
    key: usize,
    blocks: impl Iterator<Item = (usize, usize)>,
    mut readers: impl Iterator<Item = u32>,
) {
    // Left behind by a group that was given up, as the child of a fork does.
    for entry in table() {
        let _ = entry.key.compare_exchange(key, 0, Acquire, Relaxed);
    }
    let turn = SEALED.fetch_add(1, Relaxed);
    if !turn.is_multiple_of(RATE.load(Relaxed).max(1)) {
        return;
    }
    // Acquire and Release, here and below: who has the entry sees what the last one has written to it.
    let free = |entry: &&Prints| entry.key.compare_exchange(0, IN_HAND, Acquire, Relaxed).is_ok();
    let Some(entry) = table().iter().find(free) else { return };
    let mut count = 0;
    for ((block, bytes), place) in blocks.zip(&entry.prints) {
        place.store(print(block, bytes), Relaxed);
        count += 1;
    }
    entry.count.store(count, Relaxed);
    entry.ms.store(clock::now_coarse_ms(), Relaxed);
    for place in &entry.readers {
        place.store(readers.next().unwrap_or(0), Relaxed);
    }
    entry.key.store(key, Release);
}

/// The group known by `key` is taken up: says which of its blocks have changed.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn check(key: usize, blocks: impl Iterator<Item = (usize, usize)>) {
    let of_key = |entry: &&Prints| {
        entry.key.load(Relaxed) == key && entry.key.compare_exchange(key, IN_HAND, Acquire, Relaxed).is_ok()
    };
    let Some(entry) = table().iter().find(of_key) else { return };
    let count = entry.count.load(Relaxed) as usize;
    for ((block, bytes), place) in blocks.zip(&entry.prints[..count.min(PRINTED)]) {
        CHECKED.fetch_add(1, Relaxed);
        if print(block, bytes) != place.load(Relaxed) {
            CHANGED.fetch_add(1, Relaxed);
            say(block, bytes, entry);
        }
    }
    entry.key.store(0, Release);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn say(block: usize, bytes: usize, entry: &Prints) {
    let mut line = Line::new();
    line.str("write after free: a block of ").dec(bytes as u64).str(" bytes at ").hex(block as u64);
    line.str(" was written to while it waited for a grace period, at the most ");
    line.dec(u64::from(clock::now_coarse_ms().wrapping_sub(entry.ms.load(Relaxed)))).str(" ms ago");
    let readers = entry.readers.iter().map(|reader| reader.load(Relaxed)).take_while(|&reader| reader != 0);
    let mut before = " [in sections then: threads ";
    for reader in readers {
        line.str(before).dec(reader.into());
        before = ", ";
    }
    line.str(if before == ", " { "]" } else { "" }).emit();
}
