//! What a call into the library needs of its caller's stack at most, read from the machine code: the frame of
//! each function, and the longest chain of calls.
//!
//! A frame is what the function pushes, each register once, and the most that it subtracts: a function with
//! several ways in from its start has them again in each. Calls and jumps to other functions are edges; a
//! call through a register goes to libc's function that was loaded into it, else to whatever functions the
//! function and its callers take the address of. What only an internal error reaches (panics) is left out: it
//! ends the process. libc's own functions are not looked into.

use crate::build;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// One function.
#[derive(Default)]
struct Function {
    name: String,
    pushed: BTreeSet<String>,
    subtracted: usize,
    /// Where it goes, and whether it comes back: only then is its own frame still there.
    edges: BTreeSet<(usize, bool)>,
    /// Functions whose address it takes.
    taken: BTreeSet<usize>,
    calls_unknown: bool,
}

/// The functions of a library, by address.
pub struct Frames(BTreeMap<usize, Function>);

/// A chain of calls, from the outermost: names and frames.
pub type Chain = Vec<(String, usize)>;

impl Frames {
    /// Reads `library`.
    pub fn of(library: &Path) -> Frames {
        let mut objdump = Command::new(build::installed("objdump"));
        let output = objdump.args(["-dC", "--no-show-raw-insn"]).arg(library).output().expect("objdump runs");
        let mut functions: BTreeMap<usize, Function> = BTreeMap::new();
        let (mut current, mut loaded) = (0, BTreeMap::new());
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some((address, name)) = header(line) {
                current = address;
                loaded = BTreeMap::new();
                functions.insert(address, Function { name, ..Function::default() });
            } else if let Some(function) = functions.get_mut(&current) {
                function.note(current, line, &mut loaded);
            }
        }
        let mut frames = Frames(functions);
        frames.resolve();
        frames
    }

    /// Calls that go through registers get edges to the functions that may be in them.
    fn resolve(&mut self) {
        let mut handed: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for function in self.0.values() {
            for &(callee, _) in &function.edges {
                handed.entry(callee).or_default().extend(&function.taken);
            }
        }
        for (caller, callee) in HOOKS {
            let callees = self.named(|name| name == callee);
            for (_, function) in self.0.iter_mut().filter(|(_, function)| function.calls_unknown) {
                if function.name.ends_with(caller) {
                    function.edges.extend(callees.iter().map(|&callee| (callee, true)));
                }
            }
        }
        for (address, function) in self.0.iter_mut().filter(|(_, function)| function.calls_unknown) {
            let candidates = function.taken.iter().chain(handed.get(address).into_iter().flatten());
            let edges: Vec<_> =
                candidates.filter(|candidate| *candidate != address).map(|&to| (to, true)).collect();
            function.edges.extend(edges);
        }
    }

    /// The functions of which `wanted` says so.
    fn named(&self, wanted: impl Fn(&str) -> bool) -> Vec<usize> {
        self.0.iter().filter(|(_, function)| wanted(&function.name)).map(|(&at, _)| at).collect()
    }

    /// The deepest chain below a call of what `library` exports, or of what is called by libc under these
    /// `names`: its bytes, and the chain.
    pub fn deepest(&self, library: &Path, names: &[&str]) -> (usize, Chain) {
        let mut nm = Command::new(build::installed("nm"));
        let output = nm.args(["-D", "--defined-only"]).arg(library).output().expect("nm runs");
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let exported =
            listed.lines().filter_map(|line| usize::from_str_radix(line.split(' ').next()?, 16).ok());
        let mut starts: Vec<_> = exported.filter(|at| self.0.contains_key(at)).collect();
        assert!(starts.len() > 40, "too few exported functions: {listed}");
        for name in names {
            let found = self.named(|known| known == *name);
            assert!(!found.is_empty(), "the library has no {name}");
            starts.extend(found);
        }
        let mut known = BTreeMap::new();
        let deepest = starts.into_iter().max_by_key(|&start| self.depth(start, &mut known, &mut Vec::new()));
        let mut at = deepest.expect("not empty");
        let (bytes, mut chain) = (known[&at].0, Vec::new());
        loop {
            let function = &self.0[&at];
            chain.push((function.name.clone(), function.frame()));
            match known[&at].1 {
                Some(next) => at = next,
                None => return (bytes, chain),
            }
        }
    }

    /// Bytes below a call of the function at `at`, with the return address, and where they go.
    fn depth(
        &self,
        at: usize,
        known: &mut BTreeMap<usize, (usize, Option<usize>)>,
        above: &mut Vec<usize>,
    ) -> usize {
        if let Some(&(bytes, _)) = known.get(&at) {
            return bytes;
        }
        let Some(function) = self.0.get(&at) else { return 0 };
        if is_fatal(&function.name) {
            return 0;
        }
        if above.contains(&at) && function.name.contains("core::fmt") {
            // A writer's methods call one another through its table, but not round and round.
            return 0;
        }
        assert!(
            !above.contains(&at),
            "a cycle: {:?}",
            above.iter().map(|at| &self.0[at].name).collect::<Vec<_>>()
        );
        above.push(at);
        let mut most = (RETURN + function.frame(), None);
        for &(callee, returns) in &function.edges {
            let below = self.depth(callee, known, above);
            let bytes = if returns { RETURN + function.frame() + below } else { below };
            if bytes > most.0 {
                most = (bytes, Some(callee));
            }
        }
        above.pop();
        known.insert(at, most);
        most.0
    }
}

