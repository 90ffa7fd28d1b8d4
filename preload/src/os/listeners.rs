//! Who listens for memory that goes: registration caches of network cards, say.
//!
//! They stand in front of libc's `munmap` and `madvise`, by a symbol of that name or by a jump that is
//! written over libc's code, and forget what they knew of the pages. System calls of ours they would not
//! see, and a card that has a page by its old address sends what nobody has written. libc's own `munmap` is
//! a number and a system call: where it is that, nobody listens, and whether the call is made there or here
//! is all the same. Where it is something else, memory of the program's goes by these names ([`unmap`],
//! [`purge`]).
//!
//! A listener is called as any function of the program is: it may take locks of its own, call malloc and free
//! and use what libc has for a thread. So whoever calls these holds no lock of ours, has nothing of the heap
//! in hand, and is not a thread that libc does not know of. errno is kept.

use super::arch::{self, LANDINGS, PLAIN_MUNMAP};
use crate::constants::PAGE;
use core::ffi::{c_int, c_void};

/// Whether somebody stands in front of libc's `munmap`, as of now.
pub fn are_there() -> bool {
    !is_plain(libc::munmap as *const () as usize)
}

/// Whether the code at `code` makes the system call at once.
fn is_plain(code: usize) -> bool {
    // SAFETY: a function's code, which can be read; it is a page's last byte that may be the last of it.
    let starts_with = |at: usize, bytes: &[u8]| {
        let same = |(offset, &byte): (usize, &u8)| {
            let address = at + offset;
            // SAFETY: as long as the bytes before were those of a longer function, this is one of it.
            unsafe { (address as *const u8).read_volatile() == byte }
        };
        bytes.iter().enumerate().all(same)
    };
    debug_assert!(code > PAGE);
    let landing =
        LANDINGS.iter().find(|landing| starts_with(code, *landing)).map_or(0, |landing| landing.len());
    starts_with(code + landing, &PLAIN_MUNMAP)
}

/// Makes a call of libc's and keeps the calling thread's errno. Whether it succeeded.
fn made(call: impl FnOnce() -> c_int) -> bool {
    // SAFETY: libc gives the address of the calling thread's errno, which lives as long as the thread.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let is_made = call() == 0;
        *errno = before;
        is_made
    }
}

/// Takes a mapping away, by libc's name.
///
/// # Safety
/// The range is the caller's alone, and nothing will refer to it again. No lock of the heap is held, and the
/// thread may call libc.
pub unsafe fn unmap(addr: usize, len: usize) -> bool {
    // SAFETY: promised by the caller.
    made(|| unsafe { libc::munmap(addr as *mut c_void, len) })
}

/// Gives the memory of a range back to the system, by libc's name; it reads as zero afterwards.
///
/// # Safety
/// The contents are the caller's to lose. For the rest as [`unmap`].
pub unsafe fn purge(addr: usize, len: usize) -> bool {
    // SAFETY: promised by the caller.
    made(|| unsafe { arch::libcs_madvise(addr, len, libc::MADV_DONTNEED) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bare_call_is_plain() {
        let text = |landing: &[u8], call: &[u8]| [landing, call, &[0; 16]].concat();
        let plain = |code: &[u8]| is_plain(code.as_ptr() as usize);
        assert!(plain(&text(&[], &PLAIN_MUNMAP)) && plain(&text(&LANDINGS[0], &PLAIN_MUNMAP)));
        for at in 0..PLAIN_MUNMAP.len() {
            let mut other = PLAIN_MUNMAP;
            other[at] ^= 4;
            assert!(!plain(&text(&[], &other)), "another call");
        }
        // What tracers and registration caches write there.
        assert!(!plain(&[0xcc; 32]) && !plain(&text(&[0xe9, 1, 2, 3, 4], &PLAIN_MUNMAP)));
        let mut landing = LANDINGS[0];
        landing[3] ^= 1;
        assert!(!plain(&text(&landing, &PLAIN_MUNMAP)));
        assert!(is_plain(libc::munmap as *const () as usize), "libc's own");
    }
}
