//! Tests of the ranges, each in a process of its own: there is one map.

use super::*;
use crate::constants::UNIT;
use crate::os::map::{fail_after, fail_never};
use crate::own_process::in_own_process;
use std::sync::atomic::AtomicBool;
use std::vec::Vec;

/// Pages of a small range: any length may be taken.
const SOME: usize = 600;

/// A word that no other range of the test has.
fn word(number: usize) -> Memdesc {
    Memdesc::new(Kind::Large, 64 * (number + 1), 0)
}

fn bytes_free() -> usize {
    RANGES.lock().free_pages() * PAGE
}

/// What the zone says of mappings: bytes mapped, and of these free.
fn account() -> (usize, usize) {
    let stats = zone::stats();
    (stats.ground_bytes, stats.free_bytes)
}

fn put_away(run: (Page, usize), changed: bool) {
    // SAFETY: the test's, once.
    unsafe { give(run.0, run.1, changed) };
}

/// A range that the test has.
struct Live {
    page: Page,
    pages: usize,
    word: Memdesc,
}

impl Live {
    /// Writes to its first and its last page.
    fn mark(&self) {
        for at in [0, self.pages - 1] {
            // SAFETY: the test's.
            unsafe { self.page.as_ptr().add(at * PAGE).cast::<u64>().write(self.word.0) };
        }
    }

    fn check(&self) {
        assert_eq!(of(self.page.addr()), self.word);
        assert_eq!(of(self.page.addr() + self.pages * PAGE - 1), self.word);
        // SAFETY: the test's.
        let first = unsafe { self.page.as_ptr().cast::<u64>().read() };
        assert_eq!(first, self.word.0, "somebody else wrote here");
        let (start, bytes, word) = find(self.page.addr() + self.pages * PAGE - 1).expect("it is there");
        assert_eq!((start, bytes, word), (self.page.addr(), self.pages * PAGE, self.word));
    }
}

#[test]
fn ranges_are_what_was_asked_for_and_the_accounts_add_up() {
    in_own_process!();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut throw = |sides: usize| {
        dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (dice >> 33) as usize % sides
    };
    let first = take(SOME, PAGE, word(0)).expect("memory").0;
    put_away((first, SOME), true);
    let (mapped, free) = account();
    let mut live: Vec<Live> = Vec::new();
    for number in 1..6000 {
        match throw(8) {
            0..=2 if live.len() < 60 => {
                let (pages, align) = (1 + throw(3 * SOME), PAGE << throw(16));
                let (page, zero_from) = take(pages, align, word(number)).expect("memory");
                assert!(page.addr().is_multiple_of(align.max(HUGE_PAGE)));
                for at in zero_from..pages {
                    // SAFETY: the test's.
                    assert_eq!(unsafe { page.as_ptr().add(at * PAGE).cast::<u64>().read() }, 0);
                }
                let it = Live { page, pages, word: word(number) };
                it.mark();
                live.push(it);
            }
            3 if !live.is_empty() => {
                let at = throw(live.len());
                let (it, more) = (&mut live[at], 1 + throw(SOME));
                if extend_run(it.page, it.pages, more, it.word) {
                    it.pages += more;
                    it.mark();
                }
            }
            4 if !live.is_empty() => {
                // A tail, as one of its own or given back.
                let at = throw(live.len());
                let it = &mut live[at];
                let keep = 1 + throw(it.pages);
                let tail = (Page::new(it.page.addr() + keep * PAGE).expect("a page"), it.pages - keep);
                if tail.1 == 0 {
                } else if throw(2) == 0 {
                    it.pages = keep;
                    put_away(tail, throw(4) == 0);
                } else if split(tail.0, tail.1, word(number)) {
                    it.pages = keep;
                    let tail = Live { page: tail.0, pages: tail.1, word: word(number) };
                    tail.mark();
                    live.push(tail);
                }
            }
            5..=6 if !live.is_empty() => {
                let it = live.swap_remove(throw(live.len()));
                it.check();
                put_away((it.page, it.pages), throw(8) == 0);
            }
            _ if throw(3) == 0 => {
                purge(throw(2 * UNIT), throw(2) == 0);
            }
            _ => {}
        }
        live.iter().for_each(Live::check);
        let out: usize = live.iter().map(|it| it.pages * PAGE).sum();
        let kept = bytes_free();
        assert_eq!(account(), (mapped + out + kept, free + kept));
    }
    for it in live {
        put_away((it.page, it.pages), false);
    }
    assert!(bytes_free() != 0);
    purge(usize::MAX, false);
    assert_eq!((account(), bytes_free()), ((mapped, free), 0));
    assert!(next_from(0).is_none() && of(span().start).kind() == Kind::Free);
}

