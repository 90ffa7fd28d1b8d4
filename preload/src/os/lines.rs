//! A text of the kernel's, line by line: what is of interest in `/proc` is a few short lines of a long text,
//! and the caller's stack is small.

use super::syscall::{Errno, read};
use crate::constants::FILE_LINE_BYTES;

/// Calls `visit` with each line of what is left to read from `fd`, without its newline.
pub fn for_each(fd: i32, mut visit: impl FnMut(&[u8])) -> Result<(), Errno> {
    let mut buf = [0; FILE_LINE_BYTES];
    // Bytes at the start of `buf` that were read; whether they are the rest of a line that has been seen.
    let (mut len, mut is_rest) = (0, false);
    loop {
        let got = read(fd, &mut buf[len..])?;
        len += got;
        while let Some(end) = buf[..len].iter().position(|&byte| byte == b'\n') {
            if !core::mem::replace(&mut is_rest, false) {
                visit(&buf[..end]);
            }
            buf.copy_within(end + 1..len, 0);
            len -= end + 1;
        }
        if got == 0 || len == buf.len() {
            if len != 0 && !is_rest {
                visit(&buf[..len]);
            }
            (len, is_rest) = (0, true);
        }
        if got == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Vec<u8>> {
        let mut ends = [0; 2];
        // SAFETY: the kernel writes two descriptors.
        unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            assert_eq!(libc::write(ends[1], text.as_ptr().cast(), text.len()), text.len() as isize);
            libc::close(ends[1]);
        }
        let mut seen = Vec::new();
        for_each(ends[0], |line| seen.push(line.to_vec())).unwrap();
        // SAFETY: ours.
        unsafe { libc::close(ends[0]) };
        seen
    }

    #[test]
    fn each_line_once_and_the_beginning_of_a_long_one() {
        assert_eq!(lines(b""), [b""; 0]);
        assert_eq!(lines(b"one\n\nthree"), [&b"one"[..], b"", b"three"]);
        let long = [b'x'; 3 * FILE_LINE_BYTES];
        let text = [b"before\n", &long[..], b"\nafter\n"].concat();
        assert_eq!(lines(&text), [&b"before"[..], &long[..FILE_LINE_BYTES], b"after"]);
        // Lines that end everywhere in the buffer.
        for first in 0..2 * FILE_LINE_BYTES {
            let text = [&long[..first], b"\nThreads:\t7\n"].concat();
            assert_eq!(lines(&text)[1], b"Threads:\t7", "{first}");
        }
    }
}
