//! What is tortured, behind one trait: the engine linked in, or the preloaded library's C interface.

use core::ffi::{CStr, c_void};
use core::mem::ManuallyDrop;
use rcu::{Demand, Domain, PageOfPointers, ReaderBlock, ReaderCell, ReaderWord};
use std::ptr::NonNull;

/// Grace periods to torture.
pub trait Flavor: Sized + Send + Sync + 'static {
    /// A thread that reads; made and dropped by that thread.
    type Reader: Reader;
    /// Whether malloc and free belong to it.
    const HEAP: bool;
    /// As the report names it.
    const NAME: &'static str;

    /// Starts it.
    ///
    /// # Errors
    /// One line: why it cannot run.
    fn start() -> Result<Self, String>;
    /// The calling thread becomes a reader.
    fn join(&self) -> Self::Reader;
    /// A cookie, and the promise that its period will start.
    fn start_poll(&self) -> u64;
    /// Whether it has elapsed.
    fn poll(&self, cookie: u64) -> bool;
    /// Moves periods along, or ends them now.
    fn push(&self, expedite: bool);
    /// Waits for a period. The reader is the calling thread's.
    fn synchronize(&self, reader: Option<&Self::Reader>, expedited: bool);
    /// Waits for a cookie.
    fn cond_synchronize(&self, cookie: u64, reader: Option<&Self::Reader>, expedited: bool);
    /// One period through a page of pointers, where there is one.
    fn through_a_page(&self) {
        self.synchronize(None, true);
    }
    /// First thing in the child of a fork.
    fn after_fork(&self, survivor: &Self::Reader);
    /// Readers that hold a period up, where the flavor says.
    fn stalled(&self) -> Option<usize> {
        None
    }
    /// Grace periods since the start, where it says.
    fn completed(&self) -> Option<u64> {
        None
    }
}

/// A thread that reads.
pub trait Reader {
    /// Opens a section.
    fn lock(&self);
    /// Ends it.
    fn unlock(&self);
    /// Announces a quiescent state.
    fn quiescent(&self);
    /// Goes offline.
    fn offline(&self);
    /// Comes online.
    fn online(&self);
    /// An address by which a signal handler of the same thread can find the reader again.
    fn handle(&self) -> usize;
    /// Runs `section` in the reader that `handle` gave, in a handler of that thread.
    ///
    /// # Safety
    /// The reader is alive and the calling thread's.
    unsafe fn with_handle(handle: usize, section: impl FnOnce(&Self));
}

// ---- the engine ----

static DOMAIN: Domain = Domain::new(0x74);
/// Two blocks, so that scans cross from one to the other; more room than there are threads.
static CELLS: [ReaderCell; 1026] = [const { ReaderCell::new() }; 1026];
static WORDS: [ReaderWord; 33] = [const { ReaderWord::new() }; 33];
static FEW: ReaderBlock = ReaderBlock::new(WORDS.split_at(1).0, CELLS.split_at(2).0);
static MANY: ReaderBlock = ReaderBlock::new(WORDS.split_at(1).1, CELLS.split_at(2).1);

/// The crate `rcu`.
pub struct Engine;

/// A registered reader.
pub struct EngineReader(Option<rcu::Reader>);

impl EngineReader {
    #[inline(always)]
    fn own(&self) -> &rcu::Reader {
        let Some(reader) = &self.0 else { unreachable!("taken in drop only") };
        reader
    }

    /// A handle that who waits, or goes offline, has alone: a flavor's reader is shared.
    fn to_wait(&self) -> ManuallyDrop<rcu::Reader> {
        // SAFETY: of the calling thread, whose reader this is, and which does not end it meanwhile.
        unsafe { rcu::Reader::borrow_cell(self.own().cell()) }
    }
}

