//! Every workload by its name, with what is documented of it.

use super::about::About;
use super::worker::{Job, Tally, drive};
use super::*;
use crate::outcome::Refusal;

/// A workload.
pub struct Entry {
    pub about: &'static About,
    pub run: fn(&Job) -> Result<Tally, Refusal>,
}

/// All but `replay`, which needs a trace.
pub static ALL: &[Entry] = &[
    Entry { about: &tight_pair::ABOUT, run: drive::<tight_pair::TightPair> },
    Entry { about: &fifo::ABOUT, run: drive::<fifo::Fifo> },
    Entry { about: &lifo::ABOUT, run: drive::<lifo::Lifo> },
    Entry { about: &random_replace::ABOUT, run: drive::<random_replace::RandomReplace> },
    Entry { about: &producer_consumer::ABOUT, run: drive::<producer_consumer::ProducerConsumer> },
    Entry { about: &shifting_batches::ABOUT, run: drive::<shifting_batches::ShiftingBatches> },
    Entry { about: &realloc_growth::VECTOR, run: drive::<realloc_growth::Vector> },
    Entry { about: &realloc_growth::STRING, run: drive::<realloc_growth::Text> },
    Entry { about: &mixed_server::ABOUT, run: drive::<mixed_server::MixedServer> },
    Entry { about: &fragmentation::ABOUT, run: drive::<fragmentation::Fragmentation> },
    Entry { about: &idle_threads::ABOUT, run: drive::<idle_threads::IdleThreads> },
    Entry { about: &thread_churn::ABOUT, run: drive::<thread_churn::ThreadChurn> },
    Entry { about: &large_blocks::ABOUT, run: drive::<large_blocks::LargeBlocks> },
    Entry { about: &false_sharing::SCRATCH, run: drive::<false_sharing::Scratch> },
    Entry { about: &false_sharing::THRASH, run: drive::<false_sharing::Thrash> },
];

/// The workload of that name.
pub fn find(name: &str) -> Result<&'static Entry, Refusal> {
    let known = || ALL.iter().map(|entry| entry.about.name).collect::<Vec<_>>().join(", ");
    ALL.iter()
        .find(|entry| entry.about.name == name)
        .ok_or_else(|| Refusal(format!("no workload '{name}'; there are all, {}, replay", known())))
}
