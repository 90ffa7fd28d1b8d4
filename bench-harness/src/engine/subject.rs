//! What is measured of the engine: a [`Subject`] is one thing measured one way; a [`Measure`] is several of
//! them in alternating rounds, the first being ours, which the others' ratios refer to. Medians, least and
//! greatest are over rounds; percentiles are over single operations.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::measure::processor_ns;
use crate::measure::rounds::{Spread, alternate};
use crate::outcome::Target;
use crate::output::table::Table;

/// The longest latency a histogram holds, in ns; what is longer is recorded as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// What one round of one subject gave.
pub struct Sample {
    /// The round's figure: the mean of a tight loop, or the median of single operations.
    pub value: f64,
    /// Each operation's latency in ns, where operations are long enough to be timed singly.
    pub latencies: Option<Histogram<u64>>,
}

/// One thing, measured one way.
pub struct Subject<'a> {
    name: String,
    setting: String,
    limited: bool,
    absent: Option<String>,
    run: RefCell<Box<dyn FnMut(Duration) -> Sample + 'a>>,
}

impl<'a> Subject<'a> {
    /// A subject whose `run` takes about as long as it is told and gives one figure.
    pub fn new(
        name: impl Into<String>,
        setting: impl Into<String>,
        run: impl FnMut(Duration) -> Sample + 'a,
    ) -> Self {
        Subject {
            name: name.into(),
            setting: setting.into(),
            limited: false,
            absent: None,
            run: RefCell::new(Box::new(run)),
        }
    }

    /// A subject that cannot be measured, and why: shown in the table like any other.
    pub fn absent(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut subject = Subject::new(name, "", |_| Sample { value: f64::NAN, latencies: None });
        subject.absent = Some(reason.into());
        subject
    }

    /// Marks the subject as one that the measure's limit is about.
    pub fn limited(mut self) -> Self {
        self.limited = true;
        self
    }
}

/// What a limited subject's median must not exceed.
#[derive(Clone, Copy)]
pub enum Limit {
    /// Nothing is promised.
    None,
    /// So much, in the measure's unit.
    Fixed(f64),
    /// So much more than the median of the subject with this index, measured in the same run.
    Above(usize, f64),
    /// So many times the first subject's figure of the same round: the median of these ratios.
    Times(f64),
}

/// The outcome of one subject.
#[derive(Serialize, Deserialize)]
pub struct Row {
    /// Who.
    pub name: String,
    /// How it was set up.
    pub setting: String,
    /// Why there is no figure; `None` where there is one.
    pub absent: Option<String>,
    /// Of the rounds.
    pub spread: Option<Spread>,
    /// One figure a round.
    pub rounds: Vec<f64>,
    /// Of single operations in all rounds together, in ns.
    pub latencies: Option<Latencies>,
    /// Median over rounds of (this one's figure / the first subject's of the same round).
    pub ratio: Option<f64>,
    /// The limit that applies, in the measure's unit.
    pub limit: Option<f64>,
    /// The limit that applies to the ratio.
    pub most: Option<f64>,
}

/// What is kept of a histogram.
#[derive(Serialize, Deserialize)]
pub struct Latencies {
    count: u64,
    p50: u64,
    p99: u64,
    p999: u64,
    longest: u64,
}

impl Latencies {
    fn of(all: &Histogram<u64>) -> Latencies {
        let at = |quantile| all.value_at_quantile(quantile);
        Latencies { count: all.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999), longest: all.max() }
    }
}

impl Row {
    /// A row of these figures.
    pub fn new(name: &str, setting: &str, rounds: Vec<f64>) -> Row {
        Row {
            name: name.to_owned(),
            setting: setting.to_owned(),
            absent: None,
            spread: Spread::of(rounds.iter().copied()),
            rounds,
            latencies: None,
            ratio: None,
            limit: None,
            most: None,
        }
    }

    fn of(subject: &Subject, samples: Vec<Sample>) -> Row {
        let mut latencies: Option<Histogram<u64>> = None;
        let mut rounds = Vec::with_capacity(samples.len());
        for sample in samples {
            rounds.push(sample.value);
            if let Some(more) = sample.latencies {
                latencies.get_or_insert_with(new_histogram).add(more).expect("same bounds");
            }
        }
        Row {
            absent: subject.absent.clone(),
            latencies: latencies.as_ref().map(Latencies::of),
            ..Row::new(&subject.name, &subject.setting, rounds)
        }
    }

