//! The pages that a watched process publishes: found by their name in `/proc/PID/maps`, read with
//! `process_vm_readv`, which needs what a debugger needs and stops nobody.
//!
//! The head is sixteen words (`preload/src/release/publish.rs` writes them, docs/seeing.md names them). The
//! word of the sequence is odd while the pages are being written: a reader takes a copy and looks whether
//! the word was even and is the same behind it.

use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use procfs::process::{Process, Stat};

use super::figures::Snapshot;
use crate::outcome::Refusal;

/// What the mapping is called.
const NAME: &str = "memfd:rcumalloc-watch";
/// The first word, `RCUWATCH`.
const MAGIC: u64 = u64::from_le_bytes(*b"RCUWATCH");
/// The form of the head that this knows.
const VERSION: u64 = 1;
const HEAD_WORDS: usize = 16;
/// Most bytes of the mapping that are believed.
const MOST_BYTES: usize = 16 << 20;
/// How long the answer to a signal may take, and a writer may be at it: a process may not get a processor.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for it.
const PAUSE: Duration = Duration::from_millis(2);

/// A process that publishes.
#[derive(Clone, Debug)]
pub struct Area {
    pid: i32,
    at: u64,
    bytes: usize,
    /// The process as it knows itself: its number in the innermost namespace.
    inner_pid: i32,
    /// When it began, so that another process under the same number is not taken for it.
    began: u64,
    /// As `ps` shows it.
    pub name: String,
}

struct Head([u64; HEAD_WORDS]);

impl Head {
    fn pid(&self) -> u64 {
        self.0[2]
    }

    fn sequence(&self) -> u64 {
        self.0[3]
    }

    fn at_ns(&self) -> u64 {
        self.0[4]
    }

    fn signal(&self) -> i32 {
        self.0[5] as i32
    }

    /// Where a text lies: figures as JSON, stalls as JSON, figures for Prometheus.
    fn text(&self, index: usize) -> (usize, usize) {
        (self.0[6 + 2 * index] as usize, self.0[7 + 2 * index] as usize)
    }
}

fn refuse<T>(pid: i32, why: impl Display) -> Result<T, Refusal> {
    Err(Refusal(format!("process {pid}: {why}")))
}

/// What the kernel says of the process.
fn stat(pid: i32) -> Option<Stat> {
    Process::new(pid).and_then(|process| process.stat()).ok()
}

/// When the process began, in ticks since the machine did.
fn began(pid: i32) -> Option<u64> {
    Some(stat(pid)?.starttime)
}

