//! Sizes of blocks: a distribution, and the table of 1024 sizes that a program draws from. A draw is then one
//! look into a table for every distribution, so that programs differ in what they ask for and not in what
//! asking costs.

use super::dice::Dice;
use super::recorded::Recorded;

/// A distribution of sizes, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub small: Small,
    /// One block in so many is large instead, up to so many bytes, from 64 KiB.
    pub large: Option<(usize, usize)>,
}

/// Where most sizes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Small {
    /// Some sizes, the first the most frequent.
    Few(Vec<usize>),
    /// Each size between as likely.
    Uniform(usize, usize),
    /// Each doubling as likely.
    Scaled(usize, usize),
    /// Each doubling half as likely as the one below.
    Falling(usize, usize),
    /// What a program asked for.
    Recorded(&'static Recorded),
}

/// Least size of a large block.
pub const LARGE: usize = 64 << 10;
/// Sizes in a table.
pub const TABLE: usize = 1024;

/// What a thread draws sizes from.
#[derive(Clone, Debug)]
pub struct Table {
    small: Box<[u32; TABLE]>,
    /// One in 2^this is large; 0: none.
    large_bits: u32,
    most: usize,
}

impl Sizes {
    /// The table of this distribution: the same for the same dice.
    pub fn table(&self, dice: &mut Dice) -> Table {
        let mut small = Box::new([0_u32; TABLE]);
        for size in small.iter_mut() {
            *size = self.small.draw(dice) as u32;
        }
        let (one_in, most) = self.large.unwrap_or((1, LARGE));
        Table { small, large_bits: one_in.ilog2(), most }
    }

    /// Bytes of a block, about, in the mean.
    pub fn mean(&self) -> usize {
        let mut dice = Dice::new(1, 1);
        let small = (0..TABLE).map(|_| self.small.draw(&mut dice)).sum::<usize>() / TABLE;
        small + self.large_share()
    }

    /// What large blocks add to the mean.
    pub fn large_share(&self) -> usize {
        self.large.map_or(0, |(one_in, most)| (LARGE + most) / 3 / one_in)
    }

    pub fn line(&self) -> String {
        let small = match &self.small {
            Small::Few(sizes) if sizes.len() <= 4 => {
                sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
            }
            Small::Few(sizes) => {
                format!("{} sizes to {}", sizes.len(), sizes.iter().max().copied().unwrap_or(0))
            }
            Small::Uniform(least, most) => format!("even {least}-{most}"),
            Small::Scaled(least, most) => format!("log {least}-{most}"),
            Small::Falling(least, most) => format!("falling {least}-{most}"),
            Small::Recorded(recorded) => format!("as {}", recorded.program),
        };
        match self.large {
            None => format!("{small} B"),
            Some((one_in, most)) => format!("{small} B, 1/{one_in} to {} KiB", most >> 10),
        }
    }
}

impl Small {
    fn draw(&self, dice: &mut Dice) -> usize {
        match self {
            Small::Few(sizes) => {
                // Twice drawn, the lower: the first is the most frequent.
                let (one, other) = (dice.below(sizes.len()), dice.below(sizes.len()));
                sizes[one.min(other)]
            }
            Small::Uniform(least, most) => dice.between(*least, *most),
            Small::Scaled(least, most) => dice.scaled(*least, *most),
            Small::Falling(least, most) => {
                let doublings = (dice.next() | 1 << 40).trailing_zeros();
                let floor = (least.max(&1) << doublings.min(30)).min(*most);
                dice.between(floor.min(*most), (2 * floor).min(*most))
            }
            Small::Recorded(recorded) => {
                let mut part = dice.below(64);
                for &(size, parts) in recorded.sizes {
                    match part.checked_sub(parts.into()) {
                        Some(rest) => part = rest,
                        None => return size.into(),
                    }
                }
                unreachable!("a recording has 64 parts")
            }
        }
    }
}

impl Table {
    /// The next size.
    #[inline(always)]
    pub fn draw(&self, dice: &mut Dice) -> usize {
        let drawn = dice.next();
        if self.large_bits > 0 && (drawn >> 10) & ((1 << self.large_bits) - 1) == 0 {
            return dice.scaled(LARGE, self.most);
        }
        self.small[drawn as usize % TABLE] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_keep_to_their_bounds() {
        let all = [
            Small::Few(vec![24, 24, 4096]),
            Small::Uniform(8, 1000),
            Small::Scaled(16, 9000),
            Small::Falling(8, 16_384),
            Small::Recorded(&super::super::recorded::ALL[2]),
        ];
        for small in all {
            let sizes = Sizes { small, large: Some((64, 1 << 20)) };
            let mut dice = Dice::new(3, 3);
            let table = sizes.table(&mut dice);
            let drawn: Vec<usize> = (0..100_000).map(|_| table.draw(&mut dice)).collect();
            let large = drawn.iter().filter(|&&size| size >= LARGE).count();
            assert!((1200..2000).contains(&large), "{sizes:?}: {large}");
            assert!(drawn.iter().all(|size| (8..=1 << 20).contains(size)), "{sizes:?}");
            let mean = drawn.iter().sum::<usize>() / drawn.len();
            assert!((mean / 2..mean * 2).contains(&sizes.mean()), "{sizes:?}: {mean} {}", sizes.mean());
        }
    }
}
