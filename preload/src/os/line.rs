//! One line of text on the stack: how the library speaks.
//!
//! No formatting machinery (it is large, and its paths are not ours to vouch for), no
//! allocation, one raw `write`. Safe in signal handlers and with any lock held.

use super::syscall::write;
use crate::constants::LINE_BYTES;

/// A line being put together. What does not fit is cut.
pub struct Line {
    len: usize,
    text: [u8; LINE_BYTES],
}

impl Line {
    /// A line that begins with our name.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Line {
        let mut line = Line::plain();
        line.str("rcumalloc: ");
        line
    }

    /// An empty line.
    pub const fn plain() -> Line {
        Line { len: 0, text: [0; LINE_BYTES] }
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Line {
        // One byte stays for the newline.
        let room = LINE_BYTES - 1 - self.len;
        let n = bytes.len().min(room);
        self.text[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        self.len += n;
        self
    }

    /// Appends text.
    pub fn str(&mut self, text: &str) -> &mut Line {
        self.bytes(text.as_bytes())
    }

    fn number(&mut self, mut value: u64, base: u64) -> &mut Line {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[(value % base) as usize];
            value /= base;
            if value == 0 {
                break;
            }
        }
        self.bytes(&digits[at..])
    }

    /// Appends a decimal number.
    pub fn dec(&mut self, value: u64) -> &mut Line {
        self.number(value, 10)
    }

    /// Appends a number as 0x and hexadecimal digits.
    pub fn hex(&mut self, value: u64) -> &mut Line {
        self.str("0x").number(value, 16)
    }

    /// What has been put together, without a newline.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    /// Writes the line to stderr.
    pub fn emit(&mut self) {
        self.emit_to(2);
    }

    /// Writes the line and its newline to `fd` in one call, and empties it.
    pub fn emit_to(&mut self, fd: i32) {
        self.text[self.len] = b'\n';
        write(fd, &self.text[..self.len + 1]);
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_text() {
        let mut line = Line::new();
        line.str("free(").hex(0xdead_beef).str("): ").dec(0).str(" ").dec(u64::MAX);
        assert_eq!(line.as_bytes(), b"rcumalloc: free(0xdeadbeef): 0 18446744073709551615");
        assert_eq!(Line::plain().hex(u64::MAX).as_bytes(), b"0xffffffffffffffff");
    }

    #[test]
    fn cut_not_overrun() {
        let mut line = Line::plain();
        for _ in 0..LINE_BYTES {
            line.str("abc");
        }
        assert_eq!(line.as_bytes().len(), LINE_BYTES - 1);
    }
}