    /// The median over rounds; no number where there is no figure.
    pub fn median(&self) -> f64 {
        self.spread.map_or(f64::NAN, |spread| spread.median)
    }
}

/// A table: subjects that were measured in turns.
#[derive(Serialize, Deserialize)]
pub struct Measure {
    /// What was measured.
    pub title: String,
    /// What one must know to read it.
    pub notes: Vec<String>,
    /// The unit of every figure in it.
    pub unit: String,
    /// One for each subject, in order.
    pub rows: Vec<Row>,
}

impl Measure {
    /// What was promised of the rows that have a figure.
    pub fn targets(&self) -> Vec<Target> {
        let promised = |row: &Row| {
            if let (Some(most), None) = (row.most, &row.absent) {
                return Some(Target {
                    what: format!(
                        "{}: {}, {}: at most {most} times the first",
                        self.title, row.name, row.setting
                    ),
                    seen: row.ratio.map_or_else(|| "no figure".into(), |ratio| format!("{ratio:.2} times")),
                    met: Some(row.ratio.is_some_and(|ratio| ratio <= most)),
                });
            }
            let limit = row.limit.filter(|_| row.absent.is_none())?;
            Some(Target {
                what: format!(
                    "{}: {}, {}: at most {} {}",
                    self.title,
                    row.name,
                    row.setting,
                    figure(limit),
                    self.unit
                ),
                seen: format!("{} {}", figure(row.median()), self.unit),
                met: Some(row.median() <= limit),
            })
        };
        self.rows.iter().filter_map(promised).collect()
    }

    /// For people. Columns that nobody fills are left out.
    pub fn table(&self) -> Table {
        let is_timed = self.rows.iter().any(|row| row.latencies.is_some());
        let is_single = self.rows.iter().all(|row| row.rounds.len() <= 1);
        let has_ratios = self.rows.iter().any(|row| row.ratio.is_some());
        let mut head = vec!["who", "setting", if is_timed { "p50" } else { "median" }];
        head.extend((!is_single).then_some(["least", "greatest"]).into_iter().flatten());
        head.extend(is_timed.then_some(["p99", "p99.9", "longest"]).into_iter().flatten());
        head.extend(has_ratios.then_some("ratio"));
        let mut notes = self.notes.clone();
        notes.push(LEGEND.to_owned());
        let mut table = Table::new(format!("{} ({})", self.title, self.unit), &head).note(notes.join(" "));
        for row in &self.rows {
            let mut cells = vec![row.name.clone()];
            if let Some(reason) = &row.absent {
                cells.push(format!("n/a: {reason}"));
            } else {
                cells.push(row.setting.clone());
                cells.push(figure(row.median()));
                if let Some(spread) = row.spread.filter(|_| !is_single) {
                    cells.extend([spread.least, spread.greatest].map(figure));
                }
                if let Some(all) = &row.latencies {
                    cells.extend([all.p99, all.p999, all.longest].map(|ns| figure(ns as f64)));
                } else if is_timed {
                    cells.extend([const { String::new() }; 3]);
                }
                cells.extend(row.ratio.map(figure));
            }
            table.row(cells);
        }
        table
    }
}

/// What to read before a table is believed.
const LEGEND: &str = "Median (or p50), least and greatest are over rounds; p99, p99.9 and longest over all \
    operations; ratio \
     is the median over rounds of this row / first row.";

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Rounds that count.
    pub rounds: u32,
    /// How long one round of one subject takes.
    pub round: Duration,
}

