//! Who tells the shrinker: the environment, limits, signals, the kernel; and the watcher's life.
//!
//! What needs privileges or a certain mount is set up for the victim alone and taken away again; where
//! that is not possible the test says so and what is missing, and checks what is left.

use rcumalloc_tests::{Outcome, Victim, build, command, skipped};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const MIB: u64 = 1024; // in KiB, as the kernel counts resident memory

// The numbers of rcumalloc.h.
const PSI: &str = "4";
const CGROUP: &str = "5";
const SIGUSR2: &str = "12";

fn watcher(what: &str) -> Outcome {
    Victim::new("watcher").arg(what).patience(300).run()
}

/// A program with 64 MiB that nothing ages.
fn pressured<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Victim {
    Victim::new("pressured").args(args).env("RCUMALLOC_DECAY_MS", "off")
}

#[test]
fn environment() {
    let verbose = |name: &str, value: &str| {
        let outcome =
            pressured(["level", "0"]).env("RCUMALLOC_VERBOSE", "1").env(name, value).run().success();
        outcome.ours()
    };
    for (name, bad) in [
        ("RCUMALLOC_PRESSURE", ""),
        ("RCUMALLOC_PRESSURE", "bad"),
        ("RCUMALLOC_PRESSURE", "psi,"),
        ("RCUMALLOC_PRESSURE", "off,psi"),
        ("RCUMALLOC_PRESSURE", "signal:KILL"),
        ("RCUMALLOC_LIMIT", "0"),
        ("RCUMALLOC_LIMIT", "0%"),
        ("RCUMALLOC_LIMIT", "many"),
        ("RCUMALLOC_LIMIT", "101%"),
    ] {
        let said = verbose(name, bad);
        let line = format!("rcumalloc: {name}={bad}: not understood; the default is in force");
        assert!(said.len() == 2 && said[0] == line, "{said:?}");
        assert!(said[1].contains(" pressure=psi,cgroup limit=none"), "{said:?}");
    }
    for (name, good, shown) in [
        ("RCUMALLOC_PRESSURE", "psi", " pressure=psi limit=none"),
        ("RCUMALLOC_PRESSURE", "cgroup,signal:USR2", " pressure=cgroup,signal:12 limit=none"),
        ("RCUMALLOC_PRESSURE", "off", " pressure=off limit=none"),
        ("RCUMALLOC_LIMIT", "48M", " pressure=psi,cgroup limit=50331648 bytes"),
    ] {
        let said = verbose(name, good);
        assert!(said.len() == 1 && said[0].contains(shown), "{said:?}");
    }
    let said = verbose("RCUMALLOC_LIMIT", "50%");
    assert!(said.len() == 1 && !said[0].contains("limit=none"), "{said:?}");
}

#[test]
fn pressure_by_the_program() {
    let rss = |level: &str| {
        let outcome = pressured(["level", level]).run().success();
        (outcome.number("rss_before_kib"), outcome.number("rss_after_kib"), outcome.number("scans"))
    };
    let (before, after, scans) = rss("0");
    assert!(scans == 0 && after + MIB > before, "{before} {after}");
    let (before, after, _) = rss("1");
    assert!(after > before / 4 && after < before - before / 4, "{before} {after}");
    let (_, after, _) = rss("2");
    assert!(after < 8 * MIB, "{after}");
}

#[test]
fn limit() {
    let without = pressured(["limit"]).run().success();
    assert!(without.number("rss_between_kib") > 64 * MIB && without.number("scans") == 0, "{without}");
    let with = pressured(["limit"]).env("RCUMALLOC_LIMIT", "32M").run().success();
    assert!(with.number("scans") > 0, "{with}");
    with.below("rss_between_kib", 40 * MIB);
    // What the program holds is not refused, and not every slow path scans: 128 MiB in steps of 1.
    let held = pressured(["held"]).env("RCUMALLOC_LIMIT", "32M").run().success();
    assert!(held.number("scans") > 0, "{held}");
    held.below("scans", 160);
}

