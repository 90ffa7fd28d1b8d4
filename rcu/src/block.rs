//! Blocks of readers' cells, and the summary above them that says whom a scan has to look at.
//!
//! A [`ReaderBlock`] is memory that the embedder gives to a domain for ever: cells, dense and apart from
//! everything else, and a [`ReaderWord`] for each 32 of them. A domain's blocks only become more, so they are
//! walked without protection; a free cell is taken again lowest first, so the blocks in use stay few.
//!
//! ```text
//!   Summary       in_slot: how many bits of a block are set, or about to be   0: a scan skips the block
//!   ReaderBlock   in_group: how many of each eight words                      0: the eight words
//!   ReaderWord    32 bits "active" and 32 bits "explicit"                     both clear: the cell
//!   ReaderCell    announced: the youngest period that need not wait           read for active cells only
//! ```
//!
//! The [`Summary`] (`summary.rs`) is one cache line of the domain: a scan of two readers beside ten thousand
//! that are gone or sleep reads that line, and what belongs to the two.
//!
//! The two bits of a reader are its *state*:
//!
//! | active | explicit | the reader is | who takes it out of this state |
//! |---|---|---|---|
//! | 0 | 0 | not waited for: offline, parked, or none there | its owner, who arrives |
//! | 1 | 0 | implicit: in no section since it arrived | its owner's lock; whoever parks it |
//! | 1 | 1 | explicit: perhaps in a section | its owner, who departs; an expediter's offer |
//! | 0 | 1 | explicit, *offered leave* because it looks idle | its owner's lock or departure; who offered |
//!
//! *The state is the truth*, not a hint: a period waits for a reader if either bit is set, and for no other.
//! A reader that was not waited for announces the sequence, then sets its bit ([`ReaderBlock::arrive`]), and
//! its first section executes a fence before it reads anything; the argument at the head of `domain.rs` needs
//! no more. Each way out is one read-modify-write of one word, so a thread's lock cannot fall between the
//! question in which state it is and the answer: it leaves 10 and 01 for 11, in which nobody parks it. An
//! expediter that lost its processor in the middle harms nobody when it goes on.
//!
//! The words above are counts and no bits, because a bit above cannot be cleared safely: between the look at
//! the word below and the store above somebody may arrive. Additions commute. Who sets a bit counts first,
//! who clears one counts afterwards, so a count may be too great for a moment and is never too small.
//!
//! Traffic: who announces writes to its own cell only. The words are written when somebody comes or goes, is
//! parked or comes back; scanners of running readers read them and do not write.

use crate::cell::ReaderCell;
use crate::summary::Summary;
use crate::sync::{
    self, AtomicBool, AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    const_unless_loom,
};
use core::sync::atomic::{AtomicPtr as PlainPtr, AtomicU32 as PlainU32};

/// Readers' cells to a [`ReaderWord`].
pub const CELLS_PER_WORD: usize = 32;
/// Most cells of a block.
pub const CELLS_PER_BLOCK: usize = GROUPS * WORDS_PER_GROUP * CELLS_PER_WORD;
/// Counts of a block.
const GROUPS: usize = 8;
const WORDS_PER_GROUP: usize = 8;

/// The bit of cell number `index` in its word that says "active".
const fn active(index: usize) -> u64 {
    1 << (index % CELLS_PER_WORD)
}

/// Both bits.
const fn both(index: usize) -> u64 {
    active(index) | active(index) << CELLS_PER_WORD
}

/// The bits "active" of a word and the bits "explicit".
const fn halves(bits: u64) -> (u32, u32) {
    (bits as u32, (bits >> CELLS_PER_WORD) as u32)
}

/// Which readers of a word are waited for.
const fn waited_for(bits: u64) -> u32 {
    let (active, explicit) = halves(bits);
    active | explicit
}

/// Whom an expediter may park.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    Implicit,
    /// Those that were offered leave, by whoever offered it.
    Offered,
}

/// The summary of 32 cells, and which of them have a reader. Zero bytes are a valid one.
#[repr(C)]
pub struct ReaderWord {
    bits: AtomicU64,
    taken: AtomicU32,
}

impl Default for ReaderWord {
    fn default() -> Self {
        Self::new()
    }
}

impl ReaderWord {
    const_unless_loom! {
        /// The word of 32 cells without readers.
        #[must_use]
        pub fn new() -> ReaderWord {
            ReaderWord { bits: AtomicU64::new(0), taken: AtomicU32::new(0) }
        }
    }
}

/// Memory for readers; see [`Domain::add_block`](crate::Domain::add_block).
#[repr(C, align(64))]
pub struct ReaderBlock {
    in_group: [AtomicU32; GROUPS],
    shape: Shape,
}

/// Written when the block joins its domain, and `used` where it grows; then read only.
#[repr(C, align(64))]
struct Shape {
    /// Words in which there has been a reader: the others a scan need not look at, nor their groups.
    used: AtomicU64,
    /// The block behind it, if they share a slot.
    next: AtomicPtr<ReaderBlock>,
    given: AtomicBool,
    // Not loom's: written before the block is published.
    /// Its domain's summary, and its slot there.
    summary: PlainPtr<Summary>,
    slot: PlainU32,
    /// The number of the first cell, counted over all blocks before it.
    first: PlainU32,
    words: &'static [ReaderWord],
    cells: &'static [ReaderCell],
}

