//! Removes one defence at a time and sees that its test fails.

mod library;
pub mod list;
mod loom;
mod tree;

use std::time::Instant;

use clap::Args;
use list::{Kind, List, Mutant, What};

use crate::{Outcome, place, spin};

/// Removes one defence at a time and sees that its test fails
///
/// A mutant is a replacement in a source file or two, or a line less in a model; tests/mutants lists them.
/// Each of the library and the engine is built in a copy of the working tree under the target directory, and
/// the test must fail there, and pass with the tree as it is. A test that waits for a race may be asked three
/// times. A loom model has three minutes of a processor for each number of preemptions.
///
/// Exit status 1 if a mutant survives or no longer applies.
#[derive(Args)]
pub struct Arguments {
    /// Those whose target, test or name contains NAME
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Those of the tests of exactly that name
    #[arg(long, value_name = "ROW")]
    row: Vec<String>,
    /// Those of that kind
    #[arg(long)]
    kind: Option<Kind>,
    /// What there is, and the rows without one and why
    #[arg(long, conflicts_with = "check")]
    list: bool,
    /// Only that each still finds what it changes, and that each row of tests/rows.txt has one
    #[arg(long)]
    check: bool,
}

impl Arguments {
    fn chooses(&self, mutant: &Mutant) -> bool {
        let is_named = |name: &String| {
            [&mutant.target, &mutant.test, &mutant.name].iter().any(|of| of.contains(name.as_str()))
        };
        let is_any = self.names.is_empty() && self.row.is_empty();
        self.kind.is_none_or(|kind| kind == mutant.kind)
            && (is_any || self.row.contains(&mutant.test) || self.names.iter().any(is_named))
    }
}

/// What a test said of a mutant.
pub enum Verdict {
    /// And how, where there is more to say.
    Killed(String),
    Bad(String),
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut list = List::read()?;
    if arguments.check {
        return check(&list);
    }
    list.mutants.retain(|mutant| arguments.chooses(mutant));
    if list.mutants.is_empty() {
        return Err("no test and no mutant of that name; see --list".to_owned());
    }
    if arguments.list {
        for Mutant { target, test, name, .. } in &list.mutants {
            println!("{target} {test}: {name}");
        }
        for (row, why) in &list.impossible {
            println!("{row}: none: {why}");
        }
        return Ok(true);
    }
    judge(&list.mutants)
}

fn judge(mutants: &[Mutant]) -> Outcome {
    let tests = library::Judge::default();
    let mut killed = 0;
    for (number, mutant) in mutants.iter().enumerate() {
        let began = Instant::now();
        let verdict = match &mutant.what {
            What::Variant(variant) => spin::judge(variant)?,
            What::Changes { changes, preemptions } => {
                tree::copy()?;
                match tree::break_it(changes) {
                    Err(why) => Verdict::Bad(why),
                    Ok(()) if mutant.kind == Kind::Loom => {
                        loom::judge(&mutant.test, preemptions.unwrap_or(2))?
                    }
                    Ok(()) => tests.judge(&mutant.target, &mutant.test)?,
                }
            }
        };
        let said = match verdict {
            Verdict::Killed(how) => {
                killed += 1;
                format!("killed{how}")
            }
            Verdict::Bad(why) => why,
        };
        let Mutant { target, test, name, .. } = mutant;
        let (number, of, took) = (number + 1, mutants.len(), began.elapsed().as_secs());
        println!("[{number}/{of}] {target} {test}: {name}: {said} ({took} s)");
    }
    println!("{killed} of {} mutants killed", mutants.len());
    Ok(killed == mutants.len())
}

/// Whether there is such a model: `topic::name`, of rcu/tests/loom/topic.rs.
fn is_model(test: &str) -> Result<bool, String> {
    let Some((topic, name)) = test.split_once("::") else { return Ok(false) };
    let file = place::root().join(format!("rcu/tests/loom/{topic}.rs"));
    Ok(file.is_file() && place::read(&file)?.contains(name))
}

/// Whether all apply to the working tree, what they name is there, and each row has one.
fn check(list: &List) -> Outcome {
    let mut problems = Vec::new();
    for Mutant { kind, target, test, name, what } in &list.mutants {
        let What::Changes { changes, .. } = what else { continue };
        if let Err(why) = tree::broken(place::root(), changes) {
            problems.push(format!("{target} {test}: {name}: {why}"));
        }
        if *kind == Kind::Loom && !is_model(test)? {
            problems.push(format!("{target} {test}: {name}: there is no such model"));
        }
    }
    for variant in &list.variants {
        problems.extend(spin::unknown(variant)?);
    }
    let rows = place::read(&place::root().join("tests/rows.txt"))?;
    let mut section = "";
    for line in rows.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if !list.mutants.iter().any(|mutant| mutant.target == section && mutant.test == line)
            && !list.impossible.contains_key(line)
        {
            problems.push(format!("tests/mutants says nothing of the row {line} of {section}"));
        }
    }
    problems.iter().for_each(|problem| println!("{problem}"));
    Ok(problems.is_empty())
}
