//! The library as others get it: built, installed, linked and depended on.

use rcumalloc_tests::build::{self, said_by};
use rcumalloc_tests::command;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files that `cargo ARGUMENTS` says it has made, in the target directory of the tests.
fn made_by_cargo(arguments: &[&str]) -> Vec<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(build::root()).args(arguments).arg("--message-format=json");
    // What the test runner's cargo was told about this package is not for that one.
    cargo.env_remove("RUSTC_WORKSPACE_WRAPPER").env("CARGO_TARGET_DIR", build::target());
    let output = cargo.output().expect("cargo starts");
    assert!(output.status.success(), "{cargo:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes JSON");
    let words = text.split('"').filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

#[test]
fn the_obvious_command_builds_the_library() {
    let library = build::target().join("release/librcumalloc.so");
    let made = made_by_cargo(&["build", "--release"]);
    assert!(made.contains(&library) && library.exists(), "{made:?}");
    let archive = library.with_extension("a");
    assert!(made.contains(&archive) && archive.exists(), "{made:?}");
    let outcome = command(build::program("preload_took_effect")).preload(&[&library]).run().success();
    assert_eq!(outcome.stdout, b"present 1\n", "{outcome}");
}

#[test]
fn all_features_build() {
    let made = made_by_cargo(&["build", "--all-features"]);
    assert!(made.iter().any(|path| path.ends_with("debug/librcumalloc.so")), "{made:?}");
}

/// The names that the header declares as the library's.
fn names_of_the_header() -> BTreeSet<String> {
    let header =
        std::fs::read_to_string(build::root().join("preload/include/rcumalloc.h")).expect("a header");
    let declared = header.split("RCUMALLOC_WEAK ").skip(1).filter_map(|text| text.split_once('('));
    let names = declared.filter_map(|(start, _)| start.rsplit([' ', '*']).next());
    names.filter(|name| name.starts_with("rcumalloc_")).map(str::to_owned).collect()
}

/// Those and the names that `names.txt` lists.
fn listed_names() -> BTreeSet<String> {
    let list =
        std::fs::read_to_string(build::root().join("preload/shared/names.txt")).expect("a list of names");
    let names = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    names.map(str::to_owned).chain(names_of_the_header()).collect()
}

#[test]
fn exactly_the_listed_names_are_exported() {
    let text = said_by(
        Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(build::library()),
    );
    let exported: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let listed = listed_names();
    assert!(names_of_the_header().len() > 20, "{listed:?}");
    let more: Vec<_> = exported.difference(&listed).collect();
    let missing: Vec<_> = listed.difference(&exported).collect();
    assert!(
        more.is_empty() && missing.is_empty(),
        "exported, not listed: {more:?}; not exported: {missing:?}"
    );
}

#[test]
fn the_archive_defines_nothing_of_others() {
    let archive = build::library().with_extension("a");
    let text = said_by(Command::new("nm").args(["-gA", "--defined-only"]).arg(archive));
    let listed = listed_names();
    // What the compiler's own objects define is weak or hidden, and in every program that rustc links.
    let own = text.lines().filter(|line| line.contains(":rcumalloc."));
    let names: Vec<&str> = own.filter_map(|line| line.split_whitespace().last()).collect();
    assert!(names.len() >= listed.len(), "{names:?}");
    for name in names {
        assert!(name.starts_with("rcumalloc_") || listed.contains(name), "{name}");
    }
}

/// The paths of the files below `dir`, without it.
fn files_below(dir: &Path) -> BTreeSet<PathBuf> {
    let text = said_by(
        Command::new("find").arg(dir).args(["(", "-type", "f", "-o", "-type", "l", ")", "-printf", "%P\n"]),
    );
    text.lines().map(PathBuf::from).collect()
}

/// `scripts/NAME` for the prefix `prefix`, of the library that is tested.
fn script(name: &str, prefix: &Path, destdir: Option<&Path>) {
    let mut script = Command::new(build::root().join("scripts").join(name));
    script.arg("--prefix").arg(prefix);
    script.env("RCUMALLOC_INSTALL_FROM", build::library().parent().expect("a file has a directory"));
    match destdir {
        Some(dir) => script.env("DESTDIR", dir),
        None => script.env_remove("DESTDIR"),
    };
    said_by(&mut script);
}

