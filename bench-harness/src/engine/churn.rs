//! What threads that have ended, or sleep, cost those that allocate and free: librcumalloc.so preloaded, a
//! process for each figure.
//!
//! Two loops, in ns of processor time for a block that is allocated and freed. In the first, a burst of
//! threads ends before two others replace random blocks. In the second, threads sleep for ever, one of them
//! perhaps in a section, while the main thread allocates and frees.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::subject::{Limit, Measure, Plan, Sample, Subject};
use crate::measure::child::Child;
use crate::measure::processor_ns;
use crate::outcome::{Common, Refusal};
use crate::peers;

/// The loop may take so many times what it takes without the others.
const BESIDE_OTHERS: f64 = 1.2;
/// Of threads that do nothing, the least that libc grants.
const STACK: usize = 32 << 10;
/// Blocks that a thread of the first loop has at a time.
const BLOCKS: usize = 256;
/// Of the second loop's blocks, bytes.
const PAIR: usize = 256;

/// One process.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Job {
    /// Threads that end at once, before the loop.
    ended: usize,
    /// Threads that sleep.
    idle: usize,
    /// One of them in a section.
    section: bool,
    /// Threads that replace random blocks; 0: the main thread allocates and frees.
    churning: usize,
    seconds: f64,
}

/// Both loops, for the library of `common`.
pub fn measure(plan: &Plan, common: &Common) -> Vec<Measure> {
    let library = peers::ours(common);
    let run = |job: Job| {
        let library = library.clone();
        move |round: Duration| {
            let value = Child::inner("churn", &json!(Job { seconds: round.as_secs_f64(), ..job }))
                .and_then(|child| child.preload(Some(library.clone())).answer::<f64>());
            Sample { value: value.map_or(f64::NAN, |(ns, _)| ns), latencies: None }
        }
    };
    let none = Job { ended: 0, idle: 0, section: false, churning: 0, seconds: 0.0 };
    let subject = |setting: String, job| {
        if library.exists() {
            Subject::new("librcumalloc.so", setting, run(job)).limited()
        } else {
            Subject::absent("librcumalloc.so", format!("no {}: scripts/build makes it", library.display()))
        }
    };
    let after = |ended| subject(format!("after {ended} that ended"), Job { ended, churning: 2, ..none });
    let beside = |idle, section| {
        let setting = format!("beside {idle} idle threads{}", if section { ", a section open" } else { "" });
        subject(setting, Job { idle, section, ..none })
    };
    let (burst, sleep) =
        ("two threads that churn, after a burst of others", "a thread beside others that sleep");
    let title = |what: &str| format!("{what}: a block, allocated and freed");
    let limit = || Limit::Times(BESIDE_OTHERS);
    vec![
        plan.measure(&title(burst), "ns", limit(), vec![after(0), after(1000), after(10_000)]),
        plan.measure(
            &title(sleep),
            "ns",
            limit(),
            vec![beside(0, false), beside(2000, false), beside(4096, false)],
        ),
        plan.measure(
            &title(&format!("{sleep}, one of them in a section")),
            "ns",
            limit(),
            vec![beside(0, true), beside(2000, true), beside(4096, true)],
        ),
    ]
}

/// In the process: ns a block.
pub fn inner(job: &str) -> Result<Value, Refusal> {
    let job: Job = serde_json::from_str(job).map_err(Refusal::of("the job cannot be read"))?;
    end_at_once(job.ended)?;
    sleep_for_ever(job.idle, job.section)?;
    let round = Duration::from_secs_f64(job.seconds);
    if job.churning == 0 {
        return Ok(json!(pairs(round)));
    }
    let threads: Vec<_> =
        (0..job.churning).map(|number| std::thread::spawn(move || replacements(round, number))).collect();
    let each = threads.into_iter().map(|thread| thread.join().expect("it only allocates and frees"));
    Ok(json!(each.sum::<f64>() / job.churning as f64))
}

