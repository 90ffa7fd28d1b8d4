//! Seats: where the registry finds caches, and whose each one is.
//!
//! A seat is a small thing that stays for ever: its number, the state of its cache, and where that lies. So
//! what walks caches walks seats that are taken, 64 to a word, and looks into no cache that is nobody's; and
//! the child of a fork, which says of every cache that its thread is gone, writes to no cache at all.
//!
//! The lowest free seat is taken first, so that few words are looked at when few threads are left of many.
//! The memory of a free seat's cache goes to the system (`registry::give_back`): it reads as zero then, which
//! is an unused cache, and it stays one, so a look that comes late finds nothing.
//!
//! Seats lie in rows, each several times as long as all before it. Seats are taken and left under the
//! registry's lock; anybody may walk.

use crate::constants::{CACHE_BYTES, CACHES_TOGETHER, PAGE, SEATS_GROW, SEATS_ROW_MOST};
use crate::page::meta;
use core::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Seats of the first row. A row holds [`SEATS_GROW`] times as many as all before it, up to
/// [`SEATS_ROW_MOST`]: few rows, and what is not used is not touched.
const ROW_FIRST: usize = SEATS_PER_WORD;
const SEATS_PER_WORD: usize = u64::BITS as usize;

/// A place for one thread's cache. Zero bytes are a free one without memory.
pub struct Seat {
    /// The registry's: in what state the cache is, and how many owners it has had.
    pub live: AtomicU32,
    number: AtomicU32,
    memory: AtomicUsize,
}

/// Some seats.
pub struct Row {
    next: AtomicPtr<Row>,
    first: usize,
    /// A bit for each seat that is taken.
    taken: &'static [AtomicU64],
    seats: &'static [Seat],
}

/// The first row, whose words are there from the start.
static ROWS: AtomicPtr<Row> = AtomicPtr::new(core::ptr::null_mut());
/// Seats in all rows, for a look.
static SEATS: AtomicUsize = AtomicUsize::new(0);

/// Memory that caches are cut from. Under the registry's lock.
pub struct Ground {
    at: usize,
    end: usize,
    is_zero: bool,
    /// Caches cut so far.
    cut: usize,
}

impl Seat {
    /// Where its cache lies, once it has been taken for the first time.
    pub fn memory(&self) -> usize {
        self.memory.load(Relaxed)
    }

    /// Which seat it is, from 0.
    pub fn number(&self) -> usize {
        self.number.load(Relaxed) as usize
    }
}

impl Ground {
    /// None yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Ground {
        Ground { at: 0, end: 0, is_zero: false, cut: 0 }
    }

    /// Zeros for one more cache.
    fn cut(&mut self) -> Option<usize> {
        if self.at == self.end {
            // As many again as there are.
            let pages = CACHE_BYTES / PAGE;
            let together = self.cut.clamp(1, CACHES_TOGETHER);
            let more = |caches: usize| meta::pages(caches * pages).map(|found| (found, caches));
            let ((memory, is_zero), caches) = more(together).or_else(|| more(1))?;
            self.at = memory.as_ptr() as usize;
            self.end = self.at + caches * CACHE_BYTES;
            self.is_zero = is_zero;
        }
        let memory = self.at;
        if !self.is_zero {
            // SAFETY: metadata of ours that nobody has had.
            unsafe { (memory as *mut u8).write_bytes(0, CACHE_BYTES) };
        }
        self.at += CACHE_BYTES;
        self.cut += 1;
        Some(memory)
    }

    /// Whoever was cutting is not here: the rest belongs to nobody.
    pub fn forget(&mut self) {
        (self.at, self.end) = (0, 0);
    }
}

fn rows() -> impl Iterator<Item = &'static Row> {
    let row = |link: &AtomicPtr<Row>| {
        // SAFETY: null or a row, which is never changed or freed. Acquire: pairs with the Release in
        // `add_row`.
        unsafe { link.load(Acquire).as_ref() }
    };
    core::iter::successors(row(&ROWS), move |last| row(&last.next))
}

/// Takes the lowest free seat, with a cache that is as its last owner left it, or zero. Under the registry's
/// lock. `None`: memory is out.
#[unsafe(link_section = ".text_start")]
pub fn take(ground: &mut Ground) -> Option<&'static Seat> {
    let (row, index) = lowest_free().or_else(|| Some((add_row()?, 0)))?;
    let seat = &row.seats[index];
    if seat.memory() == 0 {
        seat.memory.store(ground.cut()?, Relaxed);
        seat.number.store((row.first + index) as u32, Relaxed);
    }
    // Release: pairs with the Acquire in `taken`: whoever sees the bit sees where the cache lies.
    row.taken[index / SEATS_PER_WORD].fetch_or(1 << (index % SEATS_PER_WORD), Release);
    Some(seat)
}

#[unsafe(link_section = ".text_start")]
fn lowest_free() -> Option<(&'static Row, usize)> {
    rows().find_map(|row| {
        row.taken.iter().enumerate().find_map(|(at, word)| {
            let free = !word.load(Relaxed);
            (free != 0).then(|| (row, at * SEATS_PER_WORD + free.trailing_zeros() as usize))
        })
    })
}

