//! Rounds: A B A B, never all of A and then all of B.
//!
//! Machines shared with others drift by tens of percent within seconds, so a figure is compared only
//! with figures taken around the same time. A [`Subject`] is one thing measured one way; a
//! [`Measure`] is several of them in alternating rounds, the first being ours, which the others'
//! ratios refer to. Medians, minima and maxima are over rounds; percentiles are over single operations.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Rounds thrown away before the first that counts.
const WARM_UP_ROUNDS: usize = 1;
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
    run: Box<dyn FnMut(Duration) -> Sample + 'a>,
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
            run: Box::new(run),
        }
    }

    /// A subject that cannot be measured, and why: shown in the table like any other.
    pub fn absent(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut subject = Subject::new(name, "", |_| Sample { value: f64::NAN, latencies: None });
        subject.absent = Some(reason.into());
        subject
    }

    /// Marks the subject as one that the measure's limit is about.
    #[must_use]
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
    /// So many times the median of the subject with this index, measured in the same run.
    Times(usize, f64),
}

/// The outcome of one subject.
pub struct Row {
    /// Who.
    pub name: String,
    /// How it was set up.
    pub setting: String,
    /// Why there is no figure; `None` where there is one.
    pub absent: Option<String>,
    /// One figure a round.
    pub rounds: Vec<f64>,
    /// All rounds' latencies together.
    pub latencies: Option<Histogram<u64>>,
    /// Median over rounds of (this one's figure / the first subject's of the same round).
    pub ratio: Option<f64>,
    /// The limit that applies, in the measure's unit.
    pub limit: Option<f64>,
}

impl Row {
    /// The median over rounds.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.rounds)
    }

    /// The smallest round.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest round.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Whether the limit is met; `None` where there is no limit or no figure.
    #[must_use]
    pub fn meets_limit(&self) -> Option<bool> {
        self.limit.filter(|_| self.absent.is_none()).map(|limit| self.median() <= limit)
    }
}

/// A table: subjects that were measured in turns.
pub struct Measure {
    /// What was measured.
    pub title: String,
    /// What one must know to read it.
    pub notes: Vec<String>,
    /// The unit of every figure in it.
    pub unit: &'static str,
    /// One for each subject, in order.
    pub rows: Vec<Row>,
}

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Rounds that count.
    pub rounds: usize,
    /// How long one round of one subject takes.
    pub round: Duration,
}

impl Plan {
    /// Runs the subjects in alternating rounds.
    #[must_use]
    pub fn measure(&self, title: &str, unit: &'static str, limit: Limit, subjects: Vec<Subject>) -> Measure {
        let mut subjects = subjects;
        let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
        let mut latencies: Vec<Option<Histogram<u64>>> = vec![None; subjects.len()];
        for round in 0..WARM_UP_ROUNDS + self.rounds {
            for (index, subject) in subjects.iter_mut().enumerate() {
                if subject.absent.is_some() {
                    continue;
                }
                progress(&format!("{title}: round {round}/{}, {}", self.rounds, subject.name));
                let sample = (subject.run)(self.round);
                if round < WARM_UP_ROUNDS {
                    continue;
                }
                rounds[index].push(sample.value);
                if let Some(more) = sample.latencies {
                    latencies[index].get_or_insert_with(new_histogram).add(more).expect("same bounds");
                }
            }
        }
        progress("");
        let reference = rounds[0].clone();
        let bound = match limit {
            Limit::None => None,
            Limit::Fixed(bound) => Some(bound),
            Limit::Above(index, more) => Some(median(&rounds[index]) + more),
            Limit::Times(index, factor) => Some(median(&rounds[index]) * factor),
        };
        let rows = subjects
            .into_iter()
            .zip(rounds)
            .zip(latencies)
            .map(|((subject, rounds), latencies)| Row {
                ratio: ratio(&rounds, &reference),
                limit: bound.filter(|_| subject.limited),
                name: subject.name,
                setting: subject.setting,
                absent: subject.absent,
                rounds,
                latencies,
            })
            .collect();
        Measure { title: title.to_owned(), notes: Vec::new(), unit, rows }
    }
}

fn ratio(rounds: &[f64], reference: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = rounds.iter().zip(reference).map(|(a, b)| a / b).collect();
    Some(median(&ratios)).filter(|ratio| ratio.is_finite())
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Times `batch(count)` with a count that fills the round: ns for one operation, loop included.
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
    let began = Instant::now();
    batch(count);
    Sample { value: began.elapsed().as_nanos() as f64 / count as f64, latencies: None }
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
#[must_use]
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("valid bounds")
}

/// What timing and recording nothing costs, in ns: part of every latency, not subtracted.
#[must_use]
pub fn recording_cost() -> (f64, f64) {
    let timed = time_each(Duration::from_millis(20), || (), || ()).value;
    let mut histogram = new_histogram();
    let count = 1_000_000;
    let began = Instant::now();
    for value in 0..count {
        histogram.saturating_record(std::hint::black_box(value));
    }
    (timed, began.elapsed().as_nanos() as f64 / count as f64)
}

/// Shows what is going on, on a terminal only; an empty text wipes it.
pub fn progress(text: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{text}");
        let _ = stderr.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn rounds_alternate_and_the_warm_up_does_not_count() {
        let order = std::cell::RefCell::new(String::new());
        let subject = |name: &'static str, value: f64| {
            let order = &order;
            Subject::new(name, "", move |_| {
                order.borrow_mut().push_str(name);
                Sample { value, latencies: None }
            })
        };
        let plan = Plan { rounds: 2, round: Duration::ZERO };
        let subjects = vec![subject("a", 1.0).limited(), Subject::absent("x", "why"), subject("b", 3.0)];
        let measure = plan.measure("t", "ns", Limit::Above(2, -2.5), subjects);
        assert_eq!(*order.borrow(), "ababab");
        assert_eq!(measure.rows[0].rounds, [1.0, 1.0]);
        assert_eq!(measure.rows[0].meets_limit(), Some(false));
        assert_eq!(measure.rows[1].absent.as_deref(), Some("why"));
        assert_eq!(measure.rows[1].ratio, None);
        assert_eq!(measure.rows[2].ratio, Some(3.0));
        assert_eq!(measure.rows[2].meets_limit(), None);
    }
}
