//! Who holds a period up, and since when.
#![cfg(not(loom))]

mod common;

use common::*;
use rcu::{Demand, ReaderCell, Stall, now_ns};

const SECOND: u64 = 1_000_000_000;

in_both_modes! {
    fn nobody_while_no_period_is_in_flight(domain) {
        let reader = reader(domain);
        let _section = reader.read_lock();
        assert_eq!(domain.stalled(now_ns() + SECOND, 0).count(), 0);
    }

    fn the_one_in_a_section_is_named_with_its_depth(domain) {
        let _idle = explicit_reader(domain);
        // SAFETY: a new cell.
        let holder = unsafe { domain.register(leak(ReaderCell::new()), 4242) }.unwrap();
        holder.lock();
        holder.lock();
        domain.advance(Demand::Expedite);
        let stalls: Vec<Stall> = domain.stalled(now_ns() + SECOND, SECOND).collect();
        assert_eq!(stalls.len(), 1, "the idle one was announced for");
        assert_eq!((stalls[0].id, stalls[0].tid, stalls[0].nesting), (1, 4242, 2));
        assert!((SECOND..20 * SECOND).contains(&stalls[0].age_ns));
        holder.unlock();
        holder.unlock();
    }

    fn one_that_has_only_not_announced_shows_no_depth(domain) {
        let _lagging = explicit_reader(domain);
        domain.advance(Demand::Start);
        assert_eq!(domain.stalled(now_ns(), 0).map(|stall| stall.nesting).collect::<Vec<_>>(), [0]);
    }

    fn nobody_before_the_limit(domain) {
        let _lagging = reader(domain);
        domain.advance(Demand::Start);
        assert_eq!(domain.stalled(now_ns(), 3600 * SECOND).count(), 0);
        assert_eq!(domain.stalled(now_ns() + 3601 * SECOND, 3600 * SECOND).count(), 1);
    }

    fn nobody_who_is_offline_parked_announced_or_gone(domain) {
        let (parked, away, here) = (reader(domain), reader(domain), explicit_reader(domain));
        let gone = reader(domain);
        let holder = reader(domain);
        let _section = holder.read_lock();
        domain.advance(Demand::Start);
        away.offline();
        gone.exit();
        domain.advance(Demand::Expedite);
        assert!(parked.is_parked());
        here.quiescent_state();
        assert_eq!(domain.stalled(now_ns(), 0).map(|stall| stall.id).collect::<Vec<_>>(), [4]);
    }
}
