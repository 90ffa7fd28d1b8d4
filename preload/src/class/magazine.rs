//! Magazines: the pages of pointers a thread's malloc pops from and its free pushes to.
//!
//! A magazine is a 32-byte head followed by an array of block addresses, cut from order-0 pages
//! in one of six kinds (12 to 508 blocks; 128 bytes to 4 KiB). While it is *loaded* or
//! *filling* only its owner's table slot knows how full it is; the head's `len` is written when
//! it leaves the slot. The batch behind one cookie is a whole magazine: after the grace period
//! it becomes, untouched, the next loaded one, so reclaim does no work per block. That it takes the
//! cookie after its last block, gets no block any more and is opened only when the cookie has elapsed,
//! is the engine's type-state: a waiting one is an [`rcu::Stamped`], which shows nothing of its blocks.
//!
//! A magazine belongs to exactly one of: a table slot, a thread's queue, a depot, the store of
//! empties. The handle is moved from the one to the other and cannot be copied; nothing here is atomic.
//! Pages of pointers are type-stable: once cut they stay magazines.

use crate::class::size_class::{CLASSES, Class};
use crate::constants::LINE;
use core::arch::asm;
use core::ptr::NonNull;
use rcu::{Batch, Cookie};

/// How many kinds (array lengths) there are.
pub const KINDS: usize = 6;
/// Bytes of a magazine's head.
pub const HEAD_BYTES: usize = core::mem::size_of::<Head>();
/// Words of a magazine of each kind, head included: page-cut, so powers of two.
const KIND_WORDS: [usize; KINDS] = [16, 32, 64, 128, 256, 512];
const HEAD_WORDS: usize = HEAD_BYTES / 8;
/// Most bytes of blocks in one magazine (tune): past 64 KiB the L1 misses outweigh the turns saved
/// (spike.md), and a thread has a few magazines of every class it uses, so 64 KiB cost twice the
/// memory of 32 KiB for no time that could be measured.
const MAGAZINE_BYTES: usize = 32 * 1024;
/// Largest block, in bytes, for which each kind is used (tune): each doubling halves what a turn costs each block, as
/// long as what circulates stays near. With 508 blocks of 64 bytes in place of 252 a tight pair is 1.07 times as fast
/// and producer/consumer 1.1 times; with 124 in place of 252 it is 0.93.
const USED_UP_TO: [usize; KINDS] = [usize::MAX, usize::MAX, usize::MAX, usize::MAX, 128, 64];

/// Blocks of any magazine under the fuzzer, whose inputs are short.
const FUZZED: usize = 4;

/// What precedes the array of blocks.
#[repr(C, align(32))]
struct Head {
    /// Link of whatever list it is on.
    next: Option<Magazine>,
    /// Grace-period cookie, valid while it waits.
    cookie: Cookie,
    /// When it was stamped, in milliseconds of the coarse clock (wraps after 49 days).
    stamped_ms: u32,
    /// Blocks inside, valid while in no table slot.
    len: u16,
    kind: u8,
    /// The word before the first block: never equal to a block's address.
    _fence: u64,
}

/// A handle on one magazine: whoever holds it owns it. What `&self` allows is harmless while the
/// magazine waits.
#[derive(PartialEq, Eq)]
#[repr(transparent)]
pub struct Magazine(NonNull<Head>);

// SAFETY: a handle is an address of type-stable memory; what it may be used for is said at each
// method.
unsafe impl Send for Magazine {}

impl Magazine {
    /// Writes an empty magazine's head at `at`.
    ///
    /// # Safety
    /// `at` starts `KIND_WORDS[kind] * 8` writable bytes aligned to 32 that nobody else uses.
    pub unsafe fn create(at: NonNull<u8>, kind: usize) -> Magazine {
        let head = at.cast::<Head>();
        // SAFETY: the caller gives this memory for a head and its array.
        unsafe {
            head.write(Head {
                next: None,
                cookie: Cookie::from_bits(0),
                stamped_ms: 0,
                len: 0,
                kind: kind as u8,
                _fence: 0,
            });
        }
        Magazine(head)
    }

    /// The magazine whose array starts at `low`; `None` for the null of an unused slot.
    ///
    /// # Safety
    /// `low` is null or came from [`Magazine::into_low`], whose owner takes the magazine
    /// out of where it put the address.
    #[inline(always)]
    pub unsafe fn of_low(low: *mut usize) -> Option<Magazine> {
        // SAFETY: a non-null `low` lies one head past the head.
        NonNull::new(low).map(|low| Magazine(unsafe { low.sub(HEAD_WORDS) }.cast()))
    }

    /// Where the array starts; the table slot that it goes to takes the handle's place.
    #[inline(always)]
    pub fn into_low(self) -> *mut usize {
        self.low()
    }

    #[inline(always)]
    pub(super) fn low(&self) -> *mut usize {
        // SAFETY: the array follows the head in the same piece of memory.
        unsafe { self.0.as_ptr().add(1).cast() }
    }

    /// Kind: index into the array lengths.
    #[inline(always)]
    pub fn kind(&self) -> usize {
        self.head().kind as usize
    }

    /// How many blocks of `class` it takes.
    #[inline(always)]
    pub fn capacity(&self, class: Class) -> usize {
        capacity(self.kind(), class)
    }

