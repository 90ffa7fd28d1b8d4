//! jemalloc's own interface, and two names of macOS's malloc that other allocators took over.
//!
//! Programs look for these as weak symbols and use them instead of `malloc` and `free` where they are there.
//! In a program that is linked with jemalloc they are there: were they not ours like malloc, jemalloc would
//! be handed this heap's blocks. `mallctl` and its relatives are not here: they name jemalloc's inner parts,
//! and whoever finds them may well set one.
//!
//! `flags` holds the logarithm of an alignment, a bit that asks for zeros, and the number of a thread cache
//! and of an arena, of which this heap has none to choose from: those are ignored. A failure leaves errno
//! alone, as jemalloc's does.

use crate::abi::libc_names;
use crate::cache::table;
use crate::class::large::{self, LargeRef};
use crate::class::resize;
use crate::class::size_class::{Class, SMALL_MAX};
use crate::class::slab::Whereabouts;
use crate::class::verdict::{self, Address};
use crate::constants::PAGE;
use crate::front::free::When;
use crate::front::malloc::MALLOC_ALIGN;
use crate::front::{free, malloc, realloc, under_way};
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

/// What the last argument asks for.
#[derive(Clone, Copy)]
struct Flags(c_int);

impl Flags {
    const LG_ALIGN: c_int = 0x3f; // (given) by jemalloc's header
    const ZERO: c_int = 0x40; // (given) by jemalloc's header

    fn align(self) -> usize {
        1 << (self.0 & Flags::LG_ALIGN)
    }

    fn wants_zeros(self) -> bool {
        self.0 & Flags::ZERO != 0
    }
}

/// The real size of a block of `size` bytes. `None`: there can be none.
fn real_size(size: usize, flags: Flags) -> Option<usize> {
    let align = flags.align();
    if let Some(class) = Class::of_aligned(size, align) {
        return Some(class.size());
    }
    let real = large::pages_for(size)?.checked_mul(PAGE)?;
    let is_possible = real.checked_add(align).is_some_and(|all| all <= isize::MAX as usize);
    is_possible.then_some(real)
}

/// A block of `size` bytes whose real size is `real`, all zeros if so asked; or null.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn alloc(size: usize, real: usize, flags: Flags) -> *mut u8 {
    // SAFETY: libc gives the address of the calling thread's errno.
    let errno = unsafe { *libc::__errno_location() };
    let (align, zeros) = (flags.align(), flags.wants_zeros());
    // All that `nallocx` says is the program's, also of a sample, which is cut to what was asked for.
    let size = if real <= SMALL_MAX { real } else { size };
    let block = match (align <= MALLOC_ALIGN, zeros) {
        // SAFETY: any thread, any size.
        (true, false) => unsafe { libc_names::malloc(size).cast() },
        // All of the block: a later growth fills with zeros from its real size on.
        (true, true) => malloc::alloc_zeroed(real),
        (false, _) => malloc::alloc_aligned(size, align),
    };
    if block.is_null() {
        malloc::set_errno(errno);
        return block;
    }
    if let Some(large) = LargeRef::of(block as usize).filter(|large| large.bytes() > real) {
        // One that was freed before may be a little larger. Nobody has seen it yet: nobody reads its tail.
        resize::resize(large.base(), size, false);
    }
    if zeros && align > MALLOC_ALIGN {
        // SAFETY: a fresh block, all of which is the caller's.
        unsafe { block.write_bytes(0, realloc::usable_size_for(block as usize, "mallocx")) };
    }
    block
}

/// The real size of the block at `addr`. `None`: no block starts there that the program has.
fn size_of_live(addr: usize) -> Option<usize> {
    match verdict::inspect(addr) {
        Address::Small { start, class, at: Whereabouts::Out } if start == addr => Some(class.size()),
        Address::Large { start, bytes, live: true } | Address::Trapped { start, bytes, live: true }
            if start == addr =>
        {
            Some(bytes)
        }
        _ => None,
    }
}

/// The same, on behalf of `call`, which says so if there is none.
fn held(addr: usize, call: &str) -> Option<usize> {
    let size = size_of_live(addr);
    if size.is_none() {
        verdict::bad_address(call, addr);
    }
    size
}

/// Zeros from the block's old real size to its new one, if so asked.
fn clear_growth(addr: usize, old: usize, new: usize, flags: Flags) {
    if flags.wants_zeros() && new > old {
        // SAFETY: inside the block, which is the caller's.
        unsafe { (addr as *mut u8).add(old).write_bytes(0, new - old) };
    }
}

