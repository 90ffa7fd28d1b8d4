//! How long free memory lies unused before it fades (`RCUMALLOC_DECAY_MS`): a server in small uses something
//! little all the time, and every so often 48 MiB of blocks of many sizes for one request. Processor time and
//! faults against the memory that is resident in the mean. It needs no control group.

use std::ffi::c_void;
use std::io::Read;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::measure::child::{Child, Finished};
use crate::measure::rounds::{Spread, alternate};
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::progress;
use crate::output::table::Table;
use crate::peers;

/// Periods, as the option takes them.
const PERIODS: [&str; 6] = ["0", "500", "1000", "2000", "5000", "off"];
/// Milliseconds from one large request to the next.
const EVERY_MS: [u64; 3] = [300, 1000, 3000];
/// Seconds of a run.
const SECONDS: f64 = 6.0;
/// Bytes of a large request, and of the small ones between.
const LARGE: usize = 48 << 20;
const SMALL: usize = 256 << 10;
/// Between two small requests, and two looks at what is resident.
const PAUSE: Duration = Duration::from_millis(20);

/// What the measured side answers.
#[derive(Serialize, Deserialize)]
struct Answer {
    mean_mib: f64,
}

pub fn run(common: &Common, outcome: &mut Outcome) -> Result<Value, Refusal> {
    let choice = peers::choose(&["rcumalloc".to_owned()], common)?;
    let ours = &choice.present[0];
    let (rounds, seconds) = (common.rounds_or(3), common.seconds_or(SECONDS));
    outcome.rounds = rounds;
    let head = ["a large request every", "RCUMALLOC_DECAY_MS", "CPU ms", "mean MiB", "faults"];
    let mut table = Table::new("Decay", &head).note("Medians (least .. greatest) of the rounds.");
    let bar = progress::bar((EVERY_MS.len() * PERIODS.len()) as u64 * u64::from(rounds + 1));
    let mut rows = Vec::new();
    for every_ms in EVERY_MS {
        let job = json!({ "kind": "decay", "seconds": seconds, "every_ms": every_ms });
        let runs = alternate(&PERIODS, rounds, |period, _| {
            bar.inc(1);
            let child = Child::inner("pressure", &job)?.under(ours).env("RCUMALLOC_DECAY_MS", period);
            child.answer::<Answer>()
        })?;
        for (period, runs) in PERIODS.iter().zip(&runs) {
            let of = |figure: fn(&(Answer, Finished)) -> f64| Spread::of(runs.iter().map(figure));
            let cpu_ms = of(|(_, finished)| finished.cpu_seconds() * 1e3);
            let mean_mib = of(|(answer, _)| answer.mean_mib);
            let faults = of(|(_, finished)| finished.minor_faults as f64);
            let show = |spread: Option<Spread>, digits: usize| {
                spread.map_or_else(|| "n/a".to_owned(), |s| s.text(|value| format!("{value:.digits$}")))
            };
            table.row([
                format!("{every_ms} ms"),
                (*period).to_owned(),
                show(cpu_ms, 0),
                show(mean_mib, 1),
                show(faults, 0),
            ]);
            rows.push(json!({
                "every_ms": every_ms, "period": period,
                "cpu_ms": cpu_ms, "mean_mib": mean_mib, "faults": faults,
            }));
        }
    }
    bar.finish_and_clear();
    outcome.tables.push(table);
    Ok(json!(rows))
}

pub fn inner(job: &Value) -> Result<Value, Refusal> {
    let number = |name: &str| job[name].as_f64().ok_or_else(|| Refusal(format!("the job has no {name}")));
    let (seconds, every_ms) = (number("seconds")?, number("every_ms")?);
    let every = Duration::from_secs_f64(every_ms / 1e3);
    let mut blocks = Vec::with_capacity(1 << 20);
    let mut dice = fastrand::Rng::with_seed(1);
    let (began, mut next) = (Instant::now(), Instant::now());
    let (mut sum, mut looks) = (0.0, 0u32);
    while began.elapsed().as_secs_f64() < seconds {
        request(&mut blocks, SMALL, &mut dice);
        let now = Instant::now();
        if now >= next {
            next = now + every;
            request(&mut blocks, LARGE, &mut dice);
        }
        sum += resident_mib();
        looks += 1;
        std::thread::sleep(PAUSE);
    }
    let answer = Answer { mean_mib: sum / f64::from(looks.max(1)) };
    serde_json::to_value(answer).map_err(Refusal::of("the answer"))
}

/// Takes so many bytes in blocks of many sizes, and frees them, the last first.
fn request(blocks: &mut Vec<*mut c_void>, bytes: usize, dice: &mut fastrand::Rng) {
    let mut have = 0;
    while have < bytes && blocks.len() < blocks.capacity() {
        let most = if blocks.len().is_multiple_of(64) { 60_000 } else { 400 };
        let size = 16 + dice.usize(..most);
        // SAFETY: a fresh block, written within its size.
        unsafe {
            let block = libc::malloc(size);
            if block.is_null() {
                libc::_exit(3);
            }
            libc::memset(block, 1, size);
            blocks.push(block);
        }
        have += size;
    }
    while let Some(block) = blocks.pop() {
        // SAFETY: a block of above, which nobody else has.
        unsafe { libc::free(block) };
    }
}

/// What is resident of this process, without a word of the heap's.
fn resident_mib() -> f64 {
    let mut text = [0; 128];
    let read = std::fs::File::open("/proc/self/statm").and_then(|mut file| file.read(&mut text));
    let text = std::str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or(0.0) * procfs::page_size() as f64 / 1048576.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gives_everything_back_and_memory_is_seen() {
        let mut blocks = Vec::with_capacity(1 << 10);
        request(&mut blocks, 1 << 20, &mut fastrand::Rng::with_seed(3));
        assert!(blocks.is_empty() && resident_mib() > 0.1);
    }
}
