//! The thread cache: everything of the heap that belongs to one thread.
//!
//! Type-stable memory, two pages, which read as zero while nobody has it and are used by another thread when
//! its own has ended. The allocation table is
//! at its start, so TLS word 0 is the cache's address too. Zero bytes are a valid unused cache.
//!
//! Where the blocks of a class can be, in this cache:
//!
//! ```text
//!   loaded    alloc slot   malloc pops; solo: free pushes, too      marked out
//!   warm      one magazine, full or empty, next to a local slot     marked out
//!   filling   defer slot   free pushes                              marked out, but for what waits in place
//!   open      the group that is being collected                     marked in
//!   waiting   shelf, in groups behind a cookie each, oldest first   marked in
//!   full      shelf, reusable                                       marked in
//! ```
//!
//! Large blocks: `freed`, the batch being filled, and those on the shelf that are ready (`ready.rs`).
//!
//! Only the owner touches it, except: the registry's words; the shelf, which others may open; the
//! counters and tops, which statistics read; and all of it in the child of a fork, whose other
//! threads are gone.

use crate::cache::ladder::{self, Step};
use crate::cache::mode;
use crate::cache::seats::Seat;
use crate::cache::shares::Loan;
use crate::cache::shelf::Shelf;
use crate::cache::stock::{self, Stock};
use crate::cache::table::Table;
use crate::class::backlog::{self, Ledger};
use crate::class::empties;
use crate::class::group::Group;
use crate::class::in_place::Round;
use crate::class::large_batch::Freed;
use crate::class::lists::Stack;
use crate::class::magazine::{KINDS, Magazine, least, most};
use crate::class::size_class::{CLASSES, Class};
use crate::constants::{
    CACHE_BYTES, CLASS_PART, CLOCK_OFTEN, CLOCK_SELDOM, CLOCK_TURNS, MS, PAGE, SPARE_MAGAZINES, TABLE_WORDS,
};
use crate::os::tls;
use crate::page::cache::PageCache;
use crate::page::quarter::Quarter;
use crate::page::reserve;
use core::marker::PhantomPinned;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use rcu::{Reader, ReaderCell};

/// The coarse clock before it was looked at.
const NEVER: u32 = 0; // (given) as an encoding

/// What a thread is asked to do at its next slow path: a set of bits in its cache.
pub mod ask {
    /// Start again with the smallest magazines and no spare ones.
    pub const SMALL: u32 = 1;
    /// Give away everything it holds.
    pub const EMPTY: u32 = 2;
}

/// What a thread keeps for one class beside its slots.
#[repr(C)]
pub struct ClassState {
    /// Full (not looked at since it left the slot) or empty: `len` says which.
    pub warm: Option<Magazine>,
    /// Blocks the next magazine may take; 0 is the [least](least).
    pub quota: u16,
    /// malloc has found its magazine empty since the classes were last looked through (`leave.rs`).
    pub is_used: bool,
    /// What the next block is a sample for (`sample.rs`).
    pub due: u8,
    /// Blocks that the thread freed in its last rounds (`round.rs`).
    pub flow: u16,
    /// The thread's `clock` when a magazine of the class was last turned.
    pub seen: u32,
}

