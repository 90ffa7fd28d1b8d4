//! `rcumalloc.hpp`: C++26's `<rcu>` and the memory resource, with both compilers and both standard libraries.

use rcumalloc_tests::{build, command};
use std::path::{Path, PathBuf};
use std::process::Command;

const CASES: [&str; 7] =
    ["intrusive", "not_intrusive", "synchronized", "deleters", "regions", "resource", "pools"];

/// `rcu_surface.cpp` as this compiler makes it.
fn compiled(dir: &Path, compiler: &str, flags: &[&str]) -> PathBuf {
    let program = dir.join("rcu_surface");
    let mut tool = Command::new(compiler);
    tool.args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]).args(flags);
    tool.arg("-I").arg(build::root().join("preload/include")).arg("-o").arg(&program);
    tool.arg(build::root().join("tests/programs/rcu_surface.cpp"));
    let output = tool.output().unwrap_or_else(|error| panic!("{tool:?}: {error}; run scripts/setup"));
    assert!(output.status.success(), "{tool:?}: {}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Runs every case; with the memory resource, if the standard library has that.
fn works(name: &str, compiler: &str, flags: &[&str], has_resource: bool) {
    let dir = build::scratch(name);
    let program = compiled(&dir, compiler, flags);
    for case in CASES {
        let outcome = command(&program).arg(case).run().success();
        let expected = match (case, has_resource) {
            ("resource", true) => "resource\ndone\n",
            ("resource", false) => "no resource\ndone\n",
            _ => "done\n",
        };
        assert_eq!(outcome.text(), expected, "{outcome}");
    }
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}

#[test]
fn cpp_with_gcc() {
    works("cpp-gcc", "g++", &["-std=c++17"], true);
}

#[test]
fn cpp_with_clang_and_libstdcxx() {
    works("cpp-clang", "clang++", &["-std=c++20"], true);
}

/// Each header is C or C++ of every version that it is for, without a warning.
#[test]
fn headers_in_every_version() {
    let dir = build::scratch("headers");
    for (header, extension, compilers, versions) in [
        ("rcumalloc.h", "c", &["gcc", "clang"][..], &["c99", "c11", "c17", "c2x"][..]),
        ("rcumalloc.h", "cpp", &["g++", "clang++"], &["c++11", "c++17", "c++20"]),
        ("rcumalloc.hpp", "cpp", &["g++", "clang++", "clang++ -stdlib=libc++"], &["c++17", "c++20", "c++2b"]),
    ] {
        let file = dir.join("uses").with_extension(extension);
        let uses = format!("#include <{header}>\nint main(void) {{ return rcumalloc_present(); }}\n");
        std::fs::write(&file, uses).expect("the scratch directory can be written");
        for (compiler, version) in
            compilers.iter().flat_map(|compiler| versions.iter().map(move |version| (compiler, version)))
        {
            let mut words = compiler.split(' ');
            let mut tool = Command::new(words.next().unwrap_or_default());
            tool.args(words).arg(format!("-std={version}"));
            tool.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"]);
            build::said_by(tool.arg(build::root().join("preload/include")).arg(&file));
        }
    }
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}

#[test]
fn cpp_with_clang_and_libcxx() {
    let flags = ["-std=c++20", "-stdlib=libc++"];
    // libc++ has memory resources since its version 16: what the header tests for is asked here, too.
    let asks = "#include <version>\n#ifdef __cpp_lib_memory_resource\nyes\n#endif\n";
    let dir = build::scratch("cpp-asks");
    let file = dir.join("asks.cpp");
    std::fs::write(&file, asks).expect("the scratch directory can be written");
    let output = Command::new("clang++").args(flags).args(["-E", "-P"]).arg(&file).output();
    let output = output.unwrap_or_else(|error| panic!("clang++: {error}; run scripts/setup"));
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
    let has_resource = String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "yes");
    works("cpp-libcxx", "clang++", &flags, has_resource);
}