impl ReaderBlock {
    const_unless_loom! {
        /// A block of `cells` with their `words`, one for each [`CELLS_PER_WORD`], the last perhaps for
        /// fewer.
        ///
        /// # Panics
        /// If there are more words or fewer, or more than [`CELLS_PER_BLOCK`] cells.
        #[must_use]
        pub fn new(words: &'static [ReaderWord], cells: &'static [ReaderCell]) -> ReaderBlock {
            assert!(cells.len() <= CELLS_PER_BLOCK, "a block holds at most 2048 cells");
            assert!(words.len() == cells.len().div_ceil(CELLS_PER_WORD), "one word for each 32 cells");
            ReaderBlock {
                in_group: counts(),
                shape: Shape {
                    used: AtomicU64::new(0),
                    next: AtomicPtr::new(core::ptr::null_mut()),
                    given: AtomicBool::new(false),
                    summary: PlainPtr::new(core::ptr::null_mut()),
                    slot: PlainU32::new(0),
                    first: PlainU32::new(0),
                    words,
                    cells,
                },
            }
        }
    }

    /// How many readers find room in it.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.shape.cells.len()
    }

    pub(crate) fn next(&self) -> &AtomicPtr<ReaderBlock> {
        &self.shape.next
    }

    /// Marks the block as some domain's; false if it was one's already.
    pub(crate) fn give(&self) -> bool {
        !self.shape.given.swap(true, AcqRel)
    }

    pub(crate) fn first(&self) -> u32 {
        self.shape.first.load(Relaxed)
    }

    pub(crate) fn slot(&self) -> usize {
        self.shape.slot.load(Relaxed) as usize
    }

    /// Before it is published: where it will be.
    pub(crate) fn place(&self, summary: &'static Summary, slot: usize, first: u32) {
        self.shape.summary.store(core::ptr::from_ref(summary).cast_mut(), Relaxed);
        self.shape.slot.store(slot as u32, Relaxed);
        self.shape.first.store(first, Relaxed);
    }

    fn summary(&self) -> &'static Summary {
        // SAFETY: set by `place` before anybody could come here.
        unsafe { &*self.shape.summary.load(Relaxed) }
    }

    pub(crate) fn cell(&self, index: usize) -> &'static ReaderCell {
        &self.shape.cells[index]
    }

    fn word(&self, index: usize) -> &ReaderWord {
        &self.shape.words[index / CELLS_PER_WORD]
    }

    fn in_group(&self, index: usize) -> &AtomicU32 {
        &self.in_group[index / CELLS_PER_WORD / WORDS_PER_GROUP]
    }

    fn count_in(&self, index: usize) {
        self.summary().add(self.slot(), 1);
        self.in_group(index).fetch_add(1, AcqRel);
    }

    fn count_out(&self, index: usize, readers: u32) {
        // Release pairs with the acquire in `next_active`: what the readers did is passed on with their bits.
        self.in_group(index).fetch_sub(readers, AcqRel);
        self.summary().take(self.slot(), readers);
    }

    // ---- whose cell ----

    /// Takes the lowest free cell for a new reader.
    pub(crate) fn take(&'static self) -> Option<usize> {
        for (number, word) in self.shape.words.iter().enumerate() {
            let first = number * CELLS_PER_WORD;
            let mut taken = word.taken.load(Relaxed);
            loop {
                let index = first + taken.trailing_ones() as usize;
                if index >= self.capacity().min(first + CELLS_PER_WORD) {
                    break;
                }
                // Acquire pairs with the release in `free`: the last owner's writes are behind us.
                let seen = word.taken.fetch_or(1 << (index - first), Acquire);
                if seen & 1 << (index - first) == 0 {
                    // Before it arrives, as its count is, and seen by the same scans. It only grows.
                    if self.shape.used.load(Relaxed) <= number as u64 {
                        sync::raise(&self.shape.used, number as u64 + 1, AcqRel);
                    }
                    return Some(index);
                }
                taken = seen;
            }
        }
        None
    }

    /// Gives a cell back whose reader has departed.
    pub(crate) fn free(&self, index: usize) {
        self.word(index).taken.fetch_and(!(1 << (index % CELLS_PER_WORD)), Release); // pairs with `take`
    }

    // ---- who is waited for ----

    /// The reader of cell `index` is waited for from now on; `locks`: and explicit, with no offer of leave.
    // In its callers, which a short process runs as it starts.
    #[inline(always)]
    pub(crate) fn arrive(&self, index: usize, locks: bool) {
        // Before the bit: the count is never too small. A handler may come in anywhere and arrive, too.
        self.count_in(index);
        let bits = if locks { both(index) } else { active(index) };
        // Release pairs with the acquire in `active_in`: who sees the bit sees what was announced before.
        let seen = self.word(index).bits.fetch_or(bits, AcqRel);
        if seen & both(index) != 0 {
            self.count_out(index, 1);
        }
    }

    /// The reader of cell `index` holds nothing and is not waited for. By its owner.
    pub(crate) fn depart(&self, index: usize) {
        // Release pairs with the acquires in `active_in` and `next_active`, also through the changes that
        // others make behind it, which are read-modify-writes all: the sections that ended happened before.
        if self.word(index).bits.fetch_and(!both(index), AcqRel) & both(index) != 0 {
            self.count_out(index, 1);
        }
    }

    /// Clears the bits of those among `these` (of the cells from `first` on) that are in state `who`; which
    /// they were.
    pub(crate) fn park(&self, first: usize, these: u32, who: Parked) -> u32 {
        let parked = self.change(first, |bits| {
            let (active, explicit) = halves(bits);
            let parked = match who {
                Parked::Implicit => these & active & !explicit,
                Parked::Offered => these & explicit & !active,
            };
            (parked, bits & !(u64::from(parked) | u64::from(parked) << CELLS_PER_WORD))
        });
        if parked != 0 {
            self.count_out(first, parked.count_ones());
        }
        parked
    }

    /// Offers leave to those explicit readers among `these`.
    pub(crate) fn offer(&self, first: usize, these: u32) {
        self.change(first, |bits| {
            let (active, explicit) = halves(bits);
            let offered = these & active & explicit;
            (offered, bits & !u64::from(offered))
        });
    }

    /// Which readers have been offered leave, of the cells from `first` on.
    pub(crate) fn offered_in(&self, first: usize) -> u32 {
        let (active, explicit) = halves(self.word(first).bits.load(Relaxed));
        explicit & !active
    }

    /// Changes a word as `how` says, which also gives what it changes: 0 for nothing.
    fn change(&self, first: usize, how: impl Fn(u64) -> (u32, u64)) -> u32 {
        let word = self.word(first);
        let mut seen = word.bits.load(Relaxed);
        loop {
            let (what, next) = how(seen);
            if what == 0 {
                return 0;
            }
            match word.bits.compare_exchange(seen, next, AcqRel, Relaxed) {
                Ok(_) => return what,
                Err(now) => seen = now,
            }
        }
    }

    /// The first word from number `word` on with anybody who is waited for: its number, its bits, and how
    /// many words and counts were looked at.
    pub(crate) fn next_active(&self, word: usize) -> (Option<(usize, u32)>, u32) {
        let mut looks = 0;
        let words = self.shape.used.load(Acquire) as usize; // pairs with `take`
        let mut word = word;
        while word < words {
            looks += 1;
            // Acquire pairs with `count_out`.
            if word.is_multiple_of(WORDS_PER_GROUP)
                && self.in_group[word / WORDS_PER_GROUP].load(Acquire) == 0
            {
                word += WORDS_PER_GROUP;
                continue;
            }
            let bits = self.active_in(word * CELLS_PER_WORD);
            if bits != 0 {
                return (Some((word, bits)), looks);
            }
            word += 1;
        }
        (None, looks)
    }

    /// Which readers are waited for, of the cells from `first` on.
    pub(crate) fn active_in(&self, first: usize) -> u32 {
        waited_for(self.word(first).bits.load(Acquire)) // pairs with `arrive` and `depart`
    }

    /// Whether the reader of cell `index` is waited for.
    pub(crate) fn is_active(&self, index: usize) -> bool {
        self.word(index).bits.load(Acquire) & both(index) != 0
    }

    /// Whether it is explicit and has no offer of leave: what a section's first access needs.
    pub(crate) fn is_explicit(&self, index: usize) -> bool {
        self.word(index).bits.load(Relaxed) & both(index) == both(index)
    }

    /// Whether it is explicit, also if leave is on offer: where that was not heard, it may be in a section.
    pub(crate) fn may_read(&self, index: usize) -> bool {
        let (_, explicit) = halves(self.word(index).bits.load(Relaxed) & both(index));
        explicit != 0
    }

    /// In the only thread of a forked child: nobody but the reader of cell `survivor` is left.
    pub(crate) fn forget_all_but(&self, survivor: Option<usize>) {
        for (number, word) in self.shape.words.iter().enumerate() {
            let own = survivor.filter(|index| index / CELLS_PER_WORD == number);
            let bits = own.map_or(0, both);
            let gone = word.bits.fetch_and(bits, Relaxed) & !bits;
            word.taken.fetch_and(bits as u32, Relaxed);
            // Not the number of bits that are left: the survivor may have forked in a handler that
            // interrupted it while it arrived. What others had counted and not set stays counted, which costs
            // a look.
            self.count_out(number * CELLS_PER_WORD, waited_for(gone).count_ones());
        }
        if survivor.is_none() {
            self.in_group.iter().for_each(|count| count.store(0, Relaxed));
        }
    }
}

#[cfg(not(loom))]
const fn counts() -> [AtomicU32; GROUPS] {
    [const { AtomicU32::new(0) }; GROUPS]
}

#[cfg(loom)]
fn counts() -> [AtomicU32; GROUPS] {
    core::array::from_fn(|_| AtomicU32::new(0))
}
