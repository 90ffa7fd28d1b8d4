//! The profile (`RCUMALLOC_PROFILE`): estimates are what there was, within the error of the sampling; what
//! waits for a grace period is told from what is live; and no way to allocate or to free escapes it.

use rcumalloc_tests::{Outcome, Victim, build, command, skipped};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// A directory for the dumps of one test.
struct Dumps(PathBuf);

impl Dumps {
    fn new(test: &str) -> Dumps {
        let path = std::env::temp_dir().join(format!("rcumalloc-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Dumps(path)
    }

    fn read(&self, name: &str) -> Dump {
        Dump::of(&fs::read_to_string(self.0.join(name)).expect("a dump"))
    }
}

impl Drop for Dumps {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A sampled block.
struct Block {
    stack: u64,
    addr: u64,
    size: u64,
    held: u64,
}

/// Samples, blocks and bytes that were allocated, and from where.
struct Stack {
    samples: f64,
    blocks: f64,
    bytes: f64,
    places: Vec<u64>,
}

/// What a dump says.
struct Dump {
    rate: f64,
    lost: u64,
    stacks: BTreeMap<u64, Stack>,
    live: Vec<Block>,
    deferred: Vec<Block>,
    maps: usize,
}

fn number(word: &str) -> u64 {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    }
    .unwrap_or_else(|_| panic!("{word:?} is no number"))
}

impl Dump {
    fn of(text: &str) -> Dump {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("rcumalloc profile 1"));
        let (stacks, live, deferred) = Default::default();
        let mut dump = Dump { rate: 0.0, lost: 0, stacks, live, deferred, maps: 0 };
        for line in lines.by_ref().take_while(|line| *line != "maps") {
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "rate" => dump.rate = number(words[1]) as f64,
                "lost_blocks" | "lost_stacks" => dump.lost += number(words[1]),
                "stack" => {
                    assert_eq!(
                        (words[2], words[4], words[6], words[8]),
                        ("samples", "blocks", "bytes", "at")
                    );
                    let figure = |at: usize| number(words[at]) as f64;
                    let places = words[9..].iter().map(|word| number(word)).collect();
                    let stack = Stack { samples: figure(3), blocks: figure(5), bytes: figure(7), places };
                    assert!(dump.stacks.insert(number(words[1]), stack).is_none(), "twice: {line}");
                }
                "live" | "deferred" => {
                    let [stack, addr, size, held, _] = [1, 2, 3, 4, 5].map(|at| number(words[at]));
                    let blocks = if words[0] == "live" { &mut dump.live } else { &mut dump.deferred };
                    blocks.push(Block { stack, addr, size, held });
                }
                "pid" | "age_ms" => {}
                _ => panic!("{line}"),
            }
        }
        dump.maps = lines.filter(|line| line.contains("r-xp")).count();
        dump
    }

    /// Whether the stack is one of what the function at `start` has called.
    fn is_in(&self, stack: u64, start: u64) -> bool {
        let first = self.stacks.get(&stack).and_then(|stack| stack.places.first());
        first.is_some_and(|&place| (start + 1..start + 26).contains(&place))
    }

    /// Blocks and bytes that were allocated in the function at `start`, and from how many samples that is
    /// known.
    fn allocated(&self, start: u64) -> (f64, f64, f64) {
        let of_it = self.stacks.iter().filter(|(stack, _)| self.is_in(**stack, start));
        of_it.fold((0.0, 0.0, 0.0), |sum, (_, stack)| {
            (sum.0 + stack.blocks, sum.1 + stack.bytes, sum.2 + stack.samples)
        })
    }

    /// The chance with which a block of `held` bytes is a sample.
    fn chance(&self, held: u64) -> f64 {
        1.0 - (-(held as f64) / self.rate).exp()
    }

    /// The blocks that those from the function at `start` stand for.
    fn stand_for(&self, blocks: &[Block], start: u64) -> f64 {
        let of_it = blocks.iter().filter(|block| self.is_in(block.stack, start));
        of_it.map(|block| 1.0 / self.chance(block.held)).sum()
    }
}

