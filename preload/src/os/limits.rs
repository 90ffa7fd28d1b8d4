//! What the system lets us have: page size, processors, address space.
//!
//! Processors are the fewer of what the affinity mask allows and what the control group pays
//! for (hazard `cpu_count`): the host's number says nothing about a container. Each call
//! asks again; callers keep the answer. Any thread.

use core::ffi::CStr;

use super::env::parse_u64;
use super::syscall::{read_file, syscall};

/// Bytes of a page of this kernel.
pub fn page_size() -> usize {
    // SAFETY: reads a vector the kernel made.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }
}

/// The limit on this process's address space in bytes; None if there is none.
pub fn address_space() -> Option<u64> {
    let mut limit = [0u64; 2];
    let out = limit.as_mut_ptr() as usize;
    // SAFETY: the kernel writes two 64-bit words.
    let asked = unsafe { syscall(libc::SYS_prlimit64, [0, libc::RLIMIT_AS as usize, 0, out, 0, 0]) };
    (asked.is_ok() && limit[0] != libc::RLIM_INFINITY).then_some(limit[0])
}

/// Random bits that differ from run to run, from the kernel's AT_RANDOM. Not a secret.
pub fn random_seed() -> u64 {
    // SAFETY: the kernel puts 16 random bytes there for the life of the process.
    unsafe {
        let bytes = libc::getauxval(libc::AT_RANDOM) as *const u8;
        if bytes.is_null() { super::clock::now_ns() } else { bytes.cast::<u64>().read_unaligned() }
    }
}

/// Processors this process may use at once; at least 1.
pub fn cpus() -> usize {
    let mut mask = [0u64; 128];
    let args = [0, size_of_val(&mask), mask.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel writes at most the mask.
    let asked = unsafe { syscall(libc::SYS_sched_getaffinity, args) };
    let allowed = match asked {
        Ok(_) => mask.iter().map(|word| word.count_ones() as usize).sum(),
        Err(_) => 1,
    };
    let paid = quota().unwrap_or(usize::MAX);
    allowed.min(paid).max(1)
}

/// Processors the control group pays for, rounded up. Version 2's file for our own group and
/// for the root the container sees, then version 1's.
fn quota() -> Option<usize> {
    let mut text = [0; 64];
    let mut path = [0; 512];
    let own = own_group(&mut path).and_then(|path| read_file(path, &mut text).ok());
    let len = own.or_else(|| read_file(c"/sys/fs/cgroup/cpu.max", &mut text).ok());
    if let Some(len) = len {
        return parse_quota(&text[..len]);
    }
    let len = read_file(c"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &mut text).ok()?;
    let quota = parse_u64(text[..len].trim_ascii())?; // "-1", no quota, is not a number
    let len = read_file(c"/sys/fs/cgroup/cpu/cpu.cfs_period_us", &mut text).ok()?;
    divide(quota, parse_u64(text[..len].trim_ascii())?)
}

/// The path of our own group's cpu.max, from the line `0::/path` of /proc/self/cgroup.
fn own_group(path: &mut [u8; 512]) -> Option<&CStr> {
    let mut list = [0; 512];
    let len = read_file(c"/proc/self/cgroup", &mut list).ok()?;
    let group = list[..len].split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    let mut at = 0;
    for part in [&b"/sys/fs/cgroup"[..], group, b"/cpu.max\0"] {
        path.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    CStr::from_bytes_with_nul(&path[..at]).ok()
}

/// `max 100000` is no quota, `150000 100000` is 1.5 processors and counts as 2.
fn parse_quota(text: &[u8]) -> Option<usize> {
    let mut words = text.trim_ascii().split(|&b| b == b' ');
    let quota = parse_u64(words.next()?)?;
    divide(quota, parse_u64(words.next()?)?)
}

fn divide(quota: u64, period: u64) -> Option<usize> {
    (period > 0).then(|| quota.div_ceil(period) as usize)
}

/// The most memory the process has had in RAM, in bytes (VmHWM, not `ru_maxrss`, which a child
/// inherits); 0 where /proc cannot be read.
pub fn peak_rss() -> usize {
    let mut status = [0; 4096];
    let len = read_file(c"/proc/self/status", &mut status).unwrap_or(0);
    peak_of(&status[..len]).unwrap_or(0)
}

fn peak_of(status: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"VmHWM:";
    let line = status.split(|&byte| byte == b'\n').find(|line| line.starts_with(NAME))?;
    let digits = line.iter().filter(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |kib, digit| kib * 10 + usize::from(digit - b'0')) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas() {
        assert_eq!(parse_quota(b"max 100000\n"), None);
        assert_eq!(parse_quota(b"150000 100000\n"), Some(2));
        assert_eq!(parse_quota(b"50000 100000"), Some(1));
        assert_eq!(parse_quota(b"1 0"), None);
        assert_eq!(parse_quota(b""), None);
    }

    #[test]
    fn peaks() {
        assert_eq!(peak_of(b"VmPeak:\t 9 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 7 kB\n"), Some(1234 * 1024));
        assert_eq!(peak_of(b"VmRSS:\t 7 kB\n"), None);
        assert!(peak_rss() > 100 * 1024);
    }

    #[test]
    fn this_machine() {
        assert_eq!(page_size(), 4096);
        let std_says = std::thread::available_parallelism().unwrap().get();
        assert!(cpus() >= 1 && cpus() <= std_says.max(cpus()));
        assert_eq!(random_seed(), random_seed());
    }
}
