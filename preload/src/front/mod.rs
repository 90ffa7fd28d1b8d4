//! The calls and the life of a thread: what the program asks for, and what every slow path owes.
//!
//! ```text
//!   malloc, free, realloc: the slow paths          entry    what each begins with
//!   tend     what every slow path owes             switch   from one thread to several
//!   start    the process's first call              exit     the thread's last
//!   fork     the child's first moments             readers  read_lock for C
//!   calls    functions that run after a grace period, from their queue
//!   options  what may be set while the program runs
//!   nowait   blocks where nothing may wait, as in a signal handler
//!   typed    pools of objects of one type
//!   under_way what a handler may jump out of
//!   trapped, profiled  blocks that are samples
//! ```

pub mod calls;
pub mod entry;
pub mod exit;
pub mod fork;
pub mod free;
pub mod malloc;
pub mod nowait;
pub mod options;
pub mod profiled;
pub mod queue;
pub mod readers;
pub mod realloc;
pub mod start;
pub mod stress;
pub mod switch;
pub mod tend;
pub mod trapped;
pub mod typed;
pub mod under_way;

#[cfg(test)]
pub(crate) mod tests;
