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
        "commit": began.commit,
        "date": began.date,
        "load": {
            "before": began.load,
            "after": machine::load_average(),
            "processors_busy_with_others": began.by_others(),
        },
        "took_seconds": began.seconds(),
        "rounds": outcome.rounds,
        "good": outcome.good,
        "notes": outcome.notes,
        "targets": outcome.targets,
        "results": outcome.results,
    })
}

/// For keeping: floats of four significant digits (the spread is wider than that), and without what `samples`
/// holds, which is on the page, or `parameters` within `rounds`, which repeats what stands above them. One
/// line an element of `results`, so that a change can be read.
pub fn slim(envelope: &Value) -> String {
    let rounded = round(envelope, &["samples"]);
    let mut text = String::from("{\n");
    let empty = serde_json::Map::new();
    for (key, value) in rounded.as_object().unwrap_or(&empty).iter().filter(|(key, _)| *key != "results") {
        text += &format!("{}: {value},\n", json!(key));
    }
    let Some(parts) = rounded["results"].as_array() else {
        return text + &format!("\"results\": {}\n}}\n", rounded["results"]);
    };
    let parts: Vec<String> = parts.iter().map(Value::to_string).collect();
    text + &format!("\"results\": [\n{}\n]\n}}\n", parts.join(",\n"))
}

fn round(value: &Value, dropped: &[&str]) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let short = number.as_f64().and_then(|value| format!("{value:.3e}").parse::<f64>().ok());
            short.map_or(Value::Null, |short| json!(short))
        }
        Value::Array(values) => values.iter().map(|value| round(value, dropped)).collect(),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !dropped.contains(&key.as_str()));
            let within = |key: &str| if key == "rounds" { &["samples", "parameters"][..] } else { dropped };
            Value::Object(kept.map(|(key, value)| (key.clone(), round(value, within(key)))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_short_and_still_json() {
        let long = json!({ "took": 12.345678, "results": [{
            "rounds": [{ "parameters": 1, "mops": 1.0 }],
            "rate": 123456789.123, "count": 1234567, "samples": [1],
        }, "x"] });
        let one: Value = serde_json::from_str(&slim(&json!({ "results": { "a": 1.23456 } }))).expect("JSON");
        assert_eq!(one, json!({ "results": { "a": 1.235 } }));
        let kept = slim(&long);
        assert_eq!(kept.lines().count(), 7, "{kept}");
        let read: Value = serde_json::from_str(&kept).expect("JSON");
        assert_eq!(
            read,
            json!({ "took": 12.35, "results": [{
                "rounds": [{ "mops": 1.0 }], "rate": 123500000.0, "count": 1234567,
            }, "x"] })
        );
    }
}
