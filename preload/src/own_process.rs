//! Tests that look at what the whole process holds: each in a process of its own.

use std::process::Command;

const CHILD: &str = "RCUMALLOC_TEST_CHILD";

/// What runs a test's program: `cargo xtask aarch64` says so.
const EMULATOR: &str = "RCUMALLOC_TEST_EMULATOR";

/// Seconds a child has: what hangs becomes a failure.
const MOST_SECONDS: u32 = 120;

/// Runs `test` of this binary again, alone in a fresh process that `prepare` has the last word on; its
/// failure is ours.
pub fn run(test: &str, prepare: impl FnOnce(&mut Command)) {
    let own = std::env::current_exe().expect("a test has a path");
    // An emulator's words, where the system does not know them.
    let emulator = std::env::var(EMULATOR).unwrap_or_default();
    let mut words = emulator.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(own.to_str().expect("text")));
    if !emulator.is_empty() {
        command.args(words).arg(&own);
    }
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    prepare(&mut command);
    let output = command.output().expect("the test's own program starts");
    let text = std::string::String::from_utf8_lossy(&output.stdout);
    let errors = std::string::String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}\n{errors}", output.status);
}

/// Whether the caller is the child. Otherwise the test has been run there, and its failure is ours.
pub fn is_child(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        // SAFETY: alarm has no preconditions.
        unsafe { libc::alarm(MOST_SECONDS) };
        return true;
    }
    run(test, |command| {
        command.env(CHILD, "1");
    });
    false
}

/// First line of a test: the rest runs in a fresh process that nothing else runs in.
macro_rules! in_own_process {
    () => {
        fn here() {}
        let path = std::any::type_name_of_val(&here);
        let test = path.split_once("::").and_then(|(_crate, test)| test.strip_suffix("::here"));
        if !$crate::own_process::is_child(test.expect("a function in a module")) {
            return;
        }
    };
}
pub(crate) use in_own_process;