#[test]
fn signal() {
    let outcome = pressured(["signal", SIGUSR2]).env("RCUMALLOC_PRESSURE", "signal:USR2").run().success();
    // Nothing is done in the handler; then the next slow path serves; then the watcher.
    assert_eq!(outcome.number("scans_in_handler"), 0, "{outcome}");
    assert_eq!(outcome.number("scans_solo"), 1, "{outcome}");
    assert_eq!(outcome.number("scans_asleep"), 2, "{outcome}");
    // A handler of the program's own takes the place of ours.
    let outcome = pressured(["handled", SIGUSR2]).env("RCUMALLOC_PRESSURE", "signal:USR2").run().success();
    assert_eq!(outcome.number("handled"), 1, "{outcome}");
    assert_eq!((outcome.number("scans"), outcome.number("still_ours")), (0, 1), "{outcome}");
    // One that is ignored when the program starts stays ignored.
    let shell = command(build::installed("sh")).env("RCUMALLOC_PRESSURE", "signal:USR2");
    let ignored = shell.args(["-c", "trap '' USR2; exec \"$0\" level 0"]).arg(build::program("pressured"));
    let line = "rcumalloc: RCUMALLOC_PRESSURE: signal 12 is in use or ignored; it will not be listened to";
    ignored.run().success().said(&[line]);
}

#[test]
fn watcher_life() {
    let outcome = watcher("life").success();
    assert_eq!((outcome.number("solo"), outcome.number("watcher")), (0, 1), "{outcome}");
    // All signals blocked, no rights, no directory, and nothing in the program's own table.
    assert_eq!(outcome.word("cwd"), "/", "{outcome}");
    assert_ne!(outcome.word("own_cwd"), "/", "{outcome}");
    let field = |name: &str| {
        let text = outcome.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_string);
        line.unwrap_or_else(|| panic!("no {name}\n{outcome}"))
    };
    assert_eq!(field("SigBlk:\t"), "fffffffffffbfeff", "{outcome}");
    assert_eq!((field("CapPrm:\t"), field("CapEff:\t")), ("0".repeat(16), "0".repeat(16)), "{outcome}");
    assert!(!field("Uid:\t").starts_with("0\t") && !field("Gid:\t").starts_with("0\t"), "{outcome}");
    assert_eq!(outcome.number("dumpable"), 1, "{outcome}");
    assert_eq!(outcome.number("descriptors_before"), outcome.number("descriptors_after"), "{outcome}");
    // And gone when the other thread is.
    assert_eq!((outcome.number("watcher_after"), outcome.number("threads_after")), (0, 1), "{outcome}");
}

#[test]
fn watcher_off() {
    let outcome = Victim::new("watcher").arg("life").env("RCUMALLOC_PRESSURE", "off").run().success();
    assert_eq!((outcome.number("watcher"), outcome.number("threads_after")), (0, 1), "{outcome}");
}

#[test]
fn watcher_and_unshare() {
    let outcome = watcher("unshare").success();
    assert_eq!((outcome.number("watcher"), outcome.number("threads_after")), (1, 1), "{outcome}");
    assert_ne!(outcome.word("unshare"), "Invalid argument", "{outcome}");
}

#[test]
fn watcher_and_descriptors() {
    let outcome = watcher("descriptors").success();
    assert_eq!(outcome.number("watcher"), 1, "{outcome}");
    assert_eq!((outcome.number("written"), outcome.number("eof")), (0, 1), "{outcome}");
}

#[test]
fn watcher_and_fork() {
    let outcome = watcher("forks").success();
    assert_eq!((outcome.number("watcher"), outcome.number("threads_after")), (1, 1), "{outcome}");
    let outcome = watcher("churn").success();
    assert_eq!((outcome.number("watcher_after"), outcome.number("threads_after")), (0, 1), "{outcome}");
}

