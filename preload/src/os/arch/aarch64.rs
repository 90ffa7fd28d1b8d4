//! aarch64.
//!
//! Run under an emulator only. What x86-64 orders by itself is said aloud here: stores that the child of a
//! fork must find in their order ([`stores_in_order`], `push_top`), and the window's line (`slot_offset`).

use crate::constants::{CONTROL_ROOM, HELPER_LOCAL_BYTES, STACK_BYTES};
use core::arch::{asm, global_asm};
use core::ffi::c_int;
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, compiler_fence, fence};

// ---- a thread's words ----

/// Address of this thread's two words.
#[inline(always)]
fn words() -> *mut usize {
    let words: usize;
    // SAFETY: reads the thread pointer and the loader's offset, neither of which changes while a thread runs.
    unsafe {
        asm!(
            "mrs {w}, tpidr_el0",
            "adrp {o}, :gottprel:rcumalloc_tables",
            "ldr {o}, [{o}, :gottprel_lo12:rcumalloc_tables]",
            "add {w}, {w}, {o}",
            w = out(reg) words,
            o = out(reg) _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    words as *mut usize
}

/// One of the two. Relaxed is enough wherever it is used: a thread's own, or a table's address, behind which
/// there is nothing but what the thread itself has written.
#[inline(always)]
fn word(number: usize) -> &'static AtomicUsize {
    // SAFETY: two aligned words, there for as long as the thread, which does not pass the reference on.
    unsafe { AtomicUsize::from_ptr(words().add(number)) }
}

/// Address of the table malloc pops from.
#[inline(always)]
pub fn alloc_table() -> usize {
    word(0).load(Relaxed)
}

/// Address of the table free pushes to.
#[inline(always)]
pub fn free_table() -> usize {
    word(1).load(Relaxed)
}

/// Address of what lies `offset` bytes into the table free pushes to.
#[inline(always)]
pub fn free_slot(offset: usize) -> usize {
    free_table() + offset
}

/// Sets the table this thread's mallocs pop from.
#[inline(always)]
pub fn set_alloc_table(table: usize) {
    word(0).store(table, Relaxed);
}

/// Sets the table this thread's frees push to.
#[inline(always)]
pub fn set_free_table(table: usize) {
    word(1).store(table, Relaxed);
}

/// Sets both tables at once: a handler finds the old ones or the new ones.
#[inline]
pub fn set_tables(alloc: usize, free: usize) {
    // SAFETY: writes this thread's own words, which are aligned to 16 bytes.
    unsafe { store_pair(words(), alloc, free) }
}

/// As [`set_tables`], if both words are `empty`: no handler comes between the question and the answer. False:
/// they are not.
#[inline]
pub fn set_tables_if(empty: usize, alloc: usize, free: usize) -> bool {
    let set: u32;
    // SAFETY: writes this thread's own words, which are aligned to 16 bytes. A handler that comes in between
    // has the exclusive store fail.
    unsafe {
        asm!(
            "2:",
            "ldxp {x}, {y}, [{w}]",
            "cmp {x}, {empty}",
            "ccmp {y}, {empty}, #0, eq",
            "b.ne 3f",
            "stxp {failed:w}, {alloc}, {free}, [{w}]",
            "cbnz {failed:w}, 2b",
            "mov {set:w}, #1",
            "b 4f",
            "3:",
            "clrex",
            "mov {set:w}, #0",
            "4:",
            w = in(reg) words(),
            x = out(reg) _,
            y = out(reg) _,
            failed = out(reg) _,
            set = out(reg) set,
            empty = in(reg) empty,
            alloc = in(reg) alloc,
            free = in(reg) free,
            options(nostack),
        );
    }
    set != 0
}

/// Address of this thread's second word. Another thread may store a table there to change where
/// this thread's frees go (solo to concurrent); the thread loads the word once per free.
#[inline]
pub fn free_word() -> usize {
    words() as usize + size_of::<usize>()
}

/// The calling thread's pointer to its control block: no other thread has it that lives in the same memory,
/// whatever process it belongs to.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) pointer, options(pure, nomem, nostack, preserves_flags)) };
    pointer
}

// ---- the system ----

