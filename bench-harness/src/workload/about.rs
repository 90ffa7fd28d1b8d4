//! What is documented of a workload.

use super::worker::Touch;

/// What is documented of a workload, and what it does unless told otherwise.
pub struct About {
    pub name: &'static str,
    /// The field's name for it.
    pub known_as: &'static str,
    /// Lifetimes and threads, in a sentence.
    pub pattern: &'static str,
    pub threads: usize,
    /// Least and greatest size, bytes.
    pub sizes: (usize, usize),
    pub touch: Touch,
}
