//! What the library exports: names, types and rules of C; no logic.
//!
//! Under the feature `override` (always in the shared library) the functions carry their C names; without
//! it they are ordinary functions that Rust's tests and [`crate::RcuMalloc`] call.

mod arch;
pub mod at_exit;
pub mod atfork;
pub mod attributes;
pub mod calls;
pub mod dlopen;
pub mod info;
pub mod jemalloc_names;
pub mod libc_names;
#[cfg(feature = "override")]
#[allow(non_snake_case, reason = "C++'s names of its operators")]
pub mod operators;
pub mod own;
pub mod owner;
#[cfg(rcumalloc_shared)]
mod panic;
pub mod pools;
pub mod profile;
pub mod pthread;
