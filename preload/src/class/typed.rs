//! Typed pools: objects of one size and one name, in slabs of the pool's own.
//!
//! ```text
//!   zone --> slab --take--> the program --give--+-- typesafe -----------------------> slab
//!     ^        |                                +-- else: open ~> waits ~~ cookie ~~> slab
//!     |        | no object is out, and another slab has some to give
//!     +-- leaves ~~ cookie ~~ (not typesafe: nothing waits any more, at once)
//! ```
//!
//! A page of a pool has a kind of its own and the dummy slot, so that free's fast path does not know of
//! pools: whatever is done to an object by another name than the pool's ends in a message. The objects are
//! never written; what is known of them are three sets of bits in the slab's descriptor, which is
//! type-stable: who finds one by a stale word reads its pool again under that pool's lock.
//!
//! In a *typesafe* pool a freed object may come back at once, while readers still look at it: they find an
//! object of the same type, and see by what it says of itself whether it is the one they meant. What must not
//! happen is that they find something else there, so the slab waits for a grace period before it leaves. In
//! another pool each object waits, and a slab that is empty can go.
//!
//! What waits in a slab has one cookie. Objects freed behind it are *open* until that has elapsed, and get
//! the next one together. Slabs wait in the order of their cookies.
//!
//! Lock order: the list of pools, a pool, then the page floor.

use crate::class::Torn;
use crate::class::backlog::{self, DOMAIN};
use crate::constants::{
    GOLDEN, LEAST_PAGE, PAGE, POOL_LOOK, POOL_NAME, POOL_OBJECTS, POOL_SIZE_MAX, POOL_SLAB,
};
use crate::os::line::Line;
use crate::os::lock::Lock;
use crate::page::Page;
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::meta::{self, MetaObject, MetaPool};
use crate::page::zone::{self, Holds, Place};
use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicUsize};
use rcu::Cookie;

/// Words of a set of objects of a slab.
const WORDS: usize = POOL_OBJECTS / 64; // (given) as a unit
type Bits = [u64; WORDS];

/// What a slab of a pool is. Type-stable; all but the first four words belong to the holder of the pool's
/// lock.
#[repr(C, align(64))]
struct Head {
    link: AtomicUsize,
    pool: AtomicPtr<Pool>,
    base: AtomicUsize,
    /// The pool's word of the same name when it was last listed.
    epoch: AtomicUsize,
    next: Option<Slab>,
    prev: Option<Slab>,
    next_waiting: Option<Slab>,
    cookie: u64,
    /// Objects that may be handed out, ...
    free: Bits,
    /// ... those behind the cookie, ...
    waiting: Bits,
    /// ... and those freed since.
    open: Bits,
    free_count: u32,
    /// On the list of those with something to give.
    is_listed: bool,
    /// In the queue of those behind a cookie.
    is_queued: bool,
    /// On its way to the zone.
    leaves: bool,
}

// SAFETY: `link` is used by the descriptors' pool alone; zero bytes are a descriptor of nothing.
unsafe impl MetaObject for Head {
    fn free_link(&self) -> &AtomicUsize {
        &self.link
    }
}

static DESCRIPTORS: MetaPool<Head> = MetaPool::new();

/// A handle on a slab's descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slab(NonNull<Head>);

// SAFETY: an address of type-stable memory; who may use it for what is said at each method.
unsafe impl Send for Slab {}

/// What marks a pool among other metadata: no address, nor a small number.
const MARK: usize = GOLDEN as usize;

/// There is no pool.
const NONE: u32 = 0;
/// The program has it.
const LIVE: u32 = 1;
/// It was destroyed; slabs of it are on their way to the zone.
const GOING: u32 = 2;

/// A pool. Type-stable: there for good, and perhaps another one later.
#[repr(C, align(64))]
pub struct Pool {
    /// Its own address and [`MARK`]: so a handle is known to be one.
    mark: AtomicUsize,
    state: AtomicU32,
    /// The next of all that there ever were.
    next: AtomicPtr<Pool>,
    name: [AtomicU8; POOL_NAME],
    shape: Shape,
    is_typesafe: AtomicU32,
    inner: Lock<Inner>,
}

