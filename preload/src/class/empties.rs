//! The store of empty magazines, by kind: whoever needs one looks here before it cuts a page.
//!
//! A page of pointers is cut into magazines of one kind. A page's own memdesc word counts those of its
//! magazines that are in the store. When all are, the page is on a list of such pages, whose links lie in its
//! first magazine, and can go ([`release`]): each of its magazines is taken out from between its neighbours.
//! So no step, neither a put nor a take nor the release of a page, walks what others have put here. A thread
//! that looks at another's magazine for statistics may find anything in it, and must bound what it reads.
//!
//! One lock, taken last before the page floor's.

use crate::class::Torn;
use crate::class::magazine::{HEAD_BYTES, KINDS, Magazine, kind_bytes};
use crate::class::work::Work;
use crate::constants::PAGE;
use crate::os::lock::Lock;
use crate::page::idle::{self, Idle};
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::{Page, zone};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the lock protects.
pub struct Store {
    lists: [List; KINDS],
    /// The first of the pages all of whose magazines are here.
    whole: Option<Page>,
    /// Bytes of all magazines in it.
    bytes: usize,
    /// Of the bytes, those nobody came for.
    idle: Idle,
    /// How often the store was lost. What a page has counted before counts no more: some of its magazines
    /// are nobody's, so it is never whole again.
    losses: u32,
}

static STORE: Lock<Store> = Lock::new(Store::new());
/// Pages of pointers there are.
static CUT: AtomicUsize = AtomicUsize::new(0);

/// A list that any magazine on it can leave. The link to the one before is kept where a group that waits has
/// its link.
struct List {
    first: Option<Magazine>,
}

impl List {
    fn push(&mut self, mut magazine: Magazine) {
        if let Some(first) = &mut self.first {
            first.set_next_group(Some(magazine.alias()));
        }
        magazine.set_next_group(None);
        magazine.set_next(self.first.take());
        self.first = Some(magazine);
    }

    fn remove(&mut self, magazine: &mut Magazine) {
        let (before, mut behind) = (magazine.take_next_group(), magazine.take_next());
        if let Some(behind) = &mut behind {
            behind.set_next_group(before.as_ref().map(Magazine::alias));
        }
        match before {
            Some(mut before) => before.set_next(behind),
            None => self.first = behind,
        }
    }

    fn pop(&mut self) -> Option<Magazine> {
        let mut magazine = self.first.as_ref()?.alias();
        self.remove(&mut magazine);
        Some(magazine)
    }
}

/// How many magazines of a page are in the store, since it was last lost.
#[derive(Clone, Copy)]
struct Tally {
    stored: usize,
    losses: u32,
}

/// Where the two numbers of a [`Tally`] lie in a memdesc word's descriptor.
const STORED_SHIFT: usize = 4; // (given) as an encoding
const LOSSES_SHIFT: usize = 14; // (given) as an encoding
const STORED_MOST: usize = 0x3ff; // (given) as an encoding

impl Tally {
    fn of(page: Page) -> Tally {
        let bits = memdesc::of(page.addr()).descriptor();
        Tally { stored: bits >> STORED_SHIFT & STORED_MOST, losses: (bits >> LOSSES_SHIFT) as u32 }
    }

    fn note(self, page: Page) {
        let bits = self.stored << STORED_SHIFT | (self.losses as usize) << LOSSES_SHIFT;
        // SAFETY: a page of pointers, all of whose words are under the store's lock.
        unsafe { memdesc::set(page, 1, Memdesc::new(Kind::Magazine, bits, 0)) };
    }
}

/// How many magazines of `kind` a page is cut into.
const fn pieces(kind: usize) -> usize {
    PAGE / kind_bytes(kind)
}

/// The links of a page that is on the list of whole ones: the page before it and the one behind, by address;
/// 0 for none. They lie in its first magazine's array.
fn links(page: Page) -> &'static mut [usize; 2] {
    // SAFETY: a whole page, all of whose magazines are in the store, under the lock; an empty magazine's
    // array is nobody else's, and any array has more than two words.
    unsafe { &mut *page.as_ptr().add(HEAD_BYTES).cast() }
}

impl Store {
    const fn new() -> Store {
        Store {
            lists: [const { List { first: None } }; KINDS],
            whole: None,
            bytes: 0,
            idle: Idle::new(),
            losses: 0,
        }
    }

    #[unsafe(link_section = ".text_start")]
    fn pop(&mut self, kind: usize) -> Option<Magazine> {
        let magazine = self.lists[kind].pop()?;
        if let Some((page, mut tally)) = self.counted(&magazine) {
            if tally.stored == pieces(kind) {
                self.unlink_whole(page);
            }
            tally.stored = tally.stored.saturating_sub(1);
            tally.note(page);
        }
        self.bytes -= kind_bytes(kind);
        self.idle.fell_to(self.bytes);
        Some(magazine)
    }

