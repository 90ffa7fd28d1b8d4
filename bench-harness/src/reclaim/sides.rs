//! Which scheme runs on which allocator, and the rounds in which they take turns.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::NAMES;
use crate::measure::child::Child;
use crate::measure::distance::{Around, Distance};
use crate::measure::rounds::{Spread, alternate_until};
use crate::outcome::{Common, Refusal};
use crate::output::progress;
use crate::peers::{self, Allocator};

/// What peers of ours run on.
const ALLOCATORS: [&str; 2] = ["glibc", "mimalloc"];

/// A child that takes longer than this has failed: it measures for a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

/// Rounds alike that a side is to have.
const ENOUGH: usize = 3;

/// The distances in which rounds can be alike.
const KNOWN: [Distance; 3] = [Distance::Core, Distance::Near, Distance::Far];

/// What says how far apart the processors were.
pub trait Placed {
    fn around(&self) -> Around;
}

impl<T: Placed> Placed for &T {
    fn around(&self) -> Around {
        (*self).around()
    }
}

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
}

impl<T> Row<T> {
    /// Of a side that has measured nothing yet.
    pub fn of(side: Side) -> Row<T> {
        Row { side, rounds: Vec::new(), failure: None }
    }

    /// Median with least and greatest of a figure.
    pub fn spread(&self, figure: impl Fn(&T) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(figure))
    }
}

impl<T: Placed> Row<T> {
    /// The figures of the rounds with the processors that far apart.
    pub fn at(&self, distance: Distance, figure: impl Fn(&T) -> f64) -> Vec<f64> {
        let rounds = self.rounds.iter().filter(|round| round.around().distance() == distance);
        rounds.map(figure).collect()
    }

    /// Of the ratios of this row's figure to another's, of rounds in which the processors were equally far
    /// apart: the first of these with the other's first, and so on. Of all rounds, if there are no such ones.
    pub fn ratio(&self, other: &Row<T>, figure: impl Fn(&T) -> f64) -> Option<Spread> {
        let alike = KNOWN.into_iter().flat_map(|distance| {
            let (own, others) = (self.at(distance, &figure), other.at(distance, &figure));
            own.into_iter().zip(others).map(|(own, other)| own / other)
        });
        let all = || self.rounds.iter().zip(&other.rounds).map(|(own, other)| figure(own) / figure(other));
        Spread::of(alike).or_else(|| Spread::of(all()))
    }
}

/// How far apart the processors were in most rounds.
pub fn usual<T: Placed>(rounds: impl Iterator<Item = T> + Clone) -> Distance {
    let count =
        |&distance: &Distance| rounds.clone().filter(|round| round.around().distance() == distance).count();
    KNOWN.into_iter().max_by_key(count).unwrap_or(Distance::Near)
}

/// Runs every side in turn: a warm-up round, then `rounds`, and then more until every side has [`ENOUGH`]
/// with the processors as far apart as they mostly were. A side whose child fails is out.
pub fn take_turns<T: DeserializeOwned + Placed>(
    sides: &[Side],
    rounds: u32,
    kind: &str,
    experiment: &str,
    parameters: &Value,
) -> Result<Vec<Row<T>>, Refusal> {
    let bar = progress::bar(u64::from(rounds + 1) * sides.len() as u64);
    let enough = |results: &[Vec<Result<T, String>>]| {
        let usual = usual(results.iter().flatten().flatten());
        let alike = |results: &Vec<Result<T, String>>| {
            results.iter().flatten().filter(|round| round.around().distance() == usual).count()
        };
        results.iter().all(|results| results.iter().any(Result::is_err) || alike(results) >= ENOUGH)
    };
    let results = alternate_until(sides, rounds, enough, |side, round| {
        bar.set_message(format!("{experiment} {}", side.name()));
        if round > rounds {
            bar.inc_length(1);
        }
        let answer = side.child(kind, experiment, parameters)?.answer::<T>();
        bar.inc(1);
        Ok::<_, Refusal>(answer.map(|(answer, _)| answer).map_err(|refusal| refusal.0))
    })?;
    bar.finish_and_clear();
    let mut rows = Vec::new();
    for (side, results) in sides.iter().zip(results) {
        let mut row = Row::of(side.clone());
        for result in results {
            match result {
                Ok(value) => row.rounds.push(value),
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

    struct Run(f64, Around);

    impl Placed for Run {
        fn around(&self) -> Around {
            self.1
        }
    }

    const NEAR: Around = Around(60.0, 60.0);
    const FAR: Around = Around(300.0, 300.0);
    const MIXED: Around = Around(60.0, 300.0);

    fn row(rounds: [(f64, Around); 4]) -> Row<Run> {
        let allocator = Allocator {
            name: "glibc".to_owned(),
            about: String::new(),
            library: None,
            environment: Vec::new(),
        };
        let mut row = Row::of(Side { scheme: "leak", allocator });
        row.rounds.extend(rounds.map(|(figure, around)| Run(figure, around)));
        row
    }

    #[test]
    fn ratios_are_of_rounds_with_the_processors_equally_far_apart() {
        let one = row([(30.0, NEAR), (8.0, FAR), (40.0, NEAR), (20.0, MIXED)]);
        let other = row([(2.0, FAR), (10.0, NEAR), (20.0, NEAR), (40.0, MIXED)]);
        let ratio = one.ratio(&other, |run| run.0).expect("three pairs");
        assert_eq!((ratio.least, ratio.median, ratio.greatest), (2.0, 3.0, 4.0));
        let never = row([(30.0, FAR), (10.0, FAR), (30.0, FAR), (20.0, FAR)]);
        let ratio = never.ratio(&row([(10.0, NEAR); 4]), |run| run.0).expect("then all rounds");
        assert_eq!((ratio.least, ratio.greatest), (1.0, 3.0));
    }

    #[test]
    fn mixed_rounds_are_never_the_usual_ones() {
        let rounds = [(1.0, MIXED), (1.0, FAR), (1.0, MIXED), (1.0, MIXED)];
        assert_eq!(usual(row(rounds).rounds.iter()), Distance::Far);
    }
}
