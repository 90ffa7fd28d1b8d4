//! The class pool: every slab of one class, under one lock.
//!
//! Magazines take whole batches of blocks from here and the cold drain puts them back one by
//! one. A slab all of whose blocks came back goes to the zone, except the
//! last one with anything to give, which is kept so that a program at the edge does not create
//! and destroy a slab a turn. Lock order: class pool, then the page floor.

use crate::class::Torn;
use crate::class::backlog::{self, DOMAIN};
use crate::class::size_class::{CLASSES, Class, block_of};
use crate::class::slab::Slab;
use crate::class::work::Work;
use crate::constants::{
    IDLE_TICKS, LOOK_AT_SLAB, PAGE, SLAB_BYTES, SLAB_PURGE_CALL, SLABS_LOOKED_AT, SLABS_SETTLED,
};
use crate::os::lock::Lock;
use crate::page::memdesc;
use crate::page::memdesc::Words;
use crate::page::quarter::Quarter;
use rcu::Cookie;

/// What the lock protects.
pub struct Inner {
    /// Slabs with something to give, by quarter; new ones and newly opened ones at the front.
    partial: [Option<Slab>; Quarter::COUNT],
    /// Slabs with deferred bits, in the order in which they got their first.
    deferred: Option<Slab>,
    deferred_tail: Option<Slab>,
    /// Descriptors of this class without a slab.
    unused: Option<Slab>,
    /// Slabs there are.
    slabs: usize,
    /// Blocks that are in no slab: with the program or in magazines.
    away: usize,
    /// Blocks in deferred bitmaps.
    waiting: usize,
    /// The slab that was kept though it was empty, last. It may have gone since; no other one is empty.
    kept: Option<Slab>,
    /// The slab whose free pages are looked for next, and the quarter it is listed with.
    to_purge: (Option<Slab>, usize),
    /// The class, once it has given a block.
    class: Option<Class>,
    /// Ticks of the decay since a block was last taken.
    ticks: usize,
    /// Blocks that were ever taken, and in how many calls.
    taken: Tally,
    /// Blocks that came back one by one, and in how many.
    returned: Tally,
}

/// Blocks, and calls that moved them.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Blocks.
    pub blocks: u64,
    /// Calls.
    pub calls: u64,
}

impl Tally {
    fn count(&mut self, blocks: usize) {
        self.blocks += blocks as u64;
        self.calls += u64::from(blocks != 0);
    }
}

/// One class's slabs.
pub struct ClassPool(Lock<Inner>);

/// Figures of one class.
#[derive(Clone, Copy, Default)]
pub struct Census {
    /// Slabs.
    pub slabs: usize,
    /// Blocks outside slabs.
    pub away: usize,
    /// Blocks in deferred bitmaps.
    pub waiting: usize,
    /// Magazines that were filled from slabs, and their blocks.
    pub taken: Tally,
    /// Magazines that were flushed to slabs, and their blocks.
    pub returned: Tally,
}

static POOLS: [ClassPool; CLASSES] = [const { ClassPool::new() }; CLASSES];

/// The pool of `class`.
#[inline(always)]
pub fn of(class: Class) -> &'static ClassPool {
    &POOLS[class.index()]
}

/// Takes up what waits in the slabs of every class, as far as one call goes.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn settle_some() {
    Class::all().for_each(|class| of(class).settle_some());
}

/// Gives empty slabs of every class to the zone.
#[unsafe(link_section = ".text_threads")]
pub fn release_empty_all() {
    for class in Class::all() {
        of(class).release_empty();
    }
}

/// Gives what is free in the slabs of every class back: empty slabs to the zone, pages of others to the
/// system.
#[unsafe(link_section = ".text_threads")]
pub fn release_all() {
    release_empty_all();
    for class in Class::all() {
        of(class).purge_pages(&mut Work::asked_for());
    }
}

impl ClassPool {
    const fn new() -> ClassPool {
        ClassPool(Lock::new(Inner::new()))
    }

