//! The structure under test: a hash table of ordered lock-free lists (Harris, with Michael's change that
//! makes it fit hazard pointers).
//!
//! A node's `next` carries the mark in its lowest bit: a marked node is deleted, and its link may not
//! change any more. Whoever comes by unlinks marked nodes; whoever's exchange took a node out of the list,
//! and nobody else, retires it.
//!
//! Two ways to look a key up. Schemes that protect all that a section can find walk straight through, marked
//! nodes too, and write nothing. Schemes that protect single nodes ([`Local::SHIELDS`]) shield each node,
//! then look whether the link that led there is still unmarked and unchanged, and start over if not.
//!
//! Sources: T. Harris, "A pragmatic implementation of non-blocking linked-lists" (DISC 2001); M. Michael,
//! "High performance dynamic lock-free hash tables and list-based sets" (SPAA 2002). The code is ours.

use crate::reclaim::{Dispose, Local, blocks};
use core::ffi::c_void;
use core::marker::PhantomData;
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

const MARK: usize = 1;
/// Looks at canaries between two that give the processor away first.
const PAUSE_EVERY: u64 = 16;
/// `canary` of a live node is its key exclusive-or'ed with this; a disposed one is overwritten first.
const ALIVE: u64 = 0x5eed_1e55_ca9a_71e5;

/// A node of 32 bytes, and behind it the room that the scheme asked for.
#[repr(C)]
pub struct Node {
    key: AtomicU64,
    next: AtomicUsize,
    value: AtomicU64,
    canary: AtomicU64,
}

/// Frees nodes. With `CHECKED` it keeps them for ever instead, with the canary overwritten, so that a section
/// that still reads one notices and comes to no harm.
pub struct FreeNode<const CHECKED: bool>;

/// Nodes disposed of, where they are checked.
pub static DISPOSED: AtomicU64 = AtomicU64::new(0);

impl<const CHECKED: bool> Dispose for FreeNode<CHECKED> {
    const HEAD: usize = size_of::<Node>();

    #[inline(always)]
    unsafe fn dispose(block: *mut c_void) {
        if CHECKED {
            DISPOSED.fetch_add(1, Relaxed);
            // SAFETY: a node, which nobody can see, if the scheme is right; and it stays one.
            unsafe { &*block.cast::<Node>() }.canary.store(0, Relaxed);
            return;
        }
        // SAFETY: the caller's promise; it came from malloc.
        unsafe { libc::free(block) };
    }
}

/// The table. `CHECKED` looks at canaries and is for tests.
pub struct Table<const CHECKED: bool> {
    heads: Box<[Head]>,
    node_bytes: usize,
    /// Canaries found overwritten.
    pub violations: AtomicU64,
    looks: AtomicU64,
    free: PhantomData<FreeNode<CHECKED>>,
}

/// The first link of a bucket.
struct Head(AtomicUsize);

/// Where a key is, or would be: the link that leads there and the node it leads to.
struct Place<'t> {
    link: &'t AtomicUsize,
    node: usize,
    found: bool,
}

/// # Safety
/// `address` is that of a node that the caller's section, or shield, protects.
unsafe fn node_at<'t>(address: usize) -> &'t Node {
    // SAFETY: the caller's promise.
    unsafe { &*(address as *const Node) }
}

impl<const CHECKED: bool> Table<CHECKED> {
    /// An empty table of `buckets` lists, whose nodes carry `header` bytes for the scheme.
    #[must_use]
    pub fn new(buckets: usize, header: usize) -> Self {
        let buckets = buckets.max(1).next_power_of_two();
        Table {
            heads: (0..buckets).map(|_| Head(AtomicUsize::new(0))).collect(),
            node_bytes: size_of::<Node>() + header,
            violations: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            free: PhantomData,
        }
    }

    #[inline(always)]
    fn head(&self, key: u64) -> &AtomicUsize {
        // Fibonacci hashing: neighbouring keys in different buckets.
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.heads[hash as usize & (self.heads.len() - 1)].0
    }

    /// With a node in hand that the scheme must protect: gives others time to dispose of it, then looks at
    /// it.
    #[inline(always)]
    fn check(&self, node: &Node, key: u64) {
        if !CHECKED {
            return;
        }
        if self.looks.fetch_add(1, Relaxed).is_multiple_of(PAUSE_EVERY) {
            std::thread::yield_now();
        }
        if node.canary.load(Relaxed) != key ^ ALIVE {
            self.violations.fetch_add(1, Relaxed);
        }
    }

    /// The value of `key`.
    #[inline]
    pub fn get<L: Local>(&self, local: &mut L, key: u64) -> Option<u64> {
        local.enter();
        let value = if L::SHIELDS { self.get_shielded(local, key) } else { self.walk(key) };
        local.leave();
        value
    }

    fn get_shielded<L: Local>(&self, local: &mut L, key: u64) -> Option<u64> {
        let place = self.find(local, key);
        // SAFETY: shielded by `find`.
        place.found.then(|| unsafe { node_at(place.node) }.value.load(Relaxed))
    }

