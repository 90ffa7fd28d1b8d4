//! Pages of large blocks: where a new block gets its run and its descriptor from, and where freed ones leave
//! theirs.
//!
//! Both at once, where both are due: a thread that asks for a block often holds some that have waited long
//! enough and are of no size it needs. Their runs go back and another comes under one lock of the zone, and a
//! descriptor changes hands without its pool. With two locks in place of one, and the pool's, two threads
//! passed twice as many cache lines to and fro.

use crate::class::backlog;
use crate::class::large::{Descriptor, LargeRef};
use crate::class::large_batch::{self, Freed};
use crate::class::work::Work;
use crate::constants::{LARGE_SHARDS, PAGE, RUNS_AT_ONCE};
use crate::os::tls;
use crate::page::meta::MetaPool;
use crate::page::zone::{self, Holds, Want};
use crate::page::{Page, ranges, watermark};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

static DESCRIPTORS: MetaPool<Descriptor> = MetaPool::new();

/// What every block that comes or goes changes. Threads are spread over several, each a cache line: with one
/// for all, two threads passed three lines (this, the pool's lock and its list) to and fro with every block.
#[repr(align(64))]
struct Shard {
    /// The descriptor that was given up last, or null.
    spare: AtomicPtr<Descriptor>,
    /// Blocks that have pages, whoever has them, their bytes, and how many ever had: less what other shards
    /// have counted. Only the sums mean anything.
    count: AtomicUsize,
    bytes: AtomicUsize,
    created: AtomicU64,
}

static ALL: [Shard; LARGE_SHARDS] = [const { Shard::new() }; LARGE_SHARDS];

impl Shard {
    const fn new() -> Shard {
        Shard {
            spare: AtomicPtr::new(core::ptr::null_mut()),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            created: AtomicU64::new(0),
        }
    }

    /// The calling thread's: threads have tables of some pages, so neighbours have different ones.
    #[inline]
    fn own() -> &'static Shard {
        &ALL[tls::alloc_table() / PAGE % LARGE_SHARDS]
    }

    /// A descriptor of nothing.
    #[inline]
    fn take_descriptor(&self) -> Option<NonNull<Descriptor>> {
        // Acquire: pairs with the Release in `give_descriptor`: it is whole.
        NonNull::new(self.spare.swap(core::ptr::null_mut(), Ordering::Acquire))
            .or_else(|| DESCRIPTORS.alloc())
    }

    /// # Safety
    /// No memdesc names it, and it is the caller's.
    #[inline]
    unsafe fn give_descriptor(&self, descriptor: NonNull<Descriptor>) {
        // AcqRel: as above, and the one that was there is whole.
        if let Some(older) = NonNull::new(self.spare.swap(descriptor.as_ptr(), Ordering::AcqRel)) {
            // SAFETY: it was given up, and the swap made it ours.
            unsafe { DESCRIPTORS.free(older) };
        }
    }

    /// So many blocks and pages more, or less.
    fn count(&self, blocks: isize, pages: isize) {
        if blocks != 0 {
            self.count.fetch_add(blocks as usize, Ordering::Relaxed);
        }
        if pages != 0 {
            self.bytes.fetch_add((pages * PAGE as isize) as usize, Ordering::Relaxed);
        }
    }

    /// What was given has gone.
    fn settle(&self, given: &mut Given) {
        self.count(-given.blocks, -given.pages);
        while let Some(spare) = given.spare.pop() {
            // SAFETY: no memdesc names it any more; stale readers find a descriptor of nothing.
            unsafe { self.give_descriptor(spare.descriptor()) };
        }
    }
}

/// What blocks leave that give up their runs.
struct Given {
    blocks: isize,
    pages: isize,
    /// Their descriptors, of nothing.
    spare: Freed,
    /// Blocks that are ranges, which have not given theirs yet.
    apart: Freed,
}

impl Given {
    /// Takes its run from a freed block, which ends here. A list that a fork tore may name a block twice: the
    /// second time there is none.
    fn take_run(&mut self, block: LargeRef) -> Option<(Page, usize)> {
        if block.is_apart() {
            self.apart.push(block);
            return None;
        }
        self.end(block)
    }

    fn end(&mut self, block: LargeRef) -> Option<(Page, usize)> {
        let run = block.end()?;
        self.blocks += 1;
        self.pages += run.1 as isize;
        self.spare.push(block);
        Some(run)
    }

    /// Gives the ranges, if there are any.
    #[inline(always)]
    fn give_apart(&mut self) {
        if !self.apart.is_empty() {
            self.give_ranges();
        }
    }

    #[cold]
    #[inline(never)]
    fn give_ranges(&mut self) {
        while let Some(block) = self.apart.pop() {
            let is_changed = block.is_changed();
            if let Some((page, pages)) = self.end(block) {
                // SAFETY: the block was freed and has ended, once.
                unsafe { ranges::give(page, pages, is_changed) };
            }
        }
    }
}

/// Gives the runs of `freed`, whose grace periods, if they needed any, have passed, to the zone, and takes
/// the one that is wanted.
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
fn exchange(mut freed: Freed, want: Option<Want>) -> (Option<(Page, Holds)>, Given) {
    let mut given = Given { blocks: 0, pages: 0, spare: Freed::EMPTY, apart: Freed::EMPTY };
    loop {
        let is_last = freed.count() <= RUNS_AT_ONCE;
        let runs = core::iter::from_fn(|| freed.pop()).take(RUNS_AT_ONCE as usize);
        let runs = runs.filter_map(|block| given.take_run(block));
        // SAFETY: the blocks were freed and have ended, each once: the runs are ours alone.
        let run = unsafe { zone::exchange(runs, want.filter(|_| is_last)) };
        if is_last {
            return (run, given);
        }
    }
}

