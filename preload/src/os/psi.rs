//! Pressure stall information: the share of time in which threads waited for memory.
//!
//! The same text in `/proc/pressure/memory` for the machine and in `memory.pressure` for a control
//! group. A *trigger* written to the file has the kernel watch a window for us and raise POLLPRI. A
//! process without privileges may ask for windows of whole multiples of 2 s only (Linux 6.4
//! and later; before, for none), so that is what everybody asks for. Where the trigger is refused the totals
//! in the text, which anybody may read, answer the same question a little more coarsely.
//!
//! Nothing here sleeps: the watcher asks when it is awake, never more often than once a second.

use core::ffi::CStr;

use super::env::parse_u64;
use super::kept::Kept;
use super::syscall::{Errno, read_file};
use crate::constants::{PSI_BYTES, PSI_FULL_PERCENT, PSI_SOME_PERCENT, PSI_WINDOW_US};

/// A file of stalls that is kept open.
pub struct Psi {
    file: Kept,
    has_trigger: bool,
    gauge: Gauge,
}

/// How much had been stalled when it was last looked at.
pub struct Gauge {
    /// 0: never looked at.
    looked_us: u64,
    totals: Totals,
}

/// Microseconds stalled so far: some thread, or all of them at once.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Totals {
    some: u64,
    full: u64,
}

/// Percent of the time since the last look.
struct Shares {
    some: u64,
    full: u64,
}

impl Gauge {
    /// Never looked at.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Gauge {
        Gauge { looked_us: 0, totals: Totals { some: 0, full: 0 } }
    }

    /// What `text` says beyond the last one.
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    fn shares(&mut self, text: &[u8], now_us: u64) -> Option<Shares> {
        let totals = parse(text)?;
        let elapsed = match self.looked_us {
            0 => return self.begin(totals, now_us),
            looked => now_us.saturating_sub(looked).max(1),
        };
        let share = |now: u64, before: u64| now.saturating_sub(before).saturating_mul(100) / elapsed;
        let some = share(totals.some, self.totals.some);
        let full = share(totals.full, self.totals.full);
        (self.looked_us, self.totals) = (now_us, totals);
        Some(Shares { some, full })
    }

    fn begin(&mut self, totals: Totals, now_us: u64) -> Option<Shares> {
        (self.looked_us, self.totals) = (now_us.max(1), totals);
        None
    }

    /// 0, 1 or 2, as [`Psi::level`], of a file that is open only for this look.
    pub fn glance(&mut self, path: &CStr, now_us: u64) -> u32 {
        let mut text = [0; PSI_BYTES];
        let Ok(len) = read_file(path, &mut text) else { return 0 };
        let Some(shares) = self.shares(&text[..len], now_us) else { return 0 };
        shares.level(shares.some >= PSI_SOME_PERCENT)
    }
}

impl Shares {
    fn level(&self, has_some: bool) -> u32 {
        match has_some {
            true if self.full >= PSI_FULL_PERCENT => 2,
            true => 1,
            false => 0,
        }
    }
}

impl Psi {
    /// Opens `path` and sets the trigger. With it, why there is no trigger, if there is none.
    #[inline(never)]
    #[unsafe(link_section = ".text_rare")]
    pub fn open(path: &CStr, now_us: u64) -> Result<(Psi, Option<Errno>), Errno> {
        let (file, refused) = match Self::with_trigger(path) {
            Ok(file) => (file, None),
            Err(refused) => (Kept::open(path, libc::O_RDONLY)?, Some(refused)),
        };
        let mut text = [0; PSI_BYTES];
        let mut gauge = Gauge::new();
        gauge.shares(file.read_again(&mut text)?, now_us);
        Ok((Psi { file, has_trigger: refused.is_none(), gauge }, refused))
    }

    fn with_trigger(path: &CStr) -> Result<Kept, Errno> {
        let file = Kept::open(path, libc::O_RDWR)?;
        // The zero byte at the end belongs to the text.
        file.write(TRIGGER)?;
        Ok(file)
    }

