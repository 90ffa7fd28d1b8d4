//! Dice for samples. Any thread throws them, a signal handler too; two throws are never the same.

use crate::constants::GOLDEN;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The finalizer of splitmix64 over a Weyl sequence.
pub struct Dice(AtomicU64);

impl Dice {
    /// They fall as in every other process.
    #[allow(clippy::new_without_default, reason = "nobody has a use for one")]
    pub const fn new() -> Dice {
        Dice(AtomicU64::new(0))
    }

    /// Any number, each as often as any other.
    pub fn throw(&self) -> u64 {
        // Relaxed: each throw has a number of its own.
        let dice = self.0.fetch_add(GOLDEN, Relaxed).wrapping_add(GOLDEN);
        let dice = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let dice = (dice ^ (dice >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        dice ^ (dice >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of splitmix64 with the seed 0, as its authors give them.
    #[test]
    fn they_are_those_of_splitmix64() {
        let dice = Dice::new();
        let thrown = [0; 3].map(|_| dice.throw());
        assert_eq!(thrown, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }
}
