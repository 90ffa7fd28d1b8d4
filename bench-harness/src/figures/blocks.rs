//! The blocks of figures by name: each is Markdown that is made of one recorded JSON file, or of several.

use std::path::Path;

use serde_json::Value;

use super::recorded::{Recorded, lines, number, of_rounds, side, spread, wrapped};
use crate::measure::rounds::{Spread, geometric_mean};
use crate::outcome::Refusal;

type Made = Result<String, Refusal>;

/// What stands between the marks of that name.
pub fn make(name: &str, root: &Path) -> Made {
    let recorded = |file: &str| Recorded::read(root, file);
    match name {
        "summary" => summary(&recorded),
        "programs" => programs(&recorded("malloc")?),
        "threads" => threads(&recorded("malloc")?),
        "small" => small(&recorded("malloc")?),
        "patterns" => patterns(&recorded("workloads")?, "", &["glibc"]),
        "replays" => patterns(&recorded("report")?.part("workload")?, "replay", &["glibc"]),
        "families" => families(&recorded("families")?, "against_base"),
        "deferral" => families(&recorded("deferral")?, "families"),
        "freeing" => freeing(&recorded("report")?.part("rcuscale")?),
        "reading" => reading(&recorded("report")?.part("refscale")?),
        "groups" => groups(&recorded("report")?.part("pressure")?),
        "perf" => perf(&recorded("perf")?),
        "large" => large(&recorded("large")?),
        "profile" => profile(&recorded("profile")?),
        other => Err(Refusal(format!("there are no figures '{other}'"))),
    }
}

fn summary(recorded: &dyn Fn(&str) -> Result<Recorded, Refusal>) -> Made {
    let (malloc, workloads, families) = (recorded("malloc")?, recorded("workloads")?, recorded("families")?);
    let rcuscale = recorded("report")?.part("rcuscale")?;
    let machine = &workloads.whole["machine"];
    let about = format!(
        "Commits `{}`, `{}`, `{}`; a {}machine, {} processors; ratios in rounds (spread).",
        malloc.commit(),
        workloads.commit(),
        rcuscale.commit(),
        if machine["is_virtual"] == true { "virtual " } else { "" },
        machine["processors"],
    );
    let real = "Real programs against glibc";
    let mean = malloc.row(real, "geometric mean", "glibc")?;
    let larson = malloc.row("Two threads", "larson-like", "mimalloc v3")?;
    let starts = malloc.row("Small programs", "starts", "")?;
    let small = malloc.row("Small programs", "true rss", "")?;
    let redis = malloc.row(real, "redis", "glibc")?;
    let best = pattern_means(&workloads.results, "");
    let of = |name: &str| best.iter().find(|(other, _)| other == name).map_or(f64::NAN, |(_, mean)| *mean);
    let peer = best.iter().filter(|(name, _)| !name.starts_with("rcumalloc") && name != "glibc");
    let peer = peer.max_by(|a, b| a.1.total_cmp(&b.1)).cloned().unwrap_or_default();
    let against = &families.results["against_base"];
    let random = |name: &str, of: &str| number(&against[name][of]["mean"]);
    let rate = |name: &str| {
        let row = side(&rcuscale.results, name)?;
        of_rounds(row, |round| number(&round["mblocks_s"]))
    };
    let rate = |name: &str| rate(name).ok_or_else(|| Refusal(format!("rcuscale has no side {name}")));
    let ours = rate("ours")?;
    let head = "| | against | time | peak memory |";
    let rows = [
        format!(
            "| six real programs, CPU time, geometric mean | glibc | {:.2}; the worst, redis: {} | {:.2} |",
            number(&mean["cpu"]),
            spread(&redis["cpu"]),
            number(&mean["rss"])
        ),
        format!(
            "| larson-like, operations a CPU-second | mimalloc v3 | {} | {} |",
            spread(&larson["per_cpu"]),
            spread(&larson["rss"])
        ),
        format!(
            "| fifteen patterns, operations a CPU-second | glibc | {:.2} (best peer, {}: {:.2}) | |",
            of("rcumalloc"),
            peer.0,
            peer.1
        ),
        format!(
            "| 105 programs at random, CPU time | glibc | {:.2} (mimalloc v3: {:.2}) | {:.2} ({:.2}) |",
            random("rcumalloc", "time"),
            random("mimalloc", "time"),
            random("rcumalloc", "peak"),
            random("mimalloc", "peak")
        ),
        format!(
            "| freed, million blocks a second: {:.0} ({:.0} to {:.0}) | crossbeam-epoch, `call_rcu` | \
             {:.0}, {:.0} | |",
            ours.median,
            ours.least,
            ours.greatest,
            rate("crossbeam/glibc")?.median,
            rate("urcu-memb-call/glibc")?.median
        ),
        format!(
            "| 1000 starts of `true` | glibc | {} | +{} KiB |",
            spread(&starts["ratio"]),
            number(&small["ours"]) - number(&small["theirs"])
        ),
    ];
    Ok(format!("{}\n\n{}", wrapped(&about), lines(head, rows)))
}