/// Sizes; read without the lock.
struct Shape {
    /// What the program asked for.
    size: AtomicUsize,
    /// From one object to the next.
    stride: AtomicUsize,
    pages: AtomicUsize,
    objects: AtomicUsize,
}

/// What the lock protects.
pub struct Inner {
    /// Slabs with something to give.
    partial: Option<Slab>,
    /// Slabs behind a cookie, the oldest first.
    first: Option<Slab>,
    last: Option<Slab>,
    slabs: usize,
    /// Objects with the program.
    away: usize,
    /// Objects that wait.
    waiting: usize,
    epoch: usize,
}

/// The list of all pools; where it begins is read without its lock.
static ALL: Lock<Roll> = Lock::new(Roll);
static FIRST: AtomicPtr<Pool> = AtomicPtr::new(core::ptr::null_mut());

/// What the lock of the list protects lies outside of it.
pub struct Roll;

impl Torn for Roll {
    fn abandon(&mut self) {}
}

/// What is wrong with an address that a pool is to free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It is no object of the pool.
    Foreign,
    /// It is freed already.
    Freed,
}

/// An object of a pool. As small as a message's part of the stack wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// The object's address.
    pub start: usize,
    /// Whether the program has it. Read without the lock: may be stale.
    pub is_live: bool,
    /// The pool's address.
    pool: usize,
}

impl Member {
    /// Its pool.
    pub fn pool(&self) -> &'static Pool {
        // SAFETY: from `member`; a pool stays one for good.
        unsafe { &*(self.pool as *const Pool) }
    }

    /// Bytes that the program asked for.
    pub fn size(&self) -> usize {
        self.pool().size()
    }
}

/// Figures of all pools.
#[derive(Clone, Copy, Default, Debug)]
pub struct Census {
    /// Bytes of their slabs.
    pub bytes: usize,
    /// Of objects with the program.
    pub live: usize,
    /// Of objects that wait for a grace period.
    pub waiting: usize,
}

/// All pools that there ever were.
pub fn all() -> impl Iterator<Item = &'static Pool> {
    // Acquire: pairs with the Release in `create`: they are whole.
    // SAFETY: null or a pool, which stays for good.
    core::iter::successors(unsafe { FIRST.load(Acquire).as_ref() }, |pool| unsafe {
        pool.next.load(Relaxed).as_ref()
    })
}

/// For fork: the lock of the list.
pub fn lock() -> &'static Lock<Roll> {
    &ALL
}

/// Bytes from one object to the next and pages of a slab; `None` for what no pool is for.
fn shape(size: usize, align: usize) -> Option<(usize, usize)> {
    let align = if align == 0 { 16 } else { align };
    if size == 0 || size > POOL_SIZE_MAX || !align.is_power_of_two() || align > LEAST_PAGE {
        return None;
    }
    let stride = size.next_multiple_of(align.max(8));
    let bytes = (stride * POOL_OBJECTS).min(POOL_SLAB.max(stride));
    // The zone describes what comes back to it by powers of two.
    Some((stride, bytes.div_ceil(PAGE).next_power_of_two()))
}

/// Whether there may be a pool for objects of this size and alignment.
pub fn is_possible(size: usize, align: usize) -> bool {
    shape(size, align).is_some()
}

