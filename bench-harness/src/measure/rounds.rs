//! Alternation and its statistics: A B A B …, a warm-up round first, medians with least and greatest and the
//! interval that a bootstrap gives them, and ratios within a round, because two timings of different minutes
//! cannot be compared here.

use serde::{Deserialize, Serialize};

/// How often the figures are drawn anew for an interval: its ends are known to a few per cent of its width.
const DRAWS: usize = 1000;

/// Median, least and greatest of some figures, and between what it lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
    /// Where the median lies with a confidence of 95 %, ...
    pub low: f64,
    /// ... as far as the figures are like all that there could be.
    pub high: f64,
}

impl Spread {
    /// None of an empty list; figures that are no numbers do not count.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&least, &greatest) = (sorted.first()?, sorted.last()?);
        let (low, high) = interval(&sorted);
        Some(Spread { median: median(&sorted), least, greatest, low, high })
    }

    /// Of the ratios a/b, round by round. None where a round has no such ratio.
    pub fn of_ratios(a: &[f64], b: &[f64]) -> Option<Spread> {
        Spread::of(a.iter().zip(b).map(|(a, b)| a / b))
    }

    /// Whether the value lies within.
    pub fn contains(&self, value: f64) -> bool {
        (self.least..=self.greatest).contains(&value)
    }

    /// A ratio with its interval: `1.02 [0.99 .. 1.04]`.
    pub fn ratio_text(&self) -> String {
        format!("{:.2} [{:.2} .. {:.2}]", self.median, self.low, self.high)
    }

    /// With each figure shown by `show`.
    pub fn text(&self, show: impl Fn(f64) -> String) -> String {
        format!("{} ({} .. {})", show(self.median), show(self.least), show(self.greatest))
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// The percentile bootstrap: as many figures are drawn from these, with repetition, again and again, and the
/// medians of the draws lie in the interval but for one in forty below it and one above. The dice are the
/// same each time, so the same figures have the same interval. There must be one at least.
fn interval(sorted: &[f64]) -> (f64, f64) {
    let mut dice = fastrand::Rng::with_seed(sorted.len() as u64);
    let mut draw = || {
        let mut drawn: Vec<f64> = sorted.iter().map(|_| sorted[dice.usize(..sorted.len())]).collect();
        drawn.sort_by(f64::total_cmp);
        median(&drawn)
    };
    let mut medians: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
    medians.sort_by(f64::total_cmp);
    (medians[DRAWS / 40], medians[DRAWS - 1 - DRAWS / 40])
}

/// A ratio for a table, or that there is none.
pub fn ratio_cell(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "n/a".to_owned(), |spread| spread.ratio_text())
}

/// Runs every side in turn: one warm-up round that does not count, then `rounds` that do. The order turns by
/// one with each round, so that nobody always runs after the same neighbour. Results: one list a side, in the
/// sides' order.
pub fn alternate<S, T, E>(
    sides: &[S],
    rounds: u32,
    measure: impl FnMut(&S, u32) -> Result<T, E>,
) -> Result<Vec<Vec<T>>, E> {
    alternate_until(sides, rounds, |_| true, measure)
}

/// The same, and then more rounds until there are `enough` results: twice as many at the most.
pub fn alternate_until<S, T, E>(
    sides: &[S],
    rounds: u32,
    enough: impl Fn(&[Vec<T>]) -> bool,
    mut measure: impl FnMut(&S, u32) -> Result<T, E>,
) -> Result<Vec<Vec<T>>, E> {
    let mut results: Vec<Vec<T>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..=2 * rounds {
        if round > rounds && enough(&results) {
            break;
        }
        for (result, all) in one_round(sides, round, &mut measure)?.into_iter().zip(&mut results) {
            if round > 0 {
                all.push(result);
            }
        }
    }
    Ok(results)
}

/// One round: a result a side, in the sides' order.
pub fn one_round<S, T, E>(
    sides: &[S],
    round: u32,
    mut measure: impl FnMut(&S, u32) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let mut results: Vec<Option<T>> = sides.iter().map(|_| None).collect();
    for step in 0..sides.len() {
        let side = (step + round as usize) % sides.len();
        results[side] = Some(measure(&sides[side], round)?);
    }
    Ok(results.into_iter().flatten().collect())
}

/// The geometric mean, None of nothing.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[f64::NAN]), None);
        let three = Spread { median: 2.0, least: 1.0, greatest: 3.0, low: 1.0, high: 3.0 };
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(three));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).map(|s| s.median), Some(2.5));
        assert_eq!(spread(&[10.0, f64::INFINITY, 9.0]).map(|s| s.greatest), Some(10.0));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let ratios = Spread::of_ratios(&[10.0, 200.0, 30.0], &[10.0, 100.0, 10.0]).expect("three rounds");
        assert_eq!((ratios.least, ratios.median, ratios.greatest), (1.0, 2.0, 3.0));
        assert_eq!(ratios.ratio_text(), "2.00 [1.00 .. 3.00]");
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert!(ratios.contains(1.0) && !ratios.contains(0.99));
    }

    /// Of 200 samples of 15 figures each, whose true median is known, the interval holds it in about 95 of
    /// 100, and it becomes narrower with more figures.
    #[test]
    fn an_interval_holds_the_median_as_often_as_it_says() {
        let mut dice = fastrand::Rng::with_seed(7);
        let mut sample = |figures: usize| {
            let figures = (0..figures).map(|_| -(1.0 - dice.f64()).ln());
            Spread::of(figures).expect("there are figures")
        };
        let truth = core::f64::consts::LN_2;
        let held = (0..200).filter(|_| {
            let Spread { low, high, median, .. } = sample(15);
            assert!(low <= median && median <= high);
            (low..=high).contains(&truth)
        });
        let held = held.count();
        assert!((178..=198).contains(&held), "{held} of 200");
        let mut width = |figures| (0..20).map(|_| sample(figures)).map(|one| one.high - one.low).sum::<f64>();
        let (few, many) = (width(10), width(160));
        assert!(many * 2.5 < few && few < many * 6.0, "{few} {many}");
        let one = Spread::of([3.0]).expect("a figure");
        assert_eq!((one.low, one.high), (3.0, 3.0));
    }

    #[test]
    fn sides_take_turns_and_the_warm_up_does_not_count() {
        let mut seen = Vec::new();
        let results = alternate(&['a', 'b', 'c'], 2, |&side, round| {
            seen.push((round, side));
            Ok::<_, ()>((round, side))
        });
        let order: String = seen.iter().map(|(_, side)| *side).collect();
        assert_eq!(order, "abcbcacab");
        assert_eq!(
            results,
            Ok(vec![vec![(1, 'a'), (2, 'a')], vec![(1, 'b'), (2, 'b')], vec![(1, 'c'), (2, 'c')]])
        );
    }

    #[test]
    fn rounds_go_on_until_there_are_enough() {
        let rounds = |enough: usize| {
            let results =
                alternate_until(&['a'], 3, |results| results[0].len() >= enough, |_, _| Ok::<_, ()>(()));
            results.map(|results| results[0].len())
        };
        assert_eq!([rounds(0), rounds(3), rounds(5), rounds(9)], [Ok(3), Ok(3), Ok(5), Ok(6)]);
    }

    #[test]
    fn geometric_means() {
        assert_eq!(geometric_mean(&[]), None);
        let mean = geometric_mean(&[2.0, 8.0]).expect("two values");
        assert!((mean - 4.0).abs() < 1e-9);
    }
}
