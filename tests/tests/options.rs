//! `rcumalloc_set` and `rcumalloc_get`, and the configuration file.

use rcumalloc_tests::{Outcome, Victim, build, command, skipped};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn options_change_while_the_program_runs() {
    let outcome = Victim::new("options").run();
    assert_eq!(outcome.text(), "went on\n", "{outcome}");
    let ours = outcome.ours();
    assert!(ours.len() == 2 && ours.iter().all(|line| line.starts_with("rcumalloc: free(0x")), "{outcome}");
}

/// Each option that docs/configuration.md lists refuses with one line what it does not understand, and the
/// program runs; three are paths, which may be anything.
#[test]
fn each_option_refuses_what_it_does_not_understand() {
    let page = std::fs::read_to_string(build::root().join("docs/configuration.md")).expect("there is a page");
    let names = page.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next());
    let names: Vec<&str> = names.filter(|name| name.starts_with("RCUMALLOC_")).collect();
    let paths = ["RCUMALLOC_STATS", "RCUMALLOC_PROFILE_FILE", "RCUMALLOC_CONF"];
    assert!(names.len() > 15 && paths.iter().all(|name| names.contains(name)), "{names:?}");
    for name in names.into_iter().filter(|name| !paths.contains(name)) {
        for value in ["~", "", " 1 ", "0x10", "99999999999999999999"] {
            let line = format!("rcumalloc: {name}={value}: not understood; the default is in force");
            command(build::installed("true")).env(name, value).run().success().said(&[&line]);
        }
    }
}

/// What a program that says what is in force says with this file and these variables.
fn configured(file: &str, variables: &[(&str, &str)]) -> Outcome {
    let path = build::scratch("configured").join("rcumalloc.conf");
    std::fs::write(&path, file).expect("a file can be written");
    let victim = Victim::new("configured").env("RCUMALLOC_CONF", &path);
    let outcome =
        variables.iter().fold(victim, |victim, (name, value)| victim.env(name, value)).run().success();
    // The path is not what is compared.
    assert!(outcome.text().ends_with("next descriptor 3\n"), "a descriptor was left open\n{outcome}");
    outcome
}

/// What the library said of a file, without its path.
fn said(outcome: &Outcome) -> Vec<String> {
    let ours = outcome.ours().into_iter();
    ours.map(|line| line.split_once("rcumalloc.conf:").map_or(line.clone(), |(_, rest)| rest.to_owned()))
        .collect()
}

#[test]
fn a_configuration_file_says_what_the_environment_does_not() {
    let plain = configured("", &[]);
    assert_eq!(said(&plain), [""; 0], "{plain}");
    let all = "# Of this machine.\n\nRCUMALLOC_BUDGET = 4M\nRCUMALLOC_GP_AGE_MS=11\r\n\
               \tRCUMALLOC_BACKOFF_MS=12\nRCUMALLOC_STALL_MS=13\nRCUMALLOC_ON_ERROR=report\n\
               RCUMALLOC_LIMIT=1G\nRCUMALLOC_HARD_LIMIT=2G\n\
               RCUMALLOC_GP_AGE_MS=14";
    let outcome = configured(all, &[("RCUMALLOC_STALL_MS", "99")]);
    let expected = "BUDGET 4194304\nGP_AGE_MS 14\nBACKOFF_MS 12\nSTALL_MS 99\nON_ERROR report\n\
                    LIMIT 1073741824\nHARD_LIMIT 2147483648\nnext descriptor 3\n";
    assert_eq!((outcome.text().as_str(), said(&outcome).len()), (expected, 0), "{outcome}");

    // A line for each that is none, and the rest is obeyed.
    let bad = "RCUMALLOC_LIMIT 1G\nRCUMALLOC_LIMITS=1G\nRCUMALLOC_STALL_MS=soon\nRCUMALLOC_CONF=/etc/passwd\n\
               RCUMALLOC_BUDGET=9M\n";
    let outcome = configured(bad, &[]);
    assert!(outcome.text().starts_with("BUDGET 9437184\n") && !outcome.text().contains("LIMIT"), "{outcome}");
    let expected = [
        "1: not an option: RCUMALLOC_LIMIT 1G",
        "2: not an option: RCUMALLOC_LIMITS=1G",
        "4: not an option: RCUMALLOC_CONF=/etc/passwd",
        "rcumalloc: RCUMALLOC_STALL_MS=soon in line 3 of the configuration file: not understood; the default \
         is in force",
    ];
    assert_eq!(said(&outcome), expected, "{outcome}");

    // What is too long is refused, not cut: a number would be another one.
    let long = format!("RCUMALLOC_STALL_MS={}1\n", "0".repeat(70));
    assert_eq!(said(&configured(&long, &[])).len(), 1);
    let zeros = "0".repeat(70);
    assert_eq!(said(&configured("", &[("RCUMALLOC_STALL_MS", &format!("{zeros}1"))])).len(), 1);
    let endless = "#\n".repeat(4000);
    let outcome = configured(&endless, &[]);
    assert!(outcome.ours().len() == 1 && outcome.ours()[0].ends_with("too long; not obeyed"), "{outcome}");
    for (path, said) in [("/nowhere/to/be/found", 1), ("", 0), ("/dev/null", 0), ("/", 1)] {
        let outcome = Victim::new("configured").env("RCUMALLOC_CONF", path).run().success();
        assert_eq!((outcome.text(), outcome.ours().len()), (plain.text(), said), "{path}: {outcome}");
    }
}

