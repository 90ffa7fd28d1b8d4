//! What came of running a victim, and how to say what was expected.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Most bytes of an output shown with a failure.
const SHOWN: usize = 6000;

/// How a process ended and what it said. The checks panic with all of it.
pub struct Outcome {
    /// The command as one would type it.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Whether the watchdog ended it.
    pub timed_out: bool,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
    /// Wall-clock time.
    pub elapsed: Duration,
    /// Stacks of the threads of a process that hung.
    pub stacks: String,
}

impl Outcome {
    /// The process ended by itself with status 0.
    #[track_caller]
    pub fn success(self) -> Outcome {
        assert!(self.status.success() && !self.timed_out, "expected success\n{self}");
        self
    }

    /// The process ended by itself with this status.
    #[track_caller]
    pub fn exited(self, code: i32) -> Outcome {
        assert!(self.status.code() == Some(code), "expected exit status {code}\n{self}");
        self
    }

    /// The process aborted, and its only line of ours on stderr is `line`.
    #[track_caller]
    pub fn aborted_saying(self, line: &str) -> Outcome {
        assert!(self.status.signal() == Some(libc::SIGABRT) && !self.timed_out, "expected abort\n{self}");
        self.said(&[line])
    }

    /// The lines of ours on stderr, in order, but for what is added in brackets: where a freed block is
    /// found depends on when it is looked for (docs/messages.md, whose examples are compared whole).
    #[track_caller]
    pub fn said(self, lines: &[&str]) -> Outcome {
        let without = |line: &String| line.split(" [").next().unwrap_or_default().to_string();
        let ours: Vec<String> = self.ours().iter().map(without).collect();
        assert!(ours == lines, "expected {lines:#?}\nfound {ours:#?}\n{self}");
        self
    }

    /// The library's lines on stderr.
    pub fn ours(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.stderr);
        text.lines().filter(|line| line.starts_with("rcumalloc: ")).map(str::to_string).collect()
    }

    /// What the victim printed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The rest of the victim's line `name …`.
    #[track_caller]
    pub fn word(&self, name: &str) -> String {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no line {name:?}\n{self}")).to_string()
    }

    /// The number in the victim's line `name N`.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let word = self.word(name);
        word.parse().unwrap_or_else(|_| panic!("{name} is {word:?}, not a number\n{self}"))
    }

    /// The number in the victim's line `name N` is below `limit`.
    #[track_caller]
    pub fn below(self, name: &str, limit: u64) -> Outcome {
        let number = self.number(name);
        assert!(number < limit, "expected {name} below {limit}, found {number}\n{self}");
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        writeln!(f, "{} after {:.1} s", self.status, self.elapsed.as_secs_f64())?;
        if self.timed_out {
            writeln!(f, "hung: ended by the watchdog\n{}", self.stacks)?;
        }
        for (name, bytes) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let start = bytes.len().saturating_sub(SHOWN);
            writeln!(f, "--- {name} ({} bytes)\n{}", bytes.len(), String::from_utf8_lossy(&bytes[start..]))?;
        }
        Ok(())
    }
}
