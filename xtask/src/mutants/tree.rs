//! A copy of the working tree, in which things may be broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::list::Change;
use crate::place;

/// Where the copy is; its builds are beside it.
pub fn tree() -> PathBuf {
    place::target().join("mutants/tree")
}

/// Brings the copy to what the working tree is. Only what differs is written, with a time of its own: what
/// the last mutant changed is built again, and nothing else.
pub fn copy() -> Result<(), String> {
    let listed = place::output(Command::new("git").current_dir(place::root()).args([
        "ls-files",
        "-co",
        "--exclude-standard",
        "-z",
    ]))?;
    for name in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|name| !name.is_empty()) {
        let (source, there) = (place::root().join(name), tree().join(name));
        let brought = match fs::read_link(&source) {
            Ok(target) => link(&target, &there),
            Err(_) if source.is_file() => bring(&source, &there),
            Err(_) => Ok(()),
        };
        brought.map_err(|error| format!("{}: {error}", there.display()))?;
    }
    Ok(())
}

fn link(target: &Path, there: &Path) -> std::io::Result<()> {
    if fs::read_link(there).ok().as_deref() == Some(target) {
        return Ok(());
    }
    fs::create_dir_all(there.parent().expect("a file lies in a directory"))?;
    std::os::unix::fs::symlink(target, there)
}

fn bring(source: &Path, there: &Path) -> std::io::Result<()> {
    let bytes = fs::read(source)?;
    if fs::read(there).ok().as_ref() != Some(&bytes) {
        fs::create_dir_all(there.parent().expect("a file lies in a directory"))?;
        fs::write(there, bytes)?;
    }
    fs::set_permissions(there, fs::metadata(source)?.permissions())
}

/// Makes the replacements in the copy, or says which no longer applies.
pub fn break_it(changes: &[Change]) -> Result<(), String> {
    for (path, text) in broken(&tree(), changes)? {
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The files that a mutant changes, and what becomes of them.
pub fn broken(tree: &Path, changes: &[Change]) -> Result<Vec<(PathBuf, String)>, String> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for change in changes {
        let is_whole = ["rcu/", "scripts/", "preload/"].iter().any(|folder| change.file.starts_with(folder));
        let below = if is_whole { "" } else { "preload/src" };
        let path = tree.join(below).join(&change.file);
        let at = match files.iter().position(|(of, _)| *of == path) {
            Some(at) => at,
            None => {
                files.push((path.clone(), place::read(&path)?));
                files.len() - 1
            }
        };
        files[at].1 = replaced(&files[at].1, change)?;
    }
    Ok(files)
}

fn replaced(text: &str, change: &Change) -> Result<String, String> {
    let Change { file, was, becomes } = change;
    if was.is_empty() || was == becomes || !text.contains(was.as_str()) {
        return Err(format!("no longer applies: {file} has no {was:?}"));
    }
    Ok(text.replacen(was.as_str(), becomes, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(was: &str, becomes: &str) -> Change {
        Change { file: "a.rs".to_owned(), was: was.to_owned(), becomes: becomes.to_owned() }
    }

    #[test]
    fn the_first_place_is_replaced() {
        assert_eq!(replaced("if a { b } if a", &change("if a", "if false")).unwrap(), "if false { b } if a");
    }

    #[test]
    fn what_matches_nothing_or_changes_nothing_is_refused() {
        for (was, becomes) in [("if b", "if c"), ("if a", "if a"), ("", "if c")] {
            let why = replaced("if a { b }", &change(was, becomes)).unwrap_err();
            assert!(why.starts_with("no longer applies: a.rs has no"), "{why}");
        }
    }
}
