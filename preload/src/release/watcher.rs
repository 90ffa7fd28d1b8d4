//! The watcher: a thread that gives memory back when the program has nothing to do with its heap.
//!
//! It looks at the kernel's signals of pressure and ages what is unused, also in a process whose threads
//! all sleep. There is one only where there is something for it to do and nobody it could disturb:
//!
//! - two threads of the program at least, and a heap past [`WATCH_FROM`] or one that publishes its figures.
//!   In a process that is down to one thread it ends before that thread can know: whoever leaves as the last
//!   but one waits for its end, so `unshare` and `setns` find a process with one thread
//!   (`unshare_after_start`);
//! - at home: not started by the child of a vfork, whose thread it would be, and which would take it along in
//!   the middle of a scan when it ends or calls exec;
//! - no filter on system calls but those there were when the process started (`seccomp_strict`). It
//!   looks each time it wakes, before it does anything else; between, it sleeps on a futex, the one call
//!   that no program with threads can do without;
//! - a descriptor table of its own from its first instruction, emptied before it opens anything
//!   (`close_all_fds`); numbers 0 to 2 are kept occupied by what cannot be written to;
//! - no rights: libc tells its own threads when a program gives its rights up, not this one, so it gives up
//!   its own as soon as it has opened what it needs (`os::task`);
//! - all signals blocked, no thread-local storage but its own block, a directory of its own (the root), the
//!   scheduler's ordinary policy;
//! - not under valgrind, which ends a program at such a clone.
//!
//! It does not keep a process alive: libc's last thread ends the process, and where threads end
//! without libc it finds itself alone the next time it wakes. `exec` and the end of the process end
//! it like any thread. The child of a fork has none until it has threads of its own.
//!
//! A state of words: [`Helper::tid`] says whether it is there; `STARTING` lets one thread at a time start
//! it; `LEAVE` asks it to end. It sleeps on the bell (`os::bell`), which rings for `LEAVE`, for the
//! configured signal, and when there is something to age again after there was nothing.

use crate::cache::{own, shares};
use crate::constants::{
    LONGEST_NAP_MS, MS, PUBLISH_MS, RESTART_MS, SAMPLE_MS, TIMER_SLACK_NS, WATCH_FROM, WATCHER_PATIENCE_NS,
    WATCHER_READY_NS, WORTH,
};
use crate::os::cgroup::{Group, Report};
use crate::os::helper::{self, Helper};
use crate::os::line::Line;
use crate::os::psi::{self, Psi};
use crate::os::syscall::{Errno, futex_wait_timeout, futex_wake, syscall};
use crate::os::task::{self, Status, Task};
use crate::os::tls::thread_pointer;
use crate::os::{bell, clock, home};
use crate::page::{bounds, limit, watermark};
use crate::release::shrinker::{self, Reason};
use crate::release::{decay, pressure, publish};
use core::num::NonZeroUsize;
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use once_cell::race::OnceNonZeroUsize;

static HELPER: Helper = Helper::new();
/// The thread pointer of who starts it; 0: nobody.
static STARTING: AtomicUsize = AtomicUsize::new(0);
static LEAVE: AtomicBool = AtomicBool::new(false);
/// 1: it has read what it needs, or may not stay.
static READY: AtomicU32 = AtomicU32::new(0);
/// It may not be here, for good.
#[unsafe(link_section = ".data")]
static REFUSED: AtomicBool = AtomicBool::new(false);
/// Not to be started again before, coarse clock, in milliseconds.
static NOT_BEFORE_MS: AtomicU32 = AtomicU32::new(0);
/// Filters on system calls when the process started, plus one. Nothing: it could not be found out.
#[unsafe(link_section = ".data")]
static FILTERS: OnceNonZeroUsize = OnceNonZeroUsize::new();

/// As the process starts: the call that is unusual later.
pub fn prepare() {
    if let Some(filters) = task::filters_at_start().and_then(plus_one) {
        let _ = FILTERS.set(filters);
    }
}

