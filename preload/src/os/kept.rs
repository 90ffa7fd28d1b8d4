//! A file of /proc or of a control group that is open for long and read again and again.
//!
//! Only the watcher keeps files: its descriptor table is its own, so none of these numbers is in the
//! program's. Reading again is `lseek` and `read`, which no filter for a program that does anything
//! at all forbids.

use core::ffi::CStr;

use super::env::parse_u64;
use super::lines;
use super::syscall::{Errno, close, read, syscall};

/// An open file. Closes when dropped.
pub struct Kept(i32);

impl Kept {
    /// Opens `path` with libc's `flags`, close-on-exec and non-blocking.
    pub fn open(path: &CStr, flags: i32) -> Result<Kept, Errno> {
        let flags = (flags | libc::O_CLOEXEC | libc::O_NONBLOCK) as usize;
        let args = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags, 0, 0, 0];
        // SAFETY: the path is a live C string.
        unsafe { syscall(libc::SYS_openat, args) }.map(|fd| Kept(fd as i32))
    }

    /// A non-blocking eventfd.
    pub fn eventfd() -> Result<Kept, Errno> {
        let flags = (libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) as usize;
        // SAFETY: no memory.
        unsafe { syscall(libc::SYS_eventfd2, [0, flags, 0, 0, 0, 0]) }.map(|fd| Kept(fd as i32))
    }

    /// Its number, in the table of the thread that opened it.
    pub fn fd(&self) -> i32 {
        self.0
    }

    /// Reads from the beginning, as much as `buf` holds.
    pub fn read_again<'a>(&self, buf: &'a mut [u8]) -> Result<&'a [u8], Errno> {
        self.rewind()?;
        let mut len = 0;
        while len < buf.len() {
            match read(self.0, &mut buf[len..])? {
                0 => break,
                n => len += n,
            }
        }
        Ok(&buf[..len])
    }

    /// Reads from the beginning, a line at a time.
    pub fn lines_again(&self, visit: impl FnMut(&[u8])) -> Result<(), Errno> {
        self.rewind()?;
        lines::for_each(self.0, visit)
    }

    fn rewind(&self) -> Result<(), Errno> {
        // SAFETY: no memory.
        unsafe { syscall(libc::SYS_lseek, [self.0 as usize, 0, libc::SEEK_SET as usize, 0, 0, 0]) }
            .map(|_| ())
    }

    /// Writes all of `bytes` in one call.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        let args = [self.0 as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
        // SAFETY: the kernel reads a live slice.
        unsafe { syscall(libc::SYS_write, args) }.map(|_| ())
    }

    /// Whether an eventfd was signalled since the last call.
    pub fn was_signalled(&self) -> bool {
        let mut count = [0; 8];
        read(self.0, &mut count) == Ok(8)
    }

    /// Whether `poll` reports POLLPRI now. Does not wait.
    pub fn has_priority_event(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.0, events: libc::POLLPRI, revents: 0 };
        let now = [0u64; 2];
        let args = [&raw mut poll as usize, 1, now.as_ptr() as usize, 0, 0, 0];
        // SAFETY: the kernel reads one time and one pollfd, and writes the latter.
        let polled = unsafe { syscall(libc::SYS_ppoll, args) };
        polled == Ok(1) && poll.revents & libc::POLLPRI != 0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        close(self.0);
    }
}

/// The number behind `name` at the start of a line, blanks between them: `high 12`, `Threads:\t3`.
pub fn number_after(text: &[u8], name: &[u8]) -> Option<u64> {
    word_after(text, name).and_then(parse_u64)
}

/// The first word behind `name` at the start of a line.
pub fn word_after<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(name)?;
        is_blank(rest.first()?).then(|| rest.split(is_blank).find(|word| !word.is_empty()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = b"low 0\nhigh 12\nhighest 3\nThreads:\t7\nUid:\t1000\t1001\nempty \n";
        assert_eq!(number_after(text, b"high"), Some(12));
        assert_eq!(number_after(text, b"Threads:"), Some(7));
        assert_eq!(word_after(text, b"Uid:"), Some(&b"1000"[..]));
        assert_eq!(number_after(text, b"hig"), None);
        assert_eq!(number_after(text, b"empty"), None);
        assert_eq!(number_after(text, b"max"), None);
    }

    #[test]
    fn reads_again() {
        let file = Kept::open(c"/proc/self/stat", libc::O_RDONLY).unwrap();
        let mut buf = [0; 512];
        for _ in 0..3 {
            assert!(file.read_again(&mut buf).unwrap().len() > 20);
        }
        assert_eq!(Kept::open(c"/nonexistent", libc::O_RDONLY).err(), Some(Errno(libc::ENOENT)));
    }

    #[test]
    fn an_eventfd_is_signalled_once() {
        let event = Kept::eventfd().unwrap();
        assert!(!event.was_signalled());
        event.write(&1u64.to_ne_bytes()).unwrap();
        assert!(event.was_signalled() && !event.was_signalled());
    }
}
