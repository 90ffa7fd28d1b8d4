//! The measured side of every workload: the job, a worker's calls of malloc and free, and the driver that
//! starts the workers together and takes the time.
//!
//! A worker belongs to one thread. Calls go to the C library's names as any program's do, so LD_PRELOAD
//! decides who serves them. Whether each operation is timed is a type parameter: rounds of throughput execute
//! not one instruction for latency.
//!
//! Worker 0 is the main thread: a workload of one thread is a process of one thread, which some allocators
//! (glibc, ours) treat better than others.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::machine;
use crate::measure::latency::{self, Cost, Latency, Recorder, Ticks};
use crate::outcome::Refusal;

/// What of a fresh block is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Touch {
    /// Nothing
    None,
    /// Its first byte
    First,
    /// One byte in each of its pages
    Pages,
    /// All of it
    All,
}

/// One run of one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub workload: String,
    pub threads: usize,
    pub seconds: f64,
    /// Least and greatest size of a block, bytes.
    pub sizes: (usize, usize),
    pub touch: Touch,
    /// Time each operation, in place of counting them.
    pub latency: bool,
    pub seed: u64,
    /// For `replay`.
    pub trace: Option<PathBuf>,
}

impl Job {
    /// The workload, and of a replay what is replayed.
    pub fn name(&self) -> String {
        let trace = self.trace.as_ref().and_then(|file| file.file_stem());
        trace.map_or_else(|| self.workload.clone(), |trace| format!("{} {}", self.workload, trace.display()))
    }
}

/// What a run says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Calls that gave a block; each is freed too. `thread-churn` counts threads.
    pub operations: u64,
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    /// VmHWM at the end.
    pub peak_kib: u64,
    /// VmRSS before the first operation: what the harness itself has in this process.
    pub base_kib: u64,
    pub latency: Option<Latency>,
    /// What recording a latency costs here.
    pub recording: Option<Cost>,
}

/// Around an operation: nothing, or two looks at the clock and a histogram.
pub trait Probe: Send {
    fn new() -> Self;
    fn time<R>(&mut self, operation: impl FnOnce() -> R) -> R;
    fn recorder(self) -> Option<Recorder>;
}

/// For throughput.
pub struct Plain;

impl Probe for Plain {
    fn new() -> Plain {
        Plain
    }

    #[inline(always)]
    fn time<R>(&mut self, operation: impl FnOnce() -> R) -> R {
        operation()
    }

    fn recorder(self) -> Option<Recorder> {
        None
    }
}

/// For latency.
pub struct Timed(Recorder);

impl Probe for Timed {
    fn new() -> Timed {
        Timed(Recorder::new())
    }

    #[inline(always)]
    fn time<R>(&mut self, operation: impl FnOnce() -> R) -> R {
        let from = latency::before();
        let result = operation();
        self.0.record(latency::after().saturating_sub(from));
        result
    }

    fn recorder(self) -> Option<Recorder> {
        Some(self.0)
    }
}

/// A block that the heap gave out, or null. May be freed by any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(pub *mut u8);

// SAFETY: a block belongs to whoever holds it; freeing it elsewhere is what is measured.
unsafe impl Send for Block {}

impl Block {
    pub const NONE: Block = Block(std::ptr::null_mut());
}

/// A thread of a workload.
pub struct Worker<'a, P> {
    pub index: usize,
    pub job: &'a Job,
    pub random: fastrand::Rng,
    pub operations: u64,
    pub probe: P,
    deadline: Ticks,
    looks: u32,
}

/// Calls of [`Worker::over`] between two looks at the clock.
const LOOK_EVERY: u32 = 32;

impl<'a> Worker<'a, Plain> {
    /// For a thread within an operation: its calls are not timed or counted one by one.
    pub fn brief(job: &'a Job, seed: u64) -> Worker<'a, Plain> {
        let random = fastrand::Rng::with_seed(seed);
        Worker { index: 0, job, random, operations: 0, probe: Plain, deadline: 0, looks: 0 }
    }
}

impl<P: Probe> Worker<'_, P> {
    /// malloc, and a touch as the job says. One operation.
    #[inline(always)]
    pub fn take(&mut self, size: usize) -> Block {
        self.operations += 1;
        // SAFETY: malloc has no precondition; black_box keeps the pair from being optimised away.
        let block = black_box(self.probe.time(|| unsafe { libc::malloc(size) }).cast::<u8>());
        if block.is_null() {
            exhausted(size);
        }
        touch(block, size, self.job.touch);
        Block(block)
    }

    /// free. Null is nothing.
    #[inline(always)]
    pub fn give(&mut self, block: Block) {
        // SAFETY: whoever holds a block frees it once.
        self.probe.time(|| unsafe { libc::free(block.0.cast()) });
    }

