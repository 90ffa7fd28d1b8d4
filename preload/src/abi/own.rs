//! The library's own names; documented for users in `include/rcumalloc.h`.

use crate::abi::arch;
use crate::abi::calls::start_worker;
use crate::cache::own;
use crate::class::backlog::{self, DOMAIN};
use crate::class::page_kinds::{self, PageStats};
use crate::class::size_class::Class;
use crate::class::verdict;
use crate::front::free::When;
use crate::front::under_way::entered;
use crate::front::{calls, fork, free, nowait, options, readers, start};
use crate::os::sink::{File, Sink};
use crate::os::tid;
use crate::release::census::{self, ClassStats};
use crate::release::report;
use crate::release::shrinker::{self, Reason};
use crate::release::stats::{self, Stats};
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use rcu::{Cookie, Demand, ReaderCell};

/// `rcumalloc_read_lock()`. Spelled out, so that whoever gets the rare cases is told where the section
/// begins: the return address lies on top of the stack.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(naked)]
pub extern "C" fn rcumalloc_read_lock() {
    arch::read_lock!(lock_first, lock_rare)
}

extern "C" fn lock_first(place: usize) {
    readers::lock_first(place);
}

/// # Safety
/// The calling thread's cell, whose first word it has just incremented.
unsafe extern "C" fn lock_rare(cell: &ReaderCell, place: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        cell.lock_rare_raw();
        cell.note_began_raw(place);
    }
}

/// `rcumalloc_read_unlock()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_read_unlock() {
    readers::unlock();
}

/// `rcumalloc_read_held()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_read_held() -> bool {
    own::is_held()
}

/// `rcumalloc_reader_self()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_reader_self() -> &'static ReaderCell {
    readers::own_cell("rcumalloc_reader_self")
}

/// `rcumalloc_reader_lock_rare()`.
///
/// # Safety
/// `cell` is what [`rcumalloc_reader_self`] gave this thread, which has just incremented its first word.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn rcumalloc_reader_lock_rare(cell: &ReaderCell) {
    arch::jump_with_place!(lock_handle_rare)
}

/// # Safety
/// As [`rcumalloc_reader_lock_rare`].
unsafe extern "C" fn lock_handle_rare(cell: &ReaderCell, place: usize) {
    if !own::is_own(cell) {
        verdict::strange_reader("rcumalloc_reader_lock", tid::tid() as u32);
    }
    // SAFETY: the caller's promise.
    unsafe { lock_rare(cell, place) }
}

/// `rcumalloc_reader_unlock_rare()`.
///
/// # Safety
/// As [`rcumalloc_reader_lock_rare`]; the thread has just decremented the first word and, if that made it 0,
/// incremented the second: `outermost`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rcumalloc_reader_unlock_rare(cell: &ReaderCell, outermost: bool) {
    if !own::is_own(cell) {
        verdict::strange_reader("rcumalloc_reader_unlock", tid::tid() as u32);
    }
    // SAFETY: the caller's promise.
    unsafe { cell.unlock_rare_raw(outermost) }
}

/// `rcumalloc_quiescent_state()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_quiescent_state() {
    if let Some(reader) = own::reader() {
        reader.quiescent_state();
    }
}

/// `rcumalloc_thread_offline()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_thread_offline() {
    if let Some(mut reader) = readers::own() {
        reader.offline();
    }
}

/// `rcumalloc_thread_online()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_thread_online() {
    if let Some(reader) = readers::own() {
        reader.online();
    }
}

/// `rcumalloc_start_poll()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_start_poll() -> Cookie {
    // As any first call: periods of a heap that cannot start need nothing of it.
    start::process();
    DOMAIN.start_poll()
}

/// `rcumalloc_poll(cookie)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_poll(cookie: Cookie) -> bool {
    if DOMAIN.poll(cookie) {
        return true;
    }
    // Whoever polls waits: let the period move on where this thread can move it.
    if let Some(reader) = own::reader() {
        reader.quiescent_state();
    }
    DOMAIN.advance(Demand::Start);
    DOMAIN.poll(cookie)
}

/// `rcumalloc_cond_synchronize(cookie)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_cond_synchronize(cookie: Cookie) {
    readers::cond_synchronize("rcumalloc_cond_synchronize", cookie, false);
}

/// `rcumalloc_cond_synchronize_expedited(cookie)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_cond_synchronize_expedited(cookie: Cookie) {
    readers::cond_synchronize("rcumalloc_cond_synchronize_expedited", cookie, true);
}

/// `rcumalloc_synchronize()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_synchronize() {
    readers::synchronize("rcumalloc_synchronize", false);
}

/// `rcumalloc_synchronize_expedited()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_synchronize_expedited() {
    readers::synchronize("rcumalloc_synchronize_expedited", true);
}

/// `rcumalloc_barrier()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_barrier() {
    // Before it waits for anything: what is refused in a section is refused whatever there is to wait for.
    readers::refuse_in_section("rcumalloc_barrier");
    calls::barrier(start_worker);
    entered(readers::barrier);
}

/// `rcumalloc_free(block)`.
///
/// # Safety
/// As free.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rcumalloc_free(block: *mut c_void) {
    if !block.is_null() {
        free::free_block(block as usize, "rcumalloc_free", When::Deferred);
    }
}

