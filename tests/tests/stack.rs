//! rows.txt, the caller's stack: a test a row, named as the row.

use rcumalloc_tests::frames::Frames;
use rcumalloc_tests::{Victim, build};

/// Bytes that a call of the library needs below its caller's frame at most: coroutines have stacks of 4 KiB.
const MOST: u64 = 2048;
/// Of these, what libc's own functions at the end of a chain may need: memcpy, clock_gettime. The rest is
/// what slow paths touch first (`STACK_BYTES`).
const LIBC: usize = 64;

#[test]
fn small_stack() {
    // What the machine code says of every path.
    let called_by_libc = [
        "rcumalloc::front::exit::destroy",
        "rcumalloc::front::fork::child",
        "rcumalloc::front::fork::prepare",
        "rcumalloc::abi::at_exit::destructor",
    ];
    let (bytes, chain) = Frames::of(build::library()).deepest(build::library(), &called_by_libc);
    assert!(bytes > 512, "nothing was read: {chain:?}");
    assert!(bytes + LIBC <= MOST as usize, "{bytes} bytes of stack: {chain:#?}");
    // What is measured, on paths that are taken.
    for mode in ["all", "api", "strict"] {
        for beside in ["none", "thread"] {
            let victim = || Victim::new("small_stack").env("RCUMALLOC_DEFER", mode);
            let outcome = victim().args(["depth", beside]).env("RCUMALLOC_ON_ERROR", "report");
            let outcome =
                outcome.env("RCUMALLOC_PRESSURE", "psi,cgroup").env("RCUMALLOC_LIMIT", "64M").run().success();
            for line in outcome.text().lines().filter(|&line| line != "done") {
                let bytes = line.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
                assert!(bytes.is_some_and(|bytes| bytes <= MOST), "{line} bytes of stack\n{outcome}");
            }
            let wrong = outcome.number("wrong");
            assert!(wrong > 256, "nothing was measured: {wrong}\n{outcome}");
            assert!(outcome.ours().len() >= 8, "the wrong calls were not reported\n{outcome}");
            victim().args(["coroutines", beside]).run().success();
        }
    }
}

/// Handlers that jump out of malloc. Where a stack overflows nothing is under way yet (`os::stack`), so with
/// threads, too, whom glibc's malloc leaves hanging, everything goes on. A timer's handler may come in
/// anywhere: the thread's next call finds that the frames are gone (`front::under_way`).
#[test]
fn jump_out_of_malloc() {
    for mode in ["all", "api", "strict"] {
        for beside in ["none", "thread"] {
            for sizes in ["small", "mixed", "large"] {
                for how in ["overflow", "timer"] {
                    let victim = Victim::new("jump_out_of_malloc").args([how, sizes, beside]);
                    let victim = victim.env("RCUMALLOC_DEFER", mode).limit(libc::RLIMIT_STACK, 512 * 1024);
                    let outcome = victim.patience(60).run().success();
                    assert_eq!(outcome.text(), "done\n");
                    assert_eq!(outcome.ours(), [""; 0], "{outcome}");
                }
            }
        }
    }
}

/// Each thread out of its own calls, while the others wait for its locks. No call is found wrong, and nobody
/// waits for a lock that somebody has let go of without a word.
#[test]
fn jumps_among_threads() {
    for mode in ["all", "all", "all", "api", "strict"] {
        let victim = Victim::new("jump_among_threads").env("RCUMALLOC_DEFER", mode);
        let outcome = victim.patience(60).run().success();
        assert!(outcome.number("jumps") > 20 && outcome.number("bad_calls") == 0, "{outcome}");
    }
}

/// The same at every instruction that calls come by, of malloc's and of those that take more locks, with
/// forks in between. What is lost is what was on its way: a block or a few, not all that was free.
#[test]
fn jump_out_at_each_instruction() {
    for (mode, beside) in [("all", "none"), ("strict", "thread")] {
        let victim = Victim::new("jump_stepping").arg(beside).env("RCUMALLOC_DEFER", mode);
        // No thread but the program's: what a breakpoint stops is to be in the middle of its own call.
        let outcome = victim.env("RCUMALLOC_PRESSURE", "off").run().success();
        assert!(outcome.number("jumps") > 5000, "{outcome}");
        assert_eq!(outcome.number("bad_calls"), 0, "{outcome}");
        outcome.below("rss_kib", 256 * 1024).below("size_kib", 8 << 20);
    }
}

/// What a handler is given is nobody else's, whatever it interrupts and at whichever instruction.
#[test]
fn nowait_in_handler() {
    for mode in ["solo", "threads"] {
        let outcome = Victim::new("nowait_stepping").arg(mode).run().success().said(&[]);
        assert_eq!(outcome.text(), "done\n", "{outcome}");
    }
}
