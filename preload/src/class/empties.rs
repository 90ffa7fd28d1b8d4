//! The store of empty magazines, by kind: whoever needs one looks here before it cuts a page.
//!
//! A page of pointers is cut into magazines of one kind. When all of a page's are back in the store,
//! the page can go ([`release`]); which pages these are is found out only when somebody asks, by counting
//! in the pages' own memdesc words, so that taking and putting cost nothing more. A thread that looks at
//! another's magazine for statistics may thus find anything in it, and must bound what it reads.
//!
//! One lock, taken last before the page floor's.

use crate::class::Torn;
use crate::class::lists::Stack;
use crate::class::magazine::{KINDS, Magazine, kind_bytes};
use crate::constants::PAGE;
use crate::os::lock::Lock;
use crate::page::idle::{self, Idle};
use crate::page::memdesc::{self, Kind, Memdesc};
use crate::page::{Page, zone};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the lock protects.
pub struct Store {
    stacks: [Stack; KINDS],
    /// Bytes of all magazines in it.
    bytes: usize,
    /// Of the bytes, those nobody came for.
    idle: Idle,
}

static STORE: Lock<Store> = Lock::new(Store::new());
/// Pages of pointers there are.
static CUT: AtomicUsize = AtomicUsize::new(0);

impl Store {
    const fn new() -> Store {
        Store { stacks: [const { Stack::new() }; KINDS], bytes: 0, idle: Idle::new() }
    }

    fn pop(&mut self, kind: usize) -> Option<Magazine> {
        let magazine = self.stacks[kind].pop()?;
        self.bytes -= kind_bytes(kind);
        self.idle.fell_to(self.bytes);
        Some(magazine)
    }

    fn push(&mut self, magazine: Magazine) {
        self.bytes += kind_bytes(magazine.kind());
        self.stacks[magazine.kind()].push(magazine);
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
pub fn cut(page: Page, kind: usize) -> Magazine {
    // SAFETY: the caller gives the page, which nobody else has, to be a page of pointers.
    unsafe { memdesc::set(page, 1, Memdesc::of_kind(Kind::Magazine)) };
    CUT.fetch_add(1, Relaxed);
    let piece = |offset: usize| {
        // SAFETY: inside the page, aligned to the kind's size, each piece used once.
        unsafe { Magazine::create(NonNull::new_unchecked(page.as_ptr().add(offset)), kind) }
    };
    let mut store = STORE.lock();
    // Downwards: the next ones handed out lie next to the caller's.
    for index in (1..PAGE / kind_bytes(kind)).rev() {
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

/// What is known of a page while pages are looked for: how many of its magazines are in the store, how
/// many of them were taken out to go, and whether it stays.
#[derive(Clone, Copy, Default)]
struct Tally {
    stored: usize,
    going: usize,
    stays: bool,
}

impl Tally {
    fn of(page: Page) -> Tally {
        let bits = memdesc::of(page.addr()).descriptor() >> 4;
        Tally { stored: bits & 0xff, going: bits >> 8 & 0xff, stays: bits >> 16 != 0 }
    }

    fn note(self, page: Page) {
        let bits = self.stored | self.going << 8 | usize::from(self.stays) << 16;
        // SAFETY: a page of pointers, all of whose words are under the store's lock.
        unsafe { memdesc::set(page, 1, Memdesc::new(Kind::Magazine, bits << 4, 0)) };
    }
}

/// Gives up to `most` pages, all of whose magazines are in the store, to the zone. Returns how many.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn release(most: usize) -> usize {
    let mut store = STORE.lock();
    let mut released = 0;
    for kind in 0..KINDS {
        let pieces = PAGE / kind_bytes(kind);
        if store.stacks[kind].len() >= pieces {
            released += release_kind(&mut store.stacks[kind], pieces, most - released);
        }
    }
    store.bytes -= released * PAGE;
    CUT.fetch_sub(released, Relaxed);
    released
}

fn release_kind(stack: &mut Stack, pieces: usize, most: usize) -> usize {
    let page_of = |magazine: &Magazine| Page::containing(magazine.low() as usize);
    // Through an array of its own: each magazine is looked at three times.
    let (mut all, mut kept, mut released) = (core::mem::take(stack), Stack::new(), 0);
    let mut seen = Stack::new();
    while let Some(magazine) = all.pop() {
        if let Some(page) = page_of(&magazine) {
            let tally = Tally::of(page);
            Tally { stored: tally.stored + 1, ..tally }.note(page);
        }
        seen.push(magazine);
    }
    while let Some(magazine) = seen.pop() {
        let Some(page) = page_of(&magazine) else { continue };
        let mut tally = Tally::of(page);
        tally.stays |= tally.stored < pieces || tally.going == 0 && released == most;
        if tally.stays {
            tally.note(page);
            kept.push(magazine);
            continue;
        }
        released += usize::from(tally.going == 0);
        tally.going += 1;
        tally.note(page);
        if tally.going == pieces {
            // SAFETY: every magazine of the page was in the store and has just left it.
            unsafe { zone::free_pages(page, 0) };
        }
    }
    while let Some(magazine) = kept.pop() {
        if let Some(page) = page_of(&magazine) {
            Tally::default().note(page);
        }
        stack.push(magazine);
    }
    released
}

/// A tick of the decay has passed: gives a share of the pages nobody came for during a whole period to
/// the zone. Returns bytes.
pub fn age() -> usize {
    let idle = {
        let mut store = STORE.lock();
        let level = store.bytes;
        store.idle.tick(level)
    };
    match idle::share(idle / PAGE, 1) {
        0 => 0,
        share => {
            let bytes = release(share) * PAGE;
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
        *self = Store::new();
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
        let released = release(usize::MAX);
        assert!(released >= 2);
        assert_eq!(bytes(), before + 2 * kind_bytes(KIND) - released * PAGE);
        assert_eq!(
            memdesc::of(pages[2].addr()),
            Memdesc::of_kind(Kind::Magazine),
            "one of its magazines is out"
        );
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
        assert_eq!(release(1), 1, "no more than asked for");
    }
}
