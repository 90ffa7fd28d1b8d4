//! Typed pools: create, alloc, free, destroy.
//!
//! Each call looks whether what it is given is a pool; what is not, and an object that is not the pool's, is
//! refused with a line. The pool's lock is held for some ten nanoseconds; memory is looked for, and other
//! things are tended, without it.

use crate::cache::mode;
use crate::class::typed::{self, Pool};
use crate::class::verdict;
use crate::front::under_way::Frame;
use crate::front::{entry, malloc, start};
use crate::release::shrinker::{self, Reason};
use crate::release::{decay, pressure};

/// What `handle` names, on behalf of `call`.
#[inline]
fn pool(handle: usize, call: &str) -> Option<&'static Pool> {
    typed::of_handle(handle).map_err(|other| verdict::bad_pool(call, handle, other, 0)).ok()
}

/// A new pool of objects of `size` bytes aligned to `align`; 0, and errno says why, where there is none.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn create(name: &[u8], size: usize, align: usize, is_typesafe: bool) -> usize {
    let mut frame = Frame::new();
    frame.begin();
    if !typed::is_possible(size, align) {
        malloc::set_errno(libc::EINVAL);
        return 0;
    }
    // As any first call.
    entry::current();
    let pool = if start::process() { typed::create(name, size, align, is_typesafe) } else { None };
    match pool {
        Some(pool) => core::ptr::from_ref(pool) as usize,
        None => {
            malloc::set_errno(libc::ENOMEM);
            0
        }
    }
}

/// An object of the pool, or 0 with ENOMEM.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn alloc(handle: usize) -> usize {
    let mut frame = Frame::new();
    frame.begin();
    let Some(pool) = pool(handle, "rcumalloc_pool_alloc") else { return 0 };
    let cache = entry::current();
    if let Some(cache) = cache {
        cache.enter();
        if let Some(object) = pool.take() {
            return object;
        }
        cache.slow_path();
        pressure::throttle();
        return pool.take_anew().unwrap_or_else(|| refill_at_last(pool));
    }
    let _quiet = entry::without_cache();
    pool.take().or_else(|| pool.take_anew()).unwrap_or_else(|| refill_at_last(pool))
}

/// Memory is out: once more after everything that can be has been given back.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn refill_at_last(pool: &Pool) -> usize {
    shrinker::scan(usize::MAX, Reason::MapFailed);
    pool.take_anew().unwrap_or_else(|| {
        malloc::set_errno(libc::ENOMEM);
        0
    })
}

/// Gives an object back to its pool.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn free(handle: usize, object: usize) {
    let mut frame = Frame::new();
    frame.begin();
    let Some(pool) = pool(handle, "rcumalloc_pool_free") else { return };
    let cache = entry::current();
    let _quiet = match cache {
        Some(cache) => {
            cache.enter();
            None
        }
        None => Some(entry::without_cache()),
    };
    match pool.give(object, mode::is_concurrent()) {
        Ok(false) => {}
        Ok(true) => tend(),
        Err(wrong) => verdict::bad_member(pool, object, wrong),
    }
}

/// Something has begun to wait: the thread comes by.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn tend() {
    if let Some(cache) = entry::current() {
        cache.slow_path();
    }
    decay::note_work();
}

/// Ends a pool. False: objects of it are with the program, which is reported, or there is no such pool.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn destroy(handle: usize) -> bool {
    const CALL: &str = "rcumalloc_pool_destroy";
    let mut frame = Frame::new();
    frame.begin();
    let Some(pool) = pool(handle, CALL) else { return false };
    if entry::current().is_none() {
        let _quiet = entry::without_cache();
    }
    if let Err(left) = pool.destroy() {
        verdict::bad_pool(CALL, handle, Some(pool), left);
        return false;
    }
    tend();
    true
}
