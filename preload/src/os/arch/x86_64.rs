//! x86-64.

use crate::constants::{BMI2_AFTER, CONTROL_ROOM, HELPER_LOCAL_BYTES, STACK_BYTES, STOSQ_FROM};
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::arch::{asm, global_asm};
use core::ffi::c_int;
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, compiler_fence};

// ---- a thread's words ----

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

/// As [`set_tables`], if both words are `empty`: the question and the answer are one instruction, between
/// whose halves no handler comes. False: they are not.
#[inline]
pub fn set_tables_if(empty: usize, alloc: usize, free: usize) -> bool {
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

/// The calling thread's pointer to its control block: no other thread has it that lives in the same memory,
/// whatever process it belongs to.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: the ABI keeps the thread pointer at fs:0.
    unsafe { asm!("mov {}, fs:[0]", out(reg) pointer, options(pure, readonly, nostack, preserves_flags)) };
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
    // SAFETY: the x86-64 Linux convention; rcx and r11 are the only registers clobbered, and
    // the memory clobber is the default. The caller answers for the call itself.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr as isize => ret,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    ret
}

/// Touches the word that lies [`STACK_BYTES`] below the stack pointer.
#[inline(always)]
pub fn probe_stack() {
    // SAFETY: reads a word of the stack, below everything that is in use and above the stack pointer at that
    // moment, so that no tool that watches the stack takes offence. The stack pointer is put back; flags are
    // left alone.
    unsafe {
        asm!(
            "lea rsp, [rsp - {bytes}]",
            "mov {word}, qword ptr [rsp]",
            "lea rsp, [rsp + {bytes}]",
            bytes = const STACK_BYTES,
            word = out(reg) _,
            options(preserves_flags),
        );
    }
}

/// The flag with which a handler is installed that has a way back of its own ([`restorer`]).
pub const SA_RESTORER: usize = 0x0400_0000; // (given) by the kernel

unsafe extern "C" {
    fn rcumalloc_sigreturn();
}

// These very bytes are how debuggers and unwinders know a signal's frame.
global_asm!(
    ".pushsection .text.rcumalloc_sigreturn,\"ax\",@progbits",
    "nop",
    ".hidden rcumalloc_sigreturn",
    ".globl rcumalloc_sigreturn",
    ".type rcumalloc_sigreturn, @function",
    "rcumalloc_sigreturn:",
    ".byte 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05",
    ".size rcumalloc_sigreturn, . - rcumalloc_sigreturn",
    ".popsection",
);

/// Where a handler returns to.
#[inline(always)]
pub fn restorer() -> usize {
    rcumalloc_sigreturn as *const () as usize
}

/// Of a fault, whether it was a store, and where in the code.
pub fn fault(context: &libc::ucontext_t) -> (bool, usize) {
    const WRITES: i64 = 2; // (given) by the processor
    let registers = &context.uc_mcontext.gregs;
    (registers[libc::REG_ERR as usize] & WRITES != 0, registers[libc::REG_RIP as usize] as usize)
}

/// What libc's `munmap` begins with: the number into eax, and the system call; (given) by the processor.
pub const PLAIN_MUNMAP: [u8; 7] = [0xb8, libc::SYS_munmap as u8, 0, 0, 0, 0x0f, 0x05];
/// Where branches are checked, this is in front of a function; (given) by the processor.
pub const LANDINGS: [[u8; 4]; 1] = [[0xf3, 0x0f, 0x1e, 0xfa]];

/// Calls `madvise` by the address that the loader has found: one of that name is our own, and the compiler
/// would take it for what is meant; who stands in front of us is.
///
/// # Safety
/// As `madvise`.
#[inline(always)]
pub unsafe fn libcs_madvise(addr: usize, len: usize, advice: c_int) -> c_int {
    let result: c_int;
    // SAFETY: promised by the caller.
    unsafe {
        asm!(
            "call qword ptr [rip + madvise@GOTPCREL]",
            in("rdi") addr,
            in("rsi") len,
            in("edx") advice,
            lateout("eax") result,
            clobber_abi("C"),
        );
    }
    result
}

// ---- the helper ----

/// Bytes copied of the control block: itself, its self pointer, the canary and the pointer guard lie
/// in the first 64; the rest stays zero.
const CONTROL_BYTES: usize = 64; // (given) by glibc's layout

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

