//! Tests of the zone, on zones of their own: the process's zone is shared by all tests.

use super::*;
use crate::constants::{MARK_SHIFTS, PAGE, UNIT, UNIT_PAGES};
use crate::os::map::{fail_after, fail_never};
use crate::os::syscall::syscall;
use std::boxed::Box;
use std::collections::BTreeMap;

#[path = "zone_model.rs"]
mod model;

/// A zone of its own with a window of `largest` bytes. Its addresses are never unmapped; a
/// test process has enough.
fn zone(largest: usize) -> Box<Zone> {
    fail_never(); // a failed case may have left it on
    let zone = Box::new(Zone::new());
    assert!(zone.state.lock().open(&zone, largest));
    zone
}

/// Whether all of [begin, end) is free or in holes.
fn is_free_or_hole(state: &mut State, begin: usize, end: usize) -> bool {
    let mut at = begin;
    for hole in state.window.holes().to_vec() {
        if hole.first < end && hole.end > at {
            if hole.first > at && !state.buddy.is_free(at, hole.first - at) {
                return false;
            }
            at = hole.end;
        }
    }
    at >= end || state.buddy.is_free(at, end - at)
}

/// What must hold at any time: free and given-out pages make up the ground, the ground and the holes
/// the window, and nothing live is free or in a hole.
fn check(zone: &Zone, live: &BTreeMap<usize, usize>) {
    let stats = zone.stats();
    let out: usize = live.values().sum();
    assert_eq!(stats.free_bytes + out * PAGE, stats.ground_bytes);
    assert!(stats.dirty_bytes <= stats.free_bytes);
    let mut state = zone.state.lock();
    let mut at = 0;
    for (&addr, &pages) in live {
        let first = (addr - state.window.base()) / PAGE;
        assert!(first >= at, "blocks overlap");
        assert!(state.window.foreign() > 0 || is_free_or_hole(&mut state, at, first));
        for page in [first, first + pages - 1] {
            assert!(!is_free_or_hole(&mut state, page, page + 1), "a live page is free");
        }
        at = first + pages;
    }
    let frontier = state.frontier_page();
    assert!(state.window.foreign() > 0 || is_free_or_hole(&mut state, at, frontier));
}

fn check_all_free(zone: &Zone) {
    let stats = zone.stats();
    assert_eq!(stats.free_bytes, stats.ground_bytes);
    let mut state = zone.state.lock();
    for unit in 0..stats.frontier_bytes / UNIT {
        let (begin, end) = (unit * UNIT_PAGES, (unit + 1) * UNIT_PAGES);
        let cut = |hole: &super::super::holes::Hole| hole.first < end && hole.end > begin;
        if stats.foreign_bytes == 0 && !state.window.holes().iter().any(cut) {
            let found = state.buddy.take_blocks(end, MAX_ORDER, UNIT_PAGES);
            assert!(matches!(found, Dirt::Stretch { .. }), "not coalesced");
        }
    }
}

fn write(page: Page, pages: usize) {
    for i in 0..pages {
        // SAFETY: given out to this test.
        unsafe { page.as_ptr().add(i * PAGE).cast::<usize>().write(page.addr() + i) };
    }
}

fn check_intact(page: Page, pages: usize) {
    for i in 0..pages {
        // SAFETY: given out to this test.
        let found = unsafe { page.as_ptr().add(i * PAGE).cast::<usize>().read() };
        assert_eq!(found, page.addr() + i, "somebody else wrote to a live page");
    }
}

fn is_zero(page: Page, pages: usize) -> bool {
    // SAFETY: given out to this test.
    let all = unsafe { core::slice::from_raw_parts(page.as_ptr().cast::<u64>(), pages * 512) };
    all.iter().all(|&word| word == 0)
}