    /// Fills `out` with blocks of `class` for a thread of `quarter` as far as memory goes; returns how many.
    /// Of those `fresh` at most were never used before: their pages may not be resident.
    #[unsafe(link_section = ".text_start")]
    pub fn take(&self, class: Class, quarter: Quarter, out: &mut [usize], mut fresh: usize) -> usize {
        let mut inner = self.0.lock();
        let mut taken = 0;
        inner.class = Some(class);
        inner.ticks = 0;
        if inner.deferred.is_some() {
            inner.settle(SLABS_SETTLED);
        }
        while taken < out.len() {
            let Some(slab) = inner.slab_for(class, quarter, fresh != 0) else { break };
            let before = taken;
            taken += slab.take(&mut out[taken..], &mut fresh);
            if !slab.has_some() {
                inner.unlink(slab);
            } else if taken == before {
                break; // it has fresh ones only
            }
        }
        inner.away += taken;
        inner.taken.count(taken);
        taken
    }

    /// The cold drain: puts `blocks` back into their slabs. Returns the address of a block that was in
    /// already, or of no slab of this class, if there was one. In any order: what is in address order is each
    /// slab's bitmap, and sorting here took more time than all the rest.
    pub fn put(&self, class: Class, blocks: &[usize]) -> Option<usize> {
        let (mut bad, mut put) = (None, 0);
        let (words, slot, magic) = (Words::now(), class.slot(), class.magic());
        let mut inner = self.0.lock();
        for &block in blocks {
            match Slab::named_by(words.of(block), slot) {
                Some(slab) if slab.put(block_of(magic, block as u16)) => {
                    put += 1;
                    inner.after_return(slab);
                }
                _ => bad = Some(block),
            }
        }
        inner.away -= put;
        inner.returned.count(put);
        bad
    }

    /// The last resort of `free` (G4): sets the block's bit in its slab's deferred bitmap.
    pub fn defer(&self, class: Class, block: usize) {
        let mut inner = self.0.lock();
        let Some(slab) = Slab::of(block) else { return };
        // Credit 0: a period starts by itself, for nobody will look after this block.
        let cookie = backlog::cookie_for(class.size());
        let first = slab.deferred_cookie().is_none();
        slab.defer(block, cookie.to_bits());
        inner.away -= 1;
        inner.waiting += 1;
        if first {
            match inner.deferred_tail {
                Some(mut tail) => *tail.deferred_link() = Some(slab),
                None => inner.deferred = Some(slab),
            }
            inner.deferred_tail = Some(slab);
        }
    }

    /// Moves elapsed deferred bits to the free bitmaps, and empty slabs to the zone.
    pub fn settle(&self) {
        self.0.lock().settle(usize::MAX);
    }

    /// The same for as many slabs as one call may look at, if there are any.
    fn settle_some(&self) {
        // SAFETY: an aligned word of a static.
        if unsafe { (&raw const (*self.0.peek()).waiting).read_volatile() } != 0 {
            self.0.lock().settle(SLABS_SETTLED);
        }
    }

    /// Gives the slab that was kept empty, if there is one, to the zone; and those that become so. Returns
    /// how many.
    pub fn release_empty(&self) -> usize {
        let mut inner = self.0.lock();
        let before = inner.slabs;
        inner.settle(usize::MAX);
        if let Some(slab) = inner.kept_empty() {
            inner.release(slab);
        }
        before - inner.slabs
    }

    /// A tick of the decay has passed: releases empty slabs and free pages of others if nobody has taken a
    /// block for a whole period. Returns bytes.
    pub fn age(&self, work: &mut Work) -> usize {
        let ticks = {
            let mut inner = self.0.lock();
            inner.ticks += usize::from(inner.ticks < IDLE_TICKS && inner.has_partial());
            inner.ticks
        };
        if ticks < IDLE_TICKS { 0 } else { self.release_empty() * SLAB_BYTES + self.purge_pages(work) }
    }

    /// Gives the pages of its slabs all of whose blocks are in to the system, as far as there is `work` to be
    /// had; another call goes on from there. The lock is held for one slab at a time. Returns bytes.
    #[unsafe(link_section = ".text_solo")]
    pub fn purge_pages(&self, work: &mut Work) -> usize {
        let mut bytes = 0;
        let mut first = None;
        // Once around, or as many as there are, should the first go meanwhile.
        let mut left = self.census().slabs;
        while left != 0 && work.goes_on() {
            let mut inner = self.0.lock();
            let Some(slab) = inner.next_to_purge().filter(|&slab| first != Some(slab)) else { break };
            first = first.or(Some(slab));
            let (pages, calls) = slab.purge_pages();
            drop(inner);
            work.did(LOOK_AT_SLAB + calls * SLAB_PURGE_CALL);
            bytes += pages * PAGE;
            left -= 1;
        }
        bytes
    }

