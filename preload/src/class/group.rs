//! Groups: magazines of any class that wait for a grace period together, behind one cookie.
//!
//! A turn of a magazine is cheap because it ends here: the full magazine joins its thread's open group, which
//! no other thread sees. Only a group that is large enough is *sealed*: the cookie is taken, after the last
//! block, and the group waits on the thread's shelf. So the fence, the accounts and the polls are paid once
//! for up to 64 KiB of blocks, however many classes these are of, and the magazines themselves can be small.
//!
//! A group is a chain through the magazines' heads. The first magazine keeps the cookie and the link of the
//! queue that the group is in, so a group needs no memory of its own (G4).
//! Where groups wait is in `queue.rs`.

use crate::class::backlog::DOMAIN;
use crate::class::fingerprints;
use crate::class::magazine::Magazine;
use crate::class::queue::{Link, Shared};
use crate::class::size_class::{CLASSES, Class};
use crate::class::waiting::TakenUp;
use crate::os::{arch, clock};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use rcu::{Batch, Cookie};

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
        arch::stores_in_order();
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

    /// Notes when it is sealed.
    pub fn set_sealed_ms(&mut self, now_ms: u32) {
        if let Some(first) = &mut self.first {
            first.set_stamped_ms(now_ms);
        }
    }

    fn magazines(&self) -> impl Iterator<Item = &Magazine> {
        core::iter::successors(self.first.as_ref(), |magazine| magazine.next())
    }
}

impl Group {
    /// What its fingerprints are known by: where its first magazine lies.
    fn key(&self) -> usize {
        self.first.as_ref().map_or(0, |first| first.low() as usize)
    }

    /// Where each of its blocks starts, and its bytes.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        self.magazines().flat_map(|magazine| {
            let bytes = magazine.class().size();
            magazine.peek_blocks().iter().map(move |&block| (block, bytes))
        })
    }

    /// It is about to be sealed: takes its fingerprints, if it is its turn.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn print(&self) {
        let readers = DOMAIN.stalled(clock::now_ns(), 0).filter(|stall| stall.nesting != 0);
        fingerprints::take(self.key(), self.blocks(), readers.map(|stall| stall.tid));
    }
}

impl TakenUp for Group {
    #[inline(always)]
    fn look(&self) {
        if fingerprints::is_on() {
            fingerprints::check(self.key(), self.blocks());
        }
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

/// The first magazine stands for its group.
impl Link for Group {
    const NONE: Group = Group::EMPTY;

    #[inline(always)]
    fn is_none(&self) -> bool {
        self.is_empty()
    }

    #[inline(always)]
    fn second(&self) -> Group {
        Group { first: self.first.as_ref().map(Magazine::alias) }
    }

    #[inline(always)]
    fn behind(&self) -> Group {
        Group { first: self.first.as_ref().and_then(Magazine::next_group).map(Magazine::alias) }
    }

    #[inline(always)]
    fn set_behind(&mut self, next: Group) {
        if let Some(first) = &mut self.first {
            first.set_next_group(next.first);
        }
    }

    /// Walks the chain.
    fn bytes(&self) -> usize {
        self.magazines().map(Magazine::bytes).sum()
    }

    fn closed_ms(&self) -> u32 {
        self.first.as_ref().map_or(0, Magazine::stamped_ms)
    }

    fn holds(&self, block: usize) -> bool {
        self.magazines().any(|magazine| magazine.holds(block))
    }

    #[inline(always)]
    fn shared() -> &'static Shared<Group> {
        &SHARED
    }
}

static SHARED: Shared<Group> = Shared::new();

/// Groups that wait for all threads.
#[inline(always)]
pub fn shared() -> &'static Shared<Group> {
    &SHARED
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
