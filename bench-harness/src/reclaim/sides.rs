//! Which scheme runs on which allocator, and the rounds in which they take turns.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::NAMES;
use crate::measure::child::Child;
use crate::measure::distance::{Around, Distance, round_trip_ns};
use crate::measure::rounds::{Spread, alternate};
use crate::outcome::{Common, Refusal};
use crate::output::progress;
use crate::peers::{self, Allocator};

/// What peers of ours run on.
const ALLOCATORS: [&str; 2] = ["glibc", "mimalloc"];

/// A child that takes longer than this has failed: it measures for a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a side runs in a round, at the most, until the processors are as far apart as they were for the others.
const TRIES: u32 = 2;

/// A choice of sides on the command line.
#[derive(clap::Args, Clone, Debug)]
pub struct Choose {
    /// Schemes, separated by commas; all if absent
    #[arg(long, value_delimiter = ',')]
    pub schemes: Vec<String>,
    /// Allocators under the peers: names of the registry, or NAME=PATH
    #[arg(long, value_delimiter = ',', default_values = ALLOCATORS)]
    pub allocators: Vec<String>,
}

/// A scheme on an allocator.
#[derive(Clone, Debug)]
pub struct Side {
    pub scheme: &'static str,
    pub allocator: Allocator,
}

impl Side {
    /// `crossbeam/glibc`; ours has but one allocator.
    pub fn name(&self) -> String {
        if self.scheme == "ours" {
            "ours".to_owned()
        } else {
            format!("{}/{}", self.scheme, self.allocator.name)
        }
    }

    /// A child that measures it.
    pub fn child(&self, kind: &str, experiment: &str, parameters: &Value) -> Result<Child, Refusal> {
        let job = json!({ "experiment": experiment, "scheme": self.scheme, "parameters": parameters });
        let child = Child::inner(kind, &job)?.under(&self.allocator);
        // liburcu's thread-local variables are aligned to 128 bytes, which static TLS has only if they are
        // there when the process starts: so it is preloaded, behind the allocator.
        let libraries: Vec<_> =
            self.allocator.library.iter().cloned().chain(super::object(self.scheme)).collect();
        let list = std::env::join_paths(&libraries).map_err(Refusal::of("a library's path"))?;
        Ok(child.timeout(PATIENCE).preload((!libraries.is_empty()).then(|| list.into())))
    }
}

/// The sides that can run, and a line for each that cannot.
pub struct Sides {
    pub present: Vec<Side>,
    pub missing: Vec<String>,
}

impl Choose {
    /// Looks everything up. `readers`: leave out the schemes that no reader survives.
    pub fn sides(&self, readers: bool, common: &Common) -> Result<Sides, Refusal> {
        let mut schemes: Vec<&'static str> = Vec::new();
        for name in &self.schemes {
            let known = NAMES.into_iter().find(|known| known == name);
            let unknown = || Refusal(format!("no scheme '{name}'; there are {}", NAMES.join(", ")));
            schemes.push(known.ok_or_else(unknown)?);
        }
        if schemes.is_empty() {
            schemes.extend(NAMES);
        }
        if readers {
            schemes.retain(|&scheme| scheme != "now");
        }
        let on = if schemes.iter().any(|&scheme| scheme != "ours") { &self.allocators[..] } else { &[] };
        let mut sides = Sides { present: Vec::new(), missing: Vec::new() };
        let mut allocators = Vec::new();
        if !on.is_empty() {
            let choice = peers::choose(on, common)?;
            sides.missing.extend(choice.missing.iter().map(ToString::to_string));
            allocators = choice.present;
        }
        for scheme in schemes {
            if let Err(reason) = super::availability(scheme) {
                sides.missing.push(format!("missing: {scheme}: {reason}"));
                continue;
            }
            // Freeing at once on our heap, without deferral, is the floor that ours stands on.
            let own: &[&str] = match scheme {
                "ours" => &["rcumalloc"],
                "now" => &["rcumalloc-api"],
                _ => &[],
            };
            for name in own {
                match peers::choose(&[(*name).to_owned()], common) {
                    Ok(choice) => {
                        sides
                            .present
                            .extend(choice.present.into_iter().map(|allocator| Side { scheme, allocator }));
                    }
                    Err(refusal) => sides.missing.push(refusal.0),
                }
            }
            if scheme != "ours" {
                sides.present.extend(allocators.iter().cloned().map(|allocator| Side { scheme, allocator }));
            }
        }
        if sides.present.is_empty() {
            return Err(Refusal(format!("nothing to run: {}", sides.missing.join("; "))));
        }
        Ok(sides)
    }
}

/// A side with what it measured, a value a round. None where a child failed; the line says how.
pub struct Row<T> {
    pub side: Side,
    pub rounds: Vec<T>,
    pub failure: Option<String>,
    /// How far apart the processors were, a value a round.
    pub distances: Vec<Distance>,
}

