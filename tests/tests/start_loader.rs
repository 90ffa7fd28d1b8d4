//! rows.txt, "Start, loader, thread-local storage": a test a row, named as the row.

use rcumalloc_tests::{Outcome, Victim, build, command, skipped};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What a call on an address that is not the heap's says.
fn foreign(call: &str, address: &str) -> String {
    format!(
        "rcumalloc: {call}({address}): not a pointer of this heap (stack, static or mapped memory, or \
         another malloc's block, as with RTLD_DEEPBIND)"
    )
}

/// What a binary utility prints about the library.
fn inspect_library(tool: &str, args: &[&str]) -> String {
    let output = Command::new(build::installed(tool)).args(args).arg(build::library()).output();
    String::from_utf8_lossy(&output.expect("the tool runs").stdout).into_owned()
}

#[test]
fn free_null_before_init() {
    assert_eq!(Victim::new("free_null_before_init").run().success().number("bad_calls"), 0);
}

#[test]
fn init_reentrancy() {
    let interposer = build::program("interposer");
    for libraries in [[interposer.as_path(), build::library()], [build::library(), interposer.as_path()]] {
        let outcome = Victim::new("init_reentrancy").preload(&libraries).patience(60).run().success();
        assert_eq!(outcome.number("interposed"), 0, "{outcome}");
    }
}

#[test]
fn static_tls_small() {
    let headers = inspect_library("readelf", &["-lW"]);
    let tls = headers.lines().find_map(|line| line.trim_start().strip_prefix("TLS "));
    let bytes = tls.and_then(|line| line.split_whitespace().nth(4)).expect("a TLS segment");
    assert_eq!(bytes, "0x000010", "two words of thread-local storage\n{headers}");
    let eaters = ["512", "256", "128", "64", "64", "64"].map(|size| {
        (0..8).map(move |n| {
            build::compile(&format!("tls_eater_{size}_{n}.so"), "tls_eater", &[&format!("-DSIZE={size}")])
        })
    });
    let outcome = Victim::new("static_tls_small")
        .on_glibc()
        .arg(build::library())
        .args(eaters.into_iter().flatten())
        .run()
        .success();
    assert!(outcome.number("refused") > 0, "the storage was not used up\n{outcome}");
}

#[test]
fn dlopen_vs_first_malloc() {
    let symbols = inspect_library("readelf", &["-W", "--dyn-syms"]);
    assert!(symbols.contains(" malloc\n"), "{symbols}");
    assert!(!symbols.contains("__tls_get_addr"), "dynamic thread-local storage takes the loader's lock");
    Victim::new("dlopen_vs_first_malloc").arg(build::program("slow_plugin")).patience(60).run().success();
}

#[test]
fn first_call_kinds() {
    let kinds = Victim::new("first_call_kinds").arg("list").run().success().text();
    assert!(kinds.lines().count() > 20, "{kinds}");
    for kind in kinds.lines() {
        Victim::new("first_call_kinds").args(["process", kind]).patience(60).run().success();
    }
    let outcome = Victim::new("first_call_kinds").arg("threads").run().success();
    assert!(outcome.text().ends_with("done\n"), "{outcome}");
}

#[test]
fn foreign_pointer() {
    let wild = ["10", "7fffffffffff", "800000000000", "fffffffffffffff0", "ffffffffffffffff"];
    let real = ["stack", "data", "code", "loader", "mapping", "no_access"];
    for what in real.iter().chain(&wild) {
        let outcome = Victim::new("foreign_pointer").args(["free", what]).run();
        let line = foreign("free", &outcome.word("address"));
        outcome.aborted_saying(&line);
    }
    for call in ["realloc", "malloc_usable_size", "rcumalloc_free", "rcumalloc_free_now"] {
        for what in ["stack", "no_access"] {
            let outcome = Victim::new("foreign_pointer").args([call, what]).run();
            let line = foreign(call, &outcome.word("address"));
            outcome.aborted_saying(&line);
            let report = Victim::new("foreign_pointer").args([call, what]);
            let outcome = report.env("RCUMALLOC_ON_ERROR", "report").run().success();
            assert_eq!(outcome.number("bad_calls"), 1, "{outcome}");
            let line = foreign(call, &outcome.word("address"));
            outcome.said(&[&line]);
        }
    }
}

