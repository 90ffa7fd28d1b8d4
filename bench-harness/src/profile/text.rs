//! A profile for people: the stacks with the most bytes, and what has leaked.

use std::fmt::Write as _;

use super::Kind;
use super::dump::Dump;
use super::symbols::Place;
use super::tally::{Amount, Tally};

fn amount(amount: Amount) -> String {
    format!("{:.0} bytes in {:.0} blocks", amount.bytes, amount.blocks)
}

/// A line for each frame, the innermost first.
fn frames(text: &mut String, places: &[Place]) {
    if places.is_empty() {
        text.push_str("    from nobody knows where\n");
    }
    for function in places.iter().flat_map(|place| &place.functions) {
        let _ = match (function.file.rsplit('/').next(), function.line) {
            (Some(file), line) if line != 0 => writeln!(text, "    {} ({file}:{line})", function.name),
            _ => writeln!(text, "    {}", function.name),
        };
    }
}

/// What was estimated, and how.
fn head(dump: &Dump, tally: &Tally) -> String {
    let mut text = format!(
        "process {}, {:.1} s of a profile, a sample each {} bytes\n",
        dump.pid,
        dump.age_ms as f64 / 1000.0,
        dump.rate
    );
    for (name, kind) in [("live", Kind::Live), ("deferred", Kind::Deferred), ("allocated", Kind::Allocated)] {
        let _ = writeln!(text, "{name}: {}", amount(tally.sum(kind)));
    }
    if dump.lost_blocks + dump.lost_stacks != 0 {
        let (blocks, stacks) = (dump.lost_blocks, dump.lost_stacks);
        let _ =
            writeln!(text, "{blocks} samples found no room for their block, {stacks} none for their stack");
    }
    text
}

/// The stacks that have most of a kind.
pub fn stacks(dump: &Dump, tally: &Tally, kind: Kind, top: usize) -> String {
    let mut text = head(dump, tally);
    for (places, site) in tally.sorted(kind).into_iter().take(top) {
        let of = |kind| amount(site.of(kind));
        let _ = writeln!(
            text,
            "\nlive {}, deferred {}, allocated {}",
            of(Kind::Live),
            of(Kind::Deferred),
            of(Kind::Allocated)
        );
        frames(&mut text, places);
    }
    text
}

/// What is live, as leaks: of a dump at exit.
pub fn leaks(dump: &Dump, tally: &Tally, top: usize) -> String {
    let sites: Vec<_> = tally.sorted(Kind::Live);
    let all = tally.sum(Kind::Live);
    let mut text =
        format!("process {}: about {} leaked, from {} stacks\n", dump.pid, amount(all), sites.len());
    for (places, site) in sites.into_iter().take(top) {
        let _ = write!(text, "\nabout {}, seen by {} samples", amount(site.live), site.samples);
        if let Some((youngest, oldest)) = site.ages_ms {
            let seconds = |ms: u64| ms as f64 / 1000.0;
            let _ = write!(text, ", {:.1} to {:.1} s old", seconds(youngest), seconds(oldest));
        }
        text.push('\n');
        frames(&mut text, places);
    }
    text
}