/// Makes system call `nr`; what comes back is the kernel's, an error as a small negative number.
///
/// # Safety
/// The call must be sound with these arguments.
#[inline(always)]
pub unsafe fn syscall(nr: i64, args: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the Linux convention, which keeps all other registers; the memory clobber is the default. The
    // caller answers for the call itself.
    unsafe {
        asm!(
            "svc 0",
            in("x8") nr,
            inlateout("x0") args[0] as isize => ret,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    ret
}

/// Touches the word that lies [`STACK_BYTES`] below the stack pointer.
#[inline(always)]
pub fn probe_stack() {
    // SAFETY: reads a word of the stack, below everything that is in use and at the stack pointer at that
    // moment, so that no tool that watches the stack takes offence. The stack pointer, a multiple of 16
    // throughout, is put back; flags are left alone.
    unsafe {
        asm!(
            "sub sp, sp, #{bytes}",
            "ldr xzr, [sp]",
            "add sp, sp, #{bytes}",
            bytes = const STACK_BYTES,
            options(preserves_flags),
        );
    }
}

const _: () = assert!(STACK_BYTES.is_multiple_of(16) && STACK_BYTES < 4096);

/// The kernel brings the way back from a handler along, for debuggers and unwinders, too.
pub const SA_RESTORER: usize = 0; // (given) by the kernel

/// Where a handler returns to: see [`SA_RESTORER`].
#[inline(always)]
pub fn restorer() -> usize {
    0
}

/// Of a fault, whether it was a store, and where in the code.
pub fn fault(context: &libc::ucontext_t) -> (bool, usize) {
    (syndrome(context).is_some_and(is_store), context.uc_mcontext.pc as usize)
}

/// What the processor said of a fault, if the kernel passes it on: a record among those behind the registers,
/// each of which begins with what it is and how long, in 4 bytes each.
fn syndrome(context: &libc::ucontext_t) -> Option<u64> {
    const ESR: u32 = 0x4553_5201; // (given) by the kernel
    const RECORDS: usize = 4096; // (given) by the kernel
    let registers = &context.uc_mcontext;
    let first = (core::mem::offset_of!(libc::mcontext_t, pstate) + 8).next_multiple_of(16);
    let records = core::ptr::from_ref(registers).cast::<u8>().wrapping_add(first);
    let mut at = 0;
    while at + 16 <= RECORDS {
        // SAFETY: the kernel's context has so many bytes of records, each a multiple of 16.
        let (kind, size) = unsafe {
            let head = records.add(at).cast::<u32>();
            (head.read(), head.add(1).read() as usize)
        };
        if kind == ESR {
            // SAFETY: as above, the record's third word.
            return Some(unsafe { records.add(at + 8).cast::<u64>().read() });
        }
        if kind == 0 || size < 16 || !size.is_multiple_of(16) {
            return None;
        }
        at += size;
    }
    None
}

/// Whether a syndrome is of a store: an abort of data, from below or from the same level, that writes.
fn is_store(syndrome: u64) -> bool {
    matches!(syndrome >> 26 & 0x3f, 0x24 | 0x25) && syndrome & 1 << 6 != 0
}

/// What libc's `munmap` begins with: the number into x8, and the system call; (given) by the processor.
pub const PLAIN_MUNMAP: [u8; 8] =
    [0x08 | (libc::SYS_munmap << 5) as u8, (libc::SYS_munmap >> 3) as u8, 0x80, 0xd2, 0x01, 0, 0, 0xd4];
/// Where branches are checked, the first of these is in front of a function; where they are not, libc has the
/// second, which does nothing; (given) by the processor.
pub const LANDINGS: [[u8; 4]; 2] = [[0x5f, 0x24, 0x03, 0xd5], [0x1f, 0x20, 0x03, 0xd5]];

/// Calls `madvise` by the address that the loader has found: one of that name is our own, and the compiler
/// would take it for what is meant; who stands in front of us is.
///
/// # Safety
/// As `madvise`.
#[inline(always)]
pub unsafe fn libcs_madvise(addr: usize, len: usize, advice: c_int) -> c_int {
    let result: usize;
    // SAFETY: promised by the caller.
    unsafe {
        asm!(
            "adrp x16, :got:madvise",
            "ldr x16, [x16, :got_lo12:madvise]",
            "blr x16",
            inlateout("x0") addr => result,
            in("x1") len,
            in("x2") advice,
            clobber_abi("C"),
        );
    }
    result as c_int
}

// ---- the helper ----

/// Bytes from the thread pointer on that are libc's: where dynamic storage is, and a word to spare.
const CONTROL_BYTES: usize = 16; // (given) by glibc's layout

unsafe extern "C" {
    /// Makes a thread that begins in `run` with this end of its stack and this thread pointer, its number at
    /// `tid` while it exists. What comes back is the kernel's.
    pub fn rcumalloc_clone(
        flags: usize,
        stack: usize,
        tid: *const AtomicU32,
        thread_pointer: usize,
        run: extern "C" fn() -> !,
    ) -> isize;
}

// x0 flags, x1 stack, x2 where the parent's copy of the number goes, x3 thread pointer, x4 where the child's
// is cleared. The child's first frame has no caller, and says so to debuggers.
global_asm!(
    ".pushsection .text.rcumalloc_clone,\"ax\",@progbits",
    ".hidden rcumalloc_clone",
    ".globl rcumalloc_clone",
    ".type rcumalloc_clone, @function",
    ".p2align 2",
    "rcumalloc_clone:",
    ".cfi_startproc",
    "mov x5, x4",
    "mov x4, x2",
    "mov x8, #{clone}",
    "svc 0",
    "cbz x0, 2f",
    "ret",
    "2:",
    ".cfi_undefined x30",
    "mov x29, xzr",
    "mov x30, xzr",
    "blr x5",
    "brk #1",
    ".cfi_endproc",
    ".size rcumalloc_clone, . - rcumalloc_clone",
    ".popsection",
    clone = const libc::SYS_clone,
);

/// Whether the program runs under valgrind, which ends a program at a clone it does not know. The
/// instructions do nothing on a processor.
pub fn is_under_valgrind() -> bool {
    // The request RUNNING_ON_VALGRIND and its five arguments.
    let request = [0x1001usize, 0, 0, 0, 0, 0];
    let answer: usize;
    // SAFETY: rotations by 128 bits in all, and a register or'ed with itself.
    unsafe {
        asm!("ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61",
            "orr x10, x10, x10",
            inlateout("x3") 0usize => answer, in("x4") request.as_ptr(), inout("x12") 0usize => _,
            inout("x10") 0usize => _, options(nostack));
    }
    answer != 0
}

/// Lays a block of thread-local storage out at the end of a mapping of `bytes` at `mapping`, whose two words
/// of ours, which the calling thread has at `words`, hold `table`. The thread pointer, and where the stack
/// ends; `None` if there is too little room.
///
/// ```text
///   guard page | stack, grows down ... | control block <- tpidr_el0 -> thread-local storage
/// ```
///
/// The stack protector's canary is no word of the block here, but of the loader's.
///
/// # Safety
/// The mapping is the caller's, and nobody runs on it.
pub unsafe fn thread_block(
    mapping: usize,
    bytes: usize,
    words: usize,
    table: usize,
) -> Option<(usize, usize)> {
    // How far above the thread pointer our words lie, which are the highest thing that a helper may touch.
    let own = words - thread_pointer();
    let height = (own + CONTROL_BYTES).next_multiple_of(64);
    if height > HELPER_LOCAL_BYTES {
        return None;
    }
    let pointer = mapping + bytes - height;
    let stack = pointer - CONTROL_ROOM;
    // SAFETY: the mapping is ours, nobody runs on it, and all of this lies inside it.
    unsafe {
        core::ptr::write_bytes(stack as *mut u8, 0, CONTROL_ROOM + height);
        let words = (pointer + own) as *mut usize;
        words.write(table);
        words.add(1).write(table);
    }
    Some((pointer, stack))
}

// ---- code, as it is read ----

/// Bits of an address of a process.
pub const ADDRESS_BITS: u32 = 48; // (given) by the kernel

/// A word of a stack without the signature that a return address may carry.
#[inline(always)]
pub fn without_signature(word: usize) -> usize {
    let plain: usize;
    // SAFETY: the instruction does nothing where addresses are not signed. It works on x30 alone.
    unsafe {
        asm!("mov {kept}, x30", "mov x30, {word}", "hint #7", "mov {word}, x30", "mov x30, {kept}",
            kept = out(reg) _, word = inout(reg) word => plain,
            options(pure, nomem, nostack, preserves_flags));
    }
    plain
}

/// Whether an instruction calls what a register has the address of.
fn calls_register(code: u32) -> bool {
    // blr, or one of those that look at a signature.
    code & 0xffff_fc1f == 0xd63f_0000 || code & 0xfeff_f800 == 0xd63f_0800
}

/// Whether 8 bytes of code end in a call instruction.
pub fn ends_in_call(code: usize) -> bool {
    let code = (code >> 32) as u32;
    is_call(code) || calls_register(code)
}

/// Whether an instruction calls a place that it names.
fn is_call(code: u32) -> bool {
    code & 0xfc00_0000 == 0x9400_0000
}

/// The function that the call which returns to `addr` goes to, as far as its code says. `peek` gives the word
/// at an address, if there is one.
#[inline(always)]
pub fn callee(addr: usize, peek: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    let code = |at: usize| peek(at).map(|word| word as u32);
    let call = code(addr - 4)?;
    if is_call(call) {
        let function = (addr - 4).wrapping_add_signed(((call << 6) as i32 >> 4) as isize);
        // To the function, or to a stub of the linker's, which may begin with a landing.
        let is_landing = LANDINGS.contains(&code(function)?.to_le_bytes());
        let stub = if is_landing { function + 4 } else { function };
        return match word_of(stub, code(stub)?, code(stub + 4)?, &peek) {
            Some((pointer, 17)) => Some(pointer),
            _ => Some(function),
        };
    }
    let register = call >> 5 & 0x1f;
    let loaded = word_of(addr - 12, code(addr - 12)?, code(addr - 8)?, &peek);
    let (pointer, to) = loaded.filter(|_| calls_register(call))?;
    (to == register).then_some(pointer)
}

/// The word that these two instructions load, the first of which stands at `at`, and the register they load
/// it to: `adrp`, and `ldr` from there.
fn word_of(
    at: usize,
    first: u32,
    second: u32,
    peek: impl Fn(usize) -> Option<usize>,
) -> Option<(usize, u32)> {
    let is_page = first & 0x9f00_0000 == 0x9000_0000;
    let is_load = second & 0xffc0_0000 == 0xf940_0000 && second >> 5 & 0x1f == first & 0x1f;
    if !is_page || !is_load {
        return None;
    }
    let pages = (first >> 5 & 0x7_ffff) << 2 | first >> 29 & 3;
    let page = (at & !0xfff).wrapping_add_signed(((pages << 11) as i32 >> 11) as isize * 4096);
    let word = peek(page + (second >> 10 & 0xfff) as usize * 8)?;
    Some((word, second & 0x1f))
}

// ---- words and bytes of the heap ----

/// What is stored before this is seen before what is stored behind it: by a handler of this thread, and by
/// the child of a fork that another thread makes.
#[inline(always)]
pub fn stores_in_order() {
    compiler_fence(SeqCst);
    fence(Release);
}

/// Writes `value` to `count` words from `first` on, each as a store with Release.
///
/// # Safety
/// They are atomic words, which nobody else writes.
#[inline(always)]
pub unsafe fn fill_words(first: *mut u64, count: usize, value: u64) {
    for i in 0..count {
        // SAFETY: the caller's words.
        unsafe { AtomicU64::from_ptr(first.add(i)) }.store(value, Release);
    }
}

/// Takes 1 off the byte at `bias + (block >> shift)` of as many blocks as it does better than the compiler's
/// loop, from the first on: none. How many, and how many of the bytes were 0.
///
/// # Safety
/// The bytes are the caller's.
#[inline(always)]
pub unsafe fn clear_marks(_bias: usize, _shift: u32, _blocks: &[usize]) -> (usize, u32) {
    (0, 0)
}

/// Sets the same bytes to 1. How many.
///
/// # Safety
/// The bytes are the caller's.
#[inline(always)]
pub unsafe fn set_marks(_bias: usize, _shift: u32, _blocks: &[usize]) -> usize {
    0
}

/// Sets the bytes of `count` blocks at `blocks` to 1, and copies the blocks to `to` on the way.
///
/// # Safety
/// The bytes are the caller's; there are so many blocks, and room for them.
#[inline(always)]
pub unsafe fn set_few_marks(bias: usize, shift: u32, blocks: *const usize, to: *mut usize, count: usize) {
    for at in 0..count {
        // SAFETY: promised by the caller.
        unsafe {
            let block = blocks.add(at).read();
            to.add(at).write(block);
            (bias.wrapping_add(block >> shift) as *mut u8).write(1);
        }
    }
}

// ---- the fast paths ----

/// Replaces the word at `at`, if it is `old`, which no handler of this thread divides. Whether it was.
///
/// # Safety
/// The word is the calling thread's.
#[inline(always)]
pub unsafe fn replace_word(at: *mut usize, old: usize, new: usize) -> bool {
    // SAFETY: the caller's word.
    unsafe { AtomicUsize::from_ptr(at) }.compare_exchange(old, new, Relaxed, Relaxed).is_ok()
}

/// Stores two words side by side, aligned to 16 bytes, at once.
///
/// # Safety
/// The words are the calling thread's.
#[inline(always)]
pub unsafe fn store_pair(at: *mut usize, first: usize, second: usize) {
    debug_assert!((at as usize).is_multiple_of(16));
    // A plain store of a pair may be seen half done, and may be begun again behind a handler.
    // SAFETY: the caller's words. A handler that comes in between has the exclusive store fail.
    unsafe {
        asm!(
            "2:",
            "ldxp {x}, {y}, [{at}]",
            "stxp {x:w}, {first}, {second}, [{at}]",
            "cbnz {x:w}, 2b",
            at = in(reg) at,
            x = out(reg) _,
            y = out(reg) _,
            first = in(reg) first,
            second = in(reg) second,
            options(nostack, preserves_flags),
        );
    }
}

/// Moves `count` words, not none, down in memory, from the first on.
///
/// # Safety
/// They are the caller's, and `to` lies below `from`.
#[inline(always)]
pub unsafe fn move_few_down(from: *const usize, to: *mut usize, count: usize) {
    for at in 0..count {
        // SAFETY: promised by the caller. Volatile: not as a call of a function for many.
        unsafe { to.add(at).write_volatile(from.add(at).read()) };
    }
}

/// The slot at `$offset` of the table malloc pops from has one block less. `$slot`: its address, `$top`: what
/// was read of it.
macro_rules! pop_top {
    ($slot:ident, $table:ident, $offset:ident, $top:ident) => {
        (*$slot).top = $top.sub(1)
    };
}

/// `$slot` has one block more. Release: the child of a fork that another thread makes finds the block where
/// the slot says.
macro_rules! push_top {
    ($slot:ident, $top:ident) => {
        core::sync::atomic::AtomicPtr::from_ptr(&raw mut (*$slot).top)
            .store($top.add(1), core::sync::atomic::Ordering::Release)
    };
}

/// Multiplies `$product` by the slot's magic.
macro_rules! times_magic {
    ($product:ident, $slot:ident) => {
        $product = $product.wrapping_mul((*$slot).magic)
    };
}

/// For an address, by the line that says where the window is: the upper 16 bits of its page's word, or
/// `None`, which the function returns.
macro_rules! slot_offset {
    ($addr:ident, $line:ident, $type:ident) => {{
        use core::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed};
        let line: &$type = &$line;
        // Acquire: pairs with the Release in `Window::publish`; memdesc and base are seen too, whatever the
        // address is.
        let horizon = line.horizon.load(Acquire);
        let offset = $addr.wrapping_sub(line.base.load(Relaxed));
        if offset >= horizon {
            return None;
        }
        let words = line.memdesc.load(Relaxed) as *mut u64;
        // SAFETY: below the horizon every page's memdesc word can be read; its upper 16 bits are
        // the offset of the class's slot, 0 (the dummy) for what is no slab.
        let word = unsafe { AtomicU64::from_ptr(words.add(offset >> $crate::constants::PAGE_SHIFT)) };
        Some((word.load(Relaxed) >> 48) as usize)
    }};
}

pub(crate) use {pop_top, push_top, slot_offset, times_magic};

// ---- symbols and probes ----

/// A probe with up to three arguments: see `probe_note`.
macro_rules! probe {
    ($base:ident, $name:literal, $first:ident) => {
        // SAFETY: does nothing.
        unsafe {
            core::arch::asm!($crate::os::arch::probe::probe_note!($name, "8@x0"), base = sym $base,
                in("x0") $first, options(nostack, preserves_flags));
        }
    };
    ($base:ident, $name:literal, $first:ident, $second:ident, $third:ident) => {
        // SAFETY: does nothing.
        unsafe {
            core::arch::asm!($crate::os::arch::probe::probe_note!($name, "8@x0 8@x1 8@x2"),
                base = sym $base, in("x0") $first, in("x1") $second, in("x2") $third,
                options(nostack, preserves_flags));
        }
    };
}

/// The address of the symbol of this name, null if there is none. What follows are directives of the
/// assembler's about it.
macro_rules! weak_address {
    ($name:literal $(, $directive:literal)*) => {{
        let address: usize;
        // SAFETY: loads an address that the linker, or the loader, puts there.
        unsafe {
            core::arch::asm!(concat!(".weak ", $name), $($directive,)*
                concat!("adrp {0}, :got:", $name), concat!("ldr {0}, [{0}, :got_lo12:", $name, "]"),
                out(reg) address, options(pure, readonly, nostack, preserves_flags));
        }
        address
    }};
}

pub(crate) use {probe, weak_address};
