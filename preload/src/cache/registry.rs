//! The registry: whose each thread cache is.
//!
//! Caches are type-stable metadata, found by their seats (`seats.rs`). A cache is acquired by the creator of
//! a thread, before it runs, or by a thread itself on its first call; it is given back when the thread ends,
//! or found left behind (by a raw clone that ran no destructor). What is given back is empty: its pages go to
//! the system, so threads that have ended cost a seat.
//!
//! Whether a cache has lost its thread is a question about memory, not about numbers of threads or
//! processes, which
//! mean something else in the child of a vfork, in another namespace and after they were used again: as long
//! as
//! a thread lives, the first of its two thread-local words names its cache. So where that word lay and does
//! not name it any more,
//! because the storage has gone or is another thread's, the owner has gone, too. It is told from an owner
//! that is just leaving, or
//! from the next one in the same place, by the cache's state and the count of its owners. What a thread that
//! has gone
//! held stays with it until its storage is used again: a leak while its stack is one, and never more.
//!
//! One lock, held with signals blocked, so that a handler's first `read_lock` can take it, or by a thread
//! that has a cache, whose handlers need none. What an ended thread leaves whole is vacant (`vacant.rs`).

use crate::cache::seats::{self, Ground, Seat};
use crate::cache::thread_cache::ThreadCache;
use crate::cache::vacant::{self, Room};
use crate::cache::{mode, shares};
use crate::class::backlog::DOMAIN;
use crate::class::size_class::Class;
use crate::class::{Torn, group};
use crate::constants::{CACHE_BYTES, READERS_FIRST, READERS_GROW, SCAVENGE_FROM};
use crate::os::lock::{Guard, Lock};
use crate::os::signals::Quiet;
use crate::os::{map, peers, tid, tls};
use crate::page::meta;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use rcu::{NoRoom, Reader, ReaderBlock, ReaderCell, ReaderWord};

/// What the lock protects, beside the taking of vacant caches.
pub struct Inner {
    ground: Ground,
    scavenge_at: usize,
}

#[unsafe(link_section = ".data")]
static REGISTRY: Lock<Inner> = Lock::new(Inner { ground: Ground::new(), scavenge_at: SCAVENGE_FROM });
/// Readers there is room for. Relaxed: a number that steers.
static READERS: AtomicUsize = AtomicUsize::new(0);
/// Empty, its seat free or on the way to that.
const UNUSED: u32 = 0;
/// A thread's, or about to be.
const LIVE: u32 = 1;
/// Whole, without a thread (`vacant.rs`).
const VACANT: u32 = 2;
/// Taken by somebody who empties it, from `VACANT` to `UNUSED`. Nobody's, and no thread that counts.
const EMPTYING: u32 = 3;
/// Its thread, or whoever found that it has none, gives it away. Its thread's words may name something else.
const LEAVING: u32 = 4;
/// Left behind by a thread that the child of a fork does not have, as it was in that moment.
const ORPHAN: u32 = 5;
/// The state is these bits of a seat's `live`; the rest counts the owners.
const STATE: u32 = 7; // (given) as an encoding

/// Caches left behind, or fewer. Relaxed: the lock is taken before one is.
#[unsafe(link_section = ".data")]
static ORPHANS: AtomicUsize = AtomicUsize::new(0);
/// Of caches that were given back: blocks retired and loaded by turns, and large blocks handed out again.
/// Relaxed: figures.
static GONE: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3]; // (given) as a count

/// In what state the cache of `seat` is.
fn state(seat: &Seat) -> u32 {
    // Acquire: pairs with the Release in `set_state`.
    seat.live.load(Ordering::Acquire) & STATE
}

/// Whoever has the cache says so; returns the state it was in.
fn set_state(seat: &Seat, state: u32) -> u32 {
    let was = seat.live.load(Ordering::Relaxed);
    // SeqCst, a locked instruction: a thread that leaves changes its words after its state, in everybody's
    // eyes.
    seat.live.swap(was & !STATE | state, Ordering::SeqCst) & STATE
}

