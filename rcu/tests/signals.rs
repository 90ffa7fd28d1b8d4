//! Sections in signal handlers, by storm: handlers that lock and unlock, raised by the thread itself and
//! sent by others, over millions of sections. (`stepping.rs` covers the instructions one by one.)
#![cfg(not(loom))]

mod common;

use std::cell::Cell;
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use rcu::{Domain, Reader, ReaderCell};

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

/// Enough of a storm; a sender that shares a processor with its target takes its time.
fn enough(began: Instant, signals: u32) -> bool {
    HANDLED.get() >= signals && began.elapsed() > Duration::from_millis(200)
        || began.elapsed() > Duration::from_secs(5)
}

/// Runs `body` in a thread that is sent signals as fast as they go.
fn under_fire(body: impl FnOnce() + Send + 'static) {
    on_signal(libc::SIGUSR2, section_in_handler);
    let done = Arc::new(AtomicBool::new(false));
    let told = done.clone();
    let target = thread::spawn(move || {
        body();
        CELL.set(None);
        told.store(true, Relaxed);
        assert!(HANDLED.get() > 100, "{} signals", HANDLED.get());
    });
    while !done.load(Relaxed) {
        // SAFETY: the thread has not been joined, so its id is valid.
        unsafe { libc::pthread_kill(target.as_pthread_t(), libc::SIGUSR2) };
        // Leave the target time to do something of its own.
        for _ in 0..300 {
            std::hint::spin_loop();
        }
    }
    target.join().expect("no panic");
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
        let reader = interrupted_reader(domain);
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
            let cell: &'static ReaderCell = leak(ReaderCell::new());
            let began = Instant::now();
            while !enough(began, 300) {
                let reader = register(domain, cell);
                CELL.set(Some(cell));
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
                let reader = interrupted_reader(domain);
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
