//! Where text goes: to a descriptor, or into memory of ours. Nothing is allocated and no lock is taken.

use super::syscall;
use core::cell::Cell;

/// See the module.
#[derive(Clone, Copy)]
pub enum Sink<'a> {
    /// Standard error, whatever becomes of it.
    Stderr,
    /// A descriptor of the program's.
    File(&'a File),
    /// Memory that nobody else writes.
    Memory(&'a Memory),
}

/// A descriptor, and whether it took everything so far.
pub struct File {
    fd: i32,
    is_whole: Cell<bool>,
}

/// Memory, filled from its beginning.
pub struct Memory {
    at: *mut u8,
    room: usize,
    len: Cell<usize>,
    is_cut: Cell<bool>,
}

impl Sink<'_> {
    /// Writes all of `bytes`, or what the sink takes of them.
    pub fn write(self, bytes: &[u8]) {
        match self {
            Sink::Stderr => _ = syscall::write(libc::STDERR_FILENO, bytes),
            Sink::File(file) => file.append(bytes),
            Sink::Memory(memory) => memory.append(bytes),
        }
    }
}

impl File {
    /// What `fd` names.
    pub fn new(fd: i32) -> File {
        File { fd, is_whole: Cell::new(true) }
    }

    fn append(&self, bytes: &[u8]) {
        // What comes behind a gap would be another text.
        self.is_whole.set(self.is_whole.get() && syscall::write(self.fd, bytes));
    }

    /// Whether everything was written.
    pub fn is_whole(&self) -> bool {
        self.is_whole.get()
    }
}

impl Memory {
    /// `room` bytes at `at`.
    ///
    /// # Safety
    /// They are mapped and writable, and nobody else writes them while this is there.
    pub unsafe fn new(at: *mut u8, room: usize) -> Memory {
        Memory { at, room, len: Cell::new(0), is_cut: Cell::new(false) }
    }

    fn append(&self, bytes: &[u8]) {
        let len = self.len.get();
        if bytes.len() > self.room - len {
            self.is_cut.set(true);
        }
        // What comes behind a gap would be another text.
        if !self.is_cut.get() {
            // SAFETY: as many bytes are free, and `new`'s caller says whose they are.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.add(len), bytes.len()) };
            self.len.set(len + bytes.len());
        }
    }

    /// Bytes that are filled.
    pub fn written(&self) -> usize {
        self.len.get()
    }

    /// Whether everything found room.
    pub fn is_whole(&self) -> bool {
        !self.is_cut.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_takes_whole_pieces_until_it_is_full() {
        let mut room = [b'.'; 8];
        // SAFETY: the array lives on, and nobody else touches it.
        let memory = unsafe { Memory::new(room.as_mut_ptr(), 7) };
        Sink::Memory(&memory).write(b"abc");
        Sink::Memory(&memory).write(b"def");
        assert!(memory.is_whole() && memory.written() == 6);
        Sink::Memory(&memory).write(b"gh");
        Sink::Memory(&memory).write(b"i");
        assert!(!memory.is_whole() && memory.written() == 6);
        assert_eq!(&room, b"abcdef..");
    }
}
