//! Who takes part in a phase: the seed's choice.
//!
//! The first phases are the same kinds for every seed, so that a short run has seen each of them once; later
//! ones are mixed. Two runs with the same seed choose the same; what the scheduler makes of it differs.

use core::fmt;

use crate::dice::Dice;

/// Kinds of phases that every run goes through first.
pub const KINDS: u64 = 6;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Counts from 0.
    pub number: u64,
    /// Section after section.
    pub tight: usize,
    /// The same behind stores that keep the processor's store buffer full.
    pub loaded: usize,
    /// Announces between sections.
    pub announcing: usize,
    /// Sleeps inside and between, on- and offline, nested.
    pub sleepy: usize,
    /// Interrupted by a handler that reads.
    pub interrupted: usize,
    /// Threads that start, read a little and end.
    pub comers: usize,
    /// Ask for grace periods in every way and replace nothing.
    pub fake_writers: usize,
    /// The writer ends periods as fast as it can, instead of in all ways.
    pub hasty: bool,
    /// Forks, and children that go on reading and writing.
    pub forks: bool,
    /// Sections that last much longer than a grace period.
    pub stalls: bool,
    /// A flood of callbacks.
    pub flood: bool,
}

impl Phase {
    /// The phase of that number. `processors` and threads a processor bound the readers.
    #[must_use]
    pub fn choose(seed: u64, number: u64, processors: usize, oversubscribe: usize) -> Phase {
        let mut dice = Dice::new(seed, number);
        let mut phase = Phase {
            number,
            tight: 0,
            loaded: 0,
            announcing: 0,
            sleepy: 0,
            interrupted: 0,
            comers: 0,
            fake_writers: 0,
            hasty: false,
            forks: false,
            stalls: false,
            flood: false,
        };
        let spare = processors.saturating_sub(1).max(1);
        match number {
            // A duel: nobody but a reader a processor and the writer.
            0 => {
                phase.loaded = spare;
                phase.hasty = true;
            }
            1 => {
                phase.tight = 1;
                phase.announcing = 1;
                phase.sleepy = 1;
                phase.interrupted = 1;
                phase.comers = 1;
                phase.fake_writers = 2;
            }
            2 => phase.fill(&mut dice, processors * oversubscribe),
            3 => {
                phase.announcing = spare;
                phase.flood = true;
            }
            4 => {
                phase.tight = 1;
                phase.sleepy = 1;
                phase.fake_writers = 1;
                phase.stalls = true;
            }
            5 => {
                phase.tight = spare;
                phase.sleepy = 1;
                phase.forks = true;
            }
            _ => {
                let most = if dice.once_in(3) { processors * oversubscribe } else { 2 * processors };
                let readers = 1 + dice.roll(most as u64) as usize;
                phase.fill(&mut dice, readers);
                phase.hasty = dice.once_in(3);
                phase.forks = dice.once_in(3);
                phase.stalls = dice.once_in(4);
                phase.flood = !phase.stalls && dice.once_in(3);
            }
        }
        phase
    }

    fn fill(&mut self, dice: &mut Dice, readers: usize) {
        for _ in 0..readers {
            match dice.roll(6) {
                0 => self.tight += 1,
                1 => self.loaded += 1,
                2 => self.announcing += 1,
                3 => self.sleepy += 1,
                4 => self.interrupted += 1,
                _ => self.comers += 1,
            }
        }
        self.fake_writers = dice.roll(4) as usize;
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "phase {}:", self.number)?;
        let numbers = [
            ("tight", self.tight),
            ("loaded", self.loaded),
            ("announcing", self.announcing),
            ("sleepy", self.sleepy),
            ("interrupted", self.interrupted),
            ("comers", self.comers),
            ("fake writers", self.fake_writers),
        ];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
            write!(f, " {number} {name}")?;
        }
        let flags = [
            ("hasty writer", self.hasty),
            ("forks", self.forks),
            ("stalls", self.stalls),
            ("flood", self.flood),
        ];
        flags.into_iter().filter(|(_, on)| *on).try_for_each(|(name, _)| write!(f, " +{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_chooses_the_same() {
        let all = |seed| (0..50).map(|number| Phase::choose(seed, number, 2, 8)).collect::<Vec<_>>();
        assert_eq!(all(3), all(3));
        assert_ne!(all(3), all(4));
    }

    #[test]
    fn the_first_phases_cover_everything() {
        let first: Vec<_> = (0..KINDS).map(|number| Phase::choose(9, number, 2, 8)).collect();
        assert!(first.iter().any(|phase| phase.forks));
        assert!(first.iter().any(|phase| phase.stalls));
        assert!(first.iter().any(|phase| phase.flood));
        let readers = |phase: &Phase| {
            phase.tight + phase.loaded + phase.announcing + phase.sleepy + phase.interrupted + phase.comers
        };
        assert!(first.iter().any(|phase| readers(phase) >= 16), "8 threads a processor");
        assert!(first.iter().any(|phase| phase.comers > 0 && phase.fake_writers > 0));
    }
}