// rdi flags, rsi stack, rdx where the parent's copy of the number goes, r10 where the child's is cleared,
// r8 thread pointer. The child's first frame has no caller, and says so to debuggers.
global_asm!(
    ".pushsection .text.rcumalloc_clone,\"ax\",@progbits",
    ".hidden rcumalloc_clone",
    ".globl rcumalloc_clone",
    ".type rcumalloc_clone, @function",
    "rcumalloc_clone:",
    ".cfi_startproc",
    "mov r9, r8",
    "mov r8, rcx",
    "mov r10, rdx",
    "mov eax, {clone}",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "ret",
    "2:",
    ".cfi_undefined rip",
    "xor ebp, ebp",
    "call r9",
    "ud2",
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
    // SAFETY: rotations by 128 bits in all and an exchange of a register with itself.
    unsafe {
        asm!("rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", ".byte 0x48, 0x87, 0xdb",
            inlateout("rdx") 0usize => answer, in("rax") request.as_ptr(), inout("rdi") 0usize => _,
            options(nostack));
    }
    answer != 0
}

/// Lays a block of thread-local storage out at the end of a mapping of `bytes` at `mapping`, whose two words
/// of ours, which the calling thread has at `words`, hold `table`. The thread pointer, and where the stack
/// ends; `None` if there is too little room.
///
/// ```text
///   guard page | stack, grows down ... | thread-local storage | control block <- fs
/// ```
///
/// # Safety
/// The mapping is the caller's, and nobody runs on it.
pub unsafe fn thread_block(
    mapping: usize,
    bytes: usize,
    words: usize,
    table: usize,
) -> Option<(usize, usize)> {
    let pointer = mapping + bytes - CONTROL_ROOM;
    // How far below the thread pointer our words lie, which are the lowest thing that a helper may touch.
    let own = thread_pointer() - words;
    let depth = (own + 64).next_multiple_of(64);
    if depth > HELPER_LOCAL_BYTES {
        return None;
    }
    // SAFETY: the mapping is ours, nobody runs on it, and all of this lies inside it. The
    // calling thread's own control block is as long as what is copied.
    unsafe {
        core::ptr::write_bytes((pointer - depth) as *mut u8, 0, depth);
        core::ptr::copy_nonoverlapping(thread_pointer() as *const u8, pointer as *mut u8, CONTROL_BYTES);
        // The words libc keeps at 0 and 16: the block's own address. At 8: no dynamic storage.
        let control = pointer as *mut usize;
        control.write(pointer);
        control.add(1).write(0);
        control.add(2).write(pointer);
        let words = (pointer - own) as *mut usize;
        words.write(table);
        words.add(1).write(table);
    }
    Some((pointer, (pointer - depth) & !63))
}

// ---- code, as it is read ----

/// Bits of an address of a process.
pub const ADDRESS_BITS: u32 = 47; // (given) by the kernel

/// A word of a stack without the signature that a return address may carry: there is none.
#[inline(always)]
pub fn without_signature(word: usize) -> usize {
    word
}

/// Whether 8 bytes of code end in a call instruction.
pub fn ends_in_call(code: usize) -> bool {
    let code = code.to_le_bytes();
    // call rel32; or call r/m, whose second byte says so, in 2 to 7 bytes.
    let is_indirect = |len: usize| code[8 - len] == 0xff && code[9 - len] & 0x38 == 0x10;
    code[3] == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(is_indirect)
}

/// The function that the call which returns to `addr` goes to, as far as its code says. `peek` gives the word
/// at an address, if there is one.
#[inline(always)]
pub fn callee(addr: usize, peek: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    let behind = |at: usize, distance: [u8; 4]| at.wrapping_add_signed(i32::from_le_bytes(distance) as isize);
    let [_, _, first, second, a, b, c, d] = peek(addr - 8)?.to_le_bytes();
    // call [rip + distance]
    if (first, second) == (0xff, 0x15) {
        return peek(behind(addr, [a, b, c, d]));
    }
    if second != 0xe8 {
        return None;
    }
    // To the function, or to a stub of the linker's: it may begin with endbr64, and the jump with a prefix.
    let mut stub = behind(addr, [a, b, c, d]);
    let function = stub;
    if peek(stub)? as u32 == 0xfa1e_0ff3 {
        stub += 4;
    }
    if peek(stub)? as u8 == 0xf2 {
        stub += 1;
    }
    match peek(stub)?.to_le_bytes() {
        // jmp [rip + distance]
        [0xff, 0x25, a, b, c, d, ..] => peek(behind(stub + 6, [a, b, c, d])),
        _ => Some(function),
    }
}