/// The file in /etc, and what programs with more rights than their caller heed: not the environment, and the
/// file only if it is root's alone.
#[test]
fn the_file_in_etc_is_for_programs_with_more_rights() {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        return skipped(
            "only root can put another directory in the place of /etc, and set a program's owner",
        );
    }
    let dir = build::scratch("configured_etc");
    let library = dir.join("librcumalloc.so.1");
    std::fs::copy(build::library(), &library).expect("the library can be copied");
    // The program calls nothing by which the linker would see that it needs the library.
    let flags = [
        "-Wl,--no-as-needed".to_owned(),
        library.display().to_string(),
        format!("-Wl,-rpath,{}", dir.display()),
    ];
    let flags = flags.each_ref().map(String::as_str);
    let made = build::compile(&format!("configured.{}", std::process::id()), "configured", &flags);
    let program = dir.join("configured");
    std::fs::rename(made, &program).expect("the victim can be moved");
    let (etc, other) = (dir.join("etc"), dir.join("other.conf"));
    std::fs::create_dir_all(&etc).expect("a directory can be made");
    let file = etc.join("rcumalloc.conf");
    std::fs::write(&file, "RCUMALLOC_STALL_MS=13\n").expect("a file can be written");
    std::fs::write(&other, "RCUMALLOC_STALL_MS=14\n").expect("a file can be written");
    let run = |named: bool| {
        let script = format!("mount --bind {} /etc && exec {}", etc.display(), program.display());
        let shell = command(build::installed("unshare")).on_glibc().args(["-m", "sh", "-c", &script]);
        let shell = if named { shell.env("RCUMALLOC_CONF", &other) } else { shell };
        shell.run().success()
    };
    let stall = |outcome: &Outcome| outcome.number("STALL_MS");
    let permit = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("root can chmod");
    };
    permit(&file, 0o644);
    assert_eq!((stall(&run(false)), stall(&run(true))), (13, 14));
    std::os::unix::fs::chown(&program, Some(65534), Some(65534)).expect("root can chown");
    permit(&program, 0o6755);
    let outcome = run(true).said(&[]);
    assert_eq!(stall(&outcome), 13, "the environment is not obeyed, and /etc is\n{outcome}");
    permit(&file, 0o666);
    let outcome = run(false);
    assert!(stall(&outcome) == 10_000 && outcome.ours().len() == 1, "{outcome}");
    std::fs::remove_dir_all(dir).expect("the scratch directory can be removed");
}
