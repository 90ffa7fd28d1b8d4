//! How blocks go from one worker to another, so that who gets which block does not depend on who is faster.
//!
//! In round r a worker sends a batch and receives the one that was sent to it in round r - lag. Every
//! receiver has 2 lag boxes in a ring, and each box counts its turns: a batch put in, the batch taken out,
//! and so on. A send waits for its turn, which comes with round r - lag of the receiver; a receive waits for
//! the sender's round r - lag. (That a box is empty is not enough: a sender that is far ahead would be before
//! one of an earlier round.) All waiting is for earlier rounds, so it ends. The results are those of a
//! network of Kahn's: each worker's calls are the same however the threads are scheduled.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::workload::Block;

/// A batch on its way.
struct Batch {
    blocks: Vec<Block>,
    /// Turns so far: even, it is empty.
    turns: usize,
}

/// All boxes of a program.
pub struct Boxes {
    lag: usize,
    cells: Vec<(Mutex<Batch>, Condvar)>,
}

impl Boxes {
    /// For so many receivers and batches of so many blocks.
    pub fn new(receivers: usize, given: usize, lag: usize) -> Boxes {
        let cell = |_| {
            let batch = Batch { blocks: vec![Block::NONE; given], turns: 0 };
            (Mutex::new(batch), Condvar::new())
        };
        Boxes { lag, cells: (0..receivers * 2 * lag).map(cell).collect() }
    }

    /// Puts the batch into the receiver's box of this round.
    pub fn send(&self, receiver: usize, round: usize, blocks: &[Block]) {
        self.meet(receiver, round, 0, |batch| batch.copy_from_slice(blocks));
    }

    /// Takes the batch that was sent `lag` rounds ago. False: there was no such round.
    pub fn receive(&self, receiver: usize, round: usize, blocks: &mut [Block]) -> bool {
        let Some(sent) = round.checked_sub(self.lag) else { return false };
        self.meet(receiver, sent, 1, |batch| blocks.copy_from_slice(batch));
        true
    }

    fn meet(&self, receiver: usize, round: usize, half: usize, copy: impl FnOnce(&mut [Block])) {
        let ring = 2 * self.lag;
        let (lock, changed) = &self.cells[receiver * ring + round % ring];
        let turn = round / ring * 2 + half;
        let batch = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_while(batch, |batch| batch.turns != turn);
        let mut batch = waited.unwrap_or_else(PoisonError::into_inner);
        copy(&mut batch.blocks);
        batch.turns += 1;
        drop(batch);
        changed.notify_all();
    }

    /// What was on its way when the last round was over.
    pub fn left(self) -> impl Iterator<Item = Block> {
        let batches =
            self.cells.into_iter().map(|cell| cell.0.into_inner().unwrap_or_else(PoisonError::into_inner));
        batches.filter(|batch| batch.turns % 2 == 1).flat_map(|batch| batch.blocks)
    }
}
