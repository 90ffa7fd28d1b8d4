//! What README.md and docs/deploying.md say can be done with the library as it is installed is done as it is
//! written there, on this system with the Debian packages laid over its /usr: in a name space of its own, so
//! that nothing of it stays.

use rcumalloc_tests::build::{self, said_by};
use rcumalloc_tests::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages' files in a directory of their own, for one test.
struct Installed {
    dir: PathBuf,
}

impl Installed {
    /// Not below the sources: a new crate there would be one of the workspace. `None`, and a line that says
    /// why: this machine cannot.
    fn new(name: &str) -> Option<Installed> {
        let dir = std::env::temp_dir().join(format!("rcumalloc-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        let mut deb = Command::new(build::root().join("xtask/scripts/deb"));
        deb.arg(&dir).env("DEBFULLNAME", "Nobody").env("DEBEMAIL", "nobody@debian.org");
        deb.env("RCUMALLOC_INSTALL_FROM", build::library().parent().expect("a file has a directory"));
        let packages = said_by(&mut deb);
        for package in packages.lines() {
            said_by(Command::new("dpkg-deb").arg("-x").arg(package).arg(dir.join("root")));
        }
        let installed = Installed { dir };
        let tried = installed.command("true").output().expect("unshare starts");
        if !tried.status.success() {
            skipped(&format!("no name space here: {}", String::from_utf8_lossy(&tried.stderr)));
            return None;
        }
        Some(installed)
    }

    /// The shell with `script`, where the packages are installed.
    fn command(&self, script: &str) -> Command {
        let root = self.dir.join("root/usr");
        let lay = format!(
            "mount -t overlay overlay -o lowerdir={}:/usr /usr && exec sh -euc \"$1\"",
            root.display()
        );
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", &lay, "sh", script]).current_dir(&self.dir);
        shell.env("RCUMALLOC_VERBOSE", "1").env_remove("LD_PRELOAD").env_remove("RUSTC_WORKSPACE_WRAPPER");
        shell
    }

    /// Runs it; what it says on both, which is that the library is there.
    fn served(&self, script: &str) -> (String, String) {
        let output = self.command(script).output().expect("unshare starts");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{script}\n{out}\n{err}");
        let greeting = format!("rcumalloc: {}: defer=", env!("CARGO_PKG_VERSION"));
        assert!(err.contains(&greeting), "{script}\nthe library did not say that it is there\n{out}\n{err}");
        (out, err)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // Left where a test fails, to be looked at.
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.dir).expect("the scratch directory can be removed");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_there(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program} >/dev/null")])
        .status()
        .is_ok_and(|is| is.success())
}

/// The blocks of a page that follow a comment `<!-- KIND ... -->`: the rest of the comment, and the text.
fn blocks(page: &Path, kind: &str) -> Vec<(String, String)> {
    let page = std::fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let mut lines = page.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some(about) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) else {
            continue;
        };
        let (of, rest) = about.split_once(' ').unwrap_or((about, ""));
        if of == kind {
            assert!(lines.next().is_some_and(|line| line.starts_with("```")), "{about}");
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push((rest.to_owned(), block.join("\n") + "\n"));
        }
    }
    found
}

/// What the README says can be done once the packages are installed, beside its sources.
#[test]
fn the_quick_starts_of_the_readme() {
    let Some(installed) = Installed::new("quick-starts") else { return };
    for folder in ["tests", "preload"] {
        let (from, to) = (build::root().join(folder), installed.dir.join(folder));
        std::os::unix::fs::symlink(from, to).expect("a link can be made");
    }
    // What is not published yet is found where it is.
    let path = build::root().join("preload");
    let config =
        format!("[net]\noffline = true\n[patch.crates-io]\nrcumalloc.path = \"{}\"\n", path.display());
    std::fs::create_dir(installed.dir.join(".cargo")).expect("a directory can be made");
    std::fs::write(installed.dir.join(".cargo/config.toml"), config).expect("a file can be written");
    let blocks = blocks(&build::root().join("README.md"), "run");
    let [(_, script)] = blocks.as_slice() else { panic!("{blocks:?}") };
    let (out, err) = installed.served(script);
    let version = |number: u32| format!("version {number}, every look was consistent");
    let expected = ["hello".to_owned(), version(1_000_000), version(100_000), version(300_000)];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{err}");
    let greetings = err.lines().filter(|line| line.contains(": defer=")).count();
    assert!(greetings >= 4, "each of them is served\n{err}");
}