fn programs(malloc: &Recorded) -> Made {
    let rows = malloc.whole["rows"].as_array().into_iter().flatten();
    let rows = rows.filter(|row| row["table"] == "Real programs against glibc").map(|row| {
        let name = row["name"].as_str().unwrap_or_default();
        match row["cpu"].as_f64() {
            Some(mean) => format!("| {name} of {} | {mean:.2} | {:.2} | |", row["of"], number(&row["rss"])),
            None => format!(
                "| {name} | {} | {} | {} |",
                spread(&row["cpu"]),
                spread(&row["rss"]),
                spread(&row["faults"])
            ),
        }
    });
    Ok(malloc.source() + &lines("| program | CPU time | peak RSS | minor faults |", rows))
}

fn threads(malloc: &Recorded) -> Made {
    let rows = malloc.whole["rows"].as_array().into_iter().flatten();
    let rows = rows.filter(|row| row["table"] == "Two threads").map(|row| {
        let word = |key: &str| row[key].as_str().unwrap_or_default();
        let cells = [spread(&row["per_cpu"]), spread(&row["rss"])];
        format!("| {} | {} | {} | {} |", word("name"), word("against"), cells[0], cells[1])
    });
    Ok(malloc.source() + &lines("| pattern | against | operations a CPU-second | peak RSS |", rows))
}

fn small(malloc: &Recorded) -> Made {
    let row = |name: &str| malloc.row("Small programs", name, "");
    let (rss, starts) = (row("true rss")?, row("starts")?);
    let rows = [
        format!("| `true`, peak RSS, KiB | {} | {} | |", rss["ours"], rss["theirs"]),
        format!(
            "| 1000 starts of `true`, CPU s | {:.2} | {:.2} | {} |",
            number(&starts["ours"]),
            number(&starts["theirs"]),
            spread(&starts["ratio"])
        ),
        format!("| the same, an empty library | | | {} |", spread(&row("starts, empty library")?["ratio"])),
    ];
    Ok(malloc.source() + &lines("| | rcumalloc | glibc | ratio |", rows))
}

/// The name of a pattern: of a replay its trace's.
fn pattern(workload: &Value) -> String {
    let job = &workload["job"];
    let name = job["workload"].as_str().unwrap_or_default();
    match job["trace"].as_str() {
        Some(trace) => {
            let stem = Path::new(trace).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            format!("{name} {stem}")
        }
        None => name.to_owned(),
    }
}

/// The patterns whose names begin so.
fn chosen<'a>(results: &'a Value, prefix: &str) -> Vec<&'a Value> {
    let all = results["workloads"].as_array().into_iter().flatten();
    all.filter(|workload| pattern(workload).starts_with(prefix)).collect()
}

/// Each allocator's geometric mean over the patterns, in the order in which they were compared.
fn pattern_means(results: &Value, prefix: &str) -> Vec<(String, f64)> {
    let mut ratios: Vec<(String, Vec<f64>)> = Vec::new();
    for workload in chosen(results, prefix) {
        for side in workload["sides"].as_array().into_iter().flatten() {
            let name = side["name"].as_str().unwrap_or_default();
            let ratio = number(&side["ratio"]["median"]);
            match ratios.iter_mut().find(|(other, _)| other == name) {
                Some((_, all)) => all.push(ratio),
                None => ratios.push((name.to_owned(), vec![ratio])),
            }
        }
    }
    ratios.sort_by(|one, other| one.0.cmp(&other.0));
    let mean = |(name, all): (String, Vec<f64>)| Some((name, geometric_mean(&all)?));
    ratios.into_iter().filter_map(mean).collect()
}

