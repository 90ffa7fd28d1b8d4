//! The lists of tests/mutants: a file for each test target, a table for each mutant.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;
use serde::Deserialize;

use crate::place;

/// What a mutant is judged by.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A test of librcumalloc.so, of the library itself or of the engine
    Library,
    /// A loom model of the engine
    Loom,
    /// A Promela model of the algorithm
    Promela,
}

/// One defence, and the test that must fail without it.
pub struct Mutant {
    pub kind: Kind,
    /// The test target: "lib" (of the library itself), "preload/..." (beside it), "rcu/..." (of the engine),
    /// or a file of tests/tests; "loom", "promela".
    pub target: String,
    /// Or the model.
    pub test: String,
    /// What is removed.
    pub name: String,
    pub what: What,
}

pub enum What {
    /// Source code.
    Changes {
        changes: Vec<Change>,
        /// How many the model may take, if it is loom's.
        preemptions: Option<u32>,
    },
    /// A line of a model, by a define.
    Variant(Variant),
}

/// One replacement, of the first place where the text stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Below preload/src, unless it begins with a folder of the repository.
    pub file: String,
    pub was: String,
    pub becomes: String,
}

/// A way to run a Promela model.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub name: String,
    pub model: String,
    pub how: How,
    pub expected: Expected,
    pub defines: Vec<String>,
}

impl Variant {
    /// Whether a defence is missing in it; others hold, or show that a state is reached.
    fn is_mutant(&self) -> bool {
        self.defines.iter().any(|define| define.starts_with("B_"))
    }
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum How {
    Safe,
    Live,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    Holds,
    Assert,
    Cycle,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kind: Kind,
    target: String,
    #[serde(default)]
    mutant: Vec<Entry>,
    #[serde(default)]
    variant: Vec<Variant>,
    /// Rows whose defence cannot be removed, and why.
    #[serde(default)]
    impossible: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    test: String,
    change: Vec<Change>,
    preemptions: Option<u32>,
}

/// All that the files say.
pub struct List {
    pub mutants: Vec<Mutant>,
    pub variants: Vec<Variant>,
    pub impossible: BTreeMap<String, String>,
}

impl List {
    pub fn read() -> Result<List, String> {
        let directory = place::root().join("tests/mutants");
        let entries = std::fs::read_dir(&directory).map_err(|error| format!("tests/mutants: {error}"))?;
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        let mut list = List { mutants: Vec::new(), variants: Vec::new(), impossible: BTreeMap::new() };
        for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        {
            list.add(parse(path)?);
        }
        Ok(list)
    }

    fn add(&mut self, file: File) {
        let File { kind, target, mutant, variant, impossible } = file;
        self.impossible.extend(impossible);
        for Entry { name, test, change: changes, preemptions } in mutant {
            let what = What::Changes { changes, preemptions };
            self.mutants.push(Mutant { kind, target: target.clone(), test, name, what });
        }
        for variant in variant {
            if variant.is_mutant() {
                let (test, name, what) =
                    (variant.model.clone(), variant.name.clone(), What::Variant(variant.clone()));
                self.mutants.push(Mutant { kind, target: target.clone(), test, name, what });
            }
            self.variants.push(variant);
        }
    }
}

fn parse(path: &Path) -> Result<File, String> {
    toml::from_str(&place::read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}
