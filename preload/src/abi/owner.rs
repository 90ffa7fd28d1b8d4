//! `rcumalloc_owner` and `rcumalloc_check`: what an address is.
//!
//! Any address, from any thread, at any time, in a handler of a crash, too: no lock is waited for, nothing is
//! allocated, and nothing behind the address is touched. Whose block it is takes as long for the middle of a
//! block of gigabytes as for its first byte. Where a freed block waits is looked for among all that wait.

use crate::abi::own::copy_out;
use crate::class::size_class::Class;
use crate::class::slab::Whereabouts;
use crate::class::trap;
use crate::class::verdict::{self, Address};
use crate::page::{bounds, ranges};
use crate::release::check;
use crate::release::traces::{self, Place};
use core::ffi::{c_int, c_void};

/// `struct rcumalloc_block` of the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Where the block starts; null if there is none.
    pub start: *const c_void,
    /// Its usable bytes.
    pub size: usize,
    /// 1 with the program (or in a thread's magazine), 2 freed and waiting or free, 0 never given.
    pub state: c_int,
    /// 1 if it is a large block.
    pub large: c_int,
    /// [`Kind`](memdesc::Kind) of the page, -1 outside of the heap.
    pub page_kind: c_int,
    /// Number of its size class; -1 for a large block.
    pub class_index: c_int,
    /// Of a freed one, an `RCUMALLOC_AT_`.
    pub at: c_int,
    /// The thread that has it there, 0 if none has or that is not known.
    pub thread: u32,
    /// Milliseconds for which it has been behind its cookie; -1 if it is behind none, or if that is not
    /// known.
    pub age_ms: i64,
    /// The range of the heap's addresses that the address lies in; null outside.
    pub mapping: *const c_void,
    /// Its bytes.
    pub mapping_bytes: usize,
}

/// Not freed, or not found where it is looked for.
const AT_UNKNOWN: c_int = 0;
/// With the thread that freed it, behind no cookie.
const AT_OPEN: c_int = 1;
/// Behind a cookie.
const AT_WAITS: c_int = 2;
/// Its grace period has passed; malloc may hand it out.
const AT_READY: c_int = 3;
/// In its slab, free.
const AT_SLAB: c_int = 4;

impl Block {
    /// What the block is not, at `addr`.
    fn none(addr: usize) -> Block {
        let is_inside = bounds::contains(addr) || ranges::holds(addr);
        let (mapping, mapping_bytes) = match ranges::find(addr) {
            Some((start, bytes, _)) => (start, bytes),
            None if bounds::contains(addr) => (bounds::base(), bounds::horizon()),
            None => (0, 0),
        };
        Block {
            start: core::ptr::null(),
            size: 0,
            state: 0,
            large: 0,
            page_kind: if is_inside { ranges::of(addr).kind() as c_int } else { -1 },
            class_index: -1,
            at: AT_UNKNOWN,
            thread: 0,
            age_ms: -1,
            mapping: mapping as *const c_void,
            mapping_bytes,
        }
    }

    /// Where it is, now that it is freed.
    fn find(&mut self) {
        self.state = 2;
        let start = self.start as usize;
        let (at, thread, since_ms) = match traces::find(start) {
            Some(Place::Open) => (AT_OPEN, None, None),
            Some(Place::Waits(behind, thread)) => (AT_WAITS, thread, traces::since_ms(start, behind)),
            Some(Place::Ready(thread)) => (AT_READY, thread, None),
            None => (AT_UNKNOWN, None, None),
        };
        self.at = at;
        self.thread = thread.unwrap_or(0);
        self.age_ms = since_ms.map_or(-1, |since_ms| traces::age_ms(since_ms) as i64);
    }

    fn small(&mut self, start: usize, class: Class, at: Whereabouts) {
        self.start = start as *const c_void;
        self.size = class.size();
        self.class_index = class.index() as c_int;
        match at {
            Whereabouts::NeverGiven => {}
            Whereabouts::Out => self.state = 1,
            Whereabouts::Magazine => self.find(),
            Whereabouts::Free => (self.state, self.at) = (2, AT_SLAB),
            Whereabouts::Deferred => (self.state, self.at) = (2, AT_WAITS),
        }
    }

    fn trapped(&mut self, start: usize, bytes: usize, is_live: bool) {
        self.start = start as *const c_void;
        self.size = bytes;
        self.state = if is_live { 1 } else { 2 };
        if let Some(slot) = trap::around(start).filter(|_| !is_live) {
            self.at = if slot.waits_for().is_some() { AT_WAITS } else { AT_READY };
            self.thread = slot.freed.thread();
            self.age_ms = slot.freed.age_ms() as i64;
        }
    }

    fn large(&mut self, start: usize, bytes: usize, is_live: bool) {
        self.start = start as *const c_void;
        self.size = bytes;
        self.large = 1;
        if is_live {
            self.state = 1;
        } else {
            self.find();
        }
    }
}

/// `rcumalloc_owner(address, out, size)`: false if no block of the heap holds the address; `out` is filled in
/// any case.
///
/// # Safety
/// `out` is null or points at `size` writable bytes. `address` may be anything.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub unsafe extern "C" fn rcumalloc_owner(address: *const c_void, out: *mut Block, size: usize) -> bool {
    let found = verdict::inspect(address as usize);
    let is_block = matches!(
        found,
        Address::Small { .. } | Address::Large { .. } | Address::Trapped { .. } | Address::Pooled(_)
    );
    if out.is_null() {
        return is_block;
    }
    let mut block = Block::none(address as usize);
    match found {
        Address::Small { start, class, at } => block.small(start, class, at),
        Address::Large { start, bytes, live } => block.large(start, bytes, live),
        Address::Pooled(member) => {
            block.start = member.start as *const c_void;
            block.size = member.size();
            block.state = if member.is_live { 1 } else { 2 };
        }
        Address::Trapped { start, bytes, live } => block.trapped(start, bytes, live),
        Address::Foreign | Address::Internal(_) => {}
    }
    // SAFETY: the caller's promise.
    unsafe { copy_out(&block, out, size) };
    is_block
}

/// `rcumalloc_check(p)`: an `RCUMALLOC_CHECK_` of the header.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub extern "C" fn rcumalloc_check(address: *const c_void) -> c_int {
    check::check(address as usize) as c_int
}
