//! What the loader calls: the constructor and the destructor of the shared library.
//!
//! The constructor only does early what would otherwise be done late: the unusual system calls. If
//! malloc is called before it, nothing is missing. The destructor looks for double frees that no turn has
//! found and writes the figures if `RCUMALLOC_STATS` asks for them; the heap goes on working.

#[cfg(feature = "preload")]
use crate::abi::operators;
use crate::abi::report;
use crate::os::line::Line;
use crate::os::{env, syscall};
use crate::thread::{entry, exit, start};

/// Longest path in `RCUMALLOC_STATS`, in bytes.
const PATH_BYTES: usize = 256;

#[cfg(feature = "preload")]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

#[cfg(feature = "preload")]
#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = destructor;

/// When the library is loaded.
pub extern "C" fn constructor() {
    if start::process() {
        entry::current();
    }
    #[cfg(feature = "preload")]
    operators::start();
}

/// When the process exits.
pub extern "C" fn destructor() {
    if start::is_started() {
        exit::verify_own();
        write_stats();
    }
}

fn write_stats() {
    let mut value = [0; PATH_BYTES];
    let Some(len) = env::get(b"RCUMALLOC_STATS", &mut value) else { return };
    match &value[..len] {
        b"exit" => {
            report::write(libc::STDERR_FILENO, b"text");
        }
        b"exit:json" => {
            report::write(libc::STDERR_FILENO, b"json");
        }
        path => write_to(path),
    }
}

/// Writes the figures, as JSON, to the file `path` names; `%p` is the process id.
fn write_to(path: &[u8]) {
    let mut name = Line::plain();
    let mut rest = path;
    while let Some(at) = rest.windows(2).position(|two| two == b"%p") {
        // SAFETY: asks for a number.
        let pid = unsafe { syscall::syscall(libc::SYS_getpid, [0; 6]) }.unwrap_or(0);
        name.bytes(&rest[..at]).dec(pid as u64);
        rest = &rest[at + 2..];
    }
    name.bytes(rest).bytes(b"\0");
    let flags = (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC) as usize;
    let at_cwd = libc::AT_FDCWD as usize;
    let start = name.as_bytes().as_ptr() as usize;
    // SAFETY: the name ends in a zero byte and outlives the call.
    match unsafe { syscall::syscall(libc::SYS_openat, [at_cwd, start, flags, 0o644, 0, 0]) } {
        Ok(fd) => {
            report::write(fd as i32, b"json");
            syscall::close(fd as i32);
        }
        Err(_) => {
            let mut line = Line::new();
            line.str("RCUMALLOC_STATS=").bytes(path).str(": cannot be written").emit();
        }
    }
}
