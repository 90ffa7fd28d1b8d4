//! The heap against a plain map of what is live: blocks are disjoint, aligned and intact, over the
//! whole libc surface, solo and concurrent, with several threads handing blocks to each other.

mod oracle;

use oracle::{WHOLE, check, fill, pattern};
use proptest::prelude::*;
use rcumalloc::abi::libc_names::*;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::mpsc;

#[derive(Clone, Debug)]
enum Step {
    Malloc(usize),
    Calloc(usize),
    Aligned(u32, usize),
    Realloc(usize, usize),
    Free(usize),
    FreeSized(usize),
    Trim,
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0usize..300, 3 => 0usize..5000, 2 => 0usize..40_000, 1 => 30_000usize..3_000_000]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => sizes().prop_map(Step::Malloc),
        2 => sizes().prop_map(Step::Calloc),
        2 => (0u32..17, sizes()).prop_map(|(log, size)| Step::Aligned(log, size)),
        3 => (any::<usize>(), sizes()).prop_map(|(at, size)| Step::Realloc(at, size.max(1))),
        8 => any::<usize>().prop_map(Step::Free),
        1 => any::<usize>().prop_map(Step::FreeSized),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..400)
}

/// A live block as the model knows it.
struct Live {
    asked: usize,
    size: usize,
    plain: bool,
}

#[derive(Default)]
struct Model {
    live: BTreeMap<usize, Live>,
}

impl Model {
    fn add(&mut self, block: *mut c_void, asked: usize, align: usize, plain: bool) {
        assert!(!block.is_null());
        let addr = block as usize;
        // SAFETY: just given to us.
        let size = unsafe { malloc_usable_size(block) };
        assert!(size >= asked && addr.is_multiple_of(align));
        if let Some((below, live)) = self.live.range(..addr).next_back() {
            assert!(below + live.size <= addr, "overlaps the block below");
        }
        if let Some((above, _)) = self.live.range(addr..).next() {
            assert!(addr + size <= *above, "overlaps the block above");
        }
        // SAFETY: usable bytes of a live block.
        unsafe { fill(addr, size) };
        self.live.insert(addr, Live { asked, size, plain });
    }

    fn take(&mut self, at: usize) -> Option<(usize, Live)> {
        let addr = *self.live.keys().nth(at.checked_rem(self.live.len())?)?;
        let live = self.live.remove(&addr)?;
        // SAFETY: live, and the model's.
        unsafe { check(addr, live.size, addr) };
        Some((addr, live))
    }

    fn step(&mut self, step: &Step) {
        // SAFETY: every block freed or resized is one the model knows to be live.
        unsafe {
            match *step {
                Step::Malloc(size) => self.add(malloc(size), size, 16, true),
                Step::Calloc(size) => {
                    let block = calloc(1, size);
                    assert!(!block.is_null());
                    (0..size).for_each(|at| assert_eq!(*block.cast::<u8>().add(at), 0));
                    self.add(block, size, 16, true);
                }
                Step::Aligned(log, size) => {
                    self.add(aligned_alloc(1 << log, size), size, 1 << log, false);
                }
                Step::Realloc(at, size) => {
                    let Some((addr, live)) = self.take(at) else { return };
                    let block = realloc(addr as *mut c_void, size);
                    assert!(!block.is_null());
                    if size <= WHOLE && live.size <= WHOLE {
                        check(block as usize, size.min(live.size), addr);
                    }
                    self.add(block, size, 16, true);
                }
                Step::Free(at) => {
                    if let Some((addr, _)) = self.take(at) {
                        free(addr as *mut c_void);
                    }
                }
                Step::FreeSized(at) => match self.take(at) {
                    Some((addr, live)) if live.plain => free_sized(addr as *mut c_void, live.asked),
                    Some((addr, _)) => free(addr as *mut c_void),
                    None => {}
                },
                Step::Trim => {
                    rcumalloc::abi::info::malloc_trim(0);
                }
            }
        }
    }

    fn clear(&mut self) {
        while !self.live.is_empty() {
            self.step(&Step::Free(0));
        }
    }
}

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
        rcumalloc::thread::mode::go_concurrent();
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
    let stats = rcumalloc::thread::stats::collect();
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
    assert!(rcumalloc::thread::registry::census().1 < 64);
}
