//! What the tests of the shared library stand on.
//!
//! A test builds the library once ([`build::library`]), compiles a *victim* from `programs/`
//! ([`build::program`]) or finds a real program ([`build::installed`]), runs it under the library in
//! a process of its own under a watchdog ([`Victim`]), and looks at what came of it ([`Outcome`]).
//!
//! `RCUMALLOC_TEST_LIBRARY=/path/librcumalloc.so` tests another build, such as one with a defence
//! removed (`scripts/mutants`).

pub mod build;
pub mod machine;
mod outcome;
mod victim;

pub use outcome::Outcome;
pub use victim::{Victim, command};