/// `rcumalloc_free_bulk(blocks, count)`.
///
/// # Safety
/// `blocks` are `count` pointers, each as for free.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rcumalloc_free_bulk(blocks: *mut *mut c_void, count: usize) {
    for at in 0..count {
        // SAFETY: the caller's promise.
        let block = unsafe { blocks.add(at).read() };
        if !block.is_null() {
            free::free_block(block as usize, "rcumalloc_free_bulk", When::Deferred);
        }
    }
}

/// `rcumalloc_free_now(block)`.
///
/// # Safety
/// As free, and no reader can see the block.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rcumalloc_free_now(block: *mut c_void) {
    if !block.is_null() {
        free::free_block(block as usize, "rcumalloc_free_now", When::Now);
    }
}

/// `rcumalloc_shrink_count()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_shrink_count() -> usize {
    shrinker::count()
}

/// `rcumalloc_shrink_scan(bytes)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_shrink_scan(bytes: usize) -> usize {
    fork::settle_if_cloned();
    entered(|| shrinker::scan(bytes, Reason::Api))
}

/// `rcumalloc_pressure(level)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_pressure(level: c_int) {
    fork::settle_if_cloned();
    entered(|| shrinker::pressure(level.max(0) as u32, Reason::Pressure));
}

/// `rcumalloc_stats(out, size)`: fills as much of the structure as the caller knows.
///
/// # Safety
/// `out` points at `size` writable bytes.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rcumalloc_stats(out: *mut Stats, size: usize) -> bool {
    if out.is_null() {
        return false;
    }
    let mut figures = Stats::default();
    stats::collect_into(&mut figures);
    // SAFETY: the caller's promise.
    unsafe { copy_out(&figures, out, size) };
    true
}

/// Copies as much of `figures`, which are plain numbers, as the caller has room for; the rest of the room is
/// zero.
///
/// # Safety
/// `out` points at `room` writable bytes.
pub(super) unsafe fn copy_out<T>(figures: &T, out: *mut T, room: usize) {
    let known = size_of::<T>().min(room);
    // SAFETY: the caller's promise.
    unsafe {
        core::ptr::copy_nonoverlapping(core::ptr::from_ref(figures).cast::<u8>(), out.cast(), known);
        out.cast::<u8>().add(known).write_bytes(0, room - known);
    }
}

/// `rcumalloc_class_stats(index, out, size)`: of size class number `index`. False past the last.
///
/// # Safety
/// `out` points at `size` writable bytes.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rcumalloc_class_stats(index: c_uint, out: *mut ClassStats, size: usize) -> bool {
    let Some(class) = Class::all().nth(index as usize).filter(|_| !out.is_null()) else { return false };
    // SAFETY: the caller's promise.
    unsafe { copy_out(&census::of_class(class), out, size) };
    true
}

/// `rcumalloc_page_stats(out, size)`.
///
/// # Safety
/// `out` points at `size` writable bytes.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rcumalloc_page_stats(out: *mut PageStats, size: usize) -> bool {
    if out.is_null() {
        return false;
    }
    // SAFETY: the caller's promise.
    unsafe { copy_out(&page_kinds::count(), out, size) };
    true
}

/// `rcumalloc_stats_write(fd, format)`.
///
/// # Safety
/// `format` is a string.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rcumalloc_stats_write(fd: c_int, format: *const c_char) -> bool {
    if format.is_null() {
        return false;
    }
    // SAFETY: the caller's promise.
    let format = unsafe { CStr::from_ptr(format) }.to_bytes();
    let file = File::new(fd);
    report::write(Sink::File(&file), format) && file.is_whole()
}

/// `rcumalloc_stalls_write(fd, format)`.
///
/// # Safety
/// `format` is a string.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn rcumalloc_stalls_write(fd: c_int, format: *const c_char) -> bool {
    if format.is_null() {
        return false;
    }
    // SAFETY: the caller's promise.
    let format = unsafe { CStr::from_ptr(format) }.to_bytes();
    let file = File::new(fd);
    report::write_stalls(Sink::File(&file), format) && file.is_whole()
}

/// `rcumalloc_set(name, value)`.
///
/// # Safety
/// Both are strings.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub unsafe extern "C" fn rcumalloc_set(name: *const c_char, value: *const c_char) -> bool {
    // SAFETY: the caller's promise.
    let (name, value) = unsafe { (CStr::from_ptr(name), CStr::from_ptr(value)) };
    // What the environment says is not to come later and win.
    start::process() && options::set(name.to_bytes(), value.to_bytes())
}

/// `rcumalloc_get(name, value, size)`.
///
/// # Safety
/// `name` is a string, and `value` points at `size` writable bytes.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub unsafe extern "C" fn rcumalloc_get(name: *const c_char, value: *mut c_char, size: usize) -> usize {
    start::process();
    // SAFETY: the caller's promise.
    let Some(text) = options::get(unsafe { CStr::from_ptr(name) }.to_bytes()) else { return 0 };
    let bytes = text.bytes();
    if size != 0 {
        let fits = bytes.len().min(size - 1);
        // SAFETY: the caller's promise; a zero byte is left room for.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), value.cast(), fits);
            value.add(fits).write(0);
        }
    }
    bytes.len()
}

/// `rcumalloc_prefill(size, count)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub extern "C" fn rcumalloc_prefill(size: usize, count: usize) -> usize {
    nowait::prefill(size, count)
}

/// `rcumalloc_alloc_nowait(size)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_alloc_nowait(size: usize) -> *mut c_void {
    nowait::alloc(size).cast()
}

/// `rcumalloc_version()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn rcumalloc_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Bytes that wait for a grace period.
pub fn deferred_bytes() -> usize {
    backlog::deferred_bytes()
}