/// The registry, for somebody whom no handler interrupts.
fn locked(_quiet: &Quiet) -> Guard<'_, Inner> {
    REGISTRY.lock()
}

/// A cache with a registered, online reader, for the calling thread or one it is about to
/// create. `None`: memory is out.
#[cold]
#[unsafe(link_section = ".text_start")]
pub fn acquire(quiet: &Quiet) -> Option<&'static mut ThreadCache> {
    let reader = new_reader()?;
    let (cache, was_vacant) = {
        let mut registry = locked(quiet);
        let vacant = vacant::pop();
        let cache = match vacant {
            Some(cache) => cache,
            None => take_seat(&mut registry)?,
        };
        shares::count_in();
        // SAFETY: taken off its list above, or with its seat, ours alone; the lock, or the exchange that took
        // it, makes its last owner's writes visible.
        let cache = unsafe { &mut *cache };
        cache.reset();
        // Before the state: what `search` reads behind it is this owner's.
        cache.free_word.store(0, Ordering::Relaxed);
        let seat = cache.seat();
        let owners = (seat.live.load(Ordering::Relaxed) & !STATE).wrapping_add(STATE + 1);
        seat.live.store(owners | LIVE, Ordering::Release);
        (cache, vacant.is_some())
    };
    if was_vacant {
        cache.mark_out();
    }
    cache.reader.store(core::ptr::from_ref(reader.cell()).cast_mut(), Ordering::Relaxed);
    // The cell stays registered; the cache, not a handle, owns it.
    core::mem::forget(reader);
    Some(cache)
}

/// A reader in the lowest free cell of the domain. `None`: memory is out.
fn new_reader() -> Option<Reader> {
    loop {
        match DOMAIN.register(0) {
            Ok(reader) => return Some(reader),
            // Two threads that come here at once make more room than they need.
            Err(NoRoom) => {
                let cells = (READERS.load(Ordering::Relaxed) * READERS_GROW)
                    .clamp(READERS_FIRST, rcu::CELLS_PER_BLOCK);
                let block = block_of(cells).or_else(|| block_of(READERS_FIRST))?;
                READERS.fetch_add(block.capacity(), Ordering::Relaxed);
                DOMAIN.add_block(block);
            }
        }
    }
}

/// A block with room for `cells` readers in fresh metadata.
fn block_of(cells: usize) -> Option<&'static ReaderBlock> {
    // In this order in one piece, which begins at a cache line; the cells begin at a pair of them.
    let words = cells.div_ceil(rcu::CELLS_PER_WORD);
    let pair = align_of::<ReaderCell>();
    let before_cells = size_of::<ReaderBlock>() + words * size_of::<ReaderWord>() + pair;
    let memory = meta::bytes(before_cells + cells * size_of::<ReaderCell>())?.as_ptr();
    // SAFETY: fresh zeroed metadata, ours for ever; zero bytes are valid words and cells, and the lengths add
    // up.
    unsafe {
        let first_word = memory.add(size_of::<ReaderBlock>());
        let behind_words = first_word.add(words * size_of::<ReaderWord>());
        let first_cell = behind_words.add(behind_words.align_offset(pair));
        let words = core::slice::from_raw_parts(first_word.cast(), words);
        let cells = core::slice::from_raw_parts(first_cell.cast(), cells);
        memory.cast::<ReaderBlock>().write(ReaderBlock::new(words, cells));
        Some(&*memory.cast())
    }
}

/// The cache of a free seat.
#[unsafe(link_section = ".text_start")]
fn take_seat(registry: &mut Inner) -> Option<*mut ThreadCache> {
    let seat = seats::take(&mut registry.ground)?;
    // SAFETY: the seat is ours now, and so is its cache, but for single words.
    let cache = unsafe { &mut *ThreadCache::at(seat) };
    cache.seat.store(core::ptr::from_ref(seat).cast_mut(), Ordering::Relaxed);
    cache.number = seat.number();
    Some(cache)
}

