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
//! turn (four instructions a block, three with BMI2's `shrx`), `load` sets them when the blocks
//! are about to be handed out again. A block that is freed twice is in two magazines or twice in
//! one: the second to be retired finds 0. That is the double-free check, and it costs the fast
//! paths nothing.
//!
//! The bytes are plain: only the owner of the block, or of the magazine it is in, touches its
//! byte. Two threads racing here are themselves the double free.

use crate::class::size_class::Class;
use crate::page::bounds;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What the byte of a block reads after it was marked in once too often: 0 - 1.
const IN_TWICE: u8 = 255;

/// Blocks a round of the long loop: divides 12, 60 and 252, leaves 4 of 28, 124 and 508.
const ROUND: usize = 12;

/// Runs `$find` (address shifted right into `t`) and `$mark` over an array, as far as its length
/// is a multiple of four; how far, is the macro's value. Twelve blocks a round, then four a round; where
/// there are fewer than twelve, one a round and all of them: each loop ends with a branch that is guessed
/// wrong.
/// Written out because the compiler's own loop is two instructions a block longer and forgets
/// which block was the bad one.
macro_rules! walk {
    ($find:literal, $shift:literal, $mark:literal; $map:expr, $blocks:expr, $bad:ident) => {{
        let long = $blocks.len() / ROUND * ROUND;
        let few = $blocks.len() < ROUND;
        let done = if few { $blocks.len() } else { $blocks.len() & !3 };
        walk!(@round $find, $shift, $mark; $map, $blocks, $bad, 0, long, "96",
            "", " + 8", " + 16", " + 24", " + 32", " + 40", " + 48", " + 56", " + 64", " + 72",
            " + 80", " + 88");
        if few {
            walk!(@round $find, $shift, $mark; $map, $blocks, $bad, 0, done, "8", "");
        } else {
            walk!(@round $find, $shift, $mark; $map, $blocks, $bad, long, done, "32",
                "", " + 8", " + 16", " + 24");
        }
        done
    }};
    (@round $find:literal, $shift:literal, $mark:literal; $map:expr, $blocks:expr, $bad:ident,
     $from:expr, $to:expr, $step:literal, $($at:literal),+) => {
        if $from != $to {
            asm!(
                "2:",
                $(concat!($find, "[{end} + {i}", $at, "]", $shift), $mark,)+
                concat!("add {i}, ", $step),
                "jne 2b",
                "/* {bad:e} */",
                t = out(reg) _,
                end = in(reg) $blocks.as_ptr().add($to),
                i = inout(reg) (($from as isize) - ($to as isize)) * 8 => _,
                bias = in(reg) $map.bias,
                bad = inout(reg) $bad,
                in("rcx") $map.shift as usize,
                options(nostack)
            );
        }
    };
}

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
        let mut bad = 0u32;
        // SAFETY: the bytes are committed and ours, says the caller; BMI2 is asked for.
        let done = unsafe {
            if bmi2() {
                walk!("shrx {t}, ", ", rcx", "sub byte ptr [{bias} + {t}], 1\nadc {bad:e}, 0";
                      self, blocks, bad)
            } else {
                walk!("mov {t}, ", "\nshr {t}, cl", "sub byte ptr [{bias} + {t}], 1\nadc {bad:e}, 0";
                      self, blocks, bad)
            }
        };
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
        let mut bad = 0u32;
        // SAFETY: the bytes are committed and ours, says the caller; BMI2 is asked for.
        let done = unsafe {
            if bmi2() {
                walk!("shrx {t}, ", ", rcx", "mov byte ptr [{bias} + {t}], 1"; self, blocks, bad)
            } else {
                walk!("mov {t}, ", "\nshr {t}, cl", "mov byte ptr [{bias} + {t}], 1"; self, blocks, bad)
            }
        };
        let _ = bad;
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
        if count == 0 {
            return;
        }
        // One a round, which the compiler's own loop is not: one branch that is guessed wrong, not three.
        // SAFETY: the bytes are committed and ours, says the caller; so is the room.
        unsafe {
            asm!(
                "2:",
                "mov {t}, [{from} + {i} * 8]",
                "mov [{to} + {i} * 8], {t}",
                "shr {t}, cl",
                "mov byte ptr [{bias} + {t}], 1",
                "inc {i}",
                "jne 2b",
                t = out(reg) _,
                from = in(reg) blocks.wrapping_add(count),
                to = in(reg) to.wrapping_add(count),
                i = inout(reg) -(count as isize) => _,
                bias = in(reg) self.bias,
                in("rcx") self.shift as usize,
                options(nostack)
            );
        }
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

/// Turns of magazines before the processor is asked for BMI2: CPUID traps in virtual machines, 4 us
/// a leaf, which a small program never earns back.
const ASK_AFTER: u8 = 64;
const NO: u8 = 254;
const YES: u8 = 255;

/// Whether the processor is known to have BMI2; asked once.
#[inline(always)]
fn bmi2() -> bool {
    let known = BMI2.load(Relaxed);
    if known < NO { ask_bmi2(known) } else { known == YES }
}

/// The answer, or how often it was wanted. Racing threads ask later or twice, no more.
#[unsafe(link_section = ".data")]
static BMI2: AtomicU8 = AtomicU8::new(0);

#[cold]
fn ask_bmi2(wanted: u8) -> bool {
    if wanted < ASK_AFTER {
        BMI2.store(wanted + 1, Relaxed);
        return false;
    }
    // Leaf 7 exists where leaf 0 says so.
    #[allow(unused_unsafe, reason = "these two are safe only in versions of Rust after the least")]
    // SAFETY: every x86-64 processor has the instruction.
    let has = unsafe { __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & (1 << 8) != 0 };
    BMI2.store(if has { YES } else { NO }, Relaxed);
    has
}