/// Runs a program that is linked with the library as it was installed, which must say that it is there.
fn is_linked(program: &Path) {
    let outcome = command(program).on_glibc().run().success();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(outcome.text(), format!("version {version}, our blocks\n"), "{outcome}");
}

#[test]
fn installed_and_removed() {
    let dir = build::scratch("installed");
    let (prefix, stage) = (dir.join("prefix"), dir.join("stage"));
    script("install", &prefix, None);
    let files = files_below(&prefix);
    let inside = prefix.strip_prefix("/").expect("an absolute path");
    script("install", &prefix, Some(&stage));
    assert_eq!(files_below(&stage.join(inside)), files, "DESTDIR goes before the prefix");
    let libraries = ["lib/librcumalloc.so.1", "lib/librcumalloc.so", "lib/librcumalloc.a"];
    let others = ["include/rcumalloc.hpp", "share/doc/rcumalloc/rcumalloc-stats.schema.json"];
    let manuals =
        ["share/man/man7/rcumalloc.7", "share/man/man3/rcumalloc.h.3", "share/man/man1/rcumalloc-bench.1"];
    for file in libraries.into_iter().chain(others).chain(manuals) {
        assert!(files.contains(Path::new(file)), "{files:?}");
    }
    script("uninstall", &prefix, Some(&stage));
    assert_eq!(files_below(&stage), BTreeSet::new(), "what DESTDIR holds is removed");
    assert_eq!(files_below(&prefix), files, "and nothing else");
    script("uninstall", &prefix, None);
    assert_eq!(files_below(&prefix), BTreeSet::new());
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}

#[test]
fn linked_with_what_pkg_config_says() {
    let dir = build::scratch("pkg-config");
    script("install", &dir, None);
    let program = dir.join("program");
    for more in [&[][..], &["-Wl,-Bstatic", "-lrcumalloc", "-Wl,-Bdynamic"]] {
        let mut asks = Command::new("pkg-config");
        asks.env("PKG_CONFIG_PATH", dir.join("lib/pkgconfig")).args([
            "--cflags",
            "--libs",
            "--static",
            "rcumalloc",
        ]);
        let flags = said_by(&mut asks);
        let mut cc = Command::new("cc");
        cc.arg("-o").arg(&program).arg(build::root().join("tests/installed/main.c"));
        cc.arg("-L").arg(dir.join("lib")).args(more).args(flags.split_whitespace());
        cc.arg(format!("-Wl,--as-needed,-rpath,{}/lib", dir.display()));
        said_by(&mut cc);
        is_linked(&program);
    }
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}

#[test]
fn found_by_cmake() {
    let dir = build::scratch("cmake");
    let prefix = dir.join("prefix");
    script("install", &prefix, None);
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(build::root().join("tests/installed")).arg("-B").arg(dir.join("build"));
    said_by(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    said_by(Command::new("cmake").arg("--build").arg(dir.join("build")));
    is_linked(&dir.join("build/with_shared"));
    is_linked(&dir.join("build/with_static"));
    // The archive is in the program: the library need not be there.
    script("uninstall", &prefix, None);
    is_linked(&dir.join("build/with_static"));
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}

/// Builds and runs the project `tests/fresh` with these arguments and flags of rustc.
fn fresh_project_says(name: &str, arguments: &[&str], flags: &str) -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(build::root().join("tests/fresh")).args(["run", "--quiet"]).args(arguments);
    cargo.env_remove("RUSTC_WORKSPACE_WRAPPER").env("RUSTFLAGS", flags);
    let (linker, emulator) = ("aarch64-linux-gnu-gcc", "qemu-aarch64 -L /usr/aarch64-linux-gnu");
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", linker);
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", emulator);
    said_by(cargo.env("CARGO_TARGET_DIR", build::made().join(name)))
}

