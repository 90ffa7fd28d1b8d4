//! The figures add up, after every step of the model: over size classes and kinds of page, by what holds
//! them, and against what the model knows is live. In a process of its own, at rest between two steps: so
//! they are exact.

mod oracle;

use oracle::model::{Model, steps};
use proptest::test_runner::{Config, TestRunner};
use rcumalloc::abi::info::mallinfo2;
use rcumalloc::class::large::LargeRef;
use rcumalloc::class::page_kinds;
use rcumalloc::class::size_class::Class;
use rcumalloc::constants::PAGE;
use rcumalloc::release::census::{self, ClassStats, ages, tail_bytes};
use rcumalloc::release::stats::{self, Stats};
use std::collections::BTreeMap;

/// The figures of classes and their sums against the totals.
fn check_classes(s: &Stats) -> Vec<ClassStats> {
    let classes: Vec<_> = Class::all().map(census::of_class).collect();
    let sum = |of: fn(&ClassStats) -> u64| classes.iter().map(|c| of(c) * c.block_bytes).sum::<u64>();
    for (class, stats) in Class::all().zip(&classes) {
        let blocks = stats.live + stats.cached + stats.deferred + stats.in_slabs;
        assert_eq!(blocks, stats.slabs * class.blocks() as u64, "{stats:?}");
        assert!(stats.refills <= stats.taken && stats.flushes <= stats.returned, "{stats:?}");
        // What was taken has come back but for what is outside; what slabs keep as deferred never came.
        let outside = stats.live + stats.cached + stats.deferred;
        assert!(stats.taken - stats.returned >= outside - stats.deferred, "{stats:?}");
    }
    let tails: u64 = Class::all().zip(&classes).map(|(class, c)| c.slabs * tail_bytes(class) as u64).sum();
    assert_eq!(sum(|c| c.live), s.live_bytes - s.live_large_bytes);
    assert_eq!(sum(|c| c.deferred), s.waiting_bytes - s.held_large_bytes);
    assert_eq!(sum(|c| c.in_slabs) + tails, s.in_slabs_bytes);
    assert_eq!(classes.iter().map(|c| c.refills).sum::<u64>(), s.slab_refills);
    assert_eq!(classes.iter().map(|c| c.flushes).sum::<u64>(), s.slab_flushes);
    classes
}

fn check_sums() {
    let s = stats::collect();
    let classes = check_classes(&s);
    assert_eq!(s.blocks_bytes, s.live_bytes + s.cached_bytes + s.waiting_bytes + s.in_slabs_bytes, "{s:?}");
    // The account of the backlog is kept by whoever seals and settles, not by who counts blocks.
    let stamped = s.waiting_bytes - s.held_filling_bytes - s.held_open_bytes - unclosed_large(&s);
    assert_eq!(stamped, s.deferred_bytes, "{s:?}");
    let ages = ages();
    let known: u64 = ages.bytes.iter().sum();
    assert_eq!(known + ages.unknown, s.deferred_bytes - s.held_slab_bytes, "{ages:?} {s:?}");
    // What the pages say of themselves against what the zone says is free.
    let pages = page_kinds::count();
    assert_eq!(pages.in_use() + pages.free, pages.mapped, "{pages:?}");
    assert_eq!(pages.mapped * PAGE as u64, s.window_bytes);
    let slabs: u64 = classes.iter().map(|c| c.slabs).sum();
    assert_eq!(pages.slab, slabs * 16);
    assert_eq!((pages.slab + pages.large_live + pages.large_freed) * PAGE as u64, s.blocks_bytes);
    assert_eq!(pages.large_live * PAGE as u64, s.live_large_bytes);
    assert_eq!(pages.reserve * PAGE as u64, s.reserve_bytes);
    assert!(s.periods_started - s.periods_completed <= 1, "one at a time");
    assert!(s.periods_parked <= s.periods_expedited && s.periods_expedited <= s.periods_completed);
    assert!(s.hurried_periods.iter().sum::<u64>() <= s.periods_expedited, "{s:?}");
    let info = mallinfo2();
    assert_eq!(info.uordblks + info.fordblks, info.arena);
    assert_eq!((info.arena + info.hblkhd) as u64, s.mapped_bytes);
}

