//! The oracle of bytes: a block is filled by its own address, so whoever gets it, or a part of it, too
//! early or twice leaves a trace.
//!
//! One module for the model test, the failing mappings and the fuzz target. It must not allocate: it runs
//! between the calls that are tested.

#[allow(dead_code, unreachable_pub, reason = "not every test that has the oracle has the model")]
pub mod model;

/// Blocks up to so many bytes are filled and checked whole: what realloc made of one can be compared.
pub const WHOLE: usize = 1024;

/// The byte that a block at `addr` is filled with; never 0.
pub fn pattern(addr: usize) -> u8 {
    (addr >> 4) as u8 ^ (addr >> 12) as u8 | 1
}

/// The places in a block that are filled and checked: all of a small one, the last of any.
pub fn places(size: usize) -> impl Iterator<Item = usize> {
    (0..size).step_by(if size > WHOLE { 251 } else { 1 }).chain(size.checked_sub(1))
}

/// Fills the block at `addr`.
///
/// # Safety
/// It has `size` bytes, which are the caller's.
pub unsafe fn fill(addr: usize, size: usize) {
    // SAFETY: the caller's promise.
    places(size).for_each(|at| unsafe { *((addr + at) as *mut u8) = pattern(addr) });
}

/// Panics unless the block at `addr` is as the one at `filled_at` was filled.
///
/// # Safety
/// Its `size` bytes can be read.
pub unsafe fn check(addr: usize, size: usize, filled_at: usize) {
    for at in places(size) {
        // SAFETY: the caller's promise.
        let found = unsafe { *((addr + at) as *const u8) };
        assert_eq!(found, pattern(filled_at), "byte {at} of {size} at {addr:#x}");
    }
}
