//! The control group's say on memory.
//!
//! Version 2: `memory.events` counts how often the group ran into `memory.high` and `memory.max`,
//! `memory.pressure` is stall information of its own. Version 1: `memory.pressure_level` signals an
//! eventfd that is registered through `cgroup.event_control`. A machine may have both, with memory in
//! either. Files are looked for where every distribution mounts them, below our own group's path and,
//! in a container that sees its group as the root, at the mount itself.
//!
//! What is opened here stays open: only the watcher, whose descriptors are its own, keeps a [`Group`].

use crate::constants::{CGROUP_LIST_BYTES, CGROUP_PATH_BYTES, CGROUP_TEXT_BYTES};
use core::ffi::CStr;

use super::env::parse_u64;
use super::kept::{Kept, number_after};
use super::psi::{Gauge, Psi};
use super::syscall::{Errno, read_file};

/// A limit of at least this many bytes is none: version 1 says 2^63 less a page.
const UNLIMITED: u64 = 1 << 60; // (given) by the kernel

/// What is watched of a group; each may be absent.
pub struct Group {
    /// Version 2's counters, and their values when last looked at.
    events: Option<(Kept, Events)>,
    /// Version 1's notices: from "medium" up, and "critical".
    notices: [Option<Notice>; 2],
    /// The group's own stall information.
    pub stalls: Option<Psi>,
    /// Bytes the group may use: the least of what it and its parents say.
    pub limit: Option<u64>,
}

/// Times the group ran into its limits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Events {
    high: u64,
    max: u64,
    oom: u64,
}

/// A registered notice. The registration lives as long as both files.
struct Notice {
    event: Kept,
    _level: Kept,
}

/// Room for what is read of these files: more than the stack of a caller of malloc may have. Of one caller at
/// a time.
pub struct Space {
    list: [u8; CGROUP_LIST_BYTES],
    text: [u8; CGROUP_TEXT_BYTES],
    path: Path,
}

type Path = [u8; CGROUP_PATH_BYTES];

impl Space {
    /// Room.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Space {
        Space { list: [0; CGROUP_LIST_BYTES], text: [0; CGROUP_TEXT_BYTES], path: [0; CGROUP_PATH_BYTES] }
    }
}

/// What could be opened, and why something could not.
pub struct Report {
    /// `memory.events`.
    pub events: Result<(), Errno>,
    /// `memory.pressure_level`.
    pub notices: Result<(), Errno>,
    /// `memory.pressure`; with a reason if it has no trigger.
    pub stalls: Result<Option<Errno>, Errno>,
}

const MISSING: Errno = Errno(libc::ENOENT);

impl Group {
    /// Opens what there is to watch.
    pub fn open(now_us: u64) -> (Group, Report) {
        let Space { list, text, path } = &mut Space::new();
        let len = read_file(c"/proc/self/cgroup", list).unwrap_or(0);
        let two = Place::two(&list[..len]);
        let one = Place::one(&list[..len]);
        let events =
            two.find("memory.events", path, |path| Kept::open(path, libc::O_RDONLY)).and_then(|file| {
                let seen = file.read_again(text).map(parse_events)?;
                Ok((file, seen))
            });
        let stalls = two.find("memory.pressure", path, |path| Psi::open(path, now_us));
        let mut notices = [const { None }; 2];
        let mut noticed = Ok(());
        for (level, place) in [&b"medium\0"[..], b"critical\0"].iter().zip(&mut notices) {
            match Notice::register(&one, path, level) {
                Ok(notice) => *place = Some(notice),
                Err(errno) => noticed = Err(errno),
            }
        }
        let limits = ["memory.max", "memory.high"].map(|name| two.limit(name, path));
        let limit = limits.into_iter().chain([one.limit("memory.limit_in_bytes", path)]).flatten().min();
        let report = Report {
            events: events.as_ref().map(|_| ()).map_err(|&errno| errno),
            notices: noticed,
            stalls: stalls.as_ref().map(|(_, refused)| *refused).map_err(|&errno| errno),
        };
        let stalls = stalls.ok().map(|(psi, _)| psi);
        (Group { events: events.ok(), notices, stalls, limit }, report)
    }