    /// realloc, and a touch of what is new. One operation.
    #[inline(always)]
    pub fn resize(&mut self, block: Block, old: usize, new: usize) -> Block {
        self.operations += 1;
        // SAFETY: the block is held by the caller, who gives it up for the one returned.
        let moved = self.probe.time(|| unsafe { libc::realloc(block.0.cast(), new) });
        let moved = black_box(moved.cast::<u8>());
        if moved.is_null() {
            exhausted(new);
        }
        if new > old {
            // SAFETY: the block has `new` bytes, more than `old`.
            touch(unsafe { moved.add(old) }, new - old, self.job.touch);
        }
        Block(moved)
    }

    /// A size between the job's, each as likely.
    #[inline(always)]
    pub fn size(&mut self) -> usize {
        let (least, most) = self.job.sizes;
        if least == most { least } else { least + self.below(most - least + 1) }
    }

    /// A number below `end`, by a multiplication in place of a division.
    #[inline(always)]
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.random.u64(..)) * end as u128) >> 64) as usize
    }

    /// Whether the time is up: ask between operations.
    #[inline(always)]
    pub fn over(&mut self) -> bool {
        self.looks = self.looks.wrapping_add(1);
        self.looks.is_multiple_of(LOOK_EVERY) && latency::before() >= self.deadline
    }

    /// Whether the time is up, asked seldom.
    pub fn over_now(&self) -> bool {
        latency::before() >= self.deadline
    }
}

/// Writes to a fresh block.
#[inline(always)]
pub fn touch(block: *mut u8, size: usize, touch: Touch) {
    // SAFETY: all within the `size` bytes of the block, which the caller holds.
    unsafe {
        match touch {
            Touch::None => {}
            Touch::First if size > 0 => block.write_volatile(1),
            Touch::First => {}
            Touch::Pages => (0..size).step_by(4096).for_each(|at| block.add(at).write_volatile(1)),
            Touch::All => block.write_bytes(1, size),
        }
    }
}

/// The end of a run whose allocator gave nothing.
#[cold]
pub fn exhausted(size: usize) -> ! {
    eprintln!("rcumalloc-bench: the allocator gave no block of {size} bytes");
    std::process::exit(2);
}

/// A workload.
pub trait Pattern: Sync + Sized {
    /// Before the time runs.
    fn new(job: &Job) -> Result<Self, Refusal>;
    /// One thread of it, until [`Worker::over`]. Frees what it holds.
    fn work<P: Probe>(&self, worker: &mut Worker<'_, P>);
    /// After the time: frees what is shared.
    fn finish(self) {}
}

/// Runs the workload as the job says.
pub fn drive<W: Pattern>(job: &Job) -> Result<Tally, Refusal> {
    if job.latency { run::<W, Timed>(job) } else { run::<W, Plain>(job) }
}

fn run<W: Pattern, P: Probe>(job: &Job) -> Result<Tally, Refusal> {
    let scale = latency::nanoseconds_per_tick(Duration::from_millis(10));
    let recording = job.latency.then(|| latency::cost(scale));
    let base_kib = status_kib("VmRSS:");
    let shared = W::new(job)?;
    let start = Barrier::new(job.threads);
    let span = (job.seconds * 1e9 / scale) as Ticks;
    let work = |index: usize| {
        let mut worker = Worker {
            index,
            job,
            random: fastrand::Rng::with_seed(job.seed.wrapping_mul(1 << 20).wrapping_add(index as u64)),
            operations: 0,
            probe: P::new(),
            deadline: 0,
            looks: 0,
        };
        start.wait();
        let (began, cpu) = (Instant::now(), machine::self_seconds());
        worker.deadline = latency::before() + span;
        shared.work(&mut worker);
        (worker.operations, worker.probe.recorder(), began, cpu)
    };
    let (parts, ended, cpu_after) = std::thread::scope(|scope| {
        let others: Vec<_> = (1..job.threads).map(|index| scope.spawn(move || work(index))).collect();
        let mut parts = vec![work(0)];
        parts.extend(others.into_iter().map(|thread| thread.join().expect("a worker does not panic")));
        (parts, Instant::now(), machine::self_seconds())
    });
    // Before anything of the harness's own is allocated.
    let peak_kib = status_kib("VmHWM:");
    shared.finish();
    let began = parts.iter().map(|part| part.2).min().unwrap_or(ended);
    let cpu_before = parts.iter().map(|part| part.3).fold(f64::INFINITY, f64::min);
    let operations = parts.iter().map(|part| part.0).sum();
    let merged = parts.into_iter().filter_map(|part| part.1).reduce(|mut all, one| {
        all.add(&one);
        all
    });
    Ok(Tally {
        operations,
        wall_seconds: (ended - began).as_secs_f64(),
        cpu_seconds: (cpu_after - cpu_before).max(1e-6),
        peak_kib,
        base_kib,
        latency: merged.map(|recorder| recorder.summary(scale)),
        recording,
    })
}

/// A line of /proc/self/status, in KiB; 0 if there is none. By hand, in a process that is measured: a crate
/// would make a table of all lines.
pub fn status_kib(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