/// Who calls whom through a word that the start of the process, or of the watcher, sets.
const HOOKS: [(&str, &str); 2] = [
    ("::misuse", "rcumalloc::class::verdict::misuse"),
    ("ReaderCell::lock_slow", "rcumalloc::front::switch::admit_readers"),
];

/// Bytes of a return address.
const RETURN: usize = 8;

/// Whether only an error of the library's own gets there.
fn is_fatal(name: &str) -> bool {
    const ENDS: [&str; 4] = ["core::panicking", "slice_index_fail", "rust_begin_unwind", "report_and_abort"];
    ENDS.iter().any(|end| name.contains(end))
}

/// `0000000000001000 <name>:`
fn header(line: &str) -> Option<(usize, String)> {
    let (address, name) = line.strip_suffix(">:")?.split_once(" <")?;
    Some((usize::from_str_radix(address, 16).ok()?, name.to_string()))
}

impl Function {
    /// Bytes of its frame.
    fn frame(&self) -> usize {
        self.pushed.len() * 8 + self.subtracted
    }

    /// Takes in an instruction of the function at `start`. `loaded`: what of libc is in which register.
    fn note(&mut self, start: usize, line: &str, loaded: &mut BTreeMap<String, ()>) {
        let Some((_, text)) = line.split_once(":\t") else { return };
        let (operation, operands) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let operands = operands.trim();
        match operation {
            "push" => {
                self.pushed.insert(operands.to_string());
            }
            "sub" => {
                if let Some(bytes) = operands.strip_prefix("$0x").and_then(|rest| rest.strip_suffix(",%rsp"))
                {
                    self.subtracted = self.subtracted.max(usize::from_str_radix(bytes, 16).unwrap_or(0));
                }
            }
            // What the assembler makes of `sub rsp, 128`.
            "add" if operands == "$0xffffffffffffff80,%rsp" => self.subtracted = self.subtracted.max(128),
            "mov" if operands.contains("@GLIBC") => {
                if let Some(register) =
                    operands.split('#').next().and_then(|operands| operands.trim().rsplit(',').next())
                {
                    loaded.insert(register.to_string(), ());
                }
            }
            "lea" => {
                if let Some(target) = operands.split_once("# ").and_then(|(_, target)| address_of(target)) {
                    self.taken.insert(target);
                }
            }
            _ if operation.starts_with("call") => match operands.strip_prefix('*') {
                None => self.edges.extend(address_of(operands).map(|target| (target, true))),
                Some(pointer) if pointer.contains("@GLIBC") || loaded.contains_key(pointer) => {}
                // A word of the table of global offsets that the loader fills in by name.
                Some(pointer) if pointer.contains("(%rip)") && pointer.contains("# ") => {}
                Some(_) => self.calls_unknown = true,
            },
            _ if operation.starts_with('j') => {
                let target = address_of(operands).filter(|&target| target != start && is_start(operands));
                self.edges.extend(target.map(|target| (target, false)));
            }
            _ => {}
        }
    }
}

/// `1000 <name+0x10>`: the address.
fn address_of(operands: &str) -> Option<usize> {
    usize::from_str_radix(operands.split_once(" <")?.0, 16).ok()
}

/// Whether it is where a function begins, not a place in it.
fn is_start(operands: &str) -> bool {
    !operands.rsplit('<').next().unwrap_or_default().contains("+0x")
}
