//! The depot: where magazines of a class change hands.
//!
//! Two lists per class and quarter ([`Quarter`]) under one lock: *full* magazines, whose blocks may be handed out now, and
//! *waiting* ones, stamped, first in first out. A producer/consumer pair trades whole magazines
//! here, one shared operation a magazine. The waiting list holds cookies of several threads, not
//! quite in order, so each is polled when it gets to the head, which is early enough. A thread gets its own quarter's first,
//! whose blocks share no cache lines with another's, and anybody's before a slab is asked.
//!
//! Past its bound of bytes the depot flushes its oldest elapsed magazine to the slabs, whose bitmaps are
//! in address order (the cold drain): whole-magazine exchange keeps no per-slab counts, so without this
//! nothing would ever go back to other classes or to the system. The flush runs outside the
//! depot's lock. Lock order: depot, then nothing; the slabs are locked on their own.

use crate::class::Torn;
use crate::class::backlog;
use crate::class::lists::{Queue, Stack};
use crate::class::magazine::Magazine;
use crate::class::size_class::{CLASSES, Class};
use crate::class::work::Work;
use crate::class::{empties, pool, verdict, waiting};
use crate::os::lock::{Guard, Lock};
use crate::page::back_off;
use crate::page::idle::{self, Idle};
use crate::page::quarter::Quarter;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use rcu::Stamped;

/// Bytes of blocks a class's depot keeps before it flushes (tune). Enough for sixteen magazines
/// of the largest blocks; small blocks are bounded by `DEPOT_MAGAZINES` first.
const DEPOT_BYTES: usize = 1 << 20;
/// Full magazines a class's depot keeps before it flushes, and waiting ones before it collects (tune).
const DEPOT_MAGAZINES: usize = 64;
/// With more that wait than that, so many come in before it collects again: explicit readers may hold them all.
const COLLECT_EVERY: usize = 32;
/// Bytes a class keeps in any case, though all depots together are past their share of the budget
/// (many classes must not add up): a few magazines to trade (tune).
const SPARED_BYTES: usize = 128 * 1024;

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
    parts: [Part; Quarter::COUNT],
    bytes: usize,
    /// Of the magazines, those nobody came for.
    idle: Idle,
}

/// What the threads of one quarter have left.
struct Part {
    full: Stack,
    waiting: Queue,
}

impl Inner {
    const fn new() -> Inner {
        const EMPTY: Part = Part { full: Stack::new(), waiting: Queue::new() };
        Inner { parts: [EMPTY; Quarter::COUNT], bytes: 0, idle: Idle::new() }
    }

    fn full(&self) -> usize {
        self.parts.iter().map(|part| part.full.len()).sum()
    }

    fn waiting(&self) -> usize {
        self.parts.iter().map(|part| part.waiting.len()).sum()
    }

    fn len(&self) -> usize {
        self.full() + self.waiting()
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
    pub fn take(&self, class: Class, quarter: Quarter) -> Option<Magazine> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        self.taken_at.store(LOOKS.load(Relaxed), Relaxed);
        self.take_locked(class, quarter)
    }

    fn take_locked(&self, class: Class, quarter: Quarter) -> Option<Magazine> {
        let mut inner = self.inner.lock();
        for part in quarter.first() {
            if let Some(magazine) = inner.parts[part].full.pop() {
                self.removed(&mut inner, magazine.len() * class.size());
                return Some(magazine);
            }
            if let Some(oldest) = inner.parts[part].waiting.pop_if(waiting::elapsed) {
                return self.take_up(inner, class, oldest);
            }
        }
        None
    }

    fn take_elapsed(&self, mut inner: Guard<'_, Inner>, class: Class) -> Option<Magazine> {
        let oldest = inner.parts.iter_mut().find_map(|part| part.waiting.pop_if(waiting::elapsed))?;
        self.take_up(inner, class, oldest)
    }

    fn take_up(
        &self,
        mut inner: Guard<'_, Inner>,
        class: Class,
        oldest: Stamped<Magazine>,
    ) -> Option<Magazine> {
        let bytes = oldest.len() * class.size();
        self.removed(&mut inner, bytes);
        drop(inner);
        backlog::settle(bytes);
        waiting::open(oldest)
    }

    fn removed(&self, inner: &mut Inner, bytes: usize) {
        inner.bytes -= bytes;
        ALL_BYTES.fetch_sub(bytes, Relaxed);
        self.count.fetch_sub(1, Relaxed);
        let level = inner.len();
        inner.idle.fell_to(level);
    }

    /// Takes a stamped magazine in.
    pub fn put_waiting(&self, class: Class, quarter: Quarter, waiting: Stamped<Magazine>) {
        if self.put(class, quarter, waiting.len(), |part| part.waiting.push(waiting)) {
            self.collect(class, quarter);
        }
    }

