//! Trapped blocks: a sample of the small blocks, each alone at the end of a page between pages that nobody
//! may touch (`RCUMALLOC_TRAP`).
//!
//! ```text
//!   unused --take--> live --claim--> in hand --wait--> freed --its cookie has elapsed--> sprung
//!                     ^                       can be read and written               no access |
//!                     +--------------------- take, the oldest first -------------------------+
//! ```
//!
//! So whoever uses a block after it was freed is found, and a reader whose section had begun before the free
//! is not accused: for as long as there can be one, the page is as it was.
//!
//! The slots lie outside of the window, in one mapping: `free` and `realloc` find there what is in no slab
//! and come by their slow paths, so the fast ones know nothing of this. There are few slots; where all are
//! live, or wait, nothing more is sampled. A slot's words are atomic and stay for ever: anybody may look.
//! Who changes them has the slot in hand, by a compare and exchange of its state.

use crate::class::backlog::{self, DOMAIN};
use crate::class::cause::Cause;
use crate::class::dice::Dice;
use crate::class::sampled;
use crate::constants::{PAGE, TRAP_DEPTH, TRAPS};
use crate::os::line::Line;
use crate::os::places::Call;
use crate::os::{clock, handler, map, places, tid};
use crate::page::bounds;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use rcu::Cookie;

/// Bytes from one slot to the next: a page that nobody may touch, and the block's.
const PITCH: usize = 2 * PAGE; // (given) as a layout
const ARENA: usize = TRAPS * PITCH + PAGE;
/// What lies between a block's end and the page's, to be found as it was.
const EDGE: u8 = 0xa5; // (given) as an encoding

const UNUSED: u32 = 0;
const IN_HAND: u32 = 1;
const LIVE: u32 = 2;
const FREED: u32 = 3;
const SPRUNG: u32 = 4;

/// Who made a call, and where.
pub struct Trace {
    thread: AtomicU32,
    ms: AtomicU32,
    places: [AtomicUsize; TRAP_DEPTH],
}

impl Trace {
    fn note(&self, call: Call, frame: usize) {
        self.thread.store(tid::tid() as u32, Relaxed);
        self.ms.store(clock::now_coarse_ms(), Relaxed);
        let (arena, window) = (ARENA_AT.load(Relaxed), bounds::base());
        let mut places = [0; TRAP_DEPTH];
        places::trace(call, frame, &[arena..arena + ARENA, window..window + bounds::horizon()], &mut places);
        for (place, found) in self.places.iter().zip(places) {
            place.store(found, Relaxed);
        }
    }

    fn forget(&self) {
        self.thread.store(0, Relaxed);
        self.places.iter().for_each(|place| place.store(0, Relaxed));
    }

    /// The thread; 0: there was no call.
    pub fn thread(&self) -> u32 {
        self.thread.load(Relaxed)
    }

    /// How long ago, in milliseconds.
    pub fn age_ms(&self) -> u64 {
        (clock::now_coarse_ms().wrapping_sub(self.ms.load(Relaxed)) as i32).max(0) as u64
    }

    /// Adds the places to a line, the innermost first.
    pub fn tell(&self, line: &mut Line) {
        let known = self.places.iter().map(|place| place.load(Relaxed)).take_while(|&place| place != 0);
        let mut before = " at ";
        for place in known {
            line.str(before).hex(place as u64);
            before = " ";
        }
    }
}

/// A place for one block. Zero bytes are one that was never used.
#[repr(C, align(64))]
pub struct Slot {
    state: AtomicU32,
    size: AtomicU32,
    start: AtomicUsize,
    /// What it waits for; 0: for nothing.
    cookie: AtomicU64,
    /// The number of its free, of all.
    turn: AtomicU64,
    /// Its malloc.
    pub given: Trace,
    /// Its free.
    pub freed: Trace,
}

/// One sample in so many; 0: there are none.
#[unsafe(link_section = ".data")]
static RATE: AtomicU32 = AtomicU32::new(0);
static ARENA_AT: AtomicUsize = AtomicUsize::new(0);
static SLOTS_AT: AtomicUsize = AtomicUsize::new(0);
/// Blocks freed so far.
static TURNS: AtomicU64 = AtomicU64::new(0);
/// Those that have not sprung yet.
static WAITING: AtomicU32 = AtomicU32::new(0);
static DICE: Dice = Dice::new();
/// When somebody last hurried for them, in milliseconds of the coarse clock.
static HURRIED_MS: AtomicU32 = AtomicU32::new(0);