    /// 0, 1 or 2: no pressure since the last call, some, or full.
    pub fn level(&mut self, now_us: u64) -> u32 {
        let mut text = [0; PSI_BYTES];
        let Ok(text) = self.file.read_again(&mut text) else { return 0 };
        let Some(shares) = self.gauge.shares(text, now_us) else { return 0 };
        // Even over the window's edges: the trigger may have fired since and stalled less in all.
        let has_some = match self.has_trigger {
            true => self.file.has_priority_event(),
            false => shares.some >= PSI_SOME_PERCENT,
        };
        shares.level(has_some)
    }
}

/// What `errno` says of a trigger that was refused.
pub fn explain(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EINVAL => "this kernel wants other windows of an unprivileged process",
        libc::EPERM | libc::EACCES | libc::EROFS => "writing to it is not permitted",
        libc::EOPNOTSUPP => "stall information is switched off (psi=1 on the kernel's command line)",
        libc::ENOENT => "there is none",
        libc::EBUSY => "the file has a trigger already",
        _ => "the kernel refuses",
    }
}

const TRIGGER: &[u8] = b"some 100000 2000000\0";
const _: () = assert!(PSI_WINDOW_US == 2_000_000 && PSI_WINDOW_US / 100 * PSI_SOME_PERCENT == 100_000);

/// The totals of `some … total=1\nfull … total=2`.
fn parse(text: &[u8]) -> Option<Totals> {
    let total = |name: &[u8]| {
        let line = text.split(|&byte| byte == b'\n').find(|line| line.starts_with(name))?;
        let word = line.split(|&byte| byte == b' ').find_map(|word| word.strip_prefix(b"total="))?;
        parse_u64(word)
    };
    // Before 5.13 some files had no second line.
    total(b"some ").map(|some| Totals { some, full: total(b"full ").unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals() {
        let text = b"some avg10=0.00 avg60=1.50 avg300=0.00 total=17636785\nfull avg10=0.00 avg60=0.00 \
            avg300=0.00 total=42\n";
        assert_eq!(parse(text), Some(Totals { some: 17_636_785, full: 42 }));
        assert_eq!(parse(b"some avg10=0.00 total=7\n"), Some(Totals { some: 7, full: 0 }));
        assert_eq!(parse(b"full total=7\n"), None);
        assert_eq!(parse(b""), None);
    }

    fn fake(name: &str, some: u64, full: u64) -> std::ffi::CString {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::write(&path, format!("some avg10=0 total={some}\nfull avg10=0 total={full}\n")).unwrap();
        std::ffi::CString::new(path.into_os_string().into_encoded_bytes()).unwrap()
    }

    /// Without a trigger the totals decide: 5 % of the time for some, 10 % for full.
    #[test]
    fn levels_by_totals() {
        let path = fake("rcumalloc-psi", 1000, 500);
        let file = Kept::open(&path, libc::O_RDONLY).unwrap();
        let gauge = Gauge { looked_us: 1, totals: Totals { some: 1000, full: 500 } };
        let mut psi = Psi { file, has_trigger: false, gauge };
        assert_eq!(psi.level(1_000_000), 0);
        fake("rcumalloc-psi", 51_000, 500);
        assert_eq!(psi.level(2_000_000), 1);
        assert_eq!(psi.level(3_000_000), 0);
        fake("rcumalloc-psi", 200_000, 150_000);
        assert_eq!(psi.level(4_000_000), 2);
        std::fs::remove_file(path.to_str().unwrap()).unwrap();
    }

    #[test]
    fn this_machine() {
        match Psi::open(c"/proc/pressure/memory", 0) {
            Ok((psi, None)) => assert!(psi.has_trigger),
            Ok((psi, Some(refused))) => assert!(!psi.has_trigger && !explain(refused).is_empty()),
            Err(errno) => eprintln!("no stall information here: {}", explain(errno)),
        }
        assert_eq!(Psi::open(c"/nonexistent", 0).err(), Some(Errno(libc::ENOENT)));
    }
}