fn opened(mode: &str, action: &str) -> Outcome {
    Victim::new("deepbind").arg(build::program("deepbind_plugin")).args([mode, action]).run()
}

/// What RTLD_DEEPBIND does where it comes through: by libc's own dlopen, past ours.
#[test]
fn deepbind() {
    // A plug-in that keeps to itself works either way; one that shares works without the flag.
    for (mode, action) in [
        ("past", "plugin_keeps"),
        ("apart", "plugin_keeps"),
        ("plain", "plugin_keeps"),
        ("plain", "ours_frees"),
        ("plain", "plugin_frees"),
        ("plain", "plugin_copies"),
    ] {
        opened(mode, action).success();
    }
    // In a namespace apart the flag changes nothing: malloc is libc's there.
    for mode in ["past", "apart"] {
        let outcome = opened(mode, "ours_frees");
        let line = foreign("free", &outcome.word("address"));
        outcome.aborted_saying(&line);
    }
    // The other way round it is libc that is called: all we can do is not to go on.
    for action in ["plugin_frees", "plugin_copies"] {
        let outcome = opened("past", action);
        assert!(!outcome.status.success() && !outcome.timed_out, "{outcome}");
    }
}

#[test]
fn deepbind_dropped() {
    for mode in ["deep", "base"] {
        for action in ["plugin_keeps", "ours_frees", "plugin_frees", "plugin_copies"] {
            opened(mode, action).success();
        }
    }
    // The loader still knows who asks.
    let opener = build::program("dlopen_opener");
    std::fs::create_dir_all(build::made().join("opened")).expect("the target directory can be written");
    build::compile("opened/libinner.so", "deepbind_plugin", &[]);
    let outcome = Victim::new("dlopen_caller").arg(opener).run().success();
    assert_eq!(outcome.text(), "done\n");
}

/// A debugger allocates in the program for every string in an expression.
#[test]
fn debugger_calls_malloc() {
    // A debugger that knows libc's malloc well is not misled by what it knows of ours; not all do.
    let sections = inspect_library("readelf", &["-SW"]);
    assert!(sections.contains(".symtab") && !sections.contains(".debug_info"), "{sections}");
    if !Path::new("/usr/bin/gdb").exists() {
        return skipped("there is no gdb: run scripts/setup");
    }
    for (mode, beside) in [("all", "none"), ("all", "thread"), ("api", "thread"), ("strict", "none")] {
        let gdb =
            command("/usr/bin/gdb").on_glibc().args(["-nx", "-batch", "-ex", "set startup-with-shell off"]);
        let preload = format!("set environment LD_PRELOAD={}", build::library().display());
        let gdb = gdb.args(["-ex", &preload, "-ex", &format!("set environment RCUMALLOC_DEFER={mode}")]);
        // What a breakpoint makes gdb read of our symbols must not change its mind.
        let gdb = gdb.args(["-ex", "break halt", "-ex", "run", "-ex", "break malloc", "-ex", "delete"]);
        let gdb = gdb.args([
            "-ex",
            "print (int)strlen(\"abcdef\")",
            "-ex",
            "print ((long(*)(long))malloc)(24) != 0",
        ]);
        let outcome = gdb.arg("--args").arg(build::program("debugged")).arg(beside).run();
        if String::from_utf8_lossy(&outcome.stderr).contains("ptrace: Operation not permitted") {
            return skipped("this machine lets nobody debug");
        }
        let text = outcome.text();
        assert!(text.contains("$1 = 6\n") && text.contains("$2 = 1\n"), "{outcome}");
    }
}

#[test]
fn own_malloc_inside() {
    let outcome = Victim::new("own_malloc_inside").run().success();
    assert_eq!(outcome.text(), "done\n");
    assert_eq!(outcome.ours(), [""; 0], "{outcome}");
}