/// A line of what there was.
struct Site {
    name: String,
    start: u64,
    bytes: f64,
    allocated: f64,
    live: f64,
}

fn sites(outcome: &Outcome) -> Vec<Site> {
    let text = outcome.text();
    let words = text.lines().filter_map(|line| line.strip_prefix("site "));
    let sites = words.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [start, bytes, allocated, live] = [1, 2, 3, 4].map(|at| number(words[at]));
        Site {
            name: words[0].to_string(),
            start,
            bytes: bytes as f64,
            allocated: allocated as f64,
            live: live as f64,
        }
    });
    sites.collect()
}

/// Whether `estimate` of `truth` blocks, each a sample with that chance, is as good as can be expected.
fn is_near(estimate: f64, truth: f64, chance: f64) -> bool {
    (estimate - truth).abs() <= 4.5 * (truth * (1.0 - chance) / chance).sqrt() + 2.0 + truth * 0.001
}

fn run(what: &str, dumps: &Dumps) -> Victim {
    Victim::new("profile").arg(what).arg(&dumps.0)
}

/// Blocks and bytes that were allocated at each place, and those that are live, are what they should be,
/// within the statistical error; with one thread and with several, whatever else frees wait for.
#[test]
fn profile_estimates() {
    for (threads, mode) in [("1", "all"), ("4", "all"), ("2", "strict"), ("2", "all,except=1-256")] {
        let dumps = Dumps::new("estimates");
        let outcome = run("sites", &dumps).arg(threads).env("RCUMALLOC_DEFER", mode).run().success();
        let dump = dumps.read("sites");
        assert_eq!((dump.lost, dump.rate), (0, 65536.0));
        assert!(dump.maps > 2);
        let sites = sites(&outcome);
        assert_eq!(sites.len(), 8);
        for Site { name, start, bytes, allocated, live } in sites {
            let what = format!("{name}, {threads} threads, {mode}");
            // By the class's bytes, which only the samples say.
            let of_it = dump.live.iter().find(|block| dump.is_in(block.stack, start));
            let held = of_it.map_or(bytes as u64, |block| block.held);
            let chance = dump.chance(held);
            let (blocks, total, samples) = dump.allocated(start);
            assert!(is_near(blocks, allocated, chance), "{what}: {blocks} blocks of {allocated}");
            // realloc asks for what the class has.
            assert!((total / (blocks * bytes) - 1.0).abs() < 0.03, "{what}: {total} bytes");
            assert!(samples > 10.0, "{what}: {samples} samples");
            let standing = dump.stand_for(&dump.live, start);
            assert!(is_near(standing, live, chance), "{what}: {standing} live of {live}");
            assert!(dump.live.iter().all(|block| block.size <= block.held));
        }
    }
}

/// What was freed under a section is not live any more, and waits until the section has ended.
#[test]
fn profile_tells_what_waits() {
    let dumps = Dumps::new("waits");
    let outcome = run("deferred", &dumps).run().success();
    let [live, deferred, gone] = ["live", "deferred", "gone"].map(|name| dumps.read(name));
    let mut looked_at = 0;
    for Site { name, start, bytes, live: kept, .. } in sites(&outcome) {
        let chance = live.chance(bytes as u64 / 16 * 16);
        let standing = live.stand_for(&live.live, start);
        assert!(is_near(standing, kept, chance), "{name}: {standing} of {kept}");
        assert_eq!(live.stand_for(&live.deferred, start), 0.0, "{name}");
        assert_eq!(deferred.stand_for(&deferred.live, start), 0.0, "{name}");
        assert_eq!(deferred.stand_for(&deferred.deferred, start), standing, "{name}");
        assert_eq!(gone.stand_for(&gone.deferred, start) + gone.stand_for(&gone.live, start), 0.0, "{name}");
        looked_at += u32::from(kept > 0.0);
    }
    assert_eq!(looked_at, 2);
}

