//! Wrong use of the engine: what it was, in one line, and who is told.
//!
//! The embedder installs a handler ([`Domain::set_misuse_handler`](crate::Domain::set_misuse_handler));
//! without one the line goes to standard error and the process aborts. A handler may return: then the call
//! has no effect, or, where no safe effect exists ([`Misuse::is_fatal`]), the process aborts all the same.

use core::fmt::{self, Write};

use crate::cookie::Cookie;
use crate::domain::Domain;
use crate::sync::Ordering::{Acquire, Release};

/// Called with what went wrong, on the thread that did it, possibly in a signal handler.
pub type MisuseHandler = fn(&Misuse);

/// A call that the engine refused. `Display` is the one-line message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// `unlock` without an open section. Ignored.
    UnbalancedUnlock {
        /// The thread that did it.
        tid: u32,
    },
    /// `offline` inside a section. Ignored.
    OfflineInSection {
        /// The thread that did it.
        tid: u32,
    },
    /// A reader ended inside a section. The section ends with it.
    ExitInSection {
        /// The thread that did it.
        tid: u32,
    },
    /// Waiting for a grace period inside one's own section would never end. Fatal.
    SynchronizeInSection {
        /// The thread that did it.
        tid: u32,
    },
    /// A cookie of another domain, or one that lies further ahead than any that this domain has handed
    /// out. Does not elapse now. (A made-up one that lies in the past has elapsed.)
    StrangeCookie {
        /// The cookie.
        cookie: Cookie,
        /// The tag of the domain that was asked.
        tag: u8,
    },
}

impl Misuse {
    /// True if the call can have no safe effect, so that the process ends even if the handler returns.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Misuse::SynchronizeInSection { .. })
    }

    #[cold]
    fn report_and_abort(&self) -> ! {
        let mut line = Line { bytes: [0; 256], len: 0 };
        let _ = writeln!(line, "rcu: {self}");
        line.write_to_stderr();
        #[cfg(any(loom, miri))]
        panic!("{self}");
        #[cfg(not(any(loom, miri)))]
        crate::kernel::abort()
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Misuse::UnbalancedUnlock { tid } => {
                write!(f, "read_unlock without an open read-side section in thread {tid}")
            }
            Misuse::OfflineInSection { tid } => {
                write!(f, "offline inside a read-side section of thread {tid}: end the section first")
            }
            Misuse::ExitInSection { tid } => {
                write!(f, "thread {tid} ended inside a read-side section")
            }
            Misuse::SynchronizeInSection { tid } => write!(
                f,
                "waiting for a grace period inside a read-side section of the same thread {tid} would never \
                 end"
            ),
            Misuse::StrangeCookie { cookie, tag } if cookie.tag() != tag => write!(
                f,
                "cookie {:#x} of domain {} was given to domain {tag}",
                cookie.to_bits(),
                cookie.tag()
            ),
            Misuse::StrangeCookie { cookie, .. } => {
                write!(f, "cookie {:#x} was never handed out", cookie.to_bits())
            }
        }
    }
}

impl Domain {
    /// Installs what is called when the domain is used wrongly; see [`Misuse`]. Without one, a line is
    /// written to standard error and the process aborts.
    pub fn set_misuse_handler(&self, handler: MisuseHandler) {
        // Release pairs with the acquire in `misuse`, which may run in any thread, in a signal handler too.
        self.settings.misuse_handler.store(handler as *mut (), Release);
    }

    #[cold]
    pub(crate) fn misuse(&self, what: Misuse) {
        let handler = self.settings.misuse_handler.load(Acquire);
        if handler.is_null() {
            what.report_and_abort();
        }
        // SAFETY: stored by `set_misuse_handler` from a function pointer of this type.
        let handler: MisuseHandler = unsafe { core::mem::transmute(handler) };
        handler(&what);
        if what.is_fatal() {
            what.report_and_abort();
        }
    }
}

/// A line on the stack: formatting must not allocate.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    fn write_to_stderr(&self) {
        crate::kernel::write_to_stderr(&self.bytes[..self.len]);
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}