#[test]
fn watcher_and_the_end() {
    assert_eq!(watcher("exit").exited(7).number("watcher"), 1);
    let outcome = watcher("exec").exited(5);
    assert_eq!((outcome.number("watcher"), outcome.number("threads_after")), (1, 1), "{outcome}");
    assert_eq!(outcome.number("descriptors"), outcome.number("descriptors_before"), "{outcome}");
    // libc's last thread ends the process, whatever main has done.
    let outcome = watcher("pthread_exit").success();
    assert_eq!((outcome.number("watcher"), outcome.number("watcher_after")), (1, 0), "{outcome}");
    // Threads that end without libc: the watcher finds itself alone.
    let alone = Victim::new("watcher").arg("raw_exit").patience(90).run();
    assert_eq!(alone.success().number("watcher"), 1);
}

/// valgrind ends a program at a clone it does not know.
#[test]
fn watcher_under_valgrind() {
    let valgrind = command(build::installed("valgrind")).args(["-q", "--tool=none"]);
    let outcome = valgrind.arg(build::program("watcher")).arg("once").patience(300).run().success();
    assert_eq!(outcome.number("watcher"), 0, "{outcome}");
    assert_eq!(watcher("once").success().number("watcher"), 1);
}

#[test]
fn watcher_and_credentials() {
    if !is_root() {
        return skipped("not root: nothing to give up");
    }
    let outcome = watcher("credentials").success();
    assert_eq!((outcome.number("watcher"), outcome.number("threads")), (1, 3), "{outcome}");
    assert_eq!(outcome.number("privileged"), 0, "{outcome}");
}

fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}

/// A control group of version `mount`, below the one we are in; removed when dropped.
struct Group(PathBuf);

impl Group {
    /// None where it may not be made; `controllers` is the line of /proc/self/cgroup that names ours.
    fn new(mount: &str, controllers: &str, name: &str) -> Option<Group> {
        let list = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = list.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (which, path) = rest.split_once(':')?;
            (which.split(',').any(|one| one == controllers)).then(|| path.trim_start_matches('/').to_string())
        })?;
        let path = Path::new(mount).join(own).join(format!("{name}-{}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Some(Group(path)),
            Err(error) => {
                skipped(&format!("{}: {error}", path.display()));
                None
            }
        }
    }

    fn limit(self, bytes: u64) -> Option<Group> {
        let set = fs::write(self.0.join("memory.limit_in_bytes"), bytes.to_string());
        set.map_err(|error| skipped(&format!("memory.limit_in_bytes: {error}"))).ok().map(|()| self)
    }

    /// A shell command that enters the group.
    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs && ", self.0.display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Where a watcher gets to what lies idle, freeing leaves most of it to the watcher: a heap that swings does
/// not fault for each swing.
#[test]
fn a_heap_that_swings_beside_a_watcher_keeps_its_pages() {
    let watched = Victim::new("swinging").run().success();
    assert_eq!(watched.number("watched"), 1, "{watched}");
    let most = 4 * 1024 + 64 * (watched.number("ms") + 10);
    assert!(watched.number("purged_kib") <= most, "{watched}");
    let alone = Victim::new("swinging").env("RCUMALLOC_PRESSURE", "off").run().success();
    assert_eq!(alone.number("watched"), 0, "{alone}");
    assert!(alone.number("purged_kib") > 24 * 1024, "{alone}");
}

/// One at a time: two that thrash share the disk, and neither stalls for long enough.
static ALONE: Mutex<()> = Mutex::new(());

/// Thrashes in the groups `enter` says, when the victim has made itself ready, until dropped.
struct Thrash(Child);

impl Thrash {
    fn start(enter: &str, name: &str) -> Thrash {
        let file = build::scratch(name).join("file");
        let command = format!("sleep 2 && {enter} exec \"$0\" \"$1\" 30");
        let mut shell = Command::new(build::installed("sh"));
        shell.args(["-c", &command]).arg(build::program("thrash")).arg(file).stdin(Stdio::null());
        Thrash(shell.spawn().expect("a shell can be started"))
    }
}

