//! `self-test`: A/A. One allocator is compared with itself, as if it were two: 1.00 must lie between the
//! least and the greatest ratio. It also says what the harness itself costs. A harness that fails this
//! measures its own habits.

use serde_json::json;

use crate::measure::child::Child;
use crate::measure::latency;
use crate::measure::rounds::{Spread, alternate, ratio_cell};
use crate::outcome::{Common, Outcome, Refusal, Target};
use crate::output::table::Table;
use crate::peers;
use crate::workload::{self, Tally};

#[derive(clap::Args)]
pub struct Arguments {
    /// The allocator that is compared with itself
    #[arg(long, default_value = "glibc")]
    pub with: String,
    /// Pretend that the second side did a share more, such as 0.5: the test must then fail
    #[arg(long, hide = true, default_value_t = 0.0)]
    pub tilt: f64,
}

/// Different in kind: fast paths, many pages, two threads that trade.
const WORKLOADS: [&str; 3] = ["tight-pair", "random-replace", "producer-consumer"];

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    let choice = peers::choose(std::slice::from_ref(&arguments.with), common)?;
    let allocator = &choice.present[0];
    // Of n ratios of equals, all lie on one side of 1.00 once in 2^(n-1) times: that is how often this test
    // is wrong.
    let rounds = common.rounds.unwrap_or(11);
    let (mut targets, mut results) = (Vec::new(), Vec::new());
    let mut table = Table::new(
        format!("A/A: {0} against {0}", allocator.name),
        &[
            "workload",
            "per CPU-second, ratio",
            "wall, ratio",
            "peak RSS, ratio",
            "start and end, share of wall",
        ],
    );
    for name in WORKLOADS {
        let job = workload::job(name, common.seconds.unwrap_or(if common.quick { 0.05 } else { 0.25 }))?;
        let sides = alternate(&[1.0, 1.0 + arguments.tilt], rounds, |&share, round| {
            let mut job = job.clone();
            job.seed = u64::from(round) + 1;
            let child = Child::inner("workload", &json!(job))?.under(allocator);
            let (mut tally, finished) = child.answer::<Tally>()?;
            tally.operations = (tally.operations as f64 * share) as u64;
            // What the process did beside the measured part.
            let outside = 1.0 - tally.wall_seconds / finished.wall_seconds.max(tally.wall_seconds);
            Ok::<_, Refusal>((tally, outside))
        })?;
        let ratios = |of: fn(&Tally) -> f64| {
            let each = |side: usize| sides[side].iter().map(|(tally, _)| of(tally)).collect::<Vec<_>>();
            Spread::of_ratios(&each(0), &each(1))
        };
        let per_cpu = ratios(|tally| tally.operations as f64 / tally.cpu_seconds);
        let per_wall = ratios(|tally| tally.operations as f64 / tally.wall_seconds);
        let peak = ratios(|tally| tally.peak_kib as f64);
        let outside = Spread::of(sides.iter().flatten().map(|(_, outside)| outside * 100.0));
        table.row([
            name.to_owned(),
            ratio_cell(per_cpu),
            ratio_cell(per_wall),
            ratio_cell(peak),
            outside.map_or("n/a".into(), |share| format!("{:.1} %", share.median)),
        ]);
        targets.push(Target {
            what: format!("{name}: 1.00 between least and greatest"),
            seen: per_cpu.map_or_else(|| "n/a".to_owned(), |ratio| ratio.text(|value| format!("{value:.2}"))),
            met: per_cpu.map(|spread| spread.contains(1.0)),
        });
        results.push(json!({ "workload": name, "per_cpu": per_cpu, "per_wall": per_wall, "peak": peak }));
    }
    let scale = latency::nanoseconds_per_tick(std::time::Duration::from_millis(20));
    let cost = latency::cost(scale);
    let notes = vec![format!(
        "overhead: recording a latency costs {:.0} ns an operation, of which {:.0} ns are within each \
         recorded time; rounds of \
         throughput record none; start and end of a child are outside the measured part",
        cost.each_ns, cost.floor_ns
    )];
    Ok(Outcome {
        command: "self-test".into(),
        good: targets.iter().all(|target| target.met == Some(true)),
        results: json!({ "allocator": allocator, "workloads": results, "recording": cost }),
        tables: vec![table],
        targets,
        notes,
        rounds,
        ..Outcome::default()
    })
}
