//! The readers of a domain: how one joins, whom a scan looks at and where it goes on, and what a fork leaves.
//!
//! A scan walks the blocks in use, in the blocks the words, in the words the cells whose bit is set
//! (`block.rs`). It stops at the first reader that is not settled, the *laggard*, which the domain remembers
//! and looks at first next time: an announcement that cannot be the last one costs two loads. When the
//! laggard itself announces, the next scan goes on where that one stopped, if the laggard's `reached` names
//! the period: then somebody found everybody before it settled, in this very period. So a period costs as
//! many looks as there are readers, in whatever order they announce. The hint may be wrong; `reached` is
//! never.

use crate::block::{CELLS_PER_WORD, ReaderBlock};
use crate::cell::ReaderCell;
use crate::clock;
use crate::cookie::in_flight;
use crate::domain::Domain;
use crate::reader::Reader;
use crate::summary::SLOTS;
use crate::sync::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// Steps of one scan, cells, words and counts, from which on it is worth a store to remember where it
/// stopped: what a few running readers in the first words cost is less than that.
const WORTH_NOTING: u32 = if cfg!(loom) { 1 } else { 8 };

/// [`Domain::register`] found a reader in every cell there is: give the domain another block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl core::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("every reader's cell of this domain is taken")
    }
}

impl core::error::Error for NoRoom {}

impl Domain {
    /// Gives the domain room for more readers, for ever. Any thread, any time, also while others register.
    /// False, and nothing done, if the block was given to a domain before.
    pub fn add_block(&'static self, block: &'static ReaderBlock) -> bool {
        if !block.give() {
            return false;
        }
        let (mut slot, mut link, mut first) = (0, &self.blocks[0], 0);
        loop {
            block.place(&self.summary, slot, first);
            // Release pairs with the acquire in `block_at`: the block is whole when it is seen.
            let this = core::ptr::from_ref(block).cast_mut();
            match link.compare_exchange(core::ptr::null_mut(), this, Release, Acquire) {
                Ok(_) => return true,
                Err(taken) => {
                    // SAFETY: not null, so a `&'static ReaderBlock` that was added.
                    let taken = unsafe { &*taken };
                    first = taken.first() + taken.capacity() as u32;
                    if slot + 1 < SLOTS {
                        slot += 1;
                        link = &self.blocks[slot];
                    } else {
                        link = taken.next();
                    }
                }
            }
        }
    }

