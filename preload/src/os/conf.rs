//! The configuration file: options for programs whose environment nobody makes.
//!
//! `/etc/rcumalloc.conf`, or what `RCUMALLOC_CONF` names; the environment goes before it, and it goes before
//! what the program has in its code ([`in_code`]). Read once, as the process starts, by system calls alone,
//! and kept as text in a page that is not touched where there is no file. No descriptor stays open. A line
//! is `NAME=VALUE` with a name of the environment's, a comment (`#`), or nothing; what else it is, it is one
//! line on stderr, and the rest is read.
//!
//! In a program with more rights than its caller the caller's environment is not obeyed, as glibc does not
//! obey it for its tunables; the file in /etc is root's word, and is, if nobody but root can write to it.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::line::Line;
use super::syscall::{Errno, close, open_quick, owner_alone, read};
use super::{env, in_code};
use crate::constants::{CONF_BYTES, CONF_PATH_BYTES};

const USUAL: &[u8] = b"/etc/rcumalloc.conf\0";

/// What a line may set.
pub const NAMES: [&[u8]; 18] = [
    b"RCUMALLOC_DEFER",
    b"RCUMALLOC_BUDGET",
    b"RCUMALLOC_GP_AGE_MS",
    b"RCUMALLOC_DECAY_MS",
    b"RCUMALLOC_BACKOFF_MS",
    b"RCUMALLOC_STALL_MS",
    b"RCUMALLOC_ON_ERROR",
    b"RCUMALLOC_PRESSURE",
    b"RCUMALLOC_LIMIT",
    b"RCUMALLOC_HARD_LIMIT",
    b"RCUMALLOC_STATS",
    b"RCUMALLOC_STRESS",
    b"RCUMALLOC_WATCH",
    b"RCUMALLOC_TRAP",
    b"RCUMALLOC_LEDGER",
    b"RCUMALLOC_PROFILE",
    b"RCUMALLOC_PROFILE_FILE",
    b"RCUMALLOC_VERBOSE",
];

struct Text(UnsafeCell<[u8; CONF_BYTES]>);

// SAFETY: written by `load` alone, under the start's lock and before `LEN` says that there is something.
unsafe impl Sync for Text {}

static TEXT: Text = Text(UnsafeCell::new([0; CONF_BYTES]));
/// Bytes of the text.
#[unsafe(link_section = ".data")]
static LEN: AtomicUsize = AtomicUsize::new(0);

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The environment.
    Environment,
    /// This line of the file.
    Line(usize),
    /// The program's code.
    Code,
}

/// Reads the file. Once, by whoever starts the process, before [`setting`]. A line for each part of the
/// program's code that says nothing we know.
#[unsafe(link_section = ".text_start")]
pub fn load() {
    load_file();
    if !in_code::is_empty() {
        check_code();
    }
}

#[unsafe(link_section = ".text_start")]
fn load_file() {
    // The environment of a program with more rights is not seen here, nor is the name in it.
    let mut name = [0; CONF_PATH_BYTES];
    let named = match env::get(b"RCUMALLOC_CONF", &mut name[..CONF_PATH_BYTES - 1]) {
        Some(0) => return,
        Some(len) if len >= CONF_PATH_BYTES => {
            return complain(&name[..CONF_PATH_BYTES - 1], b": too long a path");
        }
        named => named,
    };
    let path = named.map_or(USUAL, |len| &name[..=len]);
    match open_quick(path) {
        Ok(fd) => {
            take(fd, &path[..path.len() - 1]);
            close(fd);
        }
        Err(_) if named.is_none() => {}
        Err(_) => complain(&path[..path.len() - 1], b": cannot be read"),
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn take(fd: i32, path: &[u8]) {
    if env::secure() && !owner_alone(fd) {
        return complain(
            path,
            b": others than root may write to it; not obeyed in a program with more rights",
        );
    }
    // SAFETY: nobody else reads or writes it yet.
    let text = unsafe { &mut *TEXT.0.get() };
    match read_all(fd, text) {
        Ok(len) if len < CONF_BYTES => {
            // Release: pairs with the Acquire of `text`, the bytes are seen.
            LEN.store(len, Ordering::Release);
            check(path);
        }
        Ok(_) => complain(path, b": too long; not obeyed"),
        Err(_) => complain(path, b": cannot be read"),
    }
}

fn read_all(fd: i32, text: &mut [u8]) -> Result<usize, Errno> {
    let mut len = 0;
    while len < text.len() {
        match read(fd, &mut text[len..])? {
            0 => break,
            n => len += n,
        }
    }
    Ok(len)
}

fn complain(of: &[u8], what: &[u8]) {
    Line::new().bytes(of).bytes(what).emit();
}

fn text() -> &'static [u8] {
    let len = LEN.load(Ordering::Acquire);
    // SAFETY: never written again once `LEN` says so; while it says 0 nothing is read.
    unsafe { core::slice::from_raw_parts(TEXT.0.get().cast(), len) }
}

/// What a line says.
#[derive(PartialEq, Eq, Debug)]
enum Says<'a> {
    Nothing,
    Set(&'a [u8], &'a [u8]),
    NoOption(&'a [u8]),
}

fn parse(line: &[u8]) -> Says<'_> {
    let line = line.trim_ascii();
    if line.is_empty() || line[0] == b'#' {
        return Says::Nothing;
    }
    let mut parts = line.splitn(2, |&byte| byte == b'=');
    match (parts.next(), parts.next()) {
        (Some(name), Some(value)) if NAMES.contains(&name.trim_ascii_end()) => {
            Says::Set(name.trim_ascii_end(), value.trim_ascii_start())
        }
        _ => Says::NoOption(line),
    }
}