impl<T> Row<T> {
    /// Of a side that has measured nothing yet.
    pub fn of(side: Side) -> Row<T> {
        Row { side, rounds: Vec::new(), failure: None, distances: Vec::new() }
    }

    /// Median with least and greatest of a figure.
    pub fn spread(&self, figure: impl Fn(&T) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(figure))
    }

    /// Of the ratios of this row's figure to another's, round by round: of the rounds in which the processors were
    /// equally far apart for both, if there is one, else of all.
    pub fn ratio(&self, other: &Row<T>, figure: impl Fn(&T) -> f64) -> Option<Spread> {
        let all = 0..self.rounds.len();
        let is_alike = |&round: &usize| {
            let of = |row: &Row<T>| row.distances.get(round).copied().unwrap_or(Distance::Mixed);
            of(self) != Distance::Mixed && of(self) == of(other)
        };
        let mut rounds: Vec<usize> = all.clone().filter(is_alike).collect();
        if rounds.is_empty() {
            rounds.extend(all);
        }
        let of = |row: &Row<T>| rounds.iter().map(|&round| figure(&row.rounds[round])).collect::<Vec<_>>();
        (self.rounds.len() == other.rounds.len()).then(|| Spread::of_ratios(&of(self), &of(other))).flatten()
    }
}

/// Runs every side in turn: a warm-up round, then `rounds`. A side whose child fails is out. One for which the processors
/// were not as far apart as for the round's first runs again, but not in the warm-up; [`TRIES`] times in all at the most.
pub fn take_turns<T: DeserializeOwned>(
    sides: &[Side],
    rounds: u32,
    kind: &str,
    experiment: &str,
    parameters: &Value,
) -> Result<Vec<Row<T>>, Refusal> {
    let bar = progress::bar(u64::from(rounds + 1) * sides.len() as u64);
    let (mut least, mut of_round) = (f64::INFINITY, None);
    let results = alternate(sides, rounds, |side, round| {
        bar.set_message(format!("{experiment} {}", side.name()));
        let mut tries = 0;
        let measured = loop {
            tries += 1;
            let before = round_trip_ns();
            let answer = side.child(kind, experiment, parameters)?.answer::<T>();
            let around = Around(before, round_trip_ns());
            least = least.min(around.0).min(around.1);
            let distance = around.distance(least);
            let wanted = match of_round {
                Some((of, wanted)) if of == round => wanted,
                _ => distance,
            };
            if wanted != Distance::Mixed {
                of_round = Some((round, wanted));
            }
            let is_alike = distance == wanted && wanted != Distance::Mixed;
            if is_alike || round == 0 || tries == TRIES || answer.is_err() {
                break (answer.map(|(answer, _)| answer).map_err(|refusal| refusal.0), around);
            }
        };
        bar.inc(1);
        Ok::<_, Refusal>(measured)
    })?;
    bar.finish_and_clear();
    let mut rows = Vec::new();
    for (side, results) in sides.iter().zip(results) {
        let mut row = Row::of(side.clone());
        for (result, around) in results {
            match result {
                Ok(value) => {
                    row.rounds.push(value);
                    row.distances.push(around.distance(least));
                }
                Err(line) => row.failure = Some(line),
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// One line for each side that is missing or failed.
pub fn notes<T>(missing: &[String], rows: &[Row<T>]) -> Vec<String> {
    let failed =
        |row: &Row<T>| row.failure.as_ref().map(|line| format!("failed: {}: {line}", row.side.name()));
    missing.iter().cloned().chain(rows.iter().filter_map(failed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Distance::{Far, Mixed, Near};

    fn row(rounds: [f64; 4], distances: [Distance; 4]) -> Row<f64> {
        let allocator = Allocator {
            name: "glibc".to_owned(),
            about: String::new(),
            library: None,
            environment: Vec::new(),
        };
        let mut row = Row::of(Side { scheme: "leak", allocator });
        row.rounds.extend(rounds);
        row.distances.extend(distances);
        row
    }

    #[test]
    fn ratios_are_of_rounds_with_the_processors_equally_far_apart() {
        let one = row([30.0, 10.0, 30.0, 20.0], [Near, Far, Near, Mixed]);
        let other = row([10.0, 20.0, 15.0, 40.0], [Near, Near, Near, Mixed]);
        let ratio = one.ratio(&other, |&figure| figure).expect("two rounds are alike");
        assert_eq!((ratio.least, ratio.greatest), (2.0, 3.0));
        let never = row([30.0, 10.0, 30.0, 20.0], [Far; 4]);
        let ratio = never.ratio(&row([10.0; 4], [Near; 4]), |&figure| figure).expect("then all rounds");
        assert_eq!((ratio.least, ratio.greatest), (1.0, 3.0));
    }
}
