//! Pages of pointers: closed after their last entry, never opened early.
#![cfg(not(loom))]

mod common;

use std::ptr::NonNull;

use common::*;
use proptest::prelude::*;
use quiescent::{Demand, Leaked, PageOfPointers, Stamped};

fn page(capacity: u32) -> PageOfPointers<u64> {
    let memory: &mut [*mut u64] = vec![std::ptr::null_mut(); capacity as usize].leak();
    // SAFETY: leaked memory of this size, for this page alone; nothing is in use.
    unsafe { PageOfPointers::from_raw(NonNull::from(memory).cast(), capacity, 0) }
}

fn entry(number: usize) -> *mut u64 {
    std::ptr::without_provenance_mut(number)
}

in_both_modes! {
    fn the_cookie_is_taken_after_the_last_entry(domain) {
        let (reader, other) = (reader(domain), reader(domain));
        let mut page = page(4);
        page.push(entry(1)).unwrap();
        domain.advance(Demand::Start); // between the first entry and the last
        page.push(entry(2)).unwrap();
        let section = reader.read_lock();
        other.quiescent_state();
        let batch = page.close(domain);
        drop(section);
        reader.quiescent_state();
        assert_eq!(domain.counters().completed, 1);
        assert!(!batch.elapsed(domain), "that period began before the last entry");
    }

    fn close_starts_nothing(domain) {
        let _batch = page(1).close(domain);
        assert_eq!(domain.counters().started, 0);
    }

    fn close_and_start_sees_to_it(domain) {
        let reader = reader(domain);
        let mut page = page(1);
        page.push(entry(7)).unwrap();
        let batch = page.close_and_start(domain);
        assert!(!batch.elapsed(domain));
        reader.quiescent_state();
        assert_eq!(batch.open(domain).expect("elapsed").pop(), Some(entry(7)));
        assert_eq!(domain.counters().leaked, 0);
    }

    fn opened_too_early_it_is_leaked_and_counted(domain) {
        let reader = reader(domain);
        let _section = reader.read_lock();
        let mut page = page(3);
        page.push(entry(1)).unwrap();
        page.push(entry(2)).unwrap();
        let batch = page.close_and_start(domain);
        assert_eq!(batch.open(domain).err(), Some(Leaked { entries: 2 }));
        assert_eq!(domain.counters().leaked, 1);
    }

    fn a_batch_taken_apart_and_put_together_waits_for_the_same(domain) {
        let reader = reader(domain);
        let mut page = page(3);
        page.push(entry(5)).unwrap();
        let batch = page.close_and_start(domain);
        let (cookie, len) = (batch.cookie(), batch.len());
        let (base, capacity, used, stamp) = batch.into_raw();
        // SAFETY: from the `into_raw` above, once.
        let batch: Stamped<PageOfPointers<u64>> = unsafe { Stamped::from_raw(base, capacity, used, stamp) };
        assert_eq!((batch.cookie(), batch.len(), batch.is_empty()), (cookie, len, false));
        assert!(!batch.elapsed(domain));
        reader.quiescent_state();
        let (_, capacity, used) = batch.open(domain).expect("elapsed").into_raw();
        assert_eq!((capacity, used), (3, 1));
    }
}

#[test]
fn what_was_leaked_is_said_in_one_line() {
    assert_eq!(
        Leaked { entries: 9 }.to_string(),
        "a batch of 9 blocks was opened before its grace period had passed; leaked"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// `None` pops, `Some` pushes: as a `Vec` of bounded size would.
    #[test]
    fn a_page_is_a_bounded_stack(
        capacity in 0..20_u32,
        calls in prop::collection::vec(any::<Option<u16>>(), 0..80),
    ) {
        let (mut page, mut model) = (page(capacity), Vec::new());
        for call in calls {
            match call {
                Some(number) if model.len() < capacity as usize => {
                    prop_assert_eq!(page.push(entry(number.into())), Ok(()));
                    model.push(entry(number.into()));
                }
                Some(number) => prop_assert_eq!(page.push(entry(number.into())), Err(entry(number.into()))),
                None => prop_assert_eq!(page.pop(), model.pop()),
            }
            prop_assert_eq!(page.entries(), &model[..]);
            prop_assert_eq!((page.len(), page.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!(page.is_full(), model.len() == capacity as usize);
        }
    }
}