/// A new pool, which is [possible](is_possible). `None`: out of memory.
pub fn create(name: &[u8], size: usize, align: usize, is_typesafe: bool) -> Option<&'static Pool> {
    let (stride, pages) = shape(size, align)?;
    let roll = ALL.lock();
    let unused = all().find(|pool| pool.state.load(Acquire) == NONE);
    let pool = match unused {
        Some(pool) => pool,
        None => {
            let place = meta::bytes(size_of::<Pool>())?.cast::<Pool>();
            // SAFETY: fresh metadata of this size, aligned to 64, ours for good.
            unsafe {
                place.write(Pool::none());
                place.as_ref()
            }
        }
    };
    for (at, byte) in pool.name.iter().enumerate() {
        // The last one stays zero.
        let wanted = name.get(at).filter(|_| at + 1 < POOL_NAME);
        byte.store(wanted.copied().unwrap_or(0), Relaxed);
    }
    pool.shape.size.store(size, Relaxed);
    pool.shape.stride.store(stride, Relaxed);
    pool.shape.pages.store(pages, Relaxed);
    pool.shape.objects.store((pages * PAGE / stride).min(POOL_OBJECTS), Relaxed);
    pool.is_typesafe.store(is_typesafe.into(), Relaxed);
    pool.mark.store(core::ptr::from_ref(pool) as usize ^ MARK, Relaxed);
    // Release: who finds it live finds it whole.
    pool.state.store(LIVE, Release);
    if unused.is_none() {
        pool.next.store(FIRST.load(Relaxed), Relaxed);
        FIRST.store(core::ptr::from_ref(pool).cast_mut(), Release);
    }
    drop(roll);
    Some(pool)
}

/// What a page of this word is of, at `addr`. For diagnosis: may be stale.
pub fn member(word: Memdesc, addr: usize) -> Option<Member> {
    let slab = Slab::named_by(word)?;
    // SAFETY: a slab's pool is null or one, which stays for good.
    let pool = unsafe { slab.head().pool.load(Relaxed).as_ref() }?;
    let at = addr.checked_sub(slab.base())? / pool.stride();
    if at >= pool.objects() {
        return None;
    }
    // SAFETY: single words of a type-stable descriptor, at a place inside of the sets.
    let is_set =
        |bits: *const Bits| unsafe { bits.cast::<u64>().add(at / 64).read_volatile() } >> (at % 64) & 1 != 0;
    let head = slab.0.as_ptr();
    // SAFETY: addresses inside of the descriptor.
    let sets = unsafe { [&raw const (*head).free, &raw const (*head).waiting, &raw const (*head).open] };
    Some(Member {
        start: slab.base() + at * pool.stride(),
        is_live: !sets.into_iter().any(is_set),
        pool: core::ptr::from_ref(pool) as usize,
    })
}

/// The pool that the program means by `handle`, which may be anything; `Err`: it was one, or is none.
pub fn of_handle(handle: usize) -> Result<&'static Pool, Option<&'static Pool>> {
    let is_meta = handle.is_multiple_of(align_of::<Pool>()) && memdesc::of(handle).kind() == Kind::Meta;
    // SAFETY: metadata, all of which can be read; its first word is atomic in a pool, and here.
    if !is_meta || unsafe { &*(handle as *const AtomicUsize) }.load(Relaxed) != handle ^ MARK {
        return Err(None);
    }
    // SAFETY: a pool, which stays one for good.
    let pool = unsafe { &*(handle as *const Pool) };
    if pool.is_live() { Ok(pool) } else { Err(Some(pool)) }
}

/// Takes up what has waited, in all pools. Returns bytes that the zone has got.
pub fn settle_all() -> usize {
    give_back(false)
}

/// The same, and slabs that are kept though they are empty go.
pub fn release_all() -> usize {
    give_back(true)
}

#[inline(never)]
#[unsafe(link_section = ".text_solo")]
fn give_back(everything: bool) -> usize {
    all().filter(|pool| pool.state.load(Acquire) != NONE).map(|pool| pool.give_back(everything)).sum()
}

/// The figures as of now. No lock.
pub fn census() -> Census {
    all().fold(Census::default(), |sum, pool| {
        let inner = pool.inner.peek();
        // SAFETY: aligned words of a pool, which stays for good.
        let [slabs, away, waiting] = unsafe {
            [&raw const (*inner).slabs, &raw const (*inner).away, &raw const (*inner).waiting]
                .map(|word| word.read_volatile())
        };
        Census {
            bytes: sum.bytes + slabs * pool.slab_bytes(),
            live: sum.live + away * pool.stride(),
            waiting: sum.waiting + waiting * pool.stride(),
        }
    })
}