#[test]
fn low_addresses_first_and_zero_known() {
    let zone = zone(64 << 20);
    let first = zone.alloc_pages(0).unwrap();
    let second = zone.alloc_pages(0).unwrap();
    assert_eq!(second.addr(), first.addr() + PAGE);
    write(first, 1);
    // SAFETY: ours.
    unsafe { zone.free(first, 1) };
    assert_eq!(
        zone.alloc_run(1, PAGE, Place::Tight),
        Some((first, Holds::Anything)),
        "dirty, and the lowest"
    );
    assert_eq!(zone.alloc_run(1, PAGE, Place::Tight).map(|(_, contents)| contents), Some(Holds::Zeros));
    // SAFETY: ours.
    unsafe { zone.free(first, 1) };
    assert_eq!(zone.purge_free(1), PAGE);
    assert_eq!(zone.purge_free(usize::MAX), 0, "nothing is purged twice");
    assert_eq!(zone.alloc_run(1, PAGE, Place::Tight), Some((first, Holds::Zeros)));
    assert!(is_zero(first, 1));
}

/// Clears of a run what the zone says may not be zero; returns the pages written.
fn clear(zone: &Zone, page: Page, pages: usize, contents: Holds) -> usize {
    let mut cleared = 0;
    if contents == Holds::Mixed {
        zone.for_each_soiled(page, pages, |soiled, length| {
            assert!(soiled >= page && soiled.addr() + length * PAGE <= page.addr() + pages * PAGE);
            // SAFETY: of the caller's run.
            unsafe { soiled.as_ptr().write_bytes(0, length * PAGE) };
            cleared += length;
        });
    }
    cleared
}

#[test]
fn of_a_partly_dirty_run_it_is_known_which_pages_are() {
    let zone = zone(64 << 20);
    let (run, _) = zone.alloc_run(3 * UNIT_PAGES, PAGE, Place::Tight).unwrap();
    let soiled = [(0, 3), (60, 70), (UNIT_PAGES - 1, 2), (2 * UNIT_PAGES + 5, 1)];
    let part = |first: usize| Page::new(run.addr() + first * PAGE).unwrap();
    for (first, pages) in soiled {
        write(part(first), pages);
    }
    let mut at = 0;
    for (first, pages) in soiled.into_iter().chain([(3 * UNIT_PAGES, 0)]) {
        // Between the soiled stretches nothing was ever written.
        let mut state = zone.state.lock();
        let index = state.index(run);
        state.buddy.free(index + at, first - at, false);
        state.buddy.free(index + first, pages, true);
        at = first + pages;
    }
    let again = zone.alloc_run(3 * UNIT_PAGES, PAGE, Place::Tight).unwrap();
    assert_eq!(again, (run, Holds::Mixed));
    let pages: usize = soiled.iter().map(|(_, pages)| pages).sum();
    assert_eq!(clear(&zone, run, 3 * UNIT_PAGES, Holds::Mixed), pages);
    assert!(is_zero(run, 3 * UNIT_PAGES));
}

#[test]
fn a_first_page_touches_little() {
    let zone = zone(1 << 30);
    zone.alloc_pages(0).unwrap();
    let state = zone.state.lock();
    // One page each of words and of units; the rest of both tables is committed, not touched.
    let resident = |addr: usize, pages: usize| {
        let mut map = std::vec![0u8; pages];
        let args = [addr, pages * PAGE, map.as_mut_ptr() as usize, 0, 0, 0];
        // SAFETY: the kernel writes one byte a page.
        unsafe { syscall(libc::SYS_mincore, args) }.unwrap();
        map.iter().filter(|&&byte| byte & 1 != 0).count()
    };
    assert!(resident(state.window.word(0).as_ptr().addr(), 4) <= 1);
    assert_eq!(resident(state.window.units() as usize, 2), 1);
    assert_eq!(resident(state.window.base(), 64), 0, "a page given out is not touched");
}

#[test]
fn each_mapping_call_may_fail() {
    // Opening and first growth make fewer than 16 calls, the run two more.
    for n in 0..16 {
        let zone = Box::new(Zone::new());
        fail_after(n);
        let opened = zone.state.lock().open(&zone, 64 << 20);
        let page = opened.then(|| zone.alloc_pages(3)).flatten();
        let run = opened.then(|| zone.alloc_run(2500, PAGE, Place::Tight)).flatten();
        fail_never();
        assert!(zone.state.lock().open(&zone, 64 << 20), "a failed open can be made again");
        let mut live = BTreeMap::new();
        let more = [page, run.map(|(page, _)| page), zone.alloc_pages(10)];
        for (page, pages) in more.into_iter().zip([8, 2500, 1024]) {
            if let Some(page) = page {
                write(page, pages);
                live.insert(page.addr(), pages);
            }
        }
        assert!(live.len() > 1 || n < 15);
        assert!(!live.is_empty(), "works once the system does again");
        check(&zone, &live);
    }
}

