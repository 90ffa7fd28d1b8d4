//! The measured half of `refscale`: what a read-side section costs, and what a block costs that is retired.
//!
//! As in the kernel: every reader runs `loops` times the same section, `runs` times over, all at once; a
//! run's figure is the mean time of one section over all readers. Four kinds of section:
//!
//! - `pair`: opened and closed, nothing inside.
//! - `read`: an object is found through a shared pointer and one word of it read. With hazard pointers this
//!   is where the cost lies.
//! - `typesafe`: objects are never given back while the test runs (type-stable memory, the kernel's
//!   SLAB_TYPESAFE_BY_RCU), so a section finds one through a table, reads its sequence count, two words,
//!   the count again, and starts over if it changed. No writer runs: what is measured is the reader.
//! - `retire`: no section of a reader, but a writer's block: allocated, written to, retired, and freed once
//!   nobody can see it. How many wait, and for how long, is `rcuscale`'s question.
//! - for comparison, without any scheme: a reference count, a reader/writer lock and a mutex around the read.

use crate::measure::distance::{Around, round_trip_ns};
use crate::reclaim::blocks::{Free, allocate};
use crate::reclaim::sides::Placed;
use crate::reclaim::{Dispose, Local, Scheme};
use core::ffi::c_void;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::sync::atomic::{
    AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Barrier, Mutex, PoisonError, RwLock};
use std::time::Instant;

/// The kernel's parameters.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, clap::Args)]
pub struct Parameters {
    /// Readers (nreaders; the kernel's default is three quarters of the processors)
    #[arg(long, default_value_t = (crate::rcuscale::processors() * 3 / 4).max(1))]
    pub readers: usize,
    /// Sections a run (loops)
    #[arg(long, default_value_t = 10_000)]
    pub loops: u64,
    /// Runs (nruns)
    #[arg(long, default_value_t = 30)]
    pub runs: usize,
}

/// Nanoseconds a section, one figure a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// What was run.
    pub scheme: String,
    /// A section with nothing inside.
    pub pair: Vec<f64>,
    /// One that reads through a shared pointer.
    pub read: Vec<f64>,
    /// One that validates a type-stable object.
    pub typesafe: Vec<f64>,
    /// A block that is allocated and retired.
    pub retire: Vec<f64>,
    /// How far apart the processors were.
    pub around: Around,
}

impl Placed for Measured {
    fn around(&self) -> Around {
        self.around
    }
}

/// A type-stable object: readers validate it by its count.
#[derive(Default)]
struct Object {
    sequence: AtomicUsize,
    words: [AtomicU64; 2],
}

const OBJECTS: usize = 64;

/// Bytes of a block that is retired: a node of a list with its value.
const BLOCK: usize = 32;

/// Runs scheme `S`.
///
/// # Errors
/// The scheme cannot run here, or not with readers.
pub fn run<S: Scheme>(parameters: &Parameters) -> Result<Measured, String> {
    if !S::SAFE {
        return Err(format!("{} is not safe with readers", S::NAME));
    }
    let scheme = S::start()?;
    let objects: Vec<Object> = (0..OBJECTS).map(|_| Object::default()).collect();
    let shared = AtomicPtr::new((&raw const objects[0]).cast_mut());
    let table: Vec<AtomicPtr<Object>> =
        objects.iter().map(|object| AtomicPtr::new(core::ptr::from_ref(object).cast_mut())).collect();
    let before = round_trip_ns();
    Ok(Measured {
        scheme: S::NAME.to_owned(),
        pair: runs(
            parameters,
            || scheme.join(),
            |local, _| {
                local.enter();
                local.leave();
            },
        ),
        read: runs(
            parameters,
            || scheme.join(),
            |local, _| {
                local.enter();
                let object = found(local, &shared);
                // SAFETY: the objects outlive the readers.
                black_box(unsafe { &*object }.words[0].load(Relaxed));
                local.leave();
            },
        ),
        typesafe: runs(
            parameters,
            || scheme.join(),
            |local, count| {
                local.enter();
                let slot = &table[count as usize % OBJECTS];
                loop {
                    // SAFETY: type-stable: an object found here stays one.
                    let object = unsafe { &*found(local, slot) };
                    let before = object.sequence.load(Acquire);
                    let words = (object.words[0].load(Relaxed), object.words[1].load(Acquire));
                    if before & 1 == 0 && object.sequence.load(Relaxed) == before {
                        black_box(words);
                        break;
                    }
                }
                local.leave();
            },
        ),
        retire: {
            let retire = |local: &mut S::Local<'_>, count| {
                // SAFETY: nobody else has seen the block, and 16 bytes at 8 are the scheme's.
                unsafe { local.retire_outside::<Free<8>>(touched(count)) };
            };
            let figures = runs(parameters, || scheme.join(), retire);
            scheme.drain();
            figures
        },
        around: Around(before, round_trip_ns()),
    })
}

