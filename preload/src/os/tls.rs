//! The two words a thread has: the table malloc pops from and the table free pushes to.
//!
//! Initial-exec thread-local storage, defined in assembly because stable Rust would call
//! `__tls_get_addr` in a shared library: that takes the loader's lock (hazard
//! `dlopen_vs_first_malloc`) and costs 16 instructions instead of one. Static TLS is scarce
//! when a library is `dlopen`ed, so there are two words and no more.
//!
//! Every thread starts with both words pointing at [`EMPTY_TABLE`], whose slots are always
//! empty and always full: the first malloc and the first free of a thread land in the slow
//! path by themselves, and the fast path needs no "is it initialised?". Only the thread
//! itself reads or writes its words.

use core::arch::global_asm;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::arch;
pub use super::arch::{
    alloc_table, free_slot, free_table, free_word, set_alloc_table, set_free_table, set_tables,
    thread_pointer,
};
use crate::constants::TABLE_AND_READER_WORDS;

/// The table of a thread that has none. All zero, hence top = low (nothing to pop) and top =
/// high (no room to push) in every slot, and no reader behind. Never written.
pub static EMPTY_TABLE: [u64; TABLE_AND_READER_WORDS] = [0; TABLE_AND_READER_WORDS];

global_asm!(
    ".pushsection .tdata,\"awT\",@progbits",
    ".balign 16",
    ".globl rcumalloc_tables",
    ".hidden rcumalloc_tables",
    ".type rcumalloc_tables, @object",
    ".size rcumalloc_tables, 16",
    "rcumalloc_tables:",
    ".quad {empty}",
    ".quad {empty}",
    ".popsection",
    empty = sym EMPTY_TABLE,
);

/// Address of the empty table, to compare with.
#[inline(always)]
pub fn empty_table() -> usize {
    EMPTY_TABLE.as_ptr() as usize
}

/// As [`set_tables`], if the thread has none: no handler comes between the question and the answer. False: it
/// has some.
#[inline]
pub fn set_tables_if_empty(alloc: usize, free: usize) -> bool {
    arch::set_tables_if(empty_table(), alloc, free)
}

/// Whether the thread has a cache: the word behind its table is not zero then. Not if it was never asked for
/// one, has given it back, or is no thread of libc's.
pub fn has_cache() -> bool {
    let reader = alloc_table() + (TABLE_AND_READER_WORDS - 1) * size_of::<usize>();
    // SAFETY: every table has this word behind it, those of threads without a cache, too.
    unsafe { (reader as *const AtomicUsize).as_ref() }.is_some_and(|reader| reader.load(Relaxed) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_empty_and_is_per_thread() {
        let look = || (alloc_table(), free_table());
        let start = (empty_table(), empty_table());
        std::thread::spawn(move || {
            assert_eq!(look(), start);
            set_alloc_table(16);
            set_free_table(32);
            assert_eq!(look(), (16, 32));
            assert_eq!(std::thread::spawn(look).join().unwrap(), start);
            set_alloc_table(empty_table());
            set_free_table(empty_table());
        })
        .join()
        .unwrap();
    }
}