/// Makes `cache` the calling thread's.
#[unsafe(link_section = ".text_start")]
pub fn adopt(cache: &mut ThreadCache, quiet: &Quiet) {
    // SAFETY: registered with the cache, which is the calling thread's from here on.
    unsafe { Reader::borrow_cell(cache.cell()) }.set_tid(tid::tid() as u32);
    let registry = locked(quiet);
    // Under the lock: a switch to concurrent sees the word, or we see the switch.
    tls::set_free_table(cache.free_table());
    tls::set_alloc_table(&raw const cache.alloc as usize);
    // Release: whoever finds the address finds the cache named there (`search`).
    cache.free_word.store(tls::free_word(), Ordering::Release);
    drop(registry);
}

/// Points the frees of `cache`'s thread at the table its mode asks for. Under the registry's lock.
pub fn retarget(cache: &ThreadCache) {
    let word = cache.free_word.load(Ordering::Acquire) as *const AtomicUsize;
    // SAFETY: null before the thread adopts the cache and after it gives it back; the registry's
    // lock is held, under which both happen while words are set from outside. The word is the thread's TLS
    // word.
    if let Some(word) = unsafe { word.as_ref() } {
        word.store(cache.free_table(), Ordering::Release);
    }
}

/// As [`adopt`], in a process that has been switched, for a thread that has no cache unless a handler comes
/// in
/// and gives it one: then nothing, and false.
pub fn adopt_unless_handled(cache: &ThreadCache) -> bool {
    debug_assert!(mode::is_switched());
    // SAFETY: registered with the cache, which is for the calling thread alone.
    unsafe { Reader::borrow_cell(cache.cell()) }.set_tid(tid::tid() as u32);
    let adopted = tls::set_tables_if_empty(&raw const cache.alloc as usize, cache.free_table());
    if adopted {
        // Release: as in `adopt`.
        cache.free_word.store(tls::free_word(), Ordering::Release);
    }
    adopted
}

/// The calling thread is about to give its cache away and to change its words.
pub fn begin_to_leave(cache: &ThreadCache) {
    set_state(cache.seat(), LEAVING);
}

/// Takes back the cache of a thread that will not use it again; its blocks and its reader are
/// gone from it already.
#[unsafe(link_section = ".text_threads")]
pub fn give_back(cache: &mut ThreadCache, quiet: &Quiet) {
    cache.ledger.post();
    cache.loan.end();
    // In the child of a fork the thread's reader was forgotten with it; else it has left.
    cache.reader.store(core::ptr::null_mut(), Ordering::Relaxed);
    cache.free_word.store(0, Ordering::Relaxed);
    let seat = cache.seat();
    purge(cache);
    let _registry = locked(quiet);
    let was = set_state(seat, UNUSED);
    seats::leave(seat);
    if matches!(was, LIVE | LEAVING) {
        shares::adjust(shares::count_out());
    }
}

/// Gives the memory of `cache`, which is empty, to the system. Where that refuses, as for locked memory, it
/// stays as it is.
fn purge(cache: &mut ThreadCache) {
    let memory = core::ptr::from_mut(cache) as usize;
    // Until a taker that is just looking at the shelf is done: what it finds behind this is empty, whenever
    // it looks.
    let mut shelf = cache.shelf.open_waiting();
    let reused = core::mem::take(&mut shelf.ready.reused);
    for (gone, own) in GONE.iter().zip([cache.retired, cache.loaded, reused]) {
        gone.fetch_add(own, Ordering::Relaxed);
    }
    (cache.retired, cache.loaded) = (0, 0);
    for class in Class::all() {
        group::note_account(class, core::mem::take(&mut cache.waiting[class.index()]));
    }
    // SAFETY: pages of its own; zero bytes are an unused cache, and a closed shelf.
    if unsafe { map::purge(memory, CACHE_BYTES) } {
        core::mem::forget(shelf);
    }
}

