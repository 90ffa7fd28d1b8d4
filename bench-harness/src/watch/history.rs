//! Figures as time goes by: the last look, the one before, and what of each look is kept for a line.

use std::collections::VecDeque;

use super::figures::Snapshot;

/// Points of a line that are kept: as many as a wide terminal has columns.
const KEPT: usize = 240;

/// What is kept of each look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    /// Seconds since the first look.
    pub at: f64,
    pub live_bytes: u64,
    pub deferred_bytes: u64,
    pub rss_bytes: u64,
    /// Median latency of grace periods, nanoseconds.
    pub period_p50_ns: u64,
    /// Its 99th percentile.
    pub period_p99_ns: u64,
    /// Grace periods a second.
    pub periods: f64,
    /// Blocks that came back a second.
    pub retired: f64,
}

/// The history of one process.
#[derive(Clone, Debug, Default)]
pub struct History {
    first_ns: u64,
    before: Option<Snapshot>,
    last: Option<Snapshot>,
    pub points: VecDeque<Point>,
    /// Points that may be kept; 0: all.
    most: usize,
}

impl History {
    /// One that keeps what a terminal can show.
    pub fn short() -> History {
        History { most: KEPT, ..History::default() }
    }

    /// Adds a look. One that brought nothing new adds a point like the last: time has gone by.
    pub fn add(&mut self, snapshot: Snapshot) {
        if self.last.is_none() {
            self.first_ns = snapshot.at_ns;
        }
        if self.last.as_ref().is_none_or(|last| last.at_ns != snapshot.at_ns) {
            self.before = self.last.take();
        }
        let figures = &snapshot.figures;
        let seen_ns = snapshot.at_ns + snapshot.age_ns;
        let mut point = Point {
            at: seen_ns.saturating_sub(self.first_ns) as f64 / 1e9,
            live_bytes: figures.of("live_bytes"),
            deferred_bytes: figures.of("waiting_bytes"),
            rss_bytes: snapshot.rss_bytes,
            period_p50_ns: figures.of("period_p50_ns"),
            period_p99_ns: figures.of("period_p99_ns"),
            ..Point::default()
        };
        self.last = Some(snapshot);
        point.periods = self.rate("periods_completed");
        point.retired = self.rate("blocks_retired");
        self.points.push_back(point);
        if self.most != 0 && self.points.len() > self.most {
            self.points.pop_front();
        }
    }

    /// The last look.
    pub fn last(&self) -> Option<&Snapshot> {
        self.last.as_ref()
    }

    /// How much a counter grows in a second; 0 before there are two looks.
    pub fn rate(&self, name: &str) -> f64 {
        let (Some(before), Some(last)) = (&self.before, &self.last) else { return 0.0 };
        let seconds = last.at_ns.saturating_sub(before.at_ns) as f64 / 1e9;
        match seconds > 0.0 {
            true => last.figures.of(name).saturating_sub(before.figures.of(name)) as f64 / seconds,
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::figures::Figures;

    fn look(at_ns: u64, blocks: u64) -> Snapshot {
        let text = format!("{{\"blocks_retired\": {blocks}, \"live_bytes\": 5}}");
        Snapshot {
            pid: 1,
            name: String::new(),
            at_ns,
            age_ns: 0,
            figures: Figures::parse(&text).expect("figures"),
            stalls: Vec::new(),
            json: text,
            prometheus: String::new(),
            rss_bytes: 0,
        }
    }

    #[test]
    fn rates_are_between_two_looks_that_differ() {
        let mut history = History::short();
        history.add(look(1_000_000_000, 10));
        assert_eq!(history.rate("blocks_retired"), 0.0);
        history.add(look(3_000_000_000, 50));
        assert_eq!(history.rate("blocks_retired"), 20.0);
        // The process has published nothing since: the rate is still what was seen.
        history.add(look(3_000_000_000, 50));
        assert_eq!(history.rate("blocks_retired"), 20.0);
        assert_eq!(history.points.len(), 3);
        assert_eq!(history.points[1].at, 2.0);
    }
}