    /// Straight through, in a section that protects everything.
    fn walk(&self, key: u64) -> Option<u64> {
        let mut at = self.head(key).load(Acquire) & !MARK;
        while at != 0 {
            // SAFETY: found in the section.
            let node = unsafe { node_at(at) };
            let next = node.next.load(Acquire);
            let here = node.key.load(Relaxed);
            self.check(node, here);
            if here >= key {
                let value = node.value.load(Relaxed);
                self.check(node, here);
                return (here == key && next & MARK == 0).then_some(value);
            }
            at = next & !MARK;
        }
        None
    }

    /// The first node whose key is not below `key`, unlinking marked nodes on the way. Inside a section.
    fn find<'t, L: Local>(&'t self, local: &mut L, key: u64) -> Place<'t> {
        'again: loop {
            let mut link = self.head(key);
            let mut at = link.load(Acquire);
            let mut place = 0;
            while at != 0 {
                if L::SHIELDS {
                    local.shield(place, at as *mut c_void);
                    // Still linked, by a node that is not deleted: so not retired before the shield stood.
                    if link.load(Acquire) != at {
                        continue 'again;
                    }
                }
                // SAFETY: in a section, or shielded and found linked after that.
                let node = unsafe { node_at(at) };
                let next = node.next.load(Acquire);
                if next & MARK != 0 {
                    // AcqRel: what the deleter did to the node is behind us when it is retired.
                    if link.compare_exchange(at, next & !MARK, AcqRel, Relaxed).is_err() {
                        continue 'again;
                    }
                    // SAFETY: this exchange took it out of the list.
                    unsafe { local.retire::<FreeNode<CHECKED>>(at as *mut c_void) };
                    at = next & !MARK;
                    continue;
                }
                let here = node.key.load(Relaxed);
                self.check(node, here);
                if link.load(Acquire) != at {
                    continue 'again;
                }
                if here >= key {
                    return Place { link, node: at, found: here == key };
                }
                // The node stays shielded as the owner of the link; the next one takes the other place.
                link = &node.next;
                place ^= 1;
                at = next;
            }
            return Place { link, node: 0, found: false };
        }
    }

    /// Adds `key`; false if it is there.
    pub fn insert<L: Local>(&self, local: &mut L, key: u64, value: u64) -> bool {
        let fresh = blocks::allocate(self.node_bytes);
        // SAFETY: large enough, and nobody else's. Atomics have the layout of their numbers.
        let node = unsafe {
            fresh.cast::<Node>().write(Node {
                key: AtomicU64::new(key),
                next: AtomicUsize::new(0),
                value: AtomicU64::new(value),
                canary: AtomicU64::new(key ^ ALIVE),
            });
            &*fresh.cast::<Node>()
        };
        local.enter();
        let added = loop {
            let place = self.find(local, key);
            if place.found {
                break false;
            }
            node.next.store(place.node, Relaxed);
            // Release: the node is whole when it is found.
            if place.link.compare_exchange(place.node, fresh as usize, Release, Relaxed).is_ok() {
                break true;
            }
        };
        local.leave();
        if !added {
            // SAFETY: never linked.
            unsafe { libc::free(fresh) };
        }
        added
    }

    /// Takes `key` out; false if it is not there.
    pub fn remove<L: Local>(&self, local: &mut L, key: u64) -> bool {
        local.enter();
        let removed = loop {
            let place = self.find(local, key);
            if !place.found {
                break false;
            }
            // SAFETY: found in this section, or shielded by `find`.
            let node = unsafe { node_at(place.node) };
            let next = node.next.load(Acquire);
            if next & MARK != 0 || node.next.compare_exchange(next, next | MARK, AcqRel, Relaxed).is_err() {
                continue;
            }
            if place.link.compare_exchange(place.node, next, AcqRel, Relaxed).is_ok() {
                // SAFETY: this exchange took it out of the list.
                unsafe { local.retire::<FreeNode<CHECKED>>(place.node as *mut c_void) };
            } else {
                self.find(local, key);
            }
            break true;
        };
        local.leave();
        removed
    }

    /// Number of keys and their sum, while nobody else is at the table.
    pub fn sum(&self) -> (u64, u64) {
        let mut sum = (0, 0);
        for head in &self.heads {
            let mut at = head.0.load(Acquire) & !MARK;
            while at != 0 {
                // SAFETY: nobody else is at the table, and what is linked is not freed.
                let node = unsafe { node_at(at) };
                let next = node.next.load(Acquire);
                if next & MARK == 0 {
                    sum = (sum.0 + 1, sum.1 + node.key.load(Relaxed));
                }
                at = next & !MARK;
            }
        }
        sum
    }
}

impl<const CHECKED: bool> Drop for Table<CHECKED> {
    fn drop(&mut self) {
        for head in &self.heads {
            let mut at = head.0.load(Acquire) & !MARK;
            while at != 0 {
                // SAFETY: the table is ours alone.
                let next = unsafe { node_at(at) }.next.load(Acquire);
                // SAFETY: as above; each node is linked once.
                unsafe { libc::free(at as *mut c_void) };
                at = next & !MARK;
            }
        }
    }
}
