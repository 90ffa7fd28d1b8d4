//! Many threads that free, some of them in floods, in a control group that has little room for it.
//!
//! The kernel's people measured how a shrinker and the refilling of caches undo each other; this is the same
//! experiment in user space. The work is fixed: every flooding thread takes its part of half
//! the limit in blocks of mixed sizes, then frees all of it, again and again; the other threads take and free
//! a few blocks at a time. Library and limit are what reality has: the watcher learns the group's limit, and
//! whoever passes seven eighths of it gives back. `RCUMALLOC_BACKOFF_MS=0` is the same without back-off.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::group::{Group, Kind};
use crate::measure::child::{End, Finished};
use crate::measure::rounds::{Spread, alternate};
use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::output::plot::{Line, Plot};
use crate::output::progress;
use crate::output::table::Table;
use crate::peers::{self, Allocator};

/// Threads.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub threads: u16,
    pub flooding: u16,
}

/// Bytes that all floods allocate together.
const WORK: u64 = 6 << 30;
/// Milliseconds between two looks at the library's counters.
const LOOK_MS: u64 = 10;
/// Seconds after which a run has failed.
const PATIENCE: u64 = 180;

/// What the measured side answers.
#[derive(Clone, Serialize, Deserialize)]
struct Answer {
    seconds: f64,
    /// Every look: seconds, and the counters since the beginning.
    looks: Vec<Look>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Look {
    at: f64,
    scans: u64,
    /// Refills of a batch, and of one page only.
    full_refills: u64,
    small_refills: u64,
    scanned_mib: f64,
}

/// One run.
#[derive(Clone, Serialize)]
struct Run {
    survived: bool,
    end: String,
    seconds: f64,
    peak_kib: u64,
    scans: u64,
    full_refills: u64,
    small_refills: u64,
    pairs: u64,
    scanned_mib: f64,
    #[serde(skip)]
    looks: Vec<Look>,
}

impl Run {
    fn of(finished: &Finished) -> Run {
        let answer: Option<Answer> = match finished.end {
            End::Status(0) => serde_json::from_slice(&finished.stdout).ok(),
            _ => None,
        };
        let last = answer.as_ref().and_then(|answer| answer.looks.last().copied()).unwrap_or_default();
        Run {
            survived: answer.is_some(),
            end: finished.complaint(),
            seconds: answer.as_ref().map_or(f64::NAN, |answer| answer.seconds),
            peak_kib: finished.peak_kib,
            scans: last.scans,
            full_refills: last.full_refills,
            small_refills: last.small_refills,
            pairs: answer.as_ref().map_or(0, |answer| pairs(&answer.looks)),
            scanned_mib: last.scanned_mib,
            looks: answer.map(|answer| answer.looks).unwrap_or_default(),
        }
    }
}

/// Scans and full refills that undid each other: of each look, as many as there were of both.
fn pairs(looks: &[Look]) -> u64 {
    let both = |two: &[Look]| {
        let scans = two[1].scans.saturating_sub(two[0].scans);
        scans.min(two[1].full_refills.saturating_sub(two[0].full_refills))
    };
    looks.windows(2).map(both).sum()
}

const SIDES: [(&str, &str); 2] = [("with back-off", ""), ("without", "0")];

/// The same under several periods of the back-off.
const PERIODS: [(&str, &str); 5] =
    [("none", "0"), ("0.2 s", "200"), ("1 s", "1000"), ("2 s", "2000"), ("5 s", "5000")];

/// What the period of the back-off comes to: in each limit, one after the other in every round.
pub fn periods(
    kind: Kind,
    limits: &[u32],
    sizes: Sizes,
    common: &Common,
    outcome: &mut Outcome,
) -> Result<Value, Refusal> {
    let choice = peers::choose(&["rcumalloc".to_owned()], common)?;
    let rounds = common.rounds_or(3);
    outcome.rounds = rounds;
    let mut table = table("Periods of the back-off".to_owned());
    let work = work(common);
    let bar = progress::bar((limits.len() * PERIODS.len()) as u64 * u64::from(rounds + 1));
    let mut rows = Vec::new();
    for &limit in limits {
        let runs = alternate(&PERIODS, rounds, |side, _| {
            bar.inc(1);
            once(kind, limit, sizes, work, &choice.present[0], side.1)
        })?;
        for ((name, period), runs) in PERIODS.iter().zip(&runs) {
            table.row(row(limit, name, runs));
            rows.push(json!({ "limit_mib": limit, "period_ms": period, "runs": runs }));
        }
    }
    bar.finish_and_clear();
    outcome.tables.push(table);
    Ok(json!(rows))
}

fn work(common: &Common) -> u64 {
    if common.quick { WORK / 16 } else { WORK }
}

fn table(title: String) -> Table {
    let head = [
        "MiB",
        "",
        "survived",
        "seconds",
        "scans",
        "full refills",
        "small refills",
        "pairs",
        "given MiB",
        "peak MiB",
    ];
    Table::new(title, &head).note(
        "Medians (least .. greatest) of the runs that survived. Full refills fetch a batch, small ones a \
         page. \
         Pairs: scans and full refills within the same 10 ms, which undo each other.",
    )
}

pub fn run(
    kind: Kind,
    limits: &[u32],
    sizes: Sizes,
    common: &Common,
    outcome: &mut Outcome,
) -> Result<Value, Refusal> {
    let choice = peers::choose(&["rcumalloc".to_owned()], common)?;
    let ours = &choice.present[0];
    let rounds = common.rounds_or(5);
    outcome.rounds = outcome.rounds.max(rounds);
    let title = format!("{} freeing threads, {} of them flooding", sizes.threads, sizes.flooding);
    let mut table = table(title);
    let work = work(common);
    let bar = progress::bar(limits.len() as u64 * u64::from(rounds + 1) * 2);
    let mut rows = Vec::new();
    for &limit in limits {
        let runs = alternate(&SIDES, rounds, |side, _| {
            bar.inc(1);
            once(kind, limit, sizes, work, ours, side.1)
        })?;
        for ((name, _), runs) in SIDES.iter().zip(&runs) {
            table.row(row(limit, name, runs));
        }
        outcome.plots.extend(pictures(limit, &runs));
        outcome.targets.extend(judge(limit, &runs[0], &runs[1]));
        rows.push(json!({ "limit_mib": limit, "with": runs[0], "without": runs[1] }));
    }
    bar.finish_and_clear();
    outcome.tables.push(table);
    Ok(json!({ "threads": sizes.threads, "flooding": sizes.flooding, "bytes": work, "limits": rows }))
}

fn once(
    kind: Kind,
    limit: u32,
    sizes: Sizes,
    work: u64,
    ours: &Allocator,
    back_off: &str,
) -> Result<Run, Refusal> {
    let bytes = u64::from(limit) << 20;
    let group = Group::new(kind, bytes)?;
    let job = json!({
        "kind": "flood", "limit": bytes, "work": work, "threads": sizes.threads, "flooding": sizes.flooding,
    });
    let mut child = group.inner("pressure", &job, ours)?.timeout(Duration::from_secs(PATIENCE));
    if !back_off.is_empty() {
        child = child.env("RCUMALLOC_BACKOFF_MS", back_off);
    }
    Ok(Run::of(&child.run()?))
}

fn of(runs: &[Run], figure: impl Fn(&Run) -> f64) -> Option<Spread> {
    Spread::of(runs.iter().filter(|run| run.survived).map(figure))
}

fn row(limit: u32, name: &str, runs: &[Run]) -> Vec<String> {
    let survived = runs.iter().filter(|run| run.survived).count();
    let show = |figure: &dyn Fn(&Run) -> f64, digits: usize| {
        of(runs, figure)
            .map_or_else(|| "n/a".to_owned(), |spread| spread.text(|value| format!("{value:.digits$}")))
    };
    vec![
        limit.to_string(),
        name.to_owned(),
        format!("{survived} of {}", runs.len()),
        show(&|run| run.seconds, 2),
        show(&|run| run.scans as f64, 0),
        show(&|run| run.full_refills as f64, 0),
        show(&|run| run.small_refills as f64, 0),
        show(&|run| run.pairs as f64, 0),
        show(&|run| run.scanned_mib, 0),
        show(&|run| run.peak_kib as f64 / 1024.0, 0),
    ]
}

/// Scans and refills over time, of the last round of each side.
fn pictures(limit: u32, runs: &[Vec<Run>]) -> Vec<Plot> {
    let lines = |figure: fn(&Look) -> f64| {
        let line = |((name, _), runs): (&(&str, &str), &Vec<Run>)| {
            let looks = runs.iter().rev().find(|run| run.survived).map_or(&[][..], |run| &run.looks);
            // A few hundred points are a picture; thousands are a large file.
            let every = looks.len().div_ceil(300).max(1);
            let points = looks.iter().step_by(every).map(|look| (look.at, figure(look)));
            Line { name: (*name).to_owned(), points: points.collect() }
        };
        SIDES.iter().zip(runs).map(line).collect::<Vec<_>>()
    };
    vec![
        Plot::lines(
            format!("{limit} MiB: scans so far"),
            "seconds",
            "scans",
            lines(|look| look.scans as f64),
        ),
        Plot::lines(
            format!("{limit} MiB: full refills so far"),
            "seconds",
            "refills of a batch",
            lines(|look| look.full_refills as f64),
        ),
    ]
}

fn judge(limit: u32, with: &[Run], without: &[Run]) -> Vec<Target> {
    let survived = with.iter().filter(|run| run.survived).count();
    let mut targets = vec![Target {
        what: format!("flood in {limit} MiB: survives"),
        seen: format!("{survived} of {}", with.len()),
        met: Some(survived == with.len()),
    }];
    let seconds = |runs: &[Run]| runs.iter().map(|run| run.seconds).collect::<Vec<_>>();
    let ratio = Spread::of_ratios(&seconds(with), &seconds(without));
    targets.push(Target {
        what: format!("flood in {limit} MiB: with back-off at most 5 % slower than without"),
        seen: ratio.map_or_else(|| "n/a".to_owned(), |ratio| ratio.ratio_text()),
        met: ratio.map(|ratio| ratio.median <= 1.05),
    });
    let pairs = |runs: &[Run]| of(runs, |run| run.pairs as f64).map(|spread| spread.median);
    if let (Some(few), Some(many)) = (pairs(with), pairs(without)) {
        targets.push(Target {
            what: format!(
                "flood in {limit} MiB: pairs of scan and refill, at least 10 times fewer with back-off"
            ),
            seen: format!("{few} with, {many} without"),
            // Where they hardly ever meet there is no vicious circle to break.
            met: (many >= 20.0).then_some(few * 10.0 <= many),
        });
    }
    targets
}

/// `struct rcumalloc_stats`, as numbers in the header's order.
type Stats = [u64; 50];
const REFILLS: usize = 26;
const SUPPRESSED: usize = 27;
const SCANS: std::ops::Range<usize> = 32..40;
const SCANNED: std::ops::Range<usize> = 41..49;

type Ask = unsafe extern "C" fn(*mut Stats, usize) -> bool;

fn counters() -> Option<Ask> {
    // SAFETY: the function of this name has this type.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"rcumalloc_stats".as_ptr());
        (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, Ask>(found))
    }
}

