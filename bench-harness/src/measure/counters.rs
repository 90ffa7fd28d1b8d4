//! Counters of the kernel's perf events, one question each: a counter the machine refuses is `n/a` with the
//! reason, and nothing is ever 0 because it could not be read. Counted are the child, its threads and its
//! descendants (`inherit`), user mode only for the hardware's.

use std::io;

use perf_event::events::{Event, Hardware, Software};
use perf_event::{Builder, Counter};
use serde::{Deserialize, Serialize};

/// What a counter said, or why it said nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reading {
    Count(u64),
    Refused { refused: String },
}

impl Reading {
    pub fn count(&self) -> Option<u64> {
        match self {
            Reading::Count(count) => Some(*count),
            Reading::Refused { .. } => None,
        }
    }
}

/// The counters that are asked for, by the names `perf` gives them.
pub fn names() -> impl Iterator<Item = &'static str> {
    wanted().into_iter().map(|(name, _)| name)
}

fn wanted() -> [(&'static str, Event); 7] {
    [
        ("instructions", Event::Hardware(Hardware::INSTRUCTIONS)),
        ("cycles", Event::Hardware(Hardware::CPU_CYCLES)),
        ("cache-misses", Event::Hardware(Hardware::CACHE_MISSES)),
        ("branch-misses", Event::Hardware(Hardware::BRANCH_MISSES)),
        ("task-clock", Event::Software(Software::TASK_CLOCK)),
        ("page-faults", Event::Software(Software::PAGE_FAULTS)),
        ("context-switches", Event::Software(Software::CONTEXT_SWITCHES)),
    ]
}

/// Counters that run.
pub struct Counters(Vec<(&'static str, io::Result<Counter>)>);

impl Counters {
    /// Attaches one of each to a process that has not begun yet.
    pub fn attach(pid: i32) -> Counters {
        let open = |event: Event| {
            let kernel_too = matches!(event, Event::Software(_));
            let mut builder = Builder::new().kind(event).observe_pid(pid);
            builder.inherit(true).exclude_kernel(!kernel_too);
            let mut counter = builder.build()?;
            counter.enable()?;
            Ok(counter)
        };
        Counters(wanted().into_iter().map(|(name, event)| (name, open(event))).collect())
    }

    /// The readings at the end, in the order of [`names`].
    pub fn read(self) -> Vec<(String, Reading)> {
        let read = |counter: io::Result<Counter>| match counter.and_then(|mut counter| counter.read()) {
            Ok(count) => Reading::Count(count),
            Err(error) => Reading::Refused { refused: reason(&error) },
        };
        self.0.into_iter().map(|(name, counter)| (name.to_owned(), read(counter))).collect()
    }
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) => "this machine gives no such counter".to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            "not permitted: see /proc/sys/kernel/perf_event_paranoid".to_owned()
        }
        Some(libc::ENOSYS) => "this kernel has no perf events".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_reasons() {
        let said = reason(&io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(said, "this machine gives no such counter");
        // A process that cannot exist: every counter is refused, none reads 0.
        for (name, reading) in Counters::attach(i32::MAX).read() {
            assert!(
                matches!(&reading, Reading::Refused { refused } if !refused.is_empty()),
                "{name} {reading:?}"
            );
        }
    }
}