    /// Makes few magazines of many: threads that end leave some of a block or two. Their grace periods are
    /// ended, and what has elapsed is poured together.
    #[cold]
    #[inline(never)]
    fn collect(&self, class: Class, quarter: Quarter) {
        let oldest = {
            let inner = self.inner.lock();
            inner.parts.each_ref().map(|part| part.waiting.front().map(Stamped::cookie))
        };
        for cookie in oldest.into_iter().flatten() {
            backlog::expedite(cookie);
        }
        let mut collected: Option<Magazine> = None;
        for _ in 0..DEPOT_MAGAZINES {
            let Some(mut next) = self.take_elapsed(self.inner.lock(), class) else { break };
            if let Some(into) = &mut collected
                && into.pour(&mut next, class)
            {
                empties::put(next);
            } else if let Some(done) = collected.replace(next) {
                self.put_full(class, quarter, done);
            }
        }
        if let Some(done) = collected {
            self.put_full(class, quarter, done);
        }
    }

    /// Takes a magazine whose blocks may be handed out; they are marked in.
    pub fn put_full(&self, class: Class, quarter: Quarter, magazine: Magazine) {
        self.put(class, quarter, magazine.len(), |part| part.full.push(magazine));
    }

    /// Files a magazine. True: so many wait that they should be [collected](Self::collect).
    fn put(&self, class: Class, quarter: Quarter, blocks: usize, file: impl FnOnce(&mut Part)) -> bool {
        let many;
        let excess = {
            let mut inner = self.inner.lock();
            let bytes = blocks * class.size();
            inner.bytes += bytes;
            let all = ALL_BYTES.fetch_add(bytes, Relaxed) + bytes;
            self.count.fetch_add(1, Relaxed);
            file(&mut inner.parts[quarter.index()]);
            let waiting = inner.waiting();
            many = waiting > DEPOT_MAGAZINES && waiting.is_multiple_of(COLLECT_EVERY);
            inner.bytes > DEPOT_BYTES
                || inner.full() > DEPOT_MAGAZINES
                || inner.bytes > SPARED_BYTES && (all > backlog::last_budget() / 2 || back_off::is_on())
        };
        if excess {
            // Two out for one in, so that a depot that is over its bound gets under it again.
            for _ in 0..2 {
                let Some(magazine) = self.take_locked(class, quarter) else { break };
                flush(class, magazine);
            }
        }
        many
    }

    /// Flushes what may be handed out, as far as there is `work` to be had. Returns bytes.
    pub fn drain(&self, class: Class, work: &mut Work) -> usize {
        let mut bytes = 0;
        while work.goes_on()
            && let Some(magazine) = self.take(class, Quarter::of(0))
        {
            bytes += magazine.len() * class.size();
            work.did(magazine.len());
            flush(class, magazine);
        }
        bytes
    }

    /// As [`drain`](Self::drain), if nobody has come for a magazine while every thread had time for a look.
    pub fn drain_if_left(&self, class: Class, work: &mut Work) {
        let looks = LOOKS.load(Relaxed).wrapping_sub(self.taken_at.load(Relaxed));
        while looks as usize > backlog::threads()
            && work.goes_on()
            && self.count.load(Relaxed) != 0
            && let Some(magazine) = self.take_locked(class, Quarter::of(0))
        {
            work.did(magazine.len());
            flush(class, magazine);
        }
    }

    /// A tick of the decay has passed: flushes a share of what nobody came for during a whole period.
    /// Returns bytes.
    fn age(&self, class: Class, work: &mut Work) -> usize {
        let share = {
            let mut inner = self.inner.lock();
            let level = inner.len();
            idle::share(inner.idle.tick(level), 1)
        };
        let (mut bytes, mut gone) = (0, 0);
        while gone < share
            && work.goes_on()
            && let Some(magazine) = self.take_locked(class, Quarter::of(0))
        {
            gone += 1;
            bytes += magazine.len() * class.size();
            work.did(magazine.len());
            flush(class, magazine);
        }
        if gone != 0 {
            self.inner.lock().idle.gave(gone);
        }
        bytes
    }

    /// Magazines inside, and the bytes of their blocks: (count, bytes).
    pub fn census(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.len(), inner.bytes)
    }

    /// For fork: the lock itself.
    pub fn lock(&self) -> &Lock<Inner> {
        &self.inner
    }
}

/// Flushes what may be handed out of every depot, as far as there is `work` to be had. Returns bytes.
pub fn drain_all(work: &mut Work) -> usize {
    if all_bytes() == 0 {
        return 0;
    }
    Class::all().map(|class| of(class).drain(class, work)).sum()
}

/// A tick of the decay: see [`Depot::age`]. Returns bytes.
pub fn age_all(work: &mut Work) -> usize {
    Class::all().map(|class| of(class).age(class, work)).sum()
}

/// Bytes of blocks in all depots. No lock.
pub fn all_bytes() -> usize {
    ALL_BYTES.load(Relaxed)
}

/// The cold drain: the blocks of `magazine`, marked in and reusable, go back to their slabs; the
/// magazine becomes an empty one.
pub fn flush(class: Class, mut magazine: Magazine) {
    give_blocks(class, magazine.blocks());
    magazine.set_len(0);
    empties::put(magazine);
}

/// As [`flush`], for one that has waited long enough. Returns the bytes of its blocks.
pub fn flush_waiting(class: Class, waiting: Stamped<Magazine>) -> usize {
    let bytes = waiting.len() * class.size();
    backlog::settle(bytes);
    if let Some(magazine) = waiting::open(waiting) {
        flush(class, magazine);
    }
    bytes
}

/// As [`flush`], and the magazine stays with the caller.
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
