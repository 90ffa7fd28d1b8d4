//! Options in a program's code: this program's own, as each of its children says at its start.

use std::process::Command;

#[global_allocator]
static HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;

rcumalloc::config!("VERBOSE=1; RCUMALLOC_DEFER=api; STALL_MS = 1234; BACKOFF_MS=soon; LIMITS=1G;");

/// Two places that the linker puts together.
mod another {
    rcumalloc::config!("GP_AGE_MS=77");
}

/// What the library says when this program starts with these variables.
fn said(variables: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    let output = command.arg("--list").envs(variables.iter().copied()).output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).expect("the library writes ASCII");
    text.lines().filter_map(|line| line.strip_prefix("rcumalloc: ")).map(str::to_owned).collect()
}

const BAD: [&str; 2] = [
    "the program's code: not an option: LIMITS=1G",
    "RCUMALLOC_BACKOFF_MS=soon in the program's code: not understood; the default is in force",
];

#[test]
fn options_in_code() {
    let lines = said(&[("RCUMALLOC_CONF", "")]);
    assert_eq!(&lines[..2], BAD);
    assert_eq!(lines.len(), 3, "{lines:?}");
    for part in ["defer=api", "stall=1234ms", "age=77ms", "backoff=2000ms"] {
        assert!(lines[2].contains(part), "{part}: {lines:?}");
    }

    let path = std::env::temp_dir().join(format!("rcumalloc-options-in-code-{}", std::process::id()));
    std::fs::write(&path, "RCUMALLOC_STALL_MS=55\nRCUMALLOC_GP_AGE_MS=66\n").expect("a file can be written");
    let conf = path.to_str().expect("a name of ASCII");
    let lines = said(&[("RCUMALLOC_CONF", conf), ("RCUMALLOC_GP_AGE_MS", "88")]);
    std::fs::remove_file(&path).expect("the file can be removed");
    for part in ["defer=api", "stall=55ms", "age=88ms"] {
        assert!(lines[2].contains(part), "the environment, the file, the code: {part}: {lines:?}");
    }

    // The environment has the last word, a bad one, too.
    let lines = said(&[("RCUMALLOC_CONF", ""), ("RCUMALLOC_VERBOSE", "0"), ("RCUMALLOC_BACKOFF_MS", "9")]);
    assert_eq!(lines, BAD[..1]);
    let lines = said(&[("RCUMALLOC_CONF", ""), ("RCUMALLOC_VERBOSE", "no"), ("RCUMALLOC_BACKOFF_MS", "9")]);
    assert_eq!(lines[1], "RCUMALLOC_VERBOSE=no: not understood; the default is in force");
}

/// The book has what they say.
#[test]
fn messages() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/messages.md");
    let page = std::fs::read_to_string(page).expect("there is docs/messages.md");
    // A message that is longer than the page is wide goes on, indented.
    let page = page.replace("\n    ", " ");
    for line in BAD {
        assert!(page.contains(&format!("\nrcumalloc: {line}\n")), "{line}");
    }
}