/// One thread's part of the heap.
#[repr(C, align(64))]
pub struct ThreadCache {
    /// What malloc pops from. First: its address is the cache's.
    pub alloc: Table,
    /// The thread as the grace-period engine sees it: its cell, which lies among other threads' and apart
    /// from all caches, so that scans touch no cache. Null while the cache has no thread; behind the table,
    /// where the tables of threads without a cache have a zero.
    pub reader: AtomicPtr<ReaderCell>,
    // What a thread that hardly allocates touches shares the first page with the first slots.
    /// Empty magazines by kind.
    pub spares: [Stack; KINDS],
    /// Order-0 pages.
    pub pages: PageCache,
    /// Turned magazines that are not sealed yet.
    pub open_group: Group,
    /// Bytes of their blocks, ...
    pub open_bytes: usize,
    /// ... and what they count for on the way to being sealed.
    pub open_charge: usize,
    /// What waits in filling magazines, ...
    pub round: Round,
    /// ... and what may still be freed, in bytes, until the next round is due.
    pub credit: usize,
    /// What a round has beyond what every thread's has.
    pub loan: Loan,
    /// Classes whose filling magazines have got some since they were last empty when a round began.
    pub filling: u64,
    /// Classes of which a magazine has joined a group since then.
    pub joined: u64,
    /// Large blocks freed since the last batch of them was closed.
    pub freed: Freed,
    /// This thread's part of the account of deferred bytes.
    pub ledger: Ledger,
    /// Slow paths until the clock is looked at. Others set it to 0 to have `asked` looked at soon; if
    /// the owner's own store wins, it looks a little later.
    pub ticks: AtomicU32,
    /// What a scan asks of the owner ([`ask`]). Set by anybody.
    pub asked: AtomicU32,
    /// Slow paths from one look at the clock to the next, at most [`CLOCK_TURNS`].
    pace: u32,
    /// The coarse clock when it was last looked at, in milliseconds.
    pub now_ms: u32,
    /// Bytes carved since the classes were last looked through (`leave.rs`).
    pub carved: usize,
    /// When partial magazines were last retired.
    pub swept_ms: u32,
    /// The decay period in which the thread last looked at the clock, and how often it did.
    pub looks: (u32, u32),
    /// Rounds of thread-exit destructors seen.
    pub rounds: u32,
    /// Bytes of turned magazines, wrapping.
    pub clock: u32,
    /// Blocks that left `filling` and local slots by a turn.
    pub retired: u64,
    /// Blocks that were loaded by a turn.
    pub loaded: u64,
    /// Where this thread's TLS word 1 lies, once both words name the cache; else 0.
    pub free_word: AtomicUsize,
    /// Where the frame of the slow path that the thread has under way has its word; else 0. Owner only.
    pub under_way: AtomicUsize,
    /// Where the frame stands that keeps promises to the system (`page/promise.rs`), or stood; else 0. Owner
    /// only.
    pub leaving: AtomicUsize,
    /// Registry: its seat, while it is taken.
    pub seat: AtomicPtr<Seat>,
    /// Number of its seat.
    pub number: usize,
    /// Vacant: the next one.
    pub next_vacant: AtomicPtr<ThreadCache>,
    /// Vacant: bytes of what it holds.
    pub vacant_bytes: AtomicUsize,
    /// Vacant: since when, in milliseconds of the coarse clock.
    pub vacant_ms: AtomicU32,
    /// What the thread's choices under `RCUMALLOC_STRESS` go on from; 0: it has made none.
    pub random: AtomicU64,
    /// Blocks put aside for signal handlers, or null.
    pub stock: AtomicPtr<Stock>,
    /// What the thread is to run, from its creator.
    pub start: AtomicUsize,
    /// Its argument.
    pub argument: AtomicUsize,
    /// What free pushes to in a concurrent process.
    pub defer: Table,
    /// Per class.
    pub classes: [ClassState; CLASSES],
    /// Of each class, blocks that this thread has put into groups, less those it has taken out of any;
    /// wrapping. Only the sum over all threads and [`group::taken_up`](crate::class::group::taken_up) means
    /// anything: what is in groups now.
    pub waiting: [u32; CLASSES],
    /// Waiting and full magazines.
    pub shelf: Shelf,
    /// A `&mut` of a cache is not the only way to it (the shelf, the atomics): this has the
    /// compiler know.
    pub shared: PhantomPinned,
}

const _: () = {
    assert!(core::mem::offset_of!(ThreadCache, alloc) == 0);
    assert!(core::mem::offset_of!(ThreadCache, reader) == TABLE_WORDS * 8);
    assert!(size_of::<ThreadCache>().next_multiple_of(PAGE) == CACHE_BYTES);
};

impl ThreadCache {
    /// The cache of `seat`; null if that was never taken.
    pub fn at(seat: &Seat) -> *mut ThreadCache {
        seat.memory() as *mut ThreadCache
    }

