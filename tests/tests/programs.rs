//! Real programs: the same output, byte for byte, and the same exit status as under glibc.

use rcumalloc_tests::{Outcome, Victim, build, command};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

/// Runs what `make` gives under glibc and under the library in each mode; `result` is what must be
/// the same beside stdout, stderr and status. A fresh directory for each run.
fn same_with<R: PartialEq>(
    name: &str,
    make: impl Fn(&Path) -> Victim,
    result: impl Fn(&Path, &Outcome) -> R,
) {
    let run = |mode: &str| {
        let dir = build::scratch(name);
        let victim = make(&dir).dir(&dir).patience(120);
        let outcome = match mode {
            "glibc" => victim.on_glibc().run(),
            mode => victim.env("RCUMALLOC_DEFER", mode).run(),
        };
        let result = result(&dir, &outcome);
        let _ = fs::remove_dir_all(&dir);
        (outcome, result)
    };
    let (glibc, wanted) = run("glibc");
    assert!(glibc.status.signal().is_none() && !glibc.timed_out, "under glibc\n{glibc}");
    for mode in ["all", "strict", "api"] {
        let (ours, got) = run(mode);
        let same = ours.stdout == glibc.stdout && ours.stderr == glibc.stderr && got == wanted;
        let differs = first_difference(&ours.stdout, &glibc.stdout);
        let same = same && ours.status == glibc.status;
        assert!(same, "{mode} differs from glibc\n{differs}\n{ours}\nglibc: {}", glibc.status);
    }
}

/// The first line in which the outputs differ.
fn first_difference(ours: &[u8], glibc: &[u8]) -> String {
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_string).collect::<Vec<_>>();
    let (ours, glibc) = (lines(ours), lines(glibc));
    let at = ours.iter().zip(&glibc).take_while(|(ours, glibc)| ours == glibc).count();
    format!("line {}: ours  {:?}\n         glibc {:?}", at + 1, ours.get(at), glibc.get(at))
}

fn same(name: &str, make: impl Fn(&Path) -> Victim) {
    same_with(name, make, |_, _| ());
}

fn source(name: &str) -> PathBuf {
    build::root().join("tests/programs").join(name)
}

/// A file of `bytes` bytes of words, made once.
fn words(bytes: usize) -> PathBuf {
    let path = build::made().join(format!("words-{bytes}"));
    if fs::metadata(&path).is_ok_and(|found| found.len() as usize == bytes) {
        return path;
    }
    let mut text = Vec::with_capacity(bytes + 64);
    let mut state = 42_u64;
    while text.len() < bytes {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let number = state >> 33;
        text.extend_from_slice(format!("{:x} {} word{}\n", number, number % 10007, number % 97).as_bytes());
    }
    text.truncate(bytes);
    let unfinished = path.with_extension(format!("{}", std::process::id()));
    fs::write(&unfinished, text).expect("the target directory can be written");
    fs::rename(unfinished, &path).expect("a file can be renamed in place");
    path
}

#[test]
fn bash() {
    same("bash", |_| command(build::installed("bash")).arg(source("long.sh")));
}

#[test]
fn sort() {
    let input = words(50 << 20);
    same_with(
        "sort",
        |dir| {
            let sort = command(build::installed("sort")).args(["--parallel=4", "-S", "40M", "-k3,3", "-T"]);
            sort.arg(dir).arg("-o").arg(dir.join("sorted")).arg(&input)
        },
        |dir, _| fs::read(dir.join("sorted")).expect("sort wrote its output"),
    );
}

#[test]
fn xz() {
    let input = words(12 << 20);
    same("xz", |_| {
        command(build::installed("xz")).args(["-T2", "-1", "--block-size=2MiB", "-c"]).arg(&input)
    });
    let packed = build::scratch("xz-back").join("words.xz");
    let outcome = command(build::installed("xz")).args(["-T2", "-1", "-c"]).arg(&input).run().success();
    fs::write(&packed, outcome.stdout).expect("the target directory can be written");
    same("xz-d", |_| command(build::installed("xz")).args(["-T2", "-d", "-c"]).arg(&packed));
}

#[test]
fn tar() {
    let tree = build::root().join("preload");
    same("tar", |_| {
        let tar =
            command(build::installed("tar")).args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0"]);
        tar.args(["-cJ", "-C"]).arg(&tree).arg("src")
    });
    let packed = build::scratch("tar-back").join("tree.tar");
    command(build::installed("tar")).arg("-cf").arg(&packed).arg("-C").arg(&tree).arg("src").run().success();
    same("tar-x", |_| command(build::installed("tar")).arg("-xvf").arg(&packed));
}

#[test]
fn python3() {
    for malloc in ["malloc", "pymalloc"] {
        same("python3", |_| {
            let python = command(build::installed("python3")).arg(source("work.py"));
            python.env("PYTHONMALLOC", malloc).env("PYTHONHASHSEED", "0")
        });
    }
}

#[test]
fn perl() {
    same("perl", |_| command(build::installed("perl")).arg(source("work.pl")).env("PERL_HASH_SEED", "0"));
}

#[test]
fn gcc() {
    let include = build::root().join("preload/include");
    same("gcc", |_| {
        let gcc =
            command(build::installed("gcc")).args(["-O2", "-g", "-w", "-D_GNU_SOURCE", "-S", "-o", "-"]);
        gcc.arg("-I").arg(&include).arg(source("libc_rules.c"))
    });
    same("g++", |_| {
        let gcc = command(build::installed("g++")).args(["-std=c++17", "-O1", "-w", "-S", "-o", "-"]);
        gcc.arg(source("heavy.cpp"))
    });
}

#[test]
fn git() {
    build::installed("git");
    same("git", |_| command(build::installed("bash")).arg(source("git.sh")));
}

#[test]
fn sqlite3() {
    let script = fs::read(source("work.sql")).expect("the script can be read");
    same("sqlite3", |_| command(build::installed("sqlite3")).args(["-batch", "data"]).stdin(&script));
}

#[test]
fn redis() {
    let run = |preload: &Path| {
        let dir = build::scratch("redis");
        let tools = ["redis-server", "redis-benchmark", "redis-cli"].map(build::installed);
        // Only the server runs under the library: a socket's path is short, so from its directory.
        let script = command(build::installed("bash")).on_glibc().arg(source("redis.sh")).args(tools);
        let outcome = script.arg(preload).dir(&dir).patience(120).run().success();
        let _ = fs::remove_dir_all(dir);
        outcome
    };
    let glibc = run(Path::new(""));
    let ours = run(build::library());
    assert_eq!(ours.text(), glibc.text(), "{ours}\n{glibc}");
}
