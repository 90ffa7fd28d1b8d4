//! What README.md and docs/deploying.md say can be done with the library as it is installed is done as it is
//! written there, in a root of its own: this system's, or that of RCUMALLOC_ROOT, a fresh one that `cargo
//! xtask fresh` makes, with what a test does to it in a layer above, so that nothing of it stays. Our sources
//! are not in it; the Debian packages are installed by dpkg.

use rcumalloc_tests::build::{self, said_by};
use rcumalloc_tests::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes `$1` a root: the layers, what programs ask the kernel, and nothing of the sources in `$2`; then runs
/// the shell in it.
const ENTER: &str = r#"
dir=$1 sources=$2 lower=$3 script=$4
mount -t tmpfs none "$dir" && mkdir "$dir/root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir-above/upper,workdir=$dir-above/work" "$dir/root"
root=$dir/root
mkdir -p "$root/proc" "$root/dev" "$root/home"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
[ ! -d "$root$sources" ] || mount -t tmpfs none "$root$sources"
for tools in "$CARGO_HOME" "$RUSTUP_HOME"; do
    [ ! -d "$tools" ] || { mkdir -p "$root$tools" && mount --bind "$tools" "$root$tools"; }
done
exec chroot "$root" sh -euc 'cd /home && . ./environment && eval "$1"' sh "$script"
"#;

/// A root.
struct Root {
    /// Where it is in its own mounts; what is changed lies beside it.
    dir: PathBuf,
}

impl Root {
    /// One without our packages, which lie in `/home`. `None`, and a line that says why: this machine cannot.
    fn bare(name: &str) -> Option<Root> {
        // Layers want a file system that is none of layers, and not one in memory.
        let dir = std::env::temp_dir().join(format!("rcumalloc-{name}-{}", std::process::id()));
        let root = Root { dir };
        std::fs::create_dir_all(&root.dir).expect("a directory can be made");
        std::fs::create_dir_all(root.above("work")).expect("a directory can be made");
        let home = root.above("upper/home");
        std::fs::create_dir_all(&home).expect("a directory can be made");
        root.put("environment", "");
        let mut deb = Command::new(build::root().join("xtask/scripts/deb"));
        deb.arg(&home).env("DEBFULLNAME", "Nobody").env("DEBEMAIL", "nobody@debian.org");
        deb.env("RCUMALLOC_INSTALL_FROM", build::library().parent().expect("a file has a directory"));
        said_by(&mut deb);
        let tried = root.command("true").output().expect("unshare starts");
        if !tried.status.success() {
            skipped(&format!("no root here: {}", String::from_utf8_lossy(&tried.stderr)));
            return None;
        }
        Some(root)
    }

    /// One in which the packages were installed.
    fn installed(name: &str) -> Option<Root> {
        let root = Root::bare(name)?;
        said_by(&mut root.command("dpkg -i ./librcumalloc*.deb"));
        Some(root)
    }

    fn above(&self, path: &str) -> PathBuf {
        let mut name = self.dir.clone().into_os_string();
        name.push("-above");
        PathBuf::from(name).join(path)
    }

    /// A file in `/home`.
    fn put(&self, name: &str, text: &str) {
        let path = self.above("upper/home").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a directory can be made");
        std::fs::write(path, text).expect("a file can be written");
    }

    /// The shell with `script`, in `/home`.
    fn command(&self, script: &str) -> Command {
        let lower = std::env::var_os("RCUMALLOC_ROOT").unwrap_or_else(|| "/".into());
        let home = std::env::var("HOME").unwrap_or_default();
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-euc", ENTER, "sh"]).arg(&self.dir).arg(build::root());
        shell.arg(lower).arg(script);
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            shell.env(name, std::env::var(name).unwrap_or_else(|_| format!("{home}/{folder}")));
        }
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

