//! The families by name. Each is a corner of what programs do; within it everything is drawn.

use super::dice::Dice;
use super::draw::{self, Draft};
use super::program::{Calls, Lifetime, Order, Program};
use super::sizes::Small;
use crate::outcome::Refusal;
use crate::workload::Touch;

/// A family of programs.
pub struct Family {
    pub name: &'static str,
    pub about: &'static str,
    draft: fn(&mut Dice) -> Draft,
}

pub static ALL: &[Family] = &[
    Family { name: "mixed", about: "everything at random", draft: mixed },
    Family { name: "sizes", about: "many sizes to 32 KiB, replaced at random", draft: sizes },
    Family {
        name: "lifetimes",
        about: "stacks, queues, generations, bursts; small blocks",
        draft: lifetimes,
    },
    Family { name: "bursts", about: "a structure is built and freed at once (sh6bench)", draft: bursts },
    Family {
        name: "servers",
        about: "threads end and hand their blocks to new ones (larson)",
        draft: servers,
    },
    Family {
        name: "owners",
        about: "batches of blocks change owner (mstress, rptest, sh8bench)",
        draft: owners,
    },
    Family { name: "pipelines", about: "producers and consumers (xmalloc-test)", draft: pipelines },
    Family { name: "churn", about: "threads end and free what they have", draft: churn },
    Family { name: "idle", about: "8 to 200 threads sleep, a few work", draft: idle },
    Family { name: "crowd", about: "8 to 32 threads, most with little to do", draft: crowd },
    Family { name: "shift", about: "sizes shift, some blocks stay", draft: shift },
    Family {
        name: "phases",
        about: "several threads, 4 to 48 MiB, all written; sizes change, blocks change owner",
        draft: phases,
    },
    Family { name: "large", about: "large blocks in between, pages written", draft: large },
    Family { name: "single", about: "one thread, everything else at random", draft: single },
    Family {
        name: "interpreters",
        about: "one thread, shapes of espresso, cfrac, gawk, perl, a PostScript interpreter, a compiler",
        draft: interpreters,
    },
];

/// The family of that name.
pub fn find(name: &str) -> Result<&'static Family, Refusal> {
    ALL.iter().find(|family| family.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|family| family.name).collect();
        Refusal(format!("no family '{name}'; there are all, {}", known.join(", ")))
    })
}

impl Family {
    /// The program of this seed.
    pub fn program(&self, seed: u64, seconds: f64) -> Program {
        // The same seed is another program in each family.
        let purpose = self.name.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
        let mut dice = Dice::new(seed, purpose);
        (self.draft)(&mut dice).program(seed, seconds, &mut dice)
    }
}

fn mixed(dice: &mut Dice) -> Draft {
    let mut draft = Draft::any(dice);
    draft.survivors = dice.share(300);
    match dice.below(8) {
        0 | 1 if draft.threads > 1 => draft.exchange = draw::owners,
        2 if draft.threads > 1 => draft.exchange = draw::pipeline,
        3 | 4 => (draft.generations, draft.hands_on) = (dice.scaled(2, 64), dice.share(700)),
        5 => draft.sleepers = dice.scaled(4, 64),
        _ => {}
    }
    draft
}

fn sizes(dice: &mut Dice) -> Draft {
    let threads = dice.of(&[1, 2, 2, 4, 8]);
    Draft { threads, small: draw::many, lifetime: draw::random, large: 100, ..Draft::any(dice) }
}

fn lifetimes(dice: &mut Dice) -> Draft {
    let small = |dice: &mut Dice| {
        if dice.share(512) { draw::few(dice) } else { Small::Uniform(8, dice.scaled(32, 512)) }
    };
    Draft { threads: dice.of(&[1, 2, 2, 4]), small, large: 0, habits: 1, ..Draft::any(dice) }
}

fn bursts(dice: &mut Dice) -> Draft {
    Draft { threads: dice.of(&[1, 2, 2, 4, 8]), lifetime: draw::bursts, large: 50, ..Draft::any(dice) }
}

