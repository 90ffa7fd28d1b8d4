//! What the figures were measured on, when, at which commit, and who else was using the machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use procfs::{Current, CurrentSI};
use serde::{Deserialize, Serialize};

/// The machine, said honestly.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub cpu: String,
    /// Processors this process may use.
    pub processors: usize,
    /// Installed memory, MiB.
    pub memory_mib: u64,
    /// Name and release.
    pub kernel: String,
    /// The C library that the measured programs run on.
    pub glibc: String,
    /// Whether a hypervisor says that it is there.
    pub is_virtual: bool,
}

impl Machine {
    /// Asks the system.
    pub fn look() -> Machine {
        let processors = procfs::CpuInfo::current().ok();
        let field = |name: &str| Some(processors.as_ref()?.get_field(0, name)?.to_owned());
        let unknown = || "unknown".to_owned();
        let memory = procfs::Meminfo::current().map_or(0, |memory| memory.mem_total);
        Machine {
            cpu: format!(
                "{} (family {} model {})",
                field("model name").unwrap_or_else(unknown),
                field("cpu family").unwrap_or_else(unknown),
                field("model").unwrap_or_else(unknown)
            ),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory >> 20,
            kernel: output(Command::new("uname").arg("-sr")),
            glibc: output(Command::new("getconf").arg("GNU_LIBC_VERSION")),
            is_virtual: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }

    /// One line.
    pub fn describe(&self) -> String {
        let kind = if self.is_virtual { "virtual machine" } else { "no hypervisor seen" };
        format!(
            "{}, {} processors, {} MiB, {kind}, {}, {}",
            self.cpu, self.processors, self.memory_mib, self.kernel, self.glibc
        )
    }
}

/// When a run began, and what the machine was doing.
pub struct Moment {
    /// UTC, to the minute.
    pub date: String,
    /// Of the sources, before a result of this run is written among them.
    pub commit: String,
    /// Load average of the last minute.
    pub load: f64,
    when: Instant,
    busy: f64,
    own: f64,
}

impl Moment {
    pub fn now() -> Moment {
        Moment {
            date: output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"])),
            commit: commit(),
            load: load_average(),
            when: Instant::now(),
            busy: busy_seconds(),
            own: own_seconds(),
        }
    }

    /// Seconds since then.
    pub fn seconds(&self) -> f64 {
        self.when.elapsed().as_secs_f64()
    }

    /// Processors that others kept busy since then, on average (stolen by the hypervisor included).
    pub fn by_others(&self) -> f64 {
        let others = (busy_seconds() - self.busy) - (own_seconds() - self.own);
        others.max(0.0) / self.seconds().max(0.01)
    }
}

/// The load average of the last minute.
pub fn load_average() -> f64 {
    procfs::LoadAverage::current().map_or(f64::NAN, |load| f64::from(load.one))
}

/// Processor seconds spent by everybody.
fn busy_seconds() -> f64 {
    let Ok(all) = procfs::KernelStats::current() else { return 0.0 };
    let time = all.total;
    // All but idle and waiting for input and output.
    let later = [time.irq, time.softirq, time.steal].into_iter().flatten().sum::<u64>();
    (time.user + time.nice + time.system + later) as f64 / procfs::ticks_per_second() as f64
}

/// Processor seconds of this process, its threads and the children it has waited for.
pub fn own_seconds() -> f64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN].into_iter().map(usage_seconds).sum()
}

/// Processor seconds of this process and its threads.
pub fn self_seconds() -> f64 {
    usage_seconds(libc::RUSAGE_SELF)
}

fn usage_seconds(who: libc::c_int) -> f64 {
    // SAFETY: an all-zero rusage is a valid one, and the call writes one.
    let usage = unsafe {
        let mut usage: libc::rusage = core::mem::zeroed();
        libc::getrusage(who, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The repository: where this package was built, or the directory the harness runs in.
pub fn root() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    if built.join("Cargo.toml").exists() { built.to_owned() } else { PathBuf::from(".") }
}

/// Cargo's target directory of the repository.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// Of the sources, or that it is not known.
pub fn commit() -> String {
    output(Command::new("git").arg("-C").arg(root()).args(["describe", "--always", "--dirty"]))
}

fn output(command: &mut Command) -> String {
    match command.output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
