//! One run of one program under one allocator: started by the tiny launcher (`helpers/launch.c`), with
//! counters attached before it begins, its output captured or hashed, its memory sampled, and an end at a
//! timeout.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counters::{Counters, Reading};
pub use super::launcher::memory_file;
use super::launcher::{Report, launcher};
use super::pipes::{broken, drain, joined, readable};
use super::sampler::{self, Sample};
use crate::outcome::Refusal;

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Child {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    preload: Option<PathBuf>,
    stdin: Option<PathBuf>,
    timeout: Duration,
    counted: bool,
    sampled: Option<Duration>,
}

/// How it ended and what it cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    pub end: End,
    pub wall_seconds: f64,
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// VmHWM of the program, or of the largest process that it started and waited for.
    pub peak_kib: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// By the names of [`super::counters::names`]; empty where not asked for.
    pub counters: Vec<(String, Reading)>,
    /// Hash and length of all that was written to stdout.
    pub output_hash: u64,
    pub output_bytes: u64,
    #[serde(skip)]
    pub stdout: Vec<u8>,
    #[serde(skip)]
    pub stderr: Vec<u8>,
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

impl Finished {
    /// As the launcher reports it: what was printed and counted comes later.
    fn of(report: &Report, in_time: bool) -> Finished {
        let status = report.wait_status as i32;
        let end = match () {
            () if !in_time => End::Timeout,
            () if libc::WIFSIGNALED(status) => End::Signal(libc::WTERMSIG(status)),
            () => End::Status(libc::WEXITSTATUS(status)),
        };
        Finished {
            end,
            wall_seconds: report.wall_ns as f64 / 1e9,
            user_seconds: report.user_us as f64 / 1e6,
            system_seconds: report.system_us as f64 / 1e6,
            peak_kib: report.peak_kib as u64,
            minor_faults: report.minor_faults as u64,
            major_faults: report.major_faults as u64,
            voluntary_switches: report.voluntary as u64,
            involuntary_switches: report.involuntary as u64,
            counters: Vec::new(),
            output_hash: 0,
            output_bytes: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            samples: Vec::new(),
        }
    }

    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    /// The last line of stderr, for a message.
    pub fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        if last.is_empty() { self.end.to_string() } else { format!("{}: {last}", self.end) }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Status(i32),
    Signal(i32),
    Timeout,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Status(status) => write!(f, "exit status {status}"),
            End::Signal(signal) => write!(f, "signal {signal}"),
            End::Timeout => f.write_str("did not end in time"),
        }
    }
}

impl Child {
    pub fn new(program: impl AsRef<OsStr>) -> Child {
        Child {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            preload: None,
            stdin: None,
            timeout: Duration::from_secs(600),
            counted: false,
            sampled: None,
        }
    }

