//! The mark map: one byte per block that says whether the block is out.
//!
//! 1 means *out*: handed to the program, or in a magazine that a table slot may hand out without
//! looking (loaded, warm, filling). 0 means *in*: in a retired, waiting, full or depot magazine,
//! in its slab, or never carved. So memory that was never touched reads as "in", and nothing has
//! to be written when a slab is created.
//!
//! The byte of block `p` of a class with shift k = floor(log2(size)) is number `p >> k` of map k:
//! blocks lie at least 2^k apart, so no two of one slab share a byte, and since the heap is one
//! window the map is one area per k. `retire` checks and clears a whole magazine's bytes at its
//! turn (on x86-64 four instructions a block, three with BMI2's `shrx`), `load` sets them when the blocks
//! are about to be handed out again. A block that is freed twice is in two magazines or twice in
//! one: the second to be retired finds 0. That is the double-free check, and it costs the fast
//! paths nothing.
//!
//! The bytes are plain: only the owner of the block, or of the magazine it is in, touches its
//! byte. Two threads racing here are themselves the double free.

use crate::class::size_class::Class;
use crate::os::arch;
use crate::page::bounds;

/// What the byte of a block reads after it was marked in once too often: 0 - 1.
const IN_TWICE: u8 = 255; // (given) as an encoding

/// Address that, added to `p >> k`, is the byte of `p`.
#[derive(Clone, Copy)]
pub struct Map {
    bias: usize,
    shift: u32,
}

impl Map {
    /// The map of `class`.
    #[inline(always)]
    pub fn of(class: Class) -> Map {
        let shift = class.shift();
        Map { bias: bounds::mark_origin(shift), shift }
    }

    #[inline(always)]
    fn byte(self, block: usize) -> *mut u8 {
        (self.bias.wrapping_add(block >> self.shift)) as *mut u8
    }

    /// Whether `block` is out.
    ///
    /// # Safety
    /// `block` lies in a slab of the map's class (its bytes are committed with the slab).
    pub unsafe fn is_out(self, block: usize) -> bool {
        // SAFETY: committed with the slab, says the caller.
        unsafe { self.byte(block).read() != 0 }
    }

    /// Marks one block in, and says whether it was out.
    ///
    /// # Safety
    /// As [`Map::is_out`], and the caller holds the block.
    pub unsafe fn take_in(self, block: usize) -> bool {
        // SAFETY: committed with the slab; the holder of the block owns its byte.
        unsafe {
            let byte = self.byte(block);
            let was = byte.read();
            byte.write(0);
            was != 0
        }
    }

    /// Marks one block out.
    ///
    /// # Safety
    /// As [`Map::take_in`].
    pub unsafe fn let_out(self, block: usize) {
        // SAFETY: committed with the slab; the holder of the block owns its byte.
        unsafe { self.byte(block).write(1) }
    }

    /// Marks all of `blocks` in; false if one of them was in already. Then the bytes of exactly
    /// the offenders hold 255 until [`Map::offender`] has named and reset them.
    ///
    /// # Safety
    /// Every block lies in a slab of this class and the caller holds them.
    #[inline(always)]
    pub unsafe fn retire(self, blocks: &[usize]) -> bool {
        // SAFETY: the bytes are committed and ours, says the caller.
        let (done, mut bad) = unsafe { arch::clear_marks(self.bias, self.shift, blocks) };
        for &block in &blocks[done..] {
            // SAFETY: as above.
            unsafe {
                let byte = self.byte(block);
                let left = byte.read().wrapping_sub(1);
                byte.write(left);
                bad += u32::from(left == IN_TWICE);
            }
        }
        bad == 0
    }

    /// Marks all of `blocks` out: they are about to be loaded.
    ///
    /// # Safety
    /// As [`Map::retire`].
    #[inline(always)]
    pub unsafe fn load(self, blocks: &[usize]) {
        // SAFETY: the bytes are committed and ours, says the caller.
        let done = unsafe { arch::set_marks(self.bias, self.shift, blocks) };
        for &block in &blocks[done..] {
            // SAFETY: as above.
            unsafe { self.byte(block).write(1) };
        }
    }

    /// As [`load`](Self::load), of few blocks, which are copied to `to` on the way.
    ///
    /// # Safety
    /// As [`Map::retire`]; `to` has room for them.
    #[inline(always)]
    pub unsafe fn load_few(self, blocks: *const usize, to: *mut usize, count: usize) {
        // SAFETY: the bytes are committed and ours, says the caller; so is the room.
        unsafe { arch::set_few_marks(self.bias, self.shift, blocks, to, count) };
    }

    /// After a `retire` that failed: the place in `blocks` of the next block that was in
    /// already, its byte set right by one.
    ///
    /// # Safety
    /// As [`Map::retire`].
    #[cold]
    pub unsafe fn offender(self, blocks: &[usize]) -> Option<usize> {
        blocks.iter().rposition(|&block| {
            // SAFETY: committed, and the caller holds the block.
            unsafe {
                let byte = self.byte(block);
                // One step below 0 for each time too often, and one call for each.
                let found = byte.read() > 1;
                if found {
                    byte.write(byte.read().wrapping_add(1));
                }
                found
            }
        })
    }
}
