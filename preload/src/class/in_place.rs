//! What waits in place: the blocks in a thread's filling magazines behind one cookie (`cache/round.rs`).
//!
//! A batch as a group is one, but for where its blocks are: in the slots of its thread's table, the first
//! ones of each, marked in.

use crate::class::waiting::TakenUp;
use rcu::{Batch, Cookie};

/// What waits in a thread's filling magazines. Zero bytes: nothing.
#[repr(C)]
pub struct Round {
    /// Taken behind the last of them.
    pub cookie: Cookie,
    /// Classes of which some wait, and perhaps [`GROUPS`](Round::GROUPS); none, if nothing does.
    pub classes: u64,
    /// How many blocks wait.
    pub blocks: u32,
    /// How often the next one has been due since it began.
    pub late: u8,
}

impl Round {
    /// Among `classes`: magazines joined groups before it, which have waited long enough when it has.
    pub const GROUPS: u64 = 1 << 63; // (given) as an encoding

    /// Without a block.
    pub const NONE: Round = Round { cookie: Cookie::from_bits(0), classes: 0, blocks: 0, late: 0 };
}

impl TakenUp for Round {}

impl Batch for Round {
    fn entries(&self) -> u32 {
        self.blocks
    }

    fn cookie(&self) -> Cookie {
        self.cookie
    }

    fn set_cookie(&mut self, cookie: Cookie) {
        self.cookie = cookie;
    }
}