#[test]
fn a_failed_purge_loses_nothing() {
    let zone = zone(64 << 20);
    let page = zone.alloc_pages(6).unwrap();
    write(page, 64);
    // SAFETY: ours.
    unsafe { zone.free(page, 64) };
    fail_after(0);
    assert_eq!(zone.purge_free(usize::MAX), 0);
    fail_never();
    assert_eq!(zone.stats().dirty_bytes, 64 * PAGE);
    assert_eq!(zone.purge_free(usize::MAX), 64 * PAGE);
    check(&zone, &BTreeMap::new());
}

#[test]
fn a_failed_huge_run_takes_nothing() {
    let zone = zone(64 << 20);
    zone.alloc_pages(0).unwrap();
    let before = zone.stats();
    assert!(zone.alloc_run(1 << 20, PAGE, Place::Tight).is_none(), "past the window");
    assert!(zone.alloc_run(usize::MAX, PAGE, Place::Tight).is_none());
    assert!(zone.alloc_run(1, 1 << 62, Place::Tight).is_none());
    assert!(zone.alloc_run(0, PAGE, Place::Tight).is_none());
    fail_after(0);
    assert!(zone.alloc_run(9000, PAGE, Place::Tight).is_none());
    fail_never();
    assert_eq!(zone.stats().frontier_bytes, before.frontier_bytes);
    assert_eq!(zone.stats().free_bytes, before.free_bytes);
}

#[test]
fn the_window_fills_up() {
    let zone = zone(16 << 20);
    let units: std::vec::Vec<_> = core::iter::from_fn(|| zone.alloc_pages(10)).collect();
    assert_eq!(units.len(), 4);
    assert!(zone.alloc_pages(0).is_none());
    for unit in units {
        // SAFETY: ours.
        unsafe { zone.free(unit, UNIT_PAGES) };
    }
    check_all_free(&zone);
}

#[test]
fn foreign_mappings_are_stepped_over() {
    let zone = zone(64 << 20);
    let base = zone.state.lock().window.base();
    // In the middle of the second unit, and at the start of the third.
    for at in [base + UNIT + UNIT / 2, base + 2 * UNIT] {
        assert_eq!(map::map_at(at, PAGE), map::Placed::Done);
    }
    let mut live = BTreeMap::new();
    for _ in 0..5 {
        let page = zone.alloc_pages(10).unwrap();
        write(page, UNIT_PAGES);
        live.insert(page.addr(), UNIT_PAGES);
    }
    let (run, _) = zone.alloc_run(2000, PAGE, Place::Tight).unwrap();
    live.insert(run.addr(), 2000);
    let inside = |at: usize| live.iter().any(|(&a, &n)| at >= a && at < a + n * PAGE);
    assert!(!inside(base + UNIT + UNIT / 2) && !inside(base + 2 * UNIT));
    let stats = zone.stats();
    assert!(stats.foreign_bytes >= UNIT && stats.foreign_bytes <= 3 * UNIT);
    let state = zone.state.lock();
    assert_eq!(state.window.word(2 * UNIT_PAGES).load(Relaxed), Kind::Unknown as u64);
}

#[test]
fn a_large_foreign_mapping_costs_few_tries() {
    let zone = zone(4 << 30);
    let base = zone.state.lock().window.base();
    assert_eq!(map::map_at(base + UNIT, 1 << 30), map::Placed::Done);
    let (run, _) = zone.alloc_run(2 * UNIT_PAGES, PAGE, Place::Tight).unwrap();
    let stats = zone.stats();
    assert!(run.addr() >= base + UNIT + (1 << 30) && stats.foreign_bytes < 3 << 30, "{stats:?}");
    assert!(stats.grow_calls < 12, "{stats:?}");
    // SAFETY: ours.
    assert!(unsafe { map::unmap(base + UNIT, 1 << 30) });
}

