//! A thread's tables: one slot per size class, and the two fast paths that live off them.
//!
//! ```text
//!   TLS word 0 ──> table malloc pops from      slot: top    next free entry
//!   TLS word 1 ──> table free pushes to              low    malloc is empty at top == low
//!                                                    high   free is full at top == high
//!   solo:       both the same table                  magic  multiplier of the interior check
//!   concurrent: free's is the deferring one
//! ```
//!
//! Slot 0 is a dummy that is always empty and always full, so an address that is in no slab falls
//! into the slow path without a test of its own; so does everything else in a thread that has no
//! cache yet, whose words point at a static table of zeros. `magic` 0 fails the interior check,
//! so a zeroed slot is a slot nobody has used.
//!
//! Only the owning thread writes a table; other threads may read `top` for statistics.

use crate::class::magazine::Magazine;
use crate::class::marks::Map;
use crate::class::size_class::{Class, Fit, LOOKUP_MAX, SLOT_OF_SIZE};
use crate::class::verdict::{self, Found};
use crate::os::{arch, tls};
use crate::page::bounds::{LINE, Line};
use core::mem::offset_of;
use core::slice::from_raw_parts;

pub use crate::constants::{SLOT_BYTES, SLOTS};

/// One class's magazine, unpacked.
#[repr(C)]
pub struct Slot {
    /// Past the last block.
    pub top: *mut usize,
    /// Start of the array.
    pub low: *mut usize,
    /// End of the array.
    pub high: *mut usize,
    /// [`Class::magic`], or 0 while the slot has no magazine.
    pub magic: u32,
    /// Where free pushes: how many of the first blocks are marked in already.
    noted: u32,
}

/// A table of slots. Aligned as `arch::store_pair` wants it.
#[cfg_attr(target_arch = "aarch64", repr(align(16)))]
#[repr(C)]
pub struct Table {
    slots: [Slot; SLOTS],
}

const _: () = {
    assert!(core::mem::size_of::<Slot>() == SLOT_BYTES);
    // `set_ends` writes both at once.
    assert!(offset_of!(Slot, top) == 0 && offset_of!(Slot, low) == 8);
};

impl Table {
    /// The slot of `class`.
    #[inline(always)]
    pub fn slot(&mut self, class: Class) -> &mut Slot {
        &mut self.slots[class.index() + 1]
    }

    /// The slot of `class`, to look at.
    #[inline(always)]
    pub fn peek(&self, class: Class) -> &Slot {
        &self.slots[class.index() + 1]
    }
}

impl Slot {
    /// The magazine in it, of which the slot must forget the address.
    #[inline(always)]
    fn magazine(&self) -> Option<Magazine> {
        // SAFETY: `low` is null or came from a magazine in `install`.
        unsafe { Magazine::of_low(self.low) }
    }

    /// Blocks in it.
    #[inline(always)]
    pub fn len(&self) -> usize {
        (self.top as usize).wrapping_sub(self.low as usize) / 8
    }

    /// Of a filling magazine's blocks, how many of the first are noted to be marked in: those that wait for
    /// the thread's round, or that an earlier owner freed.
    #[inline(always)]
    pub fn marked_in(&self) -> usize {
        self.noted as usize
    }

    /// All its blocks are marked in.
    #[inline(always)]
    pub fn note_marked_in(&mut self) {
        self.noted = self.len() as u32;
    }

    /// The blocks in it.
    #[inline(always)]
    pub fn blocks(&self) -> &[usize] {
        if self.low.is_null() {
            return &[];
        }
        // SAFETY: `low` to `top` are the slot's blocks.
        unsafe { from_raw_parts(self.low, self.len()) }
    }

    /// So many of the first blocks are.
    #[inline(always)]
    pub fn set_marked_in(&mut self, marked: usize) {
        self.noted = marked as u32;
    }