/// Changes what a large block holds without moving it, if that can be.
fn resize_large(addr: usize, size: usize) -> bool {
    under_way::entered(|| realloc::resize_large(addr, size))
}

/// `mallocx(size, flags)`: null if there is no memory.
///
/// # Safety
/// As malloc.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn mallocx(size: usize, flags: c_int) -> *mut c_void {
    let flags = Flags(flags);
    real_size(size, flags).map_or(null_mut(), |real| alloc(size, real, flags).cast())
}

/// `rallocx(block, size, flags)`: a block of the size that [`nallocx`] says, in place if it is that already.
/// Null if there is no memory, and then the old block is as it was.
///
/// # Safety
/// The block is live and the caller's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rallocx(block: *mut c_void, size: usize, flags: c_int) -> *mut c_void {
    const CALL: &str = "rallocx";
    let (addr, flags) = (block as usize, Flags(flags));
    let Some(old) = held(addr, CALL) else { return null_mut() };
    let Some(real) = real_size(size, flags) else { return null_mut() };
    let may_stay = addr.is_multiple_of(flags.align());
    if may_stay && (old == real || resize_large(addr, size)) {
        clear_growth(addr, old, realloc::usable_size_for(addr, CALL), flags);
        return block;
    }
    let new = alloc(size, real, flags);
    if new.is_null() {
        return null_mut();
    }
    // SAFETY: both are live blocks of at least so many bytes, and they are distinct.
    unsafe { core::ptr::copy_nonoverlapping(block.cast(), new, old.min(real)) };
    free::free_block(addr, CALL, When::Usual);
    new.cast()
}

/// `xallocx(block, size, extra, flags)`: makes the block hold `size` bytes, and up to `extra` more if they
/// are to be had, without moving it. Returns its real size, changed or not.
///
/// # Safety
/// The block is live and the caller's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn xallocx(block: *mut c_void, size: usize, extra: usize, flags: c_int) -> usize {
    const CALL: &str = "xallocx";
    let (addr, flags) = (block as usize, Flags(flags));
    let Some(old) = held(addr, CALL) else { return 0 };
    if LargeRef::of(addr).is_none() || !addr.is_multiple_of(flags.align()) {
        return old;
    }
    let most = size.saturating_add(extra);
    if most > old {
        let _ = resize_large(addr, most) || (size > old && resize_large(addr, size));
    } else if real_size(most, flags).is_some_and(|real| real < old) {
        resize_large(addr, most);
    }
    let new = realloc::usable_size_for(addr, CALL);
    clear_growth(addr, old, new, flags);
    new
}

/// `sallocx(block, flags)`: its real size.
///
/// # Safety
/// The block is live.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn sallocx(block: *const c_void, _flags: c_int) -> usize {
    realloc::usable_size_for(block as usize, "sallocx")
}

/// `dallocx(block, flags)`: free.
///
/// # Safety
/// As free.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn dallocx(block: *mut c_void, _flags: c_int) {
    // SAFETY: as here.
    unsafe { release(block) }
}

/// What both ways to free come to.
#[inline(always)]
unsafe fn release(block: *mut c_void) {
    unsafe extern "C" fn slow(block: *mut u8) {
        if !block.is_null() {
            free::free_block(block as usize, "dallocx", When::Usual);
        }
    }
    // SAFETY: the words are this thread's tables, always.
    unsafe { table::free(block.cast(), slow) }
}

/// `sdallocx(block, size, flags)`: free that checks the size, which lies between the one the block was asked
/// with and its real one, and the alignment.
///
/// # Safety
/// As free.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn sdallocx(block: *mut c_void, size: usize, flags: c_int) {
    let align = Flags(flags).align();
    if !block.is_null() && !verdict::size_may_be(block as usize, size, align) {
        return verdict::wrong_size("sdallocx", block as usize, size, (align > 1).then_some(align));
    }
    // SAFETY: the caller's promise.
    unsafe { release(block) }
}

/// `nallocx(size, flags)`: the real size of what mallocx would give; 0 if it can give nothing.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn nallocx(size: usize, flags: c_int) -> usize {
    real_size(size, Flags(flags)).unwrap_or(0)
}

/// `malloc_size(block)`: its real size; 0 for whatever is no live block of this heap, which is a fair
/// question.
///
/// # Safety
/// None: `block` may be any address.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn malloc_size(block: *const c_void) -> usize {
    size_of_live(block as usize).unwrap_or(0)
}

/// `malloc_good_size(size)`: the real size of what malloc would give for it, or `size` where it gives
/// nothing.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn malloc_good_size(size: usize) -> usize {
    real_size(size, Flags(0)).unwrap_or(size)
}
