//! `rcumalloc_pool_create`, `_alloc`, `_free` and `_destroy` (`front/typed.rs`).

use crate::front::typed;
use core::ffi::{CStr, c_char, c_uint, c_void};

/// `RCUMALLOC_POOL_TYPESAFE`.
const TYPESAFE: c_uint = 1; // (given) by the header

/// `rcumalloc_pool_create(name, size, align, flags)`.
///
/// # Safety
/// `name` is a string.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub unsafe extern "C" fn rcumalloc_pool_create(
    name: *const c_char,
    size: usize,
    align: usize,
    flags: c_uint,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    // What a later library knows is not possible here.
    let size = if flags & !TYPESAFE == 0 { size } else { 0 };
    typed::create(name, size, align, flags & TYPESAFE != 0) as *mut c_void
}

/// `rcumalloc_pool_alloc(pool)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub extern "C" fn rcumalloc_pool_alloc(pool: *mut c_void) -> *mut c_void {
    typed::alloc(pool as usize) as *mut c_void
}

/// `rcumalloc_pool_free(pool, object)`.
///
/// # Safety
/// The object is not used any more, but by readers who know what they may find. Wrong addresses are refused.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub unsafe extern "C" fn rcumalloc_pool_free(pool: *mut c_void, object: *mut c_void) {
    if !object.is_null() {
        typed::free(pool as usize, object as usize);
    }
}

/// `rcumalloc_pool_destroy(pool)`.
///
/// # Safety
/// Nobody uses the pool any more.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub unsafe extern "C" fn rcumalloc_pool_destroy(pool: *mut c_void) -> bool {
    typed::destroy(pool as usize)
}