    /// 0, 1 or 2: nothing since the last call, the group runs into its limits, or is out of memory.
    pub fn level(&mut self) -> u32 {
        let mut level = 0;
        if let Some((file, seen)) = &mut self.events {
            let mut text = [0; CGROUP_TEXT_BYTES];
            if let Ok(text) = file.read_again(&mut text) {
                let now = parse_events(text);
                level = severity(*seen, now);
                *seen = now;
            }
        }
        for (at, notice) in self.notices.iter().flatten().enumerate() {
            if notice.event.was_signalled() {
                level = level.max(at as u32 + 1);
            }
        }
        level
    }

    /// Whether anything is watched.
    pub fn watches(&self) -> bool {
        self.events.is_some() || self.notices.iter().any(Option::is_some) || self.stalls.is_some()
    }
}

/// The same without anything kept open: version 2's counters and stalls.
pub struct Glance {
    seen: Option<Events>,
    stalls: Gauge,
}

impl Glance {
    /// Never looked at.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Glance {
        Glance { seen: None, stalls: Gauge::new() }
    }

    /// As [`Group::level`], with the stalls.
    pub fn level(&mut self, space: &mut Space, now_us: u64) -> u32 {
        let Space { list, text, path } = space;
        let len = read_file(c"/proc/self/cgroup", list).unwrap_or(0);
        let place = Place::two(&list[..len]);
        let read = |path: &CStr| read_file(path, text).map(|len| parse_events(&text[..len]));
        let now = place.find("memory.events", path, read);
        let mut level = 0;
        if let Ok(now) = now {
            level = severity(self.seen.unwrap_or(now), now);
            self.seen = Some(now);
        }
        let stalls = &mut self.stalls;
        level.max(place.find("memory.pressure", path, |path| Ok(stalls.glance(path, now_us))).unwrap_or(0))
    }
}

impl Notice {
    fn register(place: &Place<'_>, path: &mut Path, level: &[u8]) -> Result<Notice, Errno> {
        let file = place.find("memory.pressure_level", path, |path| Kept::open(path, libc::O_RDONLY))?;
        let control = place.find("cgroup.event_control", path, |path| Kept::open(path, libc::O_WRONLY))?;
        let event = Kept::eventfd()?;
        let mut line = super::line::Line::plain();
        line.dec(event.fd() as u64).str(" ").dec(file.fd() as u64).str(" ").bytes(level);
        control.write(line.as_bytes())?;
        Ok(Notice { event, _level: file })
    }
}

fn parse_events(text: &[u8]) -> Events {
    let number = |name: &[u8]| number_after(text, name).unwrap_or(0);
    Events { high: number(b"high"), max: number(b"max"), oom: number(b"oom") }
}

fn severity(before: Events, now: Events) -> u32 {
    if now.max > before.max || now.oom > before.oom { 2 } else { u32::from(now.high > before.high) }
}

/// Where a group's files are: the mounts to try, and the group's path below them.
struct Place<'a> {
    mounts: &'static [&'static str],
    group: &'a [u8],
}

impl<'a> Place<'a> {
    /// Of version 2: the line `0::/path`.
    fn two(list: &'a [u8]) -> Place<'a> {
        let group = lines(list).find_map(|line| line.strip_prefix(b"0::"));
        Place { mounts: &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], group: group.unwrap_or(b"/") }
    }