/// Five units: 0 and 3 stay, 1, 2 and 4 are given back.
fn with_holes() -> (Box<Zone>, usize) {
    let zone = zone(64 << 20);
    let units: std::vec::Vec<_> = (0..5).map(|_| zone.alloc_pages(MAX_ORDER).unwrap()).collect();
    for number in [0, 3, 1, 2, 4] {
        write(units[number], UNIT_PAGES);
        if ![0, 3].contains(&number) {
            // SAFETY: ours.
            unsafe { zone.free(units[number], UNIT_PAGES) };
        }
    }
    assert_eq!(zone.purge_free(usize::MAX), 3 * UNIT);
    let base = units[0].addr();
    (zone, base)
}

fn is_mapped(at: usize) -> bool {
    let mut byte = 0u8;
    let args = [at, PAGE, (&raw mut byte).addr(), 0, 0, 0];
    // SAFETY: the kernel writes one byte.
    unsafe { syscall(libc::SYS_mincore, args) }.is_ok()
}

#[test]
fn whole_units_leave_and_come_back_as_zeros() {
    let (zone, base) = with_holes();
    let stats = zone.stats();
    assert_eq!((stats.frontier_bytes, stats.ground_bytes), (4 * UNIT, 2 * UNIT), "the frontier came down");
    assert_eq!([1, 2, 3, 4].map(|unit| is_mapped(base + unit * UNIT)), [false, false, true, false]);
    assert!(zone.state.lock().window.horizon() >= 5 * UNIT, "words stay");
    assert_eq!((zone.purge_free(usize::MAX), zone.stats().free_bytes), (0, 0));
    // The lowest first, and only as much of it as a step.
    let (small, holds) = zone.alloc_run(3, PAGE, Place::Tight).unwrap();
    assert!(small.addr() == base + UNIT && holds == Holds::Zeros && is_zero(small, 3));
    let (large, holds) = zone.alloc_run(1500, PAGE, Place::Tight).unwrap();
    assert!(large.addr() == base + 4 * UNIT && holds == Holds::Zeros, "the hole is too short for it");
    let (run, holds) = zone.alloc_run(UNIT_PAGES, PAGE, Place::Tight).unwrap();
    assert!(run.addr() == base + 2 * UNIT && holds == Holds::Zeros && is_zero(run, UNIT_PAGES));
    let live = [(base, 1024), (base + 3 * UNIT, 1024)].into_iter();
    let live = live.chain([(small.addr(), 3), (large.addr(), 1500), (run.addr(), 1024)]).collect();
    check(&zone, &live);
    assert!(zone.state.lock().window.holes().is_empty());
}

#[test]
fn a_run_grows_into_the_hole_behind_it() {
    let (zone, base) = with_holes();
    let first = Page::new(base).unwrap();
    // SAFETY: ours.
    unsafe {
        assert!(!zone.extend_run(first, UNIT_PAGES, 2 * UNIT_PAGES + 1), "unit 3 is in use");
        assert!(zone.state.lock().window.holes().len() == 1, "and then nothing is mapped");
        assert!(zone.extend_run(first, UNIT_PAGES, UNIT_PAGES / 2));
        zone.free(Page::new(base + UNIT).unwrap(), 10);
    }
    write(first, UNIT_PAGES);
    let live = [(base, UNIT_PAGES), (base + UNIT + 10 * PAGE, 502), (base + 3 * UNIT, UNIT_PAGES)];
    check(&zone, &live.into());
    // SAFETY: ours.
    assert!(unsafe { zone.extend_run(first, UNIT_PAGES, 10) });
    // SAFETY: as above; free, ground and hole at once.
    assert!(unsafe { zone.extend_run(first, UNIT_PAGES + UNIT_PAGES / 2, UNIT_PAGES + UNIT_PAGES / 2) });
    check(&zone, &[(base, 3 * UNIT_PAGES), (base + 3 * UNIT, UNIT_PAGES)].into());
}

#[test]
fn the_topmost_run_grows_into_new_ground_only_if_there_is_no_room_below() {
    let zone = zone(64 * UNIT);
    let run = |pages| zone.alloc_run(pages, PAGE, Place::Tight).unwrap().0;
    let (room, top) = (run(8 * UNIT_PAGES), run(UNIT_PAGES));
    assert!(top > room);
    // SAFETY: ours.
    unsafe {
        zone.free(room, 8 * UNIT_PAGES);
        assert!(!zone.extend_run(top, UNIT_PAGES, 2 * UNIT_PAGES), "it would carry the top away");
    }
    run(8 * UNIT_PAGES);
    // SAFETY: ours.
    assert!(unsafe { zone.extend_run(top, UNIT_PAGES, 2 * UNIT_PAGES) });
}

