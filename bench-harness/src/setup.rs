//! `setup`: brings the peers and checks that each takes effect.
//!
//! Debian's come by apt, as root; the others are fetched from crates.io and built. One that cannot be had is
//! reported as missing with its reason; the exit status is 1 if a peer that was named is missing.

use std::process::Command;

use serde_json::json;

use crate::outcome::{Common, Outcome, Refusal};
use crate::output::progress;
use crate::output::table::Table;
use crate::peers::{self, Entry, REGISTRY, Source, probe};

#[derive(clap::Args)]
pub struct Arguments {
    /// These peers only; all, if none is named
    peers: Vec<String>,
    /// Only look what is there
    #[arg(long)]
    check: bool,
    /// Build again what has been built
    #[arg(long)]
    again: bool,
}

pub fn run(arguments: &Arguments, common: &Common) -> Result<Outcome, Refusal> {
    if let Some(unknown) =
        arguments.peers.iter().find(|name| REGISTRY.iter().all(|entry| entry.name != **name))
    {
        let known: Vec<_> = REGISTRY.iter().map(|entry| entry.name).collect();
        return Err(Refusal(format!("no allocator '{unknown}'; there are {}", known.join(", "))));
    }
    let wanted =
        |entry: &&Entry| arguments.peers.is_empty() || arguments.peers.iter().any(|name| name == entry.name);
    let entries: Vec<&Entry> = REGISTRY.iter().filter(wanted).collect();
    let bar = progress::bar(entries.len() as u64);
    let mut table = Table::new("Peers", &["name", "state", "what", "library"]);
    let (mut results, mut absent) = (Vec::new(), 0);
    for entry in entries {
        bar.set_message(entry.name);
        let state = bring(entry, arguments, common).and_then(|()| effective(entry, common));
        let found = entry.look(common).ok();
        let (about, library) = match &found {
            Some(allocator) => (
                allocator.about.clone(),
                allocator.library.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            ),
            None => (entry.about.to_owned(), String::new()),
        };
        let word = match &state {
            Ok(()) => "takes effect".to_owned(),
            Err(reason) => {
                absent += 1;
                format!("missing: {reason}")
            }
        };
        table.row([entry.name.to_owned(), word, about.clone(), library.clone()]);
        results.push(json!({
            "name": entry.name, "about": about, "library": library,
            "takes_effect": state.is_ok(), "missing": state.err(),
        }));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Outcome {
        command: "setup".into(),
        results: json!(results),
        tables: vec![table],
        good: absent == 0,
        ..Outcome::default()
    })
}

fn bring(entry: &Entry, arguments: &Arguments, common: &Common) -> Result<(), String> {
    let there = entry.look(common).is_ok();
    if arguments.check || (there && !arguments.again) {
        return Ok(());
    }
    match &entry.source {
        Source::Glibc | Source::Ours(_) => Ok(()),
        Source::Debian { .. } if there => Ok(()),
        Source::Debian { package, .. } => install(package),
        Source::Crate(recipe) => {
            let tool = recipe.tool().filter(|tool| Command::new(tool).arg("--version").output().is_err());
            tool.map_or(Ok(()), install).and_then(|()| recipe.build())
        }
    }
}

fn install(package: &str) -> Result<(), String> {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        return Err(format!("package {package} is not installed; as root: apt-get install {package}"));
    }
    let install = || {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "-y", "--no-install-recommends", package]);
        apt.env("DEBIAN_FRONTEND", "noninteractive").output()
    };
    let mut output = install().map_err(|error| format!("apt-get: {error}"))?;
    if !output.status.success() {
        let _ = Command::new("apt-get").arg("update").output();
        output = install().map_err(|error| format!("apt-get: {error}"))?;
    }
    match output.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(format!("apt-get install {package}: {}", text.lines().last().unwrap_or_default()))
        }
    }
}

fn effective(entry: &Entry, common: &Common) -> Result<(), String> {
    let allocator = entry.look(common).map_err(|missing| missing.reason)?;
    probe::took_effect(&allocator)
}

/// For the other subcommands: drops from the choice what is there but takes no effect, and says so.
pub fn drop_ineffective(choice: &mut peers::Choice) {
    let peers::Choice { present, missing } = choice;
    present.retain(|allocator| match probe::took_effect(allocator) {
        Ok(()) => true,
        Err(reason) => {
            let reason = format!("it takes no effect: {reason}");
            missing.push(peers::Missing { name: allocator.name.clone(), reason });
            false
        }
    });
}
