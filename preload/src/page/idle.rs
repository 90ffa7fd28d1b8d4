//! How much of a stock has lain unused for a whole period.
//!
//! A stock that people take from and give to has a level. What lay below its *lowest* level all
//! through the last period was of no use to anybody: that much can go. The period is cut into
//! [`IDLE_TICKS`] ticks, each of which remembers its lowest level; the least of them is the
//! period's. So a stock that breathes keeps what it breathes with, and one that is not used any more
//! is known as a whole one period later.
//!
//! Belongs to whatever protects the stock.

use crate::constants::{IDLE_SHARE, IDLE_TICKS};

/// The memory of one stock's levels. All zero: nothing was ever idle.
pub struct Idle {
    /// Lowest level in this tick so far.
    lowest: usize,
    /// Lowest levels of the last ticks.
    past: [usize; IDLE_TICKS],
    at: usize,
}

impl Idle {
    /// Nothing is known.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Idle {
        Idle { lowest: 0, past: [0; IDLE_TICKS], at: 0 }
    }

    /// Somebody took from the stock; `level` is left.
    #[inline(always)]
    pub fn fell_to(&mut self, level: usize) {
        self.lowest = self.lowest.min(level);
    }

    /// `amount` left the stock for good because it was not used: not a use.
    pub fn gave(&mut self, amount: usize) {
        self.lowest = self.lowest.saturating_sub(amount);
        for past in &mut self.past {
            *past = past.saturating_sub(amount);
        }
    }

    /// A tick has passed and the level is `level` now. Returns what was idle for the whole period.
    pub fn tick(&mut self, level: usize) -> usize {
        self.past[self.at] = self.lowest;
        self.at = (self.at + 1) % IDLE_TICKS;
        self.lowest = level;
        self.past.iter().copied().min().unwrap_or(0).min(level)
    }
}

/// What goes in one tick of an `idle` amount: a share of it, so that it goes smoothly, at least
/// `least` of it, so that it comes to an end.
pub fn share(idle: usize, least: usize) -> usize {
    (idle / IDLE_SHARE).max(least).min(idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_what_a_whole_period_did_not_touch() {
        let mut stock = Idle::new();
        for _ in 0..IDLE_TICKS {
            assert_eq!(stock.tick(100), 0, "not a whole period yet");
        }
        assert_eq!(stock.tick(100), 100);
        stock.fell_to(30);
        stock.fell_to(70);
        for _ in 0..IDLE_TICKS {
            assert_eq!(stock.tick(100), 30, "one dip counts for a period");
        }
        assert_eq!(stock.tick(100), 100);
        stock.gave(40);
        assert_eq!(stock.tick(60), 60, "what was given is no dip");
        assert_eq!(stock.tick(20), 20, "never more than there is");
    }

    #[test]
    fn a_stock_fades() {
        let (mut stock, mut level, mut ticks) = (Idle::new(), 10_000, 0);
        while level > 0 {
            let share = share(stock.tick(level), 16);
            assert!(share <= level.div_ceil(IDLE_SHARE).max(16), "smoothly");
            stock.gave(share);
            level -= share;
            ticks += 1;
        }
        assert!(ticks > IDLE_TICKS && ticks < 6 * IDLE_TICKS, "{ticks}");
    }
}
