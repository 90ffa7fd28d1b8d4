//! The threads of a phase. Each runs until the phase's `stop` is set.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::flavor::{Flavor, Reader};
use crate::pool::{Dwell, Pool, Tally, Writer};

/// What the threads of a phase share.
pub struct Stage<'r, F> {
    /// What is tortured.
    pub flavor: &'r F,
    /// On what.
    pub pool: &'r Pool,
    /// The end of the phase.
    pub stop: &'r AtomicBool,
}

impl<F> Clone for Stage<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F> Copy for Stage<'_, F> {}

impl<F: Flavor> Stage<'_, F> {
    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    // ---- readers ----

    /// Section after section; never announces of its own accord.
    pub fn tight(self, mut dice: Dice) {
        let (reader, mut tally) = (self.flavor.join(), Tally::new(self.pool));
        while self.goes_on() {
            for _ in 0..dice.roll(2000) {
                self.pool.read(self.flavor, &reader, &mut tally, Dwell::None);
            }
            self.pool.read(self.flavor, &reader, &mut tally, Dwell::mixed(&mut dice));
        }
    }

    /// The same, behind stores to memory that no cache holds: they leave the processor's store buffer in
    /// order, so the store that opens the section waits behind them, while its loads do not. A scan without a
    /// barrier in every thread does not see such a section.
    pub fn loaded(self, mut dice: Dice) {
        let (reader, mut tally) = (self.flavor.join(), Tally::new(self.pool));
        let memory = self.pool.cold_memory();
        let lines = memory.len() as u64 / 8;
        while self.goes_on() {
            for _ in 0..64 {
                for _ in 0..dice.roll(10) {
                    memory[dice.roll(lines) as usize * 8].store(1, Relaxed);
                }
                let dwell = Dwell::Spin(dice.roll(100));
                self.pool.read(self.flavor, &reader, &mut tally, dwell);
            }
        }
    }

    /// Announces between sections, so that periods end without anybody asking.
    pub fn announcing(self, mut dice: Dice) {
        let (reader, mut tally) = (self.flavor.join(), Tally::new(self.pool));
        while self.goes_on() {
            for _ in 0..dice.roll(10) {
                self.pool.read(self.flavor, &reader, &mut tally, Dwell::mixed(&mut dice));
            }
            reader.quiescent();
        }
    }

    /// Sleeps inside sections, between them, online and offline; nests.
    pub fn sleepy(self, mut dice: Dice) {
        let (reader, mut tally) = (self.flavor.join(), Tally::new(self.pool));
        while self.goes_on() {
            let nap = Dwell::Sleep(dice.roll(300));
            match dice.roll(5) {
                0 => self.pool.read(self.flavor, &reader, &mut tally, nap),
                1 => {
                    reader.lock();
                    self.pool.read(self.flavor, &reader, &mut tally, nap);
                    reader.unlock();
                }
                2 => std::thread::sleep(Duration::from_micros(dice.roll(300))),
                3 => {
                    reader.offline();
                    std::thread::sleep(Duration::from_micros(dice.roll(300)));
                    reader.online();
                }
                _ => reader.quiescent(),
            }
            for _ in 0..dice.roll(50) {
                self.pool.read(self.flavor, &reader, &mut tally, Dwell::mixed(&mut dice));
            }
        }
    }

    /// Reads, and is interrupted by a handler that reads as well.
    pub fn interrupted(self, mut dice: Dice) {
        install::<F>();
        let (reader, mut tally) = (self.flavor.join(), Tally::new(self.pool));
        INTERRUPTED.set((core::ptr::from_ref(self.pool) as usize, reader.handle()));
        while self.goes_on() {
            for _ in 0..20 {
                // SAFETY: `install` has set the handler; it finds this thread's reader.
                unsafe { libc::raise(libc::SIGUSR1) };
                reader.lock();
                self.pool.read(self.flavor, &reader, &mut tally, Dwell::mixed(&mut dice));
                // SAFETY: as above, inside a section.
                unsafe { libc::raise(libc::SIGUSR1) };
                reader.unlock();
            }
            if dice.once_in(4) {
                reader.offline();
                // SAFETY: as above, while offline.
                unsafe { libc::raise(libc::SIGUSR1) };
                reader.online();
            } else {
                reader.quiescent();
            }
        }
        INTERRUPTED.set((0, 0));
    }

    /// Starts threads that read a little and end, one after the other.
    pub fn comers(self, mut dice: Dice) {
        while self.goes_on() {
            let mut own = Dice::new(dice.roll(u64::MAX), 1);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (reader, mut tally) = (self.flavor.join(), Tally::new(self.pool));
                    for _ in 0..own.roll(300) {
                        self.pool.read(self.flavor, &reader, &mut tally, Dwell::mixed(&mut own));
                    }
                });
            });
            self.pool.counts.comers.fetch_add(1, Relaxed);
        }
    }

    // ---- writers ----

    /// The writer: replaces, waits in one of many ways, moves the pipe on.
    /// `hasty`: always in the quickest.
    pub fn writer(self, writer: &mut Writer, hasty: bool, mut dice: Dice) {
        let reader = self.flavor.join();
        while self.goes_on() {
            let way = if hasty { WAYS - 1 } else { dice.roll(WAYS) };
            writer.round(self.pool, self.flavor, |flavor| wait(flavor, Some(&reader), way));
            if !hasty && dice.once_in(64) {
                reader.offline();
                std::thread::sleep(Duration::from_micros(dice.roll(200)));
                reader.online();
            }
        }
    }

    /// Asks for grace periods in every way, and replaces nothing. Also checks that what has elapsed stays so.
    pub fn fake_writer(self, mut dice: Dice) {
        let reader = self.flavor.join();
        while self.goes_on() {
            let cookie = self.flavor.start_poll();
            match dice.roll(3) {
                0 => self.flavor.push(dice.once_in(2)),
                1 => std::thread::sleep(Duration::from_micros(dice.roll(100))),
                _ => {}
            }
            wait(self.flavor, Some(&reader), dice.roll(WAYS));
            // A whole period behind the cookie: it must have elapsed.
            if !self.flavor.poll(cookie) {
                self.pool.counts.cookie_errors.fetch_add(1, Relaxed);
            }
            self.pool.counts.fake_writes.fetch_add(1, Relaxed);
        }
    }

    // ---- stalls and forks ----

    /// Stays in a section much longer than a period takes: no period may end that began inside.
    pub fn stall(self, mut dice: Dice) {
        let reader = self.flavor.join();
        while self.goes_on() {
            reader.lock();
            let cookie = self.flavor.start_poll();
            let began = Instant::now();
            let length = Duration::from_millis(30 + dice.roll(70));
            let mut reported = false;
            while began.elapsed() < length {
                self.flavor.push(true);
                std::thread::sleep(Duration::from_millis(5));
                reported |= self.flavor.stalled().is_some_and(|readers| readers > 0);
            }
            let early = self.flavor.poll(cookie);
            reader.unlock();
            self.pool.counts.stalls.fetch_add(1, Relaxed);
            self.pool.counts.stalls_reported.fetch_add(u64::from(reported), Relaxed);
            self.pool.counts.stall_errors.fetch_add(u64::from(early), Relaxed);
            reader.quiescent();
            std::thread::sleep(Duration::from_millis(dice.roll(20)));
        }
    }

    /// Forks; the child reads, waits for periods alone, and says by its exit status whether all was well.
    pub fn forks(self, mut dice: Dice) {
        let reader = self.flavor.join();
        while self.goes_on() {
            let in_section = dice.once_in(2);
            if in_section {
                reader.lock();
            }
            // SAFETY: the child uses the flavor, malloc (which glibc and our library make usable) and _exit.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let good = self.child(&reader, in_section);
                // SAFETY: no preconditions.
                unsafe { libc::_exit(i32::from(!good)) };
            }
            if in_section {
                reader.unlock();
            }
            let good = pid > 0 && ended_well(pid);
            self.pool.counts.forks.fetch_add(1, Relaxed);
            self.pool.counts.fork_errors.fetch_add(u64::from(!good), Relaxed);
            reader.quiescent();
            std::thread::sleep(Duration::from_millis(1 + dice.roll(10)));
        }
    }

    fn child(self, reader: &F::Reader, in_section: bool) -> bool {
        // SAFETY: a period that does not end becomes a failure that the parent sees.
        unsafe { libc::alarm(10) };
        self.flavor.after_fork(reader);
        let mut good = true;
        if in_section {
            // The section that was open at the fork is open here, too.
            let cookie = self.flavor.start_poll();
            self.flavor.push(true);
            good &= !self.flavor.poll(cookie);
            reader.unlock();
        }
        for way in 0..WAYS {
            reader.lock();
            let cookie = self.flavor.start_poll();
            self.flavor.push(true);
            good &= !self.flavor.poll(cookie);
            reader.unlock();
            wait(self.flavor, Some(reader), way);
            good &= self.flavor.poll(cookie);
        }
        good
    }
}