impl Pool {
    const fn none() -> Pool {
        Pool {
            mark: AtomicUsize::new(0),
            state: AtomicU32::new(NONE),
            next: AtomicPtr::new(core::ptr::null_mut()),
            name: [const { AtomicU8::new(0) }; POOL_NAME],
            // Of nothing; a stride is divided by.
            shape: Shape {
                size: AtomicUsize::new(0),
                stride: AtomicUsize::new(1),
                pages: AtomicUsize::new(0),
                objects: AtomicUsize::new(0),
            },
            is_typesafe: AtomicU32::new(0),
            inner: Lock::new(Inner::NONE),
        }
    }

    fn is_live(&self) -> bool {
        self.state.load(Acquire) == LIVE
    }

    fn is_typesafe(&self) -> bool {
        self.is_typesafe.load(Relaxed) != 0
    }

    fn size(&self) -> usize {
        self.shape.size.load(Relaxed)
    }

    fn stride(&self) -> usize {
        self.shape.stride.load(Relaxed).max(1)
    }

    fn objects(&self) -> usize {
        self.shape.objects.load(Relaxed).min(POOL_OBJECTS)
    }

    fn slab_bytes(&self) -> usize {
        self.shape.pages.load(Relaxed) * PAGE
    }

    /// Adds its name to a message.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn tell(&self, line: &mut Line) {
        for byte in self.name.iter().map(|byte| byte.load(Relaxed)).take_while(|&byte| byte != 0) {
            line.bytes(&[byte]);
        }
    }

    /// For fork: its lock.
    pub fn lock(&self) -> &Lock<Inner> {
        &self.inner
    }

    /// An object that a slab has to give.
    #[inline]
    pub fn take(&self) -> Option<usize> {
        let mut inner = self.inner.lock();
        inner.pop(self)
    }

    /// The same, where [`take`](Self::take) has found nothing: from what has waited, else from a new slab.
    /// `None`: out of memory.
    pub fn take_anew(&self) -> Option<usize> {
        let mut inner = self.inner.lock();
        inner.settle(self);
        if inner.partial.is_none() {
            if !self.is_live() {
                return None; // destroyed in this very moment, which is the program's fault
            }
            if self.is_typesafe() && inner.call_back(self) {
                return inner.pop(self);
            }
            let slab = Slab::create(self, inner.epoch)?;
            inner.slabs += 1;
            inner.list(slab);
        }
        inner.pop(self)
    }

    /// Takes an object back. `defers`: somebody may be reading it. True if it is the first of several that
    /// will wait together.
    pub fn give(&self, addr: usize, defers: bool) -> Result<bool, Wrong> {
        let Some(slab) = Slab::named_by(memdesc::of(addr)) else { return Err(Wrong::Foreign) };
        let mut inner = self.inner.lock();
        // Under the lock it neither leaves nor comes.
        if slab.head().pool.load(Relaxed) != core::ptr::from_ref(self).cast_mut() {
            return Err(Wrong::Foreign);
        }
        let offset = addr.wrapping_sub(slab.base());
        let (at, rest) = (offset / self.stride(), offset % self.stride());
        if at >= self.objects() || rest != 0 {
            return Err(Wrong::Foreign);
        }
        inner.know(self, slab);
        // SAFETY: the lock is held.
        let head = unsafe { slab.own() };
        let (word, bit) = (at / 64, 1 << (at % 64));
        if (head.free[word] | head.waiting[word] | head.open[word]) & bit != 0 {
            return Err(Wrong::Freed);
        }
        inner.away -= 1;
        if self.is_typesafe() || !defers {
            head.free[word] |= bit;
            head.free_count += 1;
            inner.after_return(self, slab);
            return Ok(false);
        }
        inner.waiting += 1;
        head.open[word] |= bit;
        let is_first = !head.is_queued;
        if is_first {
            inner.close(self, slab);
        } else if inner.waiting.is_multiple_of(POOL_LOOK) {
            inner.settle(self);
        }
        Ok(is_first)
    }

    /// Ends the pool: its slabs leave. `Err`: so many objects are with the program, and nothing has happened.
    pub fn destroy(&self) -> Result<(), usize> {
        let mut inner = self.inner.lock();
        if inner.away != 0 {
            return Err(inner.away);
        }
        self.state.store(GOING, Release);
        // Behind everything: nobody can find an object that was freed before.
        let cookie = backlog::cookie_for(inner.slabs * self.slab_bytes()).to_bits();
        backlog::settle(inner.forget_waiting(self, cookie));
        while let Some(slab) = inner.partial {
            inner.unlist(slab);
            // SAFETY: the lock is held.
            let head = unsafe { slab.own() };
            if !head.leaves {
                (head.cookie, head.leaves) = (cookie, true);
                inner.queue(slab);
            }
        }
        if inner.slabs == 0 {
            self.state.store(NONE, Release);
        }
        Ok(())
    }

    fn give_back(&self, everything: bool) -> usize {
        let mut inner = self.inner.lock();
        let before = inner.slabs;
        inner.settle(self);
        if everything {
            let mut next = inner.partial;
            while let Some(slab) = next {
                // SAFETY: the lock is held.
                next = unsafe { slab.own() }.next;
                if slab.is_empty(self) {
                    inner.leave(self, slab);
                }
            }
        }
        if inner.slabs == 0 && self.state.load(Relaxed) == GOING {
            self.state.store(NONE, Release);
        }
        (before - inner.slabs) * self.slab_bytes()
    }
}

