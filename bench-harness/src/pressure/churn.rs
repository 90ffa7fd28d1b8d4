//! The smallest control group in which a fixed piece of work gets done, allocator by allocator.
//!
//! The work holds [`LIVE`] bytes at most, but of sizes that change from phase to phase, with every block
//! freed by another thread than the one that allocated it: an allocator that keeps what it has once cut into
//! blocks of one size, or in the caches of one thread, needs more than that. A limit counts as enough when
//! every try in it succeeds; the search is by bisection.

use std::ffi::c_void;
use std::sync::Barrier;

use serde_json::{Value, json};

use super::group::Kind;
use super::search::Search;
use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::output::plot::{Bar, Plot};
use crate::output::progress;
use crate::output::table::Table;
use crate::peers::{self, Allocator};

/// The allocators one compares with, unless one says otherwise.
pub const USUAL: [&str; 7] =
    ["rcumalloc", "glibc", "mimalloc", "mimalloc2", "jemalloc", "jemalloc5.3", "tcmalloc"];

const THREADS: usize = 8;
/// Bytes all threads hold together at the end of a phase's first half.
const LIVE: usize = 24 << 20;
/// Sizes of the phases, in bytes: up and down, so that what one phase leaves is of no use to the next.
const PHASES: [usize; 10] = [48, 4000, 200, 12_000, 96, 1500, 30_000, 32, 700, 100_000];
/// Least and greatest limit tried.
const LEAST: u64 = 8 << 20;
const MOST: u64 = 512 << 20;
/// How close the search comes.
const STEP: u64 = 1 << 20;
/// Seconds after which a try in a group has failed: thrashing is no success. Unlimited it takes about one.
const PATIENCE: u64 = 40;

pub fn run(kind: Kind, with: &[String], common: &Common, outcome: &mut Outcome) -> Result<Value, Refusal> {
    let choice = peers::choose(with, common)?;
    outcome.notes.extend(choice.missing.iter().map(ToString::to_string));
    let tries = common.rounds_or(3);
    outcome.rounds = outcome.rounds.max(tries);
    let rounds = if common.quick { 2 } else { 12 };
    let job = json!({ "kind": "churn", "rounds": rounds });
    let bar = progress::bar(choice.present.len() as u64);
    let mut found = Vec::new();
    for allocator in &choice.present {
        let search = Search {
            groups: kind,
            measured: "pressure",
            job: &job,
            tries,
            least: LEAST,
            most: MOST,
            step: STEP,
            patience: PATIENCE,
        };
        let found_one = search.smallest(allocator)?;
        found.push((allocator, (found_one.limit, found_one.seconds)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut table = Table::new(
        "The smallest control group that is enough",
        &["allocator", "MiB", "seconds without a limit"],
    )
    .note(format!(
        "{THREADS} threads, {} MiB live at most; every one of {tries} tries at this limit completed. \
             Less is better.",
        LIVE >> 20
    ));
    for (allocator, (limit, free_seconds)) in &found {
        table.row([allocator.name.clone(), mib(*limit), format!("{free_seconds:.2}")]);
    }
    outcome.tables.push(table);
    let bars = found.iter().filter_map(|(allocator, (limit, _))| {
        let value = (*limit)? as f64 / 1048576.0;
        Some(Bar { name: allocator.name.clone(), median: value, least: value, greatest: value })
    });
    outcome.plots.push(Plot::bars("Smallest control group for the churn", "MiB", bars.collect()));
    if let Some(target) = judge(&found) {
        outcome.targets.push(target);
    }
    let rows = found.iter().map(|(allocator, (limit, seconds))| {
        json!({ "allocator": allocator.name, "smallest_bytes": limit, "seconds_unlimited": seconds })
    });
    Ok(json!({
        "threads": THREADS, "live_bytes": LIVE, "tries": tries,
        "allocators": rows.collect::<Vec<_>>(),
    }))
}

fn mib(limit: Option<u64>) -> String {
    limit.map_or_else(|| format!("over {}", MOST >> 20), |limit| (limit >> 20).to_string())
}

type Found<'a> = (&'a Allocator, (Option<u64>, f64));

fn judge(found: &[Found<'_>]) -> Option<Target> {
    let ours = found.iter().find(|(allocator, _)| allocator.name == "rcumalloc")?.1.0;
    let others = found.iter().filter(|(allocator, _)| !allocator.name.starts_with("rcumalloc"));
    let (best, least) =
        others.map(|(allocator, (limit, _))| (allocator, limit.unwrap_or(u64::MAX))).min_by_key(|x| x.1)?;
    Some(Target {
        what: "churn: the smallest limit of all is ours".to_owned(),
        seen: format!("{} MiB, {} {} MiB", mib(ours), best.name, mib(Some(least))),
        met: Some(ours.unwrap_or(u64::MAX) <= least),
    })
}

/// One thread's blocks, for the next thread to free.
struct Held(Vec<*mut c_void>);

// SAFETY: blocks of malloc belong to whoever holds their addresses.
unsafe impl Send for Held {}

pub fn inner(job: &Value) -> Result<Value, Refusal> {
    let rounds = job["rounds"].as_u64().unwrap_or(1);
    let share = LIVE / THREADS;
    // The lists are made before the work begins, at their largest.
    let longest = share / PHASES.iter().min().copied().unwrap_or(16) + 1;
    let slots: Vec<_> =
        (0..THREADS).map(|_| std::sync::Mutex::new(Held(Vec::with_capacity(longest)))).collect();
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (slots, barrier) = (&slots, &barrier);
            scope.spawn(move || {
                for phase in 0..rounds as usize * PHASES.len() {
                    let size = PHASES[phase % PHASES.len()];
                    fill(&mut lock(&slots[thread]).0, size, share);
                    barrier.wait();
                    let other = &mut lock(&slots[(thread + 1) % THREADS]).0;
                    // SAFETY: blocks of `fill`, each freed once.
                    other.drain(..).for_each(|block| unsafe { libc::free(block) });
                    barrier.wait();
                }
            });
        }
    });
    Ok(json!({ "done": true }))
}

fn lock(slot: &std::sync::Mutex<Held>) -> std::sync::MutexGuard<'_, Held> {
    slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Allocates and writes blocks of about `size` bytes, `share` bytes in all. A refusal ends the process:
/// this limit was not enough.
fn fill(blocks: &mut Vec<*mut c_void>, size: usize, share: usize) {
    let mut left = share;
    let mut salt = size;
    while left >= size && blocks.len() < blocks.capacity() {
        salt = salt.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let bytes = size - size / 4 + (salt >> 33) % (size / 4 + 1);
        // SAFETY: a fresh block, written within its size.
        unsafe {
            let block = libc::malloc(bytes);
            if block.is_null() {
                libc::_exit(3);
            }
            libc::memset(block, 0x5a, bytes);
            blocks.push(block);
        }
        left -= bytes.min(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_gets_done() {
        assert_eq!(inner(&json!({ "rounds": 1 })).expect("work")["done"], true);
    }
}
