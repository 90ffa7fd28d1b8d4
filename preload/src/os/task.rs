//! The calling thread as the kernel describes it in /proc: whose rights it has, which filters watch its
//! calls, and how many threads the process has. Read by the watcher, about itself.

use super::kept::{Kept, number_after, word_after};
use super::syscall::{Errno, syscall};

/// `/proc/thread-self/status`, open.
pub struct Status(Kept);

/// What is of interest in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Task {
    /// Threads of the process, one that has ended but was the first included.
    pub threads: u64,
    /// Filters on its system calls.
    pub filters: u64,
    /// Its user, as far as files are concerned.
    pub user: u64,
    /// Whether it has any capability.
    pub is_capable: bool,
}

impl Status {
    /// Opens the calling thread's.
    pub fn open() -> Result<Status, Errno> {
        Kept::open(c"/proc/thread-self/status", libc::O_RDONLY).map(Status)
    }

    /// Its descriptor.
    pub fn fd(&self) -> i32 {
        self.0.fd()
    }

    /// Reads it.
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn read(&self) -> Option<Task> {
        let mut found = Found::default();
        self.0.lines_again(|line| found.note(line)).ok()?;
        found.task()
    }
}

/// What has been read so far.
#[derive(Default)]
struct Found {
    threads: Option<u64>,
    mode: Option<u64>,
    filters: Option<u64>,
    user: Option<u64>,
    is_capable: Option<bool>,
}

impl Found {
    fn note(&mut self, line: &[u8]) {
        self.threads = self.threads.or_else(|| number_after(line, b"Threads:"));
        self.mode = self.mode.or_else(|| number_after(line, b"Seccomp:"));
        self.filters = self.filters.or_else(|| number_after(line, b"Seccomp_filters:"));
        self.user = self.user.or_else(|| number_after(line, b"Uid:"));
        let has_any = |set: &[u8]| set.iter().any(|&digit| digit != b'0');
        self.is_capable = self.is_capable.or_else(|| word_after(line, b"CapPrm:").map(has_any));
    }

    fn task(self) -> Option<Task> {
        Some(Task {
            threads: self.threads?,
            // Kernels before 5.9 do not count them.
            filters: self.filters.or(self.mode).unwrap_or(0),
            user: self.user?,
            is_capable: self.is_capable?,
        })
    }
}

/// Filters on the calling thread's system calls, for the start of the process: where there are none
/// that is one quick call. None where it cannot be found out.
pub fn filters_at_start() -> Option<u64> {
    // SAFETY: no memory.
    match unsafe { syscall(libc::SYS_prctl, [libc::PR_GET_SECCOMP as usize, 0, 0, 0, 0, 0]) } {
        Ok(0) => Some(0),
        _ => Status::open().ok()?.read().map(|task| task.filters),
    }
}

/// The user that owns nothing.
const NOBODY: usize = 65534; // (given) by the system

/// Gives up every right the calling thread has beyond the program's ordinary user: a thread that libc
/// does not know of keeps its rights when the program gives up its own. Root becomes nobody. False if
/// something was refused: then the thread must not stay.
///
/// A change of user makes the kernel forbid core dumps and debuggers for the whole process; that is
/// set back at once.
pub fn drop_rights(task: &Task) -> bool {
    if task.user == 0 {
        // SAFETY: raw calls about the calling thread alone, no memory but the two words.
        unsafe {
            let prctl =
                |option: i32, value: usize| syscall(libc::SYS_prctl, [option as usize, value, 0, 0, 0, 0]);
            let dumpable = prctl(libc::PR_GET_DUMPABLE, 0);
            if dumpable != Ok(1) && dumpable != Ok(0) {
                return false;
            }
            let dropped = syscall(libc::SYS_setgroups, [0; 6]).is_ok()
                && syscall(libc::SYS_setresgid, [NOBODY, NOBODY, NOBODY, 0, 0, 0]).is_ok()
                && syscall(libc::SYS_setresuid, [NOBODY, NOBODY, NOBODY, 0, 0, 0]).is_ok();
            if dumpable == Ok(1) {
                let _ = prctl(libc::PR_SET_DUMPABLE, 1);
            }
            if !dropped {
                return false;
            }
        }
    }
    if task.is_capable {
        // struct __user_cap_header_struct: version 3, ourselves; then three empty sets.
        let header = [0x2008_0522u32, 0];
        let none = [0u32; 6];
        let args = [header.as_ptr() as usize, none.as_ptr() as usize, 0, 0, 0, 0];
        // SAFETY: the kernel reads both.
        if unsafe { syscall(libc::SYS_capset, args) }.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Option<Task> {
        let mut found = Found::default();
        text.split(|&byte| byte == b'\n').for_each(|line| found.note(line));
        found.task()
    }

    #[test]
    fn parses() {
        let text = b"Name:\tx\nUid:\t1000\t0\t0\t0\nThreads:\t3\nCapPrm:\t0000000000000000\n\
            Seccomp:\t2\nSeccomp_filters:\t4\n";
        let task = Task { threads: 3, filters: 4, user: 1000, is_capable: false };
        assert_eq!(parse(text), Some(task));
        let old = b"Uid:\t0\nThreads:\t1\nCapPrm:\t0000003fffffffff\nSeccomp:\t2\n";
        assert_eq!(parse(old), Some(Task { threads: 1, filters: 2, user: 0, is_capable: true }));
        assert_eq!(parse(b"Name:\tx\n"), None);
    }

    #[test]
    fn a_thread_gives_its_rights_up_alone() {
        let before = Status::open().unwrap().read().unwrap();
        std::thread::spawn(|| {
            let status = Status::open().unwrap();
            let task = status.read().unwrap();
            if task.user != 0 && !task.is_capable {
                eprintln!("not root: nothing to give up");
            }
            assert!(drop_rights(&task));
            let task = status.read().unwrap();
            assert!(task.user != 0 && !task.is_capable);
        })
        .join()
        .unwrap();
        let after = Status::open().unwrap().read().unwrap();
        assert_eq!((before.user, before.is_capable), (after.user, after.is_capable));
        // SAFETY: a question.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 1);
    }
}