impl Reader for EngineReader {
    #[inline(always)]
    fn lock(&self) {
        self.own().lock();
    }
    #[inline(always)]
    fn unlock(&self) {
        // SAFETY: the section is one that `lock` opened: nobody takes guards here.
        unsafe { self.own().unlock() };
    }
    fn quiescent(&self) {
        self.own().quiescent_state();
    }
    fn offline(&self) {
        self.to_wait().offline();
    }
    fn online(&self) {
        self.own().online();
    }
    fn handle(&self) -> usize {
        core::ptr::from_ref(self.own().cell()) as usize
    }
    unsafe fn with_handle(handle: usize, section: impl FnOnce(&Self)) {
        // SAFETY: `handle` is the address of a `&'static ReaderCell`; the caller owns its reader.
        let reader = unsafe { rcu::Reader::borrow_cell(&*(handle as *const ReaderCell)) };
        let borrowed = ManuallyDrop::new(EngineReader(Some(ManuallyDrop::into_inner(reader))));
        section(&borrowed);
    }
}

impl Drop for EngineReader {
    fn drop(&mut self) {
        if let Some(reader) = self.0.take() {
            reader.exit();
        }
    }
}

impl Flavor for Engine {
    type Reader = EngineReader;
    const HEAP: bool = false;
    const NAME: &'static str = "engine";

    fn start() -> Result<Self, String> {
        DOMAIN.init();
        DOMAIN.add_block(&FEW);
        DOMAIN.add_block(&MANY);
        Ok(Engine)
    }

    fn join(&self) -> EngineReader {
        EngineReader(Some(DOMAIN.register(0).expect("there is room for a thousand threads")))
    }

    fn start_poll(&self) -> u64 {
        DOMAIN.start_poll().to_bits()
    }

    fn poll(&self, cookie: u64) -> bool {
        DOMAIN.poll(rcu::Cookie::from_bits(cookie))
    }

    fn push(&self, expedite: bool) {
        DOMAIN.advance(if expedite { Demand::Expedite } else { Demand::Start });
    }

    fn synchronize(&self, reader: Option<&EngineReader>, expedited: bool) {
        let mut reader = reader.map(EngineReader::to_wait);
        let reader = reader.as_deref_mut();
        if expedited { DOMAIN.synchronize_expedited(reader) } else { DOMAIN.synchronize(reader) }
    }

    fn cond_synchronize(&self, cookie: u64, reader: Option<&EngineReader>, expedited: bool) {
        let mut reader = reader.map(EngineReader::to_wait);
        let (cookie, reader) = (rcu::Cookie::from_bits(cookie), reader.as_deref_mut());
        if expedited {
            DOMAIN.cond_synchronize_expedited(cookie, reader);
        } else {
            DOMAIN.cond_synchronize(cookie, reader);
        }
    }

    fn through_a_page(&self) {
        let mut memory = [core::ptr::null_mut::<u64>(); 2];
        // SAFETY: the array outlives the page, which is opened below.
        let mut page: PageOfPointers<u64> =
            unsafe { PageOfPointers::from_raw(NonNull::from(&mut memory).cast(), 2, 0) };
        page.push(core::ptr::dangling_mut()).expect("room");
        let batch = page.close_and_start(&DOMAIN);
        while !batch.elapsed(&DOMAIN) {
            DOMAIN.advance(Demand::Expedite);
            std::thread::yield_now();
        }
        batch.open(&DOMAIN).expect("elapsed");
    }

    fn after_fork(&self, survivor: &EngineReader) {
        // SAFETY: called in the child's only thread; the other threads' readers are not used there.
        unsafe { DOMAIN.after_fork_in_child(Some(survivor.own())) };
    }

    fn stalled(&self) -> Option<usize> {
        Some(DOMAIN.stalled(rcu::now_ns(), 10_000_000).count())
    }

    fn completed(&self) -> Option<u64> {
        Some(DOMAIN.counters().completed)
    }
}

// ---- the preloaded library ----

type Plain = extern "C" fn();