    /// Of version 1: the line `4:memory:/path`.
    fn one(list: &'a [u8]) -> Place<'a> {
        let group = lines(list).find_map(|line| {
            let mut fields = line.splitn(3, |&byte| byte == b':');
            let controllers = fields.nth(1)?;
            let has_memory = controllers.split(|&byte| byte == b',').any(|name| name == b"memory");
            has_memory.then(|| fields.next())?
        });
        Place { mounts: &["/sys/fs/cgroup/memory"], group: group.unwrap_or(b"/") }
    }

    /// The first of the places where there is a `name`, opened.
    fn find<T>(
        &self,
        name: &str,
        path: &mut Path,
        mut open: impl FnMut(&CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        for mount in self.mounts {
            for group in [self.group, b"/"] {
                match in_path(path, mount, group, name, &mut open) {
                    Err(MISSING) => {}
                    found => return found,
                }
            }
        }
        Err(MISSING)
    }

    /// The least of the limits `name` of the group and its parents.
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn limit(&self, name: &str, path: &mut Path) -> Option<u64> {
        let mut least = None;
        for mount in self.mounts {
            let mut group = self.group;
            loop {
                let found = in_path(path, mount, group, name, &mut |path: &CStr| {
                    let mut text = [0; 32];
                    let len = read_file(path, &mut text)?;
                    // "max" is no number and no limit.
                    Ok(parse_u64(text[..len].trim_ascii()).filter(|&limit| limit < UNLIMITED))
                });
                least = [least, found.ok().flatten()].into_iter().flatten().min();
                match group.iter().rposition(|&byte| byte == b'/') {
                    Some(at) if group.len() > 1 => group = &group[..at.max(1)],
                    _ => break,
                }
            }
        }
        least
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n')
}

/// Calls `open` with `mount` `group` / `name`.
fn in_path<T>(
    path: &mut Path,
    mount: &str,
    group: &[u8],
    name: &str,
    open: &mut impl FnMut(&CStr) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let mut at = 0;
    let group = if group == b"/" { b"" } else { group };
    for part in [mount.as_bytes(), group, b"/", name.as_bytes(), b"\0"] {
        let Some(place) = path.get_mut(at..at + part.len()) else { return Err(MISSING) };
        place.copy_from_slice(part);
        at += part.len();
    }
    CStr::from_bytes_with_nul(&path[..at]).map_err(|_| MISSING).and_then(open)
}

/// What this process may use at most: what its control groups allow, or all of the machine's memory.
pub fn memory_limit(space: &mut Space) -> u64 {
    let Space { list, path, .. } = space;
    let len = read_file(c"/proc/self/cgroup", list).unwrap_or(0);
    let (one, two) = (Place::one(&list[..len]), Place::two(&list[..len]));
    let limits = [one.limit("memory.limit_in_bytes", path), two.limit("memory.max", path)];
    let limits = limits.into_iter().chain([machine_memory()]);
    limits.flatten().min().unwrap_or(u64::MAX)
}

/// Bytes of RAM.
fn machine_memory() -> Option<u64> {
    let mut text = [0; 128];
    let len = read_file(c"/proc/meminfo", &mut text).ok()?;
    number_after(&text[..len], b"MemTotal:").map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = b"9:name=systemd:/\n4:cpu,memory:/a/b\n3:cpuset:/\n0::/user.slice/x\n";

    #[test]
    fn places() {
        assert_eq!(Place::one(LIST).group, b"/a/b");
        assert_eq!(Place::two(LIST).group, b"/user.slice/x");
        assert_eq!(Place::one(b"0::/\n").group, b"/");
        assert_eq!(Place::two(b"").group, b"/");
        let path = &mut [0; CGROUP_PATH_BYTES];
        let mut at =
            |group: &[u8], whole| in_path(path, "/m", group, "f", &mut |path: &CStr| Ok(path == whole));
        assert_eq!((at(b"/a/b", c"/m/a/b/f"), at(b"/", c"/m/f")), (Ok(true), Ok(true)));
        let long = [b'x'; CGROUP_PATH_BYTES];
        assert_eq!(in_path(path, "/m", &long, "f", &mut |_: &CStr| Ok(())), Err(MISSING));
    }

    #[test]
    fn events() {
        let before = parse_events(b"low 0\nhigh 2\nmax 3\noom 0\noom_kill 9\n");
        assert_eq!(before, Events { high: 2, max: 3, oom: 0 });
        assert_eq!(severity(before, before), 0);
        assert_eq!(severity(before, Events { high: 3, ..before }), 1);
        assert_eq!(severity(before, Events { max: 4, ..before }), 2);
        assert_eq!(severity(before, Events { oom: 1, ..before }), 2);
    }

    #[test]
    fn this_machine() {
        let limit = memory_limit(&mut Space::new());
        assert!(limit > 1 << 20 && limit < u64::MAX, "{limit}");
        let (group, report) = Group::open(0);
        assert_eq!(group.events.is_some(), report.events.is_ok());
        assert_eq!(group.stalls.is_some(), report.stalls.is_ok());
    }
}
