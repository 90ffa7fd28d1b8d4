//! One line of text on the stack: how the library speaks.
//!
//! No formatting machinery (it is large, and its paths are not ours to vouch for), no
//! allocation, one raw `write`. Safe in signal handlers and with any lock held.

use super::sink::Sink;
use crate::constants::LINE_BYTES;

/// A line being put together. What does not fit is cut.
pub struct Line {
    len: usize,
    text: [u8; LINE_BYTES],
}

impl Line {
    /// A line that begins with our name.
    #[allow(clippy::new_without_default)]
    #[inline(always)]
    pub const fn new() -> Line {
        // A constant: the line is made where it is used, not copied there.
        const NAMED: Line = Line::beginning(b"rcumalloc: ");
        NAMED
    }

    const fn beginning(name: &[u8]) -> Line {
        let mut line = Line::plain();
        while line.len < name.len() {
            line.text[line.len] = name[line.len];
            line.len += 1;
        }
        line
    }

    /// An empty line.
    #[inline(always)]
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

    /// Appends a decimal number.
    pub fn dec(&mut self, value: u64) -> &mut Line {
        self.bytes(Number::of(value).digits())
    }

    /// Appends nanoseconds as seconds, in decimal with nine digits behind the point.
    pub fn seconds(&mut self, ns: u64) -> &mut Line {
        const NS: u64 = 1_000_000_000; // (given) as a unit
        self.dec(ns / NS).str(".");
        // One more digit in front keeps the zeros that follow it.
        self.bytes(Number::of(ns % NS + NS).digits().get(1..).unwrap_or_default())
    }

    /// Appends a number as 0x and hexadecimal digits.
    pub fn hex(&mut self, value: u64) -> &mut Line {
        self.str("0x").bytes(Number::in_base(value, 16).digits())
    }

    /// What has been put together, without a newline.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    /// Writes the line to stderr.
    pub fn emit(&mut self) {
        self.emit_to(Sink::Stderr);
    }

    /// Writes what there is to `to`, to be followed by more of the same line, and empties it.
    pub fn emit_part_to(&mut self, to: Sink<'_>) {
        to.write(self.as_bytes());
        self.len = 0;
    }

    /// Writes the line and its newline to `to` in one call, and empties it.
    pub fn emit_to(&mut self, to: Sink<'_>) {
        self.text[self.len] = b'\n';
        to.write(&self.text[..self.len + 1]);
        self.len = 0;
    }
}

/// The digits of a number.
pub struct Number {
    digits: [u8; 20],
    at: usize,
}

impl Number {
    /// In decimal.
    pub fn of(value: u64) -> Number {
        Number::in_base(value, 10)
    }

    fn in_base(mut value: u64, base: u64) -> Number {
        let mut number = Number { digits: [0; 20], at: 20 };
        // Nothing here can panic: a panic says its line's number.
        for digit in number.digits.iter_mut().rev() {
            let value_of = (value % base) as u8;
            *digit = if value_of < 10 { b'0' + value_of } else { b'a' + value_of - 10 };
            number.at -= 1;
            value /= base;
            if value == 0 {
                break;
            }
        }
        number
    }

    /// The first one first.
    pub fn digits(&self) -> &[u8] {
        self.digits.get(self.at..).unwrap_or_default()
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
        assert_eq!(
            Line::plain().seconds(1_000_000_007).str(" ").seconds(70).as_bytes(),
            b"1.000000007 0.000000070"
        );
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
