//! One run's results as text, Markdown and JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::machine::Machine;
use crate::peers;
use crate::rounds::{Measure, Plan, Row};

/// Everything about one run.
pub struct Run {
    /// Where.
    pub machine: Machine,
    /// How it was called.
    pub command: String,
    /// How long.
    pub plan: Plan,
    /// Load average before and after.
    pub load: (f64, f64),
    /// Processors that other processes kept busy, on average.
    pub others: f64,
    /// ns of timing nothing, and of recording into the histogram.
    pub recording_cost: (f64, f64),
    /// The tables.
    pub measures: Vec<Measure>,
}

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn verdict(row: &Row) -> String {
    match (row.limit, row.meets_limit()) {
        (Some(limit), Some(true)) => format!("<= {} met", figure(limit)),
        (Some(limit), Some(false)) => format!("<= {} MISSED", figure(limit)),
        _ => String::new(),
    }
}

/// The cells of a measure's table, head first. Columns that nobody fills are left out.
fn cells(measure: &Measure) -> Vec<Vec<String>> {
    let timed = measure.rows.iter().any(|row| row.latencies.is_some());
    let median = if timed { "p50" } else { "median" };
    let mut table = vec![
        ["", "setting", median, "min", "max", "p99", "p99.9", "longest", "ratio", "limit"]
            .map(String::from)
            .to_vec(),
    ];
    for row in &measure.rows {
        let mut line = vec![row.name.clone(), row.setting.clone()];
        if let Some(reason) = &row.absent {
            line[1] = format!("n/a: {reason}");
            line.resize(table[0].len(), String::new());
        } else {
            line.extend([row.median(), row.min(), row.max()].map(figure));
            match &row.latencies {
                Some(all) => {
                    line.extend([0.99, 0.999].map(|q| figure(all.value_at_quantile(q) as f64)));
                    line.push(figure(all.max() as f64));
                }
                None => line.extend([const { String::new() }; 3]),
            }
            line.push(row.ratio.map(figure).unwrap_or_default());
            line.push(verdict(row));
        }
        table.push(line);
    }
    let single = measure.rows.iter().all(|row| row.rounds.len() <= 1);
    let columns = table[0].len();
    for column in (2..columns).rev() {
        let unneeded =
            table[1..].iter().all(|line| line[column].is_empty()) || single && matches!(column, 3 | 4);
        if unneeded {
            table.iter_mut().for_each(|line| drop(line.remove(column)));
        }
    }
    table
}

impl Run {
    fn head(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{}; {}; commit {}", self.machine.describe(), self.machine.date, self.machine.commit),
            format!("command: {}", self.command),
            format!(
                "{} alternating rounds of {} ms after one of warm-up; load average {:.2} before, {:.2} after; other processes kept {:.2} processors busy meanwhile",
                self.plan.rounds,
                self.plan.round.as_millis(),
                self.load.0,
                self.load.1,
                self.others
            ),
            format!(
                "timing an operation costs {:.0} ns, within every latency; recording it {:.1} ns, outside",
                self.recording_cost.0, self.recording_cost.1
            ),
        ];
        lines.extend(peers::describe());
        lines
    }

    /// What to read below a table before it is believed.
    fn legend() -> &'static str {
        "median (or p50), min and max are over rounds; p99, p99.9 and longest over all operations; ratio is the \
         median over rounds of this row / first row."
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.head().join("\n") + "\n" + Run::legend() + "\n";
        for measure in &self.measures {
            let table = cells(measure);
            let widths: Vec<usize> = (0..table[0].len())
                .map(|column| {
                    table
                        .iter()
                        .filter(|line| line[column].len() < 90)
                        .map(|line| line[column].len())
                        .max()
                        .unwrap_or(0)
                })
                .collect();
            let _ = writeln!(text, "\n{} [{}]", measure.title, measure.unit);
            for line in &table {
                let mut out = String::new();
                for (column, cell) in line.iter().enumerate() {
                    let width = widths[column];
                    let _ = if column < 2 || column + 1 == line.len() {
                        write!(out, "{cell:<width$}  ")
                    } else {
                        write!(out, "{cell:>width$}  ")
                    };
                }
                let _ = writeln!(text, "  {}", out.trim_end());
            }
            for note in &measure.notes {
                let _ = writeln!(text, "  {note}");
            }
        }
        text
    }

    /// For `bench/rcu.md`.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = "# The grace-period engine, measured\n\n\
            Written by `scripts/bench-rcu record`; the same figures with every round are in `rcu.json`.\n\n"
            .to_owned();
        for line in self.head() {
            let _ = writeln!(text, "- {line}");
        }
        let _ = writeln!(text, "\n{}", Run::legend());
        for measure in &self.measures {
            let table = cells(measure);
            let _ = writeln!(text, "\n## {} ({})\n", measure.title, measure.unit);
            for (index, line) in table.iter().enumerate() {
                let line: Vec<String> = line.iter().map(|cell| cell.replace('|', "\\|")).collect();
                let _ = writeln!(text, "| {} |", line.join(" | "));
                if index == 0 {
                    let _ = writeln!(text, "|{}", "---|---|".to_owned() + &"--:|".repeat(line.len() - 2));
                }
            }
            for note in &measure.notes {
                let _ = writeln!(text, "\n{note}");
            }
        }
        text
    }

    /// For machines: every round of every row.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "machine": {
                "cpu": self.machine.cpu,
                "processors": self.machine.processors,
                "virtual": self.machine.is_virtual,
                "kernel": self.machine.kernel,
            },
            "date": self.machine.date,
            "commit": self.machine.commit,
            "command": self.command,
            "rounds": self.plan.rounds,
            "round_ms": self.plan.round.as_millis() as u64,
            "load_average_before": self.load.0,
            "load_average_after": self.load.1,
            "processors_busy_with_others": self.others,
            "timing_cost_ns": self.recording_cost.0,
            "recording_cost_ns": self.recording_cost.1,
            "peers": peers::describe(),
            "measures": self.measures.iter().map(measure_json).collect::<Vec<_>>(),
        })
    }

    /// Limits that were missed, one line each.
    #[must_use]
    pub fn missed(&self) -> Vec<String> {
        let rows =
            self.measures.iter().flat_map(|measure| measure.rows.iter().map(move |row| (measure, row)));
        rows.filter(|(_, row)| row.meets_limit() == Some(false))
            .map(|(measure, row)| {
                let limit = figure(row.limit.unwrap_or_default());
                format!(
                    "{}: {} ({}): {} {}, limit {limit}",
                    measure.title,
                    row.name,
                    row.setting,
                    figure(row.median()),
                    measure.unit
                )
            })
            .collect()
    }
}

fn measure_json(measure: &Measure) -> Value {
    json!({
        "title": measure.title,
        "unit": measure.unit,
        "notes": measure.notes,
        "rows": measure.rows.iter().map(row_json).collect::<Vec<_>>(),
    })
}

fn row_json(row: &Row) -> Value {
    if let Some(reason) = &row.absent {
        return json!({ "name": row.name, "absent": reason });
    }
    json!({
        "name": row.name,
        "setting": row.setting,
        "median": row.median(),
        "min": row.min(),
        "max": row.max(),
        "ratio_to_first": row.ratio,
        "limit": row.limit,
        "meets_limit": row.meets_limit(),
        "rounds": row.rounds,
        "latencies_ns": row.latencies.as_ref().map(|all| json!({
            "count": all.len(),
            "p50": all.value_at_quantile(0.5),
            "p99": all.value_at_quantile(0.99),
            "p99.9": all.value_at_quantile(0.999),
            "max": all.max(),
        })),
    })
}
