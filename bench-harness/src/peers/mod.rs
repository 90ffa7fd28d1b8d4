//! The allocators that can be compared: glibc, ours in its modes, Debian's packages, and newer ones built
//! from crates.io (`setup`). One that is not there is reported as missing, with the command that gets it.
//!
//! Each has its best fair setting, written next to its name.

pub mod build;
pub mod probe;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine;
use crate::outcome::{Common, Refusal};

/// An allocator that a child can run under.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Allocator {
    /// The word for it on the command line and in tables.
    pub name: String,
    /// Version and setting.
    pub about: String,
    /// What is preloaded; None: whatever the program is linked with, which is glibc's.
    pub library: Option<PathBuf>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
}

/// Where an allocator comes from.
pub enum Source {
    /// The C library.
    Glibc,
    /// This repository, with RCUMALLOC_DEFER set so.
    Ours(&'static str),
    /// A package of Debian and a file in it.
    Debian { package: &'static str, file: &'static str },
    /// A crate of crates.io, wrapped into a shared library by `setup`.
    Crate(&'static build::Recipe),
}

/// A row of the registry.
pub struct Entry {
    pub name: &'static str,
    pub about: &'static str,
    pub source: Source,
}

/// Everything that is known.
pub static REGISTRY: &[Entry] = &[
    Entry { name: "glibc", about: "the C library of this system, defaults", source: Source::Glibc },
    Entry {
        name: "rcumalloc",
        about: "this repository, defaults (every free deferred)",
        source: Source::Ours("all"),
    },
    Entry { name: "rcumalloc-api", about: "only rcumalloc_free deferred", source: Source::Ours("api") },
    Entry {
        name: "rcumalloc-strict",
        about: "expedites for memory alone: for study",
        source: Source::Ours("strict"),
    },
    Entry {
        name: "mimalloc",
        about: "mimalloc v3, crate libmimalloc-sys, defaults",
        source: Source::Crate(&build::MIMALLOC),
    },
    Entry {
        name: "snmalloc",
        about: "crate snmalloc-sys, release, no checks",
        source: Source::Crate(&build::SNMALLOC),
    },
    Entry {
        name: "rpmalloc",
        about: "crate rpmalloc-sys, defaults",
        source: Source::Crate(&build::RPMALLOC),
    },
    Entry {
        name: "jemalloc",
        about: "crate tikv-jemalloc-sys, defaults",
        source: Source::Crate(&build::JEMALLOC),
    },
    Entry {
        name: "tcmalloc",
        about: "gperftools minimal, Debian, defaults",
        source: Source::Debian { package: "libtcmalloc-minimal4", file: "libtcmalloc_minimal.so.4" },
    },
    Entry {
        name: "mimalloc2",
        about: "mimalloc 2.0, Debian, defaults",
        source: Source::Debian { package: "libmimalloc2.0", file: "libmimalloc.so.2.0" },
    },
    Entry {
        name: "jemalloc5.3",
        about: "jemalloc 5.3.0, Debian, defaults",
        source: Source::Debian { package: "libjemalloc2", file: "libjemalloc.so.2" },
    },
    Entry {
        name: "scudo",
        about: "scudo standalone of LLVM 14, Debian, defaults",
        source: Source::Debian {
            package: "libclang-rt-14-dev",
            file: "../llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.scudo_standalone-x86_64.so",
        },
    },
];

/// What is compared unless one says otherwise: glibc first, it is the base.
pub const USUAL: &[&str] =
    &["glibc", "rcumalloc", "mimalloc", "snmalloc", "rpmalloc", "jemalloc", "tcmalloc"];

/// Where `setup` puts what it builds.
pub fn directory() -> PathBuf {
    machine::target_directory().join("peers")
}

/// A peer that cannot be had, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Missing {
    pub name: String,
    pub reason: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "missing: {}: {}", self.name, self.reason)
    }
}

/// What a subcommand runs under: those that are there, and those that are not.
#[derive(Clone, Debug)]
pub struct Choice {
    pub present: Vec<Allocator>,
    pub missing: Vec<Missing>,
}

/// Looks up names of the registry, and `NAME=PATH[@VARIABLE=VALUE...]` for any other library. An unknown name
/// is a refusal; a known one that is not there is missing.
pub fn choose(names: &[String], common: &Common) -> Result<Choice, Refusal> {
    let mut choice = Choice { present: Vec::new(), missing: Vec::new() };
    for name in names {
        match find(name, common)? {
            Ok(allocator) => choice.present.push(allocator),
            Err(missing) => choice.missing.push(missing),
        }
    }
    if choice.present.is_empty() {
        let reasons: Vec<_> = choice.missing.iter().map(ToString::to_string).collect();
        return Err(Refusal(format!("no allocator to run under: {}", reasons.join("; "))));
    }
    Ok(choice)
}

