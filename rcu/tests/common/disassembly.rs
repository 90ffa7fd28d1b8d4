//! The fast path as the compiler left it, read from `objdump`.
//!
//! [`rcu_bench_pair_at_hand`] and [`rcu_bench_pair_through_tls`] are what an embedder's lock and unlock
//! become. The path is followed from the first instruction to the return, every conditional jump not taken:
//! that is where the fast path lies by construction (`rcu/src/arch.rs`). Each instruction on it is put into
//! one of three classes: the pair's own, finding the cell, and the frame of the function around it, which an
//! inlined pair does not have.

use core::cell::Cell;
use core::sync::atomic::{Ordering::SeqCst, compiler_fence};
use std::path::Path;
use std::process::Command;

use super::ReaderCell;

/// Instructions of a lock and unlock beyond finding the cell.
pub const PAIR_LIMIT: usize = 6;

thread_local! {
    static CELL: Cell<*const ReaderCell> = const { Cell::new(core::ptr::null()) };
}

/// A pair on a cell whose address is an argument.
///
/// # Safety
/// The calling thread owns the registered cell.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn rcu_bench_pair_at_hand(cell: &'static ReaderCell) {
    // SAFETY: the caller's promise.
    unsafe { cell.lock_raw() };
    compiler_fence(SeqCst);
    // SAFETY: the caller's promise, and a section is open.
    unsafe { cell.unlock_raw() };
}

/// A pair on the cell that [`set_cell`] put into a thread-local variable.
///
/// # Safety
/// The calling thread has called [`set_cell`].
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn rcu_bench_pair_through_tls() {
    // SAFETY: the caller's promise.
    let cell = unsafe { &*CELL.get() };
    // SAFETY: the promise made to `set_cell`.
    unsafe { cell.lock_raw() };
    compiler_fence(SeqCst);
    // SAFETY: as above, and a section is open.
    unsafe { cell.unlock_raw() };
}

/// A pair with a fence in it, which the check must refuse: the check's own test.
///
/// # Safety
/// The calling thread owns the registered cell.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn rcu_bench_pair_with_a_fence(cell: &'static ReaderCell) {
    // SAFETY: the caller's promise.
    unsafe { cell.lock_raw() };
    core::sync::atomic::fence(SeqCst);
    // SAFETY: the caller's promise, and a section is open.
    unsafe { cell.unlock_raw() };
}

/// Chooses the cell of [`rcu_bench_pair_through_tls`].
pub fn set_cell(cell: &'static ReaderCell) {
    CELL.set(cell);
}

/// Keeps the functions in the binary.
pub fn keep() {
    // With `set_cell`, lest the thread-local be found constant.
    std::hint::black_box((
        set_cell as *const (),
        rcu_bench_pair_at_hand as *const (),
        rcu_bench_pair_through_tls as *const (),
        rcu_bench_pair_with_a_fence as *const (),
    ));
}

/// The instructions of one way through a function.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FastPath {
    /// The pair's own.
    pub own: Vec<String>,
    /// Loads that find the cell.
    pub address: Vec<String>,
    /// Frame and return.
    pub frame: Vec<String>,
}

impl FastPath {
    /// Everything that is forbidden on a fast path, one line each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.own.len() > PAIR_LIMIT {
            faults.push(format!("{} instructions, at most {PAIR_LIMIT} are allowed", self.own.len()));
        }
        for instruction in &self.own {
            let mnemonic = instruction.split_whitespace().next().unwrap_or_default();
            let fault = match mnemonic {
                "lock" => "an atomic read-modify-write",
                "xchg" if instruction.contains('(') => "an atomic read-modify-write",
                "mfence" | "lfence" | "sfence" => "a fence",
                "call" => "a call",
                "jmp" => "a jump out of the function",
                "syscall" => "a system call",
                _ => continue,
            };
            faults.push(format!("{fault}: {instruction}"));
        }
        faults
    }
}

