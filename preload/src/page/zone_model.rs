//! The zone against a model: random steps, mapping failures among them, beside a plain map
//! of what is live. Every live page carries its own address, so an overlap shows as damage.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Block(u32),
    Run(usize, u32, Place, Option<Quarter>),
    Free(usize),
    Shrink(usize, usize),
    Extend(usize, usize),
    Purge(usize),
    FailNext(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..=10u32).prop_map(Step::Block),
        3 => (
            1..3000usize,
            12..24u32,
            prop_oneof![Just(Place::Tight), Just(Place::Roomy)],
            any::<Option<usize>>(),
        )
            .prop_map(|(n, align, place, by)| Step::Run(n, align, place, by.map(Quarter::of))),
        8 => any::<usize>().prop_map(Step::Free),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(i, n)| Step::Shrink(i, n)),
        1 => (any::<usize>(), 1..800usize).prop_map(|(i, n)| Step::Extend(i, n)),
        1 => (0..8usize << 20).prop_map(Step::Purge),
        1 => (0..3usize).prop_map(Step::FailNext),
    ]
}

/// Runs steps against a map of what is live.
fn run_model(zone: &Zone, steps: &[Step]) {
    let mut live: BTreeMap<usize, usize> = BTreeMap::new();
    let pick = |live: &BTreeMap<usize, usize>, i: usize| {
        let n = live.len().max(1);
        live.iter().nth(i % n).map(|(&addr, &pages)| (Page::new(addr).unwrap(), pages))
    };
    for step in steps {
        match *step {
            Step::Block(order) => {
                if let Some(page) = zone.alloc_pages(order) {
                    assert_eq!(page.addr() % (PAGE << order), 0, "not aligned");
                    write(page, 1 << order);
                    live.insert(page.addr(), 1 << order);
                }
            }
            Step::Run(pages, align, place, quarter) => {
                let want = Want { pages, align: 1 << align, place, quarter };
                // SAFETY: no run is given back.
                let run = unsafe { zone.exchange(core::iter::empty(), Some(want)) };
                if let Some((page, contents)) = run {
                    assert_eq!(page.addr() % (1 << align), 0, "not aligned");
                    assert!(pages <= UNIT_PAGES || page.addr() % UNIT == 0);
                    clear(zone, page, pages, contents);
                    assert!(contents == Holds::Anything || is_zero(page, pages), "said zero, is not");
                    write(page, pages);
                    live.insert(page.addr(), pages);
                }
            }
            Step::Free(i) => {
                if let Some((page, pages)) = pick(&live, i) {
                    check_intact(page, pages);
                    live.remove(&page.addr());
                    // SAFETY: live until now.
                    unsafe { zone.free(page, pages) };
                }
            }
            Step::Shrink(i, n) => {
                if let Some((page, pages)) = pick(&live, i).filter(|&(_, pages)| pages > 1) {
                    let keep = 1 + n % (pages - 1);
                    let tail = Page::new(page.addr() + keep * PAGE).unwrap();
                    // SAFETY: live until now.
                    unsafe { zone.free(tail, pages - keep) };
                    live.insert(page.addr(), keep);
                }
            }
            Step::Extend(i, more) => {
                if let Some((page, pages)) = pick(&live, i) {
                    // SAFETY: live.
                    if unsafe { zone.extend_run(page, pages, more) } {
                        check_intact(page, pages);
                        write(page, pages + more);
                        live.insert(page.addr(), pages + more);
                    }
                }
            }
            Step::Purge(bytes) => {
                zone.purge_free(bytes);
            }
            Step::FailNext(n) => {
                fail_after(n);
                continue;
            }
        }
        fail_never();
        check(zone, &live);
    }
    fail_never();
    for (&addr, &pages) in &live {
        let page = Page::new(addr).unwrap();
        check_intact(page, pages);
        // SAFETY: live until now.
        unsafe { zone.free(page, pages) };
    }
    zone.purge_free(usize::MAX);
    assert_eq!(zone.stats().dirty_bytes, 0);
    check_all_free(zone);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn model_wide(steps in prop::collection::vec(step(), 1..120)) {
        run_model(&zone(128 << 20), &steps);
    }

    #[test]
    fn model_narrow(steps in prop::collection::vec(step(), 1..120)) {
        run_model(&zone(64 << 20), &steps);
    }
}
