//! The figures for who looks at the process from outside (`RCUMALLOC_WATCH`): pages of the process that are
//! found by their name in `/proc/PID/maps` and read as a debugger reads.
//!
//! They hold what `release::report` writes anyway: the figures as JSON and for Prometheus, and who stalls.
//! A head of words says where. One word of it is a sequence: odd while the pages are written, so that a
//! reader knows whether what it has copied belongs together. Written by
//!
//! - slow paths, at most once in [`PUBLISH_MS`], and the watcher where there is one; or
//! - the handler of a signal of the user's choice, in whatever thread the kernel picks: then the figures are
//!   of that moment, and nothing is done while nobody asks.
//!
//! Who comes while another is at it goes away: a lock that is only tried guards the pages. They are the
//! process's own. A child of a fork has a copy, says its own number in it as soon as it writes, and until
//! then a reader sees that what stands there is its parent's. No descriptor stays open, and nothing is
//! written to a disk.

use crate::constants::{PUBLISH_MS, WATCH_BYTES};
use crate::os::line::Line;
use crate::os::lock::Lock;
use crate::os::sink::{Memory, Sink};
use crate::os::syscall::Errno;
use crate::os::{clock, handler, map, tid};
use crate::release::report;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::Release, fence};

/// What the mapping is called in `/proc/PID/maps`.
const NAME: &core::ffi::CStr = c"rcumalloc-watch";
/// The first word.
const MAGIC: u64 = u64::from_le_bytes(*b"RCUWATCH");
/// The form of the head.
const VERSION: u64 = 1; // (given) by the form of the figures

/// Off.
const OFF: u32 = 0; // (given) as an encoding
/// By slow paths and the watcher.
const BY_TIME: u32 = u32::MAX;

/// [`OFF`], [`BY_TIME`], or the signal.
#[unsafe(link_section = ".data")]
static HOW: AtomicU32 = AtomicU32::new(OFF);
/// When the pages were last written, coarse clock, in milliseconds.
static LAST_MS: AtomicU32 = AtomicU32::new(0);
static PAGES: Lock<Pages> = Lock::new(Pages { head: None });

/// What the pages begin with; docs/seeing.md names the words.
#[repr(C)]
struct Head {
    magic: AtomicU64,
    version: AtomicU64,
    pid: AtomicU64,
    /// Odd: being written.
    sequence: AtomicU64,
    at_ns: AtomicU64,
    /// 0: by time.
    signal: AtomicU64,
    /// Where each text lies: bytes from the beginning of the head, and how many. None that did not fit.
    texts: [[AtomicU64; 2]; 3],
    reserved: [AtomicU64; 4],
}

/// The pages, once there are some.
struct Pages {
    head: Option<NonNull<Head>>,
}

// SAFETY: memory that stays mapped, written under the lock only.
unsafe impl Send for Pages {}

/// What `RCUMALLOC_WATCH` says: when to publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// `0`.
    Never,
    /// `1`.
    ByTime,
    /// The name or the number of a signal.
    Signal(i32),
}

/// Reads `0`, `1`, or a signal.
pub fn parse(text: &[u8]) -> Option<When> {
    match text {
        b"0" => Some(When::Never),
        b"1" => Some(When::ByTime),
        _ => handler::parse_signal(text).map(When::Signal),
    }
}

/// Begins or ends to publish. False: there is no memory for it, or somebody has a use for the signal.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn set(when: When) -> bool {
    let (how, signal) = match when {
        When::Never => {
            HOW.store(OFF, Relaxed);
            return true;
        }
        When::ByTime => (BY_TIME, 0),
        When::Signal(signal) => (signal as u32, signal),
    };
    let prepared = match PAGES.try_lock() {
        Some(mut pages) => pages.prepare(signal),
        // A handler's call has interrupted one that writes.
        None => Err(Errno::EAGAIN),
    };
    if let Err(errno) = prepared {
        complain("no pages to publish the figures in; error ", errno);
        return false;
    }
    if signal != 0
        && HOW.load(Relaxed) != how
        && let Err(errno) = handler::install(signal, answer)
    {
        complain("the signal is in use or ignored, and will not be listened to; error ", errno);
        return false;
    }
    HOW.store(how, Relaxed);
    true
}