/// Disassembles `symbol` of `binary` and follows its fast path.
///
/// # Errors
/// In one line, what could not be done.
pub fn fast_path(binary: &Path, symbol: &str) -> Result<FastPath, String> {
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn"])
        .arg(format!("--disassemble={symbol}"))
        .arg(binary)
        .output()
        .map_err(|error| format!("objdump does not run: {error} (install binutils)"))?;
    if !output.status.success() {
        return Err(format!("objdump: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    follow(&String::from_utf8_lossy(&output.stdout), symbol)
}

/// Follows the fast path through `listing`, which holds the function `symbol`.
///
/// # Errors
/// In one line, what is wrong with the listing.
pub fn follow(listing: &str, symbol: &str) -> Result<FastPath, String> {
    let head = format!("<{symbol}>:");
    let code: Vec<(&str, &str)> = listing
        .lines()
        .skip_while(|line| !line.ends_with(&head))
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        .filter_map(|line| line.split_once(":\t"))
        .map(|(address, instruction)| (address.trim(), instruction.trim()))
        .collect();
    if code.is_empty() {
        return Err(format!("no function {symbol} in the disassembly"));
    }
    let mut path = FastPath::default();
    let mut at = 0;
    for _ in 0..code.len() {
        let Some((_, instruction)) = code.get(at) else { break };
        let mut words = instruction.split_whitespace();
        let (mnemonic, operands) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let text = instruction.split_whitespace().collect::<Vec<_>>().join(" ");
        match mnemonic {
            "ret" => {
                path.frame.push(text);
                return Ok(path);
            }
            "jmp" => match code.iter().position(|(address, _)| *address == operands) {
                Some(target) => {
                    path.frame.push(text);
                    at = target;
                    continue;
                }
                None => {
                    path.own.push(text); // a tail call
                    return Ok(path);
                }
            },
            "push" | "pop" | "endbr64" => path.frame.push(text),
            "sub" | "add" if operands.ends_with(",%rsp") => path.frame.push(text),
            "mov" if operands.starts_with('%') && !operands.contains('(') && !operands.contains(":") => {
                path.frame.push(text);
            }
            "mov" if operands.starts_with("%fs:") => path.address.push(text),
            "mov" if operands.contains("(%rip),%") => path.address.push(text),
            _ => path.own.push(text),
        }
        at += 1;
    }
    Err(format!("{symbol} does not return on its fast path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "
0000000000001000 <pair>:
    1000:\tpush   %rbx
    1001:\tmov    %fs:0xfffffffffffffff8,%rbx
    1003:\tincl   (%rbx)
    1005:\tjle    1020 <pair+0x20>
    1007:\tdecl   (%rbx)
    1009:\tjne    1028 <pair+0x28>
    100b:\tincl   0x4(%rbx)
    100e:\tje     1030 <pair+0x30>
    1010:\tpop    %rbx
    1011:\tret
    1020:\tcall   2000 <slow>
    1025:\tjmp    1007 <pair+0x7>
";

    #[test]
    fn the_slow_paths_are_not_followed() {
        let path = follow(LISTING, "pair").unwrap();
        assert_eq!(path.own.len(), 6);
        assert_eq!(path.address.len(), 1);
        assert_eq!(path.frame.len(), 3);
        assert_eq!(path.faults(), [""; 0]);
    }

    #[test]
    fn one_more_instruction_is_a_fault() {
        let path = follow(&LISTING.replace("100b:", "100a:\tnop\n    100b:"), "pair").unwrap();
        assert_eq!(path.faults(), ["7 instructions, at most 6 are allowed"]);
    }

    #[test]
    fn a_lock_prefix_a_fence_and_a_call_are_faults() {
        for (was, is, fault) in [
            ("incl   (%rbx)", "lock incl (%rbx)", "an atomic read-modify-write: lock incl (%rbx)"),
            ("decl   (%rbx)", "mfence", "a fence: mfence"),
            ("decl   (%rbx)", "xchg   %eax,(%rbx)", "an atomic read-modify-write: xchg %eax,(%rbx)"),
            ("decl   (%rbx)", "call   3000 <lock>", "a call: call 3000 <lock>"),
            ("decl   (%rbx)", "jmp    3000 <unlock>", "a jump out of the function: jmp 3000 <unlock>"),
        ] {
            assert_eq!(follow(&LISTING.replace(was, is), "pair").unwrap().faults(), [fault]);
        }
    }

    #[test]
    fn a_function_that_is_not_there() {
        assert!(follow(LISTING, "pai").unwrap_err().contains("no function pai"));
    }
}
