//! `tests/c/hazards.c` under the preloaded library: one process a hazard and a mode.
//!
//! Builds the library and the C program first, in a target directory of their own: cargo holds the lock of
//! the one that the tests are in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

struct Built {
    library: PathBuf,
    program: PathBuf,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("preloaded");
        let status = Command::new(here.join("../scripts/build"))
            .env("CARGO_TARGET_DIR", &target)
            .stdout(std::process::Stdio::null())
            .status()
            .expect("scripts/build runs");
        assert!(status.success());
        let program = target.join("hazards");
        let status = Command::new("cc")
            .args(["-O1", "-w", "-pthread", "-fno-builtin", "-o"])
            .arg(&program)
            .arg(here.join("tests/c/hazards.c"))
            .status()
            .expect("cc runs");
        assert!(status.success());
        Built { library: target.join("release/librcumalloc.so"), program }
    })
}

fn survives(name: &str) {
    for mode in ["all", "api"] {
        let output = Command::new(&built().program)
            .arg(name)
            .env("LD_PRELOAD", &built().library)
            .env("RCUMALLOC_DEFER", mode)
            .output()
            .expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}, {mode}: {} {said}", output.status);
    }
}

macro_rules! hazards {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                survives(stringify!($name));
            }
        )*
    };
}

hazards! {
    free_after_tls_destroyed first_call_kinds exit_and_cancel fork_storm raw_clone_child raw_clone_amid_malloc
    fork_in_signal_handler vfork_spawn clone_without_libc errno_kept alignment thread_churn
    rlimit_as producer_consumer_idle_owner first_lock_in_handler
}

/// KiB of private memory and of all memory of a program that does nothing, or one malloc: the
/// least of some runs, since what is resident of shared libraries depends on where they lie.
fn memory(preloaded: bool, malloc: bool) -> (u64, u64) {
    let run = || {
        let mut command = Command::new(&built().program);
        command.arg("print_memory");
        if preloaded {
            command.env("LD_PRELOAD", &built().library);
        }
        if malloc {
            command.env("ARG", "1");
        }
        let output = command.output().expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u64>().expect("a number"));
        (numbers.next().expect("private"), numbers.next().expect("all"))
    };
    let runs: Vec<_> = (0..25).map(|_| run()).collect();
    let least = runs.iter().map(|&(private, _)| private).min().expect("runs");
    (least, runs.iter().map(|&(_, all)| all).sum::<u64>() / 25)
}

#[test]
fn a_small_program_stays_small() {
    let (private, all) = memory(false, false);
    let (ours_private, ours_all) = memory(true, false);
    let (first_private, _) = memory(true, true);
    eprintln!(
        "nothing: {private}, {all} KiB; preloaded: {ours_private}, {ours_all}; a malloc: {first_private}"
    );
    assert!(first_private <= private + 16 * 4, "the first malloc touches more than 16 pages of ours");
    assert!(ours_all <= all + 256, "{ours_all} KiB resident, {all} without us");
}