    #[unsafe(link_section = ".text_start")]
    fn push(&mut self, magazine: Magazine) {
        let (kind, counted) = (magazine.kind(), self.counted(&magazine));
        self.bytes += kind_bytes(kind);
        self.lists[kind].push(magazine);
        if let Some((page, mut tally)) = counted {
            tally.stored += 1;
            tally.note(page);
            if tally.stored == pieces(kind) {
                self.link_whole(page);
            }
        }
    }

    /// The page of `magazine`, and what is counted of it.
    fn counted(&self, magazine: &Magazine) -> Option<(Page, Tally)> {
        let page = Page::containing(magazine.low() as usize)?;
        let tally = Tally::of(page);
        let is_lost = tally.losses != self.losses;
        Some((page, if is_lost { Tally { stored: 0, losses: self.losses } } else { tally }))
    }

    fn link_whole(&mut self, page: Page) {
        let behind = self.whole.replace(page);
        *links(page) = [0, behind.map_or(0, Page::addr)];
        if let Some(behind) = behind {
            links(behind)[0] = page.addr();
        }
    }

    fn unlink_whole(&mut self, page: Page) {
        let [before, behind] = links(page).map(Page::containing);
        match before {
            Some(before) => links(before)[1] = behind.map_or(0, Page::addr),
            None => self.whole = behind,
        }
        if let Some(behind) = behind {
            links(behind)[0] = before.map_or(0, Page::addr);
        }
    }

    /// Takes a whole page out, with its magazines; says how many these were.
    fn pop_whole(&mut self) -> Option<(Page, usize)> {
        let page = self.whole?;
        self.unlink_whole(page);
        // SAFETY: its first magazine is in the store, whose lock is held.
        let kind = unsafe { Magazine::of_low(page.as_ptr().add(HEAD_BYTES).cast()) }?.kind();
        for index in 0..pieces(kind) {
            // SAFETY: as above, each of them.
            let low = unsafe { page.as_ptr().add(index * kind_bytes(kind) + HEAD_BYTES) };
            // SAFETY: and taken out here, once.
            self.lists[kind].remove(&mut unsafe { Magazine::of_low(low.cast()) }?);
        }
        self.bytes -= PAGE;
        Some((page, pieces(kind)))
    }
}

/// An empty magazine of `kind`, if there is one.
pub fn take(kind: usize) -> Option<Magazine> {
    STORE.lock().pop(kind)
}

/// Any empty magazine at all, the largest first.
pub fn take_any() -> Option<Magazine> {
    let mut store = STORE.lock();
    (0..KINDS).rev().find_map(|kind| store.pop(kind))
}

/// An empty magazine for the next one who needs one.
pub fn put(magazine: Magazine) {
    STORE.lock().push(magazine);
}

/// Cuts `page` into empty magazines of `kind`; one for the caller, the others to the store.
#[unsafe(link_section = ".text_start")]
pub fn cut(page: Page, kind: usize) -> Magazine {
    CUT.fetch_add(1, Relaxed);
    let piece = |offset: usize| {
        // SAFETY: inside the page, aligned to the kind's size, each piece used once.
        unsafe { Magazine::create(NonNull::new_unchecked(page.as_ptr().add(offset)), kind) }
    };
    let mut store = STORE.lock();
    // The caller gives the page, which nobody else has, to be a page of pointers.
    Tally { stored: 0, losses: store.losses }.note(page);
    // Downwards: the next ones handed out lie next to the caller's.
    for index in (1..pieces(kind)).rev() {
        store.push(piece(index * kind_bytes(kind)));
    }
    piece(0)
}

/// Pages of pointers there are.
pub fn pages_cut() -> usize {
    CUT.load(Relaxed)
}

/// Bytes of the magazines in the store. No lock.
pub fn bytes() -> usize {
    // SAFETY: an aligned word of a static.
    unsafe { (&raw const (*STORE.peek()).bytes).read_volatile() }
}

/// Gives up to `most` pages, all of whose magazines are in the store, to the zone, as far as there is `work`
/// to be had. Returns how many.
#[inline(never)]
#[unsafe(link_section = ".text_solo")]
pub fn release(most: usize, work: &mut Work) -> usize {
    let mut released = 0;
    while released < most
        && work.goes_on()
        && let Some((page, magazines)) = pop_whole()
    {
        // SAFETY: every magazine of the page was in the store and has just left it.
        unsafe { zone::free_pages(page, 0) };
        work.did(magazines);
        released += 1;
    }
    CUT.fetch_sub(released, Relaxed);
    released
}

fn pop_whole() -> Option<(Page, usize)> {
    STORE.lock().pop_whole()
}

