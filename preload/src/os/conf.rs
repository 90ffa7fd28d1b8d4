//! The configuration file: options for programs whose environment nobody makes.
//!
//! `/etc/rcumalloc.conf`, or what `RCUMALLOC_CONF` names; the environment goes before it. Read once, as the
//! process starts, by system calls alone, and kept as text in a page that is not touched where there is no
//! file. No descriptor stays open. A line is `NAME=VALUE` with a name of the environment's, a comment (`#`),
//! or nothing; what else it is, it is one line on stderr, and the rest is read.
//!
//! In a program with more rights than its caller the caller's environment is not obeyed, as glibc does not
//! obey it for its tunables; the file in /etc is root's word, and is, if nobody but root can write to it.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::env;
use super::line::Line;
use super::syscall::{Errno, close, open_quick, owner_alone, read};
use crate::constants::{CONF_BYTES, CONF_PATH_BYTES};

const USUAL: &[u8] = b"/etc/rcumalloc.conf\0";

/// What a line may set.
pub const NAMES: [&[u8]; 13] = [
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
    b"RCUMALLOC_WATCH",
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
}

/// Reads the file. Once, by whoever starts the process, before [`setting`].
#[unsafe(link_section = ".text_start")]
pub fn load() {
    // The environment of a program with more rights is not seen here, nor is the name in it.
    let mut name = [0; CONF_PATH_BYTES];
    let named = match env::get(b"RCUMALLOC_CONF", &mut name[..CONF_PATH_BYTES - 1]) {
        Some(0) => return,
        Some(len) if len >= CONF_PATH_BYTES => {
            return complain(&name[..CONF_PATH_BYTES - 1], ": too long a path");
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
        Err(_) => complain(&path[..path.len() - 1], ": cannot be read"),
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn take(fd: i32, path: &[u8]) {
    if env::secure() && !owner_alone(fd) {
        return complain(
            path,
            ": others than root may write to it; not obeyed in a program with more rights",
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
        Ok(_) => complain(path, ": too long; not obeyed"),
        Err(_) => complain(path, ": cannot be read"),
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

fn complain(path: &[u8], what: &str) {
    Line::new().bytes(path).str(what).emit();
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
/// environment or, where that says nothing, the last line of the file that names it.
#[unsafe(link_section = ".text_start")]
pub fn setting(name: &[u8], out: &mut [u8]) -> Option<(usize, Source)> {
    match env::get(name, out) {
        Some(len) => Some((len, Source::Environment)),
        None if LEN.load(Ordering::Relaxed) == 0 => None,
        None => of_file(name, out),
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
    let fits = value.len().min(out.len());
    out[..fits].copy_from_slice(&value[..fits]);
    Some((value.len(), Source::Line(number)))
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
}