/// Samples one block in `rate` from now on. False: no memory.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn set(rate: u32) -> bool {
    let table = TRAPS * size_of::<Slot>();
    let (Some(arena), Some(slots)) = (map::map_closed(ARENA), map::map(table)) else { return false };
    ARENA_AT.store(arena, Relaxed);
    SLOTS_AT.store(slots, Relaxed);
    places::prepare();
    // Release: who sees the rate sees the rest. The process is about to start, in one thread.
    RATE.store(rate, Release);
    sampled::begin(sampled::TRAP)
}

/// One block in how many; 0: none.
pub fn rate() -> u32 {
    RATE.load(Relaxed)
}

/// Throws the dice for one block.
pub fn is_sample() -> bool {
    DICE.throw() <= u64::MAX / u64::from(RATE.load(Relaxed).max(1))
}

fn slots() -> &'static [Slot] {
    let at = SLOTS_AT.load(Acquire) as *const Slot;
    if at.is_null() {
        return &[];
    }
    // SAFETY: mapped for so many, zero, and never taken away.
    unsafe { core::slice::from_raw_parts(at, TRAPS) }
}

/// Whether `addr` lies among the slots.
pub fn holds(addr: usize) -> bool {
    sampled::is(sampled::TRAP) && addr.wrapping_sub(ARENA_AT.load(Relaxed)) < ARENA
}

/// Where an address lies.
#[derive(Clone, Copy)]
pub enum Spot {
    /// In the page of this slot's block.
    Page(&'static Slot),
    /// Between the pages of two: past the end of the one, in front of the other.
    Between(Option<&'static Slot>, Option<&'static Slot>),
}

/// Where `addr` lies, if among the slots.
pub fn spot(addr: usize) -> Option<Spot> {
    if !holds(addr) {
        return None;
    }
    let offset = addr - ARENA_AT.load(Relaxed);
    let (slots, index) = (slots(), offset / PITCH);
    if offset % PITCH >= PAGE {
        return slots.get(index).map(Spot::Page);
    }
    Some(Spot::Between(index.checked_sub(1).and_then(|before| slots.get(before)), slots.get(index)))
}

/// The slot whose block holds `addr`, live or freed.
pub fn around(addr: usize) -> Option<&'static Slot> {
    match spot(addr)? {
        Spot::Page(slot) => (addr.wrapping_sub(slot.start()) < slot.size()).then_some(slot),
        Spot::Between(..) => None,
    }
}

/// Bytes of the blocks among the slots that the program has, as they were asked for.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn live_bytes() -> usize {
    slots().iter().filter(|slot| slot.is_live()).map(Slot::size).sum()
}

impl Slot {
    /// Where its block starts; 0: it has never had one.
    pub fn start(&self) -> usize {
        self.start.load(Relaxed)
    }

    /// The size that its block was asked with, which is all that may be used of it.
    pub fn size(&self) -> usize {
        self.size.load(Relaxed) as usize
    }

    /// Whether the program has its block.
    pub fn is_live(&self) -> bool {
        // Acquire: pairs with the Release in `take`.
        self.state.load(Acquire) == LIVE
    }

    /// Whether a use of it is one after the grace period.
    pub fn is_sprung(&self) -> bool {
        match self.state.load(Acquire) {
            SPRUNG => true,
            // About to be, or to be another's.
            IN_HAND => self.freed.thread() != 0,
            _ => false,
        }
    }

    /// What its freed block waits for; `None`: for nothing any more.
    pub fn waits_for(&self) -> Option<Cookie> {
        let cookie = self.cookie.load(Relaxed);
        (self.state.load(Acquire) != SPRUNG && cookie != 0).then(|| Cookie::from_bits(cookie))
    }

    /// How many grace periods have passed since its free, the one that it waited for among them.
    pub fn periods(&self) -> u64 {
        let cookie = self.cookie.load(Relaxed);
        if cookie == 0 { 0 } else { DOMAIN.snapshot().to_bits().saturating_sub(cookie) / 2 }
    }

    fn page(&self) -> usize {
        let index = (core::ptr::from_ref(self) as usize - SLOTS_AT.load(Relaxed)) / size_of::<Slot>();
        ARENA_AT.load(Relaxed) + index * PITCH + PAGE
    }

    /// Takes it in hand.
    fn take_in_hand(&self, state: u32) -> bool {
        // Acquire: what the last one did to it is seen; pairs with the Release of each store of the state.
        self.state.compare_exchange(state, IN_HAND, Acquire, Relaxed).is_ok()
    }