// ---- words and bytes of the heap ----

/// What is stored before this is seen before what is stored behind it: by a handler of this thread, and by
/// the child of a fork that another thread makes. The processor stores in order.
#[inline(always)]
pub fn stores_in_order() {
    compiler_fence(SeqCst);
}

/// Writes `value` to `count` words from `first` on, each as a store with Release.
///
/// # Safety
/// They are atomic words, which nobody else writes.
#[inline(always)]
pub unsafe fn fill_words(first: *mut u64, count: usize, value: u64) {
    if count >= STOSQ_FROM {
        // SAFETY: the caller's words. Each is written whole, behind all stores before: as the stores below.
        unsafe {
            asm!("rep stosq", inout("rcx") count => _, inout("rdi") first => _, in("rax") value,
                options(nostack, preserves_flags));
        }
        return;
    }
    for i in 0..count {
        // SAFETY: the caller's words.
        unsafe { AtomicU64::from_ptr(first.add(i)) }.store(value, Release);
    }
}

/// Blocks a round of the long loop: divides 12, 60 and 252, leaves 4 of 28, 124 and 508.
const ROUND: usize = 12; // (given) by the lengths of magazines

/// Runs `$find` (address shifted right into `t`) and `$mark` over an array, as far as its length
/// is a multiple of four; how far, is the macro's value. Twelve blocks a round, then four a round; where
/// there are fewer than twelve, one a round and all of them: each loop ends with a branch that is guessed
/// wrong.
/// Written out because the compiler's own loop is two instructions a block longer and forgets
/// which block was the bad one.
macro_rules! walk {
    ($find:literal, $shift:literal, $mark:literal; $bias:expr, $amount:expr, $blocks:expr, $bad:ident) => {{
        let long = $blocks.len() / ROUND * ROUND;
        let few = $blocks.len() < ROUND;
        let done = if few { $blocks.len() } else { $blocks.len() & !3 };
        walk!(@round $find, $shift, $mark; $bias, $amount, $blocks, $bad, 0, long, "96",
            "", " + 8", " + 16", " + 24", " + 32", " + 40", " + 48", " + 56", " + 64", " + 72",
            " + 80", " + 88");
        if few {
            walk!(@round $find, $shift, $mark; $bias, $amount, $blocks, $bad, 0, done, "8", "");
        } else {
            walk!(@round $find, $shift, $mark; $bias, $amount, $blocks, $bad, long, done, "32",
                "", " + 8", " + 16", " + 24");
        }
        done
    }};
    (@round $find:literal, $shift:literal, $mark:literal; $bias:expr, $amount:expr, $blocks:expr, $bad:ident,
     $from:expr, $to:expr, $step:literal, $($at:literal),+) => {
        if $from != $to {
            asm!(
                "2:",
                $(concat!($find, "[{end} + {i}", $at, "]", $shift), $mark,)+
                concat!("add {i}, ", $step),
                "jne 2b",
                "/* {bad:e} */",
                t = out(reg) _,
                end = in(reg) $blocks.as_ptr().add($to),
                i = inout(reg) (($from as isize) - ($to as isize)) * 8 => _,
                bias = in(reg) $bias,
                bad = inout(reg) $bad,
                in("rcx") $amount as usize,
                options(nostack)
            );
        }
    };
}

/// Takes 1 off the byte at `bias + (block >> shift)` of as many blocks as are a multiple of four, from the
/// first on. How many, and how many of the bytes were 0.
///
/// # Safety
/// The bytes are the caller's.
#[inline(always)]
pub unsafe fn clear_marks(bias: usize, shift: u32, blocks: &[usize]) -> (usize, u32) {
    let mut bad = 0u32;
    // SAFETY: the bytes are committed and ours, says the caller; BMI2 is asked for.
    let done = unsafe {
        if bmi2() {
            walk!("shrx {t}, ", ", rcx", "sub byte ptr [{bias} + {t}], 1\nadc {bad:e}, 0";
                  bias, shift, blocks, bad)
        } else {
            walk!("mov {t}, ", "\nshr {t}, cl", "sub byte ptr [{bias} + {t}], 1\nadc {bad:e}, 0";
                  bias, shift, blocks, bad)
        }
    };
    (done, bad)
}

