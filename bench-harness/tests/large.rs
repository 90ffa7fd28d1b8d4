//! `rcumalloc-bench large` leaves the machine's setting for huge pages as it found it, also where somebody
//! ends it in the middle.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{bench, library, out};

const PLACE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

fn setting() -> Option<String> {
    let text = std::fs::read_to_string(PLACE).ok()?;
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// One process of the harness, so that nobody of this file sets it at the same time.
#[test]
fn the_setting_is_put_back() {
    let library = library().to_string_lossy();
    let line = ["large", "--quick", "--only", "huge-pages", "--library", &library];
    let was = setting();
    let output = bench(&line);
    let said = out(&output);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let cannot = said.matches("is not measured: ").count();
    assert_eq!(
        said.lines().filter(|line| line.starts_with("| never ")).count(),
        if cannot > 0 { 0 } else { 2 }
    );
    if cannot > 0 {
        eprintln!("skipped in part: {said}");
        return;
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rcumalloc-bench"));
        command.args(["large", "--only", "huge-pages", "--rounds", "30", "--library", &library]);
        let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
        let end = Instant::now() + Duration::from_secs(60);
        let until = |changed: bool| {
            while (setting() != was) != changed && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        // `always`, which is tried first, may be what it was: then it changes with the next.
        until(true);
        let changed = setting() != was;
        // SAFETY: a child of ours that has not been waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        let ended = child.wait().expect("it ends");
        assert!(changed && !ended.success(), "{ended}: the setting was not tried");
        // Another test may be trying a setting of its own just now.
        until(false);
        assert_eq!(setting(), was);
    }
}