#[test]
fn what_somebody_mapped_into_a_hole_is_his() {
    let (zone, base) = with_holes();
    let theirs = base + UNIT + UNIT / 2;
    assert_eq!(map::map_at(theirs, PAGE), map::Placed::Done);
    // SAFETY: the test's.
    unsafe { (theirs as *mut u8).write(7) };
    let mut live: BTreeMap<_, _> = [(base, UNIT_PAGES), (base + 3 * UNIT, UNIT_PAGES)].into();
    for _ in 0..3 {
        let page = zone.alloc_pages(MAX_ORDER).unwrap();
        write(page, UNIT_PAGES);
        assert!(theirs < page.addr() || theirs >= page.addr() + UNIT);
        live.insert(page.addr(), UNIT_PAGES);
    }
    check(&zone, &live);
    assert_eq!(zone.stats().foreign_bytes, UNIT);
    assert_eq!(zone.state.lock().window.word(UNIT_PAGES).load(Relaxed), Kind::Unknown as u64);
    // SAFETY: as above.
    assert_eq!(unsafe { (theirs as *const u8).read() }, 7);
}

#[test]
fn what_cannot_be_unmapped_or_mapped_again_is_not_lost() {
    let zone = zone(64 << 20);
    let units: std::vec::Vec<_> = (0..4).map(|_| zone.alloc_pages(MAX_ORDER).unwrap()).collect();
    write(units[1], UNIT_PAGES);
    // SAFETY: ours.
    unsafe { zone.free(units[1], UNIT_PAGES) };
    fail_after(0);
    assert_eq!(zone.purge_free(usize::MAX), 0);
    assert_eq!(zone.stats().dirty_bytes, UNIT);
    fail_never();
    assert_eq!(zone.purge_free(usize::MAX), UNIT);
    let ground = zone.stats().ground_bytes;
    fail_after(0);
    assert!(zone.alloc_pages(0).is_none());
    fail_never();
    assert_eq!(zone.stats().ground_bytes, ground);
    assert_eq!(zone.alloc_pages(MAX_ORDER), Some(units[1]));
}

/// Pages of which every second is free: none is worth a call, all of them worth nothing to `unmap` of whole
/// units.
#[test]
fn near_a_limit_shorter_stretches_leave_too() {
    let zone = zone(64 << 20);
    let runs: std::vec::Vec<_> = (0..60).map(|_| zone.alloc_pages(4).unwrap()).collect();
    let ground = zone.stats().ground_bytes;
    for &run in runs.iter().step_by(2) {
        // SAFETY: ours.
        unsafe { zone.free(run, 16) };
    }
    zone.purge_free(usize::MAX);
    assert_eq!(zone.stats().ground_bytes, ground, "only whole units leave");
    zone.unmap(&zone.alone(), PURGE_ORDER, &Bounds::all(usize::MAX), |_, _, dirty| dirty);
    assert!(zone.stats().ground_bytes <= ground - 30 * 16 * PAGE);
    assert!(zone.state.lock().window.holes().len() >= 29);
    let again: std::vec::Vec<_> = (0..30).map(|_| zone.alloc_pages(4).unwrap()).collect();
    assert!(again.iter().all(|again| runs.iter().step_by(2).any(|run| run == again)), "holes come first");
}

#[test]
fn there_are_only_so_many_holes() {
    use crate::constants::HOLES;
    let zone = zone(16 << 30);
    let units: std::vec::Vec<_> = (0..2 * HOLES + 20).map(|_| zone.alloc_pages(MAX_ORDER).unwrap()).collect();
    for &unit in units.iter().step_by(2) {
        // SAFETY: ours.
        unsafe { zone.free(unit, UNIT_PAGES) };
    }
    assert_eq!(zone.purge_free(usize::MAX), (HOLES + 10) * UNIT, "the rest is purged where it is");
    assert_eq!(zone.state.lock().window.holes().len(), HOLES);
    assert_eq!(zone.stats().free_bytes, 10 * UNIT);
}

