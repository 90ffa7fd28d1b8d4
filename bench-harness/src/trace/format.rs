//! The trace file: a program's calls, compact, checked on reading.
//!
//! All numbers are little-endian; a *varint* has seven bits a byte, least first, the high bit set on all
//! but the last.
//!
//! ```text
//! 8 bytes   "rcutrace"
//! u32       version (1)
//! u32       threads
//! u64       slots: places that hold one live block each
//! u64       events
//! u16 + n   the program's command line, UTF-8, for people
//! u32 × t   events of each thread
//! events    in the order they happened:
//!             byte    bits 0-2 kind, bit 3 set: of the same thread as the event before,
//!                     bits 4-7 of memalign: log2 of the alignment
//!             varint  thread, unless bit 3
//!             varint  slot
//!             varint  size, unless free
//! u64       FNV-1a over all that comes before
//! ```
//!
//! Kinds: 0 malloc, 1 calloc, 2 memalign, 3 free, 4 realloc (of the block in the slot, which stays there).
//! A slot is empty when it is allocated into and full when it is freed; a file where that does not hold is
//! refused. Blocks that were live when the program ended stay in their slots.

use std::path::Path;

use crate::outcome::Refusal;

const MAGIC: &[u8; 8] = b"rcutrace";
/// Readers refuse any other.
pub const VERSION: u32 = 1;

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Malloc,
    Calloc,
    /// With log2 of the alignment, at most 15.
    Memalign(u8),
    Free,
    Realloc,
}

/// One call of one thread. `size` of a free is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    pub thread: u32,
    pub slot: u32,
    pub size: u64,
}

/// What a trace begins with.
pub struct Header {
    pub program: String,
    pub slots: u32,
    /// Events of each thread.
    pub counts: Vec<u32>,
}

/// A trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub program: String,
    pub slots: u32,
    pub events: Vec<Event>,
}

impl Trace {
    /// Threads that make calls.
    pub fn threads(&self) -> usize {
        self.events.iter().map(|event| event.thread as usize + 1).max().unwrap_or(1)
    }

    pub fn encode(&self) -> Vec<u8> {
        let threads = self.threads();
        let mut bytes = Vec::with_capacity(64 + self.events.len() * 5);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(threads as u32).to_le_bytes());
        bytes.extend_from_slice(&u64::from(self.slots).to_le_bytes());
        bytes.extend_from_slice(&(self.events.len() as u64).to_le_bytes());
        let mut length = self.program.len().min(u16::MAX.into());
        while !self.program.is_char_boundary(length) {
            length -= 1;
        }
        bytes.extend_from_slice(&(length as u16).to_le_bytes());
        bytes.extend_from_slice(&self.program.as_bytes()[..length]);
        let mut counts = vec![0_u32; threads];
        self.events.iter().for_each(|event| counts[event.thread as usize] += 1);
        counts.iter().for_each(|count| bytes.extend_from_slice(&count.to_le_bytes()));
        let mut last = None;
        for event in &self.events {
            let (kind, alignment) = match event.kind {
                Kind::Malloc => (0, 0),
                Kind::Calloc => (1, 0),
                Kind::Memalign(log2) => (2, log2.min(15)),
                Kind::Free => (3, 0),
                Kind::Realloc => (4, 0),
            };
            let same = last == Some(event.thread);
            bytes.push(kind | u8::from(same) << 3 | alignment << 4);
            if !same {
                varint(&mut bytes, event.thread.into());
            }
            varint(&mut bytes, event.slot.into());
            if event.kind != Kind::Free {
                varint(&mut bytes, event.size);
            }
            last = Some(event.thread);
        }
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        bytes
    }

    /// Reads and validates.
    pub fn decode(bytes: &[u8]) -> Result<Trace, String> {
        let mut events = Vec::new();
        let header = Trace::scan(bytes, |_, event| events.push(event))?;
        Ok(Trace { program: header.program, slots: header.slots, events })
    }

    /// Reads and validates without keeping events: `visit` gets each, with what the trace begins with, before
    /// it is known whether those behind it are good.
    pub fn scan(bytes: &[u8], mut visit: impl FnMut(&Header, Event)) -> Result<Header, String> {
        let Some((body, sum)) = bytes.split_last_chunk::<8>() else {
            return Err("it is too short".to_owned());
        };
        let mut rest = Reader { bytes: body, at: 0 };
        if rest.take(8)? != MAGIC {
            return Err("it is no trace of rcumalloc-bench trace".to_owned());
        }
        let version = rest.u32()?;
        if version != VERSION {
            return Err(format!("its version is {version}, and this reads {VERSION}"));
        }
        if checksum(body) != u64::from_le_bytes(*sum) {
            return Err("its checksum does not fit: it is damaged or cut off".to_owned());
        }
        let (threads, slots, count) = (rest.u32()?, rest.u64()?, rest.u64()?);
        let slots = u32::try_from(slots).map_err(|_| "it has too many slots".to_owned())?;
        let length = u16::from_le_bytes([rest.u8()?, rest.u8()?]);
        let program = String::from_utf8_lossy(rest.take(length.into())?).into_owned();
        let counts: Vec<u32> = (0..threads).map(|_| rest.u32()).collect::<Result<_, _>>()?;
        let header = Header { program, slots, counts };
        // An event has two bytes at least: what claims more than there can be is not allocated for.
        let sum: u64 = header.counts.iter().map(|&count| u64::from(count)).sum();
        if count > rest.left() as u64 || u64::from(slots) > count || sum != count {
            return Err("its header does not fit its length".to_owned());
        }
        let mut seen = vec![0_u32; threads as usize];
        let mut full = vec![false; slots as usize];
        let mut thread = None;
        for number in 0..count {
            let event = rest.event(&mut thread)?;
            let broken = |what: &str| Err(format!("its event {number} {what}"));
            let (Some(seen), Some(full)) =
                (seen.get_mut(event.thread as usize), full.get_mut(event.slot as usize))
            else {
                return broken("names a thread or slot that there is not");
            };
            *seen += 1;
            if *seen > header.counts[event.thread as usize] {
                return broken("is one more than its thread has");
            }
            match event.kind {
                Kind::Free | Kind::Realloc if !*full => return broken("frees an empty slot"),
                Kind::Malloc | Kind::Calloc | Kind::Memalign(_) if *full => {
                    return broken("fills a full slot");
                }
                kind => *full = kind != Kind::Free,
            }
            visit(&header, event);
        }
        if rest.left() != 0 || seen != header.counts {
            return Err("its events do not fit its header".to_owned());
        }
        Ok(header)
    }

    /// Of a file; the refusal is one line.
    pub fn read(file: &Path) -> Result<Trace, Refusal> {
        let bytes = std::fs::read(file).map_err(|error| unreadable(file, error))?;
        Trace::decode(&bytes).map_err(|reason| unreadable(file, reason))
    }

    pub fn write(&self, file: &Path) -> Result<(), Refusal> {
        std::fs::write(file, self.encode())
            .map_err(Refusal::of(format_args!("cannot write {}", file.display())))
    }
}

