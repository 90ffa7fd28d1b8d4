//! How the ratios of many programs are distributed: mean, worst decile, worst, and how often one is behind.

use serde::Serialize;
use serde_json::json;

use crate::measure::rounds::{Spread, geometric_mean};
use crate::output::table::Table;

/// Slower by more is behind.
pub const BEHIND: f64 = 1.03;

/// Ratios over the seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Distribution {
    pub count: usize,
    pub mean: f64,
    pub median: f64,
    /// A tenth of the programs is worse.
    pub worst_decile: f64,
    pub worst: f64,
    /// Above 1.03.
    pub behind: usize,
}

impl Distribution {
    pub fn of(ratios: &[f64]) -> Option<Distribution> {
        let spread = Spread::of(ratios.iter().copied())?;
        let mut sorted = ratios.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Distribution {
            count: sorted.len(),
            mean: geometric_mean(&sorted)?,
            median: spread.median,
            worst_decile: sorted[(sorted.len() * 9 / 10).min(sorted.len() - 1)],
            worst: spread.greatest,
            behind: sorted.iter().filter(|&&ratio| ratio > BEHIND).count(),
        })
    }

    fn cells(&self) -> [String; 4] {
        let figure = |value: f64| format!("{value:.3}");
        [figure(self.mean), figure(self.worst_decile), figure(self.worst), self.behind.to_string()]
    }
}

/// What is compared with what: a name and each program's time and memory.
pub type Pairs = (String, Vec<(f64, f64)>);

/// Rows of time and memory.
pub fn table(title: String, note: &str, rows: &[Pairs]) -> Table {
    let head = [
        "",
        "programs",
        "time, mean",
        "worst decile",
        "worst",
        "behind",
        "peak RSS, mean",
        "worst decile",
        "worst",
        "behind",
        "time x RSS",
    ];
    let mut table = Table::new(title, &head).note(note);
    for (name, pairs) in rows {
        let [times, peaks, both] = figures(pairs);
        let (Some(time), Some(peak), Some(both)) = (times, peaks, both) else {
            table.row([name.clone(), "none".to_owned()]);
            continue;
        };
        let cells = [name.clone(), time.count.to_string()].into_iter();
        table.row(cells.chain(time.cells()).chain(peak.cells()).chain([format!("{:.3}", both.mean)]));
    }
    table
}

/// Of time, of memory and of their product.
pub fn figures(pairs: &[(f64, f64)]) -> [Option<Distribution>; 3] {
    let of = |figure: fn(&(f64, f64)) -> f64| Distribution::of(&pairs.iter().map(figure).collect::<Vec<_>>());
    [of(|pair| pair.0), of(|pair| pair.1), of(|pair| pair.0 * pair.1)]
}

/// The same for programs.
pub fn json_of(rows: &[Pairs]) -> serde_json::Value {
    let row = |(name, pairs): &Pairs| {
        let [time, peak, both] = figures(pairs);
        (name.clone(), json!({ "time": time, "peak": peak, "time_x_peak": both }))
    };
    serde_json::Value::Object(rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions() {
        let ratios: Vec<f64> = (1..=20).map(|ratio| f64::from(ratio) / 10.0).collect();
        let of = Distribution::of(&ratios).expect("twenty");
        assert_eq!((of.count, of.worst_decile, of.worst, of.behind), (20, 1.9, 2.0, 10));
        assert!(Distribution::of(&[]).is_none());
    }
}