impl Inner {
    const NONE: Inner =
        Inner { partial: None, first: None, last: None, slabs: 0, away: 0, waiting: 0, epoch: 0 };

    fn pop(&mut self, pool: &Pool) -> Option<usize> {
        let slab = self.partial?;
        // SAFETY: the lock is held.
        let head = unsafe { slab.own() };
        let word = head.free.iter().position(|&word| word != 0)?;
        let at = word * 64 + head.free[word].trailing_zeros() as usize;
        head.free[word] &= head.free[word] - 1;
        head.free_count -= 1;
        self.away += 1;
        if head.free_count == 0 {
            self.unlist(slab);
        }
        Some(slab.base() + at * pool.stride())
    }

    fn list(&mut self, slab: Slab) {
        let front = self.partial.replace(slab);
        // SAFETY: the lock is held.
        let head = unsafe { slab.own() };
        (head.next, head.prev, head.is_listed) = (front, None, true);
        if let Some(front) = front {
            // SAFETY: as above.
            unsafe { front.own() }.prev = Some(slab);
        }
    }

    fn unlist(&mut self, slab: Slab) {
        // SAFETY: the lock is held; so below.
        let head = unsafe { slab.own() };
        let (next, prev) = (head.next.take(), head.prev.take());
        head.is_listed = false;
        if let Some(next) = next {
            // SAFETY: as above.
            unsafe { next.own() }.prev = prev;
        }
        match prev {
            // SAFETY: as above.
            Some(prev) => unsafe { prev.own() }.next = next,
            None => self.partial = next,
        }
    }

    /// Puts a slab with a cookie behind those that have one.
    fn queue(&mut self, slab: Slab) {
        // SAFETY: the lock is held; so below.
        let head = unsafe { slab.own() };
        (head.next_waiting, head.is_queued) = (None, true);
        match self.last.replace(slab) {
            // SAFETY: as above.
            Some(last) => unsafe { last.own() }.next_waiting = Some(slab),
            None => self.first = Some(slab),
        }
    }

    /// What is open waits from now on.
    fn close(&mut self, pool: &Pool, slab: Slab) {
        // SAFETY: the lock is held.
        let head = unsafe { slab.own() };
        head.waiting = core::mem::take(&mut head.open);
        head.cookie = backlog::cookie_for(count(&head.waiting) * pool.stride()).to_bits();
        self.queue(slab);
    }