/// Sets the same bytes to 1. How many.
///
/// # Safety
/// The bytes are the caller's.
#[inline(always)]
pub unsafe fn set_marks(bias: usize, shift: u32, blocks: &[usize]) -> usize {
    let mut bad = 0u32;
    // SAFETY: the bytes are committed and ours, says the caller; BMI2 is asked for.
    let done = unsafe {
        if bmi2() {
            walk!("shrx {t}, ", ", rcx", "mov byte ptr [{bias} + {t}], 1"; bias, shift, blocks, bad)
        } else {
            walk!("mov {t}, ", "\nshr {t}, cl", "mov byte ptr [{bias} + {t}], 1"; bias, shift, blocks, bad)
        }
    };
    let _ = bad;
    done
}

/// Sets the bytes of `count` blocks at `blocks` to 1, and copies the blocks to `to` on the way.
///
/// # Safety
/// The bytes are the caller's; there are so many blocks, and room for them.
#[inline(always)]
pub unsafe fn set_few_marks(bias: usize, shift: u32, blocks: *const usize, to: *mut usize, count: usize) {
    if count == 0 {
        return;
    }
    // One a round, which the compiler's own loop is not: one branch that is guessed wrong, not three.
    // SAFETY: the bytes are committed and ours, says the caller; so is the room.
    unsafe {
        asm!(
            "2:",
            "mov {t}, [{from} + {i} * 8]",
            "mov [{to} + {i} * 8], {t}",
            "shr {t}, cl",
            "mov byte ptr [{bias} + {t}], 1",
            "inc {i}",
            "jne 2b",
            t = out(reg) _,
            from = in(reg) blocks.wrapping_add(count),
            to = in(reg) to.wrapping_add(count),
            i = inout(reg) -(count as isize) => _,
            bias = in(reg) bias,
            in("rcx") shift as usize,
            options(nostack)
        );
    }
}

const NO: u8 = 254; // (given) as an encoding
const YES: u8 = 255; // (given) as an encoding

/// Whether the processor is known to have BMI2; asked once.
#[inline(always)]
fn bmi2() -> bool {
    let known = BMI2.load(Relaxed);
    if known < NO { ask_bmi2(known) } else { known == YES }
}

/// The answer, or how often it was wanted. Racing threads ask later or twice, no more.
#[unsafe(link_section = ".data")]
static BMI2: AtomicU8 = AtomicU8::new(0);

#[cold]
fn ask_bmi2(wanted: u8) -> bool {
    if wanted < BMI2_AFTER {
        BMI2.store(wanted + 1, Relaxed);
        return false;
    }
    // Leaf 7 exists where leaf 0 says so.
    #[allow(unused_unsafe, reason = "these two are safe only in versions of Rust after the least")]
    // SAFETY: every x86-64 processor has the instruction.
    let has = unsafe { __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & (1 << 8) != 0 };
    BMI2.store(if has { YES } else { NO }, Relaxed);
    has
}

// ---- the fast paths ----

/// Replaces the word at `at`, if it is `old`: one instruction, which no handler of this thread divides.
/// Whether it was.
///
/// # Safety
/// The word is the calling thread's.
#[inline(always)]
pub unsafe fn replace_word(at: *mut usize, old: usize, new: usize) -> bool {
    let found: usize;
    // SAFETY: the caller's word, changed in one instruction.
    unsafe {
        asm!("cmpxchg qword ptr [{at}], {new}", at = in(reg) at, new = in(reg) new,
            inout("rax") old => found, options(nostack));
    }
    found == old
}

/// Stores two words side by side, in one instruction.
///
/// # Safety
/// The words are the calling thread's.
#[inline(always)]
pub unsafe fn store_pair(at: *mut usize, first: usize, second: usize) {
    // SAFETY: the caller's words.
    unsafe {
        asm!("movq {a}, {first}", "movq {b}, {second}", "punpcklqdq {a}, {b}", "movups xmmword ptr [{at}], \
            {a}",
            a = out(xmm_reg) _, b = out(xmm_reg) _, first = in(reg) first, second = in(reg) second,
            at = in(reg) at, options(nostack, preserves_flags));
    }
}