/// Where each block is a sample, exactly the live ones are there, however they were asked for, and none that
/// was freed, however that was.
#[test]
fn profile_misses_nobody() {
    let dumps = Dumps::new("nobody");
    for mode in ["all", "strict", "api"] {
        let outcome = run("each", &dumps).env("RCUMALLOC_DEFER", mode).run().success();
        let dump = dumps.read("each");
        let found: BTreeSet<(u64, u64)> = dump.live.iter().map(|block| (block.addr, block.size)).collect();
        let text = outcome.text();
        let told = text.lines().filter_map(|line| line.strip_prefix("block ")?.split_once(' '));
        let wanted: BTreeSet<(u64, u64)> = told.map(|(addr, size)| (number(addr), number(size))).collect();
        assert_eq!(wanted.len(), 401);
        assert!(wanted.is_subset(&found), "{mode}: {:?} are missing", wanted.difference(&found));
        // What else the program has, which are its locale and its stdio at the most.
        assert!(found.len() <= wanted.len() + 5, "{mode}: {:?}", found.difference(&wanted));
    }
}

/// The child's frees and mallocs are in the child's dump alone.
#[test]
fn profile_of_a_child() {
    let dumps = Dumps::new("child");
    let outcome = run("forked", &dumps).run().success();
    let live = |name| dumps.read(name).live.iter().map(|block| block.addr).collect::<BTreeSet<u64>>();
    let (child, parent) = (live("child"), live("parent"));
    let text = outcome.text();
    let told = |start: &str| -> Vec<u64> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(start));
        lines.flat_map(|line| line.split(' ')).filter(|word| word.starts_with("0x")).map(number).collect()
    };
    let (childs, parents) = (told("block "), told("parent "));
    assert_eq!((childs.len(), parents.len()), (2, 2));
    assert!(childs.iter().all(|block| child.contains(block)) && !child.contains(&parents[1]));
    assert!(parents.iter().all(|block| parent.contains(block)) && !parent.contains(&childs[0]));
}

/// docs/seeing.md shows a dump as it is.
#[test]
fn profile_is_documented() {
    let page = fs::read_to_string(build::root().join("docs/seeing.md")).expect("the page");
    let (_, block) = page.split_once("<!-- profile -->\n```\n").expect("it has a dump");
    let dump = Dump::of(block.split_once("```").expect("it ends").0);
    assert_eq!((dump.stacks.len(), dump.live.len(), dump.deferred.len()), (1, 1, 1));
    let stack = &dump.stacks[&dump.live[0].stack];
    // One sample stands for so many blocks.
    let wanted = stack.samples / dump.chance(dump.live[0].held);
    assert!((stack.blocks / wanted - 1.0).abs() < 0.001, "{wanted}");
}

/// What the profile says of a program is what valgrind, which counts each call, says of it. A block counts
/// with the bytes of its size class, an eighth more at the most, and a thousand samples are off by a tenth at
/// the most.
#[test]
fn profile_agrees_with_valgrind() {
    let script = "my @kept = map { 'x' x (700 + $_ % 500) } 1 .. 20000; print scalar @kept";
    let perl = || {
        let mut perl = vec![build::installed("perl").display().to_string()];
        perl.extend(["-e".to_owned(), script.to_owned()]);
        perl
    };
    let valgrind = std::process::Command::new(build::installed("valgrind")).args(perl()).output();
    let said = String::from_utf8_lossy(&valgrind.expect("valgrind starts").stderr).into_owned();
    let counted =
        said.lines().find_map(|line| line.split_once("total heap usage: ")?.1.split_once(" frees, "));
    let bytes =
        counted.and_then(|(_, bytes)| bytes.strip_suffix(" bytes allocated")?.replace(',', "").parse().ok());
    let counted: f64 = bytes.unwrap_or_else(|| panic!("{said}"));
    let dumps = Dumps::new("valgrind");
    let line = perl();
    let profiled = command(&line[0]).args(&line[1..]).env("RCUMALLOC_PROFILE", "16K");
    profiled.env("RCUMALLOC_PROFILE_FILE", dumps.0.join("perl")).run().success();
    let dump = dumps.read("perl");
    let (bytes, samples) =
        dump.stacks.values().fold((0.0, 0.0), |sum, stack| (sum.0 + stack.bytes, sum.1 + stack.samples));
    assert!(samples > 500.0, "{samples} samples");
    let ratio = bytes / counted;
    assert!((0.88..1.25).contains(&ratio), "{bytes} bytes in the profile, {counted} by valgrind");
}