/// Whether there is one.
pub fn is_running() -> bool {
    HELPER.tid() != 0
}

/// Starts it if there is something for it to do. Any thread, with no lock held; `now_ms` is the coarse clock.
#[inline]
pub fn consider(now_ms: u32) {
    // What the window has ever been, or what the heap has now, ranges of their own among it.
    let heap = || bounds::horizon().max(limit::held());
    let is_worth_it = || heap() >= WATCH_FROM || publish::is_by_time();
    if !is_running() && !REFUSED.load(Relaxed) && shares::census().0 > 1 && is_worth_it() {
        start(now_ms);
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_threads")]
fn start(now_ms: u32) {
    let too_soon = now_ms.wrapping_sub(NOT_BEFORE_MS.load(Relaxed)) as i32;
    if !pressure::may_watch() || too_soon < 0 || !home::is_at_home() {
        return;
    }
    if STARTING.compare_exchange(0, thread_pointer(), Acquire, Relaxed).is_err() {
        return;
    }
    if helper::is_under_valgrind() {
        REFUSED.store(true, Relaxed);
    } else if !is_running() {
        LEAVE.store(false, Relaxed);
        READY.store(0, Relaxed);
        // SAFETY: there is none, `STARTING` keeps others out, and `run` calls what works for threads
        // that have given their cache back.
        let started = unsafe { HELPER.start(run, own::exited_table()) };
        match started {
            // A limit on threads, or memory is out: perhaps later.
            Err(Errno::EAGAIN | Errno::ENOMEM) => put_off(now_ms),
            Err(_) => REFUSED.store(true, Relaxed),
            Ok(_) => wait_until_ready(),
        }
    }
    STARTING.store(0, Release);
}

/// The calling thread was starting it in a frame that is gone.
pub fn let_go_of_own() {
    // Relaxed: what was begun is not finished by anybody; `HELPER` says whether there is one.
    let _ = STARTING.compare_exchange(thread_pointer(), 0, Relaxed, Relaxed);
}

/// A heap that grows fast must not be past the control group's limit before the watcher has read it.
fn wait_until_ready() {
    if pressure::heeds_cgroup() && !own::is_held() && READY.load(Acquire) == 0 {
        futex_wait_timeout(&READY, 0, WATCHER_READY_NS);
    }
}

fn put_off(now_ms: u32) {
    NOT_BEFORE_MS.store(now_ms.wrapping_add(RESTART_MS), Relaxed);
}

/// A thread has given its cache back. If one is left, the watcher is to be gone before that one can see
/// that it is alone, and what it would have aged is to be given.
pub fn after_thread() {
    if shares::census().0 > 1 {
        return;
    }
    if is_running() {
        LEAVE.store(true, Relaxed);
        bell::ring();
        HELPER.wait_for_end(WATCHER_PATIENCE_NS);
    }
    decay::one_is_left();
}

/// In the child of a fork: it is not here, and a child that ends soon needs none.
pub fn after_fork_in_child() {
    HELPER.forget();
    watermark::set_watched(false);
    put_off(clock::now_coarse_ms());
    bell::forget_sleeper();
    STARTING.store(0, Relaxed);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
extern "C" fn run() -> ! {
    let watch = Watch::open();
    READY.store(1, Release);
    futex_wake(&READY, 1);
    if let Some(mut watch) = watch {
        watermark::set_watched(true);
        while watch.look() {}
        watermark::set_watched(false);
    }
    put_off(clock::now_coarse_ms());
    helper::end()
}

/// What the watcher has, on its own stack.
struct Watch {
    status: Status,
    psi: Option<Psi>,
    group: Option<Group>,
    /// What could be given back when it last looked.
    count: usize,
}

impl Watch {
    /// The thread's first moments. None: it may not stay.
    fn open() -> Option<Watch> {
        // The files of the program are open here, too, until `empty_table`: nothing but this one file is
        // touched before, and no call made that a malloc with threads would not make.
        let status = Status::open().ok()?;
        let task = status.read()?;
        if !is_tolerable(&task) {
            REFUSED.store(true, Relaxed);
            return None;
        }
        let verbose = pressure::is_verbose();
        if empty_table(&status, verbose).is_err() {
            // A kernel before 5.9, or a filter.
            REFUSED.store(true, Relaxed);
            return None;
        }
        settle();
        let now_us = clock::now_ns() / 1000;
        let group = pressure::heeds_cgroup().then(|| Group::open(now_us));
        // What root may write to has been opened; the rest is everybody's.
        if !task::drop_rights(&task) {
            REFUSED.store(true, Relaxed);
            return None;
        }
        let psi = pressure::heeds_psi().then(|| Psi::open(c"/proc/pressure/memory", now_us));
        if verbose {
            report(psi.as_ref(), group.as_ref().map(|(_, report)| report));
            let _ = occupy(&status, 2);
        }
        let psi = psi.and_then(Result::ok).map(|(psi, _)| psi);
        let group = group.map(|(group, _)| group);
        if let Some(limit) = group.as_ref().and_then(|group| group.limit) {
            pressure::adopt_limit(limit);
        }
        let group = group.filter(Group::watches);
        Some(Watch { status, psi, group, count: 0 })
    }

    /// One look at everything, and the sleep after it. False: it is time to go.
    fn look(&mut self) -> bool {
        let seen = bell::rung();
        match self.status.read() {
            Some(task) if is_tolerable(&task) => {
                // One other thread, which may be the first, gone but not forgotten by the kernel.
                if task.threads <= 2 {
                    return false;
                }
            }
            _ => {
                REFUSED.store(true, Relaxed);
                return false;
            }
        }
        if LEAVE.load(Relaxed) || shares::census().0 <= 1 {
            return false;
        }
        let now_ns = clock::now_ns();
        let (level, reason) = self.level(now_ns / 1000);
        if level != 0 {
            shrinker::pressure(level, reason);
        }
        if bell::is_wanted() {
            pressure::serve();
        }
        decay::tick(now_ns);
        publish::consider((now_ns / MS) as u32);
        bell::sleep(seen, self.nap(now_ns, level));
        true
    }

    /// What the kernel says, and who says it.
    fn level(&mut self, now_us: u64) -> (u32, Reason) {
        let psi = self.psi.as_mut().map_or(0, |psi| psi.level(now_us));
        let group = self.group.as_mut().map_or(0, |group| {
            let stalls = group.stalls.as_mut().map_or(0, |psi| psi.level(now_us));
            group.level().max(stalls)
        });
        if group > psi { (group, Reason::Cgroup) } else { (psi, Reason::Psi) }
    }

    /// How long to sleep, in nanoseconds. The kernel is asked while there is something worth giving:
    /// every second if something moves, else every two.
    fn nap(&mut self, now_ns: u64, level: u32) -> u64 {
        let count = shrinker::count();
        let moves = level != 0 || count.abs_diff(self.count) >= WORTH;
        self.count = count;
        let longest = u64::from(LONGEST_NAP_MS) * MS;
        let asks = (self.psi.is_some() || self.group.is_some()) && count >= WORTH;
        let sample = match asks {
            true => u64::from(if moves { SAMPLE_MS } else { 2 * SAMPLE_MS }) * MS,
            false => longest,
        };
        let ageing = decay::deadline().map_or(longest, |at| at.saturating_sub(now_ns).max(MS));
        let publishing = if publish::is_by_time() { u64::from(PUBLISH_MS) * MS } else { longest };
        sample.min(ageing).min(publishing)
    }
}

/// Whether nothing has been set up since the process started that could take offence.
fn is_tolerable(task: &Task) -> bool {
    FILTERS.get().is_some_and(|at_start| plus_one(task.filters) == Some(at_start))
}

fn plus_one(filters: u64) -> Option<NonZeroUsize> {
    NonZeroUsize::MIN.checked_add(filters as usize)
}

/// Closes the copies of the program's descriptors, but stderr if it is still needed for a moment, and
/// occupies the first numbers: a line that is written to number 2 must not end up in a file of ours.
fn empty_table(status: &Status, keep_stderr: bool) -> Result<(), Errno> {
    const ALL: usize = u32::MAX as usize;
    let own = status.fd() as usize;
    let close = |from: usize, to: usize| {
        if from > to {
            return Ok(0);
        }
        // SAFETY: descriptors of this thread's own table; only `status` is used again.
        unsafe { syscall(libc::SYS_close_range, [from, to, 0, 0, 0, 0]) }
    };
    if own > 2 {
        close(0, 1)?;
        if !keep_stderr {
            close(2, 2)?;
        }
        close(3, own - 1)?;
    }
    close(own.max(2) + 1, ALL)?;
    for number in 0..if keep_stderr { 2 } else { 3 } {
        occupy(status, number)?;
    }
    Ok(())
}

/// Puts what cannot be written to at `number`.
fn occupy(status: &Status, number: i32) -> Result<(), Errno> {
    if number != status.fd() {
        // SAFETY: this thread's own table.
        unsafe { syscall(libc::SYS_dup3, [status.fd() as usize, number as usize, 0, 0, 0, 0]) }?;
    }
    Ok(())
}

/// A name, a directory and a policy of its own, and a clock that may be late. Each may fail.
fn settle() {
    let name = c"rcumalloc";
    let no_priority = 0u32;
    // SAFETY: about the calling thread alone; the kernel reads a string and a word.
    unsafe {
        let name = name.as_ptr() as usize;
        let _ = syscall(libc::SYS_prctl, [libc::PR_SET_NAME as usize, name, 0, 0, 0, 0]);
        let slack = [libc::PR_SET_TIMERSLACK as usize, TIMER_SLACK_NS, 0, 0, 0, 0];
        let _ = syscall(libc::SYS_prctl, slack);
        let _ = syscall(libc::SYS_chdir, [c"/".as_ptr() as usize, 0, 0, 0, 0, 0]);
        // Its creator may run at a real-time priority, which is not meant for this.
        let policy = syscall(libc::SYS_sched_getscheduler, [0; 6]).unwrap_or(0) as i32;
        if [libc::SCHED_FIFO, libc::SCHED_RR].contains(&policy) {
            let ordinary = [0, libc::SCHED_OTHER as usize, &raw const no_priority as usize, 0, 0, 0];
            let _ = syscall(libc::SYS_sched_setscheduler, ordinary);
        }
    }
}

/// Under `RCUMALLOC_VERBOSE`: what is watched, and why something is not.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn report(psi: Option<&Result<(Psi, Option<Errno>), Errno>>, group: Option<&Report>) {
    let stalls = |what: &str, found: Result<Option<Errno>, Errno>| {
        let mut line = Line::new();
        line.str("watcher: ").str(what);
        match found {
            Ok(None) => line.str(": a trigger is set"),
            Ok(Some(refused)) => {
                line.str(": no trigger (").str(psi::explain(refused)).str("), its totals are read")
            }
            Err(errno) => line.str(": not watched: ").str(psi::explain(errno)),
        };
        line.emit();
    };
    if let Some(psi) = psi {
        let found = psi.as_ref().map(|(_, refused)| *refused).map_err(|&errno| errno);
        stalls("/proc/pressure/memory", found);
    }
    let Some(group) = group else { return };
    stalls("the control group's memory.pressure", group.stalls);
    for (what, found) in [("memory.events", group.events), ("memory.pressure_level", group.notices)] {
        let mut line = Line::new();
        line.str("watcher: the control group's ").str(what);
        match found {
            Ok(()) => line.str(": watched"),
            Err(errno) => line.str(": not watched: ").str(psi::explain(errno)),
        };
        line.emit();
    }
}