#[test]
fn after_a_torn_change_what_is_free_is_counted_anew() {
    let zone = zone(64 << 20);
    let mut live = BTreeMap::new();
    let mut state = 1_u64;
    for _ in 0..2000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pages = (state >> 33) as usize % 40 + 1;
        let (page, _) = zone.alloc_run(pages, 1, Place::Tight).unwrap();
        live.insert(page.addr(), pages);
        if live.len() > 60 {
            let (addr, pages) = live.pop_first().unwrap();
            // SAFETY: ours.
            unsafe { zone.free(Page::new(addr).unwrap(), pages) };
        }
    }
    let before = zone.stats();
    {
        let mut state = zone.state.lock();
        // Left between a block and its halves.
        state.buddy.leave_torn();
        // SAFETY: nobody else is here.
        unsafe { state.recount(&zone) };
    }
    let after = zone.stats();
    assert_eq!(after.free_bytes, before.free_bytes);
    assert_eq!(after.dirty_bytes, after.free_bytes, "what was in hand may have been written");
    check(&zone, &live);
    // All of it can be given out and comes back.
    while let Some((addr, pages)) = live.pop_first() {
        // SAFETY: ours.
        unsafe { zone.free(Page::new(addr).unwrap(), pages) };
    }
    check_all_free(&zone);
}

#[test]
fn words_of_taken_back_pages_have_no_slot() {
    let zone = zone(64 << 20);
    for pages in [1, 16, 1500] {
        let (run, _) = zone.alloc_run(pages, PAGE, Place::Tight).unwrap();
        let (silent, _) = zone.alloc_run(pages, PAGE, Place::Tight).unwrap();
        let words = |run: Page, of: fn(&AtomicU64) -> u64| {
            let state = zone.state.lock();
            let first = state.index(run);
            (first..first + pages).map(|page| of(state.window.word(page))).collect::<Vec<_>>()
        };
        let read = |word: &AtomicU64| word.load(Relaxed);
        words(run, |word| word.swap(u64::MAX, Relaxed));
        // SAFETY: ours.
        unsafe { zone.free(run, pages) };
        assert!(words(run, read).iter().all(|&word| word == Kind::Free as u64));
        // What was never described is not touched.
        let before = words(silent, read);
        // SAFETY: ours.
        unsafe { zone.free(silent, pages) };
        assert_eq!(words(silent, read), before);
    }
}

#[test]
fn a_quarter_gets_runs_of_the_units_it_has_cut() {
    let zone = zone(64 << 20);
    let run = |pages, quarter: Option<usize>| {
        let quarter = quarter.map(Quarter::of);
        let want = Want { pages, align: PAGE, place: Place::Tight, quarter };
        // SAFETY: no run is given back.
        let (page, _) = unsafe { zone.exchange(core::iter::empty(), Some(want)) }.unwrap();
        page
    };
    let unit = |page: Page| (page.addr() - zone.state.lock().window.base()) / UNIT;
    // Each leaves 424 pages.
    let cut: Vec<_> = (0..3).map(|quarter| run(600, Some(quarter))).collect();
    assert_eq!(cut.iter().map(|&page| unit(page)).collect::<Vec<_>>(), [0, 1, 2]);
    let more = [2, 1, 0].map(|quarter| run(200, Some(quarter)));
    assert_eq!(more.map(unit), [2, 1, 0]);
    // Who has none left gets the lowest, as does who has no unit and who does not say.
    let rest = [Some(2), Some(3), None].map(|quarter| run(100, quarter));
    assert_eq!(rest.map(unit), [2, 0, 1]);
    // What is whole again is whose it is cut for next.
    for (page, pages) in [(cut[1], 600), (more[1], 200), (rest[2], 100), (more[2], 200)] {
        // SAFETY: ours.
        unsafe { zone.free(page, pages) };
    }
    assert_eq!(unit(run(600, Some(2))), 1);
    assert_eq!([1, 2].map(|quarter| unit(run(200, Some(quarter)))), [0, 1]);
}