/// The probes are in the library, and a debugger that knows nothing of it finds their arguments.
#[test]
fn profile_has_probes() {
    let library = build::library();
    let notes = command("readelf").on_glibc().arg("-n").arg(library).run().success().text().to_string();
    for (name, arguments) in [("alloc", "8@%rdi 8@%rsi 8@%rdx"), ("free", "8@%rdi")] {
        let wanted = format!("Provider: otel_memory\n    Name: {name}\n");
        let (_, behind) = notes.split_once(&wanted).unwrap_or_else(|| panic!("no {name} in {notes}"));
        let given = behind.lines().find_map(|line| line.trim().strip_prefix("Arguments: "));
        assert_eq!(given, Some(arguments), "{notes}");
    }
    // Who traces with it, as the manual says; not every machine has it.
    let probes = format!("usdt:{}:*", library.display());
    match std::process::Command::new("bpftrace").args(["-l", &probes]).output() {
        Ok(output) if output.status.success() => {
            let listed = String::from_utf8_lossy(&output.stdout).into_owned();
            for name in ["otel_memory:alloc", "otel_memory:free"] {
                assert!(listed.lines().any(|line| line.ends_with(name)), "{listed}");
            }
        }
        _ => skipped("in part: no bpftrace here, or it may not look"),
    }
    let dumps = Dumps::new("probes");
    let mut gdb = command(build::installed("gdb")).on_glibc().args(["-batch", "-nx"]);
    let preload = format!("set env LD_PRELOAD {}", library.display());
    let step = ["-ex", "continue", "-ex"];
    for word in ["-ex", &preload, "-ex", "start", "-ex", "break -probe-stap otel_memory:alloc"]
        .into_iter()
        .chain(step)
        .chain(["print $_probe_arg1", "-ex", "delete", "-ex", "break -probe-stap otel_memory:free"])
        .chain(step)
        .chain(["print $_probe_arg0", "-ex", "kill"])
    {
        gdb = gdb.arg(word);
    }
    let said = gdb.arg("--args").arg(build::program("profile")).arg("each").arg(&dumps.0).run();
    let text = said.text();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{said}")).parse::<u64>().unwrap_or(0)
    };
    assert!(value("$1 = ") == 40 && value("$2 = ") > 4096, "{said}");
}

/// From the environment, to a file, at the end; with blocks of all sizes in several threads, each of which is
/// a sample or one in many. The program notices nothing, traps and figures stay what they are.
#[test]
fn profile_at_exit() {
    for (rate, trap) in [("1", "0"), ("4K", "0"), ("4K", "1/50"), ("512K", "0")] {
        let dumps = Dumps::new("exit");
        let victim = Victim::new("trap_load").arg("right").env("RCUMALLOC_TRAP", trap);
        let path = dumps.0.join("exit-%p");
        let outcome =
            victim.env("RCUMALLOC_PROFILE", rate).env("RCUMALLOC_PROFILE_FILE", path).run().success();
        assert_eq!(outcome.ours(), [""; 0], "{outcome}");
        let names: Vec<_> = fs::read_dir(&dumps.0).expect("a directory").flatten().collect();
        assert_eq!(names.len(), 1);
        let dump = dumps.read(&names[0].file_name().to_string_lossy());
        let bytes: f64 = dump.stacks.values().map(|stack| stack.bytes).sum();
        assert!(bytes > 20e6, "{rate}: {bytes} bytes");
    }
    let outcome = Victim::new("trap_load").arg("right").env("RCUMALLOC_PROFILE", "10%").run().success();
    assert!(outcome.ours()[0].contains("RCUMALLOC_PROFILE=10%: not understood"), "{outcome}");
    let figures = Victim::new("figures").arg("sums").env("RCUMALLOC_PROFILE", "8K");
    figures.run().success();
}