/// librcumalloc.so through `rcumalloc.h`. Every thread is a reader of it already.
#[derive(Clone, Copy)]
pub struct Preload {
    read_lock: Plain,
    read_unlock: Plain,
    quiescent_state: Plain,
    thread_offline: Plain,
    thread_online: Plain,
    start_poll: extern "C" fn() -> u64,
    poll: extern "C" fn(u64) -> bool,
    cond_synchronize: extern "C" fn(u64),
    cond_synchronize_expedited: extern "C" fn(u64),
    synchronize: Plain,
    synchronize_expedited: Plain,
    barrier: Plain,
}

fn symbol(name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: a string; the default scope.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if found.is_null() {
        return Err(format!("librcumalloc.so is not preloaded: no {}", name.to_string_lossy()));
    }
    Ok(found)
}

impl Flavor for Preload {
    type Reader = Preload;
    const HEAP: bool = true;
    const NAME: &'static str = "preload";

    fn start() -> Result<Self, String> {
        // SAFETY: the types are those of the header; `rcumalloc_cookie` is one word.
        unsafe {
            let plain = |name| symbol(name).map(|found| core::mem::transmute::<*mut c_void, Plain>(found));
            let waits = |name| {
                symbol(name).map(|found| core::mem::transmute::<*mut c_void, extern "C" fn(u64)>(found))
            };
            Ok(Preload {
                read_lock: plain(c"rcumalloc_read_lock")?,
                read_unlock: plain(c"rcumalloc_read_unlock")?,
                quiescent_state: plain(c"rcumalloc_quiescent_state")?,
                thread_offline: plain(c"rcumalloc_thread_offline")?,
                thread_online: plain(c"rcumalloc_thread_online")?,
                start_poll: core::mem::transmute::<*mut c_void, extern "C" fn() -> u64>(symbol(
                    c"rcumalloc_start_poll",
                )?),
                poll: core::mem::transmute::<*mut c_void, extern "C" fn(u64) -> bool>(symbol(
                    c"rcumalloc_poll",
                )?),
                cond_synchronize: waits(c"rcumalloc_cond_synchronize")?,
                cond_synchronize_expedited: waits(c"rcumalloc_cond_synchronize_expedited")?,
                synchronize: plain(c"rcumalloc_synchronize")?,
                synchronize_expedited: plain(c"rcumalloc_synchronize_expedited")?,
                barrier: plain(c"rcumalloc_barrier")?,
            })
        }
    }

    fn join(&self) -> Preload {
        *self
    }

    fn start_poll(&self) -> u64 {
        (self.start_poll)()
    }

    fn poll(&self, cookie: u64) -> bool {
        (self.poll)(cookie)
    }

    fn push(&self, expedite: bool) {
        let cookie = (self.start_poll)();
        if !expedite {
            (self.poll)(cookie);
        }
    }

    fn synchronize(&self, _: Option<&Preload>, expedited: bool) {
        if expedited { (self.synchronize_expedited)() } else { (self.synchronize)() }
    }

    fn cond_synchronize(&self, cookie: u64, _: Option<&Preload>, expedited: bool) {
        if expedited { (self.cond_synchronize_expedited)(cookie) } else { (self.cond_synchronize)(cookie) }
    }

    fn through_a_page(&self) {
        (self.barrier)();
    }

    fn after_fork(&self, _: &Preload) {}
}

impl Reader for Preload {
    #[inline(always)]
    fn lock(&self) {
        (self.read_lock)();
    }
    #[inline(always)]
    fn unlock(&self) {
        (self.read_unlock)();
    }
    fn quiescent(&self) {
        (self.quiescent_state)();
    }
    fn offline(&self) {
        (self.thread_offline)();
    }
    fn online(&self) {
        (self.thread_online)();
    }
    fn handle(&self) -> usize {
        core::ptr::from_ref(self) as usize
    }
    unsafe fn with_handle(handle: usize, section: impl FnOnce(&Self)) {
        // SAFETY: `handle` is the address of the reader, which the caller keeps alive.
        section(unsafe { &*(handle as *const Preload) });
    }
}