fn servers(dice: &mut Dice) -> Draft {
    let threads = dice.of(&[2, 2, 4, 4, 8, 16]);
    let (generations, hands_on) = (dice.scaled(4, 200), dice.share(870));
    let lifetime =
        |dice: &mut Dice| if dice.share(700) { Lifetime::Random } else { draw::any_lifetime(dice) };
    let live = threads * dice.scaled(128 << 10, 4 << 20);
    Draft {
        threads,
        generations,
        hands_on,
        lifetime,
        live,
        small: draw::moderate,
        large: 100,
        ..Draft::any(dice)
    }
}

fn owners(dice: &mut Dice) -> Draft {
    let threads = dice.of(&[2, 2, 3, 4, 8, 16]);
    let generations = if dice.share(200) { dice.scaled(2, 32) } else { 1 };
    Draft { threads, generations, hands_on: true, exchange: draw::owners, ..Draft::any(dice) }
}

fn pipelines(dice: &mut Dice) -> Draft {
    let threads = dice.of(&[2, 2, 4, 8]);
    Draft { threads, exchange: draw::pipeline, live: dice.scaled(64 << 10, 2 << 20), ..Draft::any(dice) }
}

fn churn(dice: &mut Dice) -> Draft {
    let threads = dice.of(&[1, 2, 4, 8]);
    let live = threads * dice.scaled(4 << 10, 1 << 20);
    Draft { threads, live, generations: dice.scaled(16, 1024), habits: 1, large: 50, ..Draft::any(dice) }
}

fn idle(dice: &mut Dice) -> Draft {
    let threads = dice.of(&[1, 1, 2, 2, 4]);
    Draft { threads, sleepers: dice.scaled(8, 200), large: 100, ..Draft::any(dice) }
}

fn crowd(dice: &mut Dice) -> Draft {
    Draft { threads: dice.between(8, 32), alike: false, unequal: true, ..Draft::any(dice) }
}

fn shift(dice: &mut Dice) -> Draft {
    let small = |dice: &mut Dice| {
        let least = dice.scaled(16, 16 << 10);
        if dice.share(512) { Small::Few(vec![least]) } else { Small::Uniform(least, 2 * least) }
    };
    let habits = dice.between(4, 10);
    Draft { threads: dice.of(&[1, 1, 2, 4]), habits, small, survivors: true, ..Draft::any(dice) }
}

fn phases(dice: &mut Dice) -> Draft {
    let small = |dice: &mut Dice| {
        let least = dice.scaled(32, 64 << 10);
        if dice.share(700) { Small::Uniform(least - least / 4, least) } else { draw::many(dice) }
    };
    let lifetime = |dice: &mut Dice| if dice.share(512) { Lifetime::Random } else { draw::bursts(dice) };
    let exchange = |dice: &mut Dice| if dice.share(512) { draw::owners(dice) } else { draw::none(dice) };
    Draft {
        threads: dice.of(&[1, 2, 4, 4, 8, 8, 16]),
        live: dice.scaled(4 << 20, 48 << 20),
        habits: dice.between(3, 10),
        small,
        lifetime,
        exchange,
        survivors: dice.share(300),
        touch: Touch::All,
        visits: 0,
        ..Draft::any(dice)
    }
}

fn large(dice: &mut Dice) -> Draft {
    let touch = dice.of(&[Touch::Pages, Touch::Pages, Touch::All]);
    let live = dice.scaled(4 << 20, 64 << 20);
    Draft { threads: dice.of(&[1, 2, 4]), large: 1024, live, touch, ..Draft::any(dice) }
}

fn single(dice: &mut Dice) -> Draft {
    Draft { threads: 1, survivors: dice.share(300), ..Draft::any(dice) }
}

