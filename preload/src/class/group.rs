//! Groups: magazines of any class that wait for a grace period together, behind one cookie.
//!
//! A turn of a magazine is cheap because it ends here: the full magazine joins its thread's open group, which
//! no other thread sees. Only a group that is large enough is *sealed*: the cookie is taken, after the last
//! block, and the group waits on the thread's shelf. So the fence, the accounts and the polls are paid once
//! for up to 64 KiB of blocks, however many classes these are of, and the magazines themselves can be small.
//!
//! A group is a chain through the magazines' heads. The first magazine keeps the cookie and the link of the
//! queue that the group is in, so a group needs no memory of its own (G4).
//!
//! Past a thread's share the oldest groups go to one queue for all threads, under one lock. Threads seal
//! before they queue, so cookies do not come quite in order there; each group is polled when it gets to the
//! head, which is early enough.

use crate::class::lists::Stack;
use crate::class::magazine::Magazine;
use crate::class::size_class::{CLASSES, Class};
use crate::class::work::Work;
use crate::class::{Torn, backlog, depot, waiting};
use crate::os::lock::Lock;
use crate::page::quarter::Quarter;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, compiler_fence};
use rcu::{Batch, Cookie, Stamped};

/// An open group. Zero bytes are an empty one.
#[derive(Default)]
#[repr(transparent)]
pub struct Group {
    first: Option<Magazine>,
}

impl Group {
    /// Without a magazine.
    pub const EMPTY: Group = Group { first: None };

    /// Adds a magazine whose blocks are marked in.
    #[inline(always)]
    pub fn push(&mut self, mut magazine: Magazine) {
        magazine.set_next(self.first.take());
        // As in `Stack::push`.
        compiler_fence(SeqCst);
        self.first = Some(magazine);
    }

    /// Takes the magazine that was added last.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Magazine> {
        let mut magazine = self.first.take()?;
        self.first = magazine.take_next();
        Some(magazine)
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Bytes of all its blocks. Walks the chain.
    pub fn bytes(&self) -> usize {
        self.magazines().map(Magazine::bytes).sum()
    }

    /// Whether `block` is in it.
    pub fn holds(&self, block: usize) -> bool {
        self.magazines().any(|magazine| magazine.holds(block))
    }

    /// When it was sealed, in milliseconds of the coarse clock.
    pub fn sealed_ms(&self) -> u32 {
        self.first.as_ref().map_or(0, Magazine::stamped_ms)
    }

    /// Notes when it is sealed.
    pub fn set_sealed_ms(&mut self, now_ms: u32) {
        if let Some(first) = &mut self.first {
            first.set_stamped_ms(now_ms);
        }
    }

    fn magazines(&self) -> impl Iterator<Item = &Magazine> {
        chain(self.first.as_ref())
    }
}

impl Batch for Group {
    fn entries(&self) -> u32 {
        self.magazines().map(|magazine| magazine.len() as u32).sum()
    }

    #[inline(always)]
    fn cookie(&self) -> Cookie {
        self.first.as_ref().map_or(Cookie::from_bits(0), Magazine::cookie)
    }

    #[inline(always)]
    fn set_cookie(&mut self, cookie: Cookie) {
        if let Some(first) = &mut self.first {
            first.set_cookie(cookie);
        }
    }
}

/// The magazines of the group that begins with `first`.
fn chain(first: Option<&Magazine>) -> impl Iterator<Item = &Magazine> {
    core::iter::successors(first, |magazine| magazine.next())
}

/// Sealed groups, oldest first. Zero bytes are an empty queue.
#[derive(Default)]
pub struct Queue {
    head: Group,
    /// A second handle on the first magazine of the youngest group, to link the next one behind it.
    tail: Option<Magazine>,
    /// Groups in it.
    len: usize,
    /// Bytes of their blocks. Statistics read other threads'.
    pub bytes: usize,
}

impl Queue {
    /// Without a group.
    pub const EMPTY: Queue = Queue { head: Group::EMPTY, tail: None, len: 0, bytes: 0 };

    /// Groups in it.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Appends a group of `bytes`, which is not empty.
    #[inline]
    pub fn push(&mut self, group: Stamped<Group>, bytes: usize) {
        // SAFETY: the group stays as it is until `pop` makes a stamped one of it again.
        let mut group = unsafe { group.into_unopened() };
        let Some(first) = &mut group.first else { return };
        first.set_next_group(None);
        let youngest = first.alias();
        match self.tail.replace(youngest) {
            Some(mut tail) => tail.set_next_group(group.first),
            None => self.head = group,
        }
        self.len += 1;
        self.bytes += bytes;
    }

    /// The first magazine of each group.
    fn groups(&self) -> impl Iterator<Item = &Magazine> {
        core::iter::successors(self.head.first.as_ref(), |first| first.next_group())
    }

    /// When the group was sealed that holds `block`, if one does.
    pub fn find(&self, block: usize) -> Option<u32> {
        let mut groups = self.groups();
        groups
            .find(|first| chain(Some(first)).any(|magazine| magazine.holds(block)))
            .map(Magazine::stamped_ms)
    }

    /// Calls `visit` with the time at which each of the oldest `most` groups was sealed, and its bytes.
    pub fn for_each(&self, most: usize, mut visit: impl FnMut(u32, usize)) {
        for first in self.groups().take(most) {
            visit(first.stamped_ms(), chain(Some(first)).map(Magazine::bytes).sum());
        }
    }

