//! `stalls`: who holds grace periods up, as a flame graph weighted by the deferred bytes and the seconds that
//! it cost: the threads, and in them the functions whose sections those were.

use std::path::Path;

use super::StallsArguments;
use super::area::Area;
use crate::outcome::Refusal;
use crate::profile::{Maps, Symbols, flame};

/// Draws it, or prints the stacks folded.
pub fn run(arguments: &StallsArguments) -> Result<(), Refusal> {
    let pid = arguments.whom.pid;
    let snapshot = Area::find(pid)?.look()?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))
        .map_err(Refusal::of(format_args!("cannot read the maps of process {pid}")))?;
    let (maps, mut symbols) = (Maps::parse(&maps), Symbols::default());
    let mut stacks = Vec::new();
    for stall in &snapshot.stalls {
        let began = stall.began.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let mut frames = vec![format!("thread {}", stall.thread)];
        match began {
            Some(began) if began != 0 => {
                frames.extend(flame::stack([symbols.of_return(&maps, began)].iter()))
            }
            _ => frames.push("[a section that did not say where it began]".to_owned()),
        }
        stacks.push((frames, stall.byte_seconds as f64));
    }
    match &arguments.flame {
        Some(file) => {
            write(file, &flame::draw("readers that held grace periods up", "byte seconds", &stacks)?)
        }
        None => {
            super::say(&flame::folded(&stacks));
            Ok(())
        }
    }
}

fn write(file: &Path, picture: &str) -> Result<(), Refusal> {
    std::fs::write(file, picture).map_err(Refusal::of(format_args!("cannot write {}", file.display())))
}
