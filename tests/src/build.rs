//! The library, the victims, and the real programs: where they are, made if need be.
//!
//! Everything made goes to the target directory. A victim is compiled when it is older than its
//! source or a header; the result is renamed into place, so tests that want the same one at the same
//! time do not disturb each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The target directory: where the running test itself was put.
pub fn target() -> PathBuf {
    let exe = std::env::current_exe().expect("a test has a path");
    let deps = exe.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "deps"));
    let profile = deps.and_then(Path::parent);
    profile.and_then(Path::parent).expect("target/profile/deps/test").to_path_buf()
}

/// A directory for what the tests make, in the target directory.
pub fn made() -> PathBuf {
    let dir = target().join("victims");
    fs::create_dir_all(&dir).expect("the target directory can be written");
    dir
}

/// A fresh empty directory for one test.
pub fn scratch(name: &str) -> PathBuf {
    let dir = made().join(format!("scratch-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("the target directory can be written");
    dir
}

/// librcumalloc.so, built in release profile by the first test that asks.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| match std::env::var_os("RCUMALLOC_TEST_LIBRARY") {
        Some(path) => path.into(),
        None => build_library(),
    })
}

fn build_library() -> PathBuf {
    run_tool(Command::new(root().join("scripts/build")).env("CARGO_TARGET_DIR", target()));
    target().join("release/librcumalloc.so")
}

/// `programs/NAME.c` or `.cpp`, compiled. A line `// flags: …` in the source adds flags; a victim
/// with `-shared` among them is a library.
pub fn program(name: &str) -> PathBuf {
    compile(name, name, &[])
}

/// As [`program`], with more flags, under the name `output`.
pub fn compile(output: &str, name: &str, flags: &[&str]) -> PathBuf {
    let dir = root().join("tests/programs");
    let (source, compiler) = [("c", "cc"), ("cpp", "c++")]
        .into_iter()
        .map(|(extension, compiler)| (dir.join(name).with_extension(extension), compiler))
        .find(|(source, _)| source.exists())
        .unwrap_or_else(|| panic!("tests/programs has no {name}.c and no {name}.cpp"));
    let target = made().join(output);
    let headers = [dir.join("victim.h"), root().join("preload/include/rcumalloc.h")];
    let newest = headers.iter().chain([&source]).map(|path| modified(path)).max();
    if target.exists() && Some(modified(&target)) >= newest {
        return target;
    }
    let text = fs::read_to_string(&source).expect("the source can be read");
    let own = text.lines().find_map(|line| line.strip_prefix("// flags: ")).unwrap_or("");
    // A name of its own until it is complete.
    let unfinished = unique(&target);
    let mut cc = Command::new(compiler);
    // -fno-builtin: the compiler must not reason about malloc and remove the calls under test.
    cc.args(["-O1", "-g", "-Wall", "-Wextra", "-pthread", "-fno-builtin", "-D_GNU_SOURCE"]);
    cc.arg("-I").arg(root().join("preload/include")).arg("-I").arg(&dir);
    cc.arg("-o").arg(&unfinished).arg(&source).args(own.split_whitespace()).args(flags);
    run_tool(&mut cc);
    fs::rename(&unfinished, &target).expect("a file can be renamed in place");
    target
}

fn unique(target: &Path) -> PathBuf {
    let thread = std::thread::current().id();
    let name = target.file_name().expect("a file").to_string_lossy();
    target.with_file_name(format!("{name}.{}.{thread:?}", std::process::id()))
}

fn modified(path: &Path) -> SystemTime {
    let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.modified().expect("files have times")
}

/// Runs a tool that must succeed. What it was told by the test runner's cargo about another build
/// is kept from it.
fn run_tool(tool: &mut Command) {
    said_by(tool.env_remove("RUSTC_WORKSPACE_WRAPPER"));
}

/// What a tool that must succeed says.
pub fn said_by(tool: &mut Command) -> String {
    let output = tool.output().unwrap_or_else(|error| panic!("{tool:?}: {error}; run scripts/setup"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool:?} failed: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The path of a program that scripts/setup installs. The system's own is preferred to what a
/// version manager put first in PATH.
pub fn installed(name: &str) -> PathBuf {
    let system = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = system.into_iter().chain(std::env::split_paths(&path));
    dirs.map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run scripts/setup"))
}
