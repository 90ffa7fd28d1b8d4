//! What depends on the processor, by the same names for each: its instructions, its calling convention, how
//! libc lays out a thread's block, and what of memory must be said to it aloud.
//!
//! What functions look like that C calls by their names is in `abi/arch`.

#[cfg(target_arch = "aarch64")]
pub(crate) mod aarch64;
pub(crate) mod probe;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;
