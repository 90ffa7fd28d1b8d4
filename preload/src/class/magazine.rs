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
use crate::constants::{
    FEW_THREADS, FILLING_KIND, FIRST_BYTES, FUZZED_BLOCKS, KIND_UP_TO, KIND_WORDS, LEAST_BUSY, MAGAZINE_BYTES,
};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use rcu::Cookie;

/// How many kinds (array lengths) there are.
pub const KINDS: usize = KIND_WORDS.len();
/// Bytes of a magazine's head.
pub const HEAD_BYTES: usize = core::mem::size_of::<Head>();
const HEAD_WORDS: usize = HEAD_BYTES / 8; // (given) as a unit

/// What precedes the array of blocks.
#[repr(C, align(32))]
struct Head {
    /// Link of whatever list it is on.
    next: Option<Magazine>,
    /// Grace-period cookie, valid while it waits.
    cookie: Cookie,
    /// When its group was sealed, in milliseconds of the coarse clock (wraps after 49 days).
    stamped_ms: u32,
    /// Blocks inside, valid while in no table slot.
    len: u16,
    kind: u8,
    /// Index of the class whose blocks it holds; any, while it is empty.
    class: u8,
    /// The group behind this one, of the first magazine of a group that is in a queue. The word before the
    /// first block must never equal a block's address, and a magazine's never does.
    next_group: Option<Magazine>,
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
                class: 0,
                next_group: None,
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