    /// Whether a program is there.
    fn has(&self, program: &str) -> bool {
        let command = self.command(&format!("command -v {program} >/dev/null")).status();
        command.is_ok_and(|status| status.success())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Left where a test fails, to be looked at.
        if !std::thread::panicking() {
            std::fs::remove_dir_all(self.above("")).expect("the scratch directory can be removed");
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

/// What the README says can be done once the packages are installed, in a folder that has of our sources what
/// its lines name, and the crates as they are packaged.
#[test]
fn the_quick_starts_of_the_readme() {
    let Some(root) = Root::installed("quick-starts") else { return };
    for file in ["tests/programs/example.c", "tests/programs/example.cpp", "preload/examples/config.rs"] {
        let source = std::fs::read_to_string(build::root().join(file)).expect("an example");
        root.put(file, &source);
    }
    let package = build::made().join("quick-starts");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(build::root()).args(["package", "--no-verify", "--allow-dirty", "--quiet"]);
    cargo.args(["-p", "quiescent", "-p", "rcumalloc"]).env("CARGO_TARGET_DIR", &package);
    said_by(cargo.env_remove("RUSTC_WORKSPACE_WRAPPER"));
    let mut config = "[net]\noffline = true\n[patch.crates-io]\n".to_owned();
    for name in ["quiescent", "rcumalloc"] {
        let file = format!("{name}-{}", env!("CARGO_PKG_VERSION"));
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(root.above("upper/home")).arg("-xzf");
        said_by(tar.arg(package.join("package").join(format!("{file}.crate"))));
        config += &format!("{name}.path = \"/home/{file}\"\n");
    }
    root.put(".cargo/config.toml", &config);
    let blocks = blocks(&build::root().join("README.md"), "run");
    let [(_, script)] = blocks.as_slice() else { panic!("{blocks:?}") };
    let (out, err) = root.served(script);
    let version = |number: u32| format!("version {number}, every look was consistent");
    let expected = ["hello".to_owned(), version(1_000_000), version(100_000), version(300_000)];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{err}");
    let greetings = err.lines().filter(|line| line.contains(": defer=")).count();
    assert!(greetings >= 4, "each of them is served\n{err}");
}

#[test]
fn the_recipes_for_programs_as_they_are() {
    let Some(root) = Root::installed("recipes") else { return };
    let recipes = blocks(&build::root().join("docs/deploying.md"), "run");
    assert!(recipes.len() >= 6);
    for (program, script) in &recipes {
        if root.has(program) {
            root.served(script);
        } else {
            skipped(&format!("no {program} here"));
        }
    }
}

/// Each line of the recipe for an image is done as it says, but for the first: the root is another Debian's.
#[test]
fn a_container_image() {
    let Some(root) = Root::bare("image") else { return };
    let page = std::fs::read_to_string(build::root().join("docs/deploying.md")).expect("a page");
    let recipe = std::fs::read_to_string(build::root().join("packaging/Dockerfile")).expect("a recipe");
    assert!(page.contains(&format!("```dockerfile\n{recipe}```")), "the page has another recipe");
    let mut environment = String::new();
    for (number, line) in recipe.lines().enumerate() {
        let (what, rest) = line.split_once(' ').unwrap_or_else(|| panic!("not an instruction: {line}"));
        match what {
            "FROM" => assert!(number == 0 && rest.starts_with("debian:"), "{line}"),
            "COPY" => drop(said_by(&mut root.command(&format!("cp {rest}")))),
            "RUN" => drop(said_by(&mut root.command(rest))),
            "ENV" => environment += &format!("export {rest}\n"),
            _ => panic!("nobody does {line}"),
        }
    }
    root.put("environment", &environment);
    root.served("exec env true");
}

/// The manifest is one of Kubernetes': its fields have their places, and the library understands its
/// variables.
#[test]
fn a_manifest_for_kubernetes() {
    let path = build::root().join("packaging/kubernetes.yaml");
    let manifest = std::fs::read_to_string(&path).expect("a manifest");
    let page = std::fs::read_to_string(build::root().join("docs/deploying.md")).expect("a page");
    let block = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    assert!(block.lines().all(|line| manifest.contains(line.trim())), "the page has another manifest");
    if !is_there("kubectl") {
        return skipped("no kubectl here");
    }
    let dir = build::scratch("kubernetes");
    std::fs::copy(&path, dir.join("kubernetes.yaml")).expect("a file can be copied");
    std::fs::write(dir.join("kustomization.yaml"), "resources: [kubernetes.yaml]\n").expect("a file");
    // Patched by the names of the API's own types: a field in a wrong place is not found.
    let said = said_by(Command::new("kubectl").arg("kustomize").arg(&dir));
    assert!(said.contains("kind: Deployment") && said.contains("value: librcumalloc.so.1"), "{said}");
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
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
    let Some(root) = Root::installed("ld-so-preload") else { return };
    let lines = blocks(&build::root().join("docs/deploying.md"), "preload");
    let [(_, line)] = lines.as_slice() else { panic!("{lines:?}") };
    root.served(&format!("{line}\nexec /bin/true"));
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
    // Installed into an empty root, it serves a program from there, and it goes again.
    let root = dir.join("root");
    std::fs::create_dir(&root).expect("a directory can be made");
    let rpm = |arguments: &[&str]| {
        let mut rpm = Command::new("rpm");
        rpm.arg("--root").arg(&root).args(["--nodeps", "--force-debian"]).args(arguments);
        said_by(&mut rpm)
    };
    let packages = [of("rcumalloc"), of("rcumalloc-devel")].map(|path| path.display().to_string());
    rpm(&["-i", &packages[0], &packages[1]]);
    let found = said_by(Command::new("find").arg(root.join("usr")).args(["-name", "librcumalloc.so.1"]));
    let mut served = Command::new(build::program("preload_took_effect"));
    assert_eq!(said_by(served.env("LD_PRELOAD", found.trim())), "present 1\n");
    rpm(&["-e", "rcumalloc-devel", "rcumalloc"]);
    let left = said_by(Command::new("find").arg(root.join("usr")).args(["-name", "*rcumalloc*"]));
    assert_eq!(left, "");
    if is_there("rpmlint") {
        let spec = build::root().join("packaging/rcumalloc.spec");
        let said = said_by(Command::new("rpmlint").arg(spec));
        assert!(said.contains(" 0 errors"), "{said}");
    }
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}
