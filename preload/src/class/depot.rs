//! The depot: where magazines of a class change hands.
//!
//! A list per class and quarter ([`Quarter`]) under one lock, of magazines whose blocks may be handed out;
//! they are marked in. A thread gets its own quarter's first, whose blocks share no cache lines with
//! another's, and anybody's before a slab is asked. What still waits for its grace period waits in
//! [groups](crate::class::group).
//!
//! Past its bound of bytes the depot flushes its youngest magazine to the slabs, whose bitmaps are
//! in address order (the cold drain): whole-magazine exchange keeps no per-slab counts, so without this
//! nothing would ever go back to other classes or to the system. The flush runs outside the
//! depot's lock. Lock order: depot, then nothing; the slabs are locked on their own.

use crate::class::group::{self, Group};
use crate::class::lists::Stack;
use crate::class::magazine::Magazine;
use crate::class::size_class::{CLASSES, Class};
use crate::class::work::Work;
use crate::class::{Torn, backlog, empties, pool, verdict, waiting};
use crate::constants::{DEPOT_BYTES, DEPOT_MAGAZINES, SPARED_BYTES};
use crate::os::lock::Lock;
use crate::page::back_off;
use crate::page::idle::{self, Idle};
use crate::page::quarter::Quarter;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use rcu::Stamped;

/// Bytes of blocks in all depots.
static ALL_BYTES: AtomicUsize = AtomicUsize::new(0);
/// How often a thread has looked for classes it has left.
static LOOKS: AtomicU32 = AtomicU32::new(0);

/// A thread looks for classes it has left.
pub fn look() {
    LOOKS.fetch_add(1, Relaxed);
}

/// What the lock protects.
pub struct Inner {
    /// What the threads of each quarter have left.
    parts: [Stack; Quarter::COUNT],
    bytes: usize,
    /// Of the magazines, those nobody came for.
    idle: Idle,
}

impl Inner {
    const fn new() -> Inner {
        Inner { parts: [const { Stack::new() }; Quarter::COUNT], bytes: 0, idle: Idle::new() }
    }

    fn len(&self) -> usize {
        self.parts.iter().map(Stack::len).sum()
    }
}

/// One class's depot.
#[repr(align(64))]
pub struct Depot {
    /// Magazines inside, for a look without the lock.
    count: AtomicU32,
    /// [`LOOKS`] when somebody last took one.
    taken_at: AtomicU32,
    inner: Lock<Inner>,
}

static DEPOTS: [Depot; CLASSES] = [const { Depot::new() }; CLASSES];

/// The depot of `class`.
#[inline(always)]
pub fn of(class: Class) -> &'static Depot {
    &DEPOTS[class.index()]
}

impl Depot {
    const fn new() -> Depot {
        Depot { count: AtomicU32::new(0), taken_at: AtomicU32::new(0), inner: Lock::new(Inner::new()) }
    }

