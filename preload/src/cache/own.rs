//! The calling thread's own cache and reader, if it has one.
//!
//! TLS word 0 is the address of the thread's cache, or of one of two static tables of zeros, which stand for
//! a cache where there is none: the *empty* table of a thread that has not called yet, and the *exited* one
//! of a thread that has given its cache back.

use crate::cache::thread_cache::ThreadCache;
use crate::constants::TABLE_AND_READER_WORDS;
use crate::os::tls;
use core::mem::{ManuallyDrop, offset_of};
use core::sync::atomic::{AtomicPtr, Ordering};
use rcu::{Reader, ReaderCell};

/// The table of a thread that has given its cache back: zeros, as the empty table, but telling.
static EXITED_TABLE: [u64; TABLE_AND_READER_WORDS] = [0; TABLE_AND_READER_WORDS];

/// The address of the exited table.
pub fn exited_table() -> usize {
    EXITED_TABLE.as_ptr() as usize
}

/// Whether the calling thread has given its cache back.
#[inline]
pub fn has_exited() -> bool {
    tls::alloc_table() == EXITED_TABLE.as_ptr() as usize
}

/// The calling thread's cache if it has one already.
#[inline]
pub fn existing() -> Option<&'static mut ThreadCache> {
    let table = tls::alloc_table();
    if table == tls::empty_table() || has_exited() {
        return None;
    }
    // SAFETY: neither of the static tables, so the word is the address of this thread's cache.
    Some(unsafe { &mut *(table as *mut ThreadCache) })
}

/// The calling thread's cell, if it has one: behind the static tables nothing is named.
#[inline(always)]
pub fn cell() -> Option<&'static ReaderCell> {
    let cell = (tls::alloc_table() + offset_of!(ThreadCache, reader)) as *const AtomicPtr<ReaderCell>;
    // SAFETY: the cache is type-stable and so is the cell; both static tables are as long as this.
    unsafe { (*cell).load(Ordering::Relaxed).as_ref() }
}

/// Whether `cell` is the calling thread's.
pub fn is_own(cell: &ReaderCell) -> bool {
    self::cell().is_some_and(|own| core::ptr::eq(own, cell))
}

/// The calling thread's reader, if it has one.
pub fn reader() -> Option<ManuallyDrop<Reader>> {
    // SAFETY: registered with the cache, and the calling thread owns it.
    cell().map(|cell| unsafe { Reader::borrow_cell(cell) })
}

/// Whether the calling thread is in a section.
pub fn is_held() -> bool {
    reader().is_some_and(|reader| reader.nesting() != 0)
}