    fn edge(&self) -> core::ops::Range<usize> {
        self.start() + self.size()..self.page() + PAGE
    }

    /// Where the program has written past its live or claimed block, if it has.
    pub fn written_past(&self) -> Option<usize> {
        // SAFETY: in the slot's page, which can be read.
        self.edge().find(|&at| unsafe { (at as *const u8).read_volatile() } != EDGE)
    }

    /// The claimed block waits for a grace period, or for nothing. `frame`: of the slow path of its free.
    pub fn wait(&self, defers: bool, frame: usize) {
        self.freed.note(Call::Frees, frame);
        self.turn.store(TURNS.fetch_add(1, Relaxed), Relaxed);
        WAITING.fetch_add(1, Relaxed);
        let cookie = if defers { DOMAIN.start_poll().to_bits() } else { 0 };
        self.cookie.store(cookie, Relaxed);
        self.state.store(FREED, Release);
    }

    /// Springs the trap if its time has come. True: it still waits.
    fn spring(&self) -> bool {
        if self.state.load(Relaxed) != FREED {
            return false;
        }
        if self.waits_for().is_some_and(|cookie| !DOMAIN.poll(cookie)) {
            return true;
        }
        if self.take_in_hand(FREED) {
            // Without access or, where that cannot be had, as it is: nothing is found out then.
            map::set_access(self.page(), PAGE, false);
            self.state.store(SPRUNG, Release);
            WAITING.fetch_sub(1, Relaxed);
        }
        false
    }

    /// The report has been made and the program goes on: the block can be read and written, and stays freed.
    pub fn open_again(&self) {
        map::set_access(self.page(), PAGE, true);
    }

    /// Describes its block.
    pub fn describe(&self, line: &mut Line) {
        line.str("a block of ").dec(self.size() as u64).str(" bytes");
    }
}

/// A slot for a new block: an unused one, or the one whose trap sprang first.
fn find() -> Option<(&'static Slot, u32)> {
    let unused = slots().iter().find(|slot| slot.state.load(Relaxed) == UNUSED && slot.take_in_hand(UNUSED));
    if let Some(slot) = unused {
        return Some((slot, UNUSED));
    }
    let sprung = slots().iter().filter(|slot| slot.state.load(Relaxed) == SPRUNG);
    let oldest = sprung.min_by_key(|slot| slot.turn.load(Relaxed))?;
    oldest.take_in_hand(SPRUNG).then_some((oldest, SPRUNG))
}

/// A block for `size` bytes aligned to `align`. `frame`: of the slow path that asks. `None`: there is no
/// slot, or it is too large.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn take(size: usize, align: usize, frame: usize) -> Option<usize> {
    if size > PAGE || align > PAGE {
        return None;
    }
    let (slot, state) = find()?;
    if !map::set_access(slot.page(), PAGE, true) {
        slot.state.store(state, Release);
        return None;
    }
    // A program may ask for nothing, and must get an address of its own.
    let size = size.max(1);
    let start = (slot.page() + PAGE - size) & !(align - 1);
    slot.start.store(start, Relaxed);
    slot.size.store(size as u32, Relaxed);
    slot.cookie.store(0, Relaxed);
    slot.freed.forget();
    slot.given.note(Call::Allocates, frame);
    let edge = slot.edge();
    // SAFETY: the end of the slot's page, which is in hand and can be written.
    unsafe { (edge.start as *mut u8).write_bytes(EDGE, edge.len()) };
    slot.state.store(LIVE, Release);
    Some(start)
}

/// Takes the live block that starts at `addr` from the program.
pub fn claim(addr: usize) -> Option<&'static Slot> {
    around(addr).filter(|slot| slot.start() == addr && slot.take_in_hand(LIVE))
}

/// Springs the traps whose time has come. True: there are others.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn spring() -> bool {
    if WAITING.load(Relaxed) == 0 {
        return false;
    }
    // A handler that the program has installed meanwhile is called behind ours.
    handler::take_over();
    // All of them, not up to the first.
    slots().iter().filter(|slot| slot.spring()).count() != 0
}

/// Sees to it that the youngest of those that wait need not wait for long: once a millisecond.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn hurry() {
    let now = clock::now_coarse_ms();
    if HURRIED_MS.swap(now, Relaxed) != now {
        backlog::expedite(DOMAIN.start_poll(), Cause::Age);
    }
}