    /// Blocks that its array takes.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        // Not by `map_or`, which would be a function of its own, far from its callers.
        match self.magazine() {
            Some(magazine) => magazine.capacity(),
            None => 0,
        }
    }

    /// free is to find it full.
    #[inline(always)]
    pub fn close_room(&mut self) {
        self.high = self.top;
    }

    /// free may push so many more, if the array is long enough. Where a handler changes the slot meanwhile,
    /// nothing is done.
    #[inline(always)]
    pub fn raise(&mut self, more: usize) -> bool {
        // SAFETY: our own word. Volatile: a handler may change it.
        let high = unsafe { (&raw const self.high).read_volatile() };
        if self.magic == 0 {
            return false;
        }
        let left = (self.low as usize + self.capacity() * 8).wrapping_sub(high as usize) / 8;
        if left == 0 {
            return false;
        }
        let now = high.wrapping_add(more.min(left));
        // SAFETY: our own word.
        unsafe { arch::replace_word((&raw mut self.high).cast(), high as usize, now as usize) }
    }

    /// Marks those blocks of `class` in it in that are not noted to be. One that was in has been freed twice:
    /// reported and, if the program goes on, taken out.
    #[inline(always)]
    pub fn take_in(&mut self, class: Class) {
        let marked = self.marked_in();
        let count = self.len() - marked;
        // SAFETY: `low` to `top` are its blocks, of slabs of this class; the slot's owner holds them.
        let retire = || unsafe { Map::of(class).retire(from_raw_parts(self.low.add(marked), count)) };
        if count != 0 && !retire() {
            self.drop_offenders(class);
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_offenders(&mut self, class: Class) {
        // SAFETY: as in `take_in`.
        while let Some(at) = unsafe { Map::of(class).offender(self.blocks()) } {
            let (last, low) = (self.len() - 1, self.low);
            // It is out of here before the report says where else it is.
            self.top = low.wrapping_add(last);
            // SAFETY: both are places of the array.
            let block = unsafe {
                let block = low.add(at).read();
                low.add(at).write(low.add(last).read());
                block
            };
            verdict::double_free("free", block, class, Found::AtTurn);
        }
    }

    /// Drops the first `count` blocks: those behind them move down.
    #[inline(always)]
    pub fn drop_first(&mut self, count: usize) {
        let left = self.len() - count;
        let magic = self.magic;
        self.close();
        self.noted = 0;
        if left != 0 {
            // SAFETY: `low` to `top` are the slot's own array.
            unsafe { arch::move_few_down(self.low.wrapping_add(count), self.low, left) };
        }
        self.high = self.high.wrapping_sub(count);
        self.set_ends(self.low.wrapping_add(left), self.low);
        self.open(magic);
    }

    /// So many blocks that were written behind the last one are in it now. Where free pushes here, too, it
    /// finds that it is full by top being high, so high must never be left behind.
    #[inline(always)]
    pub fn add(&mut self, count: usize) {
        let top = self.top.wrapping_add(count);
        arch::stores_in_order();
        self.high = self.high.max(top);
        arch::stores_in_order();
        self.top = top;
    }

    /// Whether malloc finds nothing.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.top == self.low
    }

    /// Whether free finds no room.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.top == self.high
    }

    /// The block that was pushed last and not popped since.
    #[inline(always)]
    pub fn newest(&self) -> Option<usize> {
        // SAFETY: not empty, so the entry below `top` is a block.
        (!self.is_empty()).then(|| unsafe { self.top.sub(1).read() })
    }

    /// Puts `magazine`, with `len` blocks of `class`, in. free is to find it full at `most`, or at its
    /// array's end.
    #[inline(always)]
    pub fn install(&mut self, mut magazine: Magazine, class: Class, len: usize, most: usize) {
        magazine.set_class(class);
        let capacity = magazine.capacity().min(most.max(len));
        let low = magazine.into_low();
        debug_assert!(self.magic == 0, "there is one in it");
        self.high = low.wrapping_add(capacity);
        self.set_ends(low.wrapping_add(len), low);
        self.open(class.magic());
    }

    /// From now on free finds no block's start in it, so it can be changed: whatever a handler that jumps out
    /// of that leaves, malloc finds it empty or whole.
    #[inline(always)]
    fn close(&mut self) {
        self.open(0);
        arch::stores_in_order();
    }

    #[inline(always)]
    fn open(&mut self, magic: u32) {
        // SAFETY: our own word. Volatile: a handler may look on.
        unsafe { (&raw mut self.magic).write_volatile(magic) };
    }

    /// Sets where the blocks end and begin, in one instruction.
    #[inline(always)]
    fn set_ends(&mut self, top: *mut usize, low: *mut usize) {
        arch::stores_in_order();
        // SAFETY: `top` and `low` lie side by side in this slot, which is ours.
        unsafe { arch::store_pair((&raw mut self.top).cast(), top as usize, low as usize) };
        arch::stores_in_order();
    }

    /// Takes the magazine out, its length written to its head. The slot is always empty and
    /// always full then, and has no multiplier.
    #[inline(always)]
    pub fn remove(&mut self) -> Option<Magazine> {
        let mut magazine = self.magazine()?;
        magazine.set_len(self.len());
        self.close();
        self.set_ends(core::ptr::null_mut(), core::ptr::null_mut());
        self.high = core::ptr::null_mut();
        self.noted = 0;
        Some(magazine)
    }

    /// As [`remove`](Self::remove), for the slot of a thread or a frame that is gone and may have left it
    /// half changed: then nothing. It is empty and full in any case.
    pub fn remove_if_whole(&mut self) -> Option<Magazine> {
        let Some(magazine) = self.magazine() else {
            self.high = self.top;
            // Whoever was about to take it out may have left this for the next one.
            self.noted = 0;
            return None;
        };
        let is_whole = self.low <= self.top
            && self.top <= self.high
            && self.high <= self.low.wrapping_add(magazine.capacity());
        let removed = self.remove();
        removed.filter(|_| is_whole)
    }

    /// Pushes a block; the slot must not be full.
    #[inline(always)]
    pub fn push(&mut self, block: usize) {
        // SAFETY: not full, so `top` points into the array.
        unsafe { self.top.write(block) };
        self.top = self.top.wrapping_add(1);
    }

    /// Pops a block, if there is one.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        self.top = self.top.wrapping_sub(1);
        // SAFETY: not empty, so the entry below the old `top` is a block.
        Some(unsafe { self.top.read() })
    }
}

