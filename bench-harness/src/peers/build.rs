//! Peers from crates.io, as shared libraries that replace malloc, each by its own means of doing so.
//!
//! For each a crate of no code is written into the peers' directory (outside the workspace, so that no peer
//! is ever linked into anything of ours) which depends on one pinned version of a `-sys` crate. cargo fetches
//! and builds that; its archive, which defines the libc names, becomes a shared library. Rust's own cdylib
//! would hide those names. snmalloc's crate builds only a shim for Rust, so its own `snmallocshim` is built
//! by cmake from the sources that the crate carries.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::directory;

/// How a peer is built.
pub struct Recipe {
    /// The word for it.
    pub name: &'static str,
    /// The crate on crates.io.
    pub package: &'static str,
    /// Exactly this version.
    pub version: &'static str,
    features: &'static [&'static str],
    /// For the crate's C compiler.
    cflags: &'static str,
    make: Make,
}

enum Make {
    /// Link this archive, found in the crate's build directory, whole.
    Archive(&'static str),
    /// Build this target of the crate's CMake project in this folder.
    Cmake { folder: &'static str, target: &'static str },
}

pub static MIMALLOC: Recipe = Recipe {
    name: "mimalloc",
    package: "libmimalloc-sys",
    version: "0.1.49",
    features: &["override"],
    cflags: "",
    make: Make::Archive("libmimalloc.a"),
};

pub static SNMALLOC: Recipe = Recipe {
    name: "snmalloc",
    package: "snmalloc-sys",
    version: "0.7.6",
    features: &[],
    cflags: "",
    make: Make::Cmake { folder: "upstream", target: "snmallocshim" },
};

pub static RPMALLOC: Recipe = Recipe {
    name: "rpmalloc",
    package: "rpmalloc-sys",
    version: "0.2.3",
    features: &["preload"],
    cflags: "-DENABLE_OVERRIDE=1 -DNDEBUG -ftls-model=initial-exec",
    make: Make::Archive("librpmalloc.a"),
};

pub static JEMALLOC: Recipe = Recipe {
    name: "jemalloc",
    package: "tikv-jemalloc-sys",
    version: "0.7.1",
    features: &["unprefixed_malloc_on_supported_platforms"],
    cflags: "",
    make: Make::Archive("libjemalloc_pic.a"),
};

impl Recipe {
    /// Where the shared library is when it has been built.
    pub fn library(&self) -> PathBuf {
        directory().join(format!("lib{}-{}.so", self.name, self.version))
    }

    /// A program, and Debian's package of the same name, that building needs beside cargo and a C compiler.
    pub fn tool(&self) -> Option<&'static str> {
        matches!(self.make, Make::Cmake { .. }).then_some("cmake")
    }

    /// Fetches and builds it. The error is one line.
    pub fn build(&self) -> Result<(), String> {
        let home = directory().join(self.name);
        let source = home.join("src");
        std::fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let write = |name: &str, text: String| {
            std::fs::write(home.join(name), text)
                .map_err(|error| format!("{}/{name}: {error}", home.display()))
        };
        write("src/lib.rs", String::new())?;
        write("Cargo.toml", self.manifest())?;
        let made = match self.make {
            Make::Archive(archive) => self.link(&home, archive)?,
            Make::Cmake { folder, target } => self.cmake(&home, folder, target)?,
        };
        // Only a finished library gets the name that is looked for.
        std::fs::rename(&made, self.library()).map_err(|error| format!("{}: {error}", made.display()))
    }

    fn manifest(&self) -> String {
        format!(
            "[package]\nname = \"peer\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[dependencies]\n\
             {} = {{ version = \"={}\", features = {:?} }}\n\n\
             [profile.release]\ndebug = false\n\n[workspace]\n",
            self.package, self.version, self.features
        )
    }

    fn link(&self, home: &Path, archive: &str) -> Result<PathBuf, String> {
        let target = home.join("target");
        let mut cargo = cargo(home);
        cargo
            .args(["build", "--release", "--quiet"])
            .env("CARGO_TARGET_DIR", &target)
            .env("CFLAGS", self.cflags);
        done(&mut cargo)?;
        let build = target.join("release/build");
        let archive =
            find(&build, archive, 4).ok_or_else(|| format!("no {archive} in {}", build.display()))?;
        let library = home.join("made.so");
        let mut link = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()));
        link.args(["-shared", "-o"]).arg(&library).arg("-Wl,--whole-archive").arg(archive);
        done(link.args(["-Wl,--no-whole-archive", "-pthread", "-ldl", "-latomic"]))?;
        Ok(library)
    }

    fn cmake(&self, home: &Path, folder: &str, target: &str) -> Result<PathBuf, String> {
        done(cargo(home).args(["fetch", "--quiet"]))?;
        let metadata = done(cargo(home).args(["metadata", "--format-version", "1", "--quiet"]))?;
        let metadata: serde_json::Value =
            serde_json::from_slice(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let manifest = packages
            .filter(|package| package["name"] == self.package)
            .find_map(|package| package["manifest_path"].as_str())
            .ok_or_else(|| format!("cargo does not know where it put {}", self.package))?;
        let source = Path::new(manifest).with_file_name(folder);
        let build = home.join("cmake");
        let options = ["-DCMAKE_BUILD_TYPE=Release", "-DSNMALLOC_BUILD_TESTING=OFF"];
        done(Command::new("cmake").arg("-S").arg(source).arg("-B").arg(&build).args(options))?;
        done(Command::new("cmake").arg("--build").arg(&build).args(["--target", target, "-j2"]))?;
        let library = format!("lib{target}.so");
        find(&build, &library, 2).ok_or_else(|| format!("cmake made no {library}"))
    }
}

fn cargo(home: &Path) -> Command {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(home);
    // What cargo says about the harness's own build is not for the peer's.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG") || name == "RUSTFLAGS")
    {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs it; the error is its last line that says what went wrong.
fn done(command: &mut Command) -> Result<Vec<u8>, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let telling = |line: &&str| line.contains("error") || line.contains("Error");
    let line = text.lines().find(telling).or_else(|| text.lines().last()).unwrap_or_default();
    Err(format!("{program}: {}: {}", output.status, line.trim()))
}

/// The first file of this name, at most so many folders down; of several the latest.
fn find(folder: &Path, name: &str, depth: u32) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() && depth > 0 {
            found.extend(find(&path, name, depth - 1));
        } else if entry.file_name() == name {
            found.push(path);
        }
    }
    found.into_iter().max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_pin_one_version_and_stay_out_of_the_workspace() {
        let manifest = MIMALLOC.manifest();
        assert!(manifest.contains("libmimalloc-sys = { version = \"=0.1.49\", features = [\"override\"] }"));
        assert!(manifest.ends_with("[workspace]\n"), "{manifest}");
    }

    #[test]
    fn a_failure_is_one_line() {
        let said = done(
            Command::new("/bin/sh")
                .args(["-c", "echo x >&2; echo 'error: it broke' >&2; echo y >&2; exit 3"]),
        );
        assert_eq!(said, Err("/bin/sh: exit status: 3: error: it broke".to_owned()));
        assert!(
            done(&mut Command::new("/no/such")).is_err_and(|line| line.starts_with("/no/such: No such file"))
        );
    }
}
