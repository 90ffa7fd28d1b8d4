//! The tiny launcher (`helpers/launch.c`), which starts what is measured, and what it reports.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The launcher, as build.rs compiled it.
static LAUNCHER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/launch"));

/// `struct result` of the launcher.
pub struct Report {
    pub wait_status: i64,
    pub exec_errno: i64,
    pub wall_ns: i64,
    pub user_us: i64,
    pub system_us: i64,
    pub peak_kib: i64,
    pub minor_faults: i64,
    pub major_faults: i64,
    pub voluntary: i64,
    pub involuntary: i64,
}

impl Report {
    /// What comes through the launcher's pipe when the child has ended.
    pub fn read(from: &mut impl Read) -> io::Result<Report> {
        let mut words = [[0; 8]; 10];
        for word in &mut words {
            from.read_exact(word)?;
        }
        let [
            wait_status,
            exec_errno,
            wall_ns,
            user_us,
            system_us,
            peak_kib,
            minor,
            major,
            voluntary,
            involuntary,
        ] = words.map(i64::from_ne_bytes);
        Ok(Report {
            wait_status,
            exec_errno,
            wall_ns,
            user_us,
            system_us,
            peak_kib,
            minor_faults: minor,
            major_faults: major,
            voluntary,
            involuntary,
        })
    }
}

/// The launcher as a file that can be executed: in memory, for ever.
pub fn launcher() -> io::Result<PathBuf> {
    static FILE: OnceLock<Result<OwnedFd, String>> = OnceLock::new();
    match FILE.get_or_init(|| memory_file(c"launch", LAUNCHER).map_err(|error| error.to_string())) {
        Ok(fd) => Ok(PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()))),
        Err(reason) => Err(io::Error::other(reason.clone())),
    }
}

/// A file without a name that holds these bytes.
pub fn memory_file(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    // An executable that is open for writing would be "text file busy": reopen it for reading only.
    let read_only = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(OwnedFd::from(read_only))
}
