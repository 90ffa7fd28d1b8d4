//! The heap against a plain map of what is live: blocks are disjoint, aligned and intact, over the
//! whole libc surface, solo and concurrent, with several threads handing blocks to each other.

mod oracle;

use oracle::model::{Model, steps};
use oracle::{check, pattern};
use proptest::prelude::*;
use rcumalloc::abi::libc_names::*;
use std::ffi::c_void;
use std::sync::mpsc;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_disjoint_aligned_and_intact(steps in steps()) {
        let mut model = Model::default();
        steps.iter().for_each(|step| model.step(step));
        model.clear();
    }

    #[test]
    fn also_when_deferring(steps in steps()) {
        rcumalloc::front::switch::go_concurrent();
        let mut model = Model::default();
        steps.iter().for_each(|step| model.step(step));
        model.clear();
        rcumalloc::abi::own::rcumalloc_barrier();
    }
}

#[test]
fn blocks_freed_by_another_thread_come_back() {
    let (send, receive) = mpsc::sync_channel::<usize>(64);
    let consumer = std::thread::spawn(move || {
        for addr in receive {
            // SAFETY: sent by its owner.
            unsafe {
                check(addr, 100, addr);
                free(addr as *mut c_void);
            }
        }
    });
    for _ in 0..200_000 {
        // SAFETY: a block of 100 bytes, filled and handed over.
        unsafe {
            let block = malloc(100).cast::<u8>();
            assert!(!block.is_null());
            block.write_bytes(pattern(block as usize), 100);
            send.send(block as usize).unwrap();
        }
    }
    drop(send);
    consumer.join().unwrap();
    let stats = rcumalloc::release::stats::collect();
    assert!(stats.mapped_bytes < 64 << 20, "{stats:?}");
}

#[test]
fn short_threads_leave_nothing_behind() {
    for _ in 0..2000 {
        std::thread::spawn(|| {
            // SAFETY: blocks of our own.
            unsafe {
                let blocks: Vec<_> = (0..20).map(|i| malloc(20 + i * 30)).collect();
                blocks.into_iter().for_each(|block| free(block));
            }
        })
        .join()
        .unwrap();
    }
    assert!(rcumalloc::cache::shares::census().1 < 64);
}
