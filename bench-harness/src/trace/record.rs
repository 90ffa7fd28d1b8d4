//! `trace -- PROGRAM`: runs a program with the recorder preloaded and turns what it wrote into a trace.
//!
//! The recorder's events carry addresses; a trace has slots. A slot goes back to the thread that freed it and
//! is used again by that thread first, so that in a replay no thread waits for another but where a block
//! really changed hands.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::format::{Event, Kind, Trace};
use crate::measure::child::{Child, memory_file};
use crate::outcome::{Common, Outcome, Refusal};
use crate::output::table::{Table, short};

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the trace goes
    #[arg(long, short, value_name = "FILE", default_value = "program.rcutrace")]
    pub output: PathBuf,
    /// The program's standard input
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// The program and its arguments, after `--`
    #[arg(last = true, required = true)]
    pub program: Vec<String>,
}

/// The recorder, as build.rs compiled it.
static RECORDER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/recorder.so"));

pub fn run(arguments: &Arguments, _: &Common) -> Result<Outcome, Refusal> {
    let Some((program, rest)) = arguments.program.split_first() else {
        return Err(Refusal("trace needs a program".to_owned()));
    };
    let recorder = memory_file(c"recorder.so", RECORDER).map_err(Refusal::of("cannot hold the recorder"))?;
    let library = format!("/proc/{}/fd/{}", std::process::id(), recorder.as_raw_fd());
    let raw = Raw::new(&arguments.output)?;
    let child = Child::new(program).args(rest).preload(Some(library.into())).stdin(arguments.stdin.clone());
    let child = child.env("RCUMALLOC_BENCH_RECORD", &raw.0);
    let finished = child.run()?;
    let bytes =
        std::fs::read(&raw.0).map_err(Refusal::of(format_args!("cannot read {}", raw.0.display())))?;
    let (trace, lost) = convert(&bytes, arguments.program.join(" "));
    if trace.events.is_empty() {
        return Err(Refusal(format!(
            "nothing was recorded of {program} ({}): is it static, set-user-ID, or does it bring its own \
             malloc?",
            finished.complaint()
        )));
    }
    trace.write(&arguments.output)?;
    let mut notes = vec![format!("{} ended with {}", trace.program, finished.end)];
    if lost > 0 {
        notes.push(format!("{lost} calls could not be used: their other half was not recorded"));
    }
    let size = std::fs::metadata(&arguments.output).map_or(0, |data| data.len());
    let results = json!({
        "program": trace.program, "events": trace.events.len(), "threads": trace.threads(),
        "slots": trace.slots, "lost": lost, "bytes": size, "file": arguments.output,
    });
    let mut table = Table::new(format!("{}", arguments.output.display()), &["", ""]);
    table.row(["calls".to_owned(), short(trace.events.len() as f64)]);
    table.row(["threads".to_owned(), trace.threads().to_string()]);
    table.row(["most blocks at once".to_owned(), short(f64::from(trace.slots))]);
    table.row(["bytes".to_owned(), short(size as f64)]);
    Ok(Outcome {
        command: "trace".into(),
        results,
        notes,
        tables: vec![table],
        good: true,
        ..Outcome::default()
    })
}

/// The recorder's file beside the trace; removed when done.
struct Raw(PathBuf);

