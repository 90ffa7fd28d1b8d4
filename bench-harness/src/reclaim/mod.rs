//! Reclamation schemes behind one trait, ours and the peers.
//!
//! A [`Scheme`] is the process-wide half, a [`Local`] the thread's. A thread joins, opens sections, reads in
//! them, and retires blocks that it has unlinked; the scheme frees them by [`Dispose`] when no section that
//! may have found them is open. All of it is generic and monomorphic, so that a scheme's fast path is
//! inlined into the loop that measures it as it would be into a program. What costs a call costs one
//! for users too: liburcu's functions lie in another object.
//!
//! ```text
//!   name              what it is                                     allocators
//!   ours              librcumalloc.so preloaded, plain free()        itself
//!   engine            the crate `rcu` with pages of pointers         glibc, mimalloc v3
//!   crossbeam         crossbeam-epoch                                "
//!   seize             seize (hyaline)                                "
//!   haphazard         haphazard (hazard pointers)                    "
//!   urcu-F-call       liburcu, call_rcu and free; F: qsbr memb bp    "
//!   urcu-F-defer      liburcu, defer_rcu                             "
//!   now               free at once; only where there is no reader    ", and rcumalloc
//!   leak              never free: the bound on what reclaiming costs "
//! ```
//!
//! Each scheme's best fair setting is its [`Scheme::SETTING`], printed next to the number.
//!
//! Borrowed idea: one generic interface over schemes, as in the benchmarks of crossbeam and of the "IBR"
//! test framework; the code is ours.

pub mod at_once;
pub mod blocks;
pub mod engine;
pub mod epoch;
pub mod hazard;
pub mod hyaline;
pub mod ours;
pub mod sides;
pub mod urcu;

use core::ffi::c_void;
use serde::Deserialize;
use serde_json::Value;

use crate::outcome::Refusal;

/// What a scheme does with a block when nobody can see it any more.
pub trait Dispose: 'static {
    /// Offset in the block of 16 bytes that no reader looks at: schemes that need room in each object
    /// (liburcu's `rcu_head`) use it from the moment the block is retired.
    const HEAD: usize;

    /// Frees `block`.
    ///
    /// # Safety
    /// `block` was retired once and no section can see it.
    unsafe fn dispose(block: *mut c_void);
}

/// The process-wide half of a scheme.
pub trait Scheme: Sized + Sync + 'static {
    /// As `--schemes` and the tables have it.
    const NAME: &'static str;
    /// The setting it is measured with, and why it is its best.
    const SETTING: &'static str;
    /// Bytes it needs in each object, at [`Dispose::HEAD`].
    const HEADER: usize = 0;
    /// A shared object that its processes need from their start on; empty: none.
    const OBJECT: &'static str = "";
    /// Whether retired blocks are safe from readers. False only for freeing at once.
    const SAFE: bool = true;
    /// The thread's half.
    type Local<'s>: Local;

    /// Whether it was built in.
    ///
    /// # Errors
    /// One line that says why it was not.
    fn available() -> Result<(), String> {
        Ok(())
    }

    /// Starts it.
    ///
    /// # Errors
    /// One line that says why it cannot run here.
    fn start() -> Result<Self, String>;

    /// The calling thread takes part until the value is dropped, in the same thread.
    fn join(&self) -> Self::Local<'_>;

    /// The calling thread, which takes no part, is about to block until the others are done.
    fn step_aside(&self) {}

    /// And is back.
    fn come_back(&self) {}

    /// Waits until everything that was retired has been disposed of. No thread takes part meanwhile.
    fn drain(&self);

    /// Grace periods (epochs) so far, where the scheme says.
    fn periods(&self) -> Option<u64> {
        None
    }
}

/// The thread's half of a scheme.
pub trait Local {
    /// True if a loaded pointer must be [shielded](Local::shield) and looked at again before use.
    const SHIELDS: bool = false;

    /// Opens a section. They do not nest.
    fn enter(&mut self);

    /// Ends the section.
    fn leave(&mut self);

    /// Announces that `block` is about to be used, in one of two places. The caller then makes sure
    /// that it is still linked. Nothing but with [`SHIELDS`](Local::SHIELDS).
    #[inline(always)]
    fn shield(&mut self, _place: usize, _block: *mut c_void) {}