/// What the caches that were given back have retired and loaded, and the large blocks they handed out again.
pub fn gone() -> [u64; 3] {
    GONE.each_ref().map(|gone| gone.load(Ordering::Relaxed))
}

/// Leaves the cache of a thread that will not use it again to the next one, as it is; its reader is gone
/// from it
/// already. No lock: a handler that comes in may need the registry's.
#[unsafe(link_section = ".text_threads")]
pub fn vacate(cache: &mut ThreadCache, room: Room) {
    cache.ledger.post();
    cache.loan.end();
    cache.free_word.store(0, Ordering::Relaxed);
    room.note_in(cache);
    // The child of a fork that sees it vacant sees it whole.
    set_state(cache.seat(), VACANT);
    vacant::push(cache);
    let live = shares::count_out();
    if live.is_power_of_two() {
        // Often enough: who comes next sets it, too.
        shares::adjust(live);
    }
}

/// Takes one of the caches that have been vacant for `age_ms`, for the caller to empty and to give back or to
/// [put off](put_off).
pub fn evict(now_ms: u32, age_ms: u32, quiet: &Quiet) -> Option<*mut ThreadCache> {
    let _registry = locked(quiet);
    vacant::detach(now_ms, age_ms, |cache| {
        set_state(cache.seat(), EMPTYING);
    });
    vacant::next_to_empty()
}

/// Somebody else is to go on with emptying `cache`.
pub fn put_off(cache: &ThreadCache, quiet: &Quiet) {
    let _registry = locked(quiet);
    vacant::to_empty(cache);
}

/// In the only thread of a forked child, whose cache, if it has one, is at `own`: the caches of all other
/// threads are left
/// behind, and the stack of vacant caches is made again of those that were whole. What is left behind is not
/// written to: each page that is would be one more of the child's own.
pub fn settle_in_child(own: usize) {
    vacant::forget_all();
    let (mut live, mut orphans, mut lent) = (0, 0, 0);
    for seat in seats::taken() {
        // SAFETY: type-stable; no other thread exists.
        let seen = unsafe { &*ThreadCache::at(seat) };
        match state(seat) {
            UNUSED => {}
            VACANT => vacant::put_back(seen),
            _ if ThreadCache::at(seat) as usize == own => {
                seen.shelf.close_after_taker();
                lent += seen.loan.bytes();
                live = 1;
            }
            // With a thread, being emptied, or left behind by an earlier fork.
            _ => {
                seen.shelf.leave_behind();
                lent += seen.loan.bytes();
                set_state(seat, ORPHAN);
                orphans += 1;
            }
        }
    }
    ORPHANS.store(orphans, Ordering::Relaxed);
    shares::set_live(live, lent);
    shares::adjust(live);
}

/// Whether there may be caches that threads left behind whom a fork did not copy.
#[inline(always)]
pub fn has_orphans() -> bool {
    ORPHANS.load(Ordering::Relaxed) != 0
}

/// A cache that a thread left behind whom a fork did not copy, for the caller to empty and to give back.
pub fn take_orphan(quiet: &Quiet) -> Option<&'static mut ThreadCache> {
    let left = ORPHANS.load(Ordering::Relaxed);
    if left == 0 {
        return None;
    }
    let _registry = locked(quiet);
    // Those that were taken over have left their seats, so this is one of the first; or there is none any
    // more, if the forking thread itself was giving one away in the frame that a handler interrupted.
    let seat = seats::taken().find(|seat| state(seat) == ORPHAN);
    ORPHANS.store(if seat.is_some() { left - 1 } else { 0 }, Ordering::Relaxed);
    let seat = seat?;
    set_state(seat, EMPTYING);
    // SAFETY: its thread is not in this process, and the change of its state under the lock made it ours.
    Some(unsafe { &mut *ThreadCache::at(seat) })
}

