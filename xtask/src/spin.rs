//! The Promela models of rcu/model, as SPIN judges them: the engine as designed must hold, each variant with
//! one defence removed must be found wrong, and each interesting state must be reachable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use clap::Args;

use crate::mutants::Verdict;
use crate::mutants::list::{Expected, How, List, Variant};
use crate::{Outcome, place};

/// Checks the Promela models of rcu/model with SPIN
///
/// The engine as designed must hold, each variant with one defence removed must be found wrong, and each
/// interesting state must be reachable. Needs spin and gcc. Two processors, minutes.
#[derive(Args)]
pub struct Arguments {
    /// Only the variants whose name contains NAME
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let is_chosen = |variant: &&Variant| {
        arguments.names.is_empty() || arguments.names.iter().any(|name| variant.name.contains(name.as_str()))
    };
    let list = List::read()?;
    let chosen: Vec<&Variant> = list.variants.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        return Err("no variant of that name; tests/mutants/promela.toml has them".to_owned());
    }
    provide()?;
    println!("{:<22} {:<9} {:<10} {:>10} {:>7}", "variant", "expected", "found", "states", "seconds");
    let rest = Mutex::new(chosen.into_iter());
    let next = || rest.lock().expect("nobody panics here").next();
    let work = || -> Result<Vec<String>, String> {
        let mut reports = Vec::new();
        while let Some(variant) = next() {
            let began = Instant::now();
            let trial = Trial::run(variant)?;
            let is_as_expected = trial.is_as_expected(variant);
            let (expected, found) = (expected(variant), trial.found);
            let (states, seconds) = (trial.states.as_deref().unwrap_or("-"), began.elapsed().as_secs_f64());
            let verdict = if is_as_expected { "ok" } else { "UNEXPECTED" };
            let name = &variant.name;
            println!("{name:<22} {expected:<9} {found:<10} {states:>10} {seconds:>7.1}  {verdict}");
            if !is_as_expected {
                reports.push(format!("--- {name}:\n{}", trial.last_words));
            }
        }
        Ok(reports)
    };
    let reports = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut reports = work()?;
        reports.extend(other.join().map_err(|_| "a worker panicked".to_owned())??);
        Ok::<_, String>(reports)
    })?;
    reports.iter().for_each(|report| eprintln!("{report}"));
    Ok(reports.is_empty())
}

/// A variant as a mutant.
pub fn judge(variant: &Variant) -> Result<Verdict, String> {
    provide()?;
    let trial = Trial::run(variant)?;
    Ok(match trial.is_as_expected(variant) {
        true => Verdict::Killed(String::new()),
        false if trial.found == "holds" => Verdict::Bad("SURVIVED".to_owned()),
        false => Verdict::Bad(format!("{}\n{}", trial.found, trial.last_words)),
    })
}

/// The defines that the variant's model does not know: they would remove nothing.
pub fn unknown(variant: &Variant) -> Result<Vec<String>, String> {
    let model = place::read(&source(variant))?;
    let words: Vec<&str> = model.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let names = variant.defines.iter().map(|define| define.split('=').next().unwrap_or_default());
    let unknown = names.filter(|name| !words.contains(name));
    Ok(unknown
        .map(|name| format!("promela {}: {}.pml knows no {name}", variant.name, variant.model))
        .collect())
}

fn source(variant: &Variant) -> PathBuf {
    place::root().join("rcu/model").join(&variant.model).with_extension("pml")
}

fn expected(variant: &Variant) -> &'static str {
    match variant.expected {
        Expected::Holds => "holds",
        Expected::Assert => "assert",
        Expected::Cycle => "cycle",
    }
}