    /// Bytes of the slab it keeps though it is empty. No lock.
    pub fn kept_bytes(&self) -> usize {
        // SAFETY: an aligned word of a static; descriptors are type-stable.
        let kept = unsafe { (&raw const (*self.0.peek()).kept).read_volatile() };
        empty(kept).map_or(0, |_| SLAB_BYTES)
    }

    /// Its figures. No lock.
    pub fn census(&self) -> Census {
        let inner = self.0.peek();
        // SAFETY: aligned words of a static.
        unsafe {
            Census {
                slabs: (&raw const (*inner).slabs).read_volatile(),
                away: (&raw const (*inner).away).read_volatile(),
                waiting: (&raw const (*inner).waiting).read_volatile(),
                taken: (&raw const (*inner).taken).read_volatile(),
                returned: (&raw const (*inner).returned).read_volatile(),
            }
        }
    }

    /// For fork: the lock itself.
    pub fn lock(&self) -> &Lock<Inner> {
        &self.0
    }
}

/// A slab that was kept, if no block of it is away.
fn empty(kept: Option<Slab>) -> Option<Slab> {
    kept.filter(|&slab| slab.is_listed() && slab.is_empty() && slab.deferred_cookie().is_none())
}

/// Of the first few of each of these lists the slab with the least to give that `is_wanted`.
#[inline(always)]
fn least(lists: &[Option<Slab>], is_wanted: impl Fn(Slab) -> bool) -> Option<Slab> {
    let mut found = None;
    for &first in lists {
        let few = core::iter::successors(first, |&(mut slab)| *slab.links().0).take(SLABS_LOOKED_AT);
        for slab in few.filter(|&slab| is_wanted(slab)) {
            let gives = slab.available();
            if found.is_none_or(|(least, _)| gives < least) {
                found = Some((gives, slab));
            }
        }
    }
    found.map(|(_, slab)| slab)
}

impl Inner {
    /// A slab from which `quarter` may take: one of its own; else another's that is three quarters empty
    /// again (with half, two threads that each reuse what they free came to share two slabs in five); else a
    /// new one; else any. Of the first few of each the one with the least to give: the others may empty.
    /// Without `fresh` none is made.
    fn slab_for(&mut self, class: Class, quarter: Quarter, fresh: bool) -> Option<Slab> {
        let own = least(&[self.partial[quarter.index()]], |_| true);
        if own.is_some() {
            return own;
        }
        let left = least(&self.partial, Slab::is_mostly_returned);
        let new = match left {
            None if fresh => Slab::create(class, quarter, &mut self.unused),
            _ => None,
        };
        if let Some(new) = new {
            self.slabs += 1;
            self.link(new);
            return Some(new);
        }
        let slab = left.or_else(|| least(&self.partial, |_| true))?;
        self.unlink(slab);
        slab.set_quarter(quarter);
        self.link(slab);
        Some(slab)
    }

    /// The next slab with something to give, over all quarters in turn.
    fn next_to_purge(&mut self) -> Option<Slab> {
        for _ in 0..=Quarter::COUNT {
            let (slab, quarter) = self.to_purge;
            if let Some(mut slab) = slab {
                self.to_purge.0 = *slab.links().0;
                return Some(slab);
            }
            let quarter = (quarter + 1) % Quarter::COUNT;
            self.to_purge = (self.partial[quarter], quarter);
        }
        None
    }

    /// The slab that is kept though no block of it is away: it was alone when it emptied.
    fn kept_empty(&self) -> Option<Slab> {
        empty(self.kept)
    }

    fn has_partial(&self) -> bool {
        self.partial.iter().any(Option::is_some)
    }

    const fn new() -> Inner {
        Inner {
            partial: [None; Quarter::COUNT],
            deferred: None,
            deferred_tail: None,
            unused: None,
            slabs: 0,
            away: 0,
            waiting: 0,
            kept: None,
            to_purge: (None, 0),
            class: None,
            ticks: 0,
            taken: Tally { blocks: 0, calls: 0 },
            returned: Tally { blocks: 0, calls: 0 },
        }
    }

    fn link(&mut self, mut slab: Slab) {
        let first = &mut self.partial[slab.quarter().index()];
        let front = first.replace(slab);
        let (next, prev, listed) = slab.links();
        *next = front;
        *prev = None;
        *listed = true;
        if let Some(mut front) = front {
            *front.links().1 = Some(slab);
        }
    }

