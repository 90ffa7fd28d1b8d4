//! rcutorture's scheme with threads: an updater replaces the current element of a pool and counts, in
//! each element it has removed, the grace periods since. A reader that sees a count above 1 at the end
//! of a section has been in that section for a whole period: an error, as is a changed payload.

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use quiescent::{Demand, Domain, Reader, ReaderCell};

use super::{explicit_reader, leak, on_signal, reader};

/// Grace periods that a removed element waits before it is used again, in rcutorture.
pub const PIPE: u32 = 10;
const ELEMENTS: usize = 24;

struct Element {
    /// 0: current; 1: removed; n + 1: removed n grace periods ago.
    pipe_count: AtomicU32,
    /// Written by the updater while nobody may read it, read by readers: no atomics, so that a
    /// premature reuse is a data race that a sanitizer sees. Volatile, so that every read is one, and
    /// word by word, for it overlooks larger volatile accesses.
    payload: [UnsafeCell<u64>; 4],
}

impl Element {
    fn read(&self) -> [u64; 4] {
        // SAFETY: valid memory; the caller's section protects it, and if not, that is what is looked for.
        std::array::from_fn(|word| unsafe { self.payload[word].get().read_volatile() })
    }

    /// While nobody can find the element and those who could have gone by.
    fn write(&self, number: u64) {
        for word in &self.payload {
            // SAFETY: as the sentence above says, if grace periods are right.
            unsafe { word.get().write_volatile(number) };
        }
    }
}

pub struct Torture {
    pub domain: &'static Domain,
    elements: [Element; ELEMENTS],
    current: AtomicUsize,
    stop: AtomicBool,
    pub reads: AtomicU64,
    pub errors: AtomicU64,
    pub updates: AtomicU64,
}

// SAFETY: `payload` is what grace periods protect; if they fail it is torn `u64`s, which are tested for.
unsafe impl Sync for Torture {}

thread_local! {
    /// For the signal handler.
    static INTERRUPTED: Cell<Option<(&'static Torture, &'static ReaderCell)>> = const { Cell::new(None) };
}

extern "C" fn read_in_handler(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if let Some((torture, cell)) = INTERRUPTED.get() {
        // SAFETY: the interrupted thread owns the cell.
        let reader = unsafe { Reader::borrow_cell(cell) };
        torture.read(&reader, || {});
    }
}

fn raise_once() {
    // SAFETY: `interrupted_reader` has installed the handler.
    unsafe { libc::raise(libc::SIGUSR1) };
}

/// A small generator of numbers; which ones does not matter, only that they are mixed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