/// A tick of the decay has passed: gives a share of the pages nobody came for during a whole period to
/// the zone, as far as there is `work` to be had. Returns bytes.
pub fn age(work: &mut Work) -> usize {
    let idle = {
        let mut store = STORE.lock();
        let level = store.bytes;
        store.idle.tick(level)
    };
    match idle::share(idle / PAGE, 1) {
        0 => 0,
        share => {
            let bytes = release(share, work) * PAGE;
            STORE.lock().idle.gave(bytes);
            bytes
        }
    }
}

/// For fork: the lock.
pub fn lock() -> &'static Lock<Store> {
    &STORE
}

impl Torn for Store {
    fn abandon(&mut self) {
        *self = Store { losses: self.losses.wrapping_add(1), ..Store::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn whole_pages_go_and_others_stay() {
        crate::own_process::in_own_process!();
        const KIND: usize = 2;
        let pieces = PAGE / kind_bytes(KIND);
        // Other tests use the store, too: whatever is in it, three pages more.
        let pages: Vec<Page> = (0..3).map(|_| zone::alloc_pages(0).unwrap()).collect();
        let firsts: Vec<Magazine> = pages.iter().map(|&page| cut(page, KIND)).collect();
        let before = bytes();
        let [first, second, third] = firsts.try_into().ok().unwrap();
        put(first);
        put(second);
        let released = release(usize::MAX, &mut Work::asked_for());
        assert!(released >= 2);
        assert_eq!(bytes(), before + 2 * kind_bytes(KIND) - released * PAGE);
        assert_eq!(memdesc::of(pages[2].addr()).kind(), Kind::Magazine, "one of its magazines is out");
        for &page in &pages[..2] {
            assert_ne!(memdesc::of(page.addr()).kind(), Kind::Magazine);
        }
        let mut rest = HashSet::new();
        while let Some(magazine) = take(KIND) {
            assert!(rest.insert(magazine.into_low()));
        }
        let of_third = rest.iter().filter(|&&low| low as usize & !(PAGE - 1) == pages[2].addr()).count();
        assert_eq!(of_third, pieces - 1);
        put(third);
        // SAFETY: from `low`, above.
        rest.into_iter().for_each(|low| put(unsafe { Magazine::of_low(low) }.unwrap()));
        assert_eq!(release(1, &mut Work::asked_for()), 1, "no more than asked for");
    }

    /// Magazines come and go in any order, of every kind; what the store counts is what it has, and in the
    /// end each page goes that was cut.
    #[test]
    fn every_page_is_found_when_it_is_whole() {
        crate::own_process::in_own_process!();
        while release(usize::MAX, &mut Work::asked_for()) != 0 {}
        let (had, mut out, mut seed) = (pages_cut(), Vec::new(), 1u64);
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (dice, kind) = (seed >> 33, (seed >> 60) as usize % KINDS);
            match dice % 8 {
                0 => out.push(cut(zone::alloc_pages(0).unwrap(), kind)),
                1..4 => out.extend(take(kind)),
                4..7 if !out.is_empty() => put(out.swap_remove((dice >> 8) as usize % out.len())),
                7 => drop(release(1, &mut Work::asked_for())),
                _ => {}
            }
        }
        out.drain(..).for_each(put);
        let released = release(usize::MAX, &mut Work::asked_for());
        assert!(released > 10 && pages_cut() <= had, "{released} {had} {}", pages_cut());
    }

    /// A page some of whose magazines were lost with the store never goes, whatever comes back of it.
    #[test]
    fn a_page_with_lost_magazines_stays() {
        crate::own_process::in_own_process!();
        const KIND: usize = 3;
        let page = zone::alloc_pages(0).unwrap();
        let first = cut(page, KIND);
        let second = take(KIND).unwrap();
        STORE.lock().abandon();
        put(first);
        put(second);
        assert_eq!(release(usize::MAX, &mut Work::asked_for()), 0);
        let found = [take(KIND), take(KIND), take(KIND)];
        assert!(found[0].is_some() && found[1].is_some() && found[2].is_none(), "two of it came back");
        assert_eq!(memdesc::of(page.addr()).kind(), Kind::Magazine);
    }

    /// No more than there is work to be had, and one page.
    #[test]
    fn a_call_releases_no_more_than_its_work() {
        crate::own_process::in_own_process!();
        let pages = crate::constants::MOST_BLOCKS;
        (0..pages).for_each(|_| put(cut(zone::alloc_pages(0).unwrap(), 1)));
        let a_page = PAGE / kind_bytes(1);
        let released = release(usize::MAX, &mut Work::of_a_call());
        assert_eq!(released, pages.div_ceil(a_page), "of {pages}");
    }
}
