//! The engine alone: crate `rcu` with a thread's own pages of pointers, over whatever malloc there is.
//!
//! What is freed together waits together behind one cookie, but when the cookie has elapsed every block of
//! the page is freed one by one through the allocator: the batch free that `ours` does without. So the
//! difference between this row and `ours` is what handing a magazine over whole is worth.

use super::{Dispose, Local, Scheme};
use core::ffi::c_void;
use core::ptr::NonNull;
use rcu::{Demand, Domain, PageOfPointers, Reader, ReaderBlock, ReaderCell, ReaderWord, Stamped};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Pointers in a page: a page of 4096 bytes with its header, as in the kernel.
const PAGE: usize = 507;
/// Waiting pages of one thread from which on it expedites.
const WAITING: usize = 4;

static DOMAIN: Domain = Domain::new(0x42);
/// Room for more threads than a benchmark has.
static CELLS: [ReaderCell; 1024] = [const { ReaderCell::new() }; 1024];
static WORDS: [ReaderWord; 32] = [const { ReaderWord::new() }; 32];
static BLOCK: ReaderBlock = ReaderBlock::new(&WORDS, &CELLS);
/// What threads that have left had waiting.
static LEFT: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type DisposeFn = unsafe fn(*mut c_void);

struct Waiting {
    batch: Stamped<PageOfPointers<c_void>>,
    dispose: DisposeFn,
}

// SAFETY: the batch owns its page and its blocks; nothing in it is a thread's.
unsafe impl Send for Waiting {}

/// The engine with pages of pointers.
pub struct Engine;

/// A thread: its reader, the page it fills, those that wait, and empty ones.
pub struct Thread {
    reader: Option<Reader>,
    filling: PageOfPointers<c_void>,
    dispose: DisposeFn,
    waiting: VecDeque<Waiting>,
    spare: Vec<PageOfPointers<c_void>>,
}

impl Scheme for Engine {
    const NAME: &'static str = "engine";
    const SETTING: &'static str =
        "pages of 507 pointers, one cookie each; expedites from 4 waiting pages of a thread";
    type Local<'s> = Thread;

    fn start() -> Result<Self, String> {
        DOMAIN.init();
        DOMAIN.add_block(&BLOCK);
        Ok(Engine)
    }

    fn join(&self) -> Thread {
        let reader = DOMAIN.register(0).expect("there is room for 1024 threads");
        Thread {
            reader: Some(reader),
            filling: new_page(),
            dispose: never,
            waiting: VecDeque::with_capacity(4 * WAITING),
            spare: Vec::with_capacity(4 * WAITING),
        }
    }

    fn drain(&self) {
        DOMAIN.synchronize_expedited(None);
        for waiting in core::mem::take(&mut *locked(&LEFT)) {
            drop_page(release(waiting));
        }
    }

    fn periods(&self) -> Option<u64> {
        Some(DOMAIN.counters().completed)
    }
}

unsafe fn never(_: *mut c_void) {
    unreachable!("an empty page has nothing to dispose of");
}

fn new_page() -> PageOfPointers<c_void> {
    let memory: &'static mut [*mut c_void; PAGE] = Box::leak(Box::new([core::ptr::null_mut(); PAGE]));
    // SAFETY: leaked for this page alone; given back by `drop_page`.
    unsafe { PageOfPointers::from_raw(NonNull::from(memory).cast(), PAGE as u32, 0) }
}

fn drop_page(page: PageOfPointers<c_void>) {
    let (memory, _, _) = page.into_raw();
    // SAFETY: from `new_page`.
    drop(unsafe { Box::from_raw(memory.cast::<[*mut c_void; PAGE]>().as_ptr()) });
}

/// Disposes of an elapsed batch and gives its page back.
fn release(waiting: Waiting) -> PageOfPointers<c_void> {
    let mut page = waiting.batch.open(&DOMAIN).expect("the caller has seen the cookie elapse");
    while let Some(block) = page.pop() {
        // SAFETY: its grace period has passed, and it is taken out once.
        unsafe { (waiting.dispose)(block) };
    }
    page
}

impl Thread {
    #[inline(always)]
    fn reader(&self) -> &Reader {
        let Some(reader) = &self.reader else { unreachable!("taken in drop only") };
        reader
    }

    #[cold]
    #[inline(never)]
    fn turn(&mut self) {
        self.reader().quiescent_state();
        let empty = self.spare.pop().unwrap_or_else(new_page);
        let full = core::mem::replace(&mut self.filling, empty);
        self.waiting.push_back(Waiting { batch: full.close_and_start(&DOMAIN), dispose: self.dispose });
        if self.waiting.len() > WAITING {
            DOMAIN.advance(Demand::Expedite);
        }
        while self.waiting.front().is_some_and(|oldest| oldest.batch.elapsed(&DOMAIN)) {
            let Some(oldest) = self.waiting.pop_front() else { break };
            let page = release(oldest);
            if self.spare.len() < WAITING { self.spare.push(page) } else { drop_page(page) }
        }
    }
}

impl Local for Thread {
    #[inline(always)]
    fn enter(&mut self) {
        self.reader().lock();
    }

    #[inline(always)]
    fn leave(&mut self) {
        // SAFETY: `enter` opened it: nobody takes guards here.
        unsafe { self.reader().unlock() };
    }

    #[inline(always)]
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void) {
        self.dispose = D::dispose;
        if self.filling.push(block).is_err() {
            self.turn();
            self.filling.push(block).expect("the page is empty");
        }
    }

    #[inline(always)]
    unsafe fn retire_outside<D: Dispose>(&mut self, block: *mut c_void) {
        // No section: a block that nobody found needs none to be queued.
        // SAFETY: the caller's promise.
        unsafe { self.retire::<D>(block) };
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let filling = core::mem::replace(&mut self.filling, new_page());
        self.waiting.push_back(Waiting { batch: filling.close_and_start(&DOMAIN), dispose: self.dispose });
        locked(&LEFT).extend(self.waiting.drain(..));
        for page in self.spare.drain(..) {
            drop_page(page);
        }
        drop_page(core::mem::replace(&mut self.filling, new_page()));
        if let Some(reader) = self.reader.take() {
            reader.exit();
        }
    }
}