#[test]
fn blocks_and_runs_keep_to_their_units() {
    let zone = zone(512 << 20);
    let run = |pages| zone.alloc_run(pages, PAGE, Place::Tight).unwrap().0;
    let unit = |page: Page| (page.addr() - zone.state.lock().window.base()) / UNIT;
    let whole_units = |count| {
        let ground: Vec<_> = (0..count).map(|_| zone.alloc_pages(MAX_ORDER).unwrap()).collect();
        // SAFETY: ours.
        ground.iter().for_each(|&page| unsafe { zone.free(page, UNIT_PAGES) });
    };
    // More runs than a row of the index has units; each leaves a hole of one page in its own.
    let runs: Vec<_> = (0..66).map(|_| run(UNIT_PAGES - 1)).collect();
    assert!(runs.iter().enumerate().all(|(number, &page)| unit(page) == number));
    whole_units(2);
    assert_eq!([0, 3, 0].map(|order| unit(zone.alloc_pages(order).unwrap())), [66; 3], "blocks among runs");
    // A half of the other's comes before a whole one, what is less than that after it.
    assert_eq!([1, 1, 300, 200, 500].map(|pages| unit(run(pages))), [0, 1, 66, 67, 67], "runs among blocks");
    // Where neither its own nor a whole one has room, the other's does, before the heap grows.
    assert_eq!([250, 250].map(|pages| unit(run(pages))), [67, 66]);
    assert_eq!([9, 6].map(|order| unit(zone.alloc_pages(order).unwrap())), [68, 66]);
    // What is whole again is whose who takes it.
    // SAFETY: ours.
    unsafe { zone.free(runs[7], UNIT_PAGES - 1) };
    let half = || zone.alloc_pages(9).unwrap();
    let (last, first) = (half(), half());
    assert_eq!([last, first].map(unit), [68, 7]);
    // SAFETY: ours.
    unsafe { zone.free(last, 512) };
    assert_eq!([half(), half(), half()].map(unit), [7, 68, 69]);
}

#[test]
fn what_is_to_grow_has_room_behind_it() {
    let zone = zone(64 << 20);
    let ground = zone.alloc_pages(10).unwrap();
    // SAFETY: ours. New ground is not taken for room.
    unsafe { zone.free(ground, UNIT_PAGES) };
    let (tight, _) = zone.alloc_run(8, PAGE, Place::Tight).unwrap();
    let (next, _) = zone.alloc_run(8, PAGE, Place::Tight).unwrap();
    assert_eq!(next.addr(), tight.addr() + 8 * PAGE);
    // SAFETY: ours.
    assert!(!unsafe { zone.extend_run(tight, 8, 8) }, "something is behind it");
    let (first, _) = zone.alloc_run(8, PAGE, Place::Roomy).unwrap();
    let (second, _) = zone.alloc_run(8, PAGE, Place::Roomy).unwrap();
    for run in [first, second] {
        // SAFETY: ours.
        assert!(unsafe { zone.extend_run(run, 8, 8) && zone.extend_run(run, 16, 16) });
    }
    // Where there is no such place, any will do.
    while zone.alloc_pages(4).is_some() {}
    // SAFETY: ours.
    unsafe { zone.free(next, 8) };
    assert_eq!(zone.alloc_run(8, PAGE, Place::Roomy).map(|(page, _)| page), Some(next));
}

#[test]
fn marks_can_be_written() {
    use crate::page::bounds;
    let page = super::alloc_pages(4).unwrap();
    for k in MARK_SHIFTS {
        assert!(ensure_marks(k, page.addr(), 16 * PAGE));
        for p in (page.addr()..page.addr() + 16 * PAGE).step_by(1 << k) {
            let mark = (bounds::mark_origin(k) + (p >> k)) as *mut u8;
            // SAFETY: made sure of; the pages are ours and so are their marks.
            unsafe {
                assert_eq!(mark.read(), 0);
                mark.write(1);
                mark.write(0);
            }
        }
    }
    assert!(!ensure_marks(3, page.addr(), PAGE) && !ensure_marks(16, 0, 0));
    // SAFETY: ours.
    unsafe { super::free_pages(page, 4) };
}