    fn unlink(&mut self, mut slab: Slab) {
        if self.to_purge.0 == Some(slab) {
            self.to_purge.0 = *slab.links().0;
        }
        let (next, prev, listed) = slab.links();
        *listed = false;
        let (next, prev) = (next.take(), prev.take());
        if let Some(mut next) = next {
            *next.links().1 = prev;
        }
        match prev {
            Some(mut prev) => *prev.links().0 = next,
            None => self.partial[slab.quarter().index()] = next,
        }
    }

    /// Files a slab that got blocks back where it now belongs.
    #[inline(always)]
    fn after_return(&mut self, mut slab: Slab) {
        if !*slab.links().2 {
            self.link(slab);
        }
        if slab.is_empty() {
            self.after_emptying(slab);
        }
    }

    #[inline(never)]
    #[unsafe(link_section = ".text_solo")]
    fn after_emptying(&mut self, mut slab: Slab) {
        let alone = slab.links().0.is_none()
            && slab.links().1.is_none()
            && self.partial.iter().filter(|first| first.is_some()).count() == 1;
        if slab.deferred_cookie().is_some() {
            return;
        }
        if alone {
            self.kept = Some(slab);
        } else {
            self.release(slab);
        }
    }

    #[unsafe(link_section = ".text_solo")]
    fn release(&mut self, slab: Slab) {
        self.unlink(slab);
        self.slabs -= 1;
        slab.destroy(&mut self.unused);
    }

    /// Moves elapsed deferred bits back, oldest slab first, up to the first that has to wait, of `most`
    /// slabs.
    #[unsafe(link_section = ".text_solo")]
    fn settle(&mut self, most: usize) {
        for _ in 0..most {
            let Some(mut slab) = self.deferred else { return };
            if let Some(cookie) = slab.deferred_cookie()
                && !DOMAIN.poll(Cookie::from_bits(cookie))
            {
                return;
            }
            self.deferred = slab.deferred_link().take();
            if self.deferred.is_none() {
                self.deferred_tail = None;
            }
            let count = slab.settle_deferred();
            self.waiting -= count;
            backlog::settle(count * slab.class().size());
            self.after_return(slab);
        }
    }
}

impl Torn for Inner {
    /// Lists the slabs of the class anew, from what the pages say. Blocks that were on their way
    /// are lost, descriptors without a slab too.
    fn abandon(&mut self) {
        let known = self.class;
        let (taken, returned) = (self.taken, self.returned);
        *self = Inner { class: known, taken, returned, ..Inner::new() };
        let Some(class) = known else { return };
        memdesc::for_each_slab(class.slot() as u16, |descriptor, addr| {
            let Some(mut slab) = Slab::of(addr).filter(|slab| slab.is_at(descriptor, addr)) else { return };
            slab.recount();
            self.slabs += 1;
            let (carved, free, deferred) = slab.census();
            self.away += carved - free - deferred;
            self.waiting += deferred;
            if slab.has_some() {
                self.link(slab);
            }
            if deferred != 0 {
                *slab.deferred_link() = self.deferred;
                self.deferred = Some(slab);
                self.deferred_tail = self.deferred_tail.or(Some(slab));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_already_is_named_and_changes_nothing() {
        crate::own_process::in_own_process!();
        let (class, other) = (Class::new(9), Class::new(10));
        let (mut blocks, mut strange) = ([0; 5], [0; 1]);
        assert_eq!(of(class).take(class, Quarter::of(0), &mut blocks, 5), 5);
        assert_eq!(of(other).take(other, Quarter::of(0), &mut strange, 1), 1);
        assert_eq!(of(class).put(class, &blocks[..2]), None);
        let never_carved = blocks[4] + class.size();
        for bad in [blocks[1], never_carved, strange[0], 0] {
            assert_eq!(of(class).put(class, &[bad]), Some(bad));
            assert_eq!(of(class).census().away, 3, "{bad:#x}");
        }
        // The others of the same magazine come in all the same.
        assert_eq!(of(class).put(class, &[blocks[2], blocks[2], blocks[3], blocks[4]]), Some(blocks[2]));
        assert_eq!(of(class).census().away, 0);
        // The next to be given out are the lowest, each once.
        let mut again = [0; 5];
        assert_eq!(of(class).take(class, Quarter::of(0), &mut again, 0), 5);
        assert_eq!(again, blocks);
    }
}
