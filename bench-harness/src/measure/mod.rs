//! How anything is measured here: children started by a tiny launcher, in alternating rounds.

pub mod child;
pub mod counters;
pub mod distance;
pub mod latency;
pub mod pages;
pub mod rounds;
pub mod sampler;
