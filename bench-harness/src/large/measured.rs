//! The measured process: one task on large blocks, with the malloc that it was started under.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::measure::processor_ns;
use crate::outcome::Refusal;

/// MiB of the block whose huge pages are counted.
pub const TOUCHED_MIB: usize = 64;
const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
/// Where a huge page may begin.
const HUGE: usize = 2 << 20;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// A block of 256 MiB, all of it touched, grows to twice that by `realloc`.
    Grow { touched: bool },
    /// Eight blocks of 5 to 25 MiB are replaced in any order.
    Replace,
    /// 100,000 blocks of 256 KiB are allocated, and then freed.
    Many,
    /// A block is touched from its beginning to its end; with advice for huge pages.
    Touch { advised: bool },
}

/// A process's task.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Job {
    pub task: Task,
    pub seconds: f64,
    /// A tenth of it, to see that it works.
    pub quick: bool,
}

/// What it gave; what a task has not is 0.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// Of processor time: of all the growing, of one free, or of all the touching.
    pub ns: f64,
    /// MiB a second of processor time.
    pub rate: f64,
    /// ns to allocate one block and write to it.
    pub allocating: f64,
    /// How often the block was moved.
    pub moves: u32,
    pub resident_mib: f64,
    /// Blocks that begin where a huge page may, of so many.
    pub aligned: u32,
    pub blocks: u32,
    /// MiB of the block that are in huge pages.
    pub huge_mib: f64,
}

pub fn inner(job: &str) -> Result<Value, Refusal> {
    let job: Job = serde_json::from_str(job).map_err(Refusal::of("the job cannot be read"))?;
    let figure = match job.task {
        Task::Grow { touched } => grow(touched, if job.quick { 32 } else { 256 }),
        Task::Replace => replace(Duration::from_secs_f64(job.seconds)),
        Task::Many => many(if job.quick { 10_000 } else { 100_000 }),
        Task::Touch { advised } => touch_all(advised),
    }?;
    Ok(json!(figure))
}

/// A block of malloc.
struct Block {
    start: *mut u8,
    bytes: usize,
}

impl Block {
    fn new(bytes: usize) -> Result<Block, Refusal> {
        // SAFETY: any size may be asked for.
        let start = black_box(unsafe { libc::malloc(black_box(bytes)) }).cast::<u8>();
        if start.is_null() {
            Err(Refusal(format!("no memory for {bytes} bytes")))
        } else {
            Ok(Block { start, bytes })
        }
    }

    /// Gives whether it was moved.
    fn resize(&mut self, bytes: usize) -> Result<bool, Refusal> {
        // SAFETY: the block is ours, and its old address is used no more.
        let start = black_box(unsafe { libc::realloc(self.start.cast(), black_box(bytes)) }).cast::<u8>();
        if start.is_null() {
            return Err(Refusal(format!("no memory to grow to {bytes} bytes")));
        }
        let moved = start.addr() != self.start.addr();
        (self.start, self.bytes) = (start, bytes);
        Ok(moved)
    }