/// Starts so many threads, all of which are there at the same time, and have allocated, before they end.
fn end_at_once(threads: usize) -> Result<(), Refusal> {
    let all = Arc::new(Barrier::new(threads + 1));
    let started: Result<Vec<_>, Refusal> = (0..threads)
        .map(|_| {
            let all = Arc::clone(&all);
            start(move || {
                one_pair(64);
                all.wait();
            })
        })
        .collect();
    let started = started?;
    all.wait();
    for thread in started {
        thread.join().expect("it only waits");
    }
    Ok(())
}

/// Starts so many threads that allocate and then sleep, and one more, in a section if `section`.
fn sleep_for_ever(threads: usize, section: bool) -> Result<(), Refusal> {
    let lock = if section { Some(read_lock()?) } else { None };
    let ready = Arc::new(Barrier::new(threads + 2));
    for number in 0..=threads {
        let ready = Arc::clone(&ready);
        let lock = lock.filter(|_| number == threads);
        start(move || {
            one_pair(64);
            if let Some(lock) = lock {
                lock();
            }
            ready.wait();
            loop {
                // SAFETY: sleeps until a signal comes.
                unsafe { libc::pause() };
            }
        })?;
    }
    ready.wait();
    // Until all sleep.
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

fn start(body: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, Refusal> {
    let builder = std::thread::Builder::new().stack_size(STACK);
    builder.spawn(body).map_err(Refusal::of("so many threads cannot be had here"))
}

/// The library's call that opens a section.
fn read_lock() -> Result<extern "C" fn(), Refusal> {
    // SAFETY: a string; the default scope.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"rcumalloc_read_lock".as_ptr()) };
    if found.is_null() {
        return Err(Refusal("librcumalloc.so is not preloaded: no rcumalloc_read_lock".into()));
    }
    // SAFETY: of that type, as the header says.
    Ok(unsafe { core::mem::transmute::<*mut libc::c_void, extern "C" fn()>(found) })
}

/// Allocates a block, writes to it and frees it, which no compiler may leave out.
fn one_pair(bytes: usize) {
    // SAFETY: freed once; written where there is one.
    unsafe {
        let block = black_box(libc::malloc(black_box(bytes))).cast::<u8>();
        if !block.is_null() {
            block.write_volatile(1);
        }
        libc::free(block.cast());
    }
}

/// The main thread's loop.
fn pairs(round: Duration) -> f64 {
    per_operation(round, || (0..1000).for_each(|_| one_pair(PAIR)))
}

/// A churning thread's: any of its blocks gives way to one of another size.
fn replacements(round: Duration, number: usize) -> f64 {
    let mut blocks = [core::ptr::null_mut::<u8>(); BLOCKS];
    let mut dice = number as u32 + 1;
    let ns = per_operation(round, || {
        for _ in 0..1000 {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let block = &mut blocks[(dice >> 24) as usize % BLOCKS];
            // SAFETY: each is freed once, before it is replaced; written where there is one.
            unsafe {
                libc::free(black_box(*block).cast());
                *block = libc::malloc(16 + (dice >> 8) as usize % 500).cast();
                if !block.is_null() {
                    block.write_volatile(1);
                }
            }
        }
    });
    // SAFETY: the last ones, each once.
    blocks.iter().for_each(|&block| unsafe { libc::free(block.cast()) });
    ns
}

/// ns of processor time for each of `thousand`'s operations.
fn per_operation(round: Duration, mut thousand: impl FnMut()) -> f64 {
    (0..100).for_each(|_| thousand()); // what a thread is given as it begins
    let (end, began) = (Instant::now() + round, processor_ns());
    let mut operations = 0_u64;
    while Instant::now() < end {
        (0..10).for_each(|_| thousand());
        operations += 10_000;
    }
    (processor_ns() - began) as f64 / operations as f64
}