impl Area {
    /// Finds what the process publishes.
    pub fn find(pid: i32) -> Result<Area, Refusal> {
        let maps = match fs::read_to_string(format!("/proc/{pid}/maps")) {
            Ok(maps) => maps,
            Err(error)
                if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) =>
            {
                return refuse(pid, "there is no such process");
            }
            Err(error) => return refuse(pid, format_args!("its mappings cannot be read: {error}")),
        };
        let Some(stat) = stat(pid).filter(|stat| !['Z', 'X', 'x'].contains(&stat.state)) else {
            return refuse(pid, "it has ended");
        };
        let mut whole: Option<(u64, u64)> = None;
        for line in maps.lines().filter(|line| line.contains(NAME)) {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let number = |text| u64::from_str_radix(text, 16).ok();
            let Some((from, to)) = range.and_then(|(from, to)| Some((number(from)?, number(to)?))) else {
                continue;
            };
            // What has been written and what has not may be two mappings.
            whole = match whole {
                Some((first, end)) if end == from => Some((first, to)),
                None => Some((from, to)),
                other => other,
            };
        }
        let Some((at, end)) = whole else {
            return refuse(
                pid,
                match maps.contains("librcumalloc.so") {
                    true => "it is not watched: start it with RCUMALLOC_WATCH=1",
                    false => "it does not run under librcumalloc.so, or is not watched (RCUMALLOC_WATCH=1)",
                },
            );
        };
        let status = Process::new(pid).and_then(|process| process.status());
        let inner_pid = status.ok().and_then(|status| status.nspid?.last().copied()).unwrap_or(pid);
        let bytes = ((end - at) as usize).min(MOST_BYTES);
        Ok(Area { pid, at, bytes, inner_pid, began: stat.starttime, name: stat.comm })
    }

    /// Every process that publishes and that we may look at.
    pub fn all() -> Vec<Area> {
        let processes = procfs::process::all_processes().into_iter().flatten().flatten();
        let mut areas: Vec<Area> = processes.filter_map(|process| Area::find(process.pid()).ok()).collect();
        areas.sort_by_key(|area| area.pid);
        areas
    }

    /// The number of the process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What the process has published last; where it publishes on a signal, what it publishes now.
    pub fn look(&self) -> Result<Snapshot, Refusal> {
        let until = Instant::now() + PATIENCE;
        let before = self.head()?;
        let asked = before.signal() != 0;
        if asked {
            self.ask(before.signal())?;
        }
        loop {
            let head = self.head()?;
            let is_new = !asked || head.sequence() != before.sequence();
            let is_its_own = head.pid() == self.inner_pid as u64 && head.at_ns() != 0;
            if is_new && is_its_own && head.sequence().is_multiple_of(2) {
                let texts: Result<Vec<_>, _> = (0..3).map(|index| self.text(&head, index)).collect();
                if self.head()?.sequence() == head.sequence() {
                    return match texts {
                        Ok(texts) => {
                            Snapshot::new(self, head.at_ns(), texts).or_else(|why| refuse(self.pid, why))
                        }
                        Err(why) => refuse(self.pid, why),
                    };
                }
            }
            if Instant::now() > until {
                return refuse(
                    self.pid,
                    if asked {
                        "it does not answer the signal: it is stopped, or has put its own handler in place"
                    } else if !is_its_own {
                        "it has published nothing yet: it was forked, or has just begun"
                    } else {
                        "its figures are being written and do not become complete: it may be stopped"
                    },
                );
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn head(&self) -> Result<Head, Refusal> {
        let mut bytes = [0; HEAD_WORDS * 8];
        self.read(0, &mut bytes)?;
        let mut words = [0; HEAD_WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        }
        if words[0] != MAGIC {
            return refuse(self.pid, "what it publishes does not begin as it should");
        }
        if words[1] != VERSION {
            return refuse(self.pid, format_args!("it publishes in form {}, this knows {VERSION}", words[1]));
        }
        Ok(Head(words))
    }

    /// The inner error is about a text that may have changed under our eyes.
    fn text(&self, head: &Head, index: usize) -> Result<String, &'static str> {
        let (from, len) = head.text(index);
        if from.checked_add(len).is_none_or(|end| end > self.bytes) {
            return Err("its figures do not fit into what it publishes");
        }
        let mut bytes = vec![0; len];
        self.read(from, &mut bytes).map_err(|_| "it has ended")?;
        String::from_utf8(bytes).map_err(|_| "its figures are no text")
    }

    fn read(&self, from: usize, into: &mut [u8]) -> Result<(), Refusal> {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let remote = libc::iovec { iov_base: (self.at as usize + from) as *mut _, iov_len: into.len() };
        // SAFETY: the kernel writes into a live slice; the other address is the other process's.
        let read = unsafe { libc::process_vm_readv(self.pid, &local, 1, &remote, 1, 0) };
        let error = std::io::Error::last_os_error();
        if read == into.len() as isize && began(self.pid) == Some(self.began) {
            return Ok(());
        }
        match error.raw_os_error() {
            Some(libc::EPERM) if read < 0 => refuse(
                self.pid,
                "it may not be looked at: be root, or its user with kernel.yama.ptrace_scope at 0",
            ),
            _ => refuse(self.pid, "it has ended"),
        }
    }

    /// Sends the signal, if somebody listens: what is not handled might end the process.
    fn ask(&self, signal: i32) -> Result<(), Refusal> {
        let status = Process::new(self.pid).and_then(|process| process.status());
        let caught = status.ok().map(|status| status.sigcgt);
        if caught.is_none() {
            return refuse(self.pid, "it has ended");
        }
        let is_caught = (1..=64).contains(&signal) && caught.unwrap_or(0) >> (signal - 1) & 1 == 1;
        if !is_caught {
            return refuse(self.pid, format_args!("it does not listen to signal {signal} any more"));
        }
        // SAFETY: sends a signal that the process handles.
        match unsafe { libc::kill(self.pid, signal) } {
            0 => Ok(()),
            _ => refuse(self.pid, format_args!("no signal can be sent: {}", std::io::Error::last_os_error())),
        }
    }
}

/// Now, on the clock of the head.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_watched_is_said() {
        let own = std::process::id() as i32;
        let line = Area::find(own).expect_err("not under the library").0;
        assert!(line.contains("does not run under librcumalloc.so"), "{line}");
        let line = Area::find(i32::MAX).expect_err("no such process").0;
        assert_eq!(line, format!("process {}: there is no such process", i32::MAX));
        assert!(began(own).is_some_and(|ticks| ticks > 0));
    }
}
