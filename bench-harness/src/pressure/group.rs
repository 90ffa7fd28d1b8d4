//! Control groups with a limit on memory, of whichever version the machine has its memory controller in.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::measure::child::Child;
use crate::outcome::Refusal;
use crate::peers::Allocator;

/// Where the memory controller is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    One,
    Two,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::One => "version 1",
            Kind::Two => "version 2",
        })
    }
}

impl Kind {
    /// The version in which a group with a limit can be made here; a refusal says why in neither.
    pub fn find() -> Result<Kind, Refusal> {
        let mut reasons = Vec::new();
        for kind in [Kind::Two, Kind::One] {
            match Group::new(kind, 64 << 20) {
                Ok(_) => return Ok(kind),
                Err(reason) => reasons.push(format!("{kind}: {}", reason.0)),
            }
        }
        Err(Refusal(format!("no control group may be made ({})", reasons.join("; "))))
    }

    fn mounts(self) -> &'static [&'static str] {
        match self {
            Kind::One => &["/sys/fs/cgroup/memory"],
            Kind::Two => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
        }
    }

    /// The line of /proc/self/cgroup that is about it.
    fn own(self) -> Option<String> {
        let groups = procfs::process::Process::myself().and_then(|process| process.cgroups()).ok()?;
        let ours = groups.into_iter().find(|group| match self {
            Kind::One => group.controllers.iter().any(|one| one == "memory"),
            Kind::Two => group.hierarchy == 0,
        });
        Some(ours?.pathname.trim_start_matches('/').to_owned())
    }
}

/// A group; removed when dropped.
pub struct Group(PathBuf);

static MADE: AtomicU32 = AtomicU32::new(0);

impl Group {
    /// Makes one that may use `bytes` of memory and no swap.
    pub fn new(kind: Kind, bytes: u64) -> Result<Group, Refusal> {
        let own = kind.own().ok_or_else(|| Refusal("we are in no such group".to_owned()))?;
        // Relaxed: a number of our own.
        let name = format!("rcumalloc-bench-{}-{}", std::process::id(), MADE.fetch_add(1, Relaxed));
        let mount =
            kind.mounts().iter().map(Path::new).find(|mount| mount.join(&own).join("cgroup.procs").exists());
        let path = mount.ok_or_else(|| Refusal("not mounted".to_owned()))?.join(own).join(name);
        fs::create_dir(&path).map_err(Refusal::of(path.display()))?;
        let group = Group(path);
        let limit = match kind {
            Kind::One => "memory.limit_in_bytes",
            Kind::Two => "memory.max",
        };
        if !group.0.join(limit).exists() {
            return Err(Refusal("it has no memory controller".to_owned()));
        }
        fs::write(group.0.join(limit), bytes.to_string()).map_err(Refusal::of(limit))?;
        // Where there is swap, the limit would not be one.
        let _ = match kind {
            Kind::One => fs::write(group.0.join("memory.memsw.limit_in_bytes"), bytes.to_string()),
            Kind::Two => fs::write(group.0.join("memory.swap.max"), "0"),
        };
        Ok(group)
    }

    /// The measured side `kind` of `job`, under `allocator`, in this group.
    pub fn inner(&self, kind: &str, job: &Value, allocator: &Allocator) -> Result<Child, Refusal> {
        let own = std::env::current_exe().map_err(Refusal::of("cannot find my own binary"))?;
        let enter = format!("echo $$ > '{}/cgroup.procs' && exec \"$0\" \"$@\"", self.0.display());
        let child = Child::new("/bin/sh").args(["-c", &enter]).args([own.as_os_str()]);
        Ok(child.args(["inner", kind, &job.to_string()]).under(allocator))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last process may not have left yet.
        let until = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