/// Brings spin where that can be done.
fn provide() -> Result<(), String> {
    if !place::is_installed("gcc") {
        return Err("no gcc here: apt-get install gcc".to_owned());
    }
    if place::is_installed("spin") {
        return Ok(());
    }
    let install = "install='apt-get install -y --no-install-recommends spin'
        [ \"$(id -u)\" -eq 0 ] && command -v apt-get && { $install || { apt-get update && $install; }; }";
    match place::output(Command::new("sh").args(["-c", install]))?.status.success() {
        true => Ok(()),
        false => {
            Err("no spin here: apt-get install spin (Debian, Ubuntu), or https://spinroot.com".to_owned())
        }
    }
}

/// What SPIN found.
struct Trial {
    found: &'static str,
    states: Option<String>,
    last_words: String,
}

impl Trial {
    fn run(variant: &Variant) -> Result<Trial, String> {
        let directory = place::target().join("spin").join(&variant.name);
        let trial = Trial::run_in(&directory, variant);
        // What is left are a program and its sources.
        let _ = fs::remove_dir_all(&directory);
        trial
    }

    fn run_in(directory: &Path, variant: &Variant) -> Result<Trial, String> {
        fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let optimize = if variant.expected == Expected::Holds { "-O2" } else { "-O1" };
        let (flags, arguments): (&[&str], &[&str]) = match variant.how {
            How::Safe => (&["-DSAFETY", "-DNOCLAIM"], &["-E", "-w24"]),
            How::Live => (&["-DNFAIR=3"], &["-a", "-f", "-w22"]),
        };
        let mut make = Command::new("spin");
        make.arg("-a").args(variant.defines.iter().map(|define| format!("-D{define}"))).arg(source(variant));
        let mut compile = Command::new("gcc");
        compile
            .args([optimize, "-w", "-DCOLLAPSE", "-DMEMLIM=2000"])
            .args(flags)
            .args(["-o", "pan", "pan.c"]);
        let mut explore = Command::new(directory.join("pan"));
        explore.arg("-m400000").args(arguments);
        let mut said = String::new();
        for command in [make, compile, explore] {
            let mut command = command;
            let ran = place::output(command.current_dir(directory))?;
            said = place::said(&ran);
            if !ran.status.success() {
                return Ok(Trial { found: "error", states: None, last_words: end_of(&said) });
            }
        }
        let states = said.lines().find(|line| line.contains(" states, stored"));
        Ok(Trial {
            found: found(&said, variant.how),
            states: states.and_then(|line| Some(line.split_whitespace().next()?.to_owned())),
            last_words: end_of(&said),
        })
    }

    fn is_as_expected(&self, variant: &Variant) -> bool {
        self.found == expected(variant)
    }
}

/// The last lines.
fn end_of(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn found(said: &str, how: How) -> &'static str {
    let says = |what: &str| said.lines().any(|line| line.starts_with("pan:") && line.contains(what));
    if says("assertion violated") {
        "assert"
    } else if says("acceptance cycle") {
        "cycle"
    } else if said.contains("max search depth too small")
        || said.contains("Search not completed")
        || said.lines().any(|line| line.starts_with("pan: reached") || line.starts_with("pan: out of"))
    {
        "unfinished"
    } else if !said.contains("errors: 0") {
        "error"
    } else if how == How::Safe && has_unreached(said) {
        "unreached"
    } else {
        "holds"
    }
}

/// Whether a statement was not reached that is neither the end of an endless process nor the claim's.
fn has_unreached(said: &str) -> bool {
    let mut is_of_claim = false;
    said.lines().any(|line| {
        if line.starts_with("unreached in ") {
            is_of_claim = line.starts_with("unreached in claim");
        }
        !is_of_claim && is_state(line) && !line.contains("\"-end-\"")
    })
}

/// As in `\tengine.pml:120, state 17, "..."`.
fn is_state(line: &str) -> bool {
    line.split(", state ").skip(1).any(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0 && rest[digits..].starts_with(',')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spin_says_is_understood() {
        let held = "State-vector 88 byte, depth reached 20, errors: 0\n";
        let ends = "unreached in proctype reader\n\tengine.pml:9, state 30, \"-end-\"\n";
        let dead = "unreached in proctype reader\n\tengine.pml:9, state 12, \"x = 1\"\n";
        let of_claim = "unreached in claim live\n\t_spin_nvr.tmp:3, state 12, \"(1)\"\n";
        for (said, how, is) in [
            ("pan:1: assertion violated (x) (at depth 3)\nerrors: 1".to_owned(), How::Safe, "assert"),
            ("pan:1: acceptance cycle (at depth 3)\nerrors: 1".to_owned(), How::Live, "cycle"),
            (format!("error: max search depth too small\n{held}"), How::Safe, "unfinished"),
            (format!("{held}{ends}"), How::Safe, "holds"),
            (format!("{held}{dead}"), How::Safe, "unreached"),
            (format!("{held}{dead}"), How::Live, "holds"),
            (format!("{held}{of_claim}"), How::Safe, "holds"),
            ("errors: 1".to_owned(), How::Safe, "error"),
        ] {
            assert_eq!(found(&said, how), is, "{said}");
        }
    }
}