    /// A magazine of blocks that may be handed out, for a thread of `quarter`; they are marked in.
    #[inline]
    pub fn take(&self, quarter: Quarter) -> Option<Magazine> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        self.taken_at.store(LOOKS.load(Relaxed), Relaxed);
        self.take_locked(quarter)
    }

    #[unsafe(link_section = ".text_threads")]
    fn take_locked(&self, quarter: Quarter) -> Option<Magazine> {
        let mut inner = self.inner.lock();
        let magazine = quarter.first().find_map(|part| inner.parts[part].pop())?;
        self.removed(&mut inner, magazine.bytes());
        Some(magazine)
    }

    fn removed(&self, inner: &mut Inner, bytes: usize) {
        inner.bytes -= bytes;
        ALL_BYTES.fetch_sub(bytes, Relaxed);
        self.count.fetch_sub(1, Relaxed);
        let level = inner.len();
        inner.idle.fell_to(level);
    }

    /// Takes a magazine whose blocks may be handed out; they are marked in.
    #[unsafe(link_section = ".text_threads")]
    pub fn put(&self, quarter: Quarter, magazine: Magazine) {
        let bytes = magazine.bytes();
        let (excess, emptied) = {
            let mut inner = self.inner.lock();
            inner.bytes += bytes;
            let all = ALL_BYTES.fetch_add(bytes, Relaxed) + bytes;
            let emptied = inner.parts[quarter.index()].pour(magazine);
            self.count.fetch_add(u32::from(emptied.is_none()), Relaxed);
            let excess = inner.bytes > DEPOT_BYTES
                || inner.len() > DEPOT_MAGAZINES
                || inner.bytes > SPARED_BYTES && (all > backlog::last_budget() / 2 || back_off::is_on());
            (excess, emptied)
        };
        if let Some(emptied) = emptied {
            empties::put(emptied);
        }
        if excess {
            // Two out for one in, so that a depot that is over its bound gets under it again.
            for _ in 0..2 {
                let Some(magazine) = self.take_locked(quarter) else { break };
                flush(magazine);
            }
        }
    }

    /// Flushes what may be handed out, as far as there is `work` to be had. Returns bytes.
    pub fn drain(&self, work: &mut Work) -> usize {
        let mut bytes = 0;
        while work.goes_on()
            && let Some(magazine) = self.take(Quarter::of(0))
        {
            bytes += magazine.bytes();
            work.did(magazine.len());
            flush(magazine);
        }
        bytes
    }

    /// As [`drain`](Self::drain), if nobody has come for a magazine while every thread had time for a look.
    pub fn drain_if_left(&self, work: &mut Work) {
        let looks = LOOKS.load(Relaxed).wrapping_sub(self.taken_at.load(Relaxed));
        while looks as usize > backlog::threads()
            && work.goes_on()
            && self.count.load(Relaxed) != 0
            && let Some(magazine) = self.take_locked(Quarter::of(0))
        {
            work.did(magazine.len());
            flush(magazine);
        }
    }

    /// A tick of the decay has passed: flushes a share of what nobody came for during a whole period.
    /// Returns bytes.
    fn age(&self, work: &mut Work) -> usize {
        let share = {
            let mut inner = self.inner.lock();
            let level = inner.len();
            idle::share(inner.idle.tick(level), 1)
        };
        let (mut bytes, mut gone) = (0, 0);
        while gone < share
            && work.goes_on()
            && let Some(magazine) = self.take_locked(Quarter::of(0))
        {
            gone += 1;
            bytes += magazine.bytes();
            work.did(magazine.len());
            flush(magazine);
        }
        if gone != 0 {
            self.inner.lock().idle.gave(gone);
        }
        bytes
    }

    /// Magazines inside, and the bytes of their blocks: (count, bytes). No lock.
    pub fn census(&self) -> (usize, usize) {
        // SAFETY: an aligned word of a static.
        let bytes = unsafe { (&raw const (*self.inner.peek()).bytes).read_volatile() };
        (self.count.load(Relaxed) as usize, bytes)
    }

    /// Whether `block` is inside, unless somebody has the lock.
    pub fn holds(&self, block: usize) -> bool {
        self.inner.try_lock().is_some_and(|inner| inner.parts.iter().any(|part| part.holds(block)))
    }

    /// Blocks of the magazines inside. No lock.
    pub fn blocks(&self) -> usize {
        let inner = self.inner.peek();
        // SAFETY: lists of a static.
        (0..Quarter::COUNT).map(|part| unsafe { Stack::peek_blocks(&raw const (*inner).parts[part]) }).sum()
    }

    /// For fork: the lock itself.
    pub fn lock(&self) -> &Lock<Inner> {
        &self.inner
    }
}

/// Gives what has waited long enough in the queue for all threads to the depots, where every thread finds
/// what it needs, as far as there is `work` to be had. Returns bytes.
#[unsafe(link_section = ".text_solo")]
pub fn distribute_shared(work: &mut Work) -> usize {
    let mut bytes = 0;
    while work.goes_on()
        && let Some(mut group) = group::shared().take_elapsed()
    {
        while let Some(magazine) = group.pop() {
            group::note_taken_up(&magazine);
            bytes += magazine.bytes();
            work.did(magazine.len());
            of(magazine.class()).put(Quarter::of(0), magazine);
        }
    }
    bytes
}

/// Flushes what may be handed out of every depot, as far as there is `work` to be had. Returns bytes.
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
pub fn drain_all(work: &mut Work) -> usize {
    if all_bytes() == 0 {
        return 0;
    }
    Class::all().map(|class| of(class).drain(work)).sum()
}

/// A tick of the decay: see [`Depot::age`]. Returns bytes.
pub fn age_all(work: &mut Work) -> usize {
    Class::all().map(|class| of(class).age(work)).sum()
}

/// Bytes of blocks in all depots. No lock.
pub fn all_bytes() -> usize {
    ALL_BYTES.load(Relaxed)
}

/// The cold drain: the blocks of `magazine`, marked in and reusable, go back to their slabs; the
/// magazine becomes an empty one.
pub fn flush(mut magazine: Magazine) {
    give_blocks(magazine.class(), magazine.blocks());
    magazine.set_len(0);
    empties::put(magazine);
}

/// As [`flush`], for a group that has waited long enough, of `bytes`.
pub fn flush_group(group: Stamped<Group>, bytes: usize, work: &mut Work) {
    backlog::settle(bytes);
    let Some(mut group) = waiting::open(group) else { return };
    while let Some(magazine) = group.pop() {
        group::note_taken_up(&magazine);
        work.did(magazine.len());
        flush(magazine);
    }
}

/// As [`flush`], and the magazine stays with the caller.
#[unsafe(link_section = ".text_solo")]
pub fn give_blocks(class: Class, blocks: &[usize]) {
    if let Some(bad) = pool::of(class).put(class, blocks) {
        verdict::double_free("free", bad, class, verdict::Found::AtTurn);
    }
}

impl Torn for Inner {
    fn abandon(&mut self) {
        *self = Inner::new();
    }
}
