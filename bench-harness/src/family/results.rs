//! What a family's programs said: ratios of each program, their distribution over the seeds, and where we are
//! behind.
//!
//! A ratio of a program is the median over rounds of ratios within a round. Time is CPU time of a fixed piece
//! of work, memory the process's peak: less is better in both.

use serde::Serialize;
use serde_json::json;

use super::distribution::{BEHIND, Distribution, Pairs, figures, json_of, table};
use super::run::{Job, Tally};
use crate::measure::rounds::Spread;
use crate::outcome::{Outcome, Target};
use crate::output::plot::{Line, Plot};
use crate::output::table::Table;
use crate::peers::{Allocator, Choice};

/// More memory than that is a row of its own.
const HEAVY: f64 = 1.25;
/// Rows of programs that are shown; JSON has all.
const SHOWN: usize = 20;

/// An allocator's runs of one program.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    pub name: String,
    pub failed: Option<String>,
    pub cpu_seconds: Vec<f64>,
    pub wall_seconds: Vec<f64>,
    pub peak_kib: Vec<f64>,
    pub base_kib: u64,
    /// To the base.
    pub time: Option<Spread>,
    pub wall: Option<Spread>,
    pub peak: Option<Spread>,
}

/// One program under all allocators.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    pub job: Job,
    pub program: String,
    pub operations: u64,
    pub checksum: String,
    /// Two sides made different calls.
    pub different: bool,
    pub sides: Vec<Side>,
}

impl Case {
    pub fn new(job: &Job, program: String, allocators: &[Allocator]) -> Case {
        let side = |allocator: &Allocator| Side {
            name: allocator.name.clone(),
            failed: None,
            cpu_seconds: Vec::new(),
            wall_seconds: Vec::new(),
            peak_kib: Vec::new(),
            base_kib: 0,
            time: None,
            wall: None,
            peak: None,
        };
        let sides = allocators.iter().map(side).collect();
        Case { job: job.clone(), program, operations: 0, checksum: String::new(), different: false, sides }
    }

    /// A round: a result a side.
    pub fn add(&mut self, tallies: Vec<Result<Tally, String>>) {
        for (side, tally) in self.sides.iter_mut().zip(tallies) {
            match tally {
                Ok(tally) => {
                    if self.checksum.is_empty() {
                        (self.operations, self.checksum) = (tally.operations, tally.checksum.clone());
                    }
                    self.different |=
                        (tally.operations, &tally.checksum) != (self.operations, &self.checksum);
                    side.cpu_seconds.push(tally.cpu_seconds);
                    side.wall_seconds.push(tally.wall_seconds);
                    side.peak_kib.push(tally.peak_kib as f64);
                    side.base_kib = tally.base_kib;
                }
                Err(reason) => {
                    side.failed.get_or_insert(reason);
                }
            }
        }
    }

    /// With what is relative to the base.
    pub fn related(mut self, base: &str) -> Case {
        let base = self.sides.iter().find(|side| side.name == base && side.failed.is_none()).cloned();
        for side in self.sides.iter_mut().filter(|side| side.failed.is_none()) {
            let Some(base) = &base else { break };
            side.time = Spread::of_ratios(&side.cpu_seconds, &base.cpu_seconds);
            side.wall = Spread::of_ratios(&side.wall_seconds, &base.wall_seconds);
            side.peak = Spread::of_ratios(&side.peak_kib, &base.peak_kib);
        }
        self
    }

    /// What failed, and whether calls differed.
    pub fn complaints(&self) -> Vec<String> {
        let (family, seed) = (&self.job.family, self.job.seed);
        let failed = |side: &Side| {
            side.failed.as_ref().map(|why| format!("FAILED: {family} {seed} under {}: {why}", side.name))
        };
        let different = self.different.then(|| format!("DIFFERENT calls in {family} {seed}"));
        self.sides.iter().filter_map(failed).chain(different).collect()
    }

    /// CPU seconds of a side, median of the rounds.
    pub fn cpu_seconds(&self, name: &str) -> Option<f64> {
        Some(Spread::of(self.side(name)?.cpu_seconds.iter().copied())?.median)
    }

    fn side(&self, name: &str) -> Option<&Side> {
        self.sides.iter().find(|side| side.name == name && side.failed.is_none())
    }

    /// Time and peak of one against another, medians of the rounds.
    pub fn between(&self, one: &str, other: &str) -> Option<(f64, f64)> {
        let (one, other) = (self.side(one)?, self.side(other)?);
        let time = Spread::of_ratios(&one.cpu_seconds, &other.cpu_seconds)?;
        Some((time.median, Spread::of_ratios(&one.peak_kib, &other.peak_kib)?.median))
    }