/// Shapes of programs that papers measure allocators with: what is known of their sizes and lifetimes, at
/// random within it.
fn interpreters(dice: &mut Dice) -> Draft {
    let one = Draft {
        threads: 1,
        habits: 1,
        large: 0,
        touch: Touch::All,
        visits: dice.below(4),
        ..Draft::any(dice)
    };
    let calls = |calloc, realloc| Calls { calloc, aligned: 0, realloc };
    match dice.below(6) {
        // A logic minimiser: covers of cubes are built, combined and dropped; sets are made longer.
        0 => Draft {
            live: dice.scaled(128 << 10, 2 << 20),
            small: |dice| Small::Falling(8, dice.scaled(1024, 4096)),
            lifetime: |dice| {
                if dice.share(512) { draw::bursts(dice) } else { Lifetime::Generations { survive: 64 } }
            },
            calls: calls(0, dice.of(&[20, 80])),
            ..one
        },
        // Factoring: multiple-precision numbers that live for a moment.
        1 => Draft {
            live: dice.scaled(4 << 10, 256 << 10),
            small: |dice| Small::Uniform(dice.of(&[8, 16]), dice.scaled(32, 64)),
            lifetime: |dice| {
                dice.of(&[Lifetime::Stack, Lifetime::Queue, Lifetime::Generations { survive: 4 }])
            },
            calls: calls(0, 0),
            ..one
        },
        // Text processing: strings for the length of a record, few that stay, a table that grows.
        2 => Draft {
            live: dice.scaled(256 << 10, 8 << 20),
            small: |dice| {
                if dice.share(512) {
                    draw::as_in(&["gawk"], dice)
                } else {
                    Small::Scaled(8, dice.scaled(64, 512))
                }
            },
            lifetime: |dice| Lifetime::Generations { survive: dice.of(&[4, 16, 64]) },
            calls: calls(20, dice.of(&[50, 120])),
            large: 300,
            ..one
        },
        // A table of strings whose entries come and go.
        3 => Draft {
            live: dice.scaled(1 << 20, 16 << 20),
            small: |dice| {
                if dice.share(700) {
                    draw::as_in(&["perl", "php", "git"], dice)
                } else {
                    Small::Falling(16, 4096)
                }
            },
            lifetime: draw::random,
            calls: calls(50, 80),
            ..one
        },
        // Pages are interpreted: few sizes and chunks of up to 64 KiB, as a stack with what a save keeps.
        4 => Draft {
            live: dice.scaled(2 << 20, 24 << 20),
            habits: 3,
            small: |dice| if dice.share(300) { Small::Uniform(8 << 10, 60 << 10) } else { draw::few(dice) },
            lifetime: |dice| if dice.share(600) { Lifetime::Stack } else { draw::bursts(dice) },
            large: 500,
            survivors: true,
            ..one
        },
        // A function after the other is parsed, worked on, and dropped as a whole; some of each stays.
        _ => Draft {
            live: dice.scaled(2 << 20, 32 << 20),
            habits: dice.between(2, 6),
            small: |dice| {
                if dice.share(512) {
                    draw::as_in(&["cc1"], dice)
                } else {
                    Small::Falling(16, dice.scaled(512, 8192))
                }
            },
            lifetime: |dice| Lifetime::Bursts { order: Order::Forward, short: dice.of(&[100, 400]) },
            calls: calls(100, 30),
            large: 300,
            survivors: true,
            ..one
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_program_and_fits_its_length() {
        for family in ALL {
            for seed in 1..200 {
                let program = family.program(seed, 0.2);
                assert_eq!(program.line(), family.program(seed, 0.2).line());
                assert!((1..=32).contains(&program.threads()), "{}", program.line());
                assert!(program.rounds >= program.generations, "{}", program.line());
                for habit in program.workers.iter().flat_map(|worker| &worker.habits) {
                    assert!(
                        habit.slots >= 8 && habit.steps >= 1,
                        "{} {seed}: {}",
                        family.name,
                        program.line()
                    );
                }
                assert!(!program.line().contains('\n'));
            }
        }
        let lines: std::collections::HashSet<_> =
            (1..100).map(|seed| ALL[0].program(seed, 0.2).line()).collect();
        assert_eq!(lines.len(), 99, "seeds differ");
    }
}
