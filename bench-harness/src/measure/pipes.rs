//! What a child prints: read to its end by threads, hashed, and kept as far as there is room.

use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Output kept for reading; all of it is hashed.
const KEPT_OUTPUT: usize = 16 << 20;

/// What came through a pipe.
#[derive(Default)]
pub struct Output {
    /// The beginning.
    pub kept: Vec<u8>,
    /// Of all.
    pub hash: u64,
    pub bytes: u64,
}

/// Reads to the end.
pub fn drain(mut pipe: impl Read) -> io::Result<Output> {
    let mut output = Output::default();
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // Byte by byte: the hash must not depend on how the bytes were cut into reads.
        buffer[..got].iter().for_each(|&byte| hasher.write_u8(byte));
        output.bytes += got as u64;
        let room = KEPT_OUTPUT.saturating_sub(output.kept.len()).min(got);
        output.kept.extend_from_slice(&buffer[..room]);
    }
    output.hash = hasher.finish();
    Ok(output)
}

/// What such a thread has read; nothing, where there was no pipe.
pub fn joined(handle: Option<std::thread::ScopedJoinHandle<'_, io::Result<Output>>>) -> io::Result<Output> {
    handle.map_or_else(|| Ok(Output::default()), |handle| handle.join().unwrap_or_else(|_| Err(broken())))
}

/// A thread that panicked.
pub fn broken() -> io::Error {
    io::Error::other("a thread of the harness ended early")
}

/// Whether there is something to read, or an end, before the time is over.
pub fn readable(fd: i32, timeout: Duration) -> bool {
    let end = Instant::now() + timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis().min(i32::MAX as u128) as i32;
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, which outlives the call.
        match unsafe { libc::poll(&raw mut poll, 1, left) } {
            0 => return false,
            -1 => continue,
            _ => return true,
        }
    }
}
