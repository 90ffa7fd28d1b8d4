//! What the figures were measured on, and who else was using it.

use std::fs::read_to_string;
use std::process::Command;

/// The machine, said honestly.
pub struct Machine {
    /// As the processor calls itself.
    pub cpu: String,
    /// Processors this process may use.
    pub processors: usize,
    /// Name and release.
    pub kernel: String,
    /// Whether a hypervisor says that it is there.
    pub is_virtual: bool,
    /// UTC, to the minute.
    pub date: String,
    /// Of the sources, or why it is not known.
    pub commit: String,
}

impl Machine {
    /// Asks the system.
    #[must_use]
    pub fn look() -> Machine {
        let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let unknown = || "unknown".to_owned();
        let model = field("model name").unwrap_or_else(unknown);
        let family = field("cpu family").unwrap_or_else(unknown);
        Machine {
            cpu: format!("{model} (family {family})"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: output("uname", &["-sr"]),
            is_virtual: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            date: output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            commit: output("git", &["describe", "--always", "--dirty"]),
        }
    }

    /// One line.
    #[must_use]
    pub fn describe(&self) -> String {
        let kind = if self.is_virtual { "virtual machine" } else { "no hypervisor seen" };
        format!("{}, {} processors, {kind}, {}", self.cpu, self.processors, self.kernel)
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => format!("unknown ({program} failed)"),
    }
}

/// The load average of the last minute.
#[must_use]
pub fn load_average() -> f64 {
    let text = read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

/// Processor time spent so far, in ticks: by everybody, and by this process and its children.
pub struct Spent {
    all: f64,
    own: f64,
    when: std::time::Instant,
}

impl Spent {
    /// Up to now.
    #[must_use]
    pub fn so_far() -> Spent {
        // user nice system idle iowait irq softirq steal: all but the two idle ones.
        let stat = read_to_string("/proc/stat").unwrap_or_default();
        let ticks: Vec<f64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|word| word.parse().ok())
            .collect();
        let busy =
            ticks.iter().enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, ticks)| ticks);
        // SAFETY: no pointers.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        let own = [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN].iter().map(|&who| {
            // SAFETY: an all-zero rusage is a valid one, and the call writes one.
            let usage = unsafe {
                let mut usage: libc::rusage = core::mem::zeroed();
                libc::getrusage(who, &raw mut usage);
                usage
            };
            let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
            seconds(usage.ru_utime) + seconds(usage.ru_stime)
        });
        Spent { all: busy.sum::<f64>() / per_second, own: own.sum(), when: std::time::Instant::now() }
    }

    /// Processors that others kept busy since then, on average (stolen by the hypervisor included).
    #[must_use]
    pub fn by_others_since(&self) -> f64 {
        let now = Spent::so_far();
        ((now.all - self.all) - (now.own - self.own)).max(0.0) / self.when.elapsed().as_secs_f64()
    }
}