    /// Has `block` disposed of when no section can see it; called inside a section.
    ///
    /// # Safety
    /// The block was unlinked: no section that begins later finds it. Retired once. `HEADER` bytes at
    /// `D::HEAD` are the scheme's.
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void);

    /// [`retire`](Local::retire) outside a section, by a thread that does nothing but retire.
    ///
    /// # Safety
    /// As [`retire`](Local::retire).
    #[inline(always)]
    unsafe fn retire_outside<D: Dispose>(&mut self, block: *mut c_void) {
        self.enter();
        // SAFETY: the caller's promise.
        unsafe { self.retire::<D>(block) };
        self.leave();
    }
}

/// Calls `$run::<S>($arguments)` for the scheme named `$name`; an error names what there is.
macro_rules! with_scheme {
    ($name:expr, $run:ident ( $($argument:expr),* )) => {{
        use $crate::reclaim::{at_once, engine, epoch, hazard, hyaline, ours, urcu};
        match $name {
            "ours" => $run::<ours::Ours>($($argument),*),
            "engine" => $run::<engine::Engine>($($argument),*),
            "crossbeam" => $run::<epoch::Crossbeam>($($argument),*),
            "seize" => $run::<hyaline::Seize>($($argument),*),
            "haphazard" => $run::<hazard::Haphazard>($($argument),*),
            "urcu-qsbr-call" => $run::<urcu::Call<urcu::Qsbr>>($($argument),*),
            "urcu-memb-call" => $run::<urcu::Call<urcu::Memb>>($($argument),*),
            "urcu-bp-call" => $run::<urcu::Call<urcu::Bp>>($($argument),*),
            "urcu-qsbr-defer" => $run::<urcu::Defer<urcu::Qsbr>>($($argument),*),
            "urcu-memb-defer" => $run::<urcu::Defer<urcu::Memb>>($($argument),*),
            "urcu-bp-defer" => $run::<urcu::Defer<urcu::Bp>>($($argument),*),
            "now" => $run::<at_once::Now>($($argument),*),
            "leak" => $run::<at_once::Leak>($($argument),*),
            other => Err(format!("unknown scheme '{other}': one of {}", $crate::reclaim::NAMES.join(", "))),
        }
    }};
}

pub(crate) use with_scheme;

/// Every scheme, in the order of the tables.
pub const NAMES: [&str; 13] = [
    "ours",
    "engine",
    "crossbeam",
    "seize",
    "haphazard",
    "urcu-qsbr-call",
    "urcu-memb-call",
    "urcu-bp-call",
    "urcu-qsbr-defer",
    "urcu-memb-defer",
    "urcu-bp-defer",
    "now",
    "leak",
];

/// The setting of a scheme, for the tables.
///
/// # Errors
/// There is no scheme of that name.
pub fn setting(name: &str) -> Result<&'static str, String> {
    fn of<S: Scheme>() -> Result<&'static str, String> {
        Ok(S::SETTING)
    }
    with_scheme!(name, of())
}

/// Whether a scheme was built in.
///
/// # Errors
/// Why it was not.
pub fn availability(name: &str) -> Result<(), String> {
    fn of<S: Scheme>() -> Result<(), String> {
        S::available()
    }
    with_scheme!(name, of())
}

/// What a scheme needs preloaded beside the allocator.
pub fn object(name: &str) -> Option<std::path::PathBuf> {
    fn of<S: Scheme>() -> Result<&'static str, String> {
        Ok(S::OBJECT)
    }
    with_scheme!(name, of()).ok().filter(|object| !object.is_empty()).map(Into::into)
}

/// A job for the measured side, of `rcuscale` and `refscale`.
#[derive(Deserialize)]
struct Job {
    experiment: String,
    scheme: String,
    parameters: Value,
}

/// The measured side.
pub fn inner(job: &str) -> Result<Value, Refusal> {
    use crate::rcuscale::kernel::run as kernel;
    use crate::refscale::pairs::run as pairs;
    let job: Job = serde_json::from_str(job).map_err(Refusal::of("bad job"))?;
    let bad = Refusal::of("bad parameters");
    let scheme = job.scheme.as_str();
    match job.experiment.as_str() {
        "rcuscale" => {
            let parameters = serde_json::from_value(job.parameters).map_err(bad)?;
            with_scheme!(scheme, kernel(&parameters)).map(|measured| serde_json::json!(measured))
        }
        "refscale" => {
            let parameters = serde_json::from_value(job.parameters).map_err(bad)?;
            with_scheme!(scheme, pairs(&parameters)).map(|measured| serde_json::json!(measured))
        }
        other => Err(format!("no experiment '{other}'")),
    }
    .map_err(Refusal)
}