fn patterns(recorded: &Recorded, prefix: &str, without: &[&str]) -> Made {
    let means = pattern_means(&recorded.results, prefix);
    let mut means: Vec<_> = means.into_iter().filter(|(name, _)| !without.contains(&name.as_str())).collect();
    means.sort_by_key(|(name, _)| !name.starts_with("rcumalloc"));
    let head = means.iter().map(|(name, _)| format!(" {name} |")).collect::<String>();
    let mut rows = Vec::new();
    for workload in chosen(&recorded.results, prefix) {
        let ratio = |name: &str| side(&workload["sides"], name).map(|side| number(&side["ratio"]["median"]));
        let best = means.iter().filter_map(|(name, _)| ratio(name)).fold(f64::MIN, f64::max);
        let mut row = format!("| {} |", pattern(workload));
        for (name, _) in &means {
            row += &match ratio(name) {
                Some(ratio) if ratio >= best * 0.95 => format!(" {ratio:.2}\\* |"),
                Some(ratio) => format!(" {ratio:.2} |"),
                None => " n/a |".to_owned(),
            };
        }
        rows.push(row);
    }
    let mean = means.iter().map(|(_, mean)| format!(" {mean:.2} |")).collect::<String>();
    rows.push(format!("| geometric mean |{mean}"));
    Ok(recorded.source() + &lines(&format!("| workload |{head}"), rows))
}

fn families(recorded: &Recorded, key: &str) -> Made {
    let all = recorded.results[key].as_object().into_iter().flatten();
    let rows = all.map(|(name, of)| {
        let figure = |what: &str, key: &str| number(&of[what][key]);
        format!(
            "| {name} | {:.3} | {:.2} | {} | {:.3} | {:.2} | {:.3} |",
            figure("time", "mean"),
            figure("time", "worst_decile"),
            of["time"]["behind"],
            figure("peak", "mean"),
            figure("peak", "worst_decile"),
            figure("time_x_peak", "mean")
        )
    });
    let head = "| | CPU time, mean | worst tenth | behind | peak RSS, mean | worst tenth | time x RSS |";
    Ok(recorded.source() + &lines(head, rows))
}

fn freeing(recorded: &Recorded) -> Made {
    let mut rows = Vec::new();
    for row in recorded.results.as_array().into_iter().flatten() {
        let (Some(rate), Some(memory), Some(age)) = (
            of_rounds(row, |round| number(&round["mblocks_s"])),
            of_rounds(row, |round| {
                (number(&round["rss_peak_kib"]) - number(&round["rss_start_kib"])) / 1024.0
            }),
            of_rounds(row, |round| number(&round["ages"]["p99"]) / 1e6),
        ) else {
            continue;
        };
        rows.push(format!(
            "| {} | {:.0} ({:.0} to {:.0}) | {:.1} ({:.1} to {:.1}) | {:.2} |",
            row["side"].as_str().unwrap_or_default(),
            rate.median,
            rate.least,
            rate.greatest,
            memory.median,
            memory.least,
            memory.greatest,
            age.median
        ));
    }
    let head = "| scheme and its malloc | million blocks a second | memory at peak, MiB | age, p99, ms |";
    Ok(recorded.source() + &lines(head, rows))
}

fn reading(recorded: &Recorded) -> Made {
    let schemes = recorded.results["schemes"].as_array().into_iter().flatten();
    let rows = schemes.filter_map(|row| {
        // A round has many runs; the median of them counts.
        let median = |round: &Value, key: &str| {
            Spread::of(round[key].as_array().into_iter().flatten().map(number)).map_or(f64::NAN, |s| s.median)
        };
        let pair = of_rounds(row, |round| median(round, "pair"))?;
        let read = of_rounds(row, |round| median(round, "read"))?;
        Some(format!(
            "| {} | {:.2} ({:.2} to {:.2}) | {:.2} |",
            row["side"].as_str().unwrap_or_default(),
            pair.median,
            pair.least,
            pair.greatest,
            read.median
        ))
    });
    Ok(recorded.source() + &lines("| scheme | a section, ns | a section that reads a pointer, ns |", rows))
}

fn groups(recorded: &Recorded) -> Made {
    let churn = recorded.results["churn"]["allocators"].as_array().into_iter().flatten();
    let rows = churn.map(|row| {
        format!(
            "| {} | {:.0} | {:.2} |",
            row["allocator"].as_str().unwrap_or_default(),
            number(&row["smallest_bytes"]) / 1048576.0,
            number(&row["seconds_unlimited"])
        )
    });
    Ok(recorded.source() + &lines("| allocator | MiB | seconds without a limit |", rows))
}

/// The events that say most of an allocator; the file has all.
const EVENTS: [&str; 5] = ["instructions", "cycles", "task-clock", "page-faults", "context-switches"];

