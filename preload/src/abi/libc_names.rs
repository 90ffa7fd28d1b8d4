//! The names of libc: what glibc's manual lists under "Replacing malloc", with glibc's rules.
//!
//! Every success leaves errno alone. C++'s operators are in `operators.rs`, jemalloc's names in
//! `jemalloc_names.rs`.

use crate::cache::table;
use crate::class::verdict;
use crate::constants::PAGE;
use crate::front::free::free_slow;
use crate::front::malloc::malloc_slow;
use crate::front::{malloc, realloc};
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

/// `malloc(size)`. A size of 0 gives a block of its own.
///
/// # Safety
/// C's rules. Any thread, any time but inside a signal handler that interrupted a call of these.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_start")]
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: the words are this thread's tables, always.
    unsafe { table::malloc(size, malloc_slow).cast() }
}

/// `free(block)`. Null is nothing; what is not a live block ends the process with a line.
///
/// # Safety
/// The block is not used any more, but by readers whose section began before.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_start")]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the words are this thread's tables, always.
    unsafe { table::free(block.cast(), free_slow) }
}

/// `cfree(block)`: free's old name.
///
/// # Safety
/// As [`free`].
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { free(block) }
}

/// `calloc(count, size)`: zeros.
///
/// # Safety
/// As [`malloc`].
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_start")]
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        Some(bytes) => malloc::alloc_zeroed(bytes).cast(),
        None => fail(libc::ENOMEM),
    }
}

/// `realloc(block, size)`: in place while the class stays; moving counts as a free of the old
/// block. Size 0 frees and returns null, as in glibc.
///
/// # Safety
/// The block is live and the caller's.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_start")]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    realloc::resize(block as usize, size).cast()
}

/// `reallocarray(block, count, size)`: realloc that minds the multiplication.
///
/// # Safety
/// As [`realloc`].
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the caller's promise.
        Some(bytes) => unsafe { realloc(block, bytes) },
        None => fail(libc::ENOMEM),
    }
}

/// `aligned_alloc(align, size)`: EINVAL unless `align` is a power of two.
///
/// # Safety
/// As [`malloc`].
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    if align.is_power_of_two() { aligned(align, size) } else { fail(libc::EINVAL) }
}

/// `memalign(align, size)`: rounds `align` up to a power of two.
///
/// # Safety
/// As [`malloc`].
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    // SAFETY: as here.
    unsafe { memalign_here(align, size) }
}

/// What is called here is this, not whatever the loader has for the name.
#[inline(always)]
unsafe fn memalign_here(align: usize, size: usize) -> *mut c_void {
    match align.checked_next_power_of_two() {
        Some(align) => aligned(align, size),
        None => fail(libc::EINVAL),
    }
}

/// `posix_memalign(out, align, size)`: returns the error and leaves, on failure, `out`. As in glibc, no
/// memory sets errno, too, which POSIX leaves open and programs look at; an alignment that is none does not.
///
/// # Safety
/// `out` is writable.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    // SAFETY: as here.
    unsafe { posix_memalign_here(out, align, size) }
}

/// As [`memalign_here`].
#[inline(always)]
unsafe fn posix_memalign_here(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<usize>() {
        return libc::EINVAL;
    }
    let block = aligned(align, size);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(block) };
    0
}

/// `valloc(size)`: aligned to a page.
///
/// # Safety
/// As [`malloc`].
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    aligned(PAGE, size)
}

/// `pvalloc(size)`: whole pages.
///
/// # Safety
/// As [`malloc`].
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
    match size.checked_next_multiple_of(PAGE) {
        Some(size) => aligned(PAGE, size),
        None => fail(libc::ENOMEM),
    }
}

/// `malloc_usable_size(block)`: constant for the block's life, all writable; 0 for null.
///
/// # Safety
/// The block is live.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    if block.is_null() { 0 } else { realloc::usable_size(block as usize) }
}

/// `free_sized(block, size)` (C23): free that checks the size the block was asked with.
///
/// # Safety
/// As [`free`].
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn free_sized(block: *mut c_void, size: usize) {
    if !block.is_null() && !verdict::size_fits(block as usize, size, 1) {
        return verdict::wrong_size("free_sized", block as usize, size, None);
    }
    // SAFETY: the caller's promise.
    unsafe { free(block) }
}

/// `free_aligned_sized(block, align, size)` (C23).
///
/// # Safety
/// As [`free`].
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, align: usize, size: usize) {
    let fits = || align.is_power_of_two() && verdict::size_fits(block as usize, size, align);
    if !block.is_null() && !fits() {
        return verdict::wrong_size("free_aligned_sized", block as usize, size, Some(align));
    }
    // SAFETY: the caller's promise.
    unsafe { free(block) }
}

/// glibc's second names of the same functions, which programs call that wrap malloc: one heap, however they
/// are mixed. Of those that glibc 2.36 exports (`readelf -Ws libc.so.6`) all are here, and
/// `__posix_memalign`, which it once did.
macro_rules! second_names {
    ($($second:ident = $first:path, ($($name:ident: $kind:ty),*) $(-> $gives:ty)?;)*) => {$(
        #[doc = concat!("As `", stringify!($first), "`.")]
        ///
        /// # Safety
        /// As the first name's.
        #[cfg_attr(feature = "override", unsafe(no_mangle))]
        pub unsafe extern "C" fn $second($($name: $kind),*) $(-> $gives)? {
            // SAFETY: the caller's promise.
            unsafe { $first($($name),*) }
        }
    )*};
}

second_names! {
    __libc_malloc = malloc, (size: usize) -> *mut c_void;
    __libc_free = free, (block: *mut c_void);
    __libc_calloc = calloc, (count: usize, size: usize) -> *mut c_void;
    __libc_realloc = realloc, (block: *mut c_void, size: usize) -> *mut c_void;
    __libc_reallocarray = reallocarray, (block: *mut c_void, count: usize, size: usize) -> *mut c_void;
    __libc_memalign = memalign_here, (align: usize, size: usize) -> *mut c_void;
    __libc_valloc = valloc, (size: usize) -> *mut c_void;
    __libc_pvalloc = pvalloc, (size: usize) -> *mut c_void;
    __posix_memalign = posix_memalign_here, (out: *mut *mut c_void, align: usize, size: usize) -> c_int;
}

fn aligned(align: usize, size: usize) -> *mut c_void {
    malloc::alloc_aligned(size, align.max(1)).cast()
}

#[cold]
fn fail(errno: c_int) -> *mut c_void {
    malloc::set_errno(errno);
    null_mut()
}
