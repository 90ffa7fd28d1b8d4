//! Where the time goes: sampled stacks of each side, folded, and a flame graph of the difference.

use std::collections::BTreeMap;
use std::path::Path;

use super::{complaint, perf};
use crate::outcome::Refusal;
use crate::peers::Allocator;
use crate::profile::flame;

/// Samples a second: not a round number, so that nothing periodic hides between them.
const FREQUENCY: &str = "1999";

/// Stacks, the outermost frame first, and their samples.
type Stacks = BTreeMap<Vec<String>, u64>;

/// Samples each side once and writes what came of it; lines that say where.
pub fn record(
    directory: &Path,
    sides: &[Allocator],
    base: &str,
    line: &dyn Fn(&Allocator) -> Vec<String>,
) -> Result<Vec<String>, Refusal> {
    std::fs::create_dir_all(directory)
        .map_err(Refusal::of(format_args!("cannot make {}", directory.display())))?;
    let mut sampled = Vec::new();
    for side in sides {
        sampled.push((side.name.as_str(), sample(directory, &line(side))?));
    }
    let mut notes = Vec::new();
    let mut write = |name: String, text: &str| {
        let file = directory.join(name);
        notes.push(format!("wrote {}", file.display()));
        std::fs::write(&file, text).map_err(Refusal::of(format_args!("cannot write {}", file.display())))
    };
    let reference = sampled.iter().find(|(name, _)| *name == base).map(|(_, stacks)| stacks);
    for (name, stacks) in &sampled {
        write(format!("{name}.folded"), &flame::folded(&weighed(stacks)))?;
        if let Some(reference) = reference.filter(|_| *name != base) {
            write(format!("{base}-{name}.folded"), &both(reference, stacks))?;
            let title = format!("samples under {name}; red: more than under {base}, blue: fewer");
            let picture = flame::draw_difference(&title, "samples", &weighed(reference), &weighed(stacks))?;
            write(format!("{base}-{name}.svg"), &picture)?;
        }
    }
    Ok(notes)
}

/// One run under `perf record`.
fn sample(directory: &Path, line: &[String]) -> Result<Stacks, Refusal> {
    let data = directory.join("perf.data");
    let file = data.to_string_lossy();
    let run = perf(&["record", "-q", "-g", "-F", FREQUENCY, "-o", &file, "--"]).args(line).run()?;
    let script = perf(&["script", "-i", &file, "-F", "comm,ip,sym"]).run()?;
    let _ = std::fs::remove_file(&data);
    let stacks = folded(&String::from_utf8_lossy(&script.stdout));
    if stacks.is_empty() {
        return Err(Refusal(format!("perf record gave no samples: {}", complaint(&run.stderr))));
    }
    Ok(stacks)
}

/// The samples of `perf script`: a line with the program's name, then its frames, the innermost first, then
/// an empty line.
fn folded(text: &str) -> Stacks {
    let mut stacks = Stacks::new();
    for sample in text.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.is_empty());
        let Some(program) = lines.next() else { continue };
        // The address comes first, then the name, which may have spaces in it.
        let name = |line: &str| {
            let name = line.trim().split_once(' ').map_or("[unknown]", |(_, name)| name.trim());
            name.to_owned()
        };
        let mut frames: Vec<String> = lines.map(name).collect();
        frames.push(program.trim().to_owned());
        frames.reverse();
        *stacks.entry(frames).or_default() += 1;
    }
    stacks
}

fn weighed(stacks: &Stacks) -> Vec<(Vec<String>, f64)> {
    stacks.iter().map(|(frames, &count)| (frames.clone(), count as f64)).collect()
}

/// A line a stack with the samples of both, as `inferno-flamegraph` and `flamegraph.pl` read differences.
fn both(before: &Stacks, after: &Stacks) -> String {
    let mut all: BTreeMap<&Vec<String>, [u64; 2]> = BTreeMap::new();
    for (side, stacks) in [before, after].into_iter().enumerate() {
        for (frames, count) in stacks {
            all.entry(frames).or_default()[side] += count;
        }
    }
    let line = |(frames, [before, after]): (&Vec<String>, [u64; 2])| {
        let frames: Vec<String> = frames.iter().map(|name| name.replace(';', ":")).collect();
        format!("{} {before} {after}\n", frames.join(";"))
    };
    all.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perf_script_says_is_folded() {
        let text = "env \n\tffff free_unref folios\n\t  d4 __GI___execve\n\nenv \n\tffff free_unref \
            folios\n\t  d4 __GI___execve\n\n\
                    python3 \n\t 12 [unknown]\n\n";
        let stacks = folded(text);
        let stack = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(stacks[&stack(&["env", "__GI___execve", "free_unref folios"])], 2);
        assert_eq!(stacks[&stack(&["python3", "[unknown]"])], 1);
        let other = Stacks::from([(stack(&["python3", "a;b"]), 3)]);
        let text = both(&stacks, &other);
        assert!(text.contains("env;__GI___execve;free_unref folios 2 0\n"), "{text}");
        assert!(text.contains("python3;a:b 0 3\n"), "{text}");
    }
}