fn perf(recorded: &Recorded) -> Made {
    let refused = recorded.results["refused"].as_object();
    let is_given = |event: &&str| refused.is_none_or(|refused| !refused.contains_key(*event));
    let given: Vec<&str> = EVENTS.into_iter().filter(is_given).collect();
    let programs = recorded.results["programs"].as_array().into_iter().flatten();
    let rows = programs.map(|program| {
        let ours =
            side(&program["sides"], "rcumalloc").map(|side| side["ratios"].clone()).unwrap_or_default();
        let cell = |event: &&str| format!(" {} |", spread(&ours[*event]));
        let cells: String = given.iter().map(cell).collect();
        format!("| {} |{cells}", program["program"].as_str().unwrap_or_default())
    });
    let head: String = given.iter().map(|event| format!(" {event} |")).collect();
    let absent: Vec<&str> = EVENTS.into_iter().filter(|event| !is_given(event)).collect();
    let note = match absent.as_slice() {
        [] => String::new(),
        absent => format!("\nn/a on this machine: {}; the file says why.\n", absent.join(", ")),
    };
    Ok(recorded.source() + &lines(&format!("| program |{head}"), rows) + &note)
}

fn figures_of(list: &Value) -> Vec<f64> {
    list.as_array().into_iter().flatten().map(number).collect()
}

fn large(recorded: &Recorded) -> Made {
    let blocks = recorded.results["blocks"].as_array().into_iter().flatten();
    let show = |figures: &[f64]| {
        let median = Spread::of(figures.iter().copied()).map_or(f64::NAN, |spread| spread.median);
        if median >= 100.0 { format!("{median:.0}") } else { format!("{median:.1}") }
    };
    let rows = blocks.map(|row| {
        let (ours, theirs) = (figures_of(&row["rcumalloc"]), figures_of(&row["glibc"]));
        let ratio = Spread::of_ratios(&ours, &theirs).map_or(f64::NAN, |ratio| ratio.median);
        let word = |key: &str| row[key].as_str().unwrap_or_default();
        format!("| {}, {} | {} | {} | {ratio:.2} |", word("what"), word("unit"), show(&ours), show(&theirs))
    });
    let blocks = lines("| | rcumalloc | glibc | ratio |", rows);
    let huge = recorded.results["huge_pages"].as_array().into_iter().flatten();
    let rows = huge.map(|row| {
        let setting = row["setting"].as_str().unwrap_or_default();
        let advised = if row["advised"] == true { ", the program advises" } else { "" };
        let cell = |side: usize| {
            let rounds = row["sides"][side].as_array().into_iter().flatten();
            let huge: Vec<f64> = rounds.map(|figure| number(&figure["huge_mib"])).collect();
            let first = &row["sides"][side][0];
            format!("{} of {}, {}", first["aligned"], first["blocks"], show(&huge))
        };
        format!("| {setting}{advised} | {} | {} |", cell(0), cell(1))
    });
    let head = "| setting: blocks aligned, MiB of 64 in huge pages | rcumalloc | glibc |";
    Ok(recorded.source() + &blocks + "\n" + &lines(head, rows))
}

fn profile(recorded: &Recorded) -> Made {
    let programs = recorded.results.as_array().into_iter().flatten();
    let mut means = [const { Vec::new() }; 3];
    let mut rows: Vec<String> = programs
        .map(|row| {
            let seconds = |side: usize| figures_of(&row["seconds"][side]);
            let mut cells = String::new();
            // The order of `profile-cost`'s sides.
            for (mean, (side, to)) in means.iter_mut().zip([(1, 0), (2, 0), (4, 3)]) {
                let ratio = Spread::of_ratios(&seconds(side), &seconds(to));
                mean.extend(ratio.map(|ratio| ratio.median));
                cells +=
                    &format!(" {} |", ratio.map_or_else(|| "n/a".to_owned(), |ratio| ratio.ratio_text()));
            }
            format!("| {} |{cells}", row["program"].as_str().unwrap_or_default())
        })
        .collect();
    let mean = |ratios: &Vec<f64>| format!(" {:.3} |", geometric_mean(ratios).unwrap_or(f64::NAN));
    rows.push(format!("| geometric mean |{}", means.iter().map(mean).collect::<String>()));
    let head = "| CPU time | with threads, `0` | with threads, `512K` | alone, `512K` |";
    Ok(recorded.source() + &lines(head, rows))
}
