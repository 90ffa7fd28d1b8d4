//! `tests/c/hazards.c` under the preloaded library: one process a hazard and a mode.
//!
//! Builds the library and the C program first, in a target directory of their own, because the
//! shared library is this crate built another way (see `Cargo.toml`).

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
        let status = Command::new(env!("CARGO"))
            .current_dir(here)
            .args([
                "rustc",
                "--quiet",
                "--lib",
                "--release",
                "--features",
                "preload",
                "--crate-type",
                "cdylib",
            ])
            .arg("--target-dir")
            .arg(&target)
            .args(["--", "-C", "link-arg=-Wl,-z,nodelete"])
            .status()
            .expect("cargo runs");
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
    free_after_tls_destroyed first_call_kinds exit_and_cancel fork_storm raw_clone_child
    fork_in_signal_handler vfork_spawn clone_without_libc errno_kept alignment thread_churn
}