impl Plan {
    /// Runs the subjects in alternating rounds.
    pub fn measure(&self, title: &str, unit: &str, limit: Limit, subjects: Vec<Subject>) -> Measure {
        let present: Vec<&Subject> = subjects.iter().filter(|subject| subject.absent.is_none()).collect();
        let Ok(samples) = alternate(&present, self.rounds, |subject, _| {
            Ok::<_, Infallible>((subject.run.borrow_mut())(self.round))
        });
        let mut samples = samples.into_iter();
        let mut rows: Vec<Row> = subjects
            .iter()
            .map(|subject| {
                Row::of(
                    subject,
                    subject.absent.is_none().then(|| samples.next()).flatten().unwrap_or_default(),
                )
            })
            .collect();
        let bound = match limit {
            Limit::None | Limit::Times(_) => None,
            Limit::Fixed(bound) => Some(bound),
            Limit::Above(index, more) => Some(rows[index].median() + more),
        };
        let reference = rows[0].rounds.clone();
        for (row, subject) in rows.iter_mut().zip(&subjects) {
            row.ratio = Spread::of_ratios(&row.rounds, &reference).map(|ratios| ratios.median);
            row.limit = bound.filter(|bound| subject.limited && bound.is_finite());
            if let Limit::Times(factor) = limit {
                row.most = subject.limited.then_some(factor);
            }
        }
        Measure { title: title.to_owned(), notes: Vec::new(), unit: unit.to_owned(), rows }
    }
}

/// Times `batch(count)` with a count that fills the round: ns of the thread's processor time for one
/// operation, loop included. Time of day would say, too, who else is on the machine.
pub fn time_loop(round: Duration, mut batch: impl FnMut(u64)) -> Sample {
    let mut count = 1 << 10;
    loop {
        let began = Instant::now();
        batch(count);
        let took = began.elapsed();
        if took * 4 >= round || count >= 1 << 40 {
            break;
        }
        count *= 2;
    }
    // The last size took between a quarter and a half of the round: the round itself is about twice that.
    count *= 2;
    let began = processor_ns();
    batch(count);
    Sample { value: (processor_ns() - began) as f64 / count as f64, latencies: None }
}

/// Times each call of `operation` until the round is over. `prepare` runs untimed before each.
pub fn time_each(round: Duration, mut prepare: impl FnMut(), mut operation: impl FnMut()) -> Sample {
    let mut histogram = new_histogram();
    let end = Instant::now() + round;
    loop {
        prepare();
        let began = Instant::now();
        operation();
        let ended = Instant::now();
        histogram.saturating_record((ended - began).as_nanos() as u64);
        if ended >= end {
            break;
        }
    }
    Sample { value: histogram.value_at_quantile(0.5) as f64, latencies: Some(histogram) }
}

/// An empty histogram of nanoseconds, three digits exact.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("valid bounds")
}

/// What timing and recording nothing costs: part of every latency, not subtracted.
pub fn recording_cost() -> String {
    let timed = time_each(Duration::from_millis(20), || (), || ()).value;
    let mut histogram = new_histogram();
    let count = 1_000_000;
    let began = Instant::now();
    for value in 0..count {
        histogram.saturating_record(std::hint::black_box(value));
    }
    let recorded = began.elapsed().as_nanos() as f64 / count as f64;
    format!(
        "timing an operation costs {timed:.0} ns, within every latency; recording it {recorded:.1} ns, \
         outside"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_has_a_row_and_limits_refer_to_others() {
        let subject =
            |name: &str, value: f64| Subject::new(name, "", move |_| Sample { value, latencies: None });
        let plan = Plan { rounds: 2, round: Duration::ZERO };
        let subjects = vec![subject("a", 1.0).limited(), Subject::absent("x", "why"), subject("b", 3.0)];
        let measure = plan.measure("t", "ns", Limit::Above(2, -2.5), subjects);
        assert_eq!(measure.rows[0].rounds, [1.0, 1.0]);
        assert_eq!(measure.rows[1].absent.as_deref(), Some("why"));
        assert_eq!((measure.rows[1].ratio, measure.rows[2].ratio), (None, Some(3.0)));
        let targets = measure.targets();
        assert_eq!(targets.len(), 1);
        assert_eq!((targets[0].seen.as_str(), targets[0].met), ("1.00 ns", Some(false)));
        let table = measure.table();
        assert_eq!(table.head, ["who", "setting", "median", "least", "greatest", "ratio"]);
        assert_eq!(table.rows[1], ["x", "n/a: why", "", "", "", ""]);
    }
}