    /// Each slab that has a cookie leaves, behind this one. Returns bytes that had waited behind others.
    fn forget_waiting(&mut self, pool: &Pool, cookie: u64) -> usize {
        let (mut next, mut bytes) = (self.first, 0);
        while let Some(slab) = next {
            // SAFETY: the lock is held.
            let head = unsafe { slab.own() };
            bytes += if head.leaves { pool.slab_bytes() } else { count(&head.waiting) * pool.stride() };
            (head.waiting, head.open) = ([0; WORDS], [0; WORDS]);
            (head.cookie, head.leaves) = (cookie, true);
            next = head.next_waiting;
        }
        self.waiting = 0;
        bytes
    }

    /// A slab that has not left yet stays: of a typesafe pool, where that is all that slabs wait for.
    fn call_back(&mut self, pool: &Pool) -> bool {
        let Some(slab) = self.dequeue() else { return false };
        backlog::settle(pool.slab_bytes());
        // SAFETY: the lock is held.
        unsafe { slab.own() }.leaves = false;
        self.list(slab);
        true
    }

    /// The slab that has had its cookie for longest has none any more.
    fn dequeue(&mut self) -> Option<Slab> {
        let slab = self.first?;
        // SAFETY: the lock is held.
        let head = unsafe { slab.own() };
        self.first = head.next_waiting.take();
        if self.first.is_none() {
            self.last = None;
        }
        head.is_queued = false;
        Some(slab)
    }

    /// Takes up what has waited long enough.
    fn settle(&mut self, pool: &Pool) {
        while let Some(slab) = self.first {
            // SAFETY: the lock is held.
            let head = unsafe { slab.own() };
            if !DOMAIN.poll(Cookie::from_bits(head.cookie)) {
                return;
            }
            self.dequeue();
            // SAFETY: the lock is held.
            let head = unsafe { slab.own() };
            if head.leaves {
                backlog::settle(pool.slab_bytes());
                self.release(pool, slab);
                continue;
            }
            let waited = core::mem::take(&mut head.waiting);
            let objects = count(&waited);
            for (free, waited) in head.free.iter_mut().zip(waited) {
                *free |= waited;
            }
            head.free_count += objects as u32;
            self.waiting -= objects;
            backlog::settle(objects * pool.stride());
            if head.open != [0; WORDS] {
                self.close(pool, slab);
            }
            self.after_return(pool, slab);
        }
    }

    /// A slab has got something back.
    fn after_return(&mut self, pool: &Pool, slab: Slab) {
        // SAFETY: the lock is held.
        let head = unsafe { slab.own() };
        if !head.is_listed {
            self.list(slab);
        }
        let is_alone = self.partial == Some(slab) && head.next.is_none();
        if !is_alone && slab.is_empty(pool) {
            self.leave(pool, slab);
        }
    }

    /// No object of the slab is with the program or waits: it goes to the zone.
    fn leave(&mut self, pool: &Pool, slab: Slab) {
        self.unlist(slab);
        if !pool.is_typesafe() {
            return self.release(pool, slab);
        }
        // SAFETY: the lock is held.
        let head = unsafe { slab.own() };
        head.leaves = true;
        head.cookie = backlog::cookie_for(pool.slab_bytes()).to_bits();
        self.queue(slab);
    }

    fn release(&mut self, pool: &Pool, slab: Slab) {
        self.slabs -= 1;
        slab.release(pool);
    }

    /// What a slab says of lists that a fork or a jump has torn is forgotten.
    fn know(&mut self, pool: &Pool, slab: Slab) {
        if slab.head().epoch.swap(self.epoch, Relaxed) == self.epoch {
            return;
        }
        // SAFETY: the lock is held.
        let head = unsafe { slab.own() };
        (head.next, head.prev, head.next_waiting) = (None, None, None);
        (head.is_listed, head.is_queued, head.leaves) = (false, false, false);
        let free = count(&head.free);
        head.free_count = free as u32;
        for (open, waiting) in head.open.iter_mut().zip(core::mem::take(&mut head.waiting)) {
            *open |= waiting;
        }
        if head.open != [0; WORDS] {
            self.waiting += count(&head.open);
            self.close(pool, slab);
        }
        if free != 0 {
            self.list(slab);
        }
    }
}