fn find(name: &str, common: &Common) -> Result<Result<Allocator, Missing>, Refusal> {
    if let Some((name, rest)) = name.split_once('=') {
        let mut words = rest.split('@');
        let path = words.next().unwrap_or_default();
        let environment = words.map(|word| {
            let pair = word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            pair.ok_or_else(|| Refusal(format!("'@{word}' is not @VARIABLE=VALUE")))
        });
        let environment = environment.collect::<Result<Vec<_>, _>>()?;
        let library = std::path::absolute(path).map_err(Refusal::of(format_args!("bad path '{path}'")))?;
        let (name, about) = (name.to_owned(), rest.to_owned());
        return Ok(match library.exists() {
            true => Ok(Allocator { name, about, library: Some(library), environment }),
            false => Err(Missing { name, reason: format!("no file {}", library.display()) }),
        });
    }
    let Some(entry) = REGISTRY.iter().find(|entry| entry.name == name) else {
        let known: Vec<_> = REGISTRY.iter().map(|entry| entry.name).collect();
        return Err(Refusal(format!("no allocator '{name}'; there are {} and NAME=PATH", known.join(", "))));
    };
    Ok(entry.look(common))
}

impl Entry {
    /// The allocator, if it is there.
    pub fn look(&self, common: &Common) -> Result<Allocator, Missing> {
        let (library, about, environment) = match &self.source {
            Source::Glibc => (None, self.about.to_owned(), Vec::new()),
            Source::Ours(mode) => {
                let path = ours(common);
                let environment = vec![("RCUMALLOC_DEFER".to_owned(), (*mode).to_owned())];
                (Some(self.existing(path, "scripts/build")?), self.about.to_owned(), environment)
            }
            Source::Debian { package, file } => {
                let path = Path::new("/usr/lib/x86_64-linux-gnu").join(file);
                let library =
                    self.existing(path, &format!("rcumalloc-bench setup, or apt-get install {package}"))?;
                (Some(library), self.about.to_owned(), Vec::new())
            }
            Source::Crate(recipe) => {
                let library =
                    self.existing(recipe.library(), &format!("rcumalloc-bench setup {}", self.name))?;
                (Some(library), format!("{} {}", self.about, recipe.version), Vec::new())
            }
        };
        Ok(Allocator { name: self.name.to_owned(), about, library, environment })
    }

    fn existing(&self, path: PathBuf, command: &str) -> Result<PathBuf, Missing> {
        let path = std::path::absolute(&path).unwrap_or(path);
        match path.exists() {
            true => Ok(path),
            false => Err(Missing {
                name: self.name.to_owned(),
                reason: format!("no {}; get it with: {command}", path.display()),
            }),
        }
    }
}

/// librcumalloc.so: `--library`, or as `scripts/build` leaves it.
pub fn ours(common: &Common) -> PathBuf {
    match &common.library {
        Some(path) => path.clone(),
        None => machine::target_directory().join("release/librcumalloc.so"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_usual_ones_exist() {
        for (index, entry) in REGISTRY.iter().enumerate() {
            assert!(REGISTRY[..index].iter().all(|other| other.name != entry.name), "{}", entry.name);
        }
        for name in USUAL {
            assert!(REGISTRY.iter().any(|entry| entry.name == *name), "{name}");
        }
    }

    #[test]
    fn unknown_names_are_refused_and_absent_files_missing() {
        let common = Common { library: Some("/no/librcumalloc.so".into()), ..Common::default() };
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let refused = choose(&names(&["nosuch"]), &common).expect_err("unknown");
        assert!(refused.0.starts_with("no allocator 'nosuch'; there are glibc,"), "{}", refused.0);
        let choice = choose(&names(&["glibc", "rcumalloc", "x=/no/x.so"]), &common).expect("glibc is there");
        assert_eq!(choice.present.len(), 1);
        let reasons: Vec<_> = choice.missing.iter().map(ToString::to_string).collect();
        assert_eq!(reasons[0], "missing: rcumalloc: no /no/librcumalloc.so; get it with: scripts/build");
        assert_eq!(reasons[1], "missing: x: no file /no/x.so");
        assert!(
            choose(&names(&["rcumalloc"]), &common)
                .expect_err("none")
                .0
                .contains("no allocator to run under")
        );
    }
}