    fn blocks(&self) -> impl Iterator<Item = &'static ReaderBlock> {
        let behind = |block: &&'static ReaderBlock| match block.slot() + 1 {
            SLOTS => block_at(block.next()),
            slot => block_at(&self.blocks[slot]),
        };
        core::iter::successors(block_at(&self.blocks[0]), behind)
    }

    /// The first block of a slot from `slot` on, if anybody there is waited for.
    fn block_from(&self, slot: usize) -> Option<&'static ReaderBlock> {
        match self.summary.next_slot(slot) {
            SLOTS => None,
            slot => block_at(&self.blocks[slot]),
        }
    }

    fn block_behind(&self, block: &'static ReaderBlock) -> Option<&'static ReaderBlock> {
        match block.slot() + 1 {
            SLOTS => block_at(block.next()),
            // Slots fill in order: behind one without a block there is none, and no count need be looked at.
            slot => block_at(&self.blocks[slot]).and_then(|_| self.block_from(slot)),
        }
    }

    /// Registers a reader, online, not in a section. By the thread itself or, better, by its creator
    /// before it runs.
    ///
    /// `tid` names the thread in messages and stall reports; 0 where it is not known yet.
    ///
    /// # Errors
    /// [`NoRoom`] if every cell of every block has a reader.
    pub fn register(&'static self, tid: u32) -> Result<Reader, NoRoom> {
        let reader = self.register_offline(tid)?;
        // The fence of the reader's first section also stands between its bit and what it reads.
        reader.cell().come_online(false);
        Ok(reader)
    }

    /// As `register`; nobody waits for it yet.
    // Where its callers are: a short process runs it as it starts.
    #[inline(always)]
    pub(crate) fn register_offline(&'static self, tid: u32) -> Result<Reader, NoRoom> {
        let taken = self.blocks().find_map(|block| block.take().map(|index| (block, index)));
        let (block, index) = taken.ok_or(NoRoom)?;
        let cell = block.cell(index);
        cell.claim(self, block, index, tid);
        // SAFETY: just registered, and the caller is its owner until it hands it on.
        Ok(unsafe { Reader::new(cell) })
    }

    /// Installs what a thread's first `read_lock` calls before the section begins: the embedder's
    /// chance to leave a mode that knows no readers. Runs wherever `read_lock` does, in a signal
    /// handler too.
    pub fn set_first_lock_hook(&self, hook: fn()) {
        // Release pairs with the acquire in `run`.
        self.settings.first_lock_hook.store(hook as *mut (), Release);
    }

    /// Installs what runs behind each outermost `read_unlock` of a reader that executes a fence at each
    /// outermost lock: of every reader where membarrier is not used
    /// ([`init_without_membarrier`](Domain::init_without_membarrier)). For embedders that provoke what comes
    /// of using a reference after its section. Runs wherever `read_unlock` does, in a signal handler too.
    pub fn set_unlock_hook(&self, hook: fn()) {
        // Release pairs with the acquire in `run`.
        self.settings.unlock_hook.store(hook as *mut (), Release);
    }

    pub(crate) fn on_first_lock(&self) {
        run(&self.settings.first_lock_hook);
    }

    pub(crate) fn on_unlock(&self) {
        run(&self.settings.unlock_hook);
    }

    /// The readers that `period` has to wait for, from `from` on.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    pub(crate) fn lagging(&self, period: u64, from: Option<&'static ReaderCell>) -> Lagging<'_> {
        let block = from.map_or_else(|| self.block_from(0), |cell| Some(cell.block()));
        let mut lagging = Lagging { domain: self, period, block, word: 0, rest: 0, steps: 0 };
        if let Some(cell) = from {
            let (word, bit) = (cell.index() / CELLS_PER_WORD, cell.index() % CELLS_PER_WORD);
            lagging.word = word + 1;
            lagging.rest = cell.block().active_in(word * CELLS_PER_WORD) & u32::MAX << bit;
        }
        lagging
    }

    /// A reader that `period` has to wait for. Begins with the fence that the heads of `domain.rs` and of
    /// this file lean on.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    pub(crate) fn laggard_of(&self, period: u64) -> Option<&'static ReaderCell> {
        fence(SeqCst);
        // Acquire: the cell knows its place in its block.
        // SAFETY: the hint is null or a cell of a block, and blocks are for ever.
        let hint = unsafe { self.scans.laggard.load(Acquire).as_ref() };
        if let Some(cell) = hint
            && !cell.settled(period)
        {
            return Some(cell);
        }
        let from = hint.filter(|cell| cell.is_reached(period));
        let mut lagging = self.lagging(period, from);
        let laggard = lagging.next()?;
        if from.is_some() || lagging.steps > WORTH_NOTING {
            // Release: with the fence above, what made those before it settled is passed on.
            laggard.others.reached.store(period, Release);
        }
        let this = core::ptr::from_ref(laggard).cast_mut();
        if self.scans.laggard.load(Relaxed) != this {
            self.scans.laggard.store(this, Release);
        }
        Some(laggard)
    }

    /// A cell before which every other is settled for `period`, if one is known.
    pub(crate) fn resume_point(&self, period: u64) -> Option<&'static ReaderCell> {
        // SAFETY: as in `laggard_of`.
        unsafe { self.scans.laggard.load(Acquire).as_ref() }.filter(|cell| cell.is_reached(period))
    }

    /// Call it first thing in the child of a fork, in its only thread: the other threads' readers are
    /// gone, whatever they held. `survivor` is the forking thread's own reader; its section, if it is
    /// in one, stays open.
    ///
    /// # Safety
    /// No other thread of this process uses the domain yet, and the child neither uses nor drops a copy of
    /// any other `Reader`: its cell may soon be somebody else's.
    pub unsafe fn after_fork_in_child(&self, survivor: Option<&Reader>) {
        let survivor = survivor.map(Reader::cell);
        for block in self.blocks() {
            let own = survivor.filter(|cell| core::ptr::eq(cell.block(), block));
            block.forget_all_but(own.map(ReaderCell::index));
        }
        if survivor.is_none() {
            self.summary.clear();
        }
        if let Some(own) = survivor {
            own.set_tid(clock::thread_id());
        }
        self.scans.gate.0.store(0, Relaxed);
        let sequence = self.sequence(Relaxed);
        if in_flight(sequence) {
            self.try_complete(sequence);
        } else if self.edges.needed.load(Relaxed) > sequence {
            // Whoever was about to begin what somebody was promised is gone.
            self.start(sequence);
        }
    }
}

