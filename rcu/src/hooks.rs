//! What the embedder installs in a domain, and what it passes to a barrier.
//!
//! Handlers are plain functions kept as pointers: stored with release, loaded with acquire by any thread, in
//! a signal handler too.

use crate::domain::Domain;
use crate::misuse::{Misuse, MisuseHandler};
use crate::sync::Ordering::{Acquire, Release};

/// What an embedder does on either side of the wait in [`Domain::barrier`].
pub trait BarrierHooks {
    /// Close every open batch, so that its cookie is taken before the wait.
    fn seal(&mut self);
    /// Every cookie taken by `seal` or earlier has elapsed: make the blocks reusable.
    fn reclaim(&mut self);
}

impl Domain {
    /// Installs what is called when the domain is used wrongly; see [`Misuse`]. Without one, a line is
    /// written to standard error and the process aborts.
    pub fn set_misuse_handler(&self, handler: MisuseHandler) {
        self.misuse_handler.store(handler as *mut (), Release);
    }

    #[cold]
    pub(crate) fn misuse(&self, what: Misuse) {
        let handler = self.misuse_handler.load(Acquire);
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

    /// Installs what a thread's first `read_lock` calls before the section begins: the embedder's
    /// chance to leave a mode that knows no readers. Runs wherever `read_lock` does, in a signal
    /// handler too.
    pub fn set_first_lock_hook(&self, hook: fn()) {
        self.first_lock_hook.store(hook as *mut (), Release);
    }

    pub(crate) fn on_first_lock(&self) {
        let hook = self.first_lock_hook.load(Acquire);
        if !hook.is_null() {
            // SAFETY: stored by `set_first_lock_hook` from a function pointer of this type.
            let hook: fn() = unsafe { core::mem::transmute(hook) };
            hook();
        }
    }
}
