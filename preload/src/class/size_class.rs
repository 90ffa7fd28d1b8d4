//! Size classes: which of 36 rounded sizes serves a request.
//!
//! Sizes up to 128 bytes go in steps of 16; above, every doubling has four, at 9, 11, 13 and 16 eighths of
//! the power of two below it, so no block is more than 24 % larger than asked for, and what is a power of two
//! with a header before it loses an eighth at most. Why there are not more: what a thread holds ready, and
//! what holding back costs, goes with the number of classes (docs/decisions/classes.md).
//!
//! All slabs are 64 KiB and 64 KiB-aligned, so the low 16 bits of an address are its offset in the slab and
//! "is this the start of a block?" is one multiplication (Lemire): with `M = ceil(2^32 / size)` and
//! `off < 2^16`, `(off * M) mod 2^32 < M` exactly when `size` divides `off`.
//!
//! Everything here is computed by the compiler; nothing is ever written. Any thread may read.
pub use crate::constants::{LOOKUP_MAX, SMALL_MAX};

use crate::constants::{EIGHTHS, EXACT_MAX, GROWS_SLOWLY, GROWTH, LEAST_FILLED, SLAB_BYTES, SLOT_BYTES};

/// Number of size classes: 8 in steps of 16, then 4 in each of 7 doublings.
pub const CLASSES: usize = 8 + 7 * EIGHTHS.len(); // (given) as a count

/// One of the classes. The number inside is always below [`CLASSES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Class(u8);

impl Class {
    /// The class numbered `index`, which must be below [`CLASSES`].
    #[inline(always)]
    pub const fn new(index: usize) -> Class {
        assert!(index < CLASSES);
        Class(index as u8)
    }

    /// Those whose bits are set, by their numbers.
    #[inline(always)]
    pub fn of_bits(mut bits: u64) -> impl Iterator<Item = Class> {
        core::iter::from_fn(move || {
            let class = Class::new((bits != 0).then(|| bits.trailing_zeros() as usize)?);
            bits &= bits - 1;
            Some(class)
        })
    }

    /// The class that serves `size` bytes, `size <= SMALL_MAX` (checked in debug builds; nothing
    /// larger may get here). 0 is served as 1.
    #[inline(always)]
    pub const fn of_size(size: usize) -> Class {
        debug_assert!(size <= SMALL_MAX);
        if size <= 128 {
            let size = if size == 0 { 1 } else { size };
            Class(((size - 1) >> 4) as u8)
        } else {
            let last = size - 1;
            let log = last.ilog2() as usize;
            // The first eighth is a class's, then two by two; the last class's are three.
            let step = match (last >> (log - 3)) & 7 {
                7 => 3,
                eighth => eighth.div_ceil(2),
            };
            Class((8 + (log - 7) * EIGHTHS.len() + step) as u8)
        }
    }

    /// The class that serves `size` bytes aligned to `align` (a power of two), or `None` when
    /// only a page run can. Blocks are cut at multiples of their size from an aligned slab, so
    /// the answer is the next class whose size is a multiple of `align`.
    pub const fn of_aligned(size: usize, align: usize) -> Option<Class> {
        let least = if size < align { align } else { size };
        if least > SMALL_MAX {
            return None;
        }
        let mut class = Class::of_size(least);
        loop {
            if class.size() & (align - 1) == 0 {
                return Some(class);
            }
            if class.index() + 1 == CLASSES {
                return None;
            }
            class = Class(class.0 + 1);
        }
    }

    /// The class for a block that held `held` bytes and is to hold `size`, which is more, at most
    /// `SMALL_MAX`: what grows by less than [`GROWS_SLOWLY`] says gets as much more as [`GROWTH`] says.
    #[inline(always)]
    pub const fn to_grow(size: usize, held: usize) -> Class {
        let more = size * GROWTH.0 / GROWTH.1;
        if size <= EXACT_MAX || size * GROWS_SLOWLY.1 >= held * GROWS_SLOWLY.0 || more > SMALL_MAX {
            Class::of_size(size)
        } else {
            Class::of_size(more)
        }
    }

    /// Least size for which realloc leaves a block of this class where it is: up to [`EXACT_MAX`] the least
    /// that malloc serves with it, beyond that the part [`LEAST_FILLED`] of the block, so that what
    /// [`to_grow`](Self::to_grow) gave stays.
    const fn least_kept(self) -> usize {
        let size = self.size();
        if size <= EXACT_MAX { size - 15 } else { size * LEAST_FILLED.0 / LEAST_FILLED.1 }
    }