    /// This binary's own measured side: `inner KIND JOB`.
    pub fn inner(kind: &str, job: &serde_json::Value) -> Result<Child, Refusal> {
        let own = std::env::current_exe().map_err(Refusal::of("cannot find my own binary"))?;
        Ok(Child::new(own).args(["inner", kind, &job.to_string()]))
    }

    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Child {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Child {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The allocator: its library and its environment.
    pub fn under(mut self, allocator: &crate::peers::Allocator) -> Child {
        self.preload = allocator.library.clone();
        for (name, value) in &allocator.environment {
            self = self.env(name, value);
        }
        self
    }

    pub fn preload(mut self, library: Option<PathBuf>) -> Child {
        self.preload = library;
        self
    }

    pub fn stdin(mut self, file: Option<PathBuf>) -> Child {
        self.stdin = file;
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Child {
        self.timeout = timeout;
        self
    }

    /// Attach perf counters.
    pub fn counted(mut self) -> Child {
        self.counted = true;
        self
    }

    /// Sample RSS.
    pub fn sampled(mut self, every: Duration) -> Child {
        self.sampled = Some(every);
        self
    }

    /// Runs it to its end.
    pub fn run(&self) -> Result<Finished, Refusal> {
        self.attempt().map_err(Refusal::of(format_args!("cannot run {}", self.program.display())))
    }

    /// As [`Child::run`], and an end other than status 0 is a refusal with what the child said last.
    pub fn run_well(&self) -> Result<Finished, Refusal> {
        let finished = self.run()?;
        match finished.end {
            End::Status(0) => Ok(finished),
            _ => Err(Refusal(format!("{} failed: {}", self.program.display(), finished.complaint()))),
        }
    }

    /// The one JSON line of an inner run.
    pub fn answer<T: serde::de::DeserializeOwned>(&self) -> Result<(T, Finished), Refusal> {
        let finished = self.run_well()?;
        let answer = serde_json::from_slice(&finished.stdout)
            .map_err(Refusal::of("the measured side gave no answer that can be read"))?;
        Ok((answer, finished))
    }

    fn command(&self, go: &OwnedFd, result: &OwnedFd) -> io::Result<Command> {
        let mut command = Command::new(launcher()?);
        command.args([go.as_raw_fd().to_string(), result.as_raw_fd().to_string()]);
        command.arg(&self.program).args(&self.arguments);
        command.env_remove("LD_PRELOAD");
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(match &self.stdin {
            Some(file) => Stdio::from(File::open(file)?),
            None => Stdio::null(),
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let passed = [go.as_raw_fd(), result.as_raw_fd()];
        // SAFETY: fcntl is async-signal-safe and the descriptors are open in the child.
        unsafe {
            command.pre_exec(move || {
                for fd in passed {
                    if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        Ok(command)
    }

    fn attempt(&self) -> io::Result<Finished> {
        let (go_read, mut go_write) = io::pipe()?;
        let (mut result_read, result_write) = io::pipe()?;
        let (go_read, result_write) = (OwnedFd::from(go_read), OwnedFd::from(result_write));
        let mut launcher = self.command(&go_read, &result_write)?.spawn()?;
        drop((go_read, result_write));
        let mut pid = [0; 8];
        result_read.read_exact(&mut pid)?;
        let pid = i64::from_ne_bytes(pid) as i32;
        let counters = self.counted.then(|| Counters::attach(pid));
        let stop = AtomicBool::new(false);
        let finished = std::thread::scope(|scope| -> io::Result<Finished> {
            let stdout = launcher.stdout.take().map(|pipe| scope.spawn(|| drain(pipe)));
            let stderr = launcher.stderr.take().map(|pipe| scope.spawn(|| drain(pipe)));
            go_write.write_all(b"g")?;
            let samples = self.sampled.map(|every| sampler::watch(scope, pid, every, &stop));
            let in_time = readable(result_read.as_raw_fd(), self.timeout);
            if !in_time {
                // SAFETY: the group is the child's own (the launcher made it), and the launcher has not
                // reported yet, so the child has not been waited for and its id is not reused.
                unsafe { libc::kill(-pid, libc::SIGKILL) };
            }
            let report = Report::read(&mut result_read);
            // Relaxed: see the sampler.
            stop.store(true, Ordering::Relaxed);
            // What the child left running in its group would hold the pipes open.
            // SAFETY: as above; a group that is gone is an error that does not matter.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
            let (stdout, stderr) = (joined(stdout)?, joined(stderr)?);
            let samples = samples.map_or(Ok(Vec::new()), |handle| handle.join().map_err(|_| broken()))?;
            let report = report?;
            if report.exec_errno != 0 {
                return Err(io::Error::from_raw_os_error(report.exec_errno as i32));
            }
            let mut finished = Finished::of(&report, in_time);
            (finished.output_hash, finished.output_bytes) = (stdout.hash, stdout.bytes);
            (finished.stdout, finished.stderr, finished.samples) = (stdout.kept, stderr.kept, samples);
            Ok(finished)
        });
        drop(go_write);
        launcher.wait()?;
        let mut finished = finished?;
        finished.counters = counters.map(Counters::read).unwrap_or_default();
        Ok(finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        Child::new("/bin/sh").args(["-c", script])
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(shell("exit 3").run().map(|done| done.end).ok(), Some(End::Status(3)));
        assert_eq!(shell("kill -9 $$").run().map(|done| done.end).ok(), Some(End::Signal(9)));
        let late = shell("sleep 60").timeout(Duration::from_millis(100)).run().expect("starts");
        assert_eq!(late.end, End::Timeout);
        assert!(late.wall_seconds < 30.0);
        let refused = Child::new("/no/such/program").run().expect_err("there is none");
        assert!(refused.0.starts_with("cannot run /no/such/program: No such file"), "{}", refused.0);
    }

    #[test]
    fn the_harness_s_memory_is_not_inherited() {
        let large = vec![1_u8; 64 << 20];
        let finished = Child::new("/bin/true").run_well().expect("true");
        assert!(large[12345] == 1 && (200..8192).contains(&finished.peak_kib), "{} KiB", finished.peak_kib);
    }

    #[test]
    fn output_and_cost_are_seen() {
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo out; echo err >&2; exit 1";
        let finished = shell(script).counted().run().expect("starts");
        assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(finished.complaint(), "exit status 1: err");
        assert!(finished.cpu_seconds() > 0.0 && finished.minor_faults > 10 && finished.output_bytes == 4);
        assert_eq!(finished.counters.len(), super::super::counters::names().count());
        let again = shell("printf o; sleep 0.02; printf 'ut\\n'").run().expect("starts");
        assert_eq!(again.output_hash, finished.output_hash, "the hash depends on how output is cut");
    }

    #[test]
    fn the_preload_and_the_environment_arrive() {
        let child = shell("echo $LD_PRELOAD $PEER_SETTING").env("PEER_SETTING", "7");
        let child = child.preload(Some("/lib/x86_64-linux-gnu/libc.so.6".into()));
        assert_eq!(child.run_well().expect("sh").stdout, b"/lib/x86_64-linux-gnu/libc.so.6 7\n");
    }

    #[test]
    fn samples_are_taken() {
        let finished = shell("sleep 0.2").sampled(Duration::from_millis(10)).run_well().expect("sh");
        assert!(finished.samples.len() > 3, "{:?}", finished.samples);
    }
}
