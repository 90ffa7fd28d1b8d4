//! The model: what is live, in a plain map, and the steps that make it so over the whole libc surface.

use super::{WHOLE, check, fill};
use proptest::prelude::*;
use rcumalloc::abi::libc_names::*;
use std::collections::BTreeMap;
use std::ffi::c_void;

/// One call.
#[derive(Clone, Debug)]
pub enum Step {
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

/// Some hundred calls.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
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
pub struct Live {
    asked: usize,
    /// Its usable bytes.
    pub size: usize,
    plain: bool,
}

/// What is live, by address.
#[derive(Default)]
pub struct Model {
    /// The blocks.
    pub live: BTreeMap<usize, Live>,
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

    /// Makes a call, and checks what comes of it.
    pub fn step(&mut self, step: &Step) {
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

    /// Frees everything.
    pub fn clear(&mut self) {
        while !self.live.is_empty() {
            self.step(&Step::Free(0));
        }
    }
}