#[test]
fn the_recipes_for_programs_as_they_are() {
    let Some(installed) = Installed::new("recipes") else { return };
    let recipes = blocks(&build::root().join("docs/deploying.md"), "run");
    assert!(recipes.len() >= 5);
    for (program, script) in &recipes {
        if is_there(program) {
            installed.served(script);
        } else {
            skipped(&format!("no {program} here"));
        }
    }
}

#[test]
fn a_unit_of_systemd_is_accepted() {
    if !is_there("systemd-analyze") {
        return skipped("no systemd-analyze here");
    }
    let dir = build::scratch("unit");
    let units = blocks(&build::root().join("docs/deploying.md"), "unit");
    let [(_, unit)] = units.as_slice() else { panic!("{units:?}") };
    let path = dir.join("rcumalloc-test.service");
    std::fs::write(&path, format!("{unit}ExecStart=/bin/true\n")).expect("a file can be written");
    let verified = Command::new("systemd-analyze").arg("verify").arg(&path).output().expect("it starts");
    let complaints = text(&verified.stderr);
    assert!(!complaints.contains("rcumalloc-test.service"), "{complaints}");
    // All that the library asks for is in the set that the page names: its one unusual call.
    let set =
        said_by(Command::new("systemd-analyze").args(["syscall-filter", "@default", "@system-service"]));
    assert!(set.lines().any(|line| line.trim() == "membarrier"), "{set}");
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}

#[test]
fn every_program_with_ld_so_preload() {
    let Some(installed) = Installed::new("ld-so-preload") else { return };
    let etc = installed.dir.join("etc");
    std::fs::create_dir(&etc).expect("a directory can be made");
    let lines = blocks(&build::root().join("docs/deploying.md"), "preload");
    let [(_, line)] = lines.as_slice() else { panic!("{lines:?}") };
    // Another /etc, in which the line is done as it is written.
    installed.served(&format!("mount --bind {} /etc\n{line}\nexec /bin/true", etc.display()));
}

#[test]
fn rpm_packages() {
    if !is_there("rpmbuild") {
        return skipped("no rpmbuild here");
    }
    let dir = build::scratch("rpm");
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("rcumalloc-{version}");
    // What packaging needs of the sources, as they are now.
    let mut tar = Command::new("tar");
    tar.arg("czf").arg(dir.join(format!("{name}.tar.gz"))).arg(format!("--transform=s,^,{name}/,"));
    tar.arg("-C").arg(build::root()).args([
        "Cargo.toml",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "scripts",
        "docs/man",
    ]);
    said_by(tar.args(["preload/include", "preload/shared"]));
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--nodeps", "--define"]).arg(format!("_topdir {}", dir.display()));
    rpmbuild.arg("--define").arg(format!("_sourcedir {}", dir.display()));
    rpmbuild.arg(build::root().join("packaging/rcumalloc.spec"));
    rpmbuild.env("RCUMALLOC_INSTALL_FROM", build::library().parent().expect("a file has a directory"));
    said_by(&mut rpmbuild);
    let of = |package: &str| dir.join(format!("RPMS/x86_64/{package}-{version}-1.x86_64.rpm"));
    let files = said_by(Command::new("rpm").args(["-qpl"]).arg(of("rcumalloc")));
    assert!(files.lines().any(|file| file.ends_with("/librcumalloc.so.1")), "{files}");
    let files = said_by(Command::new("rpm").args(["-qpl"]).arg(of("rcumalloc-devel")));
    for file in
        ["/librcumalloc.a", "/rcumalloc.h", "/rcumalloc.hpp", "/rcumalloc.pc", "/rcumalloc-config.cmake"]
    {
        assert!(files.lines().any(|line| line.ends_with(file)), "{file}: {files}");
    }
    // And it serves a program as it lies in the package.
    said_by(Command::new("rpm2archive").arg(of("rcumalloc")));
    let archive = format!("{}.tgz", of("rcumalloc").display());
    said_by(Command::new("tar").arg("-C").arg(&dir).args(["-xzf", &archive]));
    let found = said_by(Command::new("find").arg(dir.join("usr")).args(["-name", "librcumalloc.so.1"]));
    let mut served = Command::new(build::program("preload_took_effect"));
    assert_eq!(said_by(served.env("LD_PRELOAD", found.trim())), "present 1\n");
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}
