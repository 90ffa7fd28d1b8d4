//! One thread's data: its two tables, its magazines, and whose they are.
//!
//! ```text
//!   table    the two fast paths                    thread_cache what a thread has
//!   refill   malloc found its magazine empty       retire   free found its magazine full
//!   ready    large blocks, ready and freed         leave    giving back the classes left behind
//!   shelf    magazines that others may take        vacant   caches left to the next thread
//!   registry whose each cache is                   seats    where the caches lie
//!   mode     solo, concurrent, api, strict         ladder   what free came to without memory
//!   stock    blocks put aside for signal handlers
//! ```

pub mod ladder;
pub mod leave;
pub mod mode;
pub mod own;
pub mod ready;
pub mod refill;
pub mod registry;
pub mod retire;
pub mod seats;
pub mod shelf;
pub mod stock;
pub mod table;
pub mod thread_cache;
pub mod vacant;