impl Torn for Inner {
    /// Slabs with something to give are found again as objects of them come back. What waits in others is
    /// lost.
    fn abandon(&mut self) {
        *self = Inner { slabs: self.slabs, away: self.away, epoch: self.epoch + 1, ..Inner::NONE };
    }
}

fn count(bits: &Bits) -> usize {
    bits.iter().map(|word| word.count_ones() as usize).sum()
}

impl Slab {
    fn named_by(word: Memdesc) -> Option<Slab> {
        if word.kind() != Kind::Pool {
            return None;
        }
        NonNull::new(word.descriptor() as *mut Head).map(Slab)
    }

    /// A new slab of `pool`, all of whose objects are zeros.
    #[cold]
    #[inline(never)]
    fn create(pool: &Pool, epoch: usize) -> Option<Slab> {
        let (pages, objects) = (pool.shape.pages.load(Relaxed), pool.objects());
        let (page, holds) = zone::alloc_run(pages, PAGE, Place::Tight)?;
        let Some(head) = DESCRIPTORS.alloc() else {
            // SAFETY: allocated above and named by nothing.
            unsafe { zone::free_run(page, pages) };
            return None;
        };
        let clear = |page: Page, pages: usize| {
            // SAFETY: pages of the new slab.
            unsafe { page.as_ptr().write_bytes(0, pages * PAGE) };
        };
        match holds {
            Holds::Zeros => {}
            Holds::Mixed => zone::for_each_soiled(page, pages, clear),
            Holds::Anything => clear(page, pages),
        }
        let slab = Slab(head);
        let mut free = [0; WORDS];
        for (at, word) in free.iter_mut().enumerate() {
            let left = objects.saturating_sub(at * 64).min(64);
            *word = if left == 64 { u64::MAX } else { (1 << left) - 1 };
        }
        slab.head().pool.store(core::ptr::from_ref(pool).cast_mut(), Relaxed);
        slab.head().base.store(page.addr(), Relaxed);
        slab.head().epoch.store(epoch, Relaxed);
        // SAFETY: the descriptor is on no list and no memdesc names it: it is ours.
        let own = unsafe { slab.own() };
        (own.free, own.waiting, own.open) = (free, [0; WORDS], [0; WORDS]);
        own.free_count = objects as u32;
        (own.is_listed, own.is_queued, own.leaves) = (false, false, false);
        // SAFETY: the run is ours; the descriptor is published with Release.
        unsafe { memdesc::set(page, pages, Memdesc::new(Kind::Pool, head.as_ptr() as usize, 0)) };
        Some(slab)
    }

    /// Gives its pages to the zone. Nobody can find an object of it any more.
    #[cold]
    #[inline(never)]
    fn release(self, pool: &Pool) {
        self.head().pool.store(core::ptr::null_mut(), Relaxed);
        let Some(page) = Page::new(self.base()) else { return };
        // SAFETY: the slab's run, on no list any more; stale words find a descriptor of no pool.
        unsafe {
            zone::free_pages(page, pool.shape.pages.load(Relaxed).ilog2());
            DESCRIPTORS.free(self.0);
        }
    }

    fn head<'a>(self) -> &'a Head {
        // SAFETY: descriptors are type-stable; what is read through this are atomic words.
        unsafe { self.0.as_ref() }
    }

    /// # Safety
    /// The lock of its pool is held, or nobody knows of it; one such reference is used at a time.
    unsafe fn own<'a>(mut self) -> &'a mut Head {
        // SAFETY: promised by the caller.
        unsafe { self.0.as_mut() }
    }

    fn base(self) -> usize {
        self.head().base.load(Relaxed)
    }

    /// Whether all its objects may be handed out. The lock is held.
    fn is_empty(self, pool: &Pool) -> bool {
        // SAFETY: promised by the caller.
        unsafe { self.own() }.free_count as usize == pool.objects()
    }
}