    /// Writes to every page from there on.
    fn touch(&mut self, from: usize) {
        for at in (from..self.bytes).step_by(PAGE) {
            // SAFETY: within the block.
            unsafe { self.start.add(at).write_volatile(1) };
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: of malloc, once.
        unsafe { libc::free(self.start.cast()) };
    }
}

fn grow(touched: bool, mib: usize) -> Result<Figure, Refusal> {
    let mut block = Block::new(mib * MIB)?;
    block.touch(0);
    let mut moves = 0;
    let began = processor_ns();
    for step in mib..2 * mib {
        moves += u32::from(block.resize((step + 1) * MIB)?);
        if touched {
            block.touch(step * MIB);
        }
    }
    Ok(Figure { ns: (processor_ns() - began) as f64, moves, ..Figure::default() })
}

fn replace(long: Duration) -> Result<Figure, Refusal> {
    let mut dice = fastrand::Rng::with_seed(7);
    let mut blocks: Vec<Option<Block>> = (0..8).map(|_| None).collect();
    let mut round = |count: usize| -> Result<usize, Refusal> {
        let mut bytes = 0;
        for _ in 0..count {
            let at = dice.usize(..blocks.len());
            drop(blocks[at].take());
            let mut block = Block::new(dice.usize(5 * MIB..=25 * MIB))?;
            block.touch(0);
            bytes += block.bytes;
            blocks[at] = Some(block);
        }
        Ok(bytes)
    };
    round(32)?; // until what is kept for reuse is there
    let (end, began) = (Instant::now() + long, processor_ns());
    let mut bytes = 0;
    while Instant::now() < end {
        bytes += round(8)?;
    }
    let seconds = (processor_ns() - began) as f64 / 1e9;
    Ok(Figure { rate: (bytes / MIB) as f64 / seconds, ..Figure::default() })
}

fn many(count: usize) -> Result<Figure, Refusal> {
    let mut blocks = Vec::with_capacity(count);
    let began = processor_ns();
    for _ in 0..count {
        let block = Block::new(256 << 10)?;
        // SAFETY: within the block.
        unsafe { block.start.write_volatile(1) };
        blocks.push(block);
    }
    let allocated = processor_ns();
    blocks.clear();
    let freed = processor_ns();
    let each = |ns: u64| ns as f64 / count as f64;
    Ok(Figure {
        ns: each(freed - allocated),
        allocating: each(allocated - began),
        resident_mib: resident_kib()? as f64 / 1024.0,
        ..Figure::default()
    })
}

fn touch_all(advised: bool) -> Result<Figure, Refusal> {
    let sizes = [2, 3, 4, 6, 8, 16, 32, TOUCHED_MIB];
    let blocks = sizes.iter().map(|mib| Block::new(mib * MIB)).collect::<Result<Vec<_>, _>>()?;
    let aligned = blocks.iter().filter(|block| block.start.addr().is_multiple_of(HUGE)).count();
    let mut block = blocks.into_iter().last().ok_or_else(|| Refusal("no block".to_owned()))?;
    if advised {
        // As a program that does not know how its malloc aligns.
        let from = block.start.addr().next_multiple_of(PAGE) - block.start.addr();
        let length = (block.bytes - from) / PAGE * PAGE;
        // SAFETY: whole pages of a block that is ours.
        let refused =
            unsafe { libc::madvise(block.start.add(from).cast(), length, libc::MADV_HUGEPAGE) != 0 };
        if refused {
            return Err(Refusal(format!("madvise: {}", std::io::Error::last_os_error())));
        }
    }
    let began = processor_ns();
    block.touch(0);
    let ns = (processor_ns() - began) as f64;
    Ok(Figure {
        ns,
        aligned: aligned as u32,
        blocks: sizes.len() as u32,
        huge_mib: huge_kib(&block)? as f64 / 1024.0,
        ..Figure::default()
    })
}

fn resident_kib() -> Result<usize, Refusal> {
    let text = std::fs::read_to_string("/proc/self/status").map_err(Refusal::of("/proc/self/status"))?;
    Ok(text.lines().find_map(|line| kib(line, "VmRSS:")).unwrap_or(0))
}

/// KiB in huge pages of the mappings that the block lies in.
fn huge_kib(block: &Block) -> Result<usize, Refusal> {
    let text = std::fs::read_to_string("/proc/self/smaps").map_err(Refusal::of("/proc/self/smaps"))?;
    let (start, end) = (block.start.addr(), block.start.addr() + block.bytes);
    let mut within = false;
    let mut all = 0;
    for line in text.lines() {
        let mapping = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        let hex = |text: &str| usize::from_str_radix(text, 16).ok();
        if let Some((from, to)) = mapping.and_then(|(from, to)| hex(from).zip(hex(to))) {
            within = from < end && start < to;
        }
        all += kib(line, "AnonHugePages:").filter(|_| within).unwrap_or(0);
    }
    Ok(all)
}

fn kib(line: &str, name: &str) -> Option<usize> {
    line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()
}
