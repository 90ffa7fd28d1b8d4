//! Who holds the period in flight up.
//!
//! Reading this takes no lock and stops nobody, so it is a picture of a moving thing: a reader it
//! names may have settled by the time the caller prints it.

use crate::readers::Lagging;
use core::num::NonZeroUsize;

/// One reader that a period has been waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The number of the reader's cell, counted from 0 over the domain's blocks.
    pub id: u32,
    /// The thread, as given to [`register`](crate::Domain::register).
    pub tid: u32,
    /// How long the period has been waiting for it, in ns: a lower bound of the section's age if it
    /// is in one.
    pub age_ns: u64,
    /// The depth of its section. 0: it is in none and has only not announced; an expedite ends that.
    pub nesting: u32,
    /// Where its section began, if that is known: what its thread said to
    /// [`note_began_raw`](crate::ReaderCell::note_began_raw). A section that began in the fast mode said
    /// nothing; but whoever is named here begins its next sections, a thousand at the most, in the cold mode.
    pub began: Option<NonZeroUsize>,
}

/// Iterator over the readers that hold the period in flight up; see
/// [`Domain::stalled`](crate::Domain::stalled).
pub struct Stalled<'a> {
    lagging: Option<Lagging<'a>>,
    age_ns: u64,
}

impl<'a> Stalled<'a> {
    pub(crate) fn new(lagging: Option<Lagging<'a>>, age_ns: u64) -> Stalled<'a> {
        Stalled { lagging, age_ns }
    }
}

impl Iterator for Stalled<'_> {
    type Item = Stall;

    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text_solo"))]
    fn next(&mut self) -> Option<Stall> {
        let cell = self.lagging.as_mut()?.next()?;
        let nesting = cell.depth();
        if nesting != 0 {
            cell.watch();
        }
        let began = cell.began();
        Some(Stall { id: cell.id(), tid: cell.tid(), age_ns: self.age_ns, nesting, began })
    }
}
