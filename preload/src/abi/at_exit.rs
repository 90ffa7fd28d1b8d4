//! What the loader calls: the constructor and the destructor of the shared library.
//!
//! The constructor only does early what would otherwise be done late: the unusual system calls. If
//! malloc is called before it, nothing is missing. The destructor looks for double frees that no turn has
//! found and writes the figures and the profile if `RCUMALLOC_STATS` and `RCUMALLOC_PROFILE_FILE` ask for
//! them; the heap goes on working.

#[cfg(feature = "override")]
use crate::abi::operators;
use crate::abi::profile;
use crate::class::sampled;
use crate::constants::{STATS_NAME_BYTES, STATS_PATH_BYTES};
use crate::front::{entry, exit, start};
use crate::os::line::{Line, Number};
use crate::os::sink::{File, Sink};
use crate::os::{conf, env, syscall};
use crate::release::report;

#[cfg(feature = "override")]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

#[cfg(feature = "override")]
#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = destructor;

/// When the library is loaded.
#[unsafe(link_section = ".text_start")]
pub extern "C" fn constructor() {
    if start::process() {
        entry::current();
    }
    if sampled::any() {
        profile::tell_frees();
    }
    #[cfg(feature = "override")]
    operators::start();
}

/// When the process exits.
#[unsafe(link_section = ".text_start")]
pub extern "C" fn destructor() {
    if start::is_started() {
        exit::verify_own();
        write_stats();
        if sampled::is(sampled::PROFILED) {
            write_profile();
        }
    }
}

/// Calls `write` with what the option `name` says, if it says anything.
fn with_path(name: &[u8], write: impl Fn(&[u8])) {
    let mut value = [0; STATS_PATH_BYTES];
    let Some((len, _)) = conf::setting(name, &mut value) else { return };
    // What somebody has put where a program with more rights writes is not to be overwritten for them.
    if env::secure() {
        return;
    }
    match value.get(..len) {
        Some(path) => write(path),
        None => complain(name, &value),
    }
}

// By itself: with its room for a path in the caller's frame writing a profile would need both.
#[inline(never)]
#[unsafe(link_section = ".text_start")]
fn write_stats() {
    const NAME: &[u8] = b"RCUMALLOC_STATS";
    with_path(NAME, |path| match path {
        b"exit" => {
            report::write(Sink::Stderr, b"text");
        }
        b"exit:json" => {
            report::write(Sink::Stderr, b"json");
        }
        path => write_to(NAME, path, |to| report::write(to, b"json")),
    });
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn write_profile() {
    const NAME: &[u8] = b"RCUMALLOC_PROFILE_FILE";
    with_path(NAME, |path| write_to(NAME, path, report::write_profile));
}

/// Writes to the file that `path` names; `%p` is the process id.
fn write_to(name: &[u8], path: &[u8], write: impl Fn(Sink<'_>) -> bool) {
    match create(path) {
        Ok(fd) => {
            let file = File::new(fd);
            write(Sink::File(&file));
            syscall::close(fd);
            if !file.is_whole() {
                complain(name, path);
            }
        }
        Err(_) => complain(name, path),
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn create(path: &[u8]) -> Result<i32, syscall::Errno> {
    let mut name = [0; STATS_NAME_BYTES];
    let mut at = 0;
    let mut append = |bytes: &[u8]| {
        let place = name.get_mut(at..at + bytes.len()).ok_or(syscall::Errno(libc::ENAMETOOLONG))?;
        place.copy_from_slice(bytes);
        at += bytes.len();
        Ok(())
    };
    let mut rest = path;
    while let Some(at) = rest.windows(2).position(|two| two == b"%p") {
        // SAFETY: asks for a number.
        let pid = unsafe { syscall::syscall(libc::SYS_getpid, [0; 6]) }.unwrap_or(0);
        append(&rest[..at])?;
        append(Number::of(pid as u64).digits())?;
        rest = &rest[at + 2..];
    }
    append(rest)?;
    append(b"\0")?;
    let flags = (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC) as usize;
    let args = [libc::AT_FDCWD as usize, name.as_ptr() as usize, flags, 0o644, 0, 0];
    // SAFETY: the name ends in a zero byte and outlives the call.
    unsafe { syscall::syscall(libc::SYS_openat, args) }.map(|fd| fd as i32)
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn complain(name: &[u8], path: &[u8]) {
    Line::new().bytes(name).str("=").bytes(path).str(": cannot be written").emit();
}
