//! Sections in signal handlers, by storm: handlers that lock and unlock, raised by the thread itself and
//! sent by a timer, over millions of sections. (`stepping.rs` covers the instructions one by one.)
#![cfg(not(loom))]

mod common;

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use quiescent::{Domain, Reader, ReaderCell};

thread_local! {
    static CELL: Cell<Option<&'static ReaderCell>> = const { Cell::new(None) };
    static HANDLED: Cell<u32> = const { Cell::new(0) };
    static DEEPEST: Cell<u32> = const { Cell::new(0) };
}

extern "C" fn section_in_handler(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let Some(cell) = CELL.get() else { return };
    // SAFETY: the interrupted thread owns the cell.
    let reader = unsafe { Reader::borrow_cell(cell) };
    let _section = reader.read_lock();
    DEEPEST.set(DEEPEST.get().max(reader.nesting()));
    HANDLED.set(HANDLED.get() + 1);
}

fn raise() {
    // SAFETY: every test here has installed the handler.
    unsafe { libc::raise(libc::SIGUSR2) };
}

/// A reader of this thread's, known to its signal handlers.
fn interrupted_reader(domain: &'static Domain) -> Reader {
    on_signal(libc::SIGUSR2, section_in_handler);
    let reader = reader(domain);
    CELL.set(Some(reader.cell()));
    reader
}

/// Runs `body` in a thread that a timer interrupts all the time, until it says so.
fn under_fire(body: impl FnOnce() + Send + 'static) {
    on_signal(libc::SIGUSR2, section_in_handler);
    let target = thread::spawn(move || {
        let timer = Timer::every(Duration::from_micros(60));
        body();
        CELL.set(None);
        drop(timer);
        assert!(HANDLED.get() > 100, "{} signals", HANDLED.get());
    });
    target.join().expect("no panic");
}

/// A timer that sends SIGUSR2 to the calling thread.
struct Timer(libc::timer_t);

impl Timer {
    fn every(interval: Duration) -> Timer {
        let interval = libc::timespec { tv_sec: 0, tv_nsec: interval.as_nanos() as i64 };
        let times = libc::itimerspec { it_interval: interval, it_value: interval };
        // SAFETY: an all-zero sigevent is a valid one, and all pointers are to locals.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGUSR2;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = std::ptr::null_mut();
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer), 0);
            assert_eq!(libc::timer_settime(timer, 0, &raw const times, std::ptr::null_mut()), 0);
            Timer(timer)
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: created by `every`, deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Enough of a storm for this test.
fn enough(began: Instant, signals: u32) -> bool {
    HANDLED.get() >= signals && began.elapsed() > Duration::from_millis(200)
}

in_both_modes! {
    fn a_handlers_section_nests_in_the_interrupted_one(domain) {
        let reader = interrupted_reader(domain);
        let section = reader.read_lock();
        raise();
        assert_eq!((reader.nesting(), DEEPEST.get()), (1, 2));
        assert!(held_up(domain));
        drop(section);
        assert!(!held_up(domain));
    }

    fn the_first_lock_of_a_thread_may_be_its_handlers(domain) {
        let reader = interrupted_reader(domain);
        raise();
        assert!(reader.is_explicit());
        assert_eq!((reader.nesting(), DEEPEST.get()), (0, 1));
        let _section = reader.read_lock();
        assert!(held_up(domain));
    }

    fn a_handlers_section_of_an_offline_thread_goes_back_offline(domain) {
        let mut reader = interrupted_reader(domain);
        reader.offline();
        raise();
        assert!(reader.is_offline());
        assert!(!held_up(domain));
    }

    fn an_announcement_in_a_handler_is_none_for_the_interrupted_section(domain) {
        extern "C" fn announce(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
            if let Some(cell) = CELL.get() {
                // SAFETY: the interrupted thread owns the cell.
                unsafe { Reader::borrow_cell(cell) }.quiescent_state();
            }
        }
        let reader = interrupted_reader(domain);
        on_signal(libc::SIGURG, announce);
        let _section = reader.read_lock();
        let cookie = domain.start_poll();
        // SAFETY: the handler was installed just now.
        unsafe { libc::raise(libc::SIGURG) };
        assert!(!domain.poll(cookie));
    }

    fn millions_of_sections_under_fire(domain) {
        under_fire(move || {
            let reader = interrupted_reader(domain);
            let began = Instant::now();
            let mut sections = 0_u64;
            while !enough(began, 1000) {
                for _ in 0..1000 {
                    let _outer = reader.read_lock();
                    let inner = reader.read_lock();
                    drop(inner);
                    sections += 1;
                }
                assert_eq!(reader.nesting(), 0, "after {sections} sections");
                let _section = reader.read_lock();
                assert!(held_up(domain));
            }
            assert!(expedites_to_end(domain, domain.start_poll()));
        });
    }

    fn first_locks_under_fire(domain) {
        under_fire(move || {
            let began = Instant::now();
            while !enough(began, 300) {
                let reader = reader(domain);
                CELL.set(Some(reader.cell()));
                let section = reader.read_lock();
                assert_eq!(reader.nesting(), 1);
                drop(section);
                CELL.set(None); // what exits must not be interrupted by its own handler
                assert!(reader.is_explicit());
            }
        });
    }

    fn announcements_and_pauses_under_fire(domain) {
        under_fire(move || {
            let began = Instant::now();
            while !enough(began, 1000) {
                // Anew each time: what the first lock interrupts matters.
                let mut reader = interrupted_reader(domain);
                let _ = domain.start_poll();
                for _ in 0..30 {
                    reader.quiescent_state();
                    reader.offline();
                    reader.online();
                    let _section = reader.read_lock();
                    assert!(held_up(domain));
                }
                CELL.set(None);
            }
        });
    }
}