/// Gives the pages of `freed` to the zone and the descriptors to their pool. Their grace periods, if they
/// needed any, have passed.
#[unsafe(link_section = ".text_solo")]
pub fn release(freed: Freed) {
    if freed.is_empty() {
        return;
    }
    let mut given = exchange(freed, None).1;
    given.give_apart();
    Shard::own().settle(&mut given);
}

/// Gives the batches that have waited for all threads to the zone, as far as there is `work` to be had.
/// Returns bytes.
#[unsafe(link_section = ".text_solo")]
pub fn reclaim(work: &mut Work) -> usize {
    let mut given = 0;
    while work.goes_on()
        && let Some(batch) = large_batch::shared().take_elapsed()
    {
        given += batch.bytes();
        work.did_large(batch.count());
        release(batch);
    }
    if given != 0 {
        backlog::relax_mark();
        watermark::purge_excess(0);
    }
    given
}

/// A new block of `size` bytes in the pages that are wanted, from the zone, which gets the pages of `freed`
/// first, as [`release`] gives them, and what they hold; or, if it is very long, a range. `None`: out of
/// memory.
#[inline(always)]
pub fn create(freed: Freed, size: usize, want: Want) -> Option<(usize, Holds)> {
    if ranges::is_apart(want.pages) {
        return create_long(freed, size, want);
    }
    create_in_window(freed, size, want)
}

#[cold]
#[inline(never)]
fn create_long(freed: Freed, size: usize, want: Want) -> Option<(usize, Holds)> {
    release(freed);
    create_apart(size, &want).or_else(|| create_in_window(Freed::EMPTY, size, want))
}

/// The same, a range.
#[cold]
#[inline(never)]
fn create_apart(size: usize, want: &Want) -> Option<(usize, Holds)> {
    let shard = Shard::own();
    let descriptor = shard.take_descriptor()?;
    match ranges::take(want.pages, want.align, LargeRef::word(descriptor)) {
        Some((page, soiled)) => {
            // SAFETY: a descriptor of nothing, and ours, as the run is, which is a range named by it.
            unsafe { LargeRef::begin_apart(descriptor, page, [want.pages, soiled], size) };
            shard.count(1, want.pages as isize);
            shard.created.fetch_add(1, Ordering::Relaxed);
            Some((page.addr(), if soiled == 0 { Holds::Zeros } else { Holds::Mixed }))
        }
        None => {
            // SAFETY: of nothing, and ours; nothing names it.
            unsafe { shard.give_descriptor(descriptor) };
            None
        }
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
fn create_in_window(freed: Freed, size: usize, want: Want) -> Option<(usize, Holds)> {
    let pages = want.pages;
    let (run, mut given) = exchange(freed, Some(want));
    given.give_apart();
    let shard = Shard::own();
    let block = run.and_then(|(page, holds)| {
        let spare = given.spare.pop().map(LargeRef::descriptor).or_else(|| shard.take_descriptor());
        if spare.is_none() {
            // SAFETY: allocated above and named by nothing.
            unsafe { zone::free_run(page, pages) };
        }
        // SAFETY: a descriptor of nothing, and ours, as the run is.
        unsafe { LargeRef::begin(spare?, page, pages, size) };
        Some((page.addr(), holds))
    });
    if block.is_some() {
        given.blocks -= 1;
        given.pages -= pages as isize;
        shard.created.fetch_add(1, Ordering::Relaxed);
    }
    shard.settle(&mut given);
    block
}

/// Calls `visit` with the stretches of a fresh block's first `pages` pages that may hold anything, if it was
/// given out as [`Holds::Mixed`].
pub fn for_each_soiled(page: Page, pages: usize, mut visit: impl FnMut(Page, usize)) {
    match LargeRef::of(page.addr()).filter(|block| block.is_apart()) {
        Some(block) => visit(page, block.soiled().min(pages)),
        None => zone::for_each_soiled(page, pages, visit),
    }
}

/// The tail of a live block past its first `keep` pages, freed: see [`LargeRef::split`]. `None`: there is no
/// memory for what describes it, and the block stays as it is.
#[cold]
pub fn split(block: LargeRef, keep: usize) -> Option<LargeRef> {
    let shard = Shard::own();
    let descriptor = shard.take_descriptor()?;
    // SAFETY: a descriptor of nothing, and ours; the caller resizes a block that it owns, to fewer pages.
    let tail = unsafe { block.split(descriptor, keep) };
    match tail {
        Some(_) => shard.count(1, 0),
        // SAFETY: of nothing, and ours.
        None => unsafe { shard.give_descriptor(descriptor) },
    }
    tail
}

/// A block grew in place by so many pages, or shrank.
pub fn resized(by: isize) {
    Shard::own().count(0, by);
}

/// Figures of large blocks, whoever has them.
#[derive(Clone, Copy, Default)]
pub struct Census {
    /// Blocks that have pages.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Bytes of those in the queue of waiting batches.
    pub waiting_bytes: usize,
    /// Blocks ever taken from the zone.
    pub created: u64,
}

/// The figures as of now.
pub fn census() -> Census {
    let zero = Census { waiting_bytes: large_batch::shared().bytes(), ..Census::default() };
    let sum = ALL.iter().fold(zero, |sum, shard| Census {
        count: sum.count.wrapping_add(shard.count.load(Ordering::Relaxed)),
        bytes: sum.bytes.wrapping_add(shard.bytes.load(Ordering::Relaxed)),
        created: sum.created + shard.created.load(Ordering::Relaxed),
        ..sum
    });
    // Shards are read one after the other: a block that moved on meanwhile may be missing twice.
    let seen = |figure: usize| (figure as isize).max(0) as usize;
    Census { count: seen(sum.count), bytes: seen(sum.bytes), ..sum }
}
