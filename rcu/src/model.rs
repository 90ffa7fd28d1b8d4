//! What loom does not have: a membarrier that is one, and signal handlers.
//!
//! [`spawn`] and [`JoinHandle`] stand for loom's. A thread made with them takes part in barriers: when
//! another asks for one, it executes a full fence at its next step, whatever it is doing, and the barrier
//! returns when all have. Readers' own fast paths contain no fence here, as on a real processor. Barriers may
//! fail from any call on ([`begin`]).
//!
//! A handler is a closure that the calling thread has run at a [`Point`] of the fast path ([`interrupt`]).
//!
//! All this is kept in plain atomics and thread-locals: a model runs one thread at a time, and what is
//! decided here follows from the order of steps that loom explores.

use core::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Most threads of a model.
const MOST: usize = 8;

/// Barriers asked for so far in this execution, and how many of them work.
static ASKED: AtomicUsize = AtomicUsize::new(0);
static WORKING: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Threads so far.
static THREADS: AtomicUsize = AtomicUsize::new(1);
/// The barrier that each has answered last.
static ANSWERED: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
/// Each that is not there to answer: it waits for another, or has ended; it executed a fence before.
static AWAY: [AtomicBool; MOST] = [const { AtomicBool::new(false) }; MOST];

loom::thread_local! {
    static NUMBER: Cell<usize> = Cell::new(0);
    static HANDLER: RefCell<Option<(Point, Box<dyn FnOnce()>)>> = RefCell::new(None);
}

/// At the beginning of an execution: `working` barriers work, later ones are refused.
pub fn begin(working: usize) {
    ASKED.store(0, Relaxed);
    WORKING.store(working, Relaxed);
    THREADS.store(1, Relaxed);
    ANSWERED.iter().for_each(|answered| answered.store(0, Relaxed));
    AWAY.iter().for_each(|away| away.store(false, Relaxed));
}

/// A thread of a model.
pub struct JoinHandle<T>(loom::thread::JoinHandle<T>);

impl<T> JoinHandle<T> {
    /// Waits for its end.
    ///
    /// # Errors
    /// What it panicked with.
    pub fn join(self) -> std::thread::Result<T> {
        let number = leave();
        let result = self.0.join();
        AWAY[number].store(false, Relaxed);
        result
    }
}

/// Runs `body` in a thread that takes part in barriers.
pub fn spawn<T: 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let number = THREADS.fetch_add(1, Relaxed);
    ANSWERED[number].store(ASKED.load(Relaxed), Relaxed);
    JoinHandle(loom::thread::spawn(move || {
        NUMBER.with(|own| own.set(number));
        let result = body();
        leave();
        result
    }))
}

/// The calling thread will not take a step until it comes back.
fn leave() -> usize {
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    let number = NUMBER.with(Cell::get);
    AWAY[number].store(true, Relaxed);
    number
}

/// Before each step of the calling thread: a barrier that somebody has asked for.
pub(crate) fn answer() {
    let number = NUMBER.with(Cell::get);
    let asked = ASKED.load(Relaxed);
    if ANSWERED[number].load(Relaxed) != asked {
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
        ANSWERED[number].store(asked, Relaxed);
        // Whoever asked may go on before this thread does.
        loom::thread::yield_now();
    }
}

/// membarrier: false if it is refused.
pub(crate) fn barrier() -> bool {
    let number = ASKED.fetch_add(1, Relaxed) + 1;
    if number > WORKING.load(Relaxed) {
        ASKED.fetch_sub(1, Relaxed);
        return false;
    }
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    let own = NUMBER.with(Cell::get);
    ANSWERED[own].store(ASKED.load(Relaxed), Relaxed);
    let answered = |thread: usize| AWAY[thread].load(Relaxed) || ANSWERED[thread].load(Relaxed) >= number;
    while !(0..THREADS.load(Relaxed)).all(answered) {
        loom::thread::yield_now();
        answer();
    }
    true
}

/// Where a handler comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// `lock` has incremented `nest`.
    Locking,
    /// `unlock` has decremented `nest`, and has not counted the section.
    Unlocking,
    /// `unlock_inner` has loaded `turn` and not stored it.
    Counting,
    /// `announce` has read the sequence, and has not announced it.
    Announcing,
}

/// Has `handler` run when the calling thread comes to `point` next.
pub fn interrupt(point: Point, handler: impl FnOnce() + 'static) {
    HANDLER.with(|there| *there.borrow_mut() = Some((point, Box::new(handler))));
}

/// The calling thread is at `point`.
pub(crate) fn at(point: Point) {
    let handler = HANDLER.with(|there| {
        let mut there = there.borrow_mut();
        if there.as_ref().is_some_and(|(here, _)| *here == point) { there.take() } else { None }
    });
    if let Some((_, handler)) = handler {
        handler();
    }
}
