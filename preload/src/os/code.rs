//! Where there is code: the executable mappings of the process, as `/proc/self/maps` says.
//!
//! Read when somebody first asks, and again about once a second, since libraries come and go. What is known
//! may be out of date, and torn while it is read anew: who asks wants to know what a word on a stack may be,
//! and makes sure of it by other means. Without /proc nothing is known.
//! Any thread, signal handlers included; no descriptor stays open.

use super::clock;
use super::syscall::{close, open_read, read};
use crate::constants::{CODE_GOOD_MS, CODE_GOOD_MS_PER_LINE, CODE_RANGES, MAPS_CHUNK};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicUsize};

/// From and to, upwards.
static KNOWN: [[AtomicUsize; 2]; CODE_RANGES] = [const { [const { AtomicUsize::new(0) }; 2] }; CODE_RANGES];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// When they were read, in milliseconds of the coarse clock.
static READ_MS: AtomicU32 = AtomicU32::new(0);
/// Lines that there were.
static LINES: AtomicU32 = AtomicU32::new(0);

/// Sees to it that what is known is not too old.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn refresh() {
    let now = clock::now_coarse_ms();
    let lines = LINES.load(Relaxed);
    let read = READ_MS.load(Relaxed);
    let is_good = lines != 0
        && now.wrapping_sub(read) <= CODE_GOOD_MS.saturating_add(lines.saturating_mul(CODE_GOOD_MS_PER_LINE));
    // One of several that come at once reads.
    if !is_good && (lines == 0 || READ_MS.compare_exchange(read, now, Relaxed, Relaxed).is_ok()) {
        READ_MS.store(now, Relaxed);
        read_maps();
    }
}

/// Whether there is code at `addr`. `None`: that is not known.
pub fn is_at(addr: usize) -> Option<bool> {
    let known = KNOWN.get(..COUNT.load(Acquire)).filter(|known| !known.is_empty())?;
    let at = known.partition_point(|[from, _]| from.load(Relaxed) <= addr);
    let range = at.checked_sub(1).and_then(|at| known.get(at));
    Some(range.is_some_and(|[_, to]| addr < to.load(Relaxed)))
}

/// A line of the maps, as far as it is read.
#[derive(Default)]
struct Parser {
    from: usize,
    to: usize,
    /// Behind the first space, and how many letters of the rights have been read.
    letters: usize,
    is_past: Option<bool>,
    count: usize,
    lines: u32,
}

impl Parser {
    /// Takes the next byte of the text.
    fn take(&mut self, byte: u8) {
        let digit = || (byte as char).to_digit(16).map_or(0, |digit| digit as usize);
        match (self.is_past, byte) {
            (_, b'\n') => {
                *self = Parser { count: self.count, lines: self.lines + 1, ..Parser::default() };
            }
            (None, b'-') => self.is_past = Some(false),
            (None, _) => self.from = self.from << 4 | digit(),
            (Some(false), b' ') => self.is_past = Some(true),
            (Some(false), _) => self.to = self.to << 4 | digit(),
            (Some(true), _) => {
                self.letters += 1;
                if self.letters == 3 && byte == b'x' {
                    self.keep();
                }
            }
        }
    }

    fn keep(&mut self) {
        if let Some([from, to]) = KNOWN.get(self.count) {
            from.store(self.from, Relaxed);
            to.store(self.to, Relaxed);
            self.count += 1;
        }
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn read_maps() {
    let Ok(fd) = open_read(c"/proc/self/maps") else { return };
    let mut part = [0; MAPS_CHUNK];
    let mut parser = Parser::default();
    while let Ok(len) = read(fd, &mut part)
        && len != 0
    {
        part.iter().take(len).for_each(|&byte| parser.take(byte));
    }
    close(fd);
    // Release: who sees the number sees the ranges.
    COUNT.store(parser.count, Release);
    LINES.store(parser.lines, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_data() {
        assert_eq!((is_at(0), is_at(refresh as *const () as usize)), (None, None));
        refresh();
        let local = 0;
        static DATA: AtomicUsize = AtomicUsize::new(1);
        let data = [0, 1, usize::MAX, &raw const local as usize, DATA.as_ptr() as usize, 1 << 46];
        assert!(data.iter().all(|&data| is_at(data) == Some(false)));
        for code in [refresh as *const () as usize, libc::getpid as *const () as usize] {
            assert_eq!(is_at(code), Some(true));
        }
    }
}
