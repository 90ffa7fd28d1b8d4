//! Settings of the whole machine that a test changes for as long as it runs, and puts back.
//!
//! A lock on a file excludes other tests that do so, also those of another checkout: whoever has a
//! [`Machine`] may change settings, and dropping it puts them back in reverse order, also when the test
//! fails. A test that is killed leaves what it set: so set nothing that hurts anybody.

use std::fs::{self, File};
use std::path::PathBuf;

/// The right to change settings, and what they were.
pub struct Machine {
    _lock: File,
    was: Vec<(PathBuf, String)>,
}

impl Machine {
    /// Waits until nobody else changes settings.
    pub fn alone() -> Machine {
        let path = std::env::temp_dir().join("rcumalloc-tests.lock");
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        lock.lock().expect("a file can be locked");
        Machine { _lock: lock, was: Vec::new() }
    }

    /// Sets what a file of /proc/sys or /sys says. `Err` says why the machine refuses.
    pub fn set(&mut self, path: &str, value: &str) -> Result<(), String> {
        let was = read(path)?;
        fs::write(path, value).map_err(|error| format!("{path} cannot be set to {value}: {error}"))?;
        self.was.push((path.into(), was));
        Ok(())
    }

    /// Remembers what a file says, to be put back: where setting another one changes it.
    pub fn remember(&mut self, path: &str) -> Result<(), String> {
        self.was.push((path.into(), read(path)?));
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for (path, was) in self.was.drain(..).rev() {
            if let Err(error) = fs::write(&path, &was) {
                eprintln!("{} could not be set back to {was}: {error}", path.display());
            }
        }
    }
}

/// What a file says; of a list of choices the one in brackets.
fn read(path: &str) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    Ok(chosen.map_or(text.trim(), |(chosen, _)| chosen).to_string())
}

/// The number in a line `NAME: N kB` of /proc/meminfo, in KiB.
pub fn meminfo_kib(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("there is /proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("/proc/meminfo has no {name}"))
}
