//! Which events perf can count here, and the counts of one run.

use std::collections::BTreeMap;

use super::{complaint, is_installed, perf};
use crate::measure::child::{End, memory_file};
use crate::outcome::Refusal;

/// Events that are asked for by name, so that a machine without them says so: the processor's and those of
/// its caches. What else `perf list` names is asked for, too.
const WANTED: [&str; 20] = [
    "cycles",
    "instructions",
    "branches",
    "branch-misses",
    "cache-references",
    "cache-misses",
    "stalled-cycles-frontend",
    "stalled-cycles-backend",
    "L1-dcache-loads",
    "L1-dcache-load-misses",
    "L1-icache-load-misses",
    "LLC-loads",
    "LLC-load-misses",
    "dTLB-loads",
    "dTLB-load-misses",
    "iTLB-load-misses",
    "task-clock",
    "page-faults",
    "context-switches",
    "cpu-migrations",
];
/// Events of `perf list` that count nothing of a program, or what `task-clock` counts more exactly.
const IDLE: [&str; 5] = ["dummy", "bpf-output", "duration_time", "user_time", "system_time"];

/// What can be counted here.
pub struct Events {
    pub given: Vec<String>,
    /// The others, and why each is not given.
    pub refused: BTreeMap<String, String>,
}

/// Asks perf for each event by itself: one that is not given would take those beside it along.
pub fn probe() -> Result<Events, Refusal> {
    if !is_installed() {
        return Err(Refusal(
            "perf is not installed: scripts/setup brings it (package linux-perf)".to_owned(),
        ));
    }
    let whole = perf(&["stat", "-e", "task-clock", "--", "true"]).run()?;
    if whole.end != End::Status(0) {
        return Err(Refusal(format!("perf does not work here: {}", complaint(&whole.stderr))));
    }
    let listed = perf(&["list", "--raw-dump", "hw", "sw", "cache"]).run()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut events = Events { given: Vec::new(), refused: BTreeMap::new() };
    let more = listed.split_whitespace().filter(|name| !IDLE.contains(name));
    for name in WANTED.into_iter().chain(more) {
        if events.given.iter().any(|given| given == name) || events.refused.contains_key(name) {
            continue;
        }
        let probe = perf(&["stat", "-x", ",", "-e", name, "--", "true"]).run()?;
        match read(&String::from_utf8_lossy(&probe.stderr)).remove(name) {
            Some(Ok(_)) => events.given.push(name.to_owned()),
            Some(Err(why)) => drop(events.refused.insert(name.to_owned(), why)),
            None => drop(events.refused.insert(name.to_owned(), complaint(&probe.stderr))),
        }
    }
    Ok(events)
}

impl Events {
    /// Lines for people: a reason, and the events that it refuses.
    pub fn refusals(&self) -> Vec<String> {
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (event, why) in &self.refused {
            by_reason.entry(why).or_default().push(event);
        }
        by_reason.into_iter().map(|(why, events)| format!("n/a ({why}): {}", events.join(", "))).collect()
    }

    /// Runs a command line to its end and counts.
    pub fn count(&self, line: &[String]) -> Result<BTreeMap<String, f64>, Refusal> {
        // The program's own complaints go to stderr, so the counts go elsewhere.
        let counts = memory_file(c"counts", b"").map_err(Refusal::of("cannot make a file"))?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&counts));
        let given = self.given.join(",");
        let words = ["stat", "-x", ",", "-o", &path, "-e", &given, "--"];
        let finished = perf(&words).args(line).run()?;
        let text = std::fs::read_to_string(&path).map_err(Refusal::of("cannot read perf's counts"))?;
        let counts = read(&text);
        if counts.is_empty() {
            return Err(Refusal(format!("perf counted nothing: {}", finished.complaint())));
        }
        Ok(counts.into_iter().filter_map(|(name, count)| Some((name, count.ok()?))).collect())
    }
}

/// perf's lines of `value,unit,event,…`.
fn read(text: &str) -> BTreeMap<String, Result<f64, String>> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(',');
        let (Some(value), Some(_), Some(event)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // `:u` is added where only the program's own part may be counted.
        let event = event.trim_end_matches(":u").to_owned();
        let count = match value {
            "<not supported>" => Err("this machine gives no such counter".to_owned()),
            "<not counted>" => Err("not counted".to_owned()),
            value => match value.parse() {
                Ok(count) => Ok(count),
                Err(_) => continue,
            },
        };
        counts.insert(event, count);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_refusals_are_told_apart() {
        let text = "# started\n\n<not supported>,,cycles,0,100.00,,\n1.43,msec,task-clock,1428527,100,0.2,\n\
                    126,,page-faults:u,1428527,100.00,88.3,K/sec\n";
        let counts = read(text);
        assert_eq!(counts["task-clock"], Ok(1.43));
        assert_eq!(counts["page-faults"], Ok(126.0));
        assert!(counts["cycles"].is_err());
        let events = Events {
            given: Vec::new(),
            refused: counts.into_iter().filter_map(|(name, count)| Some((name, count.err()?))).collect(),
        };
        assert_eq!(events.refusals(), ["n/a (this machine gives no such counter): cycles"]);
    }
}
