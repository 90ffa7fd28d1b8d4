//! Traces of a real program's calls: `trace` makes one, `workload replay` repeats it.

pub mod format;
pub mod replay;

mod record;

pub use record::{Arguments, run};