/// Ways to wait for a grace period.
pub const WAYS: u64 = 8;

/// One of them. Whatever the way, a whole period has passed when it returns.
pub fn wait<F: Flavor>(flavor: &F, reader: Option<&F::Reader>, way: u64) {
    let until = |expedite: bool| {
        let cookie = flavor.start_poll();
        let began = Instant::now();
        while !flavor.poll(cookie) {
            // The waiting thread must not be waited for; readers that sleep do not announce.
            if let Some(reader) = reader {
                reader.quiescent();
            }
            let late = began.elapsed() > Duration::from_millis(2);
            if late && F::HEAP {
                return flavor.cond_synchronize(cookie, reader, true);
            }
            flavor.push(expedite || late);
            if !expedite {
                std::thread::yield_now();
            }
        }
    };
    match way {
        0 => flavor.synchronize(reader, false),
        1 => flavor.synchronize(reader, true),
        2 => flavor.cond_synchronize(flavor.start_poll(), reader, false),
        3 => flavor.cond_synchronize(flavor.start_poll(), reader, true),
        4 => until(false),
        5 => {
            if let Some(reader) = reader {
                reader.offline();
            }
            flavor.through_a_page();
            if let Some(reader) = reader {
                reader.online();
            }
        }
        // Twice, for it is where most races are.
        _ => until(true),
    }
}

fn ended_well(pid: i32) -> bool {
    let mut status = -1;
    loop {
        // SAFETY: writes one int; `pid` is a child that nobody else waits for.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if waited == pid {
            return status == 0;
        }
        if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return false;
        }
    }
}

// ---- the handler ----

thread_local! {
    /// The pool's address and the reader's handle; 0 where nobody is interrupted.
    static INTERRUPTED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

extern "C" fn read_in_handler<F: Flavor>(_: i32) {
    let (pool, handle) = INTERRUPTED.get();
    if pool == 0 {
        return;
    }
    // SAFETY: both live until `INTERRUPTED` is reset, and the reader is this thread's.
    unsafe {
        let pool = &*(pool as *const Pool);
        F::Reader::with_handle(handle, |reader| pool.read_in_handler::<F>(reader));
    }
}

fn install<F: Flavor>() {
    let handler: extern "C" fn(i32) = read_in_handler::<F>;
    // SAFETY: an all-zero sigaction is a valid one, and the handler has the type that no flags ask for.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGUSR1, &raw const action, core::ptr::null_mut());
    }
}
