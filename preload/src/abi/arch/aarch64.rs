//! aarch64. Jumps go by x16, as the linker's own stubs do: where branches are checked, a function's landing
//! takes them.

/// Loads libc's function, whose address is `known` once `find` has been called, into x16. The arguments and
/// the return address are kept.
macro_rules! with_real {
    ($($change:literal),+ $(,)?) => {
        concat!(
            ".cfi_startproc\n",
            "adrp x16, {known}\n",
            "ldr x16, [x16, :lo12:{known}]\n",
            "cbnz x16, 2f\n",
            "stp x29, x30, [sp, #-48]!\n",
            ".cfi_adjust_cfa_offset 48\n",
            ".cfi_rel_offset x29, 0\n",
            ".cfi_rel_offset x30, 8\n",
            "stp x0, x1, [sp, #16]\n",
            "str x2, [sp, #32]\n",
            "bl {find}\n",
            "mov x16, x0\n",
            "ldr x2, [sp, #32]\n",
            "ldp x0, x1, [sp, #16]\n",
            "ldp x29, x30, [sp], #48\n",
            ".cfi_adjust_cfa_offset -48\n",
            ".cfi_restore x29\n",
            ".cfi_restore x30\n",
            "2:\n",
            $($change, "\n",)+
            "br x16\n",
            ".cfi_endproc",
        )
    };
}

/// The body of `dlopen(path, flags)`: goes on in libc's, less RTLD_DEEPBIND.
macro_rules! jump_to_dlopen {
    ($known:ident, $find:ident) => {
        core::arch::naked_asm!(
            $crate::abi::arch::aarch64::with_real!("and w1, w1, #~{deepbind}"),
            known = sym $known,
            find = sym $find,
            deepbind = const libc::RTLD_DEEPBIND,
        )
    };
}

/// The body of `dlmopen(namespace, path, flags)`: the same, in the base namespace.
macro_rules! jump_to_dlmopen {
    ($known:ident, $find:ident) => {
        core::arch::naked_asm!(
            $crate::abi::arch::aarch64::with_real!("cbnz x0, 3f", "and w2, w2, #~{deepbind}", "3:"),
            known = sym $known,
            find = sym $find,
            deepbind = const libc::RTLD_DEEPBIND,
        )
    };
}

/// Where a thread begins: gives its argument to `$enter`, which says what the thread is to run, and goes on
/// there.
macro_rules! thread_start {
    ($enter:ident) => {
        core::arch::global_asm!(
            ".pushsection .text_threads,\"ax\",@progbits",
            ".hidden rcumalloc_thread_start",
            ".globl rcumalloc_thread_start",
            ".type rcumalloc_thread_start, @function",
            ".p2align 2",
            "rcumalloc_thread_start:",
            ".cfi_startproc",
            "hint #34", // a landing
            "stp x29, x30, [sp, #-16]!",
            ".cfi_adjust_cfa_offset 16",
            ".cfi_rel_offset x29, 0",
            ".cfi_rel_offset x30, 8",
            "bl {enter}",
            "ldp x29, x30, [sp], #16",
            ".cfi_adjust_cfa_offset -16",
            ".cfi_restore x29",
            ".cfi_restore x30",
            "mov x16, x0",
            "mov x0, x1",
            "br x16",
            ".cfi_endproc",
            ".size rcumalloc_thread_start, . - rcumalloc_thread_start",
            ".popsection",
            enter = sym $enter,
        );
    };
}

/// The body of `rcumalloc_read_lock`: counts a section in the cell of the calling thread, as the engine does
/// without assembly. A thread without one goes on in `$first`, which is told where the caller stands, the
/// rare cases in `$rare`, which is told the cell, too.
macro_rules! read_lock {
    ($first:ident, $rare:ident) => {
        core::arch::naked_asm!(
            "mrs x16, tpidr_el0",
            "adrp x17, :gottprel:rcumalloc_tables",
            "ldr x17, [x17, :gottprel_lo12:rcumalloc_tables]",
            "ldr x16, [x16, x17]",
            "ldr x0, [x16, #{reader}]",
            "cbz x0, 2f",
            "ldr w16, [x0]",
            "adds w16, w16, #1",
            "str w16, [x0]",
            "b.le 3f",
            "ret",
            "2:",
            "mov x0, x30",
            "b {first}",
            "3:",
            "mov x1, x30",
            "b {rare}",
            reader = const core::mem::offset_of!($crate::cache::thread_cache::ThreadCache, reader),
            first = sym $first,
            rare = sym $rare,
        )
    };
}