#[test]
fn a_fresh_project_needs_one_dependency_and_two_lines() {
    let main = std::fs::read_to_string(build::root().join("tests/fresh/src/main.rs")).expect("a program");
    assert!(
        main.starts_with("#[global_allocator]\nstatic HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;\n")
    );
    let said = fresh_project_says("fresh", &[], "");
    assert_eq!(said, "defers true, rust's block is ours true, c's false\ndropped\ndone\n");
    // C code in the same program, too.
    let said = fresh_project_says("fresh", &["--features", "override"], "");
    assert_eq!(said, "defers true, rust's block is ours true, c's true\ndropped\ndone\n");
    // And what it has in its code is in force.
    let program = command(build::made().join("fresh/debug/fresh")).on_glibc().env("RCUMALLOC_VERBOSE", "1");
    let outcome = program.run().success();
    assert!(outcome.ours().iter().any(|line| line.contains(" stall=5000ms ")), "{outcome}");
}

#[test]
fn elsewhere_it_is_the_system_allocator() {
    let said = fresh_project_says("fresh-elsewhere", &[], "--cfg rcumalloc_fallback");
    assert_eq!(said, "defers false, rust's block is ours false, c's false\ndropped\ndone\n");
}

/// The text behind each `before`, up to the next `after`.
fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
}

/// The text of a page up to the end of the code, in one line.
fn plain(html: &str) -> String {
    let code = html.split("</code>").next().unwrap_or_default();
    let text: String =
        code.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text)).collect();
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the documentation of the crate has, a line each: functions, types, their fields and traits.
fn documented(flags: &str) -> BTreeSet<String> {
    let target = build::made().join(if flags.is_empty() { "surface" } else { "surface-elsewhere" });
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(build::root()).args(["doc", "--quiet", "--no-deps", "-p", "rcumalloc"]);
    cargo.args(["--features", "override,allocator-api2"]).env("CARGO_TARGET_DIR", &target);
    cargo.env_remove("RUSTC_WORKSPACE_WRAPPER").env("RUSTFLAGS", flags).env("RUSTDOCFLAGS", flags);
    said_by(&mut cargo);
    let page = |name: &str| {
        let path = target.join("doc/rcumalloc").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let mut found = BTreeSet::new();
    for link in between(&page("all.html"), "<li><a href=\"", '"') {
        let Some((kind, name)) = link.strip_suffix(".html").and_then(|link| link.split_once('.')) else {
            continue;
        };
        let text = page(link);
        if kind != "struct" {
            let declared = plain(text.split("item-decl\"><code>").nth(1).unwrap_or_default());
            // The value of a constant, and what a macro becomes, are not the same everywhere.
            let declared = declared.split(" = ").next().unwrap_or_default().split(" =>").next();
            found.insert(declared.unwrap_or_default().to_owned());
            continue;
        }
        found.insert(format!("{kind} {name}"));
        for field in text.split("id=\"structfield.").skip(1) {
            let declared = plain(field.split("<code>").nth(1).unwrap_or_default());
            found.insert(format!("{kind} {name}.{declared}"));
        }
        for block in text.split("<section id=\"impl-").skip(1) {
            let (about, rest) = block.split_once('"').expect("a quoted name");
            // What every type has is told of it only if another thread may have it.
            let of_all = ["Freeze", "Unpin", "UnsafeUnpin", "RefUnwindSafe", "UnwindSafe"];
            // Of a generic one its parameters follow.
            let is_name = |to: &str| {
                to.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("%3C"))
            };
            let of = about.split_once("-for-").filter(|(_, to)| is_name(to)).map(|(of, _)| of);
            if let Some(of) = of.filter(|of| !of_all.contains(of)) {
                let head = rest.split("</h3>").next().unwrap_or_default();
                let no = if head.contains(">impl !<") { "no " } else { "" };
                found.insert(format!("{kind} {name}: {no}{of}"));
            } else if !about.contains("-for-") {
                found.insert(format!("{kind} {name}: functions of its own"));
            }
        }
    }
    found
}

/// What a program may name of the crate is what `preload/surface.txt` lists, here and on targets that have no
/// heap of ours; and all of it is documented.
#[test]
fn what_is_public_is_what_is_listed() {
    let list = std::fs::read_to_string(build::root().join("preload/surface.txt")).expect("there is a list");
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let listed: BTreeSet<String> = lines.map(str::to_owned).collect();
    for flags in ["", "--cfg rcumalloc_fallback"] {
        let found = documented(flags);
        let more: Vec<_> = found.difference(&listed).collect();
        let missing: Vec<_> = listed.difference(&found).collect();
        assert!(more.is_empty() && missing.is_empty(), "{flags} public: {more:?}; only listed: {missing:?}");
    }
    // What is public and hidden is for the tests and for librcumalloc.so.
    let hidden = said_by(
        Command::new("grep")
            .args(["-rn", "-B1", "doc(hidden)", "--no-group-separator"])
            .arg(build::root().join("preload/src")),
    );
    let lines: Vec<&str> = hidden.lines().collect();
    for pair in lines.chunks(2) {
        assert!(pair[0].contains("any(feature = \"inject\", rcumalloc_shared)"), "{pair:?}");
    }
}

