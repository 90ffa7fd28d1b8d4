//! What the system is and has given us: page size, random bits, peak. Limits are not asked for: each mapping
//! call asks them.
//!
//! Not the number of processors: nothing is sized by it, caches are a thread's (hazard `cpu_count`).
//! Each call asks again; callers keep the answer. Any thread.

use super::kept::{Kept, number_after};
use super::line::Line;
use super::syscall::{exit_group, syscall};
use crate::constants::{LEAST_PAGE, PAGE};

/// Exit status of a process that cannot be given a heap; what the loader uses when it cannot go on.
const CANNOT_START: i32 = 127; // (given) by the loader

/// Bytes of a page of this kernel.
pub fn page_size() -> usize {
    // SAFETY: reads a vector the kernel made.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }
}

/// Whether the heap can count in its own pages where the kernel's are of so many bytes.
const fn is_supported(bytes: usize) -> bool {
    bytes != 0 && PAGE.is_multiple_of(bytes)
}

/// Ends the process with a line if one of our pages is not so many of the kernel's: what begins at a page of
/// ours must begin at one of the kernel's, and a program without a malloc cannot run.
pub fn insist_on_page_size() {
    let bytes = page_size();
    if !is_supported(bytes) {
        let mut line = Line::new();
        line.str("pages of ").dec(bytes as u64).str(" bytes are not supported, only of ");
        line.dec(PAGE as u64)
            .str(if PAGE > LEAST_PAGE { " or less" } else { "" })
            .str("; the program is not run")
            .emit();
        exit_group(CANNOT_START);
    }
}

/// Random bits that differ from run to run, from the kernel's AT_RANDOM. Not a secret.
pub fn random_seed() -> u64 {
    // SAFETY: the kernel puts 16 random bytes there for the life of the process.
    unsafe {
        let bytes = libc::getauxval(libc::AT_RANDOM) as *const u8;
        if bytes.is_null() { super::clock::now_ns() } else { bytes.cast::<u64>().read_unaligned() }
    }
}

/// Bytes that a file may have which the process writes (`ulimit -f`).
pub fn file_bytes() -> usize {
    let mut limit = [usize::MAX; 2];
    let args = [0, libc::RLIMIT_FSIZE as usize, 0, limit.as_mut_ptr() as usize, 0, 0];
    // SAFETY: the kernel writes two words.
    match unsafe { syscall(libc::SYS_prlimit64, args) } {
        Ok(_) => limit[0],
        Err(_) => 0,
    }
}

/// The most memory the process has had in RAM, in bytes (VmHWM, not `ru_maxrss`, which a child
/// inherits); 0 where /proc cannot be read.
pub fn peak_rss() -> usize {
    let Ok(status) = Kept::open(c"/proc/self/status", libc::O_RDONLY) else { return 0 };
    let mut kib = None;
    let _ = status.lines_again(|line| kib = kib.or_else(|| number_after(line, b"VmHWM:")));
    kib.unwrap_or(0) as usize * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks() {
        let before = peak_rss();
        assert!(before > 100 * 1024 && before < 1 << 40);
        // The compiler leaves out what nobody looks at.
        let touched = std::hint::black_box(vec![1u8; 32 << 20]);
        // The kernel counts pages by processor, and adds up when there are some.
        assert!(peak_rss() + (1 << 20) >= before.max(touched.len()));
    }

    #[test]
    fn this_machine() {
        assert_eq!(page_size(), LEAST_PAGE);
        assert!(is_supported(page_size()) && is_supported(PAGE) && !is_supported(2 * PAGE));
        assert_eq!(random_seed(), random_seed());
    }
}