/// The one line about a file that cannot be read.
pub fn unreadable(file: &Path, reason: impl std::fmt::Display) -> Refusal {
    Refusal(format!("unreadable trace {}: {reason}", file.display()))
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes.get(self.at..self.at + count).ok_or("it ends too early")?;
        self.at += count;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().unwrap_or_default()))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().unwrap_or_default()))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number in it does not end".to_owned())
    }

    fn small(&mut self) -> Result<u32, String> {
        u32::try_from(self.varint()?).map_err(|_| "a number in it is too large".to_owned())
    }

    fn event(&mut self, thread: &mut Option<u32>) -> Result<Event, String> {
        let head = self.u8()?;
        let kind = match head & 7 {
            0 => Kind::Malloc,
            1 => Kind::Calloc,
            2 => Kind::Memalign(head >> 4),
            3 => Kind::Free,
            4 => Kind::Realloc,
            other => return Err(format!("it has an event of kind {other}")),
        };
        if head & 8 == 0 {
            *thread = Some(self.small()?);
        }
        let thread = thread.ok_or("its first event has no thread")?;
        let slot = self.small()?;
        let size = if kind == Kind::Free { 0 } else { self.varint()? };
        if size > 1 << 46 {
            return Err("it has a block of impossible size".to_owned());
        }
        Ok(Event { kind, thread, slot, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, thread: u32, slot: u32, size: u64) -> Event {
        Event { kind, thread, slot, size }
    }

    fn example() -> Trace {
        Trace {
            program: "sh -c ä".into(),
            slots: 2,
            events: vec![
                event(Kind::Malloc, 0, 0, 100),
                event(Kind::Memalign(12), 0, 1, 1 << 40),
                event(Kind::Realloc, 1, 0, 0),
                event(Kind::Free, 1, 0, 0),
                event(Kind::Calloc, 300 - 298, 0, 127),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let trace = example();
        assert_eq!(Trace::decode(&trace.encode()), Ok(trace.clone()));
        assert_eq!(trace.threads(), 3);
        let empty = Trace { program: String::new(), slots: 0, events: Vec::new() };
        assert_eq!(Trace::decode(&empty.encode()).map(|trace| trace.events.len()), Ok(0));
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_refused() {
        let bytes = example().encode();
        for cut in 0..bytes.len() {
            assert!(Trace::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x11;
            assert!(Trace::decode(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn no_thread_has_more_events_than_the_header_says() {
        let trace = example();
        let mut bytes = trace.encode();
        let counts = 8 + 4 + 4 + 8 + 8 + 2 + trace.program.len();
        // One of the first thread's two is the second's.
        assert_eq!((bytes[counts], bytes[counts + 4]), (2, 2));
        (bytes[counts], bytes[counts + 4]) = (1, 3);
        let end = bytes.len() - 8;
        let sum = checksum(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&sum);
        let mut seen = 0;
        let refusal = Trace::scan(&bytes, |_, _| seen += 1).map(|_| ()).expect_err("refused");
        assert_eq!((refusal.as_str(), seen), ("its event 1 is one more than its thread has", 1));
    }

    /// With a checksum that fits, so that only what is behind it can refuse.
    fn refused(change: impl FnOnce(&mut Trace)) -> String {
        let mut trace = example();
        change(&mut trace);
        Trace::decode(&trace.encode()).expect_err("refused")
    }

    #[test]
    fn nonsense_with_a_good_checksum_is_refused() {
        assert_eq!(
            refused(|trace| trace.events[3].slot = 7),
            "its event 3 names a thread or slot that there is not"
        );
        assert_eq!(refused(|trace| trace.events[1].slot = 0), "its event 1 fills a full slot");
        assert_eq!(refused(|trace| trace.events[4].kind = Kind::Free), "its event 4 frees an empty slot");
        assert_eq!(refused(|trace| trace.slots = 1000), "its header does not fit its length");
        assert_eq!(refused(|trace| trace.events[0].size = 1 << 60), "it has a block of impossible size");
        let mut other = example().encode();
        other[8] = 9;
        assert_eq!(Trace::decode(&other), Err("its version is 9, and this reads 1".to_owned()));
        assert_eq!(
            Trace::decode(b"GIF89a  nonsense and more"),
            Err("it is no trace of rcumalloc-bench trace".into())
        );
    }
}
