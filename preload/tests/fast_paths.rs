//! What the fast paths cost and what they are made of, as tests: instruction counts do not depend
//! on the machine or its load. What is done by the clock would, so nothing ages here.
//!
//! The library is what `scripts/build` makes. The counts are callgrind's, everything between two
//! calls included: the loop, the PLT and the share of each magazine turn.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("preload/ lies in the repository").to_path_buf()
}

/// Runs a tool that must be there and must succeed.
fn run(tool: &mut Command) -> Output {
    let output = tool.output();
    let output = output.unwrap_or_else(|error| panic!("{tool:?}: {error}; scripts/setup installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool:?} failed: {}\n{said}", output.status);
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// librcumalloc.so, built once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| text(&run(&mut Command::new(root().join("scripts/build"))).stdout).trim().into())
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pairs");
        let source = root().join("preload/tests/c/pairs.c");
        run(Command::new("cc").args(["-O2", "-fno-builtin", "-pthread", "-o"]).arg(&program).arg(source));
        program
    })
}

/// Instructions that the program executes with these arguments.
fn instructions(kind: &str, mode: &str, blocks: u32) -> f64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program());
    valgrind.args([kind, mode, &blocks.to_string()]).env("LD_PRELOAD", library());
    valgrind.env("RCUMALLOC_DECAY_MS", "off").env("RCUMALLOC_GP_AGE_MS", "1000000");
    let said = text(&run(&mut valgrind).stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let collected = collected.unwrap_or_else(|| panic!("callgrind did not say what it counted:\n{said}"));
    collected.1.trim().parse().expect("callgrind prints a number")
}

/// Instructions of one allocation and its free, once the slow start is over.
fn per_pair(kind: &str, mode: &str) -> f64 {
    let (few, many) = (50_000, 250_000);
    (instructions(kind, mode, many) - instructions(kind, mode, few)) / f64::from(many - few)
}

fn at_most(kind: &str, mode: &str, most: f64) {
    let count = per_pair(kind, mode);
    assert!(count <= most, "{kind}, {mode}: {count:.2} instructions, at most {most} are allowed");
}

#[test]
fn a_pair_solo() {
    at_most("pair", "solo", 46.0);
}

#[test]
fn a_pair_deferring() {
    at_most("pair", "deferring", 50.0);
}

#[test]
fn a_thousand_in_order_solo() {
    at_most("order", "solo", 56.0);
}

#[test]
fn a_thousand_in_order_deferring() {
    at_most("order", "deferring", 58.0);
}

/// Large blocks take the slow path, but neither the zone nor, most of the time, a lock. Where they are
/// deferred, each fifth closes a batch and begins and ends a period, which looks at the readers' cells: some
/// 490 instructions a pair, of which 26 see to it that a handler may jump out.
#[test]
fn a_large_pair() {
    at_most("large", "solo", 400.0);
    at_most("large", "deferring", 510.0);
}

/// One larger than what a thread keeps beside others is kept alone once its size comes again. One instruction
/// is the question whether there is a profile.
#[test]
fn a_huge_pair_solo() {
    at_most("huge", "solo", 433.0);
}

/// A realloc that leaves a small block where it is.
#[test]
fn a_block_that_stays() {
    at_most("stay", "deferring", 36.0);
}

/// A section, with the loop around it: through the thread's own handle, and by two calls.
#[test]
fn a_section() {
    at_most("handle", "deferring", 9.5);
    at_most("call", "deferring", 35.0);
}

/// The instructions of an exported function, as objdump spells them.
fn disassembly(function: &str) -> Vec<String> {
    // By address and size: free has a second name, and objdump knows code by one.
    let symbols = text(&run(Command::new("objdump").arg("-T").arg(library())).stdout);
    let (start, size) = symbols
        .lines()
        .filter(|line| line.split_whitespace().last() == Some(function))
        .find_map(|line| {
            let size = line.split_whitespace().skip_while(|word| !word.starts_with(".text")).nth(1)?;
            let start = line.split_whitespace().next()?;
            Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(size, 16).ok()?))
        })
        .unwrap_or_else(|| panic!("{} does not export {function}", library().display()));
    let mut objdump = Command::new("objdump");
    objdump.args(["-d", "--no-show-raw-insn"]).arg(format!("--start-address={start}"));
    objdump.arg(format!("--stop-address={}", start + size)).arg(library());
    let listing = text(&run(&mut objdump).stdout);
    let code =
        listing.lines().filter_map(|line| line.split_once(":\t")).map(|(_, code)| code.trim().to_string());
    code.collect()
}

/// What has no place on a fast path. Jumps to the slow path may stay: they are tail calls.
fn fault(instruction: &str) -> Option<&'static str> {
    let mut words = instruction.split_whitespace();
    let mnemonic = words.next()?;
    match mnemonic {
        "lock" => Some("an atomic read-modify-write"),
        "xchg" if instruction.contains('(') => Some("an atomic read-modify-write"),
        "mfence" | "lfence" | "sfence" => Some("a fence"),
        "syscall" | "int" | "sysenter" => Some("a system call"),
        _ if mnemonic.starts_with("call") => Some("a call"),
        _ if mnemonic.starts_with("push") => Some("a stack frame"),
        _ => None,
    }
}

#[test]
fn no_lock_no_call_no_system_call() {
    for function in ["malloc", "free", "realloc"] {
        let code = disassembly(function);
        assert!(code.iter().any(|line| line.starts_with("ret")), "{function}: no fast path in {code:#?}");
        for instruction in &code {
            if let Some(what) = fault(instruction) {
                panic!("{function} has {what}: {instruction}\n{}", code.join("\n"));
            }
        }
    }
}

#[test]
fn faults_are_recognised() {
    for bad in ["lock incl (%rax)", "call 10 <f>", "callq *%rax", "syscall", "xchg %eax,(%rdx)", "push %rbx"]
    {
        assert!(fault(bad).is_some(), "{bad}");
    }
    for good in ["ret", "xchg %ax,%ax", "jmp 1030 <slow>", "mov %rax,(%rdx)"] {
        assert!(fault(good).is_none(), "{good}");
    }
}
