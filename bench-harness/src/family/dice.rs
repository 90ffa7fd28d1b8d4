//! The numbers that a program is drawn from and runs on: the same for the same seed on every machine and with
//! every version of every library, for a seed that was recorded is to mean the same program in ten years.

/// See the module. SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed and what the numbers are for.
    pub fn new(seed: u64, purpose: u64) -> Dice {
        let mut dice = Dice(seed ^ purpose.wrapping_mul(0xd134_2543_de82_ef95));
        // Neighbouring seeds begin far apart.
        Dice(dice.next())
    }

    #[inline(always)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, by a multiplication in place of a division. 0 of nothing.
    #[inline(always)]
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// Least to greatest, each as likely.
    pub fn between(&mut self, least: usize, greatest: usize) -> usize {
        least + self.below(greatest - least + 1)
    }

    /// Least to greatest, each doubling as likely: no floats, whose functions differ between machines.
    pub fn scaled(&mut self, least: usize, greatest: usize) -> usize {
        let doublings = (greatest / least.max(1)).max(1).ilog2() as usize;
        let floor = least.max(1) << self.below(doublings + 1);
        self.between(floor.min(greatest), (2 * floor).min(greatest))
    }

    /// True in `share` of 1024 cases.
    #[inline(always)]
    pub fn share(&mut self, share: u32) -> bool {
        self.next() >> 54 < u64::from(share)
    }

    /// One of those.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was recorded is to be found again: these are not to change.
    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut dice = Dice::new(1000, 7);
        let seen = [dice.below(1000), dice.between(5, 9), dice.scaled(16, 4096), dice.below(0)];
        assert_eq!(seen, [469, 9, 45, 0]);
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut dice = Dice::new(1, 1);
        for _ in 0..10_000 {
            assert!((3..=5).contains(&dice.between(3, 5)));
            assert!((100..=90_000).contains(&dice.scaled(100, 90_000)));
            assert_eq!(dice.scaled(64, 64), 64);
        }
        let hits = (0..10_240).filter(|_| dice.share(256)).count();
        assert!((2200..2920).contains(&hits), "{hits}");
    }
}
