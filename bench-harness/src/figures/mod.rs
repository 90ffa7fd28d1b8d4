//! `figures`: every figure of README.md and of docs/ that comes from a recorded result stands between two
//! marks and is inserted from the result's JSON in `bench/`. Without `--write` nothing is changed, and a
//! figure that differs from its result makes the exit status 1: a test runs it so.
//!
//! ```text
//! <!-- figures: families -->
//! what `blocks.rs` makes of bench/families.json
//! <!-- end of figures -->
//! ```

mod blocks;
mod recorded;

use std::path::{Path, PathBuf};

use crate::machine;
use crate::outcome::{Outcome, Refusal};

#[derive(clap::Args)]
pub struct Arguments {
    /// Insert the figures; without it they are only compared
    #[arg(long)]
    write: bool,
    /// The repository, if it is not the one this was built from
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// At the beginning of a line: elsewhere a page speaks of marks.
const BEGIN: &str = "\n<!-- figures: ";
const END: &str = "<!-- end of figures -->";

pub fn run(arguments: &Arguments) -> Result<Outcome, Refusal> {
    let root = arguments.root.clone().unwrap_or_else(machine::root);
    let mut outcome = Outcome { command: "figures".into(), good: true, ..Outcome::default() };
    let mut blocks = 0;
    for file in pages(&root)? {
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        let text = read(&file)?;
        let (made, here) = insert(&text, &|block| blocks::make(block, &root))
            .map_err(|refusal| Refusal(format!("{name}: {}", refusal.0)))?;
        blocks += here;
        if made == text {
            continue;
        }
        if arguments.write {
            std::fs::write(&file, made).map_err(Refusal::of(format_args!("cannot write {name}")))?;
            outcome.notes.push(format!("{name}: written"));
        } else {
            outcome.good = false;
            outcome.notes.push(format!("{name}: its figures are not the recorded ones: figures --write"));
        }
    }
    outcome.notes.push(format!("{blocks} blocks of figures"));
    Ok(outcome)
}

/// The pages that may have figures: README.md, and what lies in docs/.
fn pages(root: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let mut pages = vec![root.join("README.md")];
    for folder in ["docs", "docs/decisions"] {
        let listed = std::fs::read_dir(root.join(folder)).map_err(Refusal::of(folder))?;
        let files = listed.filter_map(|entry| Some(entry.ok()?.path()));
        pages.extend(files.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    pages.sort();
    Ok(pages)
}

fn read(file: &Path) -> Result<String, Refusal> {
    std::fs::read_to_string(file).map_err(Refusal::of(format_args!("cannot read {}", file.display())))
}

/// The text with every block made anew, and how many blocks there are.
fn insert(text: &str, make: &dyn Fn(&str) -> Result<String, Refusal>) -> Result<(String, usize), Refusal> {
    let mut made = String::new();
    let mut count = 0;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) =
            after.split_once(" -->\n").ok_or_else(|| Refusal("a mark does not end".to_owned()))?;
        let (_, after) =
            after.split_once(END).ok_or_else(|| Refusal(format!("the figures {name} do not end")))?;
        made += &format!("{before}{BEGIN}{name} -->\n{}{END}", make(name)?);
        count += 1;
        rest = after;
    }
    Ok((made + rest, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_is_made_anew() {
        let make = |name: &str| match name {
            "speed" => Ok("7\n".to_owned()),
            other => Err(Refusal(format!("no figures {other}"))),
        };
        let page = |value: &str| format!("a\n<!-- figures: speed -->\n{value}\n<!-- end of figures -->\nb\n");
        let (made, count) = insert(&page("6, by hand"), &make).expect("figures");
        assert_eq!((made, count), (page("7"), 1));
        assert!(insert("\n<!-- figures: height -->\n<!-- end of figures -->", &make).is_err());
        assert!(insert("\n<!-- figures: speed -->\n7", &make).is_err());
    }
}
