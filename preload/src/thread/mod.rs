//! A thread's side of the heap.
//!
//! ```text
//!   table    the two fast paths
//!   entry    their slow paths: what malloc, free and the others do when the fast path gives up
//!   refill   malloc found its magazine empty       retire   free found its magazine full
//!   cache    what a thread has                     reclaim  sweeps, trims, barriers
//!   registry whose each cache is                   seats    where the caches lie
//!   mode     solo, concurrent, api, strict
//!   start    the process's first call              exit     the thread's last
//!   fork     the child's first moments             readers  read_lock for C
//!   shelf    magazines that others may take         vacant   caches left to the next thread
//!   stall    sections that last too long
//!   census   figures of one class, ages            ladder   what free came to without memory
//!   traces   where a freed block is, for messages
//!   stats    figures                               shrinker giving memory back on request
//!   decay    giving it back by age                 scan_log what has been given, and why
//!   ready    large blocks, ready and freed         leave    giving back the classes left behind
//!   calls    functions that run after a grace period
//!   options  what may be set while the program runs
//!   pressure who tells the shrinker                watcher  a thread that listens for it
//!   under_way what a handler may jump out of
//! ```

pub mod cache;
pub mod calls;
pub mod census;
pub mod decay;
pub mod entry;
pub mod exit;
pub mod fork;
pub mod ladder;
pub mod leave;
pub mod mode;
pub mod options;
pub mod pressure;
pub mod readers;
pub mod ready;
pub mod reclaim;
pub mod refill;
pub mod registry;
pub mod retire;
pub mod scan_log;
pub mod seats;
pub mod shelf;
pub mod shrinker;
pub mod stall;
pub mod start;
pub mod stats;
pub mod table;
pub mod traces;
pub mod under_way;
pub mod vacant;
pub mod watcher;

#[cfg(test)]
pub(crate) mod tests;
