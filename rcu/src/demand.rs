//! How urgently a caller needs a grace period: no backlog, no hurry.
//!
//! The engine does not know what a batch weighs; the caller keeps the account and the marks, as the
//! kernel's callback lists do (`qhimark` and its relatives), and hands the verdict to
//! [`Domain::advance`](crate::Domain::advance).

/// What [`Domain::advance`](crate::Domain::advance) should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// Nothing: periods end when readers come by.
    None,
    /// Have a period in flight.
    Start,
    /// Have a period in flight and end it now, if only implicit readers hold it up: they are parked. Costs no
    /// barrier.
    Park,
    /// Have a period in flight and end it now.
    Expedite,
}

/// Where each [`Demand`] begins.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// Bytes waiting from which on a period should be in flight.
    pub start_bytes: u64,
    /// Bytes waiting from which on it should be ended now.
    pub expedite_bytes: u64,
    /// Age in ns of the oldest waiting batch from which on it should be ended now.
    pub expedite_age_ns: u64,
}

impl Marks {
    /// The demand of a backlog of so many bytes whose oldest batch has this age.
    #[must_use]
    pub const fn judge(&self, backlog_bytes: u64, oldest_age_ns: u64) -> Demand {
        if backlog_bytes == 0 {
            Demand::None
        } else if backlog_bytes >= self.expedite_bytes || oldest_age_ns >= self.expedite_age_ns {
            Demand::Expedite
        } else if backlog_bytes >= self.start_bytes {
            Demand::Start
        } else {
            Demand::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { start_bytes: 100, expedite_bytes: 1000, expedite_age_ns: 5_000_000 };

    #[test]
    fn an_empty_backlog_is_never_urgent() {
        assert_eq!(MARKS.judge(0, u64::MAX), Demand::None);
    }

    #[test]
    fn a_small_young_backlog_waits() {
        assert_eq!(MARKS.judge(99, 0), Demand::None);
    }

    #[test]
    fn the_marks_are_inclusive() {
        assert_eq!(MARKS.judge(100, 0), Demand::Start);
        assert_eq!(MARKS.judge(999, 4_999_999), Demand::Start);
        assert_eq!(MARKS.judge(1000, 0), Demand::Expedite);
    }

    #[test]
    fn age_alone_expedites() {
        assert_eq!(MARKS.judge(1, 5_000_000), Demand::Expedite);
    }
}