    /// Whether malloc or realloc may have given a block of this class to a request of `size` bytes.
    #[inline]
    pub fn serves(self, size: usize) -> bool {
        (self.least_kept()..=self.size()).contains(&size.max(1))
    }

    /// The class whose slot is `offset` bytes into a table; 0 (the dummy slot) has none.
    #[inline(always)]
    pub const fn of_slot(offset: usize) -> Option<Class> {
        if offset == 0 { None } else { Some(Class((offset / SLOT_BYTES - 1) as u8)) }
    }

    /// Its number, below [`CLASSES`].
    #[inline(always)]
    pub const fn index(self) -> usize {
        // SAFETY: no constructor makes a larger one (`of_slot` is given slot offsets only).
        unsafe { core::hint::assert_unchecked((self.0 as usize) < CLASSES) };
        self.0 as usize
    }

    /// Byte offset of its slot in a thread's table. Slot 0 is the dummy.
    #[inline(always)]
    pub const fn slot(self) -> usize {
        (self.0 as usize + 1) * SLOT_BYTES
    }

    /// Bytes of a block.
    #[inline(always)]
    pub const fn size(self) -> usize {
        SIZES[self.index()] as usize
    }

    /// Every class, the smallest first.
    pub fn all() -> impl Iterator<Item = Class> {
        (0..CLASSES).map(Class::new)
    }

    /// Blocks in a slab.
    #[inline(always)]
    pub const fn blocks(self) -> usize {
        BLOCKS[self.index()] as usize
    }

    /// `ceil(2^32 / size)`: the multiplier of the interior check.
    #[inline(always)]
    pub const fn magic(self) -> u32 {
        MAGICS[self.index()]
    }

    /// floor(log2(size)): blocks lie at least `2^k` apart, so `address >> k` tells them apart.
    #[inline(always)]
    pub const fn shift(self) -> u32 {
        (self.size() as u32).ilog2()
    }

    /// Whether `offset` bytes into a slab is where a block starts (the slab's tail included).
    #[inline(always)]
    pub const fn starts_at(self, offset: u16) -> bool {
        (offset as u32).wrapping_mul(self.magic()) < self.magic()
    }

    /// Which block of a slab holds the byte at `offset`.
    #[inline(always)]
    pub const fn block_of(self, offset: u16) -> usize {
        block_of(self.magic(), offset)
    }
}

/// [`Class::block_of`] for the class whose [`magic`](Class::magic) this is. The multiplier is too large by
/// less than one, so the product is by less than 2^16, and a remainder has 2^32 / 2^14 to spare.
#[inline(always)]
pub const fn block_of(magic: u32, offset: u16) -> usize {
    ((offset as u64 * magic as u64) >> 32) as usize
}

const fn size_of_index(index: usize) -> usize {
    if index < 8 {
        16 * (index + 1)
    } else {
        EIGHTHS[(index - 8) % EIGHTHS.len()] << (4 + (index - 8) / EIGHTHS.len())
    }
}

const SIZES: [u32; CLASSES] = {
    let mut sizes = [0; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        sizes[i] = size_of_index(i) as u32;
        i += 1;
    }
    sizes
};

const BLOCKS: [u16; CLASSES] = {
    let mut blocks = [0; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        blocks[i] = (SLAB_BYTES / SIZES[i] as usize) as u16;
        i += 1;
    }
    blocks
};

// (given) by arithmetic.
const MAGICS: [u32; CLASSES] = {
    let mut magics = [0; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        magics[i] = (1u64 << 32).div_ceil(SIZES[i] as u64) as u32;
        i += 1;
    }
    magics
};

/// Slot offset by request size, for requests up to [`LOOKUP_MAX`]: malloc's only look-up.
pub static SLOT_OF_SIZE: [u16; LOOKUP_MAX + 1] = {
    let mut slots = [0; LOOKUP_MAX + 1];
    let mut size = 0;
    while size <= LOOKUP_MAX {
        slots[size] = Class::of_size(size).slot() as u16;
        size += 1;
    }
    slots
};

/// What realloc asks of a block of one class: whether it is one, and whether it still fits.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct Fit {
    /// [`Class::magic`].
    magic: u32,
    /// Least size, in bytes, for which realloc leaves a block where it is, ...
    least: u32,
    /// ... and how many sizes there are from there to the block's own.
    span: u32,
}

