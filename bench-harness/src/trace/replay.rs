//! `workload replay`: repeats a trace with its threads and their order.
//!
//! Each thread makes its own calls in their order, and the calls that concern one slot happen in their
//! recorded order, whoever makes them: a call waits until the slot's turn is its own. All these waits end,
//! for the recorded order is one in which every call comes after those it waits for. The first thread starts
//! the others when it has come as far as it had when they made their first call. A pass that is over frees
//! what is left, and passes follow each other until the time is up.
//!
//! The trace is read into memory of its own, not the measured allocator's, which would keep some of it for
//! the replay; the peak is counted from when it has been read.

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::format::{Event, Header, Kind, Trace, unreadable};
use crate::machine;
use crate::measure::latency::{self, Recorder};
use crate::measure::pages::Pages;
use crate::outcome::Refusal;
use crate::workload::about::About;
use crate::workload::{Job, Plain, Probe, Tally, Timed, Touch, status_kib};

pub const ABOUT: About = About {
    name: "replay",
    known_as: "a recorded trace",
    pattern: "the calls of a real program, by its threads, in their order",
    threads: 1,
    sizes: (0, 0),
    touch: Touch::Pages,
};

/// One call of a thread.
#[derive(Clone, Copy)]
struct Step {
    kind: Kind,
    slot: u32,
    /// How many calls concerned the slot before.
    turn: u32,
    size: u64,
}

/// Where a block lies between its calls.
struct Slot {
    /// Calls so far in this pass. Guards `block`.
    turn: AtomicU32,
    block: AtomicPtr<u8>,
}

/// A thread's part of the trace.
struct Part {
    steps: Pages<Step>,
    /// Threads to start, each before this many own events are done. Of the first thread only.
    starts: Vec<(usize, usize)>,
}

pub fn run(job: &Job) -> Result<Tally, Refusal> {
    if job.latency { passes::<Timed>(job) } else { passes::<Plain>(job) }
}

fn passes<P: Probe>(job: &Job) -> Result<Tally, Refusal> {
    let Some(file) = &job.trace else { return Err(Refusal("replay needs a trace".to_owned())) };
    let scale = latency::nanoseconds_per_tick(Duration::from_millis(10));
    let recording = job.latency.then(|| latency::cost(scale));
    let Loaded { parts, slots, allocations, .. } = load(file)?;
    // The peak so far was the loading's.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let base_kib = status_kib("VmRSS:");
    let (mut operations, mut wall, mut cpu, mut recorder) = (0, 0.0, 0.0, None::<Recorder>);
    let end = Instant::now() + Duration::from_secs_f64(job.seconds);
    while operations == 0 || Instant::now() < end {
        let (began, cpu_before) = (Instant::now(), machine::self_seconds());
        let recorders = pass::<P>(&parts, slots.slice(), job.touch);
        wall += began.elapsed().as_secs_f64();
        cpu += machine::self_seconds() - cpu_before;
        operations += allocations;
        for one in recorders.into_iter().flatten() {
            match &mut recorder {
                Some(all) => all.add(&one),
                None => recorder = Some(one),
            }
        }
        for slot in slots.slice() {
            // Relaxed, both: the threads have been joined.
            slot.turn.store(0, Ordering::Relaxed);
            let block = slot.block.swap(std::ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: what is in a slot is live.
            unsafe { libc::free(block.cast()) };
        }
    }
    Ok(Tally {
        operations,
        wall_seconds: wall,
        cpu_seconds: cpu.max(1e-6),
        peak_kib: status_kib("VmHWM:").saturating_sub(base_kib).max(1),
        base_kib,
        latency: recorder.map(|recorder| recorder.summary(scale)),
        recording,
    })
}

/// A trace as its threads replay it.
struct Loaded {
    parts: Vec<Part>,
    slots: Pages<Slot>,
    /// Calls that give a block.
    allocations: u64,
    /// Calls so far, of each thread and of each slot.
    done: Vec<usize>,
    turns: Pages<u32>,
}

impl Loaded {
    fn new(header: &Header) -> Loaded {
        let part = |&count: &u32| Part { steps: Pages::new(count as usize), starts: Vec::new() };
        let slots = header.slots as usize;
        Loaded {
            parts: header.counts.iter().map(part).collect(),
            slots: Pages::new(slots),
            allocations: 0,
            done: vec![0; header.counts.len()],
            turns: Pages::new(slots),
        }
    }

    fn add(&mut self, event: Event) {
        let (thread, slot) = (event.thread as usize, event.slot as usize);
        if thread != 0 && self.done[thread] == 0 {
            self.parts[0].starts.push((self.done[0], thread));
        }
        let turn = self.turns.slice()[slot];
        self.turns.set(slot, turn + 1);
        let step = Step { kind: event.kind, slot: event.slot, turn, size: event.size };
        self.parts[thread].steps.set(self.done[thread], step);
        self.done[thread] += 1;
        self.allocations += u64::from(event.kind != Kind::Free);
    }
}

fn load(file: &Path) -> Result<Loaded, Refusal> {
    let bytes = Pages::of_file(file).map_err(|error| unreadable(file, error))?;
    let mut loaded = None;
    let header = Trace::scan(bytes.slice(), |header, event| {
        loaded.get_or_insert_with(|| Loaded::new(header)).add(event);
    });
    let header = header.map_err(|reason| unreadable(file, reason))?;
    Ok(loaded.unwrap_or_else(|| Loaded::new(&header)))
}

fn pass<P: Probe>(parts: &[Part], slots: &[Slot], touch: Touch) -> Vec<Option<Recorder>> {
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut starts = parts[0].starts.iter().peekable();
        let mut probe = P::new();
        for (done, step) in parts[0].steps.slice().iter().enumerate() {
            while let Some(&(_, thread)) = starts.next_if(|(after, _)| *after <= done) {
                threads.push(scope.spawn(move || whole::<P>(&parts[thread], slots, touch)));
            }
            call(step, slots, &mut probe, touch);
        }
        for &(_, thread) in starts {
            threads.push(scope.spawn(move || whole::<P>(&parts[thread], slots, touch)));
        }
        let mut recorders = vec![probe.recorder()];
        recorders.extend(threads.into_iter().map(|thread| thread.join().expect("a replay does not panic")));
        recorders
    })
}