#[test]
fn they_grow_where_they_are() {
    in_own_process!();
    let take = |number| take(SOME, PAGE, word(number)).expect("memory").0;
    let (one, two) = (take(1), take(2));
    for step in 0..60 {
        assert!(extend_run(one, SOME * (step + 1), SOME, word(1)));
        assert!(extend_run(two, SOME * (step + 1), SOME, word(2)));
    }
    assert_eq!(find(one.addr()).map(|found| found.1), Some(61 * SOME * PAGE));
    // Not over another, nor past the end.
    assert!(!extend_run(one, SOME * 61, APART_ROOM / PAGE * 2, word(1)));
    assert!(!extend_run(two, SOME * 61, APART_SPAN / PAGE, word(2)));
    assert!(!extend_run(two, SOME * 61, usize::MAX / 2, word(2)));
    // What is behind a live one and too short is left to that one, which takes it first.
    const KEPT: usize = 36 * HUGE_PAGE / PAGE;
    let tail = Page::new(one.addr() + KEPT * PAGE).expect("a page");
    put_away((tail, 61 * SOME - KEPT), false);
    let other = super::take(62 * SOME - KEPT, PAGE, word(3)).expect("memory").0;
    assert!(find(other.addr()).is_some_and(|found| found.0 != tail.addr()));
    let dirty = bytes_free();
    assert!(extend_run(one, KEPT, 62 * SOME - KEPT, word(1)));
    assert_eq!(bytes_free(), dirty - (61 * SOME - KEPT) * PAGE);
    // A free one that is too short grows.
    put_away((two, 61 * SOME), false);
    let (again, soiled) = super::take(63 * SOME, PAGE, word(4)).expect("memory");
    assert!(again == two && soiled == 61 * SOME);
}

#[test]
fn a_mapping_in_the_way_is_stepped_over() {
    in_own_process!();
    take(SOME, PAGE, word(1)).expect("memory");
    let next = RANGES.lock().next + APART_GROWTH * SOME * PAGE;
    let theirs = next.next_multiple_of(HUGE_PAGE);
    assert_eq!(map::map_at(theirs, 64 * UNIT), Placed::Done);
    for number in 2..10 {
        let (page, _) = take(SOME, PAGE, word(number)).expect("there is room elsewhere");
        assert!(page.addr() + SOME * PAGE <= theirs || page.addr() >= theirs + 64 * UNIT);
        // Not into it either.
        let to_theirs = theirs.wrapping_sub(page.addr() + SOME * PAGE) / PAGE;
        assert!(page.addr() > theirs || !extend_run(page, SOME, to_theirs + 1, word(number)));
    }
}

#[test]
fn what_fails_leaves_everything_as_it_was() {
    in_own_process!();
    let (page, _) = take(SOME, PAGE, word(1)).expect("memory");
    let before = account();
    for calls in 0..4 {
        fail_after(calls);
        let got = take(SOME, PAGE, word(2));
        let grown = extend_run(page, SOME, SOME, word(1));
        fail_never();
        assert_eq!(got.is_some(), calls > 0);
        let out = (usize::from(got.is_some()) + usize::from(grown)) * SOME * PAGE;
        assert_eq!(account(), (before.0 + out, before.1));
        if let Some((page, _)) = got {
            put_away((page, SOME), true);
        }
        if grown {
            put_away((Page::new(page.addr() + SOME * PAGE).expect("a page"), SOME), true);
        }
        assert_eq!((account(), of(page.addr())), (before, word(1)));
    }
    // The hard limit counts them, and with it nothing is kept.
    limit::set_hard(before.0 + UNIT);
    assert!(!extend_run(page, SOME, 2 * SOME, word(1)) && take(2 * SOME, PAGE, word(3)).is_none());
    put_away((page, SOME), false);
    assert_eq!((bytes_free(), account()), (0, (before.0 - SOME * PAGE, before.1)));
    limit::set_hard(usize::MAX);
    assert!(
        take(APART_SPAN / PAGE + 1, PAGE, word(4)).is_none() && take(1, 2 * APART_SPAN, word(4)).is_none()
    );
}

/// Ranges that stay are found at every moment, whatever becomes of those around them, with a lock and
/// without.
#[test]
fn whose_an_address_is_can_always_be_said() {
    in_own_process!();
    static STOP: AtomicBool = AtomicBool::new(false);
    let stay: Vec<Live> = (0..40)
        .map(|number| Live {
            page: take(2, PAGE, word(number)).expect("memory").0,
            pages: 2,
            word: word(number),
        })
        .collect();
    stay.iter().for_each(Live::mark);
    // Every cell of the readers is somebody's, for a while.
    let hog = |some: usize| (0..some).map(|_| LOOKUPS.register(0)).filter_map(Result::ok).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !STOP.load(Relaxed) {
                    stay.iter().for_each(Live::check);
                }
            });
        }
        for round in 0..6000 {
            let hogs = if round % 100 == 50 { hog(APART_READERS) } else { Vec::new() };
            let pages = 1 + round % 7;
            let (page, _) = take(pages, PAGE, word(1000 + round)).expect("memory");
            assert_eq!(of(page.addr()), word(1000 + round));
            put_away((page, pages), round % 3 == 0);
            drop(hogs);
        }
        STOP.store(true, Relaxed);
    });
    // No look-up is left behind, and nodes were used again, but while a look-up had lost its processor.
    assert_eq!(hog(APART_READERS + 1).len(), APART_READERS);
    assert!(meta::stats().bytes < 4 << 20, "{} bytes", meta::stats().bytes);
}