    /// How many blocks its array takes.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        array_len(self.kind())
    }

    /// The class whose blocks it holds.
    #[inline(always)]
    pub fn class(&self) -> Class {
        Class::new(self.head().class as usize)
    }

    /// From now on it holds blocks of `class`.
    #[inline(always)]
    pub fn set_class(&mut self, class: Class) {
        self.head_mut().class = class.index() as u8;
    }

    /// Bytes of the blocks inside.
    #[inline(always)]
    pub fn bytes(&self) -> usize {
        self.len() * self.class().size()
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

    /// The blocks inside, to look at.
    pub fn peek_blocks(&self) -> &[usize] {
        // SAFETY: as in `blocks`.
        unsafe { core::slice::from_raw_parts(self.low(), self.len()) }
    }

    /// Whether `block` is inside.
    pub fn holds(&self, block: usize) -> bool {
        // SAFETY: as in `blocks`.
        unsafe { core::slice::from_raw_parts(self.low(), self.len()) }.contains(&block)
    }

    /// Takes all the blocks of `from`, of the same class, if they fit; says whether they did.
    #[inline]
    pub fn pour(&mut self, from: &mut Magazine) -> bool {
        let (have, more) = (self.len(), from.len());
        let Some(free) = self.room().get_mut(have..have + more) else { return false };
        free.copy_from_slice(from.blocks());
        self.set_len(have + more);
        from.set_len(0);
        true
    }

    /// The whole array, as room for blocks.
    #[inline(always)]
    pub fn room(&mut self) -> &mut [usize] {
        // SAFETY: the array follows the head; pages of pointers are always initialised memory (zero or an old
        // address).
        unsafe { core::slice::from_raw_parts_mut(self.low(), self.capacity()) }
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

    /// What is linked behind it, to look at.
    #[inline(always)]
    pub(super) fn next(&self) -> Option<&Magazine> {
        self.head().next.as_ref()
    }

    /// The group that is linked behind it, to look at.
    #[inline(always)]
    pub(super) fn next_group(&self) -> Option<&Magazine> {
        self.head().next_group.as_ref()
    }

    /// Takes the group that is linked behind it.
    #[inline(always)]
    pub(super) fn take_next_group(&mut self) -> Option<Magazine> {
        self.head_mut().next_group.take()
    }

    /// Links a group behind it.
    #[inline(always)]
    pub(super) fn set_next_group(&mut self, next: Option<Magazine>) {
        self.head_mut().next_group = next;
    }

    /// The cookie of the group that begins with it.
    #[inline(always)]
    pub(super) fn cookie(&self) -> Cookie {
        self.head().cookie
    }

    /// Keeps the cookie of the group that begins with it.
    #[inline(always)]
    pub(super) fn set_cookie(&mut self, cookie: Cookie) {
        self.head_mut().cookie = cookie;
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

/// Blocks that a magazine of `kind` takes.
#[inline(always)]
pub const fn array_len(kind: usize) -> usize {
    KIND_WORDS[kind] - HEAD_WORDS
}

/// Most blocks of `class` that one magazine is to take.
#[inline(always)]
pub const fn most(class: Class) -> usize {
    MOST[class.index()] as usize
}

/// Blocks of `class` in a thread's first magazine of it, and in those of classes that a thread seldom uses:
/// fewer where there are many threads, so that all of these together hold no more than they would in
/// [`FEW_THREADS`], or one block each.
#[inline(always)]
pub fn least(class: Class) -> usize {
    (usize::from(LEAST[class.index()]) >> FEWER.load(Relaxed)).max(1)
}

/// How many times `least` is halved. Relaxed: it steers.
static FEWER: AtomicU32 = AtomicU32::new(0);

/// There are so many threads now.
pub fn set_threads(threads: usize) {
    let times = threads.div_ceil(FEW_THREADS).max(1);
    FEWER.store(times.next_power_of_two().ilog2().min(u16::BITS - 1), Relaxed);
}

/// Blocks of `class` that wait in place, in a filling magazine, before the magazine is taken out: bytes are
/// bounded over all classes together (`cache/round.rs`), so the array may be long where blocks are large.
#[inline(always)]
pub fn most_filling(class: Class) -> usize {
    most(class).max(if cfg!(fuzzing) { 0 } else { array_len(FILLING_KIND) })
}

static MOST: [u16; CLASSES] = {
    let mut most = [0; CLASSES];
    let mut index = 0;
    while index < CLASSES {
        let size = Class::new(index).size();
        let mut kind = KINDS - 1;
        while size > KIND_UP_TO[kind] {
            kind -= 1;
        }
        let by_bytes = if MAGAZINE_BYTES / size > LEAST_BUSY { MAGAZINE_BYTES / size } else { LEAST_BUSY };
        let by_array = if cfg!(fuzzing) { FUZZED_BLOCKS } else { array_len(kind) };
        most[index] = if by_bytes < by_array { by_bytes } else { by_array } as u16;
        index += 1;
    }
    most
};

static LEAST: [u16; CLASSES] = {
    let mut least = [0; CLASSES];
    let mut index = 0;
    while index < CLASSES {
        let by_bytes = FIRST_BYTES / Class::new(index).size();
        let by_bytes = if by_bytes == 0 { 1 } else { by_bytes };
        least[index] = if by_bytes < array_len(0) { by_bytes } else { array_len(0) } as u16;
        if least[index] > MOST[index] {
            least[index] = MOST[index];
        }
        index += 1;
    }
    least
};

/// The smallest kind that takes `blocks`.
#[inline]
pub const fn kind_of(blocks: usize) -> usize {
    let words = blocks + HEAD_WORDS;
    let kind = words.next_power_of_two().ilog2().saturating_sub(KIND_WORDS[0].ilog2()) as usize;
    if kind < KINDS { kind } else { KINDS - 1 }
}

/// Bytes of a magazine of `kind`.
pub const fn kind_bytes(kind: usize) -> usize {
    KIND_WORDS[kind] * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_bounded_by_bytes_and_fit_their_arrays() {
        for i in 0..CLASSES {
            let class = Class::new(i);
            let (least, most) = (least(class), most(class));
            assert!(1 <= least && least <= most && most <= array_len(KINDS - 1));
            assert!(least * class.size() <= FIRST_BYTES.max(class.size()));
            assert!(most <= LEAST_BUSY || most * class.size() <= MAGAZINE_BYTES);
            assert!(array_len(kind_of(most)) >= most && array_len(kind_of(least)) >= least);
        }
    }
}
