//! Memory for what a measured process needs itself: slots of a trace or of a program.

use std::path::Path;

/// Memory from the system, not from the measured allocator. Zeroed; elements need no drop.
pub struct Pages<T> {
    start: *mut T,
    count: usize,
}

// SAFETY: plain memory; shared only as `&[T]`.
unsafe impl<T: Sync> Sync for Pages<T> {}
// SAFETY: plain memory, which belongs to whoever holds it.
unsafe impl<T: Send> Send for Pages<T> {}

impl<T> Pages<T> {
    /// All zero: `T` must be valid so.
    pub fn new(count: usize) -> Pages<T> {
        let bytes = (count * size_of::<T>()).max(1);
        // SAFETY: a fresh private mapping.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if start == libc::MAP_FAILED {
            eprintln!("rcumalloc-bench: no memory for {bytes} bytes of the harness");
            std::process::exit(2);
        }
        Pages { start: start.cast(), count }
    }

    pub fn set(&mut self, at: usize, value: T) {
        assert!(at < self.count);
        // SAFETY: within the mapping, which is ours.
        unsafe { self.start.add(at).write(value) };
    }

    pub fn slice(&self) -> &[T] {
        // SAFETY: `count` elements, zeroed or set.
        unsafe { std::slice::from_raw_parts(self.start, self.count) }
    }

    pub fn slice_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and nobody else has them.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.count) }
    }
}

impl Pages<u8> {
    /// What a file holds.
    pub fn of_file(file: &Path) -> std::io::Result<Pages<u8>> {
        let mut file = std::fs::File::open(file)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(std::io::Error::other)?;
        let bytes: Pages<u8> = Pages::new(length);
        // SAFETY: the mapping has as many bytes, and nobody else knows of it.
        let room = unsafe { std::slice::from_raw_parts_mut(bytes.start, length) };
        std::io::Read::read_exact(&mut file, room)?;
        Ok(bytes)
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, with its length.
        unsafe { libc::munmap(self.start.cast(), (self.count * size_of::<T>()).max(1)) };
    }
}