/// The body of a function that goes on in `$to`, which is told where the caller stands behind the first
/// argument.
macro_rules! jump_with_place {
    ($to:ident) => {
        core::arch::naked_asm!("mov x1, x30", "b {to}", to = sym $to)
    };
}

/// The address of a symbol of our own of this name.
#[cfg(feature = "override")]
macro_rules! own_address {
    ($($name:tt),+) => {{
        let address: usize;
        // SAFETY: computes an address.
        unsafe {
            core::arch::asm!(concat!("adrp {0}, ", $($name),+), concat!("add {0}, {0}, :lo12:", $($name),+),
                out(reg) address, options(pure, nomem, nostack, preserves_flags));
        }
        address
    }};
}

/// The body of a form of `new`, which uses `REPLACED`, `BOUND`, `runtime` and `other` of the file that it
/// stands in. `$get`: how memory comes. `$on`: the bits of which none may be set. For the macro itself: what
/// is done to the arguments.
#[cfg(feature = "override")]
macro_rules! operator_new {
    ($name:ident $which:literal, $get:ident, size_and_align, $on:expr) => {
        $crate::abi::arch::aarch64::operator_new!(@ $name $which, $get, $on,
            "mov x16, x0\nmov x0, x1\nmov x1, x16")
    };
    ($name:ident $which:literal, $get:ident, $shape:ident, $on:expr) => {
        $crate::abi::arch::aarch64::operator_new!(@ $name $which, $get, $on, "")
    };
    (@ $name:ident $which:literal, $get:ident, $on:expr, $change:literal) => {
        core::arch::naked_asm!(
            concat!(".globl rcumalloc_own", stringify!($name)),
            concat!(".hidden rcumalloc_own", stringify!($name)),
            concat!("rcumalloc_own", stringify!($name), ":"),
            ".cfi_startproc",
            "2:",
            "adrp x16, {replaced}",
            "add x16, x16, :lo12:{replaced}",
            // Acquire: pairs with the Release in `ask`, behind which `BOUND` is filled.
            "ldarb w16, [x16]",
            "mov w17, #{on}",
            "tst w16, w17",
            "b.ne 4f",
            "stp x29, x30, [sp, #-48]!",
            ".cfi_adjust_cfa_offset 48",
            ".cfi_rel_offset x29, 0",
            ".cfi_rel_offset x30, 8",
            "stp x0, x1, [sp, #16]",
            "str x2, [sp, #32]",
            $change,
            "adrp x16, {bound}",
            "add x16, x16, :lo12:{bound}",
            "ldr x16, [x16, #{get}]",
            "blr x16",
            "mov x16, x0",
            "ldr x2, [sp, #32]",
            "ldp x0, x1, [sp, #16]",
            "ldp x29, x30, [sp], #48",
            ".cfi_adjust_cfa_offset -48",
            ".cfi_restore x29",
            ".cfi_restore x30",
            "cbz x16, 3f",
            "mov x0, x16",
            "ret",
            "3:",
            "adrp x16, {runtime}",
            "add x16, x16, :lo12:{runtime}",
            "b 5f",
            "4:",
            "adrp x16, {other}",
            "add x16, x16, :lo12:{other}",
            "5:",
            "stp x29, x30, [sp, #-48]!",
            ".cfi_adjust_cfa_offset 48",
            ".cfi_rel_offset x29, 0",
            ".cfi_rel_offset x30, 8",
            "stp x0, x1, [sp, #16]",
            "str x2, [sp, #32]",
            "mov w0, #{which}",
            "mov x1, x30",
            "blr x16",
            "mov x16, x0",
            "ldr x2, [sp, #32]",
            "ldp x0, x1, [sp, #16]",
            "ldp x29, x30, [sp], #48",
            ".cfi_adjust_cfa_offset -48",
            ".cfi_restore x29",
            ".cfi_restore x30",
            "cbz x16, 2b",
            "br x16",
            ".cfi_endproc",
            replaced = sym REPLACED,
            on = const $on,
            bound = sym BOUND,
            get = const core::mem::offset_of!(Bound, $get),
            runtime = sym runtime,
            other = sym other,
            which = const $which,
        )
    };
}

pub(crate) use {jump_to_dlmopen, jump_to_dlopen, jump_with_place, read_lock, thread_start, with_real};
#[cfg(feature = "override")]
pub(crate) use {operator_new, own_address};