/// By slot; slot 0 fits nothing.
pub static FITS: [Fit; CLASSES + 1] = {
    let mut fits = [Fit { magic: 0, least: 0, span: 0 }; CLASSES + 1];
    let mut i = 0;
    while i < CLASSES {
        let class = Class(i as u8);
        let least = class.least_kept();
        let span = class.size() - least + 1;
        fits[i + 1] = Fit { magic: class.magic(), least: least as u32, span: span as u32 };
        i += 1;
    }
    fits
};

impl Fit {
    /// For the class whose slot is `offset` bytes into a table.
    #[inline(always)]
    pub fn of_slot(offset: usize) -> &'static Fit {
        debug_assert!(offset / SLOT_BYTES <= CLASSES);
        // SAFETY: no slot lies past the last class's.
        unsafe { FITS.get_unchecked(offset / SLOT_BYTES) }
    }

    /// Whether `addr` is where a block starts which realloc leaves there for `size` bytes.
    #[inline(always)]
    pub fn keeps(&self, addr: usize, size: usize) -> bool {
        u32::from(addr as u16).wrapping_mul(self.magic) < self.magic
            && size.wrapping_sub(self.least as usize) < self.span as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realloc_keeps_what_fits_and_is_not_far_too_large() {
        const SLAB: usize = 0x7000_0000_0000;
        for class in Class::all() {
            let fit = Fit::of_slot(class.slot());
            for size in 0..=SMALL_MAX + 1 {
                let kept = fit.keeps(SLAB + 3 * class.size(), size);
                let exact = (1..=SMALL_MAX).contains(&size) && Class::of_size(size) == class;
                let fits = size <= class.size() && size * 16 >= class.size() * 9;
                assert_eq!(kept, exact || (class.size() > 128 && fits), "{size} in {}", class.size());
            }
            assert!(!fit.keeps(SLAB + class.size() + 8, class.size()), "inside a block of {}", class.size());
        }
        assert!((0..=SMALL_MAX).all(|size| !Fit::of_slot(0).keeps(SLAB, size)));
    }

    #[test]
    fn what_grows_in_small_steps_gets_room_that_realloc_keeps() {
        for held in Class::all().map(Class::size) {
            for size in held + 1..=SMALL_MAX {
                let class = Class::to_grow(size, held);
                let in_small_steps = size > 128 && size * 4 < held * 5 && size * 11 / 8 <= SMALL_MAX;
                if in_small_steps {
                    assert!(class.size() >= size * 11 / 8, "{held} -> {size}");
                } else {
                    assert_eq!(class, Class::of_size(size), "{held} -> {size}");
                }
                assert!(Fit::of_slot(class.slot()).keeps(0, size) && class.serves(size), "{held} -> {size}");
            }
        }
    }

    #[test]
    fn classes_cover_every_size_and_waste_little() {
        for size in 0..=SMALL_MAX {
            let class = Class::of_size(size);
            assert!(class.size() >= size);
            if class.index() > 0 {
                assert!(Class::new(class.index() - 1).size() < size.max(1));
            }
            if size > 128 {
                assert!((class.size() - size) * 100 <= size * 24, "{size} -> {}", class.size());
                let floor = 1 << size.ilog2();
                assert!(size > floor + floor / 8 || class.size() <= floor + floor / 8);
            }
        }
        assert_eq!(Class::new(CLASSES - 1).size(), SMALL_MAX);
    }

    #[test]
    fn interior_check_is_exact_for_every_class_and_offset() {
        for i in 0..CLASSES {
            let class = Class::new(i);
            for offset in 0..=u16::MAX {
                assert_eq!(class.starts_at(offset), (offset as usize).is_multiple_of(class.size()));
                assert_eq!(class.block_of(offset), offset as usize / class.size());
            }
        }
    }

    #[test]
    fn aligned_classes_are_aligned() {
        for log in 0..=SMALL_MAX.ilog2() {
            let align = 1usize << log;
            for size in (0..=SMALL_MAX).step_by(7) {
                if let Some(class) = Class::of_aligned(size, align) {
                    assert!(class.size() >= size && class.size().is_multiple_of(align));
                } else {
                    panic!("{size} aligned to {align} has no class");
                }
            }
        }
        assert!(Class::of_aligned(1, 65536).is_none());
    }

    #[test]
    fn slots_round_trip() {
        assert_eq!(Class::of_slot(0), None);
        for i in 0..CLASSES {
            assert_eq!(Class::of_slot(Class::new(i).slot()), Some(Class::new(i)));
        }
    }
}