/// Moves `count` words, not none, down in memory, from the first on.
///
/// # Safety
/// They are the caller's, and `to` lies below `from`.
#[inline(always)]
pub unsafe fn move_few_down(from: *const usize, to: *mut usize, count: usize) {
    // Few, so each loop more costs a branch that is guessed wrong: as a copy it would be a call, and
    // as the compiler's loop three of them.
    // SAFETY: the caller's words.
    unsafe {
        asm!(
            "2:",
            "mov {t}, [{from} + {i} * 8]",
            "mov [{to} + {i} * 8], {t}",
            "inc {i}",
            "jne 2b",
            t = out(reg) _,
            from = in(reg) from.wrapping_add(count),
            to = in(reg) to.wrapping_add(count),
            i = inout(reg) -(count as isize) => _,
            options(nostack)
        );
    }
}

/// The slot at `$offset` of the table malloc pops from has one block less. `$slot`: its address, `$top`: what
/// was read of it.
macro_rules! pop_top {
    ($slot:ident, $table:ident, $offset:ident, $top:ident) => {
        // One instruction where the compiler's are two; free's look at the newest block needs the other.
        core::arch::asm!("sub qword ptr [{table} + {offset} + {top}], 8", table = in(reg) $table,
            offset = in(reg) $offset, top = const core::mem::offset_of!(Slot, top), options(nostack))
    };
}

/// `$slot` has one block more.
macro_rules! push_top {
    ($slot:ident, $top:ident) => {
        core::arch::asm!("add qword ptr [{slot} + {top}], 8", slot = in(reg) $slot,
            top = const core::mem::offset_of!(Slot, top), options(nostack))
    };
}

/// Multiplies `$product` by the slot's magic.
macro_rules! times_magic {
    ($product:ident, $slot:ident) => {
        core::arch::asm!("imul {0:e}, dword ptr [{slot} + {magic}]", inout(reg) $product,
            slot = in(reg) $slot, magic = const core::mem::offset_of!(Slot, magic),
            options(pure, readonly, nostack))
    };
}

/// For an address, by the line that says where the window is: the upper 16 bits of its page's word, or
/// `None`, which the function returns.
///
/// Spelled in assembly because the operands are then read where they are used, and because the window's line
/// stays one cache line (the optimiser would take the static apart). Each load is of one aligned word, as a
/// relaxed atomic load is.
macro_rules! slot_offset {
    ($addr:ident, $line:ident, $type:ident) => {{
        let mut offset = $addr;
        // SAFETY: reads a word of the window's line; so does the next.
        unsafe {
            core::arch::asm!("sub {0}, qword ptr [rip + {line} + {base}]", inout(reg) offset,
                line = sym $line, base = const core::mem::offset_of!($type, base),
                options(pure, readonly, nostack));
        }
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("cmp {0}, qword ptr [rip + {line} + {horizon}]", "jae {outside}",
                in(reg) offset, line = sym $line, horizon = const core::mem::offset_of!($type, horizon),
                outside = label { return None },
                options(readonly, nostack));
        }
        let mut slot = offset;
        // SAFETY: below the horizon every page's memdesc word can be read; its upper 16 bits are
        // the offset of the class's slot, 0 (the dummy) for what is no slab.
        unsafe {
            core::arch::asm!("shr {0}, {shift}", "mov {words}, qword ptr [rip + {line} + {memdesc}]",
                "movzx {0:e}, word ptr [{words} + {0} * 8 + 6]",
                inout(reg) slot, words = out(reg) _, line = sym $line,
                shift = const $crate::constants::PAGE_SHIFT,
                memdesc = const core::mem::offset_of!($type, memdesc),
                options(pure, readonly, nostack));
        }
        Some(slot)
    }};
}

pub(crate) use {pop_top, push_top, slot_offset, times_magic};

// ---- symbols and probes ----

/// A probe with up to three arguments: see `probe_note`.
macro_rules! probe {
    ($base:ident, $name:literal, $first:ident) => {
        // SAFETY: does nothing.
        unsafe {
            core::arch::asm!($crate::os::arch::probe::probe_note!($name, "8@%rdi"), base = sym $base,
                in("rdi") $first, options(nostack, preserves_flags));
        }
    };
    ($base:ident, $name:literal, $first:ident, $second:ident, $third:ident) => {
        // SAFETY: does nothing.
        unsafe {
            core::arch::asm!($crate::os::arch::probe::probe_note!($name, "8@%rdi 8@%rsi 8@%rdx"),
                base = sym $base, in("rdi") $first, in("rsi") $second, in("rdx") $third,
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
                concat!("mov {}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address, options(pure, readonly, nostack, preserves_flags));
        }
        address
    }};
}

pub(crate) use {probe, weak_address};