    /// The thread's stock, made if it has none. `None`: out of memory.
    pub fn stock(&self) -> Option<&'static Stock> {
        if self.stock.load(Ordering::Relaxed).is_null() {
            self.stock.store(stock::make()?.as_ptr(), Ordering::Relaxed);
        }
        // SAFETY: the thread's own cache.
        unsafe { ThreadCache::existing_stock(self) }
    }

    /// The stock of `cache`, if it has one. Async-signal-safe: what is interrupted may have the cache to
    /// itself, but for this atomic word.
    ///
    /// # Safety
    /// A cache; they are type-stable.
    pub unsafe fn existing_stock(cache: *const ThreadCache) -> Option<&'static Stock> {
        // SAFETY: promised by the caller; null or type-stable.
        unsafe { (*cache).stock.load(Ordering::Relaxed).as_ref() }
    }

    /// The state of `class`.
    #[inline(always)]
    pub fn class(&mut self, class: Class) -> &mut ClassState {
        &mut self.classes[class.index()]
    }

    /// So many blocks of `class` are in groups now that were not.
    #[inline(always)]
    pub fn note_waiting(&mut self, class: Class, blocks: usize) {
        let waiting = &mut self.waiting[class.index()];
        *waiting = waiting.wrapping_add(blocks as u32);
    }

    /// The blocks of this magazine are in a group no more.
    #[inline(always)]
    pub fn note_taken_up(&mut self, magazine: &Magazine) {
        let waiting = &mut self.waiting[magazine.class().index()];
        *waiting = waiting.wrapping_sub(magazine.len() as u32);
    }

    /// Its seat. The cache is not unused.
    #[inline(always)]
    pub fn seat(&self) -> &'static Seat {
        // SAFETY: set before the cache is given out; seats stay for ever.
        unsafe { &*self.seat.load(Ordering::Relaxed) }
    }

    /// The cell of the thread's reader. The cache has a thread.
    #[inline(always)]
    pub fn cell(&self) -> &'static ReaderCell {
        // SAFETY: set while the cache has a thread, or is about to; cells are type-stable.
        unsafe { &*self.reader.load(Ordering::Relaxed) }
    }

    /// Ends the thread's reader. By its thread, or for one that is gone.
    pub fn leave_domain(&mut self) {
        let cell = core::mem::replace(self.reader.get_mut(), core::ptr::null_mut());
        // SAFETY: null or type-stable.
        if let Some(cell) = unsafe { cell.as_ref() } {
            // SAFETY: registered with the cache, whose thread uses it no more.
            unsafe { cell.exit_raw() };
        }
    }

    /// From whose slabs it carves.
    #[inline(always)]
    pub fn quarter(&self) -> Quarter {
        Quarter::of(self.number)
    }

    /// Whether this thread's frees are deferred: its TLS word 1 names the deferring table.
    #[inline(always)]
    pub fn is_deferring(&self) -> bool {
        tls::free_table() == &raw const self.defer as usize
    }

    /// The table the owner is to push its frees to.
    pub fn free_table(&self) -> usize {
        if mode::frees_defer() { &raw const self.defer as usize } else { &raw const self.alloc as usize }
    }

    /// Blocks of `class` that the next magazine may take.
    #[inline]
    pub fn quota(&mut self, class: Class) -> usize {
        match self.class(class).quota {
            0 => least(class),
            quota => quota as usize,
        }
    }

    /// A magazine of `class` with so many `bytes` has been turned where nothing is deferred, or filled from
    /// the slabs: sets how many blocks the next one takes.
    ///
    /// A class's magazine is to hold `fill / 4` times the power 3/4 of the class's part of all bytes freed.
    /// Turns would be fewest, for a given sum of bytes in all magazines, with the square root; that gives
    /// more to classes that are seldom freed, whose blocks are cold when they come back, and less to a class
    /// that is alone. A turn knows the bytes it turned and the bytes that the thread has freed since the
    /// class's last turn; the class's part is the one by the other, so the rule is that `bytes * passed^3` is
    /// the same for all classes. The magazines of 36 classes then hold at most `fill / 4 * 36^(1/4)`, which
    /// is 0.61 of `fill`, together (by the inequality of Hölder). Doubling a magazine makes the product
    /// sixteen times as large, so the rule holds to a factor of two.
    #[inline]
    pub fn note_turn(&mut self, class: Class, bytes: usize) {
        let clock = self.clock.wrapping_add(bytes as u32);
        self.clock = clock;
        let (quota, fill) = (self.quota(class), self.loan.fill_bytes());
        let state = self.class(class);
        let passed = clock.wrapping_sub(core::mem::replace(&mut state.seen, clock));
        let (product, wanted) =
            (u128::from(passed).pow(3) * bytes as u128, ((fill / CLASS_PART) as u128).pow(4));
        if product < wanted / 4 {
            state.quota = (quota * 2).min(most(class)) as u16;
        } else if product > wanted * 4 {
            state.quota = (quota / 2).max(least(class)) as u16;
        }
    }

    /// An empty magazine of `kind` for malloc: from the spares, the store, or a new page.
    #[inline]
    pub fn empty(&mut self, kind: usize) -> Option<Magazine> {
        match (kind..KINDS).find_map(|kind| self.spares[kind].pop()) {
            Some(magazine) => Some(magazine),
            None => self.fetch_empty(kind),
        }
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_start")]
    fn fetch_empty(&mut self, kind: usize) -> Option<Magazine> {
        if let Some(magazine) = empties::take(kind) {
            return Some(magazine);
        }
        let page = self.pages.alloc_page()?;
        Some(empties::cut(page, kind))
    }

    /// An empty magazine for free, which must not fail while there is one anywhere (G4): as
    /// [`empty`](Self::empty), then the reserve, then one of another kind.
    #[inline]
    pub fn empty_for_free(&mut self, kind: usize) -> Option<Magazine> {
        match self.empty(kind) {
            Some(magazine) => Some(magazine),
            None => self.desperate_empty(kind),
        }
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn desperate_empty(&mut self, kind: usize) -> Option<Magazine> {
        let spare = (0..KINDS).rev().find_map(|kind| self.spares[kind].pop());
        let (magazine, step) = if let Some(spare) = spare {
            (spare, Step::OtherKind)
        } else if let Some(stored) = empties::take_any() {
            (stored, Step::Store)
        } else {
            (empties::cut(reserve::take()?, kind), Step::Reserve)
        };
        ladder::note(step);
        Some(magazine)
    }

    /// Keeps an empty magazine for the next turn.
    #[inline]
    pub fn keep_spare(&mut self, magazine: Magazine) {
        let kind = magazine.kind();
        self.spares[kind].push(magazine);
        if self.spares[kind].len() > SPARE_MAGAZINES {
            self.shed_spares(kind, SPARE_MAGAZINES / 2);
        }
    }

    /// Gives spares of `kind` to the store until `keep` are left.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    pub fn shed_spares(&mut self, kind: usize, keep: usize) {
        while self.spares[kind].len() > keep {
            let Some(magazine) = self.spares[kind].pop() else { break };
            empties::put(magazine);
        }
    }

    /// The owner announces a quiescent state: a no-op in a section.
    #[inline]
    pub fn announce(&mut self) {
        // SAFETY: the cell was registered with the cache, which is the calling thread's.
        unsafe { Reader::borrow_cell(self.cell()) }.quiescent_state();
    }

    /// Counts a slow path; true when it is time to look at the clock.
    #[inline(always)]
    pub fn tick(&mut self) -> bool {
        // Relaxed, here and where others store: a count that may go wrong.
        let ticks = self.ticks.load(Ordering::Relaxed).wrapping_sub(1);
        self.ticks.store(ticks, Ordering::Relaxed);
        if ticks < CLOCK_TURNS {
            return false;
        }
        self.ticks.store(CLOCK_TURNS - 1, Ordering::Relaxed);
        true
    }

    /// Asks the owner to do something at its next slow path. Anybody.
    pub fn ask(&self, what: u32) {
        // Release: pairs with the Acquire in `take_asked`: the owner sees the back-off.
        self.asked.fetch_or(what, Ordering::Release);
        self.ticks.store(0, Ordering::Relaxed);
    }

    /// Whether the owner was asked for something. Owner only.
    #[inline(always)]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != 0
    }

    /// What it was asked for. Owner only.
    pub fn take_asked(&self) -> u32 {
        // Acquire: pairs with the Release in `ask`.
        self.asked.swap(0, Ordering::Acquire)
    }

    /// Starts again with the smallest magazines and no spare ones.
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn start_small(&mut self) {
        for class in &mut self.classes {
            class.quota = 0;
        }
        for kind in 0..KINDS {
            self.shed_spares(kind, 0);
        }
    }

    /// Takes the time, `now_ns` of the coarse clock; true when the age limit has passed since the last sweep.
    pub fn look_at_clock(&mut self, now_ns: u64) -> bool {
        let (before, limit) = (self.now_ms, backlog::age_limit_ms());
        self.now_ms = (now_ns / MS) as u32;
        if self.swept_ms == NEVER {
            // The first look only winds the clock up: a thread that does little never asks for it.
            self.swept_ms = self.now_ms;
        } else {
            self.set_pace(self.now_ms.wrapping_sub(before), limit);
        }
        let due = self.now_ms.wrapping_sub(self.swept_ms) >= limit;
        if due {
            self.swept_ms = self.now_ms;
        }
        due
    }

    /// Decides when to look next, `passed` milliseconds after the last look.
    #[inline]
    fn set_pace(&mut self, passed: u32, limit: u32) {
        if passed > limit >> CLOCK_SELDOM {
            self.pace = 1;
        } else if passed <= limit >> CLOCK_OFTEN {
            self.pace = (self.pace * 2).min(CLOCK_TURNS);
        }
        self.ticks.store(self.pace - 1, Ordering::Relaxed);
    }

    /// Sets what must not be zero in a cache that is taken into use.
    #[unsafe(link_section = ".text_start")]
    pub fn reset(&mut self) {
        self.ledger.post();
        self.ticks.store(CLOCK_TURNS - 1, Ordering::Relaxed);
        self.pace = CLOCK_TURNS;
        self.asked.store(0, Ordering::Relaxed);
        self.rounds = 0;
        self.credit = self.loan.fill_bytes();
        self.under_way.store(0, Ordering::Relaxed);
        self.leaving.store(0, Ordering::Relaxed);
        self.now_ms = NEVER;
        self.swept_ms = NEVER;
    }
}
