//! The machine's setting for huge pages, held for as long as something is measured under it.
//!
//! It is everybody's, so what it was is put back when the hold is dropped, and by a handler where a signal
//! ends the process before. A lock on the file that the tests lock, too, keeps those apart that set anything.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

/// What it may be, as the kernel spells it.
pub const SETTINGS: [&str; 3] = ["always", "madvise", "never"];
const PLACE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// Signals that somebody ends a command with.
const ENDS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// For the handler: the open file, or -1, and which of [`SETTINGS`] it held.
static FILE: AtomicI32 = AtomicI32::new(-1);
static WAS: AtomicUsize = AtomicUsize::new(0);

/// The machine has the setting while this lives.
pub struct Setting {
    file: File,
    _lock: File,
}

impl Setting {
    /// Sets it, or says why it cannot be set.
    pub fn hold(setting: &'static str) -> Result<Setting, String> {
        let lock = std::env::temp_dir().join("rcumalloc-tests.lock");
        let lock = File::options().create(true).append(true).open(&lock).and_then(|lock| {
            lock.lock()?;
            Ok(lock)
        });
        let lock = lock.map_err(|error| format!("the lock of those who set anything: {error}"))?;
        let text = std::fs::read_to_string(PLACE).map_err(|error| format!("{PLACE}: {error}"))?;
        let chosen = text.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0));
        let was = chosen.and_then(|chosen| SETTINGS.iter().position(|known| *known == chosen));
        let was = was.ok_or_else(|| format!("{PLACE} says {}", text.trim()))?;
        let file = File::options().write(true).open(PLACE);
        let mut file = file.map_err(|error| format!("{PLACE} cannot be written: {error}"))?;
        WAS.store(was, SeqCst);
        FILE.store(file.as_raw_fd(), SeqCst);
        let held = ENDS.iter().try_for_each(|signal| handle(*signal, put_back as *const () as usize));
        let held = held.and_then(|()| file.write_all(setting.as_bytes()));
        let holding = Setting { file, _lock: lock };
        held.map_err(|error| format!("{PLACE} cannot be set to {setting}: {error}"))?;
        Ok(holding)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let was = SETTINGS[WAS.load(SeqCst)];
        if let Err(error) = self.file.write_all(was.as_bytes()) {
            eprintln!("rcumalloc-bench: {PLACE} could not be set back to {was}: {error}");
        }
        FILE.store(-1, SeqCst);
        ENDS.iter().for_each(|signal| drop(handle(*signal, libc::SIG_DFL)));
    }
}

fn handle(signal: libc::c_int, handler: usize) -> std::io::Result<()> {
    // SAFETY: an all-zero action with a handler that is a function of this type, or the default.
    let refused = unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = handler;
        libc::sigaction(signal, &raw const action, core::ptr::null_mut()) != 0
    };
    if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts back what the setting was, and ends the process as the signal would have.
extern "C" fn put_back(signal: libc::c_int) {
    let was = SETTINGS[WAS.load(SeqCst)].as_bytes();
    // SAFETY: calls that a handler may make; the file is open while its number is there.
    unsafe {
        libc::write(FILE.load(SeqCst), was.as_ptr().cast(), was.len());
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
