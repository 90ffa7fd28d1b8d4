//! One thread's data: its two tables, its magazines, and whose they are.
//!
//! ```text
//!   table    the two fast paths                    thread_cache what a thread has
//!   drain    emptying a cache                      own      the calling thread's
//!   refill   malloc found its magazine empty       retire   free found its magazine full
//!   large    large blocks, freed and asked for     ready    those that may be handed out at once
//!   registry whose each cache is                   vacant   caches left to the next thread
//!   takers   taking from others' shelves           seats    where the caches lie
//!   shelf    magazines that others may take        shares   how much a thread may hold
//!   mode     solo, concurrent, api, strict         ladder   what free came to without memory
//!   stock    blocks put aside for signal handlers    round    what is filling waits in place
//!   sample   which blocks are trapped, and which make the profile
//! ```

pub mod drain;
pub mod ladder;
pub mod large;
pub mod mode;
pub mod own;
pub mod ready;
pub mod refill;
pub mod registry;
pub mod retire;
pub mod round;
pub mod sample;
pub mod seats;
pub mod shares;
pub mod shelf;
pub mod stock;
pub mod table;
pub mod takers;
pub mod thread_cache;
pub mod vacant;
