//! The environment, read by ourselves.
//!
//! `getenv` may be interposed by a library that allocates, and in the first calls of a
//! process libc may not have set `environ` yet: then the kernel's copy is read from /proc.
//! Meant for the start of the process; a program that changes its environment at the same
//! time in another thread races with this as it would with `getenv`.

use core::ffi::c_char;

use super::syscall::{close, open_read, read};
use crate::constants::ENV_CHUNK;

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// A size as written by a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// So many bytes: `4096`, `64K`, `8M`, `2G`.
    Bytes(u64),
    /// A share of something, 0 to 100: `12%`.
    Percent(u8),
}

/// Whether the program runs with more rights than its caller (set-user-ID and the like):
/// then the environment is the caller's and is not to be obeyed.
pub fn secure() -> bool {
    // SAFETY: reads a vector the kernel made; neither allocates nor locks.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Copies the value of `name` to `out`, as much of it as fits, and returns its length. None if it is not set
/// or must not be obeyed ([`secure`]).
#[unsafe(link_section = ".text_start")]
pub fn get(name: &[u8], out: &mut [u8]) -> Option<usize> {
    if secure() {
        return None;
    }
    // SAFETY: libc's pointer, null or a null-terminated array that is not changed meanwhile.
    let mut entry = unsafe { environ };
    if entry.is_null() {
        return from_proc(name, out);
    }
    // SAFETY: every entry up to the null is a C string.
    unsafe {
        while !(*entry).is_null() {
            let mut scan = Scan::new(name, out);
            let mut p = *entry;
            while *p != 0 {
                scan.byte(*p as u8);
                p = p.add(1);
            }
            if let Some(answer) = scan.end() {
                return Some(answer);
            }
            entry = entry.add(1);
        }
    }
    None
}

/// The same from the kernel's copy, in small pieces: it can be megabytes long.
fn from_proc(name: &[u8], out: &mut [u8]) -> Option<usize> {
    let fd = open_read(c"/proc/self/environ").ok()?;
    let mut chunk = [0; ENV_CHUNK];
    let mut scan = Scan::new(name, out);
    let answer = 'file: loop {
        match read(fd, &mut chunk) {
            Ok(n) if n > 0 => {
                for &byte in &chunk[..n] {
                    if byte != 0 {
                        scan.byte(byte);
                    } else if let Some(answer) = scan.end() {
                        break 'file Some(answer);
                    }
                }
            }
            _ => break None,
        }
    };
    close(fd);
    answer
}

/// Matches `name=value`, a byte at a time.
struct Scan<'a> {
    name: &'a [u8],
    out: &'a mut [u8],
    matched: usize,
    len: usize,
    is_other: bool,
}

impl<'a> Scan<'a> {
    fn new(name: &'a [u8], out: &'a mut [u8]) -> Scan<'a> {
        Scan { name, out, matched: 0, len: 0, is_other: false }
    }

    fn byte(&mut self, byte: u8) {
        if self.is_other {
        } else if self.matched <= self.name.len() {
            let wanted = self.name.get(self.matched).copied().unwrap_or(b'=');
            self.is_other = byte != wanted;
            self.matched += 1;
        } else {
            if let Some(place) = self.out.get_mut(self.len) {
                *place = byte;
            }
            self.len += 1;
        }
    }

    /// At the end of an entry: None if it was another one, else the value's length.
    fn end(&mut self) -> Option<usize> {
        let hit = !self.is_other && self.matched > self.name.len();
        let answer = hit.then_some(self.len);
        (self.matched, self.len, self.is_other) = (0, 0, false);
        answer
    }
}

/// A decimal number and nothing else.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// A number of bytes with an optional K, M, G or T (powers of 1024, either case), or a share
/// in percent.
pub fn parse_size(text: &[u8]) -> Option<Size> {
    let (&last, rest) = text.split_last()?;
    let shift = match last.to_ascii_uppercase() {
        b'%' => {
            let share = parse_u64(rest).filter(|&share| share <= 100)?;
            return Some(Size::Percent(share as u8));
        }
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => return parse_u64(text).map(Size::Bytes),
    };
    parse_u64(rest)?.checked_mul(1 << shift).map(Size::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size(b"8M"), Some(Size::Bytes(8 << 20)));
        assert_eq!(parse_size(b"4096"), Some(Size::Bytes(4096)));
        assert_eq!(parse_size(b"3g"), Some(Size::Bytes(3 << 30)));
        assert_eq!(parse_size(b"12%"), Some(Size::Percent(12)));
        for bad in [&b""[..], b"M", b"%", b"101%", b"-1", b"8 M", b"99999999999T", b"1MB"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }

    #[test]
    fn both_sources_agree() {
        let (mut a, mut b) = ([0; 4096], [0; 4096]);
        let n = get(b"PATH", &mut a).unwrap();
        assert_eq!(from_proc(b"PATH", &mut b), Some(n));
        assert_eq!(a[..n], b[..n]);
        assert_eq!(std::env::var("PATH").unwrap().as_bytes(), &a[..n]);
        for missing in [&b"PAT"[..], b"PATHX", b"RCUMALLOC_NONE", b""] {
            assert_eq!(get(missing, &mut a), None);
            assert_eq!(from_proc(missing, &mut a), None);
        }
        assert_eq!((get(b"PATH", &mut b[..2]), &b[..2]), (Some(n), &a[..2]), "what fits");
    }
}