fn whole<P: Probe>(part: &Part, slots: &[Slot], touch: Touch) -> Option<Recorder> {
    let mut probe = P::new();
    part.steps.slice().iter().for_each(|step| call(step, slots, &mut probe, touch));
    probe.recorder()
}

#[inline]
fn call<P: Probe>(step: &Step, slots: &[Slot], probe: &mut P, touch: Touch) {
    // A malloc(0) may give null, which would look like a failure.
    let (slot, size) = (&slots[step.slot as usize], step.size.max(1) as usize);
    // Acquire: pairs with the release store below of whoever had the turn before.
    while slot.turn.load(Ordering::Acquire) != step.turn {
        std::thread::yield_now();
    }
    // Relaxed, here and below: the turn orders them.
    let old = slot.block.load(Ordering::Relaxed);
    let gives_up = matches!(step.kind, Kind::Free | Kind::Realloc);
    if old.is_null() == gives_up {
        disordered();
    }
    // SAFETY: the trace was validated and each slot's calls are in its order: a block is freed or given up
    // once.
    let block = unsafe {
        match step.kind {
            Kind::Malloc => probe.time(|| libc::malloc(size)),
            Kind::Calloc => probe.time(|| libc::calloc(1, size)),
            Kind::Memalign(log2) => probe.time(|| libc::memalign(1 << log2, size)),
            Kind::Realloc => probe.time(|| libc::realloc(old.cast(), size)),
            Kind::Free => {
                probe.time(|| libc::free(old.cast()));
                std::ptr::null_mut()
            }
        }
    };
    let block = black_box(block.cast::<u8>());
    if step.kind != Kind::Free {
        if block.is_null() {
            eprintln!("rcumalloc-bench: the allocator gave no block of {size} bytes");
            std::process::exit(2);
        }
        if touch != Touch::None && step.kind != Kind::Calloc {
            // SAFETY: within the block's `size` bytes.
            (0..size).step_by(4096).for_each(|at| unsafe { block.add(at).write_volatile(1) });
        }
    }
    slot.block.store(block, Ordering::Relaxed);
    // Release: pairs with the acquire load above of whoever has the next turn.
    slot.turn.store(step.turn + 1, Ordering::Release);
}

/// A slot was empty that had to be full, or the other way round: what would be measured is another program.
#[cold]
fn disordered() -> ! {
    eprintln!("rcumalloc-bench: the replay lost the order of the trace");
    std::process::exit(2);
}