/// The fast path of malloc: 12 instructions on x86-64. `slow` gets everything else.
///
/// # Safety
/// The calling thread's words point at tables of its own or at the table of zeros (always so).
#[inline(always)]
pub unsafe fn malloc(size: usize, slow: unsafe extern "C" fn(usize) -> *mut u8) -> *mut u8 {
    if size > LOOKUP_MAX {
        // SAFETY: the slow path takes any size.
        return unsafe { slow(size) };
    }
    // SAFETY: `size` is inside the look-up table.
    let offset = unsafe { *SLOT_OF_SIZE.get_unchecked(size) } as usize;
    let table = tls::alloc_table();
    let slot = (table + offset) as *mut Slot;
    // SAFETY: the table is this thread's or the zeros, which are empty and never written here.
    unsafe {
        let top = (*slot).top;
        if top == (*slot).low {
            return slow(size);
        }
        arch::pop_top!(slot, table, offset, top);
        *top.sub(1) as *mut u8
    }
}

/// A block of `class` from the loaded magazine, if there is one: malloc's fast path for sizes that
/// are in no look-up table.
///
/// # Safety
/// As [`malloc`].
#[inline(always)]
pub unsafe fn pop(class: Class) -> Option<usize> {
    let slot = (tls::alloc_table() + class.slot()) as *mut Slot;
    // SAFETY: the table is this thread's or the zeros, which are empty and never written here.
    unsafe {
        let top = (*slot).top;
        if top == (*slot).low {
            return None;
        }
        let top = top.sub(1);
        (*slot).top = top;
        Some(*top)
    }
}

/// Offset of the slot of the class whose slab holds `addr`; 0, the dummy's, for a page of the heap that is no
/// slab's; `None` for what is not of the heap.
///
/// Spelled by `arch`, where the window's line stays one cache line (the optimiser would take the static
/// apart).
#[inline(always)]
fn slot_offset(addr: usize) -> Option<usize> {
    arch::slot_offset!(addr, LINE, Line)
}

/// Whether `block` is the start of a small block which realloc leaves where it is for `size` bytes. Any
/// address: nothing behind it is touched.
#[inline(always)]
pub fn stays(block: usize, size: usize) -> bool {
    slot_offset(block).is_some_and(|slot| Fit::of_slot(slot).keeps(block, size))
}

/// The fast path of free: 21 instructions on x86-64. `slow` gets null, what is in no slab, what does not
/// start a block, what lies on top of its magazine already (a double free), and whatever finds its
/// magazine full.
///
/// On x86-64 parts are spelled in assembly, as in [`slot_offset`]: six instructions fewer than the
/// compiler's.
///
/// # Safety
/// As [`malloc`]. `block` may be any address: nothing behind it is touched.
#[inline(always)]
pub unsafe fn free(block: *mut u8, slow: unsafe extern "C" fn(*mut u8)) {
    let Some(slot) = slot_offset(block as usize) else {
        // SAFETY: the slow path takes any address.
        return unsafe { slow(block) };
    };
    let slot = tls::free_slot(slot) as *mut Slot;
    let mut product = u32::from(block as usize as u16);
    // SAFETY: the offset lies inside the table; a zeroed slot fails the check (0 < 0).
    unsafe {
        arch::times_magic!(product, slot);
        if product >= (*slot).magic {
            return slow(block);
        }
    }
    // SAFETY: a slot of the thread's own table, or of the zeros, which are full.
    unsafe {
        let top = (*slot).top;
        if top == (*slot).high {
            return slow(block);
        }
        // The newest block, or the word before the array, which is no address.
        if *top.sub(1) == block as usize {
            return slow(block);
        }
        *top = block as usize;
        arch::push_top!(slot, top);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::null_mut;

    #[test]
    fn nothing_is_left_of_a_magazine_that_somebody_was_taking_out() {
        // As `remove` leaves it if a handler jumps before the last of its stores.
        let mut slot = Slot { top: null_mut(), low: null_mut(), high: null_mut(), magic: 0, noted: 20 };
        assert!(slot.remove_if_whole().is_none());
        assert_eq!((slot.len(), slot.marked_in()), (0, 0));
    }
}
