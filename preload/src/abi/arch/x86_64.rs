//! x86-64.

/// Loads libc's function, whose address is `known` once `find` has been called, into rax. The arguments are
/// kept; three words and the return address leave the stack aligned.
macro_rules! with_real {
    ($($change:literal),+ $(,)?) => {
        concat!(
            ".cfi_startproc\n",
            "mov rax, qword ptr [rip + {known}]\n",
            "test rax, rax\n",
            "jne 2f\n",
            "push rdi\n",
            ".cfi_adjust_cfa_offset 8\n",
            "push rsi\n",
            ".cfi_adjust_cfa_offset 8\n",
            "push rdx\n",
            ".cfi_adjust_cfa_offset 8\n",
            "call {find}\n",
            "pop rdx\n",
            ".cfi_adjust_cfa_offset -8\n",
            "pop rsi\n",
            ".cfi_adjust_cfa_offset -8\n",
            "pop rdi\n",
            ".cfi_adjust_cfa_offset -8\n",
            "2:\n",
            $($change, "\n",)+
            "jmp rax\n",
            ".cfi_endproc",
        )
    };
}

/// The body of `dlopen(path, flags)`: goes on in libc's, less RTLD_DEEPBIND.
macro_rules! jump_to_dlopen {
    ($known:ident, $find:ident) => {
        core::arch::naked_asm!(
            $crate::abi::arch::x86_64::with_real!("and esi, ~{deepbind}"),
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
            $crate::abi::arch::x86_64::with_real!("test rdi, rdi", "jne 3f", "and edx, ~{deepbind}", "3:"),
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
            "rcumalloc_thread_start:",
            ".cfi_startproc",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 8",
            "call {enter}",
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "mov rdi, rdx",
            "jmp rax",
            ".cfi_endproc",
            ".size rcumalloc_thread_start, . - rcumalloc_thread_start",
            ".popsection",
            enter = sym $enter,
        );
    };
}

/// The body of `rcumalloc_read_lock`: counts a section in the cell of the calling thread. A thread without
/// one goes on in `$first`, which is told where the caller stands, the rare cases in `$rare`, which is told
/// the cell, too.
macro_rules! read_lock {
    ($first:ident, $rare:ident) => {
        core::arch::naked_asm!(
            "mov rax, qword ptr [rip + rcumalloc_tables@GOTTPOFF]",
            "mov rax, qword ptr fs:[rax]",
            "mov rdi, qword ptr [rax + {reader}]",
            "test rdi, rdi",
            "jz 2f",
            "inc dword ptr [rdi]",
            "jle 3f",
            "ret",
            "2:",
            "mov rdi, qword ptr [rsp]",
            "jmp {first}",
            "3:",
            "mov rsi, qword ptr [rsp]",
            "jmp {rare}",
            // Alone in its section, which is aligned as its contents want: the fast path lies in one line.
            ".p2align 6",
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
        core::arch::naked_asm!("mov rsi, qword ptr [rsp]", "jmp {to}", to = sym $to)
    };
}

/// The address of a symbol of our own of this name.
#[cfg(feature = "override")]
macro_rules! own_address {
    ($($name:tt),+) => {{
        let address: usize;
        // SAFETY: computes an address.
        unsafe {
            core::arch::asm!(concat!("lea {}, [rip + ", $($name),+, "]"), out(reg) address,
                options(pure, nomem, nostack, preserves_flags));
        }
        address
    }};
}

/// The body of a form of `new`, which uses `REPLACED`, `BOUND`, `runtime` and `other` of the file that it
/// stands in. `$get`: how memory comes. `$on`: the bits of which none may be set. For the macro itself: what
/// is done to the arguments; the arguments in registers, after their bytes, an odd number of words, so that
/// the stack is aligned; and the same from the end.
#[cfg(feature = "override")]
macro_rules! operator_new {
    ($name:ident $which:literal, $get:ident, size, $on:expr) => {
        $crate::abi::arch::x86_64::operator_new!(@ $name $which, $get, $on, keep(8: rdi), drop(rdi))
    };
    ($name:ident $which:literal, $get:ident, size_and_one, $on:expr) => {
        $crate::abi::arch::x86_64::operator_new!(@ $name $which, $get, $on,
            keep(24: rdi rsi rdx), drop(rdx rsi rdi))
    };
    ($name:ident $which:literal, $get:ident, size_and_align, $on:expr) => {
        $crate::abi::arch::x86_64::operator_new!(@ $name $which, $get, $on, "xchg rdi, rsi",
            keep(24: rdi rsi rdx), drop(rdx rsi rdi))
    };
    (@ $name:ident $which:literal, $get:ident, $on:expr, $($change:literal,)?
        keep($words:literal: $($keep:ident)+), drop($($drop:ident)+)) => {
        core::arch::naked_asm!(
            concat!(".globl rcumalloc_own", stringify!($name)),
            concat!(".hidden rcumalloc_own", stringify!($name)),
            concat!("rcumalloc_own", stringify!($name), ":"),
            ".cfi_startproc",
            "2:",
            "test byte ptr [rip + {replaced}], {on}",
            "jne 4f",
            $(concat!("push ", stringify!($keep), "\n.cfi_adjust_cfa_offset 8"),)+
            $($change,)?
            "call qword ptr [rip + {bound} + {get}]",
            $(concat!("pop ", stringify!($drop), "\n.cfi_adjust_cfa_offset -8"),)+
            "test rax, rax",
            "jz 3f",
            "ret",
            "3:",
            "lea r8, [rip + {runtime}]",
            "jmp 5f",
            "4:",
            "lea r8, [rip + {other}]",
            "5:",
            $(concat!("push ", stringify!($keep), "\n.cfi_adjust_cfa_offset 8"),)+
            "mov edi, {which}",
            concat!("mov rsi, qword ptr [rsp + ", $words, "]"),
            "call r8",
            $(concat!("pop ", stringify!($drop), "\n.cfi_adjust_cfa_offset -8"),)+
            "test rax, rax",
            "jz 2b",
            "jmp rax",
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
