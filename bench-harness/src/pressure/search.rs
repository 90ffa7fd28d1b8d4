//! The smallest limit in which a piece of work gets done, by bisection.

use std::time::Duration;

use serde_json::Value;

use super::group::{Group, Kind};
use crate::measure::child::{Child, End};
use crate::outcome::Refusal;
use crate::peers::Allocator;

/// What is searched for, and how finely.
pub struct Search<'a> {
    pub groups: Kind,
    /// The measured side: `inner KIND JOB`.
    pub measured: &'a str,
    pub job: &'a Value,
    /// A limit is enough when so many tries in it succeed.
    pub tries: u32,
    /// Least and greatest limit tried, bytes.
    pub least: u64,
    pub most: u64,
    /// How close the search comes.
    pub step: u64,
    /// Seconds after which a try in a group has failed: thrashing is no success.
    pub patience: u64,
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The smallest limit, if any is enough.
    pub limit: Option<u64>,
    /// Without a limit.
    pub seconds: f64,
    pub peak_kib: u64,
}

impl Search<'_> {
    pub fn smallest(&self, allocator: &Allocator) -> Result<Found, Refusal> {
        let free = Child::inner(self.measured, self.job)?.under(allocator).run_well()?;
        let found = |limit| Found { limit, seconds: free.wall_seconds, peak_kib: free.peak_kib };
        let (mut too_small, mut known) = (self.least, None);
        // Upwards from what it needed at its peak: most of the range is never tried.
        let peak = (free.peak_kib * 1024).next_multiple_of(self.step);
        let mut guess = peak.clamp(self.least + self.step, self.most);
        while known.is_none() {
            if self.is_enough(allocator, guess)? {
                known = Some(guess);
            } else if guess >= self.most {
                return Ok(found(None));
            } else {
                (too_small, guess) = (guess, (guess * 2).min(self.most));
            }
        }
        let mut enough_at = known.unwrap_or(self.most);
        while enough_at - too_small > self.step {
            let middle = (too_small + (enough_at - too_small) / 2).next_multiple_of(self.step);
            if middle == enough_at {
                break;
            }
            if self.is_enough(allocator, middle)? { enough_at = middle } else { too_small = middle }
        }
        Ok(found(Some(enough_at)))
    }

    fn is_enough(&self, allocator: &Allocator, limit: u64) -> Result<bool, Refusal> {
        for _ in 0..self.tries {
            let group = Group::new(self.groups, limit)?;
            let child = group.inner(self.measured, self.job, allocator)?;
            if child.timeout(Duration::from_secs(self.patience)).run()?.end != End::Status(0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