#[test]
fn four_threads_share_a_zone() {
    let zone = zone(256 << 20);
    std::thread::scope(|scope| {
        for seed in 1..=4usize {
            let zone = &zone;
            scope.spawn(move || {
                let mut held: std::vec::Vec<(Page, usize)> = std::vec::Vec::new();
                let mut random = seed;
                for i in 0..4000 {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695);
                    let pages = 1 + (random >> 40) % 40;
                    if held.len() < 30 {
                        let (page, _) = zone.alloc_run(pages, PAGE, Place::Tight).unwrap();
                        write(page, pages);
                        held.push((page, pages));
                    } else {
                        let (page, pages) = held.swap_remove((random >> 33) % held.len());
                        check_intact(page, pages);
                        // SAFETY: ours.
                        unsafe { zone.free(page, pages) };
                    }
                    if i % 256 == 0 {
                        zone.purge_free(1 << 20);
                    }
                }
                for (page, pages) in held {
                    check_intact(page, pages);
                    // SAFETY: ours.
                    unsafe { zone.free(page, pages) };
                }
            });
        }
    });
    check_all_free(&zone);
}

/// Runs this test binary again, on one test, with a limit.
fn in_child(test: &str, resource: libc::__rlimit_resource_t, bytes: u64) {
    use std::os::unix::process::CommandExt;
    crate::own_process::run(test, |command| {
        command.arg("--ignored").env("MALLOC_ARENA_MAX", "1");
        // SAFETY: setrlimit is async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
                libc::setrlimit(resource, &raw const limit);
                Ok(())
            });
        }
    });
}

#[test]
fn under_rlimit_as() {
    in_child("page::zone::tests::child_fills_its_limit", libc::RLIMIT_AS, 64 << 20);
}

#[test]
fn under_rlimit_data() {
    in_child("page::zone::tests::child_fills_its_limit", libc::RLIMIT_DATA, 32 << 20);
}

/// The process's own zone until nothing is left, and again after everything came back.
#[test]
#[ignore = "run in a child with a limit"]
fn child_fills_its_limit() {
    let mut first = 0;
    let mut pages = std::vec::Vec::with_capacity(1 << 15); // before std finds nothing left
    for round in 0..2 {
        while let Some(page) = super::alloc_pages(0) {
            write(page, 1);
            pages.push(page);
        }
        assert!(pages.len() * PAGE > 16 << 20, "only {} pages", pages.len());
        assert!(super::alloc_run(5000, PAGE, Place::Tight).is_none());
        if round == 0 {
            first = pages.len();
        }
        assert_eq!(pages.len(), first, "pages were lost");
        for page in pages.drain(..) {
            check_intact(page, 1);
            // SAFETY: ours.
            unsafe { super::free_pages(page, 0) };
        }
        assert!(crate::page::watermark::excess() == 0 || super::purge_free(usize::MAX) > 0);
    }
}

/// Free pages that hold memory are in nobody's way: they go as far as what is given out needs room.
#[test]
fn at_the_hard_limit_free_pages_make_room() {
    crate::own_process::in_own_process!();
    const PIECE: usize = 16;
    let zone = zone(WINDOW);
    let held = || zone.state.lock().held();
    let run = |pages| zone.alloc_run(pages, PAGE, Place::Tight).map(|(page, _)| page);
    limit::set_hard(UNIT_PAGES * PAGE);
    // All there may be, in pieces, of which every second one goes.
    let pieces: Vec<_> = (0..UNIT_PAGES / PIECE).map(|_| run(PIECE).expect("it is below")).collect();
    assert!(run(1).is_none() && zone.alloc_pages(0).is_none());
    for &piece in pieces.iter().step_by(2) {
        // SAFETY: ours, unused.
        unsafe { zone.free(piece, PIECE) };
    }
    assert_eq!(held(), UNIT_PAGES * PAGE, "they are dirty");
    // None of them is large enough.
    let large = run(UNIT_PAGES / 4).expect("there is room");
    assert!(held() <= UNIT_PAGES * PAGE, "{}", held());
    // SAFETY: ours.
    assert!(!unsafe { zone.extend_run(large, UNIT_PAGES / 4, UNIT_PAGES / 4 + 1) });
    // What the system does not take back stays resident, and what needs its room is refused.
    let grown = zone.stats().grow_calls;
    fail_after(0);
    let refused = run(UNIT_PAGES / 4);
    fail_never();
    assert!(refused.is_none() && zone.stats().grow_calls == grown, "the ground was not what was missing");
    assert!(run(UNIT_PAGES / 4).is_some() && held() <= UNIT_PAGES * PAGE);
    limit::set_hard(usize::MAX);
}