impl Drop for Thrash {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The victim, in the groups `enter` says, waits for a scan for `reason` while somebody thrashes.
fn under_pressure(enter: &str, thrash: &str, sources: &str, reason: &str, name: &str) -> Outcome {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let _thrash = Thrash::start(thrash, name);
    let shell =
        command(build::installed("sh")).env("RCUMALLOC_DECAY_MS", "off").env("RCUMALLOC_PRESSURE", sources);
    let line = format!("{enter} exec \"$0\" wait {reason} 20");
    shell.args(["-c", &line]).arg(build::program("pressured")).run().success()
}

const V1: &str = "/sys/fs/cgroup/memory";

/// A group of version 2, wherever that is mounted.
fn group_of_two(name: &str) -> Option<Group> {
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let mount = mounts.into_iter().find(|mount| Path::new(mount).join("cgroup.procs").exists())?;
    Group::new(mount, "", name)
}

#[test]
fn psi() {
    if fs::read("/proc/pressure/memory").is_err() {
        return skipped("no stall information (CONFIG_PSI, psi=1)");
    }
    let Some(small) = Group::new(V1, "memory", "rcumalloc-psi").and_then(|group| group.limit(48 << 20))
    else {
        return skipped("no control group may be made to thrash in");
    };
    let outcome = under_pressure("", &small.enter(), "psi", PSI, "psi");
    assert!(outcome.number("scans") > 0, "{outcome}");
    assert!(outcome.number("rss_after_kib") < outcome.number("rss_before_kib") * 3 / 4, "{outcome}");
}

#[test]
fn cgroup_stalls() {
    let small = Group::new(V1, "memory", "rcumalloc-stalls").and_then(|group| group.limit(48 << 20));
    let (Some(small), Some(group)) = (small, group_of_two("rcumalloc-stalls")) else {
        return skipped("it takes a group of each version that may be made");
    };
    if fs::read(group.0.join("memory.pressure")).is_err() {
        return skipped("groups have no memory.pressure here");
    }
    // A version 1 group tells its parents, us among them: the victim is beside it, not above.
    let Some(beside) = Group::new(V1, "memory", "rcumalloc-beside") else { return };
    let thrash = group.enter() + &small.enter();
    let outcome = under_pressure(&(group.enter() + &beside.enter()), &thrash, "cgroup", CGROUP, "stalls");
    assert!(outcome.number("scans") > 0, "{outcome}");
}

#[test]
fn cgroup_pressure_level() {
    let group = Group::new(V1, "memory", "rcumalloc-level").and_then(|group| group.limit(200 << 20));
    let Some(group) = group else {
        return skipped("no version 1 group with a limit may be made");
    };
    // Where there are groups of version 2, too, one that does not thrash: its stalls are not to be the
    // reason.
    let calm = group_of_two("rcumalloc-calm");
    let enter = calm.as_ref().map(Group::enter).unwrap_or_default() + &group.enter();
    let outcome = under_pressure(&enter, &group.enter(), "cgroup", CGROUP, "level");
    assert!(outcome.number("scans") > 0, "{outcome}");
}

/// Runs `pressured ARGS` where the shell command `mounts` has changed what is mounted, for it alone.
fn with_mounts(mounts: &str, args: &[&str]) -> Option<Victim> {
    let mut probe = Command::new(build::installed("unshare"));
    if !probe
        .args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output()
        .is_ok_and(|out| out.status.success())
    {
        skipped("no mounts of one's own (unshare -m)");
        return None;
    }
    let unshare = command(build::installed("unshare")).env("RCUMALLOC_DECAY_MS", "off");
    let line = format!("set -e; {mounts}; exec \"$0\" \"$@\"");
    Some(unshare.args(["-m", "sh", "-c", &line]).arg(build::program("pressured")).args(args))
}

/// A machine whose `/sys/fs/cgroup` is version 2, with files we write ourselves.
fn pretended_group(files: &str) -> String {
    format!("mount -t tmpfs none /sys/fs/cgroup; cd /sys/fs/cgroup; {files}; cd /")
}

/// The counters of a version 2 group. Where no memory controller of version 2 is to be had, the kernel's file
/// is played by one of ours: what is read and what follows from it is the same.
#[test]
fn cgroup_events() {
    let files = "printf 'low 0\\nhigh 0\\nmax 0\\noom 0\\n' > memory.events";
    // More than once: who is slow may not have read the first figures yet.
    let later = "(for max in 3 4 5 6 7; do sleep 2; \
         printf \"low 0\\nhigh 0\\nmax $max\\noom 0\\n\" > /sys/fs/cgroup/memory.events; done) &";
    let mounts = format!("{}; {later} true", pretended_group(files));
    let Some(victim) = with_mounts(&mounts, &["wait", CGROUP, "20"]) else { return };
    let outcome = victim.env("RCUMALLOC_PRESSURE", "cgroup").run().success();
    assert_eq!(outcome.number("scans"), 1, "{outcome}");
    outcome.below("rss_after_kib", 16 * MIB);
    // Nothing happens, nothing is given.
    let Some(victim) = with_mounts(&pretended_group(files), &["wait", CGROUP, "4"]) else { return };
    let outcome = victim.env("RCUMALLOC_PRESSURE", "cgroup").run().success();
    assert_eq!(outcome.number("scans"), 0, "{outcome}");
    // A solo process looks for itself, if it was asked to, on its slow paths.
    for (sources, scans) in [("cgroup", 1), ("psi,cgroup", 1), ("psi", 0)] {
        let Some(victim) = with_mounts(&mounts, &["solo", CGROUP, "8"]) else { return };
        let outcome = victim.env("RCUMALLOC_PRESSURE", sources).run().success();
        assert_eq!(outcome.number("scans"), scans, "{sources}\n{outcome}");
    }
}

/// `memory.high` is a limit to stay below.
#[test]
fn cgroup_high() {
    let files = "echo max > memory.max; echo 40000000 > memory.high";
    let Some(victim) = with_mounts(&pretended_group(files), &["limit", "1"]) else { return };
    let outcome = victim.run().success();
    assert!(outcome.number("scans") > 0, "{outcome}");
    outcome.below("rss_between_kib", 48 * MIB);
    // The user's own word counts more.
    let Some(victim) = with_mounts(&pretended_group(files), &["limit", "1"]) else { return };
    let outcome = victim.env("RCUMALLOC_LIMIT", "1G").run().success();
    assert_eq!(outcome.number("scans"), 0, "{outcome}");
}

/// Where no trigger may be set the totals are read, and `RCUMALLOC_VERBOSE` says why.
#[test]
fn psi_without_a_trigger() {
    let text =
        |some: &str| format!("printf \"some avg10=0 total={some}\\nfull avg10=0 total=0\\n\" > /mnt/psi");
    let mounts = format!(
        "mount -t tmpfs none /mnt; {}; mount --bind /mnt/psi /proc/pressure/memory; \
         mount -o remount,ro,bind /proc/pressure/memory; (for second in 1 3 5 7; do sleep 2; {}; done) & \
         true",
        text("0"),
        text("${second}000000")
    );
    let Some(victim) = with_mounts(&mounts, &["wait", PSI, "20"]) else { return };
    let outcome = victim.env("RCUMALLOC_PRESSURE", "psi").env("RCUMALLOC_VERBOSE", "1").run().success();
    assert_eq!(outcome.number("scans"), 1, "{outcome}");
    let line = "rcumalloc: watcher: /proc/pressure/memory: no trigger (writing to it is not permitted), its \
        totals are read";
    assert!(outcome.ours().iter().any(|ours| ours == line), "{outcome}");
}