#[test]
fn preload_took_effect() {
    assert_eq!(Victim::new("preload_took_effect").run().success().text(), "present 1\n");
    // Without the library the header says so, and a call that would break its promise is the end.
    let outcome = Victim::new("preload_took_effect").on_glibc().run().success();
    assert_eq!(outcome.text(), "present 0\n");
    let outcome = Victim::new("preload_took_effect").on_glibc().arg("use").run();
    assert!(!outcome.status.success() && outcome.text() == "present 0\n", "{outcome}");
    // The runner says so when a program cannot be preloaded, and does not run it.
    let run = |program: &Path| {
        let runner = command(build::root().join("scripts/run")).on_glibc().env("RCUMALLOC_NO_SETUP", "1");
        runner.env("CARGO_TARGET_DIR", build::target()).arg("--").arg(program).patience(900).run()
    };
    let outcome = run(&build::program("preload_took_effect")).success();
    assert_eq!(outcome.text(), "present 1\n");
    let fixed = build::compile("preload_took_effect.static", "preload_took_effect", &["-static"]);
    let outcome = run(&fixed).exited(125);
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("cannot run under rcumalloc: it is statically linked"), "{outcome}");
    assert_eq!(outcome.text(), "", "{outcome}");
}

#[test]
fn secure_mode() {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        return skipped("only root can make a program set-user-ID to somebody else");
    }
    let dir = build::scratch("secure");
    // Where somebody else may read it and leave figures.
    let library = dir.join("librcumalloc.so.1");
    std::fs::copy(build::library(), &library).expect("the library can be copied");
    let figures = std::env::temp_dir().join(format!("rcumalloc-secure-{}", std::process::id()));
    let flags = [library.display().to_string(), format!("-Wl,-rpath,{}", dir.display())];
    let flags = flags.each_ref().map(String::as_str);
    let made = build::compile(&format!("secure_mode.{}", std::process::id()), "secure_mode", &flags);
    let program = dir.join("secure_mode");
    std::fs::rename(made, &program).expect("the victim can be moved");
    let run = || {
        let victim = command(&program).on_glibc().env("RCUMALLOC_ON_ERROR", "report");
        victim.env("RCUMALLOC_STATS", &figures).run()
    };
    let outcome = run().success();
    assert_eq!(outcome.text(), "secure 0\nwent on\n");
    assert!(figures.exists(), "the environment is obeyed in an ordinary program\n{outcome}");
    std::fs::remove_file(&figures).expect("the figures can be removed");

    std::os::unix::fs::chown(&program, Some(65534), Some(65534)).expect("root can chown");
    let mode = std::fs::Permissions::from_mode(0o6755);
    std::fs::set_permissions(&program, mode).expect("root can chmod");
    let outcome = run();
    assert_eq!(outcome.text(), "secure 1\n", "{outcome}");
    assert!(!figures.exists(), "figures were written\n{outcome}");
    let ours = outcome.ours();
    assert!(ours.len() == 1 && ours[0].starts_with("rcumalloc: free(0x"), "{outcome}");
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}

#[test]
fn no_unload() {
    let dynamic = inspect_library("readelf", &["-dW"]);
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    let outcome = Victim::new("no_unload").on_glibc().arg(build::library()).run().success();
    assert_eq!(outcome.text(), "done\n");
}

#[test]
fn own_allocator_api_linked() {
    let other = build::program("other_allocator");
    let other = other.to_str().expect("a path of the target directory");
    let name = "own_allocator_api_linked";
    let program = build::compile(name, name, &["-Wl,--no-as-needed", other]);
    // The other one is in it, and refuses blocks of this heap.
    let outcome = command(&program).on_glibc().arg("mixed").run();
    assert!(!outcome.status.success(), "{outcome}");
    for case in ["mixed", "sizes", "zeros", "rallocx", "xallocx", "failure", "macos"] {
        for threads in ["", "threads"] {
            for mode in ["all", "api", "strict"] {
                let victim = command(&program).args([case, threads]).env("RCUMALLOC_DEFER", mode);
                let outcome = victim.run().success().said(&[]);
                assert_eq!(outcome.text(), "done\n", "{outcome}");
            }
        }
    }
    // C++'s operators, too, which the other one has as well.
    let flags = ["-Wl,--no-as-needed", other];
    let cpp = build::compile("operators_linked", "operators_cases", &flags);
    assert!(!command(&cpp).on_glibc().arg("right").run().status.success());
    for case in ["right", "failure"] {
        assert_eq!(command(&cpp).arg(case).run().success().said(&[]).text(), "done\n");
    }
    let refused = |args: &[&str], line: &dyn Fn(&str) -> String| {
        let outcome = command(&program).args(args).run();
        let line = line(&outcome.word("address"));
        outcome.aborted_saying(&line);
        let outcome = command(&program).args(args).env("RCUMALLOC_ON_ERROR", "report").run().success();
        assert_eq!(outcome.number("bad_calls"), 1, "{outcome}");
    };
    for call in ["rallocx", "xallocx", "sallocx", "dallocx", "sdallocx"] {
        let freed = if call == "sdallocx" { "dallocx" } else { call };
        refused(&["foreign", call], &|address| foreign(freed, address));
    }
    let wrong = |call: String, what: &str| format!("rcumalloc: {call}: wrong size or alignment: {what}");
    refused(&["wrong_size"], &|address| {
        wrong(format!("sdallocx({address}, 200)"), "a block of 112 bytes in use")
    });
    refused(&["wrong_size_large"], &|address| {
        wrong(format!("sdallocx({address}, 110000)"), "a large block of 102400 bytes")
    });
    refused(&["wrong_align"], &|address| {
        wrong(format!("sdallocx({address}, 64, 100)"), "a block of 112 bytes in use")
    });
}