/// When it publishes.
pub fn when() -> When {
    match HOW.load(Relaxed) {
        OFF => When::Never,
        BY_TIME => When::ByTime,
        signal => When::Signal(signal as i32),
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn complain(what: &str, errno: Errno) {
    Line::new().str("RCUMALLOC_WATCH: ").str(what).dec(errno.0 as u64).emit();
}

/// Whether slow paths and the watcher publish.
#[inline]
pub fn is_by_time() -> bool {
    HOW.load(Relaxed) == BY_TIME
}

/// Publishes if it is time; `now_ms` is the coarse clock. Slow paths, with no lock held; the watcher.
#[inline]
pub fn consider(now_ms: u32) {
    if is_by_time() && now_ms.wrapping_sub(LAST_MS.load(Relaxed)) >= PUBLISH_MS {
        publish();
    }
}

extern "C" fn answer(_: i32) {
    publish();
}

/// Writes the figures of now. Anywhere, in a signal handler, too.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn publish() {
    // Not to be had: somebody is at it, perhaps in the very frames that a handler has interrupted.
    if let Some(pages) = PAGES.try_lock() {
        LAST_MS.store(clock::now_coarse_ms(), Relaxed);
        pages.write();
    }
}

impl Pages {
    /// Sees to it that there are pages, and that they say how they are written.
    fn prepare(&mut self, signal: i32) -> Result<(), Errno> {
        let head = match self.head {
            Some(head) => head,
            None => {
                let at = map::map_named(NAME, WATCH_BYTES)?;
                NonNull::new(at as *mut Head).ok_or(Errno::ENOMEM)?
            }
        };
        self.head = Some(head);
        // SAFETY: mapped for good, and all of it is atomic words.
        let head = unsafe { head.as_ref() };
        head.signal.store(signal as u64, Relaxed);
        head.version.store(VERSION, Relaxed);
        head.pid.store(tid::pid().into(), Relaxed);
        // Last: whoever finds it finds the rest.
        head.magic.store(MAGIC, Release);
        Ok(())
    }

    // Each part by itself: together they would need the stack of all of them.
    fn write(&self) {
        let Some(at) = self.head else { return };
        // SAFETY: mapped for good, and all of it is atomic words.
        let head = unsafe { at.as_ref() };
        // Left odd by one whose frames are gone, it is odd all the same.
        let odd = head.sequence.load(Relaxed) | 1;
        head.sequence.store(odd, Relaxed);
        // Between the sequence and what it guards; a reader in another process reads the sequence before and
        // behind its copy, by calls that the kernel orders.
        fence(Release);
        head.pid.store(tid::pid().into(), Relaxed);
        head.at_ns.store(clock::now_ns(), Relaxed);
        let mut from = size_of::<Head>();
        for (place, write) in head.texts.iter().zip([figures, stalls, samples]) {
            let len = fill(at, from, write);
            place[0].store(from as u64, Relaxed);
            place[1].store(len as u64, Relaxed);
            from += len;
        }
        // Release: pairs with nothing of ours; what was written is visible before the word is even.
        head.sequence.store(odd + 1, Release);
    }
}

/// Writes a text at `from`. Bytes of it; 0 if it did not fit.
#[inline(never)]
fn fill(head: NonNull<Head>, from: usize, write: fn(Sink<'_>)) -> usize {
    // SAFETY: inside the mapping, and the lock keeps others out.
    let memory = unsafe { Memory::new(head.as_ptr().cast::<u8>().add(from), WATCH_BYTES - from) };
    write(Sink::Memory(&memory));
    if memory.is_whole() { memory.written() } else { 0 }
}

fn figures(to: Sink<'_>) {
    report::write(to, b"json");
}

fn stalls(to: Sink<'_>) {
    report::write_stalls(to, b"json");
}

fn samples(to: Sink<'_>) {
    report::write(to, b"prometheus");
}

/// Who was writing is not here; the next one writes all of it anew.
pub fn after_fork_in_child() {
    PAGES.settle_in_child(|_| {});
}

/// The calling thread was writing in a frame that is gone.
pub fn let_go_of_own() {
    PAGES.let_go_of_own(|_| {});
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(parse(b"0"), Some(When::Never));
        assert_eq!(parse(b"1"), Some(When::ByTime));
        assert_eq!(parse(b"USR2"), Some(When::Signal(libc::SIGUSR2)));
        assert_eq!(parse(b"40"), Some(When::Signal(40)));
        for bad in [&b""[..], b"on", b"KILL", b"9", b"USR1,USR2"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    fn texts(head: &Head) -> Vec<String> {
        let at = core::ptr::from_ref(head).cast::<u8>();
        let text = |[from, len]: &[AtomicU64; 2]| {
            let (from, len) = (from.load(Relaxed) as usize, len.load(Relaxed) as usize);
            // SAFETY: inside the mapping, which nobody writes now.
            let bytes = unsafe { std::slice::from_raw_parts(at.add(from), len) };
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        head.texts.iter().map(text).collect()
    }

    /// Every class has slabs, so every text is as long as it gets but for the length of its numbers.
    #[test]
    fn everything_fits() {
        crate::own_process::in_own_process!();
        assert!(crate::front::start::process());
        for class in crate::class::size_class::Class::all() {
            let slow = crate::front::malloc::malloc_slow;
            // SAFETY: any size may be asked for.
            let block = unsafe { crate::cache::table::malloc(class.size(), slow) };
            assert!(!block.is_null());
        }
        assert!(set(When::ByTime));
        publish();
        let pages = PAGES.lock();
        // SAFETY: mapped for good.
        let head = unsafe { pages.head.unwrap().as_ref() };
        assert_eq!(head.sequence.load(Relaxed), 2);
        let texts = texts(head);
        assert!(texts[0].starts_with('{') && texts[0].ends_with("}\n"), "{}", texts[0]);
        assert_eq!(texts[1], "[]\n");
        assert!(texts[2].contains("rcumalloc_live_bytes "), "{}", texts[2]);
        let len: usize = texts.iter().map(String::len).sum();
        // Of the numbers, 19 of 20 digits may be missing, of which there are two a line at most.
        let lines: usize = texts.iter().map(|text| text.lines().count()).sum();
        assert!(len + lines * 40 < WATCH_BYTES, "{len} bytes in {lines} lines");
    }
}