    /// The least time of the peers, and the least memory, against ours.
    fn to_best(&self, ours: &str) -> Option<(f64, f64)> {
        let peers = self.sides.iter().filter(|side| !is_ours(&side.name));
        let each: Vec<_> = peers.filter_map(|side| self.between(ours, &side.name)).collect();
        let most = |of: fn(&(f64, f64)) -> f64| each.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        (!each.is_empty()).then(|| (most(|pair| pair.0), most(|pair| pair.1)))
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("rcumalloc")
}

/// Everything of a call of `workload family`.
pub fn outcome(cases: &[Case], choice: &Choice, base: &str, rounds: u32) -> Outcome {
    let names: Vec<&str> = choice.present.iter().map(|allocator| allocator.name.as_str()).collect();
    let of =
        |one: &str, other: &str| cases.iter().filter_map(|case| case.between(one, other)).collect::<Vec<_>>();
    let mut families: Vec<&str> = cases.iter().map(|case| case.job.family.as_str()).collect();
    families.dedup();
    let seeds = match (cases.first(), cases.last()) {
        (Some(first), Some(last)) => format!("seeds {} to {}", first.job.seed, last.job.seed),
        _ => "no seeds".to_owned(),
    };
    let seconds = cases.first().map_or(0.0, |case| case.job.seconds);
    let title = format!("{}: {seeds}", families.join(", "));
    let others = names.iter().filter(|name| **name != base);
    let to_base: Vec<Pairs> = others.map(|name| ((*name).to_owned(), of(name, base))).collect();
    let mut tables = vec![table(
        format!("{title}, against {base}"),
        "CPU time and peak RSS of the same programs, ratios within rounds, their median a program; \
         geometric mean over the programs; behind: above 1.03",
        &to_base,
    )];
    let mut notes: Vec<String> = choice.missing.iter().map(ToString::to_string).collect();
    notes.push(format!(
        "{title}; {rounds} rounds of {seconds} s nominal; \
         each program made the same calls under every allocator"
    ));
    let mut results = json!({ "against_base": json_of(&to_base) });
    let ours = "rcumalloc";
    if names.contains(&ours) {
        let peers = names.iter().filter(|name| !is_ours(name) && **name != base);
        let mut rows: Vec<Pairs> = peers.map(|name| (format!("{ours} / {name}"), of(ours, name))).collect();
        if !rows.is_empty() {
            rows.push((
                format!("{ours} / best of each program"),
                cases.iter().filter_map(|case| case.to_best(ours)).collect(),
            ));
            tables.push(table(
                "Against each peer".to_owned(),
                "ours divided by the peer's; the best may be another for time and for memory",
                &rows,
            ));
            results["against_peers"] = json_of(&rows);
        }
    }
    let deferral = of(ours, "rcumalloc-api");
    if !deferral.is_empty() {
        let rows = [("all / api".to_owned(), deferral)];
        tables.push(table(
            "What holding back costs".to_owned(),
            "RCUMALLOC_DEFER=all divided by =api, the same library",
            &rows,
        ));
        results["deferral"] = json_of(&rows);
    }
    if families.len() > 1 {
        let by_family: Vec<Pairs> = families
            .iter()
            .map(|family| {
                let own = cases.iter().filter(|case| case.job.family == *family);
                ((*family).to_owned(), own.filter_map(|case| case.between(ours, base)).collect())
            })
            .collect();
        tables.push(table(format!("{ours} against {base}, by family"), "", &by_family));
        results["families"] = json_of(&by_family);
    }
    if names.contains(&ours) && base != ours {
        tables.extend(behind(cases, ours, base));
    }
    notes.extend(cases.iter().flat_map(Case::complaints));
    let ours_failed =
        cases.iter().flat_map(|case| &case.sides).any(|side| side.failed.is_some() && is_ours(&side.name));
    results["programs"] = json!(cases);
    results["missing"] = json!(choice.missing);
    Outcome {
        command: "family".into(),
        good: !ours_failed && cases.iter().all(|case| !case.different),
        plots: plots(cases, &names, base),
        targets: targets(cases, base, rounds),
        results,
        notes,
        tables,
        rounds,
    }
}

/// The programs in which we are behind, the worst first.
fn behind(cases: &[Case], ours: &str, base: &str) -> Option<Table> {
    let mut rows: Vec<(&Case, (f64, f64))> =
        cases.iter().filter_map(|case| Some((case, case.between(ours, base)?))).collect();
    rows.retain(|(_, (time, peak))| *time > BEHIND || *peak > HEAVY);
    rows.sort_by(|a, b| (b.1.0.max(b.1.1)).total_cmp(&a.1.0.max(a.1.1)));
    let all = rows.len();
    let mut table = Table::new(
        format!("Behind {base}: {all} of {}", cases.len()),
        &["family", "seed", "time", "peak RSS", "program"],
    )
    .note(format!("more than {BEHIND} of the time or {HEAVY} of the memory; the worst {SHOWN} at most"));
    for (case, (time, peak)) in rows.into_iter().take(SHOWN) {
        table.row([
            case.job.family.clone(),
            case.job.seed.to_string(),
            format!("{time:.2}"),
            format!("{peak:.2}"),
            case.program.clone(),
        ]);
    }
    (all > 0).then_some(table)
}

/// Programs from the best ratio to the worst, a line an allocator.
fn plots(cases: &[Case], names: &[&str], base: &str) -> Vec<Plot> {
    let line = |name: &&str, figure: fn(&(f64, f64)) -> f64| {
        let mut ratios: Vec<f64> =
            cases.iter().filter_map(|case| case.between(name, base)).map(|pair| figure(&pair)).collect();
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len().saturating_sub(1).max(1) as f64;
        let points =
            ratios.iter().enumerate().map(|(at, &ratio)| (at as f64 / last * 100.0, ratio)).collect();
        Line { name: (*name).to_owned(), points }
    };
    let plot = |what: &str, figure: fn(&(f64, f64)) -> f64| {
        let lines = names.iter().map(|name| line(name, figure)).collect();
        Plot::lines(
            format!("{what} against {base}, programs from best to worst"),
            "% of the programs",
            "ratio, less is better",
            lines,
        )
        .log()
    };
    vec![plot("CPU time", |pair| pair.0), plot("Peak RSS", |pair| pair.1)]
}

/// What was promised; of a run that is large enough to say.
fn targets(cases: &[Case], base: &str, rounds: u32) -> Vec<Target> {
    if cases.len() < 100 || rounds < 3 || base != "glibc" {
        return Vec::new();
    }
    let of = |other: &str| {
        figures(&cases.iter().filter_map(|case| case.between("rcumalloc", other)).collect::<Vec<_>>())
    };
    let mut targets = Vec::new();
    let mut promise = |what: &str, seen: Option<f64>, limit: f64| {
        targets.push(Target {
            what: format!("families: {what} at most {limit}"),
            seen: seen.map_or("n/a".to_owned(), |seen| format!("{seen:.3}")),
            met: seen.map(|seen| seen <= limit),
        });
    };
    let mean = |of: &Option<Distribution>| of.as_ref().map(|of| of.mean);
    let decile = |of: &Option<Distribution>| of.as_ref().map(|of| of.worst_decile);
    let [time, peak, _] = of("glibc");
    promise("time against glibc, mean", mean(&time), 0.70);
    promise("time against glibc, worst", time.as_ref().map(|time| time.worst), BEHIND);
    promise("peak RSS against glibc, mean", mean(&peak), 1.05);
    promise("peak RSS against glibc, worst decile", decile(&peak), 1.25);
    let best: Vec<f64> =
        cases.iter().filter_map(|case| case.to_best("rcumalloc")).map(|pair| pair.0).collect();
    promise("time against the best of each program, mean", mean(&Distribution::of(&best)), 1.10);
    for peer in ["snmalloc", "mimalloc2"] {
        promise(&format!("time x RSS against {peer}, mean"), mean(&of(peer)[2]), 1.0);
    }
    let [time, peak, _] = of("rcumalloc-api");
    promise("time of all against api, mean", mean(&time), 1.03);
    promise("time of all against api, worst decile", decile(&time), 1.12);
    promise("peak RSS of all against api, mean", mean(&peak), 1.05);
    promise("peak RSS of all against api, worst decile", decile(&peak), 1.15);
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(times: &[(&str, f64, u64)]) -> Case {
        let job = Job { family: "mixed".into(), seed: 1, seconds: 0.1 };
        let allocator = |name: &str| Allocator {
            name: name.into(),
            about: String::new(),
            library: None,
            environment: Vec::new(),
        };
        let allocators: Vec<_> = times.iter().map(|one| allocator(one.0)).collect();
        let mut case = Case::new(&job, "a program".into(), &allocators);
        let tally = |&(_, cpu, peak): &(&str, f64, u64)| {
            Ok(Tally {
                operations: 1,
                checksum: "a".into(),
                wall_seconds: cpu,
                cpu_seconds: cpu,
                peak_kib: peak,
                base_kib: 1,
            })
        };
        case.add(times.iter().map(tally).collect());
        case.related("glibc")
    }

    #[test]
    fn the_best_peer_of_a_program_is_not_one_of_ours() {
        let case = case(&[
            ("glibc", 2.0, 100),
            ("rcumalloc", 1.0, 120),
            ("rcumalloc-api", 0.1, 10),
            ("x", 0.5, 200),
        ]);
        assert_eq!(case.to_best("rcumalloc"), Some((2.0, 1.2)));
        assert_eq!(case.between("rcumalloc", "glibc"), Some((0.5, 1.2)));
    }

    #[test]
    fn other_calls_are_another_program() {
        let mut case = case(&[("glibc", 2.0, 100)]);
        assert!(!case.different);
        let other = Tally {
            operations: 1,
            checksum: "b".into(),
            wall_seconds: 1.0,
            cpu_seconds: 1.0,
            peak_kib: 1,
            base_kib: 1,
        };
        case.add(vec![Ok(other)]);
        assert!(case.different);
    }
}
