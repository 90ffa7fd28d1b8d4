//! Running a program under the library, under a watchdog.
//!
//! The program leads a process group of its own. When its time is up the stacks of its threads are
//! taken (if gdb is there) and the group is killed, so that nothing of it survives the test.

use crate::Outcome;
use crate::build;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds a victim may take unless it says otherwise. 13 were seen of one that takes 2, where ten programs
/// shared two processors; a machine may be five times as slow.
const PATIENCE: u64 = 180;

/// A program about to be run.
pub struct Victim {
    command: Command,
    preload: Vec<PathBuf>,
    stdin: Vec<u8>,
    patience: Duration,
}

/// Runs `path` (see [`Victim`]).
pub fn command(path: impl AsRef<OsStr>) -> Victim {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RCUMALLOC_") {
            command.env_remove(name);
        }
    }
    // Messages are compared: they must not be translated.
    command.env("LC_ALL", "C").process_group(0);
    let preload = vec![build::library().to_path_buf()];
    Victim { command, preload, stdin: Vec::new(), patience: Duration::from_secs(PATIENCE) }
}

impl Victim {
    /// The victim `programs/NAME`, compiled.
    pub fn new(name: &str) -> Victim {
        command(build::program(name))
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Victim {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Victim {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Victim {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Victim {
        self.command.current_dir(dir);
        self
    }

    /// What the program reads.
    #[must_use]
    pub fn stdin(mut self, bytes: &[u8]) -> Victim {
        self.stdin = bytes.to_vec();
        self
    }

    /// Without the library.
    #[must_use]
    pub fn on_glibc(self) -> Victim {
        self.preload(&[])
    }

    /// Preloads these instead of the library alone.
    #[must_use]
    pub fn preload(mut self, libraries: &[&Path]) -> Victim {
        self.preload = libraries.iter().map(|path| path.to_path_buf()).collect();
        self
    }

    /// Seconds until the watchdog ends it.
    #[must_use]
    pub fn patience(mut self, seconds: u64) -> Victim {
        self.patience = Duration::from_secs(seconds);
        self
    }

    /// Limits a resource of the program, as `setrlimit`.
    #[must_use]
    pub fn limit(mut self, resource: libc::__rlimit_resource_t, bytes: u64) -> Victim {
        // SAFETY: between fork and exec: one system call, nothing allocated.
        unsafe {
            self.command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
                match libc::setrlimit(resource, &limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        self
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Outcome {
        if !self.preload.is_empty() {
            let paths: Vec<_> = self.preload.iter().map(|path| path.as_os_str()).collect();
            self.command.env("LD_PRELOAD", paths.join(OsStr::new(":")));
        } else {
            self.command.env_remove("LD_PRELOAD");
        }
        let shown = show(&self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        let stdin = child.stdin.take();
        let fed = std::thread::spawn(move || {
            // A program may end without reading everything.
            let _ = stdin.expect("piped").write_all(&self.stdin);
        });
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let (timed_out, stacks) = wait(&mut child, start + self.patience);
        kill_group(&child);
        let status = child.wait().expect("our own child can be waited for");
        let elapsed = start.elapsed();
        let stdout = stdout.join().expect("readers do not panic");
        let stderr = stderr.join().expect("readers do not panic");
        fed.join().expect("writers do not panic");
        let outcome = Outcome { command: shown, status, timed_out, stdout, stderr, elapsed, stacks };
        let refused = String::from_utf8_lossy(&outcome.stderr).contains("cannot be preloaded");
        assert!(!refused, "the library was not loaded\n{outcome}");
        outcome
    }
}

/// Waits until the child has ended or its time is up; leaves it for the caller to reap.
fn wait(child: &mut Child, until: Instant) -> (bool, String) {
    let mut pause = Duration::from_micros(200);
    loop {
        if has_ended(child) {
            return (false, String::new());
        }
        if Instant::now() > until {
            return (true, stacks(child));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Whether the child has ended. It stays a zombie, so that its group's number stays its own.
fn has_ended(child: &Child) -> bool {
    // SAFETY: zeros are a valid siginfo_t, and the kernel writes into it.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, child.id(), &mut info, flags) == 0 && info.si_pid() != 0
    }
}

fn kill_group(child: &Child) {
    // SAFETY: the group was made for this child, which is not reaped yet.
    unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("piped");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

/// Where the threads of a process that hangs are.
fn stacks(child: &Child) -> String {
    let pid = child.id().to_string();
    let gdb = Command::new("timeout")
        .args(["20", "gdb", "-batch", "-nx", "-p", &pid, "-ex", "thread apply all bt 16"])
        .stdin(Stdio::null())
        .output();
    match gdb {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => String::from("(no gdb, no stacks)"),
    }
}

/// The command as one would type it.
fn show(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let mut word = OsString::from(name);
        word.push("=");
        word.push(value?);
        Some(word)
    });
    let words = variables.chain([command.get_program().into()]).chain(command.get_args().map(Into::into));
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
