//! Options in the code of a program written in Rust (`rcumalloc::config!`).
//!
//! Each is text in a section of this name, `NAME=VALUE;`, and the linker lays them one behind the other and
//! says where they begin and end: there is nothing to call before the first allocation, no order among the
//! crates of a program, and nothing to link with where a program has none. librcumalloc.so has no such
//! section: who preloads it has an environment.

/// What stands between two options.
const SEPARATOR: u8 = b';';

/// The section has a beginning and an end in every program because this is in it.
#[cfg(not(rcumalloc_shared))]
#[used]
#[unsafe(link_section = "rcumalloc_options")]
static NONE: [u8; 1] = [SEPARATOR];

#[cfg(not(rcumalloc_shared))]
unsafe extern "C" {
    #[link_name = "__start_rcumalloc_options"]
    static START: u8;
    #[link_name = "__stop_rcumalloc_options"]
    static STOP: u8;
}

/// All of it; one byte or none where the program's code has no options.
#[cfg(not(rcumalloc_shared))]
fn text() -> &'static [u8] {
    let (start, stop) = (&raw const START, &raw const STOP);
    // SAFETY: the linker's: the section's first byte and the one behind its last; nobody writes to it.
    unsafe { core::slice::from_raw_parts(start, stop as usize - start as usize) }
}

#[cfg(rcumalloc_shared)]
fn text() -> &'static [u8] {
    &[]
}

/// Whether the program's code has none.
pub fn is_empty() -> bool {
    text().len() <= 1
}

/// Each of them. A linker that aligns sections fills up with zeros.
pub fn parts() -> impl Iterator<Item = &'static [u8]> {
    text().split(|&byte| byte == SEPARATOR || byte == 0)
}