/// There the crates compile, with the heap or as the system's allocator, a program that uses all of that
/// runs, and librcumalloc.so compiles or says why it does not; a target that is not installed is left out.
/// `cargo xtask aarch64` runs more.
#[test]
fn the_crates_compile_for_other_targets() {
    for (target, emulator, has_heap) in [
        ("aarch64-unknown-linux-gnu", Some("qemu-aarch64"), true),
        ("x86_64-unknown-linux-musl", None, false),
    ] {
        let libraries = said_by(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
        if !Path::new(libraries.trim()).exists() {
            rcumalloc_tests::skipped(&format!("rustc has no {target} here"));
            continue;
        }
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(build::root()).args([
            "check",
            "-p",
            "quiescent",
            "-p",
            "rcumalloc",
            "--target",
            target,
        ]);
        cargo.env_remove("RUSTC_WORKSPACE_WRAPPER").env("CARGO_TARGET_DIR", build::made().join("others"));
        said_by(&mut cargo);
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(build::root()).args(["check", "-p", "rcumalloc-shared", "--target", target]);
        cargo.env_remove("RUSTC_WORKSPACE_WRAPPER").env("CARGO_TARGET_DIR", build::made().join("others"));
        let answer = cargo.output().expect("cargo starts");
        let why = String::from_utf8_lossy(&answer.stderr);
        let is_refused =
            why.contains("librcumalloc.so is for Linux with glibc on x86-64 or aarch64; the crate");
        assert_eq!((answer.status.success(), is_refused), (has_heap, !has_heap), "{why}");
        let is_there = |program: &str| {
            let command = format!("command -v {program}");
            Command::new("sh").args(["-c", &command]).output().is_ok_and(|found| found.status.success())
        };
        let tools = emulator.map(|emulator| [emulator, "aarch64-linux-gnu-gcc"]);
        if tools.is_some_and(|tools| !tools.into_iter().all(is_there)) {
            rcumalloc_tests::skipped(&format!("no emulator and compiler for {target} here"));
            continue;
        }
        let said = fresh_project_says("fresh-others", &["--target", target], "");
        let expected =
            format!("defers {has_heap}, rust's block is ours {has_heap}, c's false\ndropped\ndone\n");
        assert_eq!(said, expected, "{target}");
    }
}

/// cargo unpacks what it has packaged once for each version, beside what it has of registries, and builds the
/// other crates with that: with an interface of yesterday.
fn forget_what_was_packaged_before() {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let Some(home) = home else { return };
    for kind in ["src", "cache"] {
        // A registry that is a directory has no host in its name.
        let registries = std::fs::read_dir(home.join("registry").join(kind)).into_iter().flatten().flatten();
        for registry in registries.filter(|entry| entry.file_name().to_string_lossy().starts_with('-')) {
            for unpacked in std::fs::read_dir(registry.path()).into_iter().flatten().flatten() {
                let name = unpacked.file_name().to_string_lossy().into_owned();
                if name.starts_with("quiescent-") || name.starts_with("rcumalloc") {
                    let _ = std::fs::remove_dir_all(unpacked.path());
                    let _ = std::fs::remove_file(unpacked.path());
                }
            }
        }
    }
}

/// Every member, with what it becomes unpacked and built for itself; and that those which are for publishing
/// can be.
#[test]
fn the_crates_can_be_packaged_and_published() {
    forget_what_was_packaged_before();
    for arguments in [&["package", "--workspace"][..], &["publish", "--dry-run", "--workspace"]] {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(build::root()).args(arguments).arg("--allow-dirty");
        // Who builds looks at no debug information.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_TARGET_DIR", build::made().join("package"));
        said_by(cargo.env_remove("RUSTC_WORKSPACE_WRAPPER"));
    }
    let packaged = |name: &str| {
        build::made().join(format!("package/package/{name}-{}.crate", env!("CARGO_PKG_VERSION")))
    };
    for (name, readme) in [("rcumalloc", "RUST.md"), ("quiescent", "README.md")] {
        let files = said_by(Command::new("tar").arg("tzf").arg(packaged(name)));
        let is_there =
            |file: &str| files.lines().any(|line| line.split_once('/').is_some_and(|(_, path)| path == file));
        for file in [readme, "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE", "src/lib.rs"] {
            assert!(is_there(file), "{name}: {file}: {files}");
        }
        let inside = format!("{name}-{}/Cargo.toml", env!("CARGO_PKG_VERSION"));
        let manifest = said_by(Command::new("tar").arg("xzOf").arg(packaged(name)).arg(inside));
        let keys = "version description keywords categories documentation readme license rust-version";
        for key in keys.split(' ') {
            assert!(manifest.contains(&format!("\n{key} = ")), "{name} has no {key}: {manifest}");
        }
    }
    // The archive and the shared library are built of what its crate alone has.
    let files = said_by(Command::new("tar").arg("tzf").arg(packaged("rcumalloc-shared")));
    assert!(files.contains("/src/lib.rs") && files.contains("/include/rcumalloc.h"), "{files}");
}

/// The version that the manifests name is enough, if that toolchain is here.
#[test]
fn the_least_version_of_rust() {
    let manifest = std::fs::read_to_string(build::root().join("Cargo.toml")).expect("a manifest");
    let least = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'));
    let least = format!("+{}", least.expect("a version"));
    let cargo = |arguments: &[&str]| {
        // rustup's, which knows of toolchains; what the test runner's cargo was told is not for another.
        let mut cargo = Command::new("cargo");
        cargo.current_dir(build::root()).arg(&least).args(arguments);
        for name in ["RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "LD_LIBRARY_PATH"] {
            cargo.env_remove(name);
        }
        cargo.env("CARGO_TARGET_DIR", build::made().join("least"));
        cargo
    };
    let version = cargo(&["--version"]).env("RUSTUP_AUTO_INSTALL", "0").output();
    if !version.is_ok_and(|output| output.status.success()) {
        return rcumalloc_tests::skipped(&format!("no toolchain {least} here"));
    }
    let features = ["--features", "rcumalloc/override,rcumalloc/allocator-api2,quiescent/std"];
    said_by(cargo(&["check", "--quiet", "-p", "quiescent", "-p", "rcumalloc"]).args(features));
    said_by(&mut cargo(&["rustc", "--quiet", "--release", "--lib", "-p", "rcumalloc-shared"]));
    let library = build::made().join("least/release/librcumalloc.so");
    let outcome = command(build::program("preload_took_effect")).preload(&[&library]).run().success();
    assert_eq!(outcome.text(), "present 1\n");
}

/// librcumalloc.so with these flags of rustc's.
fn built_with(name: &str, flags: &[&str]) -> PathBuf {
    let target = build::made().join(name);
    let mut script = Command::new(build::root().join("scripts/build"));
    script.args(flags).env_remove("RUSTC_WORKSPACE_WRAPPER").env("CARGO_TARGET_DIR", target);
    PathBuf::from(said_by(&mut script).trim())
}

/// The smallest address that the window may have, and one above all that it has.
const WINDOW: std::ops::Range<u64> = 0x6800_0000_0000..0x7c00_0000_0000;

/// What is asked of the kernel about the window while a program runs that uses all of the heap: each call's
/// address and length.
fn calls_about_the_window(library: &Path) -> Vec<(u64, u64)> {
    let log = build::scratch("strace").join("log");
    let strace = command(build::installed("strace")).on_glibc();
    let strace =
        strace.args(["-f", "-qq", "-e", "trace=mmap,munmap,mprotect,madvise,mremap", "-o"]).arg(&log);
    let strace = strace.arg("-E").arg(format!("LD_PRELOAD={}", library.display()));
    strace.arg(build::program("drain_in_section")).patience(120).run().success();
    let text = std::fs::read_to_string(&log).expect("strace writes");
    let numbers = |line: &str| {
        let mut words = line.split_once('(')?.1.split(", ");
        let addr = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        let len = words.next()?.split(')').next()?.parse().ok()?;
        WINDOW.contains(&addr).then_some((addr, len))
    };
    text.lines().filter_map(numbers).collect()
}

/// A library whose pages are larger than this kernel's does all that one for 4 KiB does, says to a kernel of
/// any size of pages what it must, and asks of the kernel only what one with such pages could grant. One of
/// them is linked by GNU's linker, which makes less of what is missing than rustc's own.
#[test]
fn larger_pages() {
    for (kib, more) in [(16, "-Clink-arg=-fuse-ld=bfd"), (64, "-Clink-arg=-Wl,--build-id")] {
        let page = kib << 10;
        let flag = format!("rcumalloc_page=\"{kib}K\"");
        let library = built_with(&format!("pages-{kib}"), &["--cfg", &flag, more]);
        for bytes in [4096, 16_384, 65_536] {
            let name = format!("page_liar_{bytes}.so");
            let liar = build::compile(&name, "page_liar", &[&format!("-DLIE={bytes}")]);
            let outcome = command(build::program("preload_took_effect")).preload(&[&liar, &library]).run();
            if bytes <= page {
                assert_eq!(outcome.success().text(), "present 1\n");
                continue;
            }
            let least = format!("only of {page} or less; the program is not run");
            outcome
                .exited(127)
                .said(&[&format!("rcumalloc: pages of {bytes} bytes are not supported, {least}")]);
        }
        for (program, arguments) in [
            ("guarantee", &["--sections", "300000"][..]),
            ("pool_table", &["torture"]),
            ("calls", &["in_order"]),
            ("enomem", &["as"]),
            ("enomem", &["data"]),
            ("drain_in_section", &[]),
        ] {
            let victim = command(build::program(program)).args(arguments).preload(&[&library]);
            victim.patience(60).run().success().said(&[]);
        }
        let calls = calls_about_the_window(&library);
        assert!(calls.len() > 5, "{calls:x?}");
        for (addr, len) in calls {
            assert!(addr % page == 0 && len % page == 0, "{kib} KiB: {addr:#x}, {len:#x}");
        }
    }
}

#[test]
fn debian_packages() {
    let dir = build::scratch("deb");
    let mut deb = Command::new(build::root().join("xtask/scripts/deb"));
    deb.arg(&dir).env("DEBFULLNAME", "Nobody").env("DEBEMAIL", "nobody@debian.org");
    deb.env("RCUMALLOC_INSTALL_FROM", build::library().parent().expect("a file has a directory"));
    let said = said_by(&mut deb);
    let packages: Vec<&str> = said.lines().collect();
    assert_eq!(packages.len(), 2, "{said}");
    said_by(Command::new("lintian").args(["--no-cfg", "--fail-on", "error"]).args(&packages));

    // Into a root of their own, whose dpkg knows of no other package.
    let root = dir.join("root");
    std::fs::create_dir_all(root.join("var/lib/dpkg/info")).expect("the scratch directory can be written");
    std::fs::create_dir_all(root.join("var/lib/dpkg/updates")).expect("the scratch directory can be written");
    std::fs::write(root.join("var/lib/dpkg/status"), "").expect("the scratch directory can be written");
    let dpkg = || {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", root.display())).args(["--force-not-root", "--force-depends"]);
        dpkg.arg("--log=/dev/null").env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        dpkg
    };
    said_by(dpkg().arg("--install").args(&packages));
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let outcome =
        command(build::program("preload_took_effect")).preload(&[&libraries.join("librcumalloc.so.1")]).run();
    assert_eq!(outcome.text(), "present 1\n", "{outcome}");
    let program = dir.join("program");
    let mut cc = Command::new("cc");
    cc.arg("-o").arg(&program).arg(build::root().join("tests/installed/main.c"));
    cc.arg("-I").arg(root.join("usr/include")).arg("-L").arg(&libraries).arg("-lrcumalloc");
    said_by(cc.arg(format!("-Wl,--no-as-needed,-rpath,{}", libraries.display())));
    is_linked(&program);
    said_by(dpkg().args(["--purge", "librcumalloc-dev", "librcumalloc1"]));
    assert!(!root.join("usr").exists(), "{:?}", files_below(&root.join("usr")));
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}
