//! What each stack stands for: blocks and bytes, live, deferred and allocated; and how that has changed.

use std::collections::BTreeMap;

use super::Kind;
use super::dump::Dump;
use super::symbols::{Place, Symbols};

/// Blocks and bytes, as far as samples tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    pub blocks: f64,
    pub bytes: f64,
}

/// Of one stack.
#[derive(Clone, Debug, Default)]
pub struct Site {
    pub live: Amount,
    pub deferred: Amount,
    pub allocated: Amount,
    /// Samples that are live, and the ages of the youngest and the oldest of them, milliseconds.
    pub samples: u64,
    pub ages_ms: Option<(u64, u64)>,
}

/// See the module. Stacks are known by the places in files, so two runs of a program can be compared.
#[derive(Debug, Default)]
pub struct Tally {
    pub sites: BTreeMap<Vec<Place>, Site>,
}

impl Amount {
    fn add(&mut self, blocks: f64, bytes: f64) {
        self.blocks += blocks;
        self.bytes += bytes;
    }
}

impl Site {
    /// That part of it.
    pub fn of(&self, kind: Kind) -> Amount {
        match kind {
            Kind::Live => self.live,
            Kind::Deferred => self.deferred,
            Kind::Allocated => self.allocated,
        }
    }
}

impl Tally {
    /// Of a dump.
    pub fn of(dump: &Dump, symbols: &mut Symbols) -> Tally {
        let mut known = BTreeMap::new();
        let mut places = |addr: u64| -> Place {
            known.entry(addr).or_insert_with(|| symbols.of_return(&dump.maps, addr)).clone()
        };
        let mut keys = BTreeMap::new();
        let mut tally = Tally::default();
        for (number, stack) in &dump.stacks {
            let key: Vec<Place> = stack.places.iter().map(|&addr| places(addr)).collect();
            let site = tally.sites.entry(key.clone()).or_default();
            site.allocated.add(stack.blocks as f64, stack.bytes as f64);
            keys.insert(number, key);
        }
        for block in &dump.blocks {
            // Without a stack that found room it is from nowhere.
            let key = keys.get(&block.stack).cloned().unwrap_or_default();
            let site = tally.sites.entry(key).or_default();
            let weight = dump.weight(block.held);
            let amount = if block.is_deferred { &mut site.deferred } else { &mut site.live };
            amount.add(weight, weight * block.size as f64);
            if !block.is_deferred {
                site.samples += 1;
                let (youngest, oldest) = site.ages_ms.unwrap_or((block.age_ms, block.age_ms));
                site.ages_ms = Some((youngest.min(block.age_ms), oldest.max(block.age_ms)));
            }
        }
        tally
    }

    /// What has changed since `base`.
    pub fn subtract(&mut self, base: &Tally) {
        for (key, old) in &base.sites {
            let site = self.sites.entry(key.clone()).or_default();
            for (amount, old) in [
                (&mut site.live, old.live),
                (&mut site.deferred, old.deferred),
                (&mut site.allocated, old.allocated),
            ] {
                amount.add(-old.blocks, -old.bytes);
            }
        }
    }

    /// The sites with the most bytes of a kind, the largest first, or those that have changed most.
    pub fn sorted(&self, kind: Kind) -> Vec<(&Vec<Place>, &Site)> {
        let mut sites: Vec<_> = self.sites.iter().filter(|(_, site)| site.of(kind).bytes != 0.0).collect();
        sites.sort_by(|a, b| b.1.of(kind).bytes.abs().total_cmp(&a.1.of(kind).bytes.abs()));
        sites
    }

    /// All of a kind together.
    pub fn sum(&self, kind: Kind) -> Amount {
        let mut sum = Amount::default();
        for site in self.sites.values() {
            sum.add(site.of(kind).blocks, site.of(kind).bytes);
        }
        sum
    }
}