/// A block in which something was written.
#[inline(always)]
fn touched(count: u64) -> *mut c_void {
    let block = allocate(BLOCK);
    // SAFETY: of so many bytes, ours.
    unsafe { block.cast::<u64>().write_volatile(count) };
    block
}

/// The same blocks freed at once: what of `retire` is the allocator's.
pub fn free_at_once(parameters: &Parameters) -> Vec<f64> {
    // SAFETY: nobody else has seen the block.
    runs(parameters, || (), |(), count| unsafe { Free::<8>::dispose(touched(count)) })
}

/// What `shared` points at, protected.
#[inline(always)]
fn found<L: Local>(local: &mut L, shared: &AtomicPtr<Object>) -> *mut Object {
    loop {
        let object = shared.load(Acquire);
        if !L::SHIELDS {
            return object;
        }
        local.shield(0, object.cast::<c_void>());
        if shared.load(Acquire) == object {
            return object;
        }
    }
}

/// `runs` runs of all readers at once.
fn runs<T>(
    parameters: &Parameters,
    join: impl Fn() -> T + Sync,
    section: impl Fn(&mut T, u64) + Sync,
) -> Vec<f64> {
    let barrier = Barrier::new(parameters.readers);
    let readers: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parameters.readers)
            .map(|_| {
                scope.spawn(|| {
                    let mut own = join();
                    let mut figures = Vec::with_capacity(parameters.runs);
                    // One run more: the first is the warm-up.
                    for _ in 0..=parameters.runs {
                        barrier.wait();
                        let began = Instant::now();
                        for count in 0..parameters.loops {
                            section(&mut own, count);
                        }
                        figures.push(began.elapsed().as_nanos() as f64 / parameters.loops as f64);
                    }
                    figures
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    (1..=parameters.runs)
        .map(|run| readers.iter().map(|figures| figures[run]).sum::<f64>() / readers.len() as f64)
        .collect()
}

/// The same read without a scheme, by name.
pub fn without_scheme(parameters: &Parameters) -> Vec<(&'static str, Vec<f64>)> {
    let count = AtomicU64::new(1);
    let object = Object::default();
    let (shared, mutex) = (RwLock::new(&object), Mutex::new(&object));
    let counted = runs(
        parameters,
        || (),
        |(), _| {
            count.fetch_add(1, Acquire);
            black_box(object.words[0].load(Relaxed));
            count.fetch_sub(1, Release);
        },
    );
    let rwlock = runs(
        parameters,
        || (),
        |(), _| {
            let object = shared.read().unwrap_or_else(PoisonError::into_inner);
            black_box(object.words[0].load(Relaxed));
        },
    );
    let mutex = runs(
        parameters,
        || (),
        |(), _| {
            let object = mutex.lock().unwrap_or_else(PoisonError::into_inner);
            black_box(object.words[0].load(Relaxed));
        },
    );
    vec![("reference count", counted), ("reader/writer lock", rwlock), ("mutex", mutex)]
}