/// Runs what was installed, if anything was.
fn run(hook: &core::sync::atomic::AtomicPtr<()>) {
    let hook = hook.load(Acquire);
    if !hook.is_null() {
        // SAFETY: stored by one of the functions above from a function pointer of this type.
        let hook: fn() = unsafe { core::mem::transmute(hook) };
        hook();
    }
}

fn block_at(link: &AtomicPtr<ReaderBlock>) -> Option<&'static ReaderBlock> {
    // SAFETY: null or a `&'static ReaderBlock` that was added. Acquire pairs with `add_block`.
    unsafe { link.load(Acquire).as_ref() }
}

impl ReaderCell {
    /// True if all cells before this one were found settled for `period`.
    ///
    /// Each by a look that was made in this period, behind the fence of whoever looked: all that the argument
    /// at the head of `domain.rs` asks of a look. A reader that arrives in a cell before this one later was
    /// not there when somebody looked, so what its first section reads lies behind that look.
    fn is_reached(&self, period: u64) -> bool {
        self.others.reached.load(Acquire) == period // pairs with `laggard_of`
    }
}

/// Those readers of one word that a period has to wait for.
pub(crate) struct LaggingWord {
    pub(crate) block: &'static ReaderBlock,
    /// The number of the word's first cell.
    pub(crate) first: usize,
    /// A bit for each.
    pub(crate) these: u32,
}

impl LaggingWord {
    /// Those of them for whom `asked` says yes.
    pub(crate) fn filter(&self, asked: impl Fn(&ReaderCell) -> bool) -> u32 {
        self.cells().filter(|(_, cell)| asked(cell)).fold(0, |those, (bit, _)| those | bit)
    }

    /// Each with its bit.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (u32, &'static ReaderCell)> {
        let (block, first, mut rest) = (self.block, self.first, self.these);
        core::iter::from_fn(move || {
            let number = (rest != 0).then(|| rest.trailing_zeros())?;
            rest &= rest - 1;
            Some((1 << number, block.cell(first + number as usize)))
        })
    }
}

/// Walks the readers that are waited for and have not announced a period.
pub(crate) struct Lagging<'a> {
    domain: &'a Domain,
    period: u64,
    block: Option<&'static ReaderBlock>,
    /// The word to look at next, and the readers that are left of the one before it.
    word: usize,
    rest: u32,
    /// Cells, words and counts looked at.
    steps: u32,
}

impl Lagging<'_> {
    /// The next word with such readers, all of them at once.
    pub(crate) fn next_word(&mut self) -> Option<LaggingWord> {
        while let Some(block) = self.block {
            let mut word =
                LaggingWord { block, first: self.word.saturating_sub(1) * CELLS_PER_WORD, these: self.rest };
            self.rest = 0;
            // The word was read before: see `ReaderCell::settled`.
            word.these = word.filter(|cell| !cell.has_announced(self.period));
            self.go_on(block);
            if word.these != 0 {
                return Some(word);
            }
        }
        None
    }

    /// To the next word in which somebody is waited for.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_threads"))]
    fn go_on(&mut self, block: &'static ReaderBlock) {
        let (found, steps) = block.next_active(self.word);
        self.steps += steps;
        match found {
            Some((word, bits)) => (self.word, self.rest) = (word + 1, bits),
            None => (self.block, self.word) = (self.domain.block_behind(block), 0),
        }
    }
}

impl Iterator for Lagging<'_> {
    type Item = &'static ReaderCell;

    fn next(&mut self) -> Option<&'static ReaderCell> {
        while let Some(block) = self.block {
            while self.rest != 0 {
                let bit = self.rest.trailing_zeros() as usize;
                let cell = block.cell((self.word - 1) * CELLS_PER_WORD + bit);
                self.rest &= self.rest - 1;
                self.steps += 1;
                // The word was read before: see `ReaderCell::settled`.
                if !cell.has_announced(self.period) {
                    return Some(cell);
                }
            }
            self.go_on(block);
        }
        None
    }
}