/// Forgets a cache's TLS word: its thread is about to lose its thread-local storage.
pub fn forget_word(cache: &ThreadCache, quiet: &Quiet) {
    let _registry = locked(quiet);
    cache.free_word.store(0, Ordering::Relaxed);
}

/// Calls `visit` for each cache that has a thread and then `finish`, under the registry's lock.
pub fn for_each_live(mut visit: impl FnMut(&ThreadCache), finish: impl FnOnce()) {
    let quiet = Quiet::new();
    let _registry = locked(&quiet);
    for cache in live() {
        // SAFETY: caches are type-stable; visitors read atomics, or know better.
        visit(unsafe { &*cache });
    }
    finish();
}

/// Every cache that is used or vacant.
pub fn all() -> impl Iterator<Item = *mut ThreadCache> {
    seats::taken().map(ThreadCache::at)
}

/// Every cache that has a thread.
pub fn live() -> impl Iterator<Item = *mut ThreadCache> {
    seats::taken().filter(|seat| state(seat) == LIVE).map(ThreadCache::at)
}

/// Asks every thread but the owner of `own` for something (`thread_cache::ask`).
pub fn ask_others(own: *const ThreadCache, what: u32) {
    for cache in live().filter(|&cache| !core::ptr::eq(cache, own)) {
        // SAFETY: type-stable, atomics.
        unsafe { &*cache }.ask(what);
    }
}

/// Whether the thread that has adopted `cache`, whose word is at `free_word`, has gone.
fn is_deserted(cache: &ThreadCache, free_word: usize) -> bool {
    const WORD: usize = size_of::<usize>();
    // The lower half is enough: a word that agrees in it says that the thread lives.
    let is_deserted = peers::differs(free_word - WORD, core::ptr::from_ref(cache) as usize as u32);
    // Behind what the kernel has just read: whoever changed the word, or took it away, had seen the thread
    // end.
    fence(Ordering::Acquire);
    is_deserted
}

/// Whether so many caches are live that it is worth to look for those whose threads have ended without
/// destructors. Whatever is found, not again before the number has doubled.
pub fn is_crowded(quiet: &Quiet) -> bool {
    let mut registry = locked(quiet);
    let live = shares::census().0;
    let is_crowded = live >= registry.scavenge_at;
    if is_crowded {
        registry.scavenge_at = live * 2;
    }
    is_crowded
}

/// Some were found and given back.
pub fn note_scavenged(quiet: &Quiet) {
    locked(quiet).scavenge_at = (shares::census().0 * 2).max(SCAVENGE_FROM);
}

/// The caches of threads that no longer exist, each of which is the caller's to empty and to give back: one
/// question to the kernel for each cache.
pub fn deserted() -> impl Iterator<Item = &'static mut ThreadCache> {
    let own = tls::alloc_table();
    seats::taken().filter_map(move |seat| {
        // Acquire: the word that is read next is not an earlier owner's.
        let live = seat.live.load(Ordering::Acquire);
        let cache = ThreadCache::at(seat);
        // SAFETY: type-stable, atomics.
        let seen = unsafe { &*cache };
        // Acquire: pairs with the Release in `adopt`.
        let free_word = seen.free_word.load(Ordering::Acquire);
        let is_adopted = live & STATE == LIVE && free_word != 0 && cache as usize != own;
        if !is_adopted || !is_deserted(seen, free_word) {
            return None;
        }
        // One searcher wins the right to it, and none if it has begun to leave since, or has another owner.
        let leaving = live & !STATE | LEAVING;
        let won = seat.live.compare_exchange(live, leaving, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        // SAFETY: its thread no longer exists and the exchange made it ours.
        won.then(|| unsafe { &mut *cache })
    })
}

/// For fork: the lock.
pub fn lock() -> &'static Lock<Inner> {
    &REGISTRY
}

impl Torn for Inner {
    fn abandon(&mut self) {
        self.ground.forget();
        // Somebody was on the way from a seat or to one.
        seats::taken().filter(|seat| state(seat) == UNUSED).for_each(seats::leave);
    }
}