/// Bytes of large blocks in a batch that is still open: those that the ages do not have.
fn unclosed_large(s: &Stats) -> u64 {
    let pages = page_kinds::count();
    let freed = pages.large_freed * PAGE as u64;
    // Of the freed ones: ready or waiting; of the waiting ones: closed, or not yet.
    let waiting = s.held_large_bytes;
    assert!(waiting <= freed);
    waiting - closed_large()
}

fn closed_large() -> u64 {
    let on_shelves: usize = rcumalloc::cache::registry::all()
        // SAFETY: type-stable, and this is the only thread.
        .map(|cache| unsafe { (*cache).shelf.figures().large_waiting })
        .sum();
    (on_shelves + rcumalloc::class::large_batch::shared().bytes()) as u64
}

/// What the model has, and nothing else, is live: by class.
fn check_live(model: &Model) {
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    let mut large = 0;
    for (&addr, live) in &model.live {
        // What asks for much alignment gets pages of its own, however small it is.
        match LargeRef::of(addr) {
            None => *known.entry(live.size as u64).or_default() += 1,
            Some(_) => large += live.size as u64,
        }
    }
    for stats in Class::all().map(census::of_class) {
        let live = known.remove(&stats.block_bytes).unwrap_or(0);
        assert_eq!(stats.live, live, "{stats:?}");
    }
    assert!(known.is_empty(), "sizes that no class has: {known:?}");
    assert_eq!(stats::collect().live_large_bytes, large);
}

/// Nobody else allocates here: Rust's own blocks are libc's.
#[test]
fn figures_add_up_after_every_step() {
    for deferring in [false, true] {
        if deferring {
            rcumalloc::front::switch::go_concurrent();
        }
        let mut runner = TestRunner::new(Config {
            cases: 12,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Config::default()
        });
        let walk = |steps: Vec<_>| {
            let mut model = Model::default();
            for step in &steps {
                model.step(step);
                check_sums();
                check_live(&model);
            }
            model.clear();
            check_live(&model);
            check_sums();
            Ok(())
        };
        runner.run(&steps(), walk).expect("the figures add up");
        rcumalloc::abi::own::rcumalloc_barrier();
        check_sums();
        let s = stats::collect();
        assert_eq!((s.live_bytes, s.waiting_bytes), (0, 0), "{s:?}");
        assert!(
            s.periods_timed <= s.periods_completed && (s.periods_timed == 0) == (s.periods_timed_ns == 0)
        );
    }
    with_sections();
}

/// What a section holds is deferred, ages, and is none of it when the section has ended.
fn with_sections() {
    use rcumalloc::abi::libc_names::{free, malloc};
    use rcumalloc::abi::own::{rcumalloc_read_lock, rcumalloc_read_unlock};
    let sizes = [40usize, 400, 4000, 40_000, 400_000];
    // SAFETY: blocks of our own.
    let blocks: Vec<_> = (0..4000).map(|at| unsafe { malloc(sizes[at % sizes.len()]) }).collect();
    rcumalloc_read_lock();
    for block in blocks {
        // SAFETY: as above.
        unsafe { free(block) };
    }
    let s = stats::collect();
    assert!(s.waiting_bytes > 4000 / 5 * 440_000 && s.held_large_bytes < s.waiting_bytes, "{s:?}");
    assert!(s.deferred_peak_bytes >= s.deferred_bytes && s.deferred_bytes > s.budget_bytes);
    assert!(s.hurried[rcumalloc::class::cause::Cause::Budget as usize] > 0, "{s:?}");
    assert_eq!(s.live_bytes, 0);
    rcumalloc_read_unlock();
    rcumalloc::abi::own::rcumalloc_barrier();
    check_sums();
}
