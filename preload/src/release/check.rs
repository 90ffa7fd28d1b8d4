//! Whether a block was freed before the section that looks at it began: what `rcumalloc_check` says.
//!
//! When a section began nobody writes down: it would cost the fast path. But the engine knows of each reader
//! the last grace period that need not wait for it, so a section under way began behind the beginning of that
//! period; and what was freed was freed before its cookie was taken, which is older than any period that
//! counts for it. So "before" is a proof, never a guess, and the other answer for a freed block says only
//! that there is none: a correct reader is never accused.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{own, registry};
use crate::class::backlog::DOMAIN;
use crate::class::large::LargeRef;
use crate::class::size_class::Class;
use crate::class::slab::{Slab, Whereabouts};
use crate::class::trap;
use crate::class::verdict::{self, Address};
use crate::constants::{CHECK_LOOKS, PAGE};
use crate::page::memdesc::Kind;
use crate::page::ranges;
use crate::release::traces::{self, Place};
use rcu::Cookie;

/// An `RCUMALLOC_CHECK_` of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freed {
    /// The address is not the heap's, or in a block that was never given out.
    Unknown = 0,
    /// It is the program's.
    Not = 1,
    /// It is freed; the section may have begun before that.
    Maybe = 2,
    /// It was freed before the section began, or no section holds it.
    Before = 3,
}

/// What the block that holds `addr` is to the section that the calling thread is in. Any address; waits for
/// nobody.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn check(addr: usize) -> Freed {
    match verdict::inspect(addr) {
        Address::Small { at: Whereabouts::NeverGiven, .. } | Address::Foreign | Address::Pooled(_) => {
            Freed::Unknown
        }
        // What was a block there has waited before its page became another's.
        Address::Internal(_) => match ranges::of(addr).kind() {
            Kind::Free | Kind::PageCache | Kind::Reserve | Kind::Magazine | Kind::Meta => Freed::Before,
            _ => Freed::Unknown,
        },
        Address::Small { start, class, at: Whereabouts::Out } => match is_filling(start, class) {
            true => behind(None),
            false => Freed::Not,
        },
        Address::Small { at: Whereabouts::Free, .. } => Freed::Before,
        Address::Small { start, at: Whereabouts::Deferred, .. } => {
            behind(Slab::of(start).and_then(Slab::deferred_cookie).map(Cookie::from_bits))
        }
        Address::Small { start, at: Whereabouts::Magazine, .. } => of_freed(start),
        Address::Large { live: true, .. } | Address::Trapped { live: true, .. } => Freed::Not,
        Address::Trapped { start, .. } => match trap::around(start).and_then(trap::Slot::waits_for) {
            Some(cookie) => behind(Some(cookie)),
            None => Freed::Before,
        },
        Address::Large { start, .. } => match LargeRef::of(start) {
            Some(_) => of_freed(start),
            None => Freed::Unknown,
        },
    }
}

/// Of a block that is on its way back to malloc.
fn of_freed(start: usize) -> Freed {
    match traces::find(start) {
        Some(Place::Waits(behind_it, _)) => behind(Some(behind_it.cookie)),
        Some(Place::Ready(_)) => Freed::Before,
        Some(Place::Open) | None => behind(None),
    }
}

/// Of a block that is behind `cookie`, or behind none that is known.
fn behind(cookie: Option<Cookie>) -> Freed {
    if !own::is_held() {
        return Freed::Before;
    }
    let began_after = |cookie| own::cell().is_some_and(|cell| cell.began_after(cookie));
    match cookie {
        Some(cookie) if DOMAIN.poll(cookie) || began_after(cookie) => Freed::Before,
        _ => Freed::Maybe,
    }
}

/// Whether a thread has freed the block into a magazine that it has not turned since.
fn is_filling(start: usize, class: Class) -> bool {
    registry::all().any(|cache| holds(cache, start, class))
}

/// Whether the magazine that frees of `cache`'s thread go to holds the block: of another thread's a look at
/// memory that stays pointers for ever, taken again if its ends have moved meanwhile.
fn holds(cache: *mut ThreadCache, start: usize, class: Class) -> bool {
    // SAFETY: type-stable; only addresses are made.
    let slot = unsafe { (&raw const (*cache).defer).cast::<u8>().add(class.slot()) }.cast::<[usize; 3]>();
    // SAFETY: the first three words of a slot, whose owner may be writing them.
    let ends = || unsafe { slot.read_volatile() };
    for _ in 0..CHECK_LOOKS {
        let [top, low, high] = ends();
        if low == 0 || !(low <= top && top <= high) || high - low > PAGE {
            continue;
        }
        // SAFETY: within a page of pointers, which stays one; its owner may be writing them.
        let found = (low..top).step_by(8).any(|at| unsafe { (at as *const usize).read_volatile() } == start);
        if ends()[..2] == [top, low] {
            return found;
        }
    }
    false
}
