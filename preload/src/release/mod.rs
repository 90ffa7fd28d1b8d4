//! When memory goes back and who is told: policy, and the figures that it is judged by.
//!
//! ```text
//!   shrinker giving memory back on request         scan_log what has been given, and why
//!   decay    giving it back by age                 stall    sections that last too long
//!   pressure who tells the shrinker                watcher  a thread that listens for it
//!   stats    figures                               census   figures of one class, ages
//!   traces   where a freed block is, for messages  surplus  what is past the budget
//!   leave    giving back the classes left behind   report   the figures as text
//!   check    whether a block was freed before a section began
//!   trapped  what is said of a use of a trapped block, and when traps spring
//!   publish  the figures for who looks at the process from outside
//! ```

pub mod census;
pub mod check;
pub mod decay;
pub mod leave;
pub mod pressure;
pub mod publish;
pub mod report;
pub mod scan_log;
pub mod shrinker;
pub mod stall;
pub mod stats;
pub mod surplus;
pub mod traces;
pub mod trapped;
pub mod watcher;