    /// The oldest group.
    #[inline(always)]
    pub fn front(&self) -> Option<&Stamped<Group>> {
        // SAFETY: whatever is in a queue came through `push`.
        (!self.is_empty()).then(|| unsafe { Stamped::of_unopened(&self.head) })
    }

    /// Takes the oldest group out, and says how many bytes it has.
    #[inline]
    pub fn pop(&mut self) -> Option<(Stamped<Group>, usize)> {
        let next = self.head.first.as_mut()?.take_next_group();
        let oldest = core::mem::replace(&mut self.head, Group { first: next });
        if self.head.is_empty() {
            self.tail = None;
        }
        let bytes = oldest.bytes();
        // Wrapping: the queue of a thread that a fork left behind may be torn.
        self.len = self.len.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(bytes);
        // SAFETY: as in `front`.
        Some((unsafe { Stamped::from_unopened(oldest) }, bytes))
    }

    /// Takes the oldest group out if its grace period has passed. Its bytes are still in the account.
    #[inline]
    pub fn pop_elapsed(&mut self) -> Option<(Stamped<Group>, usize)> {
        if waiting::elapsed(self.front()?) { self.pop() } else { None }
    }
}

/// The queue for all threads, on a cache line of its own.
#[repr(align(64))]
struct Shared {
    queue: Lock<Queue>,
    /// Groups in it, for a look without the lock: a stale answer costs a lock, or leaves the group to the
    /// next.
    count: AtomicUsize,
}

static SHARED: Shared = Shared { queue: Lock::new(Queue::EMPTY), count: AtomicUsize::new(0) };

/// Queues a sealed group of `bytes` for all threads.
pub fn share(group: Stamped<Group>, bytes: usize) {
    let mut queue = SHARED.queue.lock();
    queue.push(group, bytes);
    SHARED.count.store(queue.len, Relaxed);
}

/// The oldest group of the queue for all threads, if its grace period has passed. Its bytes leave the
/// account.
pub fn take_shared() -> Option<Group> {
    if SHARED.count.load(Relaxed) == 0 {
        return None;
    }
    let (oldest, bytes) = {
        let mut queue = SHARED.queue.lock();
        let oldest = queue.pop_elapsed()?;
        SHARED.count.store(queue.len, Relaxed);
        oldest
    };
    backlog::settle(bytes);
    waiting::open(oldest)
}

/// Bytes of the blocks in the queue for all threads. No lock.
pub fn shared_bytes() -> usize {
    // SAFETY: an aligned word of a static.
    unsafe { (&raw const (*SHARED.queue.peek()).bytes).read_volatile() }
}

/// Of each class, blocks of groups that were opened where no cache keeps the account
/// (`ThreadCache::waiting`). Wrapping, as the caches' are: only the sum means anything.
static TAKEN_UP: [AtomicU32; CLASSES] = [const { AtomicU32::new(0) }; CLASSES];

/// A magazine has been taken out of a group that has waited, by somebody who keeps no account.
pub fn note_taken_up(magazine: &Magazine) {
    TAKEN_UP[magazine.class().index()].fetch_add(magazine.len() as u32, Relaxed);
}

/// A cache ends: its account of what it has put into groups, less what it has taken out, goes on here.
pub fn note_account(class: Class, waiting: u32) {
    if waiting != 0 {
        TAKEN_UP[class.index()].fetch_sub(waiting, Relaxed);
    }
}

/// Blocks of `class` of which that has been noted, wrapping.
pub fn taken_up(class: Class) -> u32 {
    TAKEN_UP[class.index()].load(Relaxed)
}

/// Gives what has waited long enough in the queue for all threads to the depots, where every thread finds
/// what it needs, as far as there is `work` to be had. Returns bytes.
pub fn distribute_shared(work: &mut Work) -> usize {
    let mut bytes = 0;
    while work.goes_on()
        && let Some(mut group) = take_shared()
    {
        while let Some(magazine) = group.pop() {
            note_taken_up(&magazine);
            bytes += magazine.bytes();
            work.did(magazine.len());
            depot::of(magazine.class()).put(Quarter::of(0), magazine);
        }
    }
    bytes
}

/// Adds `magazine` to a stack of magazines of its class that may be handed out. One with few blocks is poured
/// into the top one; then the emptied magazine comes back.
#[inline]
pub fn stack(onto: &mut Stack, mut magazine: Magazine) -> Option<Magazine> {
    if onto.pour(&mut magazine) {
        return Some(magazine);
    }
    onto.push(magazine);
    None
}

/// Calls `look` with the queue for all threads, unless somebody has its lock: for figures, which wait for
/// nobody.
pub fn look_at_shared(look: impl FnOnce(&Queue)) {
    if let Some(queue) = SHARED.queue.try_lock() {
        look(&queue);
    }
}

/// For fork: the lock of the queue.
pub fn lock() -> &'static Lock<Queue> {
    &SHARED.queue
}

impl Torn for Queue {
    fn abandon(&mut self) {
        backlog::settle(self.bytes);
        *self = Queue::EMPTY;
        SHARED.count.store(0, Relaxed);
    }
}