/// Counters that another allocator has not are 0.
fn look(ask: Option<Ask>, began: Instant) -> Look {
    let mut stats: Stats = [0; 50];
    if let Some(ask) = ask {
        // SAFETY: as many bytes as are said.
        unsafe { ask(&raw mut stats, size_of::<Stats>()) };
    }
    // All reasons but age, which is nobody's scan.
    Look {
        at: began.elapsed().as_secs_f64(),
        scans: stats[SCANS].iter().sum(),
        full_refills: stats[REFILLS].saturating_sub(stats[SUPPRESSED]),
        small_refills: stats[SUPPRESSED],
        scanned_mib: stats[SCANNED].iter().sum::<u64>() as f64 / 1048576.0,
    }
}

pub fn inner(job: &Value) -> Result<Value, Refusal> {
    let number = |name: &str| job[name].as_u64().ok_or_else(|| Refusal(format!("the job has no {name}")));
    let (limit, work) = (number("limit")?, number("work")?);
    let (threads, flooding) = (number("threads")?, number("flooding")?.max(1));
    let ask = counters();
    let burst = (limit / 2 / flooding) as usize;
    let bursts = (work / flooding).div_ceil(burst as u64).max(1);
    let stop = AtomicBool::new(false);
    let mut looks: Vec<Look> = Vec::with_capacity((PATIENCE * 1000 / LOOK_MS) as usize);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let floods: Vec<_> =
            (0..flooding).map(|seed| scope.spawn(move || flood(seed + 1, burst, bursts))).collect();
        for seed in flooding..threads {
            let stop = &stop;
            scope.spawn(move || trickle(seed + 1, stop));
        }
        while floods.iter().any(|flood| !flood.is_finished()) {
            if looks.len() < looks.capacity() {
                looks.push(look(ask, began));
            }
            std::thread::sleep(Duration::from_millis(LOOK_MS));
        }
        // Relaxed: the scope's end joins.
        stop.store(true, Relaxed);
    });
    let seconds = began.elapsed().as_secs_f64();
    looks.push(look(ask, began));
    serde_json::to_value(Answer { seconds, looks }).map_err(Refusal::of("the answer"))
}

fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// A block on a list through the blocks themselves: nothing else is allocated.
fn push(last: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: a fresh block of at least 16 bytes.
    unsafe {
        let block = libc::malloc(bytes);
        if block.is_null() {
            libc::_exit(3);
        }
        libc::memset(block, 0x5a, bytes);
        block.cast::<*mut c_void>().write(last);
        block
    }
}

fn free_all(mut last: *mut c_void) {
    while !last.is_null() {
        // SAFETY: a block of `push`, whose first word is the one before.
        unsafe {
            let before = last.cast::<*mut c_void>().read();
            libc::free(last);
            last = before;
        }
    }
}

fn flood(seed: u64, burst: usize, bursts: u64) {
    let mut seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..bursts {
        // Each flood of other sizes than the last.
        let middle = 32 << (next(&mut seed) % 8);
        let (mut last, mut left) = (std::ptr::null_mut(), burst);
        while left > 0 {
            let bytes = (middle + next(&mut seed) as usize % middle).min(left.max(16));
            last = push(last, bytes);
            left = left.saturating_sub(bytes);
        }
        free_all(last);
    }
}

fn trickle(seed: u64, stop: &AtomicBool) {
    let mut seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // Relaxed: only to end.
    while !stop.load(Relaxed) {
        for _ in 0..20 {
            let mut last = std::ptr::null_mut();
            for _ in 0..16 {
                last = push(last, 16 + next(&mut seed) as usize % 1000);
            }
            free_all(last);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_of_one_look() {
        let look = |scans, full_refills| Look { scans, full_refills, ..Look::default() };
        assert_eq!(pairs(&[]), 0);
        // Three scans with two refills, two scans alone, refills alone.
        assert_eq!(pairs(&[look(0, 0), look(3, 2), look(5, 2), look(5, 90)]), 2);
    }

    #[test]
    fn a_flood_gives_everything_back() {
        flood(3, 1 << 20, 2);
        let stop = AtomicBool::new(true);
        trickle(4, &stop);
    }
}