impl Raw {
    fn new(output: &Path) -> Result<Raw, Refusal> {
        let path = std::path::absolute(output).map_err(Refusal::of("bad path"))?;
        let path = path.with_extension(format!("raw-{}", std::process::id()));
        std::fs::write(&path, []).map_err(Refusal::of(format_args!("cannot write {}", path.display())))?;
        Ok(Raw(path))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `struct event` of helpers/recorder.c.
#[derive(Clone, Copy)]
struct Seen {
    number: u64,
    address: u64,
    size: u64,
    thread: u32,
    alignment: u16,
    kind: u16,
}

const EVENT: usize = 32;

fn parse(bytes: &[u8]) -> Vec<Seen> {
    let word = |event: &[u8], at: usize| u64::from_le_bytes(event[at..at + 8].try_into().unwrap_or_default());
    let one = |event: &[u8]| {
        let last = word(event, 24);
        Seen {
            number: word(event, 0),
            address: word(event, 8),
            size: word(event, 16),
            thread: last as u32,
            alignment: (last >> 32) as u16,
            kind: (last >> 48) as u16,
        }
    };
    let mut seen: Vec<Seen> = bytes.chunks_exact(EVENT).map(one).filter(|seen| seen.kind != 0).collect();
    seen.sort_unstable_by_key(|seen| seen.number);
    seen
}

/// Hands out slots.
#[derive(Default)]
struct Slots {
    free: Vec<Vec<u32>>,
    all: u32,
}

impl Slots {
    fn take(&mut self, thread: usize) -> u32 {
        self.room(thread);
        let own = self.free[thread].pop();
        own.or_else(|| self.free.iter_mut().max_by_key(|slots| slots.len())?.pop()).unwrap_or_else(|| {
            self.all += 1;
            self.all - 1
        })
    }

    fn give(&mut self, thread: usize, slot: u32) {
        self.room(thread);
        self.free[thread].push(slot);
    }

    fn room(&mut self, thread: usize) {
        if self.free.len() <= thread {
            self.free.resize(thread + 1, Vec::new());
        }
    }
}

/// Turns addresses into slots. Calls of which only one half was seen (blocks from before the recorder, a
/// process that was killed in the middle) are left out and counted.
fn convert(bytes: &[u8], program: String) -> (Trace, u64) {
    let mut live: HashMap<u64, u32> = HashMap::new();
    // A realloc that has begun, by thread: its slot and old address.
    let mut begun: HashMap<u32, (u32, u64)> = HashMap::new();
    let (mut slots, mut events, mut lost) = (Slots::default(), Vec::new(), 0);
    for seen in parse(bytes) {
        let thread = seen.thread.saturating_sub(1);
        let mut push = |kind, slot, size| events.push(Event { kind, thread, slot, size });
        match seen.kind {
            1..=3 => {
                let kind = match seen.kind {
                    1 => Kind::Malloc,
                    2 => Kind::Calloc,
                    _ => Kind::Memalign(seen.alignment.min(15) as u8),
                };
                if live.contains_key(&seen.address) {
                    lost += 1;
                    continue;
                }
                let slot = slots.take(thread as usize);
                live.insert(seen.address, slot);
                push(kind, slot, seen.size);
            }
            4 => match live.remove(&seen.address) {
                Some(slot) => {
                    slots.give(thread as usize, slot);
                    push(Kind::Free, slot, 0);
                }
                None => lost += 1,
            },
            5 => match live.remove(&seen.address) {
                Some(slot) => {
                    begun.insert(seen.thread, (slot, seen.address));
                }
                None => lost += 1,
            },
            6 => match begun.remove(&seen.thread) {
                // It failed: the block stays where it was.
                Some((slot, old)) if seen.address == 0 => {
                    live.insert(old, slot);
                }
                Some((slot, _)) => {
                    live.insert(seen.address, slot);
                    push(Kind::Realloc, slot, seen.size);
                }
                None => lost += 1,
            },
            _ => lost += 1,
        }
    }
    (Trace { program, slots: slots.all, events }, lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(events: &[(u64, u64, u64, u32, u16)]) -> Vec<u8> {
        let one = |&(number, address, size, thread, kind): &(u64, u64, u64, u32, u16)| {
            let last = u64::from(thread) | u64::from(kind) << 48;
            [number, address, size, last].into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>()
        };
        events.iter().flat_map(one).collect()
    }

    #[test]
    fn addresses_become_slots_in_the_order_of_the_numbers() {
        // Thread 2's chunk comes first in the file; its free of 0xa is the third thing that happened.
        let bytes = raw(&[
            (3, 0xa, 0, 2, 4),
            (4, 0xa, 50, 2, 1),
            (1, 0xa, 10, 1, 1),
            (2, 0xb, 20, 1, 2),
            (5, 0xb, 30, 1, 5),
            (6, 0xc, 30, 1, 6),
            (7, 0xc, 0, 1, 4),
            (8, 0xdead, 0, 1, 4),
            (0, 0, 0, 0, 0),
        ]);
        let (trace, lost) = convert(&bytes, "x".into());
        let seen: Vec<_> = trace.events.iter().map(|e| (e.kind, e.thread, e.slot, e.size)).collect();
        assert_eq!(
            seen,
            [
                (Kind::Malloc, 0, 0, 10),
                (Kind::Calloc, 0, 1, 20),
                (Kind::Free, 1, 0, 0),
                (Kind::Malloc, 1, 0, 50),
                (Kind::Realloc, 0, 1, 30),
                (Kind::Free, 0, 1, 0),
            ]
        );
        assert_eq!((trace.slots, lost), (2, 1));
        assert_eq!(Trace::decode(&trace.encode()), Ok(trace));
    }

    #[test]
    fn a_failed_realloc_leaves_the_block() {
        let bytes =
            raw(&[(1, 0xa, 10, 1, 1), (2, 0xa, 1 << 40, 1, 5), (3, 0, 1 << 40, 1, 6), (4, 0xa, 0, 1, 4)]);
        let (trace, lost) = convert(&bytes, String::new());
        let kinds: Vec<_> = trace.events.iter().map(|event| event.kind).collect();
        assert_eq!((kinds, lost), (vec![Kind::Malloc, Kind::Free], 0));
    }
}
