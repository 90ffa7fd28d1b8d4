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

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

/// Address of the table malloc pops from.
#[inline(always)]
pub fn alloc_table() -> usize {
    let table: usize;
    // SAFETY: reads this thread's own word; the offset comes from the loader.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + rcumalloc_tables@GOTTPOFF]",
            "mov {t}, qword ptr fs:[{t}]",
            t = out(reg) table,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    table
}

/// Address of the table free pushes to.
#[inline(always)]
pub fn free_table() -> usize {
    let table: usize;
    // SAFETY: as in `alloc_table`, the second word.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + rcumalloc_tables@GOTTPOFF]",
            "mov {t}, qword ptr fs:[{t} + 8]",
            t = out(reg) table,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    table
}

/// Address of what lies `offset` bytes into the table free pushes to: as adding to
/// [`free_table`], one instruction less.
#[inline(always)]
pub fn free_slot(offset: usize) -> usize {
    let mut slot = offset;
    // SAFETY: as in `free_table`.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + rcumalloc_tables@GOTTPOFF]",
            "add {s}, qword ptr fs:[{t} + 8]",
            t = out(reg) _,
            s = inout(reg) slot,
            options(pure, readonly, nostack),
        );
    }
    slot
}

/// Sets the table this thread's mallocs pop from.
#[inline(always)]
pub fn set_alloc_table(table: usize) {
    // SAFETY: writes this thread's own word.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + rcumalloc_tables@GOTTPOFF]",
            "mov qword ptr fs:[{t}], {v}",
            t = out(reg) _,
            v = in(reg) table,
            options(nostack, preserves_flags),
        );
    }
}

/// Sets the table this thread's frees push to.
#[inline(always)]
pub fn set_free_table(table: usize) {
    // SAFETY: writes this thread's own word.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + rcumalloc_tables@GOTTPOFF]",
            "mov qword ptr fs:[{t} + 8], {v}",
            t = out(reg) _,
            v = in(reg) table,
            options(nostack, preserves_flags),
        );
    }
}

/// Sets both tables, in one instruction: a handler finds the old ones or the new ones.
#[inline]
pub fn set_tables(alloc: usize, free: usize) {
    // SAFETY: writes this thread's own words, which are aligned to 16 bytes.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + rcumalloc_tables@GOTTPOFF]",
            "movq {x}, {alloc}",
            "movq {y}, {free}",
            "punpcklqdq {x}, {y}",
            "movaps xmmword ptr fs:[{t}], {x}",
            t = out(reg) _,
            x = out(xmm_reg) _,
            y = out(xmm_reg) _,
            alloc = in(reg) alloc,
            free = in(reg) free,
            options(nostack, preserves_flags),
        );
    }
}

/// As [`set_tables`], if the thread has none: the question and the answer are one instruction, between
/// whose halves no handler comes. False: it has some.
#[inline]
pub fn set_tables_if_empty(alloc: usize, free: usize) -> bool {
    let empty = empty_table();
    let set: u8;
    // SAFETY: writes this thread's own words, which are aligned to 16 bytes; rbx, which operands may not
    // name, is put back. Every x86-64 processor since 2006 has the instruction.
    unsafe {
        asm!(
            "mov rdi, qword ptr [rip + rcumalloc_tables@GOTTPOFF]",
            "xchg rsi, rbx",
            "cmpxchg16b xmmword ptr fs:[rdi]",
            "mov rbx, rsi",
            "sete r8b",
            out("r8b") set,
            out("rdi") _,
            inout("rsi") alloc => _,
            in("rcx") free,
            inout("rax") empty => _,
            inout("rdx") empty => _,
            options(nostack),
        );
    }
    set != 0
}

/// Address of this thread's second word. Another thread may store a table there to change where
/// this thread's frees go (solo to concurrent); the thread loads the word once per free.
#[inline]
pub fn free_word() -> usize {
    let word: usize;
    // SAFETY: reads the thread pointer (the ABI keeps it at fs:0) and the loader's offset.
    unsafe {
        asm!(
            "mov {w}, qword ptr [rip + rcumalloc_tables@GOTTPOFF]",
            "add {w}, qword ptr fs:[0]",
            "add {w}, 8",
            w = out(reg) word,
            options(pure, readonly, nostack),
        );
    }
    word
}

/// Whether the thread has a cache: the word behind its table is not zero then. Not if it was never asked for
/// one, has given it back, or is no thread of libc's.
pub fn has_cache() -> bool {
    let reader = alloc_table() + (TABLE_AND_READER_WORDS - 1) * size_of::<usize>();
    // SAFETY: every table has this word behind it, those of threads without a cache, too.
    unsafe { (reader as *const AtomicUsize).as_ref() }.is_some_and(|reader| reader.load(Relaxed) != 0)
}

/// The calling thread's pointer to its control block: no other thread has it that lives in the same memory,
/// whatever process it belongs to.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: the ABI keeps the thread pointer at fs:0.
    unsafe { asm!("mov {}, fs:[0]", out(reg) pointer, options(pure, readonly, nostack, preserves_flags)) };
    pointer
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