impl Torture {
    pub fn new(domain: &'static Domain) -> &'static Torture {
        leak(Torture {
            domain,
            elements: std::array::from_fn(|_| Element {
                pipe_count: AtomicU32::new(0),
                payload: Default::default(),
            }),
            current: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            updates: AtomicU64::new(0),
        })
    }

    /// One section of the thread that owns `reader`.
    fn read(&self, reader: &Reader, dwell: impl FnOnce()) {
        let section = reader.read_lock();
        let element = &self.elements[self.current.load(Acquire)];
        let before = element.read();
        dwell();
        let after = element.read();
        let grace_periods = element.pipe_count.load(Acquire);
        drop(section);
        if grace_periods > 1 || before != after || before.iter().any(|&word| word != before[0]) {
            self.errors.fetch_add(1, Relaxed);
        }
        self.reads.fetch_add(1, Relaxed);
    }

    /// A section that also takes a cookie of its own, which must not elapse inside it.
    fn read_with_cookie(&self, reader: &Reader) {
        self.read(reader, || {
            let cookie = self.domain.start_poll();
            self.domain.advance(Demand::Expedite);
            if self.domain.poll(cookie) {
                self.errors.fetch_add(1, Relaxed);
            }
        });
    }

    fn spawn(
        &'static self,
        mut body: impl FnMut(&'static Torture, &mut Dice) + Send + 'static,
    ) -> JoinHandle<()> {
        thread::spawn(move || {
            let mut dice = Dice(self as *const Torture as u64 ^ u64::from(std::process::id()));
            while !self.stop.load(Relaxed) {
                body(self, &mut dice);
            }
        })
    }

    /// Section after section; never announces of its own accord.
    pub fn tight_reader(&'static self) -> JoinHandle<()> {
        let reader = explicit_reader(self.domain);
        self.spawn(move |torture, dice| {
            for _ in 0..dice.roll(2000) {
                torture.read(&reader, || {});
            }
            torture.read_with_cookie(&reader);
            thread::yield_now();
        })
    }

    /// Announces between sections, so that periods end without anybody asking.
    pub fn announcing_reader(&'static self) -> JoinHandle<()> {
        let reader = explicit_reader(self.domain);
        self.spawn(move |torture, dice| {
            for _ in 0..dice.roll(10) {
                torture.read(&reader, || {});
            }
            reader.quiescent_state();
        })
    }

    /// A few sections, and then none for about as long as a period takes.
    pub fn resting_reader(&'static self) -> JoinHandle<()> {
        let reader = explicit_reader(self.domain);
        self.spawn(move |torture, dice| {
            for _ in 0..=dice.roll(3) {
                torture.read(&reader, || {});
            }
            for _ in 0..dice.roll(20_000) {
                std::hint::spin_loop();
            }
        })
    }

    /// Sleeps inside sections, between them, online and offline; nests.
    pub fn sleepy_reader(&'static self) -> JoinHandle<()> {
        let mut reader = reader(self.domain);
        self.spawn(move |torture, dice| {
            let nap = Duration::from_micros(dice.roll(300));
            match dice.roll(5) {
                0 => torture.read(&reader, || thread::sleep(nap)),
                1 => torture.read(&reader, || torture.read(&reader, || thread::sleep(nap))),
                2 => thread::sleep(nap),
                3 => {
                    reader.offline();
                    torture.read(&reader, thread::yield_now);
                    thread::sleep(nap);
                    reader.online();
                }
                _ => reader.quiescent_state(),
            }
        })
    }

    /// Registers, reads a little, exits, and again.
    pub fn passing_reader(&'static self) -> JoinHandle<()> {
        self.spawn(move |torture, dice| {
            let reader = reader(torture.domain);
            for _ in 0..dice.roll(20) {
                torture.read(&reader, std::hint::spin_loop);
            }
            reader.quiescent_state();
            torture.read(&reader, thread::yield_now);
        })
    }

    /// Reads, announces, and is interrupted all the time by a handler that reads as well.
    pub fn interrupted_reader(&'static self) -> JoinHandle<()> {
        on_signal(libc::SIGUSR1, read_in_handler);
        let mut reader = reader(self.domain);
        let cell = reader.cell();
        self.spawn(move |torture, dice| {
            INTERRUPTED.set(Some((torture, cell)));
            for _ in 0..20 {
                torture.read(&reader, raise_once);
                match dice.roll(3) {
                    0 => reader.quiescent_state(),
                    1 => raise_once(),
                    _ => {
                        reader.offline();
                        raise_once();
                        reader.online();
                    }
                }
            }
            INTERRUPTED.set(None);
        })
    }

    /// Ends periods all the time, as a third party that never takes a cookie.
    pub fn expediter(&'static self) -> JoinHandle<()> {
        self.spawn(|torture, _| {
            torture.domain.advance(Demand::Expedite);
            thread::yield_now();
        })
    }

    /// Asks for periods in every way all the time, as a third party.
    pub fn meddler(&'static self) -> JoinHandle<()> {
        self.spawn(|torture, dice| {
            match dice.roll(4) {
                0 => drop(torture.domain.advance(Demand::Expedite)),
                1 => drop(torture.domain.advance(Demand::Start)),
                2 => drop(torture.domain.start_poll()),
                _ => drop(torture.domain.stalled(quiescent::now_ns(), 0).count()),
            }
            thread::yield_now();
        })
    }

    /// The updater, in the calling thread. `wait` is called after every removal, to return when a
    /// grace period has passed; or at once, to see the scheme fail. After `pipe` of them an element
    /// is used again, at once: 1 leaves no other synchronisation than the grace period's own.
    pub fn update(&self, duration: Duration, pipe: u32, wait: impl Fn(&Domain, u64)) {
        let mut dice = Dice(42);
        let current = self.current.load(Relaxed);
        let mut free: Vec<usize> = (0..ELEMENTS).filter(|&element| element != current).collect();
        let mut removed: Vec<usize> = Vec::new();
        let began = Instant::now();
        for round in 1_u64.. {
            if began.elapsed() >= duration {
                break;
            }
            let fresh = free.pop().expect("at most PIPE elements wait");
            self.elements[fresh].write(round);
            self.elements[fresh].pipe_count.store(0, Release);
            let old = self.current.swap(fresh, AcqRel);
            self.elements[old].pipe_count.store(1, Release);
            removed.push(old);
            wait(self.domain, dice.roll(5));
            removed.retain(|&element| {
                if self.elements[element].pipe_count.fetch_add(1, AcqRel) < pipe {
                    return true;
                }
                free.push(element);
                false
            });
            self.updates.fetch_add(1, Relaxed);
        }
        // What is still in the pipe is free before anybody calls this again.
        for _ in 0..2 * usize::from(!removed.is_empty()) {
            wait(self.domain, 4);
        }
    }

    /// Ends the threads and says what they saw: (reads, updates, errors).
    pub fn finish(&self, threads: Vec<JoinHandle<()>>) -> (u64, u64, u64) {
        self.stop.store(true, Relaxed);
        for thread in threads {
            thread.join().expect("no panic");
        }
        (self.reads.load(Relaxed), self.updates.load(Relaxed), self.errors.load(Relaxed))
    }
}

/// One of the five ways to wait for a grace period.
pub fn wait_somehow(domain: &Domain, way: u64) {
    let until = |cookie, demand| {
        let began = Instant::now();
        while !domain.poll(cookie) {
            // Passive periods cannot outlast readers that sleep: hurry up after a while.
            let late = began.elapsed() > Duration::from_millis(2);
            domain.advance(if late { Demand::Expedite } else { demand });
            thread::yield_now();
        }
    };
    match way {
        0 => until(domain.snapshot(), Demand::Start),
        1 => until(domain.start_poll(), Demand::None),
        2 => until(domain.snapshot(), Demand::Expedite),
        3 => domain.synchronize(None),
        _ => domain.synchronize_expedited(None),
    }
}

/// Does not wait: what the scheme must find out.
pub fn ignore_the_cookie(domain: &Domain, _way: u64) {
    let _ = domain.start_poll();
}