/// A row of free seats behind the others.
#[cold]
#[unsafe(link_section = ".text_start")]
fn add_row() -> Option<&'static Row> {
    let have = SEATS.load(Relaxed);
    let want = (have * SEATS_GROW).clamp(ROW_FIRST, SEATS_ROW_MOST);
    let seats = want.next_multiple_of(SEATS_PER_WORD);
    let words = seats / SEATS_PER_WORD;
    let bytes = size_of::<Row>() + words * size_of::<AtomicU64>() + seats * size_of::<Seat>();
    let memory = meta::bytes(bytes)?.as_ptr();
    // SAFETY: fresh zeroed metadata, ours for ever, at a cache line; zero bytes are valid words and seats,
    // the lengths add up, and each part is a multiple of 8 bytes.
    let row: &'static Row = unsafe {
        let first_word = memory.add(size_of::<Row>());
        let first_seat = first_word.add(words * size_of::<AtomicU64>());
        memory.cast::<Row>().write(Row {
            next: AtomicPtr::new(core::ptr::null_mut()),
            first: have,
            taken: core::slice::from_raw_parts(first_word.cast(), words),
            seats: core::slice::from_raw_parts(first_seat.cast(), seats),
        });
        &*memory.cast()
    };
    let link = rows().last().map_or(&ROWS, |last| &last.next);
    // Release: pairs with the Acquire in `rows`.
    link.store(core::ptr::from_ref(row).cast_mut(), Release);
    SEATS.store(have + seats, Relaxed);
    Some(row)
}

/// Leaves `seat` to the next one. Under the registry's lock.
pub fn leave(seat: &Seat) {
    let number = seat.number();
    if let Some(row) = rows().find(|row| number - row.first < row.seats.len()) {
        let index = number - row.first;
        row.taken[index / SEATS_PER_WORD].fetch_and(!(1 << (index % SEATS_PER_WORD)), Relaxed);
    }
}

/// Every seat that is taken, at some time while this goes on. Anybody.
pub fn taken() -> Taken {
    Taken { row: rows().next(), next: 0, left: 0 }
}

/// The same from the seat `first` on.
pub fn taken_from(first: usize) -> Taken {
    let Some(row) = rows().find(|row| first - row.first < row.seats.len()) else {
        return Taken { row: None, next: 0, left: 0 };
    };
    let index = first - row.first;
    let at = index / SEATS_PER_WORD;
    // Acquire: pairs with the Release in `take`.
    let word = row.taken.get(at).map_or(0, |word| word.load(Acquire));
    Taken { row: Some(row), next: at + 1, left: word & u64::MAX << (index % SEATS_PER_WORD) }
}

/// A walk over the seats that are taken. Small, for it lies on the caller's stack.
pub struct Taken {
    row: Option<&'static Row>,
    /// Index of the word behind the one that was read last.
    next: usize,
    /// Of that one, the bits that are still to come.
    left: u64,
}

impl Iterator for Taken {
    type Item = &'static Seat;

    fn next(&mut self) -> Option<&'static Seat> {
        loop {
            let row = self.row?;
            if self.left != 0 {
                let lowest = self.left.trailing_zeros() as usize;
                self.left &= self.left - 1;
                return row.seats.get((self.next - 1) * SEATS_PER_WORD + lowest);
            }
            match row.taken.get(self.next) {
                Some(word) => {
                    // Acquire: pairs with the Release in `take`.
                    self.left = word.load(Acquire);
                    self.next += 1;
                }
                None => {
                    // SAFETY: null or a row, as in `rows`, where the Acquire is explained.
                    self.row = unsafe { row.next.load(Acquire).as_ref() };
                    self.next = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_lowest_seat_is_taken_and_only_taken_ones_are_walked() {
        crate::own_process::in_own_process!();
        let mut ground = Ground::new();
        let before: HashSet<usize> = taken().map(Seat::number).collect();
        let seats: Vec<&Seat> = (0..1000).map(|_| take(&mut ground).expect("memory")).collect();
        let caches: HashSet<_> = seats.iter().map(|seat| seat.memory()).collect();
        assert!(caches.len() == 1000 && caches.iter().all(|cache| cache.is_multiple_of(PAGE)));
        assert!(seats.is_sorted_by_key(|seat| seat.number()), "in order");
        let walked: HashSet<usize> = taken().map(Seat::number).collect();
        assert_eq!(walked.len(), before.len() + 1000);
        let (low, high) = (seats[17], seats[900]);
        leave(high);
        leave(low);
        assert_eq!(taken().count(), before.len() + 998);
        let behind: Vec<usize> = taken_from(17).map(Seat::number).collect();
        let walked: Vec<usize> = taken().map(Seat::number).filter(|&number| number >= 17).collect();
        assert!(behind == walked && taken_from(usize::MAX >> 1).next().is_none());
        assert!(taken().all(|seat| seat.number() != low.number() && seat.number() != high.number()));
        let again = take(&mut ground).expect("memory");
        assert!(core::ptr::eq(again, low) && again.memory() == low.memory(), "the lowest, where it was");
        seats.iter().for_each(|seat| leave(seat));
        assert_eq!(taken().count(), before.len());
    }
}