fn lines() -> impl Iterator<Item = (usize, Says<'static>)> {
    text().split(|&byte| byte == b'\n').enumerate().map(|(at, line)| (at + 1, parse(line)))
}

/// A line for each that says nothing we know.
fn check(path: &[u8]) {
    for (number, says) in lines() {
        if let Says::NoOption(text) = says {
            let mut line = Line::new();
            line.bytes(path).str(":").dec(number as u64).str(": not an option: ").bytes(text).emit();
        }
    }
}

/// Copies the value of `name`, as much of it as fits, and says how long it is and where it comes from: the
/// environment or, where that says nothing, the last line of the file that names it, or else the program's
/// code.
#[unsafe(link_section = ".text_start")]
pub fn setting(name: &[u8], out: &mut [u8]) -> Option<(usize, Source)> {
    match env::get(name, out) {
        Some(len) => Some((len, Source::Environment)),
        None if LEN.load(Ordering::Relaxed) == 0 && in_code::is_empty() => None,
        None => of_file(name, out).or_else(|| of_code(name, out)),
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn of_file(name: &[u8], out: &mut [u8]) -> Option<(usize, Source)> {
    let set = |(number, says)| match says {
        Says::Set(of, value) if of == name => Some((number, value)),
        _ => None,
    };
    let (number, value) = lines().filter_map(set).last()?;
    Some((copy(value, out), Source::Line(number)))
}

/// Copies as much of `value` as fits; its length.
fn copy(value: &[u8], out: &mut [u8]) -> usize {
    let fits = value.len().min(out.len());
    out[..fits].copy_from_slice(&value[..fits]);
    value.len()
}

/// As a line of the file; the names may lack what they all begin with.
fn parse_code(part: &'static [u8]) -> Says<'static> {
    let Says::NoOption(text) = parse(part) else { return parse(part) };
    let Some(at) = text.iter().position(|&byte| byte == b'=') else { return Says::NoOption(text) };
    let short = text[..at].trim_ascii_end();
    let full = NAMES.into_iter().find(|name| name.strip_prefix(b"RCUMALLOC_") == Some(short));
    full.map_or(Says::NoOption(text), |name| Says::Set(name, text[at + 1..].trim_ascii_start()))
}

#[cold]
#[inline(never)]
fn of_code(name: &[u8], out: &mut [u8]) -> Option<(usize, Source)> {
    let set = |part| match parse_code(part) {
        Says::Set(of, value) if of == name => Some(value),
        _ => None,
    };
    Some((copy(in_code::parts().filter_map(set).last()?, out), Source::Code))
}

#[cold]
#[inline(never)]
fn check_code() {
    for part in in_code::parts() {
        if let Says::NoOption(text) = parse_code(part) {
            complain(b"the program's code: not an option: ", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file() {
        let set = |name: &'static str, value: &'static str| Says::Set(name.as_bytes(), value.as_bytes());
        assert_eq!(parse(b"RCUMALLOC_DEFER=api"), set("RCUMALLOC_DEFER", "api"));
        assert_eq!(parse(b"  RCUMALLOC_STATS = /tmp/a=b \r"), set("RCUMALLOC_STATS", "/tmp/a=b"));
        assert_eq!(parse(b"RCUMALLOC_LIMIT="), set("RCUMALLOC_LIMIT", ""));
        for nothing in [&b""[..], b" \t", b"# RCUMALLOC_DEFER=api", b"#"] {
            assert_eq!(parse(nothing), Says::Nothing);
        }
        for bad in
            [&b"RCUMALLOC_DEFER api"[..], b"RCUMALLOC_CONF=/x", b"DEFER=api", b"=", b"rcumalloc_defer=api"]
        {
            assert_eq!(parse(bad), Says::NoOption(bad));
        }
    }

    #[test]
    fn parts_of_the_code() {
        for short_or_not in [&b" STALL_MS = 5"[..], b"RCUMALLOC_STALL_MS=5 "] {
            assert_eq!(parse_code(short_or_not), Says::Set(b"RCUMALLOC_STALL_MS", b"5"));
        }
        for bad in [&b"RCUMALLOC_=5"[..], b"=", b"STALL_MS", b"MS=5", b"CONF=/x"] {
            assert_eq!(parse_code(bad), Says::NoOption(bad));
        }
        assert_eq!(parse_code(b" "), Says::Nothing);
        assert!(in_code::is_empty(), "the tests have none");
    }
}
