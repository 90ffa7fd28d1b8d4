//! The one envelope that every `--json` has.

use serde_json::{Value, json};

use crate::machine::{self, Machine, Moment};
use crate::outcome::Outcome;

/// `command, machine, commit, date, load, rounds, results`, and the targets and notes beside them.
pub fn envelope(outcome: &Outcome, began: &Moment) -> Value {
    json!({
        "command": outcome.command,
        "line": std::env::args().collect::<Vec<_>>().join(" "),
        "machine": Machine::look(),
        "commit": machine::commit(),
        "date": began.date,
        "load": { "before": began.load, "after": machine::load_average(), "processors_busy_with_others": began.by_others() },
        "took_seconds": began.seconds(),
        "rounds": outcome.rounds,
        "good": outcome.good,
        "notes": outcome.notes,
        "targets": outcome.targets,
        "results": outcome.results,
    })
}