    /// Blocks inside (while it is in no slot).
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.head().len as usize
    }

    /// Whether none is (while it is in no slot).
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets how many blocks are inside.
    #[inline(always)]
    pub fn set_len(&mut self, len: usize) {
        self.head_mut().len = len as u16;
    }

    /// The blocks inside.
    #[inline(always)]
    pub fn blocks(&mut self) -> &mut [usize] {
        // SAFETY: `len` never exceeds the array; the holder of the handle owns the array.
        unsafe { core::slice::from_raw_parts_mut(self.low(), self.len()) }
    }

    /// Asks for the first line of every block, which the program is about to write: what has waited for a
    /// grace period is cold, and asking at once costs one miss instead of one a block. Blocks that lie
    /// two and more to a line come by themselves.
    #[inline(always)]
    pub fn fetch_ahead(&mut self, class: Class) {
        if class.size() <= LINE {
            return;
        }
        for &block in &*self.blocks() {
            // SAFETY: a hint that changes nothing, never faults and, on a processor that does not know it, does nothing.
            unsafe { asm!("prefetchw byte ptr [{}]", in(reg) block, options(nostack, preserves_flags)) };
        }
    }

    /// Takes all the blocks of `from`, of the same class, if they fit; says whether they did.
    pub fn pour(&mut self, from: &mut Magazine, class: Class) -> bool {
        let (have, more) = (self.len(), from.len());
        let Some(free) = self.room(class).get_mut(have..have + more) else { return false };
        free.copy_from_slice(from.blocks());
        self.set_len(have + more);
        from.set_len(0);
        true
    }

    /// The whole array, as room for blocks of `class`.
    #[inline(always)]
    pub fn room(&mut self, class: Class) -> &mut [usize] {
        // SAFETY: the capacity never exceeds the array; pages of pointers are always
        // initialised memory (zero or an old address).
        unsafe { core::slice::from_raw_parts_mut(self.low(), self.capacity(class)) }
    }

    /// Notes when it is stamped.
    #[inline(always)]
    pub fn set_stamped_ms(&mut self, now_ms: u32) {
        self.head_mut().stamped_ms = now_ms;
    }

    /// When it was stamped.
    #[inline(always)]
    pub fn stamped_ms(&self) -> u32 {
        self.head().stamped_ms
    }

    /// Takes what is linked behind it.
    #[inline(always)]
    pub(super) fn take_next(&mut self) -> Option<Magazine> {
        self.head_mut().next.take()
    }

    /// Links `next` behind it.
    #[inline(always)]
    pub(super) fn set_next(&mut self, next: Option<Magazine>) {
        self.head_mut().next = next;
    }

    /// A second handle, for a list's other end.
    #[inline(always)]
    pub(super) fn alias(&self) -> Magazine {
        Magazine(self.0)
    }

    #[inline(always)]
    fn head(&self) -> &Head {
        // SAFETY: pages of pointers are type-stable and the holder owns this one.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut Head {
        // SAFETY: as above.
        unsafe { self.0.as_mut() }
    }
}

impl Batch for Magazine {
    #[inline(always)]
    fn entries(&self) -> u32 {
        self.len() as u32
    }

    #[inline(always)]
    fn cookie(&self) -> Cookie {
        self.head().cookie
    }

    #[inline(always)]
    fn set_cookie(&mut self, cookie: Cookie) {
        self.head_mut().cookie = cookie;
    }
}

/// Blocks of `class` a magazine of `kind` takes: its array, at most [`MAGAZINE_BYTES`] of them,
/// and at least two.
#[inline(always)]
pub const fn capacity(kind: usize, class: Class) -> usize {
    CAPACITIES[class.index()][kind] as usize
}

/// [`capacity`], computed: a division at each turn would be felt.
static CAPACITIES: [[u16; KINDS]; CLASSES] = {
    let mut capacities = [[0; KINDS]; CLASSES];
    let mut index = 0;
    while index < CLASSES {
        let size = Class::new(index).size();
        let by_bytes = MAGAZINE_BYTES / size;
        let most = if cfg!(fuzzing) && FUZZED < by_bytes { FUZZED } else { by_bytes };
        let most = if most < 2 { 2 } else { most };
        let (mut kind, mut words) = (0, 0);
        while kind < KINDS {
            if size <= USED_UP_TO[kind] {
                words = KIND_WORDS[kind] - HEAD_WORDS;
            }
            capacities[index][kind] = if most < words { most } else { words } as u16;
            kind += 1;
        }
        index += 1;
    }
    capacities
};

/// The largest kind that is of any use to `class`.
pub const fn largest_kind(class: Class) -> usize {
    let mut kind = 0;
    while kind + 1 < KINDS && capacity(kind, class) < capacity(kind + 1, class) {
        kind += 1;
    }
    kind
}

/// Bytes of a magazine of `kind`.
pub const fn kind_bytes(kind: usize) -> usize {
    KIND_WORDS[kind] * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_bounded_by_bytes_and_at_least_two() {
        for i in 0..CLASSES {
            let class = Class::new(i);
            for kind in 0..KINDS {
                let capacity = capacity(kind, class);
                assert!(capacity >= 2 && capacity * class.size() <= 2 * MAGAZINE_BYTES);
                assert!((capacity + HEAD_WORDS) * 8 <= kind_bytes(kind));
            }
        }
    }
}
