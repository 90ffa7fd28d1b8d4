//! Whether the map is right under a scheme, and the scheme under the map: `smr --check`.
//!
//! Threads insert, remove and look up few keys, so that everybody meets everybody. At the end the keys that
//! are there must be those that were put in and not taken out, by number and by sum. When a node is disposed
//! of, its canary is overwritten and its memory kept (in this run alone), so that a reader that was let down
//! finds the overwritten canary and nothing worse. After draining, every node that was taken out has been
//! disposed of, once.
//!
//! Ours disposes of nothing one by one: there the nodes are freed, the canary is overwritten by whoever gets
//! the block next, and what counts in the end is that the heap has nothing deferred and nothing more live
//! than before.

use super::list::{DISPOSED, FreeNode, Table};
use super::run::Dice;
use crate::reclaim::ours::Api;
use crate::reclaim::{Local, Scheme};
use serde::{Deserialize, Serialize};
use std::sync::Barrier;
use std::sync::atomic::Ordering::Relaxed;

const THREADS: u64 = 4;
const KEYS: u64 = 64;
const LISTS: usize = 4;
const OPERATIONS: u64 = 20_000;
/// What the heap may hold deferred or more live than before when everything has been given back: what lies in
/// magazines that threads and the C library fill for themselves.
const SLACK: u64 = 256 << 10;

/// What a check found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// Keys put in, taken out, and left: number and sum.
    pub inserted: (u64, u64),
    /// See `inserted`.
    pub removed: (u64, u64),
    /// See `inserted`.
    pub left: (u64, u64),
    /// Canaries found overwritten.
    pub violations: u64,
    /// Nodes disposed of; None where the scheme cannot say (ours) or never does (leak).
    pub disposed: Option<u64>,
    /// Bytes deferred, and more live than before, when all was over (ours).
    pub held: Option<(u64, u64)>,
}

impl Checked {
    /// What is wrong, or nothing.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let rest = (self.inserted.0 - self.removed.0, self.inserted.1 - self.removed.1);
        if self.left != rest {
            faults.push(format!(
                "{} keys of sum {} are left, not {} of {}",
                self.left.0, self.left.1, rest.0, rest.1
            ));
        }
        if self.violations > 0 {
            faults.push(format!("{} reads of nodes that were disposed of", self.violations));
        }
        if let Some(disposed) = self.disposed.filter(|&disposed| disposed != self.removed.0) {
            faults.push(format!("{disposed} nodes disposed of, not {}", self.removed.0));
        }
        if let Some((deferred, live)) = self.held.filter(|&(deferred, live)| deferred > SLACK || live > SLACK)
        {
            faults.push(format!("{deferred} bytes deferred and {live} more live than before"));
        }
        faults
    }
}

/// Checks scheme `S`.
///
/// # Errors
/// It cannot run here.
pub fn run<S: Scheme>(seed: u64) -> Result<Checked, String> {
    let scheme = S::start()?;
    let api = if S::NAME == "ours" { Some(Api::find()?) } else { None };
    let live = api.map(|api| api.stats().live_bytes);
    let table: Table<true> = Table::new(LISTS, S::HEADER);
    let start = Barrier::new(THREADS as usize);
    let sums: Vec<[u64; 4]> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|number| {
                let (scheme, table, start) = (&scheme, &table, &start);
                scope.spawn(move || {
                    let mut local = scheme.join();
                    start.wait();
                    operate(table, &mut local, Dice::new(seed, number))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let sum = |index: usize| sums.iter().map(|sum| sum[index]).sum::<u64>();
    let left = table.sum();
    let violations = table.violations.load(Relaxed);
    drop(table);
    scheme.drain();
    let disposed = DISPOSED.load(Relaxed);
    Ok(Checked {
        inserted: (sum(0), sum(1)),
        removed: (sum(2), sum(3)),
        left,
        violations,
        disposed: (!matches!(S::NAME, "ours" | "leak")).then_some(disposed),
        held: api.zip(live).map(|(api, live)| {
            let stats = api.stats();
            (stats.deferred_bytes, stats.live_bytes.saturating_sub(live))
        }),
    })
}

/// Number and sum of the keys put in, then of those taken out.
fn operate<L: Local>(table: &Table<true>, local: &mut L, mut dice: Dice) -> [u64; 4] {
    let mut sums = [0; 4];
    for _ in 0..OPERATIONS {
        let roll = dice.next();
        let key = (roll >> 32) % KEYS;
        match roll & 3 {
            0 if table.insert(local, key, key) => {
                sums[0] += 1;
                sums[1] += key;
            }
            1 if table.remove(local, key) => {
                sums[2] += 1;
                sums[3] += key;
            }
            0 | 1 => {}
            _ => {
                let value = table.get(local, key);
                assert!(value.is_none_or(|value| value == key), "a value that nobody put there");
            }
        }
    }
    sums
}

// The nodes of a checked table are poisoned by this, not freed.
const _: () = assert!(<FreeNode<true> as crate::reclaim::Dispose>::HEAD == 32);