#[test]
fn libc_prefixed_names() {
    Victim::new("libc_prefixed_names").on_glibc().run().success();
    for mode in ["all", "api", "strict"] {
        let outcome =
            Victim::new("libc_prefixed_names").env("RCUMALLOC_DEFER", mode).run().success().said(&[]);
        assert_eq!(outcome.text(), "done\n", "{outcome}");
    }
    // Of each name of malloc's that libc has a second one of, the library has it, too.
    let maps = std::fs::read_to_string("/proc/self/maps").expect("a process can read its maps");
    let libc =
        maps.split_whitespace().find(|word| word.ends_with("/libc.so.6")).expect("the test runs on libc");
    let names = |file: &Path| -> Vec<String> {
        let nm = Command::new(build::installed("nm")).args(["-D", "--defined-only"]).arg(file).output();
        let text = String::from_utf8_lossy(&nm.expect("nm runs").stdout).into_owned();
        let name = |line: &str| Some(line.split_whitespace().last()?.split('@').next()?.to_owned());
        text.lines().filter_map(name).collect()
    };
    let (theirs, ours) = (names(Path::new(libc)), names(build::library()));
    let has_second = |name: &&String| theirs.contains(name) && theirs.contains(&format!("__libc_{name}"));
    let firsts: Vec<_> = ours.iter().filter(has_second).collect();
    assert!(firsts.len() >= 7, "{firsts:?}");
    for name in firsts {
        assert!(ours.contains(&format!("__libc_{name}")), "__libc_{name} is libc's");
    }
}

/// What the library takes from others, each with the reason why that may be another preloaded library's:
/// nothing here is called by a thread of ours (`os/helper.rs`), but for the first group.
const TAKEN: [(&str, &[&str]); 7] = [
    (
        "works on its arguments alone; compilers turn copies into it",
        &["memcpy", "memmove", "memset", "bcmp", "memcmp", "strlen"],
    ),
    (
        "data, or a look into a table that the kernel made; at the start, and at the first look at the clock",
        &["environ", "getauxval"],
    ),
    (
        "errno of a program's thread whose call fails; its address for a helper, by the thread that makes it",
        &["__errno_location"],
    ),
    (
        "the way to what we stand in front of, in that call; a program's thread, with its tables set",
        &["dlsym", "dlclose", "dladdr"],
    ),
    (
        "a program's thread is to be told of its end, with its tables set",
        &["pthread_key_create", "pthread_key_delete", "pthread_setspecific"],
    ),
    (
        "who listens for memory that goes is told, at the end of a program's call, with no lock held",
        &["munmap", "madvise"],
    ),
    (
        "what the program asks for: malloc_info writes to its stream, new calls its handler",
        &["fwrite", "_ZSt15get_new_handlerv"],
    ),
];

#[test]
fn only_these_may_be_called() {
    let output =
        std::process::Command::new("nm").args(["-D", "--undefined-only"]).arg(build::library()).output();
    let output = output.expect("binutils are installed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("names are ASCII");
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert!(names.iter().any(|name| name.starts_with("memcpy")), "nm shows something else:\n{text}");
    for name in names {
        let plain = name.split('@').next().unwrap_or(name);
        let is_known = TAKEN.iter().any(|(_, known)| known.contains(&plain));
        assert!(
            is_known,
            "{plain} is new: may it be called where another library has it? Add it with the reason"
        );
    }
}
